// AMQPChannel+Consume: consumers, what is delivered to them, and how much of it.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceModel
import MillraceRouting

extension AMQPChannel {
  func consume(_ fields: BasicConsume) throws(AMQPError) {
    guard consumers[fields.consumerTag] == nil else {
      throw AMQPError(.notAllowed, "attempt to reuse consumer tag '\(fields.consumerTag)'")
    }
    let queue = try queueName(fields.queue)
    let tag = fields.consumerTag.isEmpty ? "amq.ctag-\(connection.server.token())" : fields.consumerTag
    guard let shortTag = ShortString(tag) else { preconditionFailure("a consumer tag of \(tag.utf8.count) bytes") }
    if queue == ReplyConsumer.queue { return try consumeReplies(fields, shortTag) }
    try permitted { access throws(RoutingError) in try access.requireQueue(.read, queue) }
    let consumer = AMQPConsumer(channel: self, tag: shortTag, isNoAck: fields.noAck)
    let options = try options(fields, queue)
    let start = try streamStart(fields.arguments["x-stream-offset"])
    let filter = try streamFilter(fields.arguments)
    let shareGroup = try shareGroup(fields.arguments, queue)
    if let shareGroup { try permitted { access throws(RoutingError) in try access.requireGroup(shareGroup) } }
    let made: QueueConsumer
    do throws(RoutingError) {
      made = try queues.consume(
        queue, in: virtualHost, owner: connection.owner, options: options,
        from: start, filter: filter, shareGroup: shareGroup, sink: consumer)
    } catch {
      throw AMQPError(error)
    }
    made.tag = tag
    if connection.isPaused { made.isPaused = true }
    consumers[tag] = consumer
    if !fields.noWait { write(BasicConsumeOk(consumerTag: tag)) }
    consumer.begin(made)
  }

  private func options(_ fields: BasicConsume, _ queue: String) throws(AMQPError) -> ConsumerOptions {
    var options = ConsumerOptions()
    options.isNoAck = fields.noAck
    options.isExclusive = fields.exclusive
    if !fields.noAck {
      options.credit = prefetch
      options.pool = pool
    }
    if let value = fields.arguments["x-priority"] {
      options.priority = Int32(clamping: try integer(value, "x-priority", queue))
    }
    if let value = fields.arguments["x-consumer-timeout"] {
      let milliseconds = try integer(value, "x-consumer-timeout", queue)
      guard milliseconds >= 0 else { throw invalid("x-consumer-timeout", queue, "\(milliseconds) is negative") }
      options.timeout = .milliseconds(milliseconds)
    }
    return options
  }

  /// Where a stream is read from; other queues do not care.
  private func streamStart(_ value: AMQPValue?) throws(AMQPError) -> StreamStart {
    switch value {
    case nil: return .next
    case .timestamp(let seconds)?:
      return .time(Timestamp(milliseconds: Int64(clamping: seconds).multipliedClamped(by: 1000)))
    case let value?:
      if let offset = value.integer, offset >= 0 { return .offset(offset) }
      switch value.text {
      case "first": return .first
      case "last": return .last
      case "next": return .next
      case let text?:
        if let age = AMQPChannel.seconds(text) {
          let now = broker.reactor.wallClock.milliseconds
          return .time(Timestamp(milliseconds: max(0, now - age.multipliedClamped(by: 1000))))
        }
      case nil: break
      }
      throw AMQPError(.preconditionFailed, "x-stream-offset must not be \(value)")
    }
  }

  /// What of a stream is wanted; other queues do not care.
  private func streamFilter(_ arguments: AMQPFieldTable) throws(AMQPError) -> StreamFilter? {
    guard let wanted = arguments["x-stream-filter"] else { return nil }
    let values = wanted.array.map { Array($0) } ?? [wanted]
    var texts: [String] = []
    for value in values {
      guard let text = value.text else {
        throw AMQPError(.preconditionFailed, "x-stream-filter must be a string or an array of strings, not \(wanted)")
      }
      texts.append(text)
    }
    let unfiltered = arguments["x-stream-match-unfiltered"]
    guard unfiltered == nil || unfiltered?.bool != nil else {
      throw AMQPError(.preconditionFailed, "x-stream-match-unfiltered must be a boolean")
    }
    return StreamFilter(values: texts, matchesUnfiltered: unfiltered?.bool ?? false)
  }

