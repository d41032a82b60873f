// QueueCounts: what a meter has counted, without what is worked out of it.

/// Counts and sums of times since a queue was started.
public struct QueueCounts: Sendable, Equatable {
  /// Messages that came.
  public internal(set) var arrived: UInt64 = 0
  /// Publications that the full queue did not take.
  public internal(set) var refused: UInt64 = 0
  /// Deliveries.
  public internal(set) var delivered: UInt64 = 0
  /// Of those, deliveries of messages that may have been delivered before.
  public internal(set) var redelivered: UInt64 = 0
  /// Messages that were acknowledged.
  public internal(set) var acknowledged: UInt64 = 0
  /// Messages that left otherwise.
  public internal(set) var removed: UInt64 = 0
  /// Messages that went to a dead-letter exchange.
  public internal(set) var deadLettered: UInt64 = 0
  /// Deliveries whose waiting was measured, and how long they waited in all.
  public internal(set) var waiting: (count: UInt64, nanoseconds: UInt64) = (0, 0)
  /// Deliveries that were settled, and how long that took in all.
  public internal(set) var processing: (count: UInt64, nanoseconds: UInt64) = (0, 0)

  /// Nothing.
  public init() {}

  init(_ totals: QueueTotals, waiting: LatencyHistogram, processing: LatencyHistogram) {
    arrived = totals.arrived
    refused = totals.refused
    delivered = totals.delivered
    redelivered = totals.redelivered
    acknowledged = totals.acknowledged
    removed = totals.removed.sum
    deadLettered = totals.deadLettered.sum
    self.waiting = (waiting.count, waiting.sumNanoseconds)
    self.processing = (processing.count, processing.sumNanoseconds)
  }

  /// Adds another queue's.
  public mutating func add(_ other: QueueCounts) {
    arrived += other.arrived
    refused += other.refused
    delivered += other.delivered
    redelivered += other.redelivered
    acknowledged += other.acknowledged
    removed += other.removed
    deadLettered += other.deadLettered
    waiting = (waiting.count + other.waiting.count, waiting.nanoseconds &+ other.waiting.nanoseconds)
    processing = (processing.count + other.processing.count, processing.nanoseconds &+ other.processing.nanoseconds)
  }

  /// By all numbers.
  public static func == (left: QueueCounts, right: QueueCounts) -> Bool {
    left.arrived == right.arrived && left.refused == right.refused && left.delivered == right.delivered
      && left.redelivered == right.redelivered && left.acknowledged == right.acknowledged
      && left.removed == right.removed && left.deadLettered == right.deadLettered && left.waiting == right.waiting
      && left.processing == right.processing
  }
}
