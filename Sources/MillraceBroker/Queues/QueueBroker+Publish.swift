// QueueBroker+Publish: from an exchange into queues.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceMetadata
import MillraceModel
import MillraceRouting

extension QueueBroker {
  /// A unit is handed to the log when it has become so large, not only at the end of the turn.
  static let largeUnit = 4 << 20

  /// What became of a message at one queue.
  private enum Outcome {
    /// Memory has it.
    case kept
    /// A unit has it.
    case staged
    /// It waits until the queue knows the ids that it has seen.
    case held
    case refused
    /// It had been published before.
    case duplicate
  }

  /// Where a message ends.
  private enum Target {
    case queue(HostedQueue)
    case topic(TopicMetadata)

    var isRemembering: Bool { if case .queue(let hosted) = self { hosted.isRemembering } else { false } }

    func hold(_ publication: Publication, isDelayed: Bool, _ confirm: SharedConfirm?) {
      guard case .queue(let hosted) = self else { return }
      confirm?.expectOneMore()
      hosted.heldPublications.append((publication, isDelayed, confirm))
    }
  }

  /// The queue knows the ids that it has seen: what was held is published.
  func publishHeld(_ hosted: HostedQueue) {
    let held = hosted.heldPublications
    hosted.heldPublications = []
    for (publication, isDelayed, confirm) in held {
      let outcome =
        hosted.isDeleted
        ? .kept : enqueue(publication, into: hosted, isDelayed: isDelayed, unit: publications)
      if case .staged = outcome, let confirm { publications.add(confirm) }
      if case .refused = outcome { confirm?.ended(false) } else { confirm?.ended(true) }
      if publications.size > QueueBroker.largeUnit { flushPublications() }
    }
    planTurn()
  }

  func publish(
    _ publication: Publication, _ confirm: (publisher: QueuePublisher, tag: UInt64)?
  ) throws(RoutingError) -> Int {
    guard isOpen, broker.isOpen else { throw RoutingError(.internalError, "the broker is closed") }
    try route(publication, allowsInternal: false)
    var targets: [(target: Target, isDelayed: Bool)] = []
    for route in routes.routes {
      if let target = target(route, publication) { targets.append((target, route.isDelayed)) }
    }
    guard !targets.isEmpty else { return 0 }
    let size = QueueBroker.largestSize(of: publication)
    guard size + 1024 <= broker.largestUnit else {
      throw RoutingError(
        .resourceError,
        "a message of \(publication.body.count) bytes is more than one commit of \(broker.largestUnit) takes")
    }
    let spread = spreads(publication, over: targets.count, size: size)
    let isShared = spread || targets.contains { $0.target.isRemembering }
    let shared = isShared ? confirm.map { SharedConfirm($0.publisher, $0.tag, units: 1) } : nil
    var isStaged = false
    var isRefused = false
    for (target, isDelayed) in targets {
      if spread, publications.size + size > QueueBroker.largeUnit { flushPublications() }
      switch enqueue(publication, into: target, isDelayed: isDelayed, unit: publications) {
      case .kept, .duplicate: break
      case .staged:
        isStaged = true
        if let shared { publications.add(shared) }
      case .held: target.hold(publication, isDelayed: isDelayed, shared)
      case .refused: isRefused = true
      }
    }
    planTurn()
    if let shared {
      shared.ended(!isRefused)
    } else if let (publisher, tag) = confirm {
      if isRefused, isStaged {
        // Refused by one, taken by another: the answer comes when all is done.
        let refusal = SharedConfirm(publisher, tag, units: 1)
        publications.add(refusal)
        refusal.ended(false)
      } else if isRefused || !isStaged {
        publisher.settle(tag, !isRefused)
      } else {
        publications.tags.append((publisher, tag))
      }
    }
    return targets.count
  }

  /// Most bytes that a message takes in the log of one queue.
  static func largestSize(of publication: Publication) -> Int {
    // A group key or an id is part of the properties, and is kept beside them once more.
    publication.body.count + 3 * publication.properties.count + publication.exchange.count
      + publication.routingKey.count + 512
  }

  /// Makes room in the open unit. Whether the copies of the message may need several.
  private func spreads(_ publication: Publication, over count: Int, size: Int) -> Bool {
    if publications.size + count * size > QueueBroker.largeUnit { flushPublications() }
    return count > 1 && count * size > QueueBroker.largeUnit
  }

  private func route(_ publication: Publication, allowsInternal: Bool) throws(RoutingError) {
    let format = publication.format
    let properties = publication.properties
    try broker.metadata.route(
      to: publication.exchange, in: publication.virtualHost, key: publication.routingKey,
      extraKeys: publication.facts.extraKeys, allowsInternal: allowsInternal,
      headers: { format.headers(properties) }, property: { format.property($0, properties) }, random: &random,
      into: &routes)
  }