  /// The share group as whose member the consumer reads a topic; nil for a reader of its own.
  private func shareGroup(_ arguments: AMQPFieldTable, _ queue: String) throws(AMQPError) -> String? {
    guard let value = arguments["x-share-group"] else { return nil }
    guard let name = value.text, !name.isEmpty else {
      throw invalid("x-share-group", queue, "expected the name of a group, got \(value.typeName)")
    }
    guard arguments["x-stream-offset"] == nil else {
      throw invalid("x-stream-offset", queue, "a share group goes on where it is; its settings say where it begins")
    }
    guard arguments["x-stream-filter"] == nil else {
      throw invalid("x-stream-filter", queue, "a share group gets all records")
    }
    return name
  }

  /// The length of an interval as `7D`: years, months, days, hours, minutes, seconds.
  static func seconds(_ text: String) -> Int64? {
    let units: [Character: Int64] = [
      "Y": 31_536_000, "M": 2_592_000, "D": 86_400, "h": 3600, "m": 60, "s": 1,
    ]
    guard let unit = text.last.flatMap({ units[$0] }), let count = UInt32(text.dropLast()) else { return nil }
    return Int64(count) * unit
  }

  private func integer(_ value: AMQPValue, _ name: String, _ queue: String) throws(AMQPError) -> Int64 {
    if let number = value.integer { return number }
    // That there is no such queue, or not for this client, is said first.
    do throws(RoutingError) {
      _ = try queues.inspect(queue, in: virtualHost, owner: connection.owner)
    } catch {
      throw AMQPError(error)
    }
    throw invalid(name, queue, "expected integer, got \(value.typeName)")
  }

  private func invalid(_ name: String, _ queue: String, _ reason: String) -> AMQPError {
    AMQPError(
      .preconditionFailed, "invalid arg '\(name)' for queue '\(queue)' in vhost '\(virtualHost)': \(reason)")
  }

  func cancel(_ fields: BasicCancel) {
    if let replyConsumer, replyConsumer.tag == fields.consumerTag {
      endReplies()
    } else if let consumer = consumers.removeValue(forKey: fields.consumerTag) {
      consumer.queueConsumer?.cancel()
    }
    if !fields.noWait { write(BasicCancelOk(consumerTag: fields.consumerTag)) }
  }

  /// The prefetch of the channel's consumers, those that there are included: Celery relies on that.
  func setPrefetch(_ fields: BasicQos) throws(AMQPError) {
    guard fields.prefetchSize == 0 else {
      throw AMQPError(.notImplemented, "prefetch_size!=0 (\(fields.prefetchSize))")
    }
    if fields.global {
      pool.limit = Int(fields.prefetchCount)
      queues.creditChanged(pool)
    } else {
      prefetch = Int(fields.prefetchCount)
      for consumer in orderedConsumers where !consumer.isNoAck { consumer.queueConsumer?.setCredit(prefetch) }
    }
    write(BasicQosOk())
  }

  /// Deliveries stop or go on, by what the client has not read yet.
  func setPaused(_ isPaused: Bool) {
    for consumer in orderedConsumers { consumer.queueConsumer?.isPaused = isPaused }
  }

  /// The order of a dictionary differs from run to run, and what the broker does must not.
  private var orderedConsumers: [AMQPConsumer] { consumers.sorted { $0.key < $1.key }.map(\.value) }

  // MARK: Deliveries

  /// Writes deliveries, few enough that the connection need not be looked at in between.
  func deliver(_ deliveries: ArraySlice<Delivery>, of queueConsumer: QueueConsumer, to consumer: AMQPConsumer) {
    guard isOpen, !deliveries.isEmpty else { return }
    let since = connection.timeToCharge()
    let type = queueConsumer.queueType
    for index in deliveries.indices {
      let message = deliveries[index].message
      lastTag += 1
      if !consumer.isNoAck {
        unacknowledged.append(
          UnacknowledgedDelivery(tag: lastTag, holder: queueConsumer, position: deliveries[index].position))
      }
      connection.writer.deliver(
        channel: number, consumerTag: consumer.tag, deliveryTag: lastTag,
        redelivered: deliveries[index].isRedelivered,
        exchange: message.exchange, routingKey: message.routingKey,
        properties: type == .classic
          ? AMQPMessageFormat.decode(message.properties) : AMQPChannel.properties(deliveries[index], type),
        body: ContentBody(message.body))
    }
    connection.hasWritten()
    connection.chargeDelivered(deliveries.reduce(0) { $0 + $1.message.properties.count + $1.message.body.count })
    if let since { connection.chargeDelivering(since: since) }
    connection.checkDeliveries()
  }

