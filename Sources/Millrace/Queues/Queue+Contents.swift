// Queue+Contents: looking into a queue, taking messages out of it, moving them to another.

import MillraceAMQPProtocol
import MillraceAMQPServer
import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceQueueing
import MillraceRouting

/// How full a queue is.
public struct QueueCounts: Hashable, Sendable {
  /// Messages that are not in flight: ready, waiting for a time, or for their key.
  public let length: Int
  /// Bytes of their bodies.
  public let bytes: Int
  /// Delivered and not settled.
  public let inFlight: Int
  /// Of `length`: known to wait for a time.
  public let delayed: Int
  /// Consumers, those of AMQP clients included.
  public let consumers: Int
}

/// A message that is in a queue, as it was when it was looked at.
public struct QueuedMessage: Sendable {
  let position: Position
  let raw: Message
  /// Deliveries of it that failed.
  public let failures: Int
  /// Delivered and not settled.
  public let isInFlight: Bool
  /// Time before which it is not delivered; nil when it waits for none.
  public let due: Timestamp?

  init(_ message: BrowsedMessage) {
    position = message.position
    raw = message.message
    failures = Int(message.deliveryCount)
    isInFlight = message.isInFlight
    due = message.due
  }

  /// What the message says.
  public var body: Bytes { raw.body }
  /// The body as text; invalid UTF-8 is replaced by U+FFFD.
  public var text: String { raw.body.text }
  /// Headers by name.
  public var headers: [String: QueueValue] { raw.headerFields }
  /// Its priority, up to the queue's highest.
  public var priority: UInt8 { raw.priority }
  /// When the queue got it.
  public var timestamp: Timestamp { raw.timestamp }
  /// The application's name of it.
  public var messageID: String? { raw.basicProperties.messageID?.text }
  /// Its key, in a queue with a group header.
  public var key: String? { raw.groupKey?.text }
  /// Queues that it has left as a dead letter, and why, the newest first.
  public var deaths: [QueueDeath] { raw.history }
}

extension Queue {
  /// How full the queue is.
  /// - Throws: `.unknownQueue`, `.closed`.
  public func counts() async throws(MillraceError) -> QueueCounts {
    try await asked { queues, address throws(RoutingError) in
      let queue = try queues.describe(address.name, in: address.virtualHost, owner: nil)
      return QueueCounts(
        length: queue.length, bytes: Int(queue.lengthBytes), inFlight: queue.inFlight, delayed: queue.delayed,
        consumers: queue.consumers)
    }
  }

  /// What is measured of the queue: rates, waiting and processing times, what a model predicts from them.
  /// - Throws: `.unknownQueue`, `.closed`.
  public func figures() async throws(MillraceError) -> QueueFigures {
    try await asked { queues, address throws(RoutingError) in
      try queues.figures(of: address.name, in: address.virtualHost, owner: nil)
    }
  }

  /// Messages that are in the queue, from its head on; nothing changes by it.
  ///
  /// - Parameter limit: most messages; all of them are in memory at the end.
  /// - Throws: `.unknownQueue`, `.storage`, `.closed`.
  /// - Complexity: O(messages shown), and the messages that are in flight for every 1,000 of them.
  public func browse(limit: Int) async throws(MillraceError) -> [QueuedMessage] {
    try await browse(limit: limit) { _ in true }
  }

  /// Messages that wait for a time: published with one, or returned and not to be delivered yet.
  /// - Throws: `.unknownQueue`, `.storage`, `.closed`.
  /// - Complexity: O(length of the queue): all of it is looked through until `limit` are found.
  public func scheduled(limit: Int) async throws(MillraceError) -> [QueuedMessage] {
    try await browse(limit: limit) { $0.due != nil }
  }

  private func browse(
    limit: Int, where isWanted: (QueuedMessage) -> Bool
  ) async throws(MillraceError) -> [QueuedMessage] {
    await arrive()
    var found: [QueuedMessage] = []
    var next: Position?
    while found.count < limit {
      let (from, address) = (next, address)
      let page: BrowsedPage = try await broker.ask { broker, answer in
        guard broker.isOpen else { return answer.give(.failure(.closed)) }
        broker.queues.browse(address.name, in: address.virtualHost, owner: nil, from: from, limit: 1000) { result in
          answer.give(result.mapError { MillraceError($0) })
        }
      }
      for message in page.messages where found.count < limit {
        let shown = QueuedMessage(message)
        if isWanted(shown) { found.append(shown) }
      }
      guard let end = page.next else { break }
      next = end
    }
    return found
  }

