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
    QueueLengths(ready: length, readyBytes: lengthBytes, inFlight: inFlightCount, consumers: consumerCount)
  }
}