  private func target(_ route: RouteResult.Route, _ publication: Publication) -> Target? {
    switch route.destination {
    case .queue(let name):
      if let hosted = queues[QueueName(virtualHost: publication.virtualHost, name: name)] { return .queue(hosted) }
      return stream(name, in: publication.virtualHost).map { .topic($0) }
    case .topic(let name): return stream(name, in: publication.virtualHost).map { .topic($0) }
    case .exchange: return nil
    }
  }

  private func enqueue(
    _ publication: Publication, into target: Target, isDelayed: Bool, unit: StagedUnit, isForced: Bool = false
  ) -> Outcome {
    switch target {
    case .queue(let hosted):
      return enqueue(publication, into: hosted, isDelayed: isDelayed, unit: unit, isForced: isForced)
    case .topic(let topic): return enqueue(publication, into: topic, unit: unit) ? .staged : .refused
    }
  }

  /// Puts a message into a queue, or into the unit after which it will be there.
  private func enqueue(
    _ publication: Publication, into hosted: HostedQueue, isDelayed: Bool,
    unit: StagedUnit, isForced: Bool = false
  ) -> Outcome {
    let now = now
    let options = hosted.queue.options
    let id = options.deduplicationCount > 0 ? publication.facts.messageID : nil
    if hosted.isRemembering, !isForced { return .held }
    let asks = !isForced && (options.overflow != .dropHead || id != nil)
    if asks {
      switch hosted.queue.admit(size: publication.body.count, deduplicationID: id?.detached, now: now) {
      case .accepted: break
      case .duplicate: return .duplicate
      case .rejected:
        hosted.meter.refused(isDeadLettered: false)
        return .refused
      case .rejectedDeadLetter:
        hosted.meter.refused(isDeadLettered: hosted.arguments.deadLetterExchange != nil)
        refuse(publication, by: hosted)
        return .refused
      }
    }
    let lane = options.lane(forPriority: publication.facts.priority)
    if hosted.isDurable {
      let message = message(of: publication, for: hosted, lane: lane, at: 0, isDelayed: isDelayed, id: id)
      unit.add(StagedMessage(message: message, isAdmitted: asks), hosted, lane: lane)
      return .staged
    }
    let offset = hosted.memory[lane, default: MemoryLane()].end
    hosted.meter.arrived(receivedAt: exactNow, now: exactNow)
    let message = message(of: publication, for: hosted, lane: lane, at: offset, isDelayed: isDelayed, id: id)
    hosted.memory[lane, default: MemoryLane()].append(message)
    hosted.queue.published(message)
    touched(hosted)
    return .kept
  }

  private func message(
    of publication: Publication, for hosted: HostedQueue, lane: UInt8, at offset: Offset, isDelayed: Bool, id: Bytes?
  ) -> Message {
    let now = now
    var notBefore = Timestamp.none
    if isDelayed, let delay = publication.facts.delay, delay > 0 {
      notBefore = Timestamp(milliseconds: now.milliseconds.addingClamped(delay))
    }
    if let time = publication.notBefore { notBefore = max(notBefore, due(time, now, broker.reactor.wallClock)) }
    var expiration = Timestamp.none
    if let life = publication.facts.timeToLive {
      expiration = Timestamp(milliseconds: max(now, notBefore).milliseconds.addingClamped(max(life, 0)))
    }
    let group = hosted.arguments.groupHeader.flatMap { publication.format.header($0, publication.properties) }
    return Message(
      offset: offset, priority: lane, timestamp: now, exchange: publication.exchange.text,
      routingKey: publication.routingKey.text,
      properties: publication.isDetached ? publication.properties : publication.properties.detached,
      body: publication.isDetached ? publication.body : publication.body.detached, size: publication.body.count,
      expiration: expiration, notBefore: notBefore,
      groupKey: group?.detached, deduplicationID: id?.detached, isDurable: publication.facts.isPersistent,
      format: publication.format.code, arrivedAt: exactNow)
  }

  // MARK: Transactions

  /// How many queues a message would go to.
  /// - Throws: 403, 404, 530 as a publication does.
  public func routeCount(_ publication: Publication) throws(RoutingError) -> Int {
    try route(publication, allowsInternal: false)
    return routes.routes.count { target($0, publication) != nil }
  }

  /// Whether messages may be published to an exchange.
  /// - Throws: 404 when it is not there, 403 when it is internal, 530 without such a virtual host.
  public func checkPublish(to exchange: String, in virtualHost: String) throws(RoutingError) {
    guard hasVirtualHost(virtualHost) else {
      throw RoutingError.noVirtualHost(virtualHost)
    }
    guard let found = routing.exchange(exchange, in: virtualHost) else {
      throw RoutingError(.notFound, "no exchange '\(exchange)' in vhost '\(virtualHost)'")
    }
    guard !found.isInternal else {
      throw RoutingError(
        .accessRefused, "cannot publish to internal exchange '\(exchange)' in vhost '\(virtualHost)'")
    }
  }

