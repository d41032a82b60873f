// QueueBroker+Turn: the end of a turn: queues are pumped, and what is to be durable goes to the log.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceMetadata
import MillraceModel
import MillraceRouting

extension QueueBroker {
  /// Deliveries of one queue in one turn; then it is others' turn.
  private static let deliveriesAtOnce = 256
  /// After so many, consumers that were paused get no more.
  private static let deliveriesBetweenPauses = 16
  /// Dead letters in memory may go round; what is left is done in the next turn.
  private static let roundsAtOnce = 8

  func endTurn() {
    guard isOpen else { return }
    var rounds = 0
    while !touchedQueues.isEmpty, rounds < QueueBroker.roundsAtOnce {
      rounds += 1
      let touched = touchedQueues
      touchedQueues = []
      for hosted in touched {
        hosted.isTouched = false
        if !hosted.isDeleted { pump(hosted) }
      }
    }
    let streams = touchedStreams
    touchedStreams = []
    for consumer in streams {
      consumer.isTouched = false
      consumer.serve()
    }
    if !touchedQueues.isEmpty { planTurn() }
    flushAll()
    tellPublishers()
    spill()
    lookAtPressure()
  }

  /// Tells who publishes what is known by now.
  func tellPublishers() {
    let publishers = publishersToTell
    publishersToTell = []
    for publisher in publishers { publisher.tell() }
  }

  /// Delivers, loads, and takes what is to be committed.
  private func pump(_ hosted: HostedQueue) {
    let now = now
    if hosted.queue.isExpired(now: now) { return remove(hosted) { _ in } }
    // Its letters find no room, or are slower than it makes them: it waits, and with it what it would deliver.
    if standsStill(hosted) {
      stillQueues[ObjectIdentifier(hosted)] = hosted
      return plan(hosted, at: Timestamp(milliseconds: now.milliseconds + 50))
    }
    if !stillQueues.isEmpty { stillQueues[ObjectIdentifier(hosted)] = nil }
    let isDone = deliver(from: hosted, min(now, hosted.touchedAt))
    if hosted.isDeleted { return }
    for load in hosted.queue.takeLoads() { read(load, for: hosted) }
    if let commit = hosted.takeCommit(now: exactNow) { take(commit, of: hosted) }
    hosted.meter.observe(ready: hosted.queue.length, unacknowledged: hosted.queue.inFlightCount, now: exactNow)
    for id in hosted.queue.takeTimedOut() {
      if let consumer = hosted.consumers[id] { consumer.sink?.ended(consumer, .timedOut) }
    }
    if hosted.isDeleted { return }
    plan(hosted, at: isDone ? hosted.queue.nextDeadline() : now)
    countMemory(of: hosted)
  }

  /// Delivers a few at a time, because a consumer is paused when its connection has enough.
  /// - Returns: whether nothing more can be delivered now.
  private func deliver(from hosted: HostedQueue, _ now: Timestamp) -> Bool {
    var count = 0
    var limit = QueueBroker.deliveriesBetweenPauses
    while count < QueueBroker.deliveriesAtOnce {
      // The array is the broker's, so that its memory is used again; a sink may lead to another delivery.
      var batch = deliveries
      deliveries = []
      batch.removeAll(keepingCapacity: true)
      let got = hosted.queue.next(now: now, limit: limit, into: &batch)
      var bytes = 0
      let exactNow = exactNow
      var start = 0
      while start < batch.count {
        // Mostly one consumer's in a row.
        let id = batch[start].consumer
        var end = start
        while end < batch.count, batch[end].consumer == id {
          bytes += batch[end].message.body.count
          end += 1
        }
        if let consumer = hosted.consumers[id] {
          for index in start..<end {
            hosted.measure(batch[index], to: consumer, isNoAck: consumer.isNoAck, now: exactNow)
          }
          consumer.sink?.deliver(batch[start..<end], to: consumer)
        }
        start = end
      }
      batch.removeAll(keepingCapacity: true)
      deliveries = batch
      if got < limit || hosted.isDeleted { return true }
      count += got
      if bytes > 1 << 20 { limit = 1 }
    }
    return false
  }

  private func plan(_ hosted: HostedQueue, at due: Timestamp?) {
    if let timer = hosted.timer, due.map({ timer.due <= $0 }) ?? false, timer.timer.job != nil { return }
    hosted.timer?.timer.cancel()
    hosted.timer = nil
    guard let due else { return }
    // The longest sleep is bounded, so that times far away need no exact arithmetic.
    let delay = Duration.milliseconds(min(max(0, due.milliseconds - now.milliseconds), 86_400_000))
    // Strong, because weak references make every other one slower; the timer is cancelled with the queue and the broker.
    let timer = broker.reactor.schedule(after: delay) { [self] in
      guard !hosted.isDeleted else { return }
      hosted.timer = nil
      touched(hosted)
    }
    hosted.timer = (timer, due)
  }

  // MARK: To the log

  func flushAll() {
    flushPublications()
    flushSettlements()
    flushTransfers()
  }

