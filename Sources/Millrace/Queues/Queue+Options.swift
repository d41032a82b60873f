// Queue+Options: how a queue behaves, as a value; AMQP clients declare the same by arguments.

import MillraceBase
import MillraceBroker
import MillraceRouting

extension Queue {
  /// How a queue behaves. The defaults are those of a durable first-in, first-out queue without limits.
  public struct Options: Sendable, Hashable {
    /// Whether messages survive the process.
    public enum Durability: Sendable, Hashable {
      /// They lie in the log; publications and acknowledgements are durable when they are answered.
      case durable
      /// They are in memory only, and go with the broker.
      case transient
    }

    /// What happens to a publication that would make the queue longer than its limits.
    public enum Overflow: String, Sendable, Hashable {
      /// It is taken, and the oldest messages go, to the dead-letter target if there is one.
      case dropHead = "drop-head"
      /// It is refused with `.queueFull`.
      case reject = "reject-publish"
      /// It is refused with `.queueFull` and goes to the dead-letter target.
      case rejectToDeadLetter = "reject-publish-dlx"
    }

    /// Where messages go that were rejected, expired, failed too often or did not fit.
    public enum DeadLetterTarget: Sendable, Hashable {
      /// A queue, which is declared with the defaults when it is missing.
      case queue(String)
      /// An exchange, which AMQP clients have declared; nil keeps the message's routing key.
      case exchange(String, routingKey: String? = nil)
    }

    /// How long a message waits that was returned, before it is delivered again.
    public struct Retry: Sendable, Hashable {
      /// How the wait grows with each failure.
      public enum Growth: String, Sendable, Hashable {
        /// The minimum times the failures.
        case linear
        /// The minimum doubled with each failure.
        case exponential
      }

      /// After the first failure; whole ms.
      public var minimum: Duration
      /// At most; whole ms.
      public var maximum: Duration
      /// How it grows.
      public var growth: Growth
      /// Part of the wait, 0 to 1, that chance may take away, so that what failed together is not retried together.
      public var jitter: Double

      /// Waits from `minimum` up to `maximum`.
      public init(
        from minimum: Duration, to maximum: Duration, growth: Growth = .exponential, jitter: Double = 0
      ) {
        self.minimum = minimum
        self.maximum = maximum
        self.growth = growth
        self.jitter = jitter
      }
    }

    /// Which message ids are recognised when they are published again. They are confirmed, and nothing is published.
    public struct Deduplication: Sendable, Hashable {
      /// Ids that are remembered, at most 1,000,000.
      public var count: Int
      /// Time for which they are.
      public var time: Duration

      /// The last `count` ids, for at most `time`.
      public init(last count: Int = 100_000, within time: Duration = .seconds(300)) {
        self.count = count
        self.time = time
      }
    }

    /// Whether messages survive the process.
    public var durability = Durability.durable
    /// Highest priority, 0 to 255; 0 makes a queue without priorities. Each level in use costs some memory.
    public var maximumPriority: UInt8 = 0
    /// Time after which a message is no longer delivered.
    public var messageTTL: Duration?
    /// Time without consumers and declarations after which the queue is deleted.
    public var expires: Duration?
    /// Most messages that are not in flight.
    public var maximumLength: Int?
    /// Most bytes of bodies that are not in flight.
    public var maximumBytes: Int?
    /// What happens at these limits.
    public var overflow = Overflow.dropHead
    /// Where dead letters go; nil drops them.
    public var deadLetter: DeadLetterTarget?
    /// Deliveries that may fail; one more, and the message is a dead letter. nil for no limit.
    public var deliveryLimit: Int?
    /// How long returned messages wait; nil for not at all.
    public var retry: Retry?
    /// Header that holds the key of which at most one message is in flight; nil for none.
    public var groupHeader: String?
    /// Recognises messages by their ids; nil for not.
    public var deduplication: Deduplication?
    /// Deliver to one consumer at a time, the others stand by.
    public var hasSingleActiveConsumer = false
    /// Time after which a delivery that was not settled is taken back and given to somebody; nil for never.
    public var deliveryTimeout: Duration?

    /// The defaults.
    public init() {}

    /// The defaults, changed by `change`.
    public init(_ change: (inout Options) -> Void) {
      self.init()
      change(&self)
    }

    /// Options of a queue that memory alone keeps.
    public static let transient = Options { $0.durability = .transient }
  }
}

extension Queue.Options {
  /// As a client would declare it.
  func declaration(_ name: String, in virtualHost: String) -> QueueDeclaration {
    var fields: [RoutingTable.Field] = []
    func add(_ name: String, _ value: RoutingValue?) { if let value { fields.append(.init(name, value)) } }
    func add(_ name: String, _ number: Int?) { add(name, number.map { RoutingValue.int64(Int64($0)) }) }
    func add(_ name: String, _ time: Duration?) { add(name, time.map { RoutingValue.int64($0.inMilliseconds) }) }
    if maximumPriority > 0 { add("x-max-priority", Int(maximumPriority)) }
    add("x-message-ttl", messageTTL)
    add("x-expires", expires)
    add("x-max-length", maximumLength)
    add("x-max-length-bytes", maximumBytes)
    if overflow != .dropHead { add("x-overflow", .string(overflow.rawValue)) }
    switch deadLetter {
    case nil: break
    case .queue(let queue):
      add("x-dead-letter-exchange", .string(""))
      add("x-dead-letter-routing-key", .string(queue))
    case .exchange(let exchange, let key):
      add("x-dead-letter-exchange", .string(exchange))
      add("x-dead-letter-routing-key", key.map { .string($0) })
    }
    add("x-delivery-limit", deliveryLimit)
    if let retry {
      add("x-retry-delay", retry.minimum)
      add("x-retry-max-delay", retry.maximum)
      add("x-retry-growth", .string(retry.growth.rawValue))
      if retry.jitter != 0 { add("x-retry-jitter", .double(retry.jitter)) }
    }
    add("x-group-by", groupHeader.map { .string($0) })
    if let deduplication {
      add("x-deduplication-count", deduplication.count)
      add("x-deduplication-time", deduplication.time)
    }
    if hasSingleActiveConsumer { add("x-single-active-consumer", .bool(true)) }
    add("x-consumer-timeout", deliveryTimeout)
    return QueueDeclaration(
      name: name, virtualHost: virtualHost, isDurable: durability == .durable, arguments: RoutingTable(fields))
  }
}
