// QueueMessages: publishing to queues, taking, looking at, removing and moving messages by Millrace's own request.

import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceModel
import MillraceRouting

extension KafkaConnection {
  // MARK: Publishing

  func publish(
    _ publication: QueuePublication, in virtualHost: String, _ answer: @escaping AnswerQueues
  ) throws(RoutingError) {
    let queues: QueueBroker = broker.queues
    let access = queueAccess(in: virtualHost)
    try access.requireExchange(.write, publication.exchange)
    guard let format = queues.format(publication.format) else {
      throw RoutingError(.preconditionFailed, "no format \(publication.format) of properties")
    }
    if let reason = queues.pressure {
      throw RoutingError(.resourceError, "publishers have to wait: the server is \(reason)")
    }
    try queues.checkPublish(to: publication.exchange, in: virtualHost)
    let run = PublicationRun(queues, count: publication.messages.count, answer)
    let wait = publication.delayMilliseconds
    let (sum, overflow) = broker.reactor.wallClock.milliseconds.addingReportingOverflow(max(0, wait))
    let due = wait > 0 ? Timestamp(milliseconds: overflow ? .max : sum) : nil
    let limit = broker.settings.largestAMQPMessage
    let exchange = Bytes(publication.exchange)
    for message in publication.messages {
      let isPublished = run.publish { () throws(RoutingError) in
        guard message.body.count <= limit else {
          throw RoutingError(
            .preconditionFailed,
            "message size \(message.body.count) is larger than configured max size \(limit) (amqp.max.message.size)")
        }
        let (properties, facts) = try format.published(message.properties)
        if exchange.isEmpty { try access.requireTopics(publication.routingKey, facts.extraKeys) }
        var one = Publication(
          virtualHost: virtualHost, exchange: exchange, routingKey: publication.routingKey, format: format,
          properties: properties, body: message.body, facts: facts)
        one.notBefore = due
        return one
      }
      if !isPublished { break }
    }
    run.end()
  }

  // MARK: Taking

  /// Streams are read by position, not taken from.
  private func checkQueue(_ queue: String, in virtualHost: String) throws(RoutingError) {
    guard !broker.queues.has(queue, in: virtualHost) else { return }
    _ = try broker.queues.inspect(queue, in: virtualHost, owner: nil)
    throw RoutingError(
      .notImplemented, "'\(queue)' in vhost '\(virtualHost)' is a stream, which is read as a topic")
  }

  func take(
    _ queue: String, in virtualHost: String, limit: Int32, _ answer: @escaping AnswerQueues
  ) throws(RoutingError) {
    guard taken == nil else {
      throw RoutingError(.preconditionFailed, "what this connection took before is not settled yet")
    }
    try checkQueue(queue, in: virtualHost)
    let taking = TakenMessages()
    taking.consumer = try broker.queues.attach(queue, in: virtualHost, owner: nil, sink: taking)
    taken = taking
    taking.take(KafkaConnection.pageSize(limit), bytes: QueueAPI.pageBytes) { [self] messages, left in
      if messages.isEmpty {
        taking.close(isFailure: false)
        if taken === taking { taken = nil }
      }
      answer(.messages(messages, left: Int64(left), next: nil))
    }
  }

  /// Acknowledges what was taken, durably, or gives it back.
  func settleTaken(isAcknowledged: Bool, _ answer: @escaping AnswerQueues) {
    guard let settled = taken else { return answer(.count(0)) }
    taken = nil
    let count = isAcknowledged ? settled.acknowledge() : 0
    settled.close(isFailure: false)
    guard count > 0 else { return answer(.count(0)) }
    broker.queues.whenDurable { error in
      answer(error.map { .refused(QueueRefusal($0)) } ?? .count(Int64(count)))
    }
  }

  // MARK: Looking, removing, moving

  static func page(_ page: BrowsedPage, _ selection: QueueRequest.Selection) -> QueueAnswer {
    let wanted = page.messages.filter { message in
      switch selection {
      case .all: true
      case .ready: !message.isInFlight && message.due == nil
      case .scheduled: message.due != nil
      }
    }
    return .messages(wanted.map { QueueMessage($0) }, left: -1, next: page.next)
  }