  /// A message's properties, with what its queue adds.
  static func properties(_ delivery: Delivery, _ type: QueueType) -> BasicProperties {
    let properties = AMQPMessageFormat.decode(delivery.message.properties)
    switch type {
    case .classic: return properties
    case .quorum:
      guard delivery.deliveryCount > 0 else { return properties }
      return properties.adding("x-delivery-count", .int64(Int64(delivery.deliveryCount)))
    case .stream:
      let placed = properties.adding("x-stream-offset", .int64(delivery.position.offset))
      // Only members of share groups get anything again.
      guard delivery.deliveryCount > 0 else { return placed }
      return placed.adding("x-delivery-count", .int64(Int64(delivery.deliveryCount)))
    }
  }

  /// The broker has ended a consumer.
  func ended(_ consumer: AMQPConsumer, _ queueConsumer: QueueConsumer, _ reason: QueueConsumer.EndReason) {
    guard isOpen else { return }
    switch reason {
    case .queueDeleted:
      let tag = consumer.tag.text
      guard consumers[tag] === consumer else { return }
      consumers[tag] = nil
      if connection.capabilities.cancelNotify { write(BasicCancel(consumerTag: tag, noWait: true)) }
    case .timedOut: timedOut(queueConsumer)
    }
  }

  /// A delivery was not settled in time.
  func timedOut(_ consumer: QueueConsumer) {
    guard isOpen else { return }
    let time = consumer.timeout.map { " Timeout value used: \($0.inMilliseconds) ms." } ?? ""
    connection.fail(
      AMQPError(
        .preconditionFailed,
        "delivery acknowledgement on channel \(number) timed out.\(time) This timeout value can be configured, see "
          + "consumers doc guide to learn more"), on: self)
  }

  /// All consumers go; what was delivered and not settled goes back.
  func releaseConsumers(isFailure: Bool) {
    var gone = orderedConsumers.compactMap(\.queueConsumer)
    gone += getters.sorted { $0.key < $1.key }.compactMap(\.value.queueConsumer)
    var listed = Set(gone.map { ObjectIdentifier($0) })
    // Also those that were cancelled, and still hold something.
    unacknowledged.takeAll { if listed.insert(ObjectIdentifier($0.holder)).inserted { gone.append($0.holder) } }
    consumers = [:]
    getters = [:]
    // A broker that is closed has written down what is in its queues.
    if broker.isOpen { for consumer in gone { consumer.close(isFailure: isFailure) } }
    endReplies()
  }

  // MARK: Direct replies

  private func consumeReplies(_ fields: BasicConsume, _ tag: ShortString) throws(AMQPError) {
    guard replyConsumer == nil else { throw AMQPError(.preconditionFailed, "reply consumer already set") }
    guard fields.noAck else { throw AMQPError(.preconditionFailed, "reply consumer cannot acknowledge") }
    guard let address = ShortString("\(ReplyConsumer.queue).\(connection.server.token())") else { return }
    replyConsumer = ReplyConsumer(tag: tag, address: address)
    connection.server.replies[address] = self
    if !fields.noWait { write(BasicConsumeOk(consumerTag: tag.text)) }
  }

  private func endReplies() {
    if let replyConsumer { connection.server.replies[replyConsumer.address] = nil }
    replyConsumer = nil
  }

  /// A reply; one that the client does not read fast enough is dropped, since there is no queue to keep it.
  func deliverReply(_ properties: BasicProperties, _ body: ContentBody) {
    guard isOpen, let replyConsumer else { return }
    guard connection.unsentBytes < connection.server.answers.unsentLimit else { return }
    lastTag += 1
    connection.writer.deliver(
      channel: number, consumerTag: replyConsumer.tag, deliveryTag: lastTag, redelivered: false, exchange: "",
      routingKey: replyConsumer.address, properties: properties, body: body)
    connection.hasWritten()
  }
}

extension Int64 {
  fileprivate func multipliedClamped(by factor: Int64) -> Int64 {
    let (product, overflow) = multipliedReportingOverflow(by: factor)
    return overflow ? (self < 0 ? .min : .max) : product
  }
}

extension BasicProperties {
  /// These properties with one header more, which comes in the place of one of the same name.
  func adding(_ name: String, _ value: AMQPValue) -> BasicProperties {
    do throws(AMQPError) {
      return with(headers: (try headers() ?? AMQPFieldTable()).setting(name, to: value))
    } catch {
      return self
    }
  }
}
