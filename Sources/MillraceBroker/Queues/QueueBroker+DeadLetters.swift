// QueueBroker+DeadLetters: what leaves a queue without being acknowledged, on its way to the dead-letter exchange.
//
// A letter's copies and its being done with are one unit, so that it is in its queue or in the others, never in both or
// neither. Only a letter whose copies are more than one commit takes is spread over several, the last of which says that it is
// done: a crash in between leaves it in its queue as well. Letters of a queue go one after the other; what is no longer in
// memory is read first. What else a queue's commit holds does not wait for them.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceModel
import MillraceRouting

extension QueueBroker {
  /// Bytes of dead letters that are not durable yet, beyond which queues that would make more stand still.
  static let mostTransferBytes = 64 << 20
  /// Letters of one queue that wait, beyond which it stands still.
  static let mostLetters = 10_000
  private static let readAgainAfter = Duration.seconds(5)

  /// Takes what a queue gave: settlements go into this turn's unit, dead letters on their way.
  func take(_ commit: QueueCommit, of hosted: HostedQueue) {
    guard hosted.arguments.deadLetterExchange != nil, !commit.deadLetters.isEmpty else {
      return stage(commit.changes, of: hosted)
    }
    stage(QueueBroker.changes(commit), of: hosted)
    for letter in commit.deadLetters { hosted.letters.append((letter, Int64(letter.message?.size ?? 0))) }
    passLetters(of: hosted)
  }

  /// The changes of a commit without those letters being done.
  static func changes(_ commit: QueueCommit) -> [QueueChange] {
    commit.changes.compactMap { change in
      guard case .done(let lane, let ranges, let bytes) = change else { return change }
      var offsets: [Offset] = []
      var size: Int64 = 0
      for letter in commit.deadLetters where letter.position.lane == lane {
        offsets.append(letter.position.offset)
        size += Int64(letter.message?.size ?? 0)
      }
      guard !offsets.isEmpty else { return change }
      offsets.sort()
      let rest = ranges.flatMap { $0.without(offsets) }
      return rest.isEmpty && bytes <= size ? nil : .done(lane: lane, ranges: rest, bytes: max(0, bytes - size))
    }
  }

  private func stage(_ changes: [QueueChange], of hosted: HostedQueue) {
    guard !changes.isEmpty else { return }
    guard hosted.isDurable else { return forgetDone(changes, of: hosted) }
    settlements.add(changes, hosted)
    if settlements.size > QueueBroker.largeUnit { flushSettlements() }
  }

  /// Whether a queue must not make more dead letters for now.
  func standsStill(_ hosted: HostedQueue) -> Bool {
    hosted.arguments.deadLetterExchange != nil
      && (transferBytes > QueueBroker.mostTransferBytes || hosted.letters.count > QueueBroker.mostLetters)
  }

  // MARK: One after the other

  /// Passes the letters of a queue on, as far as they are in memory, or can be read at once.
  func passLetters(of hosted: HostedQueue) {
    guard !hosted.isPassingLetters else { return }
    hosted.isPassingLetters = true
    queuesWithLetters[ObjectIdentifier(hosted)] = hosted
    while let (letter, bytes) = hosted.letters.first, !hosted.isDeleted {
      guard letter.message == nil else {
        hosted.letters.removeFirst()
        passOn(letter, bytes, of: hosted, in: nil)
        continue
      }
      // An answer that comes at once must not lead here again: the stack would grow with the letters.
      var answer: Result<Message?, LogError>?
      var isWaiting = false
      readOne(letter.position, of: hosted) { [self] result in
        guard isWaiting else {
          answer = result
          return
        }
        hosted.isPassingLetters = false
        if read(result, of: hosted) { passLetters(of: hosted) }
      }
      isWaiting = true
      guard let answer else { return }
      if !read(answer, of: hosted) {
        hosted.isPassingLetters = false
        return
      }
    }
    hosted.isPassingLetters = false
    queuesWithLetters[ObjectIdentifier(hosted)] = nil
    planTurn()
    hosted.tellAfterLetters()
  }

  /// The first letter was read, or not.
  /// - Returns: whether to go on at once.
  private func read(_ result: Result<Message?, LogError>, of hosted: HostedQueue) -> Bool {
    guard !hosted.isDeleted, var (letter, bytes) = hosted.letters.first else { return true }
    switch result {
    case .success(let message):
      hosted.letters.removeFirst()
      letter.message = message
      passOn(letter, bytes, of: hosted, in: nil)
      return true
    case .failure:
      // It stays at the head rather than be lost.
      bytes = 0
      broker.reactor.schedule(after: QueueBroker.readAgainAfter) { [weak self, weak hosted] in
        guard let self, let hosted, isOpen else { return }
        passLetters(of: hosted)
      }
      return false
    }
  }

