// QueueTypes: what protocol servers and the library tell the broker of messages and queues, in no protocol's terms.

import MillraceBase
import MillraceDelivery
import MillraceModel
import MillraceRouting

/// Whom an exclusive queue belongs to: a connection. Identity counts.
public final class QueueOwner {
  /// For log lines.
  public let name: String
  /// It is gone: nothing becomes its own any more.
  var isClosed = false
  /// Its exclusive queues, and perhaps some that were deleted.
  var queues: [HostedQueue] = []

  /// A new owner.
  public init(name: String) { self.name = name }
}

/// What the broker must know of a message's properties.
public struct MessageFacts: Sendable {
  /// It is to survive a restart.
  public var isPersistent = false
  /// Decides the lane.
  public var priority: UInt8 = 0
  /// Time in ms after which it expires, counted from its publication or, when it is delayed, from then.
  public var timeToLive: Int64?
  /// Time in ms that it waits before it is delivered; counts on the way through an exchange of type `x-delayed-message`.
  public var delay: Int64?
  /// What it is recognised by when it is published again.
  public var messageID: Bytes?
  /// Further routing keys: the headers CC and BCC.
  public var extraKeys: [Bytes] = []

  /// A message without any of it.
  public init() {}
}

/// A message's leaving a queue without being acknowledged, for the history that it carries.
public struct MessageDeath: Sendable {
  /// The queue it left.
  public var queue: String
  /// `rejected`, `expired`, `maxlen` or `delivery_limit`.
  public var reason: String
  /// The exchange it had been published to.
  public var exchange: String
  /// The keys it had been published with.
  public var routingKeys: [Bytes]
  /// When it left.
  public var time: Timestamp
  /// The dead-letter exchange gets it with another key.
  public var isKeyReplaced: Bool
}

/// How properties and headers of messages are encoded. Whoever publishes names the format; it is kept with the message.
///
/// Every function but ``published(_:)`` is total: what makes no sense in the bytes is left out.
public protocol MessageFormat: AnyObject, Sendable {
  /// The number under which it is kept with messages.
  var code: UInt8 { get }
  /// What the broker must know.
  func facts(_ properties: Bytes) -> MessageFacts
  /// Checks properties that somebody wants to publish: as they are kept, and what the broker must know.
  /// - Throws: 406 and 502, naming what makes no sense.
  func published(_ properties: Bytes) throws(RoutingError) -> (properties: Bytes, facts: MessageFacts)
  /// All headers.
  func headers(_ properties: Bytes) -> RoutingTable
  /// The text of one header; nil when it is not there or no text and no number.
  func header(_ name: String, _ properties: Bytes) -> Bytes?
  /// One property.
  func property(_ property: MessageProperty, _ properties: Bytes) -> Bytes?
  /// The properties of a message that has left a queue on its way to the dead-letter exchange.
  func deadLettered(_ properties: Bytes, _ death: MessageDeath) -> Bytes
  /// Properties and headers as headers of a topic's record; ``properties(of:)`` makes the same of them again.
  func recordHeaders(_ properties: Bytes) -> [RecordHeader]
  /// Properties and headers of a message made of a topic's record, whoever wrote it.
  func properties(of record: Record) -> Bytes
  /// Queues that the message has left so, and why; the newest first.
  func deaths(_ properties: Bytes) -> [(queue: String, reason: String)]
  /// The properties as they were before the message became a dead letter.
  func withoutHistory(_ properties: Bytes) -> Bytes
}

