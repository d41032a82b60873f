// QueueDelivery: a message that was delivered, and what the program says of it.

import MillraceAMQPProtocol
import MillraceAMQPServer
import MillraceBase
import MillraceBroker
import MillraceDelivery
import Synchronization

/// A message from a queue, to be settled: acknowledged, returned or rejected.
///
/// One that is dropped without any of that goes back to the queue when the last delivery of its loop is gone and the loop
/// has ended, and counts as failed. Settling twice is an error of the second call.
public struct QueueDelivery: Sendable {
  let raw: Delivery
  let subscription: QueueSubscription
  /// Whether it was settled; only where somebody wants to know.
  let mark: SettledMark?

  init(_ raw: Delivery, _ subscription: QueueSubscription, _ mark: SettledMark? = nil) {
    self.raw = raw
    self.subscription = subscription
    self.mark = mark
  }

  // MARK: What it is

  /// What the message says.
  public var body: Bytes { raw.message.body }
  /// The body as text; invalid UTF-8 is replaced by U+FFFD.
  public var text: String { raw.message.body.text }
  /// Headers by name, decoded with each call; of a name that is there twice the first counts.
  public var headers: [String: QueueValue] { raw.message.headerFields }
  /// The priority it was published with, up to the queue's highest.
  public var priority: UInt8 { raw.message.priority }
  /// When the queue got it.
  public var timestamp: Timestamp { raw.message.timestamp }
  /// Deliveries of it that failed before.
  public var failures: Int { Int(raw.deliveryCount) }
  /// Whether it may have been delivered before.
  public var isRedelivered: Bool { raw.isRedelivered }
  /// Its key, in a queue with a group header.
  public var key: String? { raw.message.groupKey?.text }
  /// The application's name of it.
  public var messageID: String? { raw.message.basicProperties.messageID?.text }
  /// Names the request that it answers.
  public var correlationID: String? { raw.message.basicProperties.correlationID?.text }
  /// Queue for the answer.
  public var replyTo: String? { raw.message.basicProperties.replyTo?.text }
  /// MIME type of the body.
  public var contentType: String? { raw.message.basicProperties.contentType?.text }
  /// Kind of message.
  public var type: String? { raw.message.basicProperties.type?.text }
  /// Queues that it has left as a dead letter, and why, the newest first.
  public var deaths: [QueueDeath] { raw.message.history }

  // MARK: What becomes of it

  /// The message is done with. Durable on return, if the queue is durable; a transient queue is told without waiting.
  /// - Throws: `.notInFlight` when it was settled before or taken back; `.storage`, `.closed`.
  public func ack() async throws(MillraceError) {
    guard subscription.queue.isDurable else { return ackLater() }
    try await settle(.acknowledge)
  }

  /// The message is done with; returns at once. It becomes durable a little later, and a delivery that is not in flight any
  /// more is passed over.
  public func ackLater() {
    guard mark?.set() ?? true else { return }
    subscription.link.acknowledge(raw.position)
  }

  /// The message failed: it goes back to its place in the queue, and is delivered again, or is a dead letter when that
  /// was once too often. Durable on return.
  /// - Parameter delay: time that it waits; nil for the queue's ``Queue/Options/retry``.
  /// - Throws: as ``ack()``.
  public func nack(after delay: Duration? = nil) async throws(MillraceError) {
    try await settle(.requeue(isFailure: true, after: delay))
  }

  /// The message goes back to its place as if it had not been delivered. Durable on return.
  /// - Throws: as ``ack()``.
  public func release() async throws(MillraceError) {
    try await settle(.requeue(isFailure: false, after: .zero))
  }

  /// The message is never delivered again: it goes to the dead-letter target, or nowhere. Durable on return.
  /// - Throws: as ``ack()``.
  public func reject() async throws(MillraceError) { try await settle(.discard) }

  /// Acknowledges the message and publishes its results in one commit: all of it is durable on return, or nothing has
  /// happened.
  /// - Parameter results: messages, each for a queue of the same broker.
  /// - Throws: as ``ack()``; `.queueFull`, `.unknownQueue`, `.invalidArgument`; `.messageTooLarge` beyond about 32 MiB.
  public func complete(publishing results: [(queue: Queue, message: QueueMessage)]) async throws(MillraceError) {
    try subscription.queue.check(results.map(\.queue))
    var outgoing: [(address: QueueAddress, message: DirectMessage)] = []
    for (queue, message) in results { outgoing.append(try queue.outgoing(message)) }
    guard mark?.set() ?? true else { throw .notInFlight(subscription.queue.name) }
    do throws(MillraceError) {
      try await subscription.link.complete([raw.position], publishing: outgoing)
    } catch {
      // Nothing has happened, so that it can be settled otherwise.
      mark?.clear()
      throw error
    }
  }

  private func settle(_ verdict: ConsumerLink.Verdict) async throws(MillraceError) {
    guard mark?.set() ?? true else { throw .notInFlight(subscription.queue.name) }
    try await subscription.link.settleAndWait([raw.position], verdict)
  }
}

/// A message's having left a queue without being acknowledged.
public struct QueueDeath: Hashable, Sendable {
  /// The queue.
  public let queue: String
  /// `rejected`, `expired`, `maxlen` or `delivery_limit`.
  public let reason: String
}

/// Whether a delivery was settled.
final class SettledMark: Sendable {
  private let isSettled = Atomic(false)

  /// False when it was set before.
  func set() -> Bool { !isSettled.exchange(true, ordering: .relaxed) }
  func clear() { isSettled.store(false, ordering: .relaxed) }
}

extension Message {
  /// The properties, whoever published it.
  var basicProperties: BasicProperties {
    guard format == AMQPMessageFormat.shared.code else { return BasicProperties() }
    do throws(DecodingError) {
      return try BasicProperties(decoding: properties)
    } catch {
      return BasicProperties()
    }
  }

  var headerFields: [String: QueueValue] {
    do throws(AMQPError) {
      return try basicProperties.headers().map { QueueValue.fields($0) } ?? [:]
    } catch {
      return [:]
    }
  }

  var history: [QueueDeath] {
    guard format == AMQPMessageFormat.shared.code else { return [] }
    return AMQPMessageFormat.shared.deaths(properties).map { QueueDeath(queue: $0.queue, reason: $0.reason) }
  }
}

extension Queue {
  /// Refuses queues of another broker.
  func check(_ queues: [Queue]) throws(MillraceError) {
    for queue in queues where queue.broker !== broker {
      throw MillraceError(.invalidArgument, "queue \(queue.name) belongs to another broker")
    }
  }
}
