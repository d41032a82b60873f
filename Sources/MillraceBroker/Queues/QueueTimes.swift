// QueueTimes: how long messages of all queues of a virtual host waited, and how long consumers had them.

import MillraceQueueing

/// Times of the queues of one virtual host, deleted ones included. Its queues share it, on the broker's reactor.
final class QueueTimes {
  // Every delivery goes through it, and nothing that it does comes back to it.

  /// From a message's coming, or coming back, to its delivery.
  @exclusivity(unchecked) var waiting = TimeBuckets()
  /// From a delivery until it was settled.
  @exclusivity(unchecked) var processing = TimeBuckets()
}

/// The same as a value, for whoever shows it.
public struct VirtualHostTimes: Sendable {
  /// From a message's coming, or coming back, to its delivery.
  public var waiting: TimeBuckets
  /// From a delivery until it was settled.
  public var processing: TimeBuckets

  /// Adds another virtual host's.
  public mutating func add(_ other: VirtualHostTimes) {
    waiting.add(other.waiting)
    processing.add(other.processing)
  }
}

extension QueueBroker {
  /// What is counted for queues of a virtual host, from its first queue until it is deleted itself.
  func times(of virtualHost: String) -> QueueTimes {
    if let found = times[virtualHost] { return found }
    let made = QueueTimes()
    times[virtualHost] = made
    return made
  }

  /// Virtual hosts that have had queues since the start, in the order of their names.
  public var timedVirtualHosts: [String] { times.keys.sorted() }

  /// How long messages waited in a virtual host's queues since the start; nil when it has had none.
  public func virtualHostTimes(_ name: String) -> VirtualHostTimes? {
    times[name].map { VirtualHostTimes(waiting: $0.waiting, processing: $0.processing) }
  }
}
