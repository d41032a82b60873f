// QueueArguments: what the arguments of queue.declare mean, and what a client is told whose arguments make no sense.
//
// Names, texts and the order of checks are RabbitMQ 4's (`rabbit_amqqueue:check_declare_arguments` and the queue types),
// up to what is wrong with a value, which is an Erlang term there. Arguments that nobody knows are accepted and mean
// nothing. docs/reference/amqp.md lists all that is known; a test compares it with `KnownArgument.all`.

import MillraceBase
import MillraceDelivery
import MillraceRouting

/// What `x-queue-type` chooses.
public enum QueueType: String, CaseIterable, Sendable {
  /// A queue of any durability, with priorities on request.
  case classic
  /// A durable queue with a delivery limit and 32 priorities.
  case quorum
  /// A log that every consumer reads on its own.
  case stream

  static let argument = "x-queue-type"

  /// RabbitMQ's name for it in error texts.
  var module: String { "rabbit_\(rawValue)_queue" }

  /// The type that arguments name; nil when they name none, or one that there is not.
  init?(_ arguments: RoutingTable) {
    guard let text = arguments[QueueType.argument]?.text else { return nil }
    self.init(rawValue: text)
  }
}

/// An argument that has a meaning, or had one with RabbitMQ.
struct KnownArgument {
  let name: String
  /// Types of queues that take it; others refuse it.
  let types: [QueueType]
  /// Whether it has an effect, so that a second declaration must say the same.
  let isCompared: Bool

  private init(_ name: String, _ types: [QueueType], isCompared: Bool = true) {
    self.name = name
    self.types = types
    self.isCompared = isCompared
  }

  private static let queues: [QueueType] = [.classic, .quorum]

  /// In the order in which they are compared.
  static let all: [KnownArgument] = [
    KnownArgument("x-expires", queues), KnownArgument("x-message-ttl", queues),
    KnownArgument("x-dead-letter-exchange", queues), KnownArgument("x-dead-letter-routing-key", queues),
    KnownArgument("x-dead-letter-strategy", queues), KnownArgument("x-max-length", queues),
    KnownArgument("x-max-length-bytes", QueueType.allCases),
    KnownArgument("x-max-in-memory-length", [.quorum], isCompared: false),
    KnownArgument("x-max-in-memory-bytes", [.quorum], isCompared: false),
    KnownArgument("x-max-priority", [.classic]), KnownArgument("x-overflow", queues),
    KnownArgument("x-queue-mode", [.classic], isCompared: false),
    KnownArgument("x-queue-version", [.classic], isCompared: false),
    KnownArgument("x-single-active-consumer", queues), KnownArgument(QueueType.argument, QueueType.allCases),
    KnownArgument("x-quorum-initial-group-size", [.quorum], isCompared: false), KnownArgument("x-max-age", [.stream]),
    KnownArgument("x-stream-max-segment-size-bytes", [.stream], isCompared: false),
    KnownArgument("x-stream-filter-size-bytes", [.stream], isCompared: false),
    KnownArgument("x-initial-cluster-size", [.stream], isCompared: false),
    KnownArgument("x-queue-leader-locator", QueueType.allCases, isCompared: false),
    KnownArgument("x-queue-master-locator", [.classic], isCompared: false),
    KnownArgument("x-member-placement-tag", [.quorum, .stream], isCompared: false),
    KnownArgument("x-delivery-limit", queues), KnownArgument("x-consumer-timeout", queues),
    KnownArgument("x-consumer-disconnected-timeout", queues, isCompared: false),
    KnownArgument("x-delayed-retry-type", queues), KnownArgument("x-delayed-retry-min", queues),
    KnownArgument("x-delayed-retry-max", queues), KnownArgument("x-retry-delay", queues),
    KnownArgument("x-retry-max-delay", queues), KnownArgument("x-retry-growth", queues),
    KnownArgument("x-retry-jitter", queues), KnownArgument("x-group-by", queues),
    KnownArgument("x-deduplication-count", queues), KnownArgument("x-deduplication-time", queues),
  ]
}

/// The arguments of a queue, understood.
public struct QueueArguments: Equatable, Sendable {
  /// What `x-dead-letter-strategy` chooses. Both are exactly once here: a dead letter is published by the commit in which
  /// it leaves its queue.
  public enum DeadLetterStrategy: String, CaseIterable, Sendable {
    /// The standard.
    case atMostOnce = "at-most-once"
    /// As the other.
    case atLeastOnce = "at-least-once"
  }

