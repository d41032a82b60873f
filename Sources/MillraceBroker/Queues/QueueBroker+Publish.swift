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
  /// Most bytes that one publication may come to in all queues that it goes to, where what is written once counts once.
  static let mostCopied = 512 << 20
  /// Most bytes that a message which is in the unit already takes in the log for one more queue.
  static let repeatedSize = 2 * StagedUnit.sharedOverhead

  /// Where messages wait for the end of the turn.
  enum Stage {
    case publications
    case transfers
    /// In a unit that must not be split.
    case unit(StagedUnit)
  }

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
      var publication = publication.detached()
      publication.due = nil
      hosted.heldPublications.append((publication, isDelayed, confirm))
    }
  }

  /// The queue knows the ids that it has seen: what was held is published.
  func publishHeld(_ hosted: HostedQueue) {
    let held = hosted.heldPublications
    hosted.heldPublications = []
    for (publication, isDelayed, confirm) in held {
      let outcome =
        hosted.isDeleted ? .kept : enqueue(publication, into: hosted, isDelayed: isDelayed, on: .publications)
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
    let all = self.size(of: publication, in: targets)
    guard all <= QueueBroker.mostCopied else {
      throw RoutingError(
        .resourceError,
        "a message of \(publication.body.count) bytes for \(targets.count) queues is more than \(QueueBroker.mostCopied) bytes"
      )
    }
    let publication = prepared(publication, for: targets.count)
    let spread = spreads(over: targets.count, all)
    let isShared = spread || targets.contains { $0.target.isRemembering }
    let shared = isShared ? confirm.map { SharedConfirm($0.publisher, $0.tag, units: 1) } : nil
    var isStaged = false
    var isRefused = false
    for (target, isDelayed) in targets {
      switch enqueue(publication, into: target, isDelayed: isDelayed, on: .publications) {
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
      + publication.routingKey.count + 128 + 2 * StagedUnit.sharedOverhead
  }

  /// Most bytes that a message takes in the log of all that it goes to, in one unit.
  func size(of publication: Publication, in targets: [(target: Target, isDelayed: Bool)]) -> Int {
    let size = QueueBroker.largestSize(of: publication)
    guard publication.body.count >= sharedBodySize else { return targets.count * size }
    // A delayed message is another record.
    var counts = (others: 0, plain: 0, delayed: 0)
    for (target, isDelayed) in targets {
      if case .queue(let hosted) = target, hosted.keepsContents {
        if isDelayed { counts.delayed += 1 } else { counts.plain += 1 }
      } else {
        counts.others += 1
      }
    }
    // One that fills a unit by itself leaves no room for others to have it, too.
    let together = 1 + max(0, mostInUnit - size) / QueueBroker.repeatedSize
    func sum(_ count: Int) -> Int {
      let copies = (count + together - 1) / together
      return copies * size + (count - copies) * QueueBroker.repeatedSize
    }
    return counts.others * size + sum(counts.plain) + sum(counts.delayed)
  }

  /// A publication whose queues share its memory and agree on its times.
  func prepared(_ publication: Publication, for count: Int) -> Publication {
    var publication = publication.detached()
    if count > 1, publication.body.count >= sharedBodySize { publication.due = due(publication) }
    return publication
  }

  /// Makes room in the open unit for what a message comes to in all. Whether that may need several units.
  private func spreads(over count: Int, _ all: Int) -> Bool {
    if publications.size + all > QueueBroker.largeUnit { flushPublications() }
    return count > 1 && all > QueueBroker.largeUnit
  }

  /// Bytes that a unit may well have: a little less than the most, for what is counted roughly.
  var mostInUnit: Int { max(broker.largestUnit - 65_536, broker.largestUnit / 2) }

  /// The unit that takes another `cost` bytes; what was there is handed to the log first when it would become too large.
  /// - Parameter isRepeated: it costs so little only because it is there already.
  private func unit(_ stage: Stage, for cost: Int, isRepeated: Bool = false) -> StagedUnit {
    switch stage {
    case .unit(let unit): return unit
    case .publications:
      if publications.size + cost > (isRepeated ? mostInUnit : QueueBroker.largeUnit) { flushPublications() }
      return publications
    case .transfers:
      // More copies than one commit takes: the last unit says that the letter is done.
      if !transfers.isEmpty, transfers.size + cost > mostInUnit { flushTransfers() }
      return transfers
    }
  }

  private func add(_ message: StagedMessage, _ hosted: HostedQueue, lane: UInt8, on stage: Stage) {
    let isShared = message.message.body.count >= sharedBodySize
    let unit: StagedUnit
    switch stage {
    case .unit(let given): unit = given
    case .publications, .transfers:
      let open = if case .publications = stage { publications } else { transfers }
      let (cost, isRepeated) = open.cost(of: message.message, isShared: isShared)
      unit = self.unit(stage, for: cost, isRepeated: isRepeated)
    }
    if isShared { unit.addShared(message, hosted, lane: lane) } else { unit.add(message, hosted, lane: lane) }
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
      guard let topic = stream(name, in: publication.virtualHost) else { return nil }
      let isChosen = publication.mayNameTopics && publication.exchange.isEmpty
      return isChosen || broker.access.isOpen ? .topic(topic) : nil
    case .topic(let name): return stream(name, in: publication.virtualHost).map { .topic($0) }
    case .exchange: return nil
    }
  }

  func enqueue(
    _ publication: Publication, into target: Target, isDelayed: Bool, on stage: Stage, isForced: Bool = false
  ) -> Outcome {
    switch target {
    case .queue(let hosted):
      return enqueue(publication, into: hosted, isDelayed: isDelayed, on: stage, isForced: isForced)
    case .topic(let topic):
      let unit = unit(stage, for: QueueBroker.largestSize(of: publication))
      return enqueue(publication, into: topic, unit: unit) ? .staged : .refused
    }
  }

  /// Puts a message into a queue, or into the unit after which it will be there.
  private func enqueue(
    _ publication: Publication, into hosted: HostedQueue, isDelayed: Bool, on stage: Stage, isForced: Bool = false
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
      add(StagedMessage(message: message, isAdmitted: asks), hosted, lane: lane, on: stage)
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
    let due = publication.due ?? due(publication)
    let notBefore = isDelayed ? due.delayed : due.plain
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

  /// When queues may deliver a publication, without and with the delay that it asks for.
  private func due(_ publication: Publication) -> (plain: Timestamp, delayed: Timestamp) {
    let plain = publication.notBefore.map { due(atWall: $0) } ?? .none
    guard let delay = publication.facts.delay, delay > 0 else { return (plain, plain) }
    return (plain, max(time(afterMilliseconds: delay), plain))
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

  /// Where a message would go.
  func targets(of publication: Publication) throws(RoutingError) -> [(target: Target, isDelayed: Bool)] {
    try route(publication, allowsInternal: false)
    return routes.routes.compactMap { route in target(route, publication).map { ($0, route.isDelayed) } }
  }

  /// Puts a message that was checked into a transaction's unit; the number of queues that it goes to.
  func publishInTransaction(_ publication: Publication, in unit: StagedUnit, isForced: Bool) -> Int {
    let targets: [(target: Target, isDelayed: Bool)]
    do throws(RoutingError) {
      targets = try self.targets(of: publication)
    } catch {
      return 0
    }
    let publication = prepared(publication, for: targets.count)
    for (target, isDelayed) in targets {
      _ = enqueue(publication, into: target, isDelayed: isDelayed, on: .unit(unit), isForced: isForced)
    }
    return targets.count
  }
}

extension Int64 {
  func addingClamped(_ other: Int64) -> Int64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? (other > 0 ? .max : .min) : sum
  }
}