  /// Publishes one letter and says that it is done, in `unit` or in this turn's transfers; or keeps it because no queue takes
  /// it. One without content is not in the log any more.
  func passOn(_ letter: DeadLetter, _ bytes: Int64, of hosted: HostedQueue, in unit: StagedUnit?) {
    let position = letter.position
    if let message = letter.message {
      let isLasting = hosted.arguments.deadLetterStrategy == .atLeastOnce
      guard let made = self.letter(of: message, from: hosted, reason: letter.reason) else {
        if isLasting { return keepUnroutable(letter, of: hosted) }
        return done(position, bytes, of: hosted, in: unit)
      }
      let targets = targets(of: made, by: hosted)
      if targets.isEmpty, isLasting { return keepUnroutable(letter, of: hosted) }
      publish(made, to: targets, in: unit)
    }
    done(position, bytes, of: hosted, in: unit)
    if unit == nil, transfers.size > QueueBroker.largeUnit { flushTransfers() }
  }

  private func done(_ position: Position, _ bytes: Int64, of hosted: HostedQueue, in unit: StagedUnit?) {
    let change = QueueChange.done(
      lane: position.lane, ranges: [position.offset..<(position.offset + 1)], bytes: bytes)
    if hosted.isDurable { (unit ?? transfers).add([change], hosted) } else { forgetDone([change], of: hosted) }
  }

  private func publish(_ letter: Publication, to targets: [(target: Target, isDelayed: Bool)], in unit: StagedUnit?) {
    let letter = prepared(letter, for: targets.count)
    if unit == nil, !transfers.isEmpty, transfers.size + size(of: letter, in: targets) > mostInUnit {
      flushTransfers()
    }
    for (target, isDelayed) in targets {
      // Dead letters are never held or refused: they are no publication that somebody repeats.
      _ = enqueue(
        letter, into: target, isDelayed: isDelayed, on: unit.map { .unit($0) } ?? .transfers, isForced: true)
    }
    planTurn()
  }

  // MARK: The letter

  /// The letter as it is published; nil when its properties are not understood, which is said.
  private func letter(
    of message: Message, from hosted: HostedQueue, reason: DeadLetterReason
  ) -> Publication? {
    guard let format = formats[message.format] else {
      broker.logger.logRarely(
        .error, "queues", "a dead letter's properties are not understood", "",
        ["queue": hosted.name, "format": "\(message.format)"], now: broker.reactor.now)
      return nil
    }
    var facts = format.facts(message.properties)
    facts.isPersistent = message.isDurable
    var original = Publication(
      virtualHost: hosted.virtualHost, exchange: Bytes(message.exchange), routingKey: Bytes(message.routingKey),
      format: format, properties: message.properties, body: message.body, facts: facts)
    original.isDetached = true
    return letter(of: original, from: hosted, reason: reason)
  }

  private func letter(of original: Publication, from hosted: HostedQueue, reason: DeadLetterReason) -> Publication {
    let key = hosted.arguments.deadLetterRoutingKey
    let format = original.format
    var letter = original
    letter.exchange = Bytes(hosted.arguments.deadLetterExchange ?? "")
    letter.routingKey = key.map { Bytes($0) } ?? original.routingKey
    letter.properties = format.deadLettered(
      original.properties,
      MessageDeath(
        queue: hosted.name, reason: reason.rawValue, exchange: original.exchange.text,
        routingKeys: [original.routingKey] + original.facts.extraKeys, time: broker.reactor.wallClock,
        isKeyReplaced: key != nil))
    letter.mayNameTopics = key != nil
    letter.facts.timeToLive = nil
    letter.facts.delay = format.facts(letter.properties).delay
    if key != nil { letter.facts.extraKeys = [] }
    return letter
  }

  /// Who takes a letter: nobody when the exchange is not there, as in RabbitMQ; not a queue that it came from in a circle, and no topic
  /// whose rules refuse it.
  private func targets(of letter: Publication, by hosted: HostedQueue) -> [(target: Target, isDelayed: Bool)] {
    do throws(RoutingError) {
      try route(letter, allowsInternal: true)
    } catch {
      return []
    }
    let deaths = letter.format.deaths(letter.properties)
    var targets: [(target: Target, isDelayed: Bool)] = []
    for route in routes.routes {
      guard let target = target(route, letter) else { continue }
      switch target {
      case .queue(let hosted): if QueueBroker.isCycle(hosted.name, deaths) { continue }
      case .topic(let topic): if !accepts(letter, topic) { continue }
      }
      targets.append((target, route.isDelayed))
    }
    return targets
  }

  /// A full queue refuses a publication and dead-letters it.
  func refuse(_ publication: Publication, by hosted: HostedQueue) {
    guard hosted.arguments.deadLetterExchange != nil else { return }
    let refused = letter(of: publication, from: hosted, reason: .maxlen)
    let targets = targets(of: refused, by: hosted)
    let letter = prepared(refused, for: targets.count)
    for (target, isDelayed) in targets {
      _ = enqueue(letter, into: target, isDelayed: isDelayed, on: .publications, isForced: true)
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