  /// The queue's type.
  public internal(set) var type = QueueType.classic
  /// How it behaves. Of a stream only `maximumBytes` is set.
  public internal(set) var options = QueueOptions()
  /// Exchange that dead letters are published to, nil when they are dropped.
  public internal(set) var deadLetterExchange: String?
  /// Routing key that they get, nil when they keep their own.
  public internal(set) var deadLetterRoutingKey: String?
  /// How dead letters are passed on.
  public internal(set) var deadLetterStrategy = DeadLetterStrategy.atMostOnce
  /// Header whose value is a message's group key; nil when there are no groups.
  public internal(set) var groupHeader: String?
  /// Age at which a stream's messages go, nil for never.
  public internal(set) var maximumAge: Duration?
  /// The client asked for a lazy queue. Without effect: no queue holds its backlog in memory.
  public internal(set) var isLazy = false

  /// Deliveries that may fail of a quorum queue's message, unless the client says otherwise. Source: RabbitMQ 4.0.
  public static let standardDeliveryLimit: Int32 = 20
  /// The highest priority of a quorum queue. Source: RabbitMQ 4.3.
  public static let highestQuorumPriority: UInt8 = 31
  /// Most message ids that a queue may be asked to remember.
  public static let mostDeduplicationIDs: Int64 = 1_000_000
  /// Message ids that are remembered when only a time is said.
  public static let standardDeduplicationIDs = 100_000

  /// The arguments of a queue that is to be made.
  /// - Throws: 406 for what the queue's type does not take, for values that make no sense, and for quorum queues and streams
  ///   that are not durable, exclusive, or auto-delete.
  public init(_ declaration: QueueDeclaration) throws(RoutingError) {
    let reader = ArgumentReader(declaration)
    if declaration.arguments.depth > RoutingTable.maximumDepth {
      throw RoutingError(.preconditionFailed, "arguments nest deeper than \(RoutingTable.maximumDepth) levels")
    }
    type = try reader.type()
    try reader.checkFirst()
    switch type {
    case .stream: try takeStream(reader)
    case .classic, .quorum: try takeQueue(reader)
    }
    try reader.checkKnown(type)
    if type != .classic { try QueueArguments.checkReplicated(declaration) }
  }

  /// Refuses a type of queue whose name the server cannot choose.
  public static func checkServerNamed(_ arguments: RoutingTable) throws(RoutingError) {
    guard let type = QueueType(arguments), type != .classic else { return }
    throw RoutingError(.preconditionFailed, "Cannot declare a server-named queue for type \(type.module)")
  }

  private static func checkReplicated(_ declaration: QueueDeclaration) throws(RoutingError) {
    func refuse(_ property: String) -> RoutingError {
      RoutingError(.preconditionFailed, "invalid property '\(property)' for \(declaration.words)")
    }
    if declaration.isAutoDelete { throw refuse("auto-delete") }
    if declaration.isExclusive { throw refuse("exclusive-owner") }
    if !declaration.isDurable { throw refuse("non-durable") }
  }

  private mutating func takeStream(_ reader: ArgumentReader) throws(RoutingError) {
    options.maximumBytes = try reader.size("x-max-length-bytes")
    maximumAge = try reader.age("x-max-age")
    _ = try reader.size("x-stream-max-segment-size-bytes")
    _ = try reader.size("x-stream-filter-size-bytes")
    _ = try reader.integer("x-initial-cluster-size", 1...Int64.max)
    try reader.checkLocator()
    _ = try reader.text("x-member-placement-tag")
  }

  private mutating func takeQueue(_ reader: ArgumentReader) throws(RoutingError) {
    options.expires = try reader.milliseconds("x-expires", from: 1)
    options.messageTTL = try reader.milliseconds("x-message-ttl", from: 0)
    deadLetterExchange = try reader.text("x-dead-letter-exchange")
    deadLetterRoutingKey = try reader.text("x-dead-letter-routing-key")
    if deadLetterRoutingKey != nil, deadLetterExchange == nil {
      throw reader.invalid("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined")
    }
    deadLetterStrategy = try reader.choice("x-dead-letter-strategy") ?? .atMostOnce
    options.maximumLength = try reader.size("x-max-length")
    options.maximumBytes = try reader.size("x-max-length-bytes")
    if type == .classic {
      options.maximumPriority = UInt8(try reader.integer("x-max-priority", 0...255) ?? 0)
    } else {
      options.maximumPriority = QueueArguments.highestQuorumPriority
    }
    options.overflow = try overflow(reader)
    options.singleActiveConsumer = try reader.flag("x-single-active-consumer") ?? false
    try takeWithoutEffect(reader)
    try takeDelivery(reader)
    try takeRetry(reader)
  }