  /// Takes a message out of the queue, a scheduled one or any other that is not in flight. Durable on return; it is not
  /// dead-lettered.
  /// - Returns: false when it is in flight or gone.
  /// - Throws: `.unknownQueue`, `.storage`, `.closed`.
  @discardableResult
  public func remove(_ message: QueuedMessage) async throws(MillraceError) -> Bool {
    let (position, size, address) = (message.position, message.raw.size, address)
    return try await broker.ask { broker, answer in
      guard broker.isOpen else { return answer.give(.failure(.closed)) }
      broker.queues.remove(position, size: size, from: address.name, in: address.virtualHost, owner: nil) { result in
        answer.give(result.mapError { MillraceError($0) })
      }
    }
  }

  /// Removes all messages that are not in flight, scheduled ones included. Durable on return; they are not dead-lettered.
  /// - Returns: how many that were.
  /// - Throws: `.unknownQueue`, `.storage`, `.closed`.
  @discardableResult
  public func purge() async throws(MillraceError) -> Int {
    await arrive()
    let address = address
    return try await broker.ask { broker, answer in
      guard broker.isOpen else { return answer.give(.failure(.closed)) }
      broker.queues.purge(address.name, in: address.virtualHost, owner: nil) { result in
        answer.give(result.mapError { MillraceError($0) })
      }
    }
  }

  /// Moves messages that are ready to another queue, in order, each in the commit that takes it out of this one.
  ///
  /// - Parameters:
  ///   - target: of the same broker. Its deduplication does not count.
  ///   - limit: most messages; those that were in the queue at the call, at most.
  /// - Returns: how many were moved.
  /// - Throws: `.queueFull` when the target is full, `.unknownQueue`, `.storage`, `.closed`: what was moved before stays
  ///   moved.
  @discardableResult
  public func move(to target: Queue, limit: Int = .max) async throws(MillraceError) -> Int {
    try check([target])
    guard target.virtualHost == virtualHost else {
      throw MillraceError(.invalidArgument, "queue \(target.name) is in another virtual host")
    }
    let name = target.name
    return try await move(limit: limit) { MoveTarget(queue: name, properties: $0.properties) }
  }

  /// Moves dead letters back to the queues that they left last, where they begin anew: without a history, and with no failures.
  ///
  /// Messages that are no dead letters, and those whose queue is not there any more, stay.
  /// - Returns: how many were moved.
  /// - Throws: as ``move(to:limit:)``.
  @discardableResult
  public func redrive(limit: Int = .max) async throws(MillraceError) -> Int {
    try await move(limit: limit) { message in
      guard let death = message.history.first else { return nil }
      return MoveTarget(queue: death.queue, properties: AMQPMessageFormat.shared.withoutHistory(message.properties))
    }
  }

  private func move(
    limit: Int, to target: @escaping @Sendable (Message) -> MoveTarget?
  ) async throws(MillraceError) -> Int {
    guard limit > 0 else { return 0 }
    await arrive()
    let address = address
    return try await broker.ask { broker, answer in
      guard broker.isOpen else { return answer.give(.failure(.closed)) }
      broker.queues.move(from: address.name, in: address.virtualHost, owner: nil, limit: limit, to: target) { result in
        answer.give(
          result.mapError { error in
            error.code == .resourceError ? MillraceError(.queueFull, error.message) : MillraceError(error)
          })
      }
    }
  }

  /// Asks the broker something that it answers at once.
  private func asked<Value: Sendable>(
    _ body: @escaping @Sendable (QueueBroker, QueueAddress) throws(RoutingError) -> Value
  ) async throws(MillraceError) -> Value {
    await arrive()
    let address = address
    return try await broker.ask { broker, answer in
      guard broker.isOpen else { return answer.give(.failure(.closed)) }
      do throws(RoutingError) {
        answer.give(.success(try body(broker.queues, address)))
      } catch {
        answer.give(.failure(MillraceError(error)))
      }
    }
  }
}
