// Queue: a message queue of the embedded broker: publishing into it, and its life as this program sees it.

import MillraceAMQPServer
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceRouting
import Synchronization

/// A queue of messages that are settled one by one, durable or in memory only.
///
///     let queue = try await broker.queue("orders")
///     try await queue.publish(Bytes("order 1"))
///     for try await delivery in queue.deliveries() {
///       try await work(on: delivery)
///       try await delivery.ack()
///     }
///
/// Any task or thread may use it, and AMQP clients see the same queue. A message goes to one consumer. What is not
/// acknowledged is delivered again: when its consumer goes, after a failure, and after a crash.
///
/// Calls from many tasks at the same time go to the broker's thread together, with one hop for all of them. A queue keeps its
/// broker open; a broker that is closed ends all of them with `.closed`.
public final class Queue: Sendable {
  /// The name.
  public let name: String
  /// The virtual host, as AMQP clients name it.
  public let virtualHost: String
  /// Whether messages survive the process.
  public let isDurable: Bool
  let broker: EmbeddedBroker
  let address: QueueAddress
  /// Header that holds a message's key.
  let groupHeader: String?
  /// A publication is answered only when the queue has it, or refuses it.
  private let waits: Bool
  /// Publications need not be asked for one by one.
  private let isDirect: Bool
  private let outbox: QueueOutbox
  private let end: ReactorBound<QueuePublications>
  let life: QueueLife

  private init(
    _ broker: EmbeddedBroker, _ outbox: QueueOutbox, _ description: QueueDescription,
    _ end: ReactorBound<QueuePublications>
  ) {
    self.broker = broker
    self.outbox = outbox
    life = QueueLife(outbox, broker.parts, end)
    isDurable = description.isDurable
    groupHeader = description.arguments.groupHeader
    waits = description.isDurable || description.mayRefuse
    isDirect = description.takesDirectly
    self.end = end
    address = outbox.address
    name = outbox.address.name
    virtualHost = outbox.address.virtualHost
  }

  deinit {
    broker.forget(life)
    let end = end
    broker.parts.reactor.submit { end.take().close() }
  }

  // MARK: Publishing

  /// Publishes a message; it is in the queue on return, durably if the queue is durable.
  ///
  /// Suspends while the broker is short of memory or disk, or many messages are under way. Messages of one task that waits for
  /// each keep their order. Into a transient queue that refuses nothing it returns as soon as the message is on its way.
  /// - Parameters:
  ///   - body: kept without a copy when it fills most of its memory.
  ///   - headers: by name, of at most 255 bytes.
  ///   - priority: higher ones are delivered first, in a queue with priorities.
  ///   - expiresAfter: time after which it is no longer delivered, from when it may be; at most 2³² − 1 ms.
  ///   - delay: time that it waits before it may be delivered.
  ///   - at: time before which it is not delivered; with a delay the later one counts.
  ///   - messageID: recognised by a queue with deduplication: published again, it is confirmed and nothing is done.
  ///   - key: of the messages with one key at most one is in flight, in a queue with a group header.
  /// - Throws: `.queueFull` when the queue refuses it, `.unknownQueue` when the queue was deleted, `.invalidArgument`,
  ///   `.messageTooLarge`, `.storage`, `.closed`; `.cancelled` when the task was cancelled while it waited for room.
  ///   In all cases but `.storage` and `.closed` it was not published.
  public func publish(
    _ body: Bytes, headers: [String: QueueValue] = [:], priority: UInt8 = 0, expiresAfter: Duration? = nil,
    delay: Duration? = nil, at time: Timestamp? = nil, messageID: String? = nil, key: String? = nil
  ) async throws(MillraceError) {
    if headers.isEmpty, priority == 0, expiresAfter == nil, delay == nil, time == nil, messageID == nil, key == nil {
      // What most messages are, without the large value that the others need.
      return try await publish(DirectMessage(plain: body, isPersistent: isDurable))
    }
    try await publish(
      QueueMessage(
        body, headers: headers, priority: priority, expiresAfter: expiresAfter, delay: delay, notBefore: time,
        messageID: messageID, key: key))
  }

  /// Publishes a message; see ``publish(_:headers:priority:expiresAfter:delay:at:messageID:key:)``.
  public func publish(_ message: QueueMessage) async throws(MillraceError) {
    try await publish(try prepared(message))
  }

  private func publish(_ message: DirectMessage) async throws(MillraceError) {
    if waits { return try await outbox.publish(message, end) }
    if try !outbox.offer(message, end) { try await outbox.put(message, end) }
  }