  /// Puts a message that was checked into the unit of transfers; the number of queues that it goes to.
  func publishInTransaction(_ publication: Publication, isForced: Bool) -> Int {
    do throws(RoutingError) {
      try route(publication, allowsInternal: false)
    } catch {
      return 0
    }
    var count = 0
    for route in routes.routes {
      guard let target = target(route, publication) else { continue }
      count += 1
      if case .held = enqueue(
        publication, into: target, isDelayed: route.isDelayed, unit: transfers, isForced: isForced)
      {
        target.hold(publication, isDelayed: route.isDelayed, nil)
      }
    }
    return count
  }

  // MARK: Dead letters

  /// A full queue refuses a message and dead-letters it.
  private func refuse(_ publication: Publication, by hosted: HostedQueue) {
    var letter = publication
    letter.facts.isPersistent = publication.facts.isPersistent
    pass(letter, from: hosted, reason: .maxlen, unit: publications)
  }

  /// Passes a message that left a queue on to the queue's dead-letter exchange, if it has one that is there.
  func pass(
    _ message: Message, from hosted: HostedQueue, reason: DeadLetterReason
  ) {
    guard hosted.arguments.deadLetterExchange != nil else { return }
    guard let format = formats[message.format] else {
      broker.logger.logRarely(
        .error, "queues", "a dead letter's properties are not understood; it is dropped", "",
        ["queue": hosted.name, "format": "\(message.format)"], now: broker.reactor.now)
      return
    }
    var facts = format.facts(message.properties)
    facts.isPersistent = message.isDurable
    pass(
      Publication(
        virtualHost: hosted.virtualHost, exchange: Bytes(message.exchange), routingKey: Bytes(message.routingKey),
        format: format, properties: message.properties, body: message.body, facts: facts),
      from: hosted, reason: reason, unit: transfers)
  }

  /// Whether any queue would get a message that left a queue.
  func canPass(_ message: Message, from hosted: HostedQueue) -> Bool {
    guard let exchange = hosted.arguments.deadLetterExchange, let format = formats[message.format] else { return true }
    var facts = format.facts(message.properties)
    if hosted.arguments.deadLetterRoutingKey != nil { facts.extraKeys = [] }
    do throws(RoutingError) {
      try route(
        Publication(
          virtualHost: hosted.virtualHost, exchange: Bytes(exchange),
          routingKey: Bytes(hosted.arguments.deadLetterRoutingKey ?? message.routingKey), format: format,
          properties: message.properties, body: Bytes(), facts: facts), allowsInternal: true)
    } catch {
      return false
    }
    let probe = Publication(
      virtualHost: hosted.virtualHost, exchange: Bytes(), routingKey: Bytes(), format: format, properties: Bytes(),
      body: Bytes(), facts: MessageFacts())
    return routes.routes.contains { target($0, probe) != nil }
  }

  private func pass(
    _ original: Publication, from hosted: HostedQueue, reason: DeadLetterReason,
    unit: StagedUnit
  ) {
    guard let exchange = hosted.arguments.deadLetterExchange else { return }
    let key = hosted.arguments.deadLetterRoutingKey
    let format = original.format
    var letter = original
    letter.exchange = Bytes(exchange)
    letter.routingKey = key.map { Bytes($0) } ?? original.routingKey
    letter.properties = format.deadLettered(
      original.properties,
      MessageDeath(
        queue: hosted.name, reason: reason.rawValue, exchange: original.exchange.text,
        routingKeys: [original.routingKey] + original.facts.extraKeys, time: broker.reactor.wallClock,
        isKeyReplaced: key != nil))
    letter.facts.timeToLive = nil
    letter.facts.delay = format.facts(letter.properties).delay
    if key != nil { letter.facts.extraKeys = [] }
    do throws(RoutingError) {
      try route(letter, allowsInternal: true)
    } catch {
      // No such exchange: the letter is dropped, as in RabbitMQ.
      return
    }
    let deaths = format.deaths(letter.properties)
    for route in routes.routes {
      guard let target = target(route, letter) else { continue }
      if case .queue(let hosted) = target, QueueBroker.isCycle(hosted.name, deaths) { continue }
      // Dead letters are never held: they are no publication that somebody repeats.
      _ = enqueue(letter, into: target, isDelayed: route.isDelayed, unit: unit, isForced: true)
    }
    planTurn()
  }

  /// Whether a message came to `queue` before and left it, and everything since, without anybody's rejecting it.
  /// Source: RabbitMQ, `rabbit_dead_letter:is_cycle`.
  private static func isCycle(_ queue: String, _ deaths: [(queue: String, reason: String)]) -> Bool {
    for death in deaths {
      if death.reason == DeadLetterReason.rejected.rawValue { return false }
      if death.queue == queue { return true }
    }
    return false
  }
}

extension Int64 {
  func addingClamped(_ other: Int64) -> Int64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? (other > 0 ? .max : .min) : sum
  }
}
