// QueueOptions: how a queue behaves; all of it may be changed while it runs.

import MillraceBase

/// What happens to a publication that would make a queue longer than its limits.
public enum Overflow: Sendable, Hashable {
  /// It is taken, and the oldest ready messages go (dead-letter reason `maxlen`).
  case dropHead
  /// It is refused.
  case rejectPublish
  /// It is refused, and the host dead-letters it (reason `maxlen`).
  case rejectPublishDeadLetter
}

/// How long a returned message waits before it is delivered again.
public struct RetryDelay: Sendable, Hashable {
  /// Which returns wait. A consumer's death and a time-out never do.
  public enum Kind: Sendable, Hashable {
    /// None.
    case disabled
    /// Failed and returned ones.
    case all
    /// Those that count as failed.
    case failed
    /// Those that do not count.
    case returned
  }

  /// How the delay grows with the delivery count.
  public enum Growth: Sendable, Hashable {
    /// `minimum` times the count, as in RabbitMQ 4.3.
    case linear
    /// `minimum` doubled with each count.
    case exponential
  }

  /// Which returns wait.
  public var kind = Kind.disabled
  /// The first delay.
  public var minimum = Duration.seconds(1)
  /// The longest delay.
  public var maximum = Duration.seconds(3600)
  /// How it grows.
  public var growth = Growth.linear
  /// Part of the delay, 0 to 1, that chance may take away, so that what failed together is not retried together.
  public var jitter = 0.0

  /// No delay.
  public init() {}

  /// The delay in ms before a message with this delivery count is delivered again.
  func milliseconds(count: Int32, using random: inout SeededRandom) -> Int64 {
    let first = max(minimum.inMilliseconds, 0)
    let times = Int64(max(count, 1))
    let factor = growth == .linear ? times : 1 << min(times - 1, 40)
    let (product, overflow) = first.multipliedReportingOverflow(by: factor)
    let whole = min(overflow ? .max : product, max(maximum.inMilliseconds, 0))
    guard jitter > 0, whole > 0 else { return whole }
    return whole - Int64(Double(whole) * min(jitter, 1) * Double.random(in: 0..<1, using: &random))
  }
}

/// How a queue behaves. The defaults are those of a plain FIFO queue without limits.
public struct QueueOptions: Sendable, Hashable {
  /// Most messages that are not in flight.
  public var maximumLength: Int?
  /// Most bytes of messages that are not in flight.
  public var maximumBytes: Int?
  /// What happens when a limit is reached.
  public var overflow = Overflow.dropHead
  /// Time after which a message is no longer delivered, counted from its timestamp or, if later, its `notBefore`.
  public var messageTTL: Duration?
  /// Time without consumers, takes and ``MessageQueue/touch(now:)`` after which the queue is to be deleted.
  public var expires: Duration?
  /// Highest lane in use; priorities above it count as it. 0 makes one lane.
  public var maximumPriority: UInt8 = 0
  /// Deliver to one consumer at a time, the others stand by.
  public var singleActiveConsumer = false
  /// A message that failed more often than this is dead-lettered: it is delivered at most `deliveryLimit + 1` times.
  public var deliveryLimit: Int32?
  /// Time after which a delivery that was not settled is taken back, unless the consumer has its own; nil for never.
  public var consumerTimeout: Duration?
  /// Whether a time-out counts as a failed delivery. RabbitMQ 4.3 does not count it, share groups do.
  public var timeoutsCount = false
  /// At most one message of a group key is in flight.
  public var isKeyOrdered = false
  /// How many messages may wait for their key before the lane behind them is not looked at any more.
  public var lookAhead = 1024
  /// Waiting time of returned messages.
  public var retryDelay = RetryDelay()
  /// Number of message ids that are remembered; 0 turns deduplication off.
  public var deduplicationCount = 0
  /// Time for which a message id is remembered.
  public var deduplicationTime = Duration.seconds(300)
  /// Most messages of a lane that are held in memory before they are delivered.
  public var windowMessages = 1024
  /// Most bytes of a lane that are held before they are delivered, and as many again of those in flight; a single larger
  /// message passes. Messages in flight beyond it are read again when they are returned.
  public var windowBytes = 4 << 20

  /// A plain queue.
  public init() {}

  /// The lane of a message published with `priority`.
  public func lane(forPriority priority: UInt8) -> UInt8 { min(priority, maximumPriority) }
}

/// An operation that the queue refuses.
public struct QueueError: Error, Hashable, CustomStringConvertible {
  /// What was refused.
  public struct Code: Hashable, Sendable {
    let name: String
    /// The queue has an exclusive consumer, or has consumers and an exclusive one was asked for.
    public static let exclusiveConsumer = Code(name: "exclusive consumer")
  }

  /// What was refused.
  public let code: Code
  /// With the values.
  public let description: String
}