  /// Publishes messages in one commit: all of them are in the queue on return, or none is.
  ///
  /// - Throws: as ``publish(_:headers:priority:expiresAfter:delay:at:messageID:key:)``; `.queueFull` when there is not room
  ///   for all, `.messageTooLarge` when they are more than one commit takes, about 32 MiB.
  public func publish(contentsOf messages: some Sequence<QueueMessage>) async throws(MillraceError) {
    var outgoing: [DirectMessage] = []
    for message in messages { outgoing.append(try prepared(message)) }
    if outgoing.isEmpty { return }
    try await outbox.room()
    await arrive()
    let (address, messages, isDirect) = (address, outgoing, isDirect)
    try await broker.ask { (broker, answer: Answer<Void>) in
      guard isDirect else {
        return broker.queues.commit(
          QueueTransaction(), publishing: messages.map { (address, $0) }, answer)
      }
      do throws(RoutingError) {
        try broker.queues.publish(
          messages[...], to: address.name, in: address.virtualHost, format: address.format)
        answer.give(.success(()))
      } catch {
        answer.give(.failure(MillraceError(error)))
      }
    }
  }

  /// Hands over a message without waiting for it to be in the queue: ``flush()`` waits for all of them.
  ///
  /// Suspends only while there is no room for more under way: 16,384 messages or 16 MiB.
  /// - Throws: `.invalidArgument`, `.cancelled`, `.unknownQueue`, `.closed`; it was not handed over. What goes wrong later,
  ///   the next ``flush()`` throws.
  public func send(_ body: Bytes) async throws(MillraceError) {
    let message = DirectMessage(plain: body, isPersistent: isDurable)
    if try !outbox.offer(message, end) { try await outbox.put(message, end) }
  }

  /// Hands over a message; see ``send(_:)-(Bytes)``.
  public func send(_ message: QueueMessage) async throws(MillraceError) {
    try await outbox.put(try prepared(message), end)
  }

  /// Suspends until all that was handed over is in the queue, durably if the queue is durable.
  /// - Throws: the first failure since the last flush: `.queueFull`, `.unknownQueue`, `.storage`, `.closed`.
  public func flush() async throws(MillraceError) { try await outbox.flush() }

  /// Suspends until what this program published before is in the queue, so that what is asked next comes behind it.
  func arrive() async { await outbox.arrive() }

  private func prepared(_ message: QueueMessage) throws(MillraceError) -> DirectMessage {
    try DirectMessage(message, isPersistent: isDurable, groupHeader: groupHeader)
  }

  func outgoing(_ message: QueueMessage) throws(MillraceError) -> (address: QueueAddress, message: DirectMessage) {
    (address, try prepared(message))
  }

  // MARK: Closing

  /// Ends this program's use of the queue; the queue and its messages stay.
  ///
  /// Nothing more is published; loops over deliveries end, and what they had not handed out goes back. Suspends until all
  /// that was sent and settled so far is durable. Deliveries that were handed out can still be settled.
  /// - Throws: as ``flush()``.
  public func close() async throws(MillraceError) {
    let links = life.close(closedError, nil)
    do throws(MillraceError) { try await flush() } catch {
      // Closed before: everything has its outcome.
      if error.code == .closed { return }
      throw error
    }
    guard let one = links.first else { return }
    try await one.settled()
  }

  var closedError: MillraceError { MillraceError(.closed, "queue \(name) is closed") }
}

/// What has to hear of a queue's end: its publications and its consumers. Nobody holds a queue weakly, because that makes
/// every other reference to it slower.
final class QueueLife: Sendable {
  private struct State {
    var isClosed = false
    var links: [ObjectIdentifier: ConsumerLink] = [:]
  }

  private let outbox: QueueOutbox
  private let parts: BrokerParts
  private let end: ReactorBound<QueuePublications>
  private let state = Mutex(State())

  init(_ outbox: QueueOutbox, _ parts: BrokerParts, _ end: ReactorBound<QueuePublications>) {
    self.outbox = outbox
    self.parts = parts
    self.end = end
  }

  /// Ends it: publishers get `error`, consumers `failure`, or just the end.
  @discardableResult
  func close(_ error: MillraceError, _ failure: MillraceError?) -> [ConsumerLink] {
    let links = state.withLock { state in
      state.isClosed = true
      return Array(state.links.values)
    }
    for link in links { link.stop(returning: [], failure) }
    outbox.close(error)
    return links
  }

  /// The broker is closed, and its reactor is about to stop.
  func stops() {
    let end = end
    parts.reactor.submit { end.take().abandon() }
  }

  /// The broker's reactor has stopped.
  func abandon() {
    outbox.abandon(.closed)
    for link in state.withLock({ Array($0.links.values) }) { link.abandon() }
  }

