// AMQPChannel+Publish: basic.publish, its returns and its confirms.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceRouting

extension AMQPChannel {
  /// Bytes that a publication counts for beside what was sent.
  private static let overhead = 128

  func publish(
    _ fields: BasicPublish, _ given: BasicProperties, _ body: ContentBody
  ) throws(AMQPError) {
    if fields.immediate { throw AMQPError(.notImplemented, "immediate=true") }
    try requirePublishing(to: fields.exchange)
    var properties = given
    let facts: MessageFacts
    do throws(AMQPError) {
      facts = try check(&properties)
    } catch {
      // An exchange that is not there is the first thing to be wrong.
      try checkExchange(fields.exchange)
      throw error
    }
    if !connection.hasPublished {
      connection.hasPublished = true
      connection.tellWhetherBlocked()
    }
    connection.chargePublished(given.encoded.count + body.count)
    if fields.exchange.isEmpty, ReplyConsumer.isAddress(fields.routingKey) {
      return try publishReply(fields, properties, body)
    }
    if fields.exchange.isEmpty, !connection.session.isUnrestricted {
      try permitted { access throws(RoutingError) in
        try access.requireTopics(fields.routingKey.bytes, facts.extraKeys)
      }
    }
    let publication = Publication(
      virtualHost: virtualHost, exchange: fields.exchange.bytes, routingKey: fields.routingKey.bytes,
      format: AMQPMessageFormat.shared, properties: properties.encoded, body: body.joined, facts: facts)
    if mode == .transactional {
      try checkExchange(fields.exchange)
      return try add(publication, isMandatory: fields.mandatory)
    }
    let size = properties.encoded.count + body.count + AMQPChannel.overhead
    let number = add(size)
    let routed: Int
    do throws(RoutingError) {
      routed = try thePublisher.publish(publication, tag: number)
    } catch {
      changeUnsettled(count: -1, bytes: -window.withdraw())
      throw AMQPError(error)
    }
    if routed > 1 {
      // Each durable queue's copy waits for the log on its own.
      changeUnsettled(count: 0, bytes: window.grow(by: size * (routed - 1)))
      return
    }
    guard routed == 0 else { return }
    if fields.mandatory { returnMessage(fields.exchange, fields.routingKey, properties, body) }
    settled([number], isAccepted: true)
  }

  /// Publishes to the queue that the channel published to before, as most publications go, without asking where it goes.
  /// - Returns: false when it is another one, or is not as plain as that; nothing has happened then.
  func publish(_ found: WholePublication, in unread: Bytes) -> Bool {
    guard let publisher, publishRights.holds(connection.session),
      publisher.goes(exchange: unread, found.exchange, key: unread, found.routingKey),
      found.body.count <= connection.server.largestMessage
    else { return false }
    guard let properties = AMQPMessageFormat.plain(unread[found.properties]) else { return false }
    let size = properties.encoded.count + found.body.count + AMQPChannel.overhead
    // What memory takes at once need not wait to be told of.
    let isTold = window.isConfirming || !publisher.isInMemory
    let number = isTold ? add(size) : 0
    let isTaken = publisher.publish(
      properties: properties.encoded, body: unread[found.body], isPersistent: properties.isPersistent,
      priority: properties.priority ?? 0, tag: number)
    if !isTaken, isTold { changeUnsettled(count: -1, bytes: -window.withdraw()) }
    if isTaken { connection.chargePublished(size - AMQPChannel.overhead) }
    return isTaken
  }

  private var thePublisher: QueuePublisher {
    if let publisher { return publisher }
    let made = QueuePublisher(queues) { [self] tags, isAccepted in settled(tags, isAccepted: isAccepted) }
    publisher = made
    return made
  }

  private func add(_ size: Int) -> UInt64 {
    changeUnsettled(count: 1, bytes: size)
    return window.add(size: size)
  }