/// A message on its way to an exchange.
public struct Publication {
  /// The virtual host.
  public var virtualHost: String
  /// The exchange; empty for the default one.
  public var exchange: Bytes
  /// The routing key.
  public var routingKey: Bytes
  /// How `properties` are encoded.
  public var format: any MessageFormat
  /// Properties and headers.
  public var properties: Bytes
  /// The body.
  public var body: Bytes
  /// What the properties say.
  public var facts: MessageFacts
  /// Time on the wall clock before which no queue delivers it, whatever the exchange; nil for none.
  public var notBefore: Timestamp?
  /// Properties and body lie in memory of their own and are kept as they are. Otherwise small ones are copied, because
  /// they would keep alive what was received with them.
  public var isDetached = false
  /// Its key may be that of a topic, because whoever chose it may write to that one. Where rules deny anything, what goes to
  /// the default exchange with a key that was chosen for something else, as dead letters do, reaches queues only.
  var mayNameTopics = true
  /// When queues may deliver it, by their clock, without and with the delay that it asks for; nil when each queue is to find
  /// out, so that it may be a little later in one than in another.
  var due: (plain: Timestamp, delayed: Timestamp)?

  /// The publication in memory of its own, for who keeps it.
  public func detached() -> Publication {
    if isDetached { return self }
    var own = self
    own.exchange = exchange.detached
    own.routingKey = routingKey.detached
    own.properties = properties.detached
    own.body = body.detached
    own.facts.messageID = facts.messageID?.detached
    own.facts.extraKeys = facts.extraKeys.map(\.detached)
    own.isDetached = true
    return own
  }

  /// A message.
  public init(
    virtualHost: String, exchange: Bytes, routingKey: Bytes, format: any MessageFormat, properties: Bytes, body: Bytes,
    facts: MessageFacts
  ) {
    self.virtualHost = virtualHost
    self.exchange = exchange
    self.routingKey = routingKey
    self.format = format
    self.properties = properties
    self.body = body
    self.facts = facts
  }
}

/// What a declaration answers.
public struct QueueStatus: Equatable, Sendable {
  /// The queue's name.
  public var name: String
  /// Messages that are ready.
  public var messageCount: Int
  /// Consumers that are pushed to.
  public var consumerCount: Int
}

/// Publications and settlements that take effect together.
public struct QueueTransaction {
  /// Messages, in order.
  public var publications: [Publication] = []
  /// What becomes of deliveries, in order.
  public var settlements: [(consumer: QueueConsumer, position: Position, settlement: Settlement)] = []
  /// Publications pass limits and deduplication, as dead letters do: they were in a queue before.
  public var isForced = false

  /// Nothing yet.
  public init() {}
}

/// Who gets a consumer's deliveries. Called on the reactor, at the end of a turn.
public protocol DeliverySink: AnyObject {
  /// A message, in the order of the queue.
  func deliver(_ delivery: Delivery, to consumer: QueueConsumer)
  /// Several at once; as good as ``deliver(_:to:)-(Delivery,_)`` for each of them, as long as the consumer is not closed.
  func deliver(_ deliveries: ArraySlice<Delivery>, to consumer: QueueConsumer)
  /// The broker ended the consumer.
  func ended(_ consumer: QueueConsumer, _ reason: QueueConsumer.EndReason)
}

extension DeliverySink {
  /// One after the other.
  public func deliver(_ deliveries: ArraySlice<Delivery>, to consumer: QueueConsumer) {
    for delivery in deliveries where !consumer.isClosed { deliver(delivery, to: consumer) }
  }
}

extension RoutingError.Code {
  /// 502: bytes that cannot be read.
  public static let syntaxError = RoutingError.Code(replyCode: 502, name: "SYNTAX_ERROR")
  /// 506: no room.
  public static let resourceError = RoutingError.Code(replyCode: 506, name: "RESOURCE_ERROR")
  /// 540: what this queue, or this program, does not do.
  public static let notImplemented = RoutingError.Code(replyCode: 540, name: "NOT_IMPLEMENTED")
  /// 541: storage failed, or the broker is closing.
  public static let internalError = RoutingError.Code(replyCode: 541, name: "INTERNAL_ERROR")
}

extension QueueArguments {
  /// Those of a queue that was declared without any.
  init() {}
}
