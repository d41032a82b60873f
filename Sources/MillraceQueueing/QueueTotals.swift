// QueueTotals: what happened at a queue since it was started.

/// Why a message left a queue without being acknowledged. Raw values of the first four are those of AMQP's `x-death`.
public enum RemovalReason: String, Sendable, CaseIterable {
  /// A consumer discarded it.
  case rejected
  /// Its time was over.
  case expired
  /// The queue was too long.
  case maxlen
  /// It failed too often.
  case deliveryLimit = "delivery_limit"
  /// Somebody emptied the queue.
  case purged
  /// The log did not have it any more.
  case lost
}

/// Counts by reason. Nothing is allocated before the first.
public struct ReasonCounts: Sendable, Equatable {
  private var counts: [UInt64] = []

  /// All 0.
  public init() {}

  private static func index(_ reason: RemovalReason) -> Int {
    switch reason {
    case .rejected: 0
    case .expired: 1
    case .maxlen: 2
    case .deliveryLimit: 3
    case .purged: 4
    case .lost: 5
    }
  }

  /// How many left for `reason`.
  public subscript(_ reason: RemovalReason) -> UInt64 { counts.isEmpty ? 0 : counts[ReasonCounts.index(reason)] }

  /// How many left for any.
  public var sum: UInt64 { counts.reduce(0, +) }

  mutating func add(_ count: UInt64, _ reason: RemovalReason) {
    if counts.isEmpty { counts = Array(repeating: 0, count: RemovalReason.allCases.count) }
    counts[ReasonCounts.index(reason)] += count
  }

  mutating func add(_ other: ReasonCounts) {
    for reason in RemovalReason.allCases where other[reason] > 0 { add(other[reason], reason) }
  }

  var heldBytes: Int { counts.isEmpty ? 0 : counts.capacity * 8 + 32 }
}

/// Counters since the queue was started.
public struct QueueTotals: Sendable, Equatable {
  /// Messages that came into the queue.
  public internal(set) var arrived: UInt64 = 0
  /// Publications that the full queue did not take.
  public internal(set) var refused: UInt64 = 0
  /// Deliveries, redeliveries included.
  public internal(set) var delivered: UInt64 = 0
  /// Deliveries of messages that may have been delivered before.
  public internal(set) var redelivered: UInt64 = 0
  /// Messages that were acknowledged, or delivered to a consumer that does not acknowledge.
  public internal(set) var acknowledged: UInt64 = 0
  /// Deliveries that a consumer gave back or discarded.
  public internal(set) var returned: UInt64 = 0
  /// Messages that left otherwise.
  public internal(set) var removed = ReasonCounts()
  /// Of those, and of the refused: passed on to a dead-letter exchange.
  public internal(set) var deadLettered = ReasonCounts()

  /// Messages that left.
  public var departed: UInt64 { acknowledged + removed.sum }

  mutating func add(_ other: QueueTotals) {
    arrived += other.arrived
    refused += other.refused
    delivered += other.delivered
    redelivered += other.redelivered
    acknowledged += other.acknowledged
    returned += other.returned
    removed.add(other.removed)
    deadLettered.add(other.deadLettered)
  }
}