  func flushPublications() {
    guard !publications.isEmpty else { return }
    let unit = publications
    publications = StagedUnit()
    unit.isOfMany = true
    append(unit, isKept: false, givesSpaceBack: false)
  }

  func flushSettlements() {
    guard !settlements.isEmpty else { return }
    let unit = settlements
    settlements = StagedUnit()
    append(unit, isKept: true, givesSpaceBack: true)
  }

  func flushTransfers() {
    guard !transfers.isEmpty else { return }
    let unit = transfers
    transfers = StagedUnit()
    append(unit, isKept: true, givesSpaceBack: unit.batches.isEmpty && unit.records.isEmpty)
  }

  /// Hands a unit to the log.
  /// - Parameter isKept: what finds no room is tried again until it does.
  func append(_ staged: StagedUnit, isKept: Bool, givesSpaceBack: Bool) {
    if isKept, !staged.isCounted, !staged.batches.isEmpty {
      staged.isCounted = true
      transferBytes += staged.size
    }
    let unit = staged.appendUnit(metadata: broker.metadata, givesSpaceBack: givesSpaceBack)
    guard !unit.events.isEmpty || !unit.batches.isEmpty else {
      // Everything it was for is gone, or nothing had to be said: what was promised is the end of what came before.
      return whenEarlierEnd { [self] error in ended(staged, error, []) }
    }
    if isKept || staged.isOfMany { unitsUnderWay.append(staged) }
    broker.log.append(unit) { [self] result in
      if let index = unitsUnderWay.firstIndex(where: { $0 === staged }) { unitsUnderWay.remove(at: index) }
      switch result {
      case .success(let appended): ended(staged, nil, appended)
      case .failure(let error): failed(staged, error, isKept: isKept, givesSpaceBack: givesSpaceBack)
      }
    }
  }

  /// A unit is durable, or never will be.
  func ended(_ staged: StagedUnit, _ error: RoutingError?, _ appended: [AppendedBatch]) {
    if staged.isCounted { transferBytes -= staged.size }
    for (index, first) in zip(staged.batches.indices, staged.firstOfLane)
    where first < appended.count && !staged.batches[index].hosted.isDeleted {
      let hosted = staged.batches[index].hosted
      // Taken out, so that nobody else has the messages.
      var messages: [StagedMessage] = []
      swap(&messages, &staged.batches[index].messages)
      // A lane's batches of one unit follow each other without gaps.
      var offset = appended[first].baseOffset
      let now = exactNow
      let wall = self.now.milliseconds
      if let first = messages.first {
        hosted.meter.arrived(messages.count, receivedAt: first.message.arrivedAt, now: now)
      }
      for at in messages.indices {
        let late = wall - messages[at].message.timestamp.milliseconds
        Message.move(&messages[at].message, to: offset, arrivedAt: now, late: late)
        hosted.queue.published(messages[at].message, wasAdmitted: messages[at].isAdmitted)
        offset += 1
      }
      touched(hosted)
    }
    for (batch, header) in staged.countedRecords where error == nil { broker.count(batch, header) }
    for (publisher, tags) in staged.tags { publisher.settle(tags, error == nil) }
    for shared in staged.shared { shared.ended(error == nil) }
    for body in staged.whenDurable { body(error) }
  }

  private func failed(_ staged: StagedUnit, _ error: LogError, isKept: Bool, givesSpaceBack: Bool) {
    let isOver = error.code == .stopped || !isOpen
    if !isOver, staged.batches.contains(where: { $0.hosted.isDeleted }) || error.code == .unknownPartition {
      // A queue was deleted while the unit waited; the others get theirs.
      return append(staged, isKept: isKept, givesSpaceBack: givesSpaceBack)
    }
    if isKept, !isOver, error.code != .tooLarge {
      delayedUnits.append(staged)
      return retryLater(error)
    }
    broker.logger.logRarely(
      .error, "queues", "messages could not be kept", "", ["error": error.description], key: "\(error.code)",
      now: broker.reactor.now)
    withdraw(staged)
    if staged.isCounted { transferBytes -= staged.size }
    ended(staged.confirms(), RoutingError(error), [])
  }

  /// The messages of a unit are not in the log, nor will they be.
  func withdraw(_ staged: StagedUnit) {
    for batch in staged.batches where !batch.hosted.isDeleted {
      for message in batch.messages where message.isAdmitted {
        batch.hosted.queue.withdrawn(
          size: message.message.size, deduplicationID: message.message.deduplicationID)
      }
    }
  }

  /// Settlements and dead letters that found no room are tried again every second, in their order.
  private func retryLater(_ error: LogError) {
    broker.logger.logRarely(
      .error, "queues", "settlements find no room in the log, and are tried again", "",
      ["error": error.description], now: broker.reactor.now)
    guard !isRetrying else { return }
    isRetrying = true
    broker.reactor.schedule(after: .seconds(1)) { [weak self] in
      guard let self, isOpen else { return }
      isRetrying = false
      let units = delayedUnits
      delayedUnits = []
      for unit in units { append(unit, isKept: true, givesSpaceBack: unit.batches.isEmpty && unit.records.isEmpty) }
    }
  }
}