  private func changeUnsettled(count: Int, bytes: Int) {
    connection.unsettledCount += count
    connection.unsettledBytes += bytes
    connection.hold(bytes)
  }

  /// What the broker must know of the message. Takes BCC out, and puts the address for direct replies in.
  private func check(_ properties: inout BasicProperties) throws(AMQPError) -> MessageFacts {
    if properties.isEmpty { return MessageFacts() }
    if let user = properties.userID, !(user == connection.user) {
      throw AMQPError(
        .preconditionFailed,
        "user_id property set to '\(user)' but authenticated user was '\(connection.user)'")
    }
    let published = try PublishedProperties(properties)
    if published.hasBlindCopies {
      properties = properties.with(headers: try properties.headers()?.setting("BCC", to: nil))
    }
    if let replyTo = properties.replyTo, replyTo == ReplyConsumer.queue {
      guard let replyConsumer else {
        throw AMQPError(.preconditionFailed, "fast reply consumer does not exist")
      }
      properties = properties.altered { $0.replyTo = replyConsumer.address }
    }
    return published.facts
  }

  private func checkExchange(_ name: ShortString) throws(AMQPError) {
    guard !name.isEmpty else { return }
    do throws(RoutingError) {
      try queues.checkPublish(to: name.text, in: virtualHost)
    } catch {
      throw AMQPError(error)
    }
  }

  func returnMessage(
    _ exchange: ShortString, _ routingKey: ShortString, _ properties: BasicProperties, _ body: ContentBody
  ) {
    connection.writer.return(
      channel: number, exchange: exchange, routingKey: routingKey, properties: properties, body: body)
    connection.hasWritten()
  }

  // MARK: Confirms

  func selectConfirms(_ fields: ConfirmSelect) throws(AMQPError) {
    guard mode != .transactional else {
      throw AMQPError(.preconditionFailed, "cannot switch from tx to confirm mode")
    }
    mode = .confirming
    window.confirm()
    if !fields.noWait { write(ConfirmSelectOk()) }
  }

  /// Publications are durable, or refused.
  func settled(_ tags: [UInt64], isAccepted: Bool) {
    let before = window.waiting
    var bytes = 0
    for tag in tags { bytes += window.settle(tag, isAccepted: isAccepted) }
    connection.server.countPublications(tags.count, isAccepted: isAccepted)
    changeUnsettled(count: window.waiting - before, bytes: -bytes)
    guard isOpen else {
      if window.waiting == 0 { publisher = nil }
      return
    }
    if window.waiting == 0, isBusy { serveBacklog() }
    if window.hasAnswers, !isAnswering {
      isAnswering = true
      connection.answerLater(self)
    } else {
      connection.throttle()
    }
  }

  /// Writes the confirms that are due.
  func writeConfirms() {
    isAnswering = false
    guard isOpen else { return }
    window.takeAnswers { answer in
      if answer.isAccepted {
        connection.writer.ack(channel: number, deliveryTag: answer.number, multiple: answer.isMultiple)
      } else {
        connection.writer.nack(channel: number, deliveryTag: answer.number, multiple: answer.isMultiple)
      }
    }
  }

  // MARK: Direct replies

  /// Hands a message to the channel that waits for it; there is no queue.
  private func publishReply(_ fields: BasicPublish, _ properties: BasicProperties, _ body: ContentBody)
    throws(AMQPError)
  {
    if mode == .transactional { return try add(reply: fields, properties, body) }
    sendReply(fields, properties, body)
    guard mode == .confirming else { return }
    settled([add(AMQPChannel.overhead)], isAccepted: true)
  }

  func sendReply(_ fields: BasicPublish, _ properties: BasicProperties, _ body: ContentBody) {
    if let channel = connection.server.replies[fields.routingKey] {
      channel.deliverReply(properties, body)
    } else if fields.mandatory {
      returnMessage(fields.exchange, fields.routingKey, properties, body)
    }
  }
}
