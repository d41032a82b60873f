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
  /// Most bytes of a message that is published without being looked at.
  static let largestPlain = 64 << 10
  /// Most bytes that one publication may come to in all queues that it goes to.
  static let mostCopied = 512 << 20

  /// What became of a message at one queue.
  enum Outcome {
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
  enum Target {
    case queue(HostedQueue)
    case topic(TopicMetadata)

    var isRemembering: Bool { if case .queue(let hosted) = self { hosted.isRemembering } else { false } }

    func hold(_ publication: Publication, isDelayed: Bool, _ confirm: SharedConfirm?) {
      guard case .queue(let hosted) = self else { return }
      confirm?.expectOneMore()
      hosted.heldPublications.append((publication.detached(), isDelayed, confirm))
    }
  }

  /// The queue knows the ids that it has seen: what was held is published.
  func publishHeld(_ hosted: HostedQueue) {
    let held = hosted.heldPublications
    hosted.heldPublications = []
    for (publication, isDelayed, confirm) in held {
      if publications.size + QueueBroker.largestSize(of: publication) > QueueBroker.largeUnit { flushPublications() }
      let outcome =
        hosted.isDeleted
        ? .kept : enqueue(publication, into: hosted, isDelayed: isDelayed, unit: publications)
      if case .staged = outcome, let confirm { publications.add(confirm) }
      if case .duplicate = outcome, let confirm { publications.add(confirm) }
      if case .refused = outcome { confirm?.ended(false) } else { confirm?.ended(true) }
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
    guard targets.count * size <= QueueBroker.mostCopied else {
      throw RoutingError(
        .resourceError,
        "a message of \(publication.body.count) bytes for \(targets.count) queues is more than \(QueueBroker.mostCopied) bytes"
      )
    }
    // Once for all queues.
    let publication = publication.detached()
    let spread = spreads(publication, over: targets.count, size: size)
    let isShared = spread || targets.contains { $0.target.isRemembering }
    let shared = isShared ? confirm.map { SharedConfirm($0.publisher, $0.tag, units: 1) } : nil
    var isStaged = false
    var isRefused = false
    for (target, isDelayed) in targets {
      if spread, publications.size + size > QueueBroker.largeUnit { flushPublications() }
      switch enqueue(publication, into: target, isDelayed: isDelayed, unit: publications) {
      case .kept: break
      case .duplicate:
        // The first copy may not be durable yet: the answer comes behind it.
        isStaged = true
        if let shared { publications.add(shared) }
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
        publications.addTag(tag, of: publisher)
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

  func route(_ publication: Publication, allowsInternal: Bool) throws(RoutingError) {
    let format = publication.format
    let properties = publication.properties
    try broker.metadata.route(
      to: publication.exchange, in: publication.virtualHost, key: publication.routingKey,
      extraKeys: publication.facts.extraKeys, allowsInternal: allowsInternal,
      headers: { format.headers(properties) }, property: { format.property($0, properties) }, random: &random,
      into: &routes)
  }

  func target(_ route: RouteResult.Route, _ publication: Publication) -> Target? {
    switch route.destination {
    case .queue(let name):
      if let hosted = queues[QueueName(virtualHost: publication.virtualHost, name: name)] { return .queue(hosted) }
      return stream(name, in: publication.virtualHost).map { .topic($0) }
    case .topic(let name): return stream(name, in: publication.virtualHost).map { .topic($0) }
    case .exchange: return nil
    }
  }

  func enqueue(
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
    let message = message(
      of: publication, for: hosted, lane: lane, at: hosted.memory.change(lane) { $0.end }, isDelayed: isDelayed, id: id)
    keep(message, in: hosted)
    return .kept
  }

  /// Puts a message into a queue that memory alone keeps.
  private func keep(_ message: Message, in hosted: HostedQueue) {
    hosted.arrived(now: message.arrivedAt)
    hosted.memory.change(message.priority) { $0.append(message) }
    hosted.queue.published(message)
    touched(hosted)
  }

  /// Publishes to a queue that takes everything, by default exchange: see ``QueuePublisher``.
  /// - Returns: false when the message needs more care; nothing has happened then.
  func publish(
    properties: Bytes, body: Bytes, isPersistent: Bool, priority: UInt8, to latest: QueuePublisher.Latest,
    _ confirm: (publisher: QueuePublisher, tag: UInt64)?
  ) -> Bool {
    let hosted = latest.hosted
    guard hosted.isPlain, !hosted.isRemembering, body.count + properties.count < QueueBroker.largestPlain else {
      return false
    }
    let lane = hosted.lane(forPriority: priority)
    let exact = exactNow
    let offset = hosted.isDurable ? 0 : hosted.memory.change(lane) { $0.end }
    let message = Message(
      offset: offset, priority: lane, timestamp: Timestamp(milliseconds: exact.nanoseconds / 1_000_000),
      routingKey: latest.routingKeyText, properties: properties.isNothing ? .nothing : properties.detached,
      body: body.detached, size: body.count, isDurable: isPersistent, format: latest.formatCode, arrivedAt: exact)
    guard hosted.isDurable else {
      keep(message, in: hosted)
      if let (publisher, tag) = confirm { publisher.settle(tag, true) }
      return true
    }
    if publications.size > QueueBroker.largeUnit - QueueBroker.largestPlain - 1024 { flushPublications() }
    publications.add(StagedMessage(message: message, isAdmitted: false), hosted, lane: lane)
    if let confirm { publications.addTag(confirm.tag, of: confirm.publisher) }
    planTurn()
    return true
  }

  private func message(
    of publication: Publication, for hosted: HostedQueue, lane: UInt8, at offset: Offset, isDelayed: Bool, id: Bytes?
  ) -> Message {
    let now = now
    var notBefore = Timestamp.none
    if isDelayed, let delay = publication.facts.delay, delay > 0 {
      notBefore = time(afterMilliseconds: delay)
    }
    if let time = publication.notBefore { notBefore = max(notBefore, due(atWall: time)) }
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

  /// The queues with rules of their own that a message would go to.
  func targets(of publication: Publication) throws(RoutingError) -> [HostedQueue] {
    try route(publication, allowsInternal: false)
    return routes.routes.compactMap { route in
      guard case .queue(let hosted) = target(route, publication) else { return nil }
      return hosted
    }
  }

  /// Puts a message that was checked into a transaction's unit; the number of queues that it goes to.
  func publishInTransaction(_ publication: Publication, in unit: StagedUnit, isForced: Bool) -> Int {
    do throws(RoutingError) {
      try route(publication, allowsInternal: false)
    } catch {
      return 0
    }
    var count = 0
    for route in routes.routes {
      guard let target = target(route, publication) else { continue }
      count += 1
      _ = enqueue(publication, into: target, isDelayed: route.isDelayed, unit: unit, isForced: isForced)
    }
    return count
  }
}

extension Int64 {
  func addingClamped(_ other: Int64) -> Int64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? (other > 0 ? .max : .min) : sum
  }
}