  func remove(
    _ position: Position, from queue: String, in virtualHost: String,
    _ completion: @escaping (Result<Int, RoutingError>) -> Void
  ) {
    let queues: QueueBroker = broker.queues
    queues.browse(queue, in: virtualHost, owner: nil, from: position, limit: 1, bytes: 64 << 10) { result in
      guard case .success(let page) = result, let found = page.messages.first, found.position == position else {
        return completion(result.map { _ in 0 })
      }
      queues.remove(position, size: found.message.size, from: queue, in: virtualHost, owner: nil) { removed in
        completion(removed.map { $0 ? 1 : 0 })
      }
    }
  }

  func move(
    from queue: String, to target: String?, in virtualHost: String, limit: Int64,
    _ completion: @escaping (Result<Int, RoutingError>) -> Void
  ) throws(RoutingError) {
    let queues: QueueBroker = broker.queues
    let access = queueAccess(in: virtualHost)
    try checkQueue(queue, in: virtualHost)
    guard limit > 0 else { throw RoutingError(.preconditionFailed, "a limit of \(limit) messages") }
    if let target {
      guard target != queue else {
        throw RoutingError(.preconditionFailed, "queue '\(queue)' cannot be moved into itself")
      }
      _ = try queues.describe(target, in: virtualHost, owner: nil)
    }
    queues.move(
      from: queue, in: virtualHost, owner: nil, limit: Int(limit),
      to: { [self] message in
        // Nobody waits for it any more: the rest stays.
        if isOver { return nil }
        if let target { return MoveTarget(queue: target, properties: message.properties) }
        guard let format = queues.format(message.format), let death = format.deaths(message.properties).first,
          access.seesQueue(.write, death.queue)
        else { return nil }
        return MoveTarget(queue: death.queue, properties: format.withoutHistory(message.properties))
      }, completion: completion)
  }
}

extension QueueMessage {
  fileprivate init(_ browsed: BrowsedMessage) {
    self.init(browsed.message, at: browsed.position)
    isInFlight = browsed.isInFlight
    failures = browsed.deliveryCount
    isRedelivered = browsed.deliveryCount > 0
    due = browsed.due
  }

  init(_ message: Message, at position: Position) {
    self.init(
      position: position, timestamp: message.timestamp, format: message.format, properties: message.properties,
      body: message.body)
    exchange = message.exchange
    routingKey = message.routingKey
  }
}

/// The messages of one request on their way into queues.
private final class PublicationRun {
  private let answer: KafkaConnection.AnswerQueues
  private var publisher: QueuePublisher?
  private var outcomes: [PublicationOutcome] = []
  private var problem: QueueRefusal?
  /// Published, and not told yet what became of it.
  private var open = 0
  private var isWhole = false

  init(_ queues: QueueBroker, count: Int, _ answer: @escaping KafkaConnection.AnswerQueues) {
    self.answer = answer
    outcomes.reserveCapacity(count)
    // Until everything is told; then the publisher goes, and with it this.
    publisher = QueuePublisher(queues) { tags, isAccepted in self.told(tags, isAccepted) }
  }

  /// Publishes what `make` makes.
  /// - Returns: false when it was refused as a whole.
  func publish(_ make: () throws(RoutingError) -> Publication) -> Bool {
    guard let publisher else { return false }
    do throws(RoutingError) {
      let count = try publisher.publish(try make(), tag: UInt64(outcomes.count + 1))
      outcomes.append(count == 0 ? .unroutable : .confirmed)
      if count > 0 { open += 1 }
      return true
    } catch {
      problem = QueueRefusal(error)
      return false
    }
  }

  /// Nothing more is published.
  func end() {
    isWhole = true
    answerWhenTold()
  }

  private func told(_ tags: [UInt64], _ isAccepted: Bool) {
    open -= tags.count
    if !isAccepted {
      for tag in tags { outcomes[Int(tag) - 1] = .refused }
    }
    answerWhenTold()
  }

  private func answerWhenTold() {
    guard isWhole, open == 0, publisher != nil else { return }
    publisher = nil
    answer(.published(outcomes, problem: problem))
  }
}