  private func overflow(_ reader: ArgumentReader) throws(RoutingError) -> Overflow {
    switch try reader.choice("x-overflow", as: OverflowName.self) {
    case nil, .dropHead: .dropHead
    case .rejectPublish: .rejectPublish
    // Not for quorum queues: RabbitMQ takes it and drops the head.
    case .rejectPublishDeadLetter: type == .classic ? .rejectPublishDeadLetter : .dropHead
    }
  }

  private mutating func takeWithoutEffect(_ reader: ArgumentReader) throws(RoutingError) {
    if type == .classic {
      isLazy = try reader.choice("x-queue-mode", as: QueueMode.self) == .lazy
      _ = try reader.integer("x-queue-version", 1...2)
    } else {
      _ = try reader.size("x-max-in-memory-length")
      _ = try reader.size("x-max-in-memory-bytes")
      _ = try reader.integer("x-quorum-initial-group-size", 1...Int64.max)
      _ = try reader.text("x-member-placement-tag")
    }
    try reader.checkLocator()
    _ = try reader.size("x-consumer-disconnected-timeout")
  }

  private mutating func takeDelivery(_ reader: ArgumentReader) throws(RoutingError) {
    // RabbitMQ's way to have no limit is −1.
    let limit = try reader.integer("x-delivery-limit", -1...Int64(Int32.max))
    options.deliveryLimit = limit.map { Int32($0) } ?? (type == .quorum ? QueueArguments.standardDeliveryLimit : nil)
    if limit == -1 { options.deliveryLimit = nil }
    options.consumerTimeout = try reader.milliseconds("x-consumer-timeout", from: 1)
    groupHeader = try reader.text("x-group-by")
    if groupHeader?.isEmpty == true { throw reader.invalid("x-group-by", "the name of a header is expected") }
    options.isKeyOrdered = groupHeader != nil
    let count = try reader.integer("x-deduplication-count", 0...QueueArguments.mostDeduplicationIDs)
    let time = try reader.milliseconds("x-deduplication-time", from: 1)
    options.deduplicationCount = count.map { Int($0) } ?? (time == nil ? 0 : QueueArguments.standardDeduplicationIDs)
    if let time { options.deduplicationTime = time }
  }

  private mutating func takeRetry(_ reader: ArgumentReader) throws(RoutingError) {
    let kind = try reader.choice("x-delayed-retry-type", as: RetryKind.self)
    let minimum = try reader.retryTime("x-retry-delay", or: "x-delayed-retry-min")
    let maximum = try reader.retryTime("x-retry-max-delay", or: "x-delayed-retry-max")
    let growth = try reader.choice("x-retry-growth", as: RetryGrowth.self)
    let jitter = try reader.fraction("x-retry-jitter")
    var delay = RetryDelay()
    // Without a type it is the time that asks for a delay.
    delay.kind = kind?.kind ?? (minimum == nil ? .disabled : .all)
    if kind == nil, minimum == nil {
      for argument in ["x-retry-max-delay", "x-retry-growth", "x-retry-jitter"] where reader.has(argument) {
        throw reader.invalid(argument, "without x-retry-delay or x-delayed-retry-type")
      }
    }
    if let minimum { delay.minimum = minimum }
    if let maximum { delay.maximum = maximum }
    if delay.maximum < delay.minimum {
      guard maximum == nil else {
        throw reader.invalid(
          reader.has("x-retry-max-delay") ? "x-retry-max-delay" : "x-delayed-retry-max", "less than the first delay")
      }
      delay.maximum = delay.minimum
    }
    delay.growth = growth == .exponential ? .exponential : .linear
    delay.jitter = jitter ?? 0
    options.retryDelay = delay
  }
}

private enum OverflowName: String, CaseIterable {
  case dropHead = "drop-head"
  case rejectPublish = "reject-publish"
  case rejectPublishDeadLetter = "reject-publish-dlx"
}

private enum QueueMode: String, CaseIterable {
  case standard = "default"
  case lazy
}

private enum RetryKind: String, CaseIterable {
  case disabled, all, failed, returned

  var kind: RetryDelay.Kind {
    switch self {
    case .disabled: .disabled
    case .all: .all
    case .failed: .failed
    case .returned: .returned
    }
  }
}

private enum RetryGrowth: String, CaseIterable {
  case linear, exponential
}
