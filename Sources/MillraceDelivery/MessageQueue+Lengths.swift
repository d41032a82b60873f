// MessageQueue+Lengths: how much is in a queue, all at once.

/// Lengths of one queue.
public struct QueueLengths: Sendable {
  /// Messages that are not in flight.
  public var ready: Int
  /// Their bytes.
  public var readyBytes: Int64
  /// Messages in flight.
  public var inFlight: Int
  /// Consumers that are pushed to.
  public var consumers: Int
}

extension MessageQueue {
  /// All lengths. Nothing changes; it is mutating so that the queue is read where it lies: who looks at thousands of queues
  /// through their hosts would otherwise copy each of them, part by part, for every number.
  /// - Complexity: O(lanes).
  public mutating func lengths() -> QueueLengths {
    var lengths = QueueLengths(ready: 0, readyBytes: 0, inFlight: 0, consumers: consumerCount)
    for index in lanes.indices {
      let inFlight = lanes[index].inFlight
      lengths.inFlight += inFlight
      lengths.ready += lanes[index].undone - inFlight
      lengths.readyBytes += lanes[index].undoneBytes - lanes[index].inFlightBytes
    }
    return lengths
  }
}