  /// False when the queue is closed.
  func keep(_ link: ConsumerLink) -> Bool {
    state.withLock { state in
      if state.isClosed { return false }
      state.links[ObjectIdentifier(link)] = link
      return true
    }
  }

  func forget(_ link: ConsumerLink) {
    _ = state.withLock { $0.links.removeValue(forKey: ObjectIdentifier(link)) }
  }
}

extension Queue {
  /// Declares the queue if it is missing.
  static func open(
    _ broker: EmbeddedBroker, _ name: String, _ options: Options?, in virtualHost: String
  ) async throws(MillraceError) -> Queue {
    guard !name.isEmpty else { throw MillraceError(.invalidArgument, "a queue needs a name") }
    if case .queue(let target)? = options?.deadLetter, target != name {
      var plain = Options()
      plain.durability = options?.durability ?? .durable
      try await declare(broker, target, nil, plain, in: virtualHost)
    }
    try await declare(broker, name, options, options ?? Options(), in: virtualHost)
    let outbox = QueueOutbox(
      QueueAddress(virtualHost: virtualHost, name: name, format: AMQPMessageFormat.shared), broker.parts)
    let reactor = broker.parts.reactor
    let (end, description): (ReactorBound<QueuePublications>, QueueDescription) = try await broker.ask {
      broker, answer in
      do throws(RoutingError) {
        let found = try broker.queues.describe(name, in: virtualHost, owner: nil)
        let end = QueuePublications(outbox, of: found, broker.queues)
        answer.give(.success((ReactorBound(end, on: reactor), found)))
      } catch {
        answer.give(.failure(MillraceError(error)))
      }
    }
    let queue = Queue(broker, outbox, description, end)
    guard broker.keep(queue.life) else { throw .closed }
    return queue
  }

  /// Declares a queue; without `asked`, one that is there is taken as it is.
  private static func declare(
    _ broker: EmbeddedBroker, _ name: String, _ asked: Options?, _ options: Options, in virtualHost: String
  ) async throws(MillraceError) {
    let declaration = options.declaration(name, in: virtualHost)
    try await broker.ask { (broker, answer: Answer<Void>) in
      guard broker.isOpen else { return answer.give(.failure(.closed)) }
      do throws(RoutingError) {
        if asked == nil {
          _ = try broker.queues.describe(name, in: virtualHost, owner: nil)
          return answer.give(.success(()))
        }
      } catch {
        guard error.code == .notFound else { return answer.give(.failure(MillraceError(error))) }
      }
      let isThere = broker.queues.has(name, in: virtualHost)
      broker.queues.declare(declaration, in: virtualHost, owner: nil) { result in
        answer.give(
          result.map { _ in () }.mapError { error in
            isThere && error.code == .preconditionFailed
              ? MillraceError(.queueExists, error.message) : MillraceError(error)
          })
      }
    }
  }
}

extension EmbeddedBroker {
  /// A queue, which is declared when it is missing; it is durable on return if it is to be.
  ///
  /// - Parameters:
  ///   - options: how it behaves; a queue that is there must have been declared the same. nil takes it as it is, and makes
  ///     a missing one with the defaults. A queue named as dead-letter target is declared, too.
  ///   - virtualHost: as AMQP clients name it.
  /// - Throws: `.queueExists` when it is there with other options, `.invalidArgument`, `.storage`, `.closed`.
  public func queue(
    _ name: String, _ options: Queue.Options? = nil, in virtualHost: String = "/"
  ) async throws(MillraceError) -> Queue {
    try await Queue.open(self, name, options, in: virtualHost)
  }

  /// Deletes a queue with its messages, which are not dead-lettered, and ends its consumers; durable on return.
  /// - Returns: how many messages were ready; 0 also when there was no such queue.
  /// - Throws: `.invalidArgument`, `.storage`, `.closed`.
  @discardableResult
  public func deleteQueue(_ name: String, in virtualHost: String = "/") async throws(MillraceError) -> Int {
    try await ask { broker, answer in
      guard broker.isOpen else { return answer.give(.failure(.closed)) }
      broker.queues.delete(name, in: virtualHost, owner: nil) { result in
        answer.give(result.mapError { MillraceError($0) })
      }
    }
  }
}

extension MillraceError {
  static let cancelledWhileWaiting = MillraceError(.cancelled, "cancelled while waiting for room")

  static func notInFlight(_ queue: String) -> MillraceError {
    MillraceError(.notInFlight, "a delivery of queue \(queue) that was settled before, or taken back")
  }

  init(_ error: RoutingError) {
    let code: Code =
      switch error.code {
      case .notFound: .unknownQueue
      case .resourceError: .messageTooLarge
      case .internalError: .storage
      default: .invalidArgument
      }
    self.init(code, error.message)
  }
}
