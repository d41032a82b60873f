// QueueBroker+Transactions: publications and settlements in one commit, and waiting for what is durable.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceModel
import MillraceRouting

extension QueueBroker {
  private static let tryAgainAfter = Duration.milliseconds(5)

  /// Publishes and settles in one commit.
  ///
  /// `completion` follows when all of it is durable, with the number of queues that each publication went to; what no
  /// queue takes is dropped.
  /// - Errors: those of ``QueuePublisher/publish(_:tag:)``, 406 when a queue would refuse a publication, 506 when it is more
  ///   than one commit can hold or the disk is nearly full; then nothing of it has happened. 506 when the dead letters that it
  ///   leads to do not fit: then its settlements hold until the next restart only.
  public func commit(
    _ transaction: QueueTransaction, completion: @escaping (Result<[Int], RoutingError>) -> Void
  ) {
    do throws(RoutingError) {
      if try mustWait(transaction) {
        broker.reactor.schedule(after: QueueBroker.tryAgainAfter) { [self] in
          guard isOpen else { return completion(.failure(RoutingError(.internalError, "the broker is closed"))) }
          commit(transaction, completion: completion)
        }
        return
      }
    } catch {
      return completion(.failure(error))
    }
    // Everything before it goes its own way.
    flushAll()
    let unit = StagedUnit()
    let counts = transaction.publications.map { publishInTransaction($0, in: unit, isForced: transaction.isForced) }
    var touched: [HostedQueue] = []
    for (consumer, position, settlement) in transaction.settlements {
      guard consumer.settle(position, settlement), let consumer = consumer as? HostedConsumer else { continue }
      if !touched.contains(where: { $0 === consumer.hosted }) { touched.append(consumer.hosted) }
    }
    var letters: [(hosted: HostedQueue, letter: DeadLetter)] = []
    for hosted in touched where !hosted.isDeleted {
      guard let commit = hosted.takeCommit(now: exactNow) else { continue }
      let passesOn = hosted.arguments.deadLetterExchange != nil
      let changes = passesOn ? QueueBroker.changes(commit) : commit.changes
      if hosted.isDurable { unit.add(changes, hosted) } else { forgetDone(changes, of: hosted) }
      if passesOn { letters += commit.deadLetters.map { (hosted, $0) } }
    }
    unit.whenDurable.append { error in completion(error.map { .failure($0) } ?? .success(counts)) }
    finish(unit, letters[...])
  }

  /// Checks a transaction before anything of it is done.
  /// - Returns: whether a queue is not ready for it yet.
  private func mustWait(_ transaction: QueueTransaction) throws(RoutingError) -> Bool {
    var size = 0
    var sums: [ObjectIdentifier: (hosted: HostedQueue, count: Int, bytes: Int)] = [:]
    for publication in transaction.publications {
      let targets = try targets(of: publication)
      size += self.size(of: publication, in: targets)
      for case .queue(let hosted) in targets.lazy.map(\.target) {
        if hosted.isRemembering { return true }
        var sum = sums[ObjectIdentifier(hosted)] ?? (hosted, 0, 0)
        sum.count += 1
        sum.bytes += publication.body.count
        sums[ObjectIdentifier(hosted)] = sum
      }
    }
    guard size + 4096 <= broker.largestUnit else {
      throw RoutingError(
        .resourceError, "a transaction of \(size) bytes is more than one commit of \(broker.largestUnit) takes")
    }
    guard !broker.log.isSpaceLow || transaction.publications.isEmpty else {
      throw RoutingError(.resourceError, "the disk is nearly full")
    }
    for sum in sums.values where !transaction.isForced && !sum.hosted.queue.hasRoom(for: sum.count, bytes: sum.bytes) {
      throw RoutingError(.preconditionFailed, "partial tx completion: \(sum.hosted.declaration.words) is full")
    }
    return false
  }

  /// Puts the dead letters into the transaction's unit, those that are not in memory once they were read.
  private func finish(_ unit: StagedUnit, _ letters: ArraySlice<(hosted: HostedQueue, letter: DeadLetter)>) {
    var rest = letters
    while let (hosted, first) = rest.first {
      var letter = first
      if letter.message != nil || hosted.isDeleted {
        rest.removeFirst()
        if !hosted.isDeleted { passOn(letter, Int64(letter.message?.size ?? 0), of: hosted, in: unit) }
        continue
      }
      var answer: Result<Message?, LogError>?
      var isWaiting = false
      let waiting = rest
      readOne(letter.position, of: hosted) { [self] result in
        guard isWaiting else {
          answer = result
          return
        }
        guard case .success(let message) = result else {
          broker.reactor.schedule(after: .seconds(1)) { [self] in if isOpen { finish(unit, waiting) } }
          return
        }
        letter.message = message
        passOn(letter, 0, of: hosted, in: unit)
        finish(unit, waiting.dropFirst())
      }
      isWaiting = true
      guard let answer else { return }
      guard case .success(let message) = answer else {
        broker.reactor.schedule(after: .seconds(1)) { [self] in if isOpen { finish(unit, waiting) } }
        return
      }
      letter.message = message
      passOn(letter, 0, of: hosted, in: unit)
      rest.removeFirst()
    }
    append(unit, isKept: true, givesSpaceBack: unit.batches.isEmpty && unit.records.isEmpty)
    planTurn()
  }

  // MARK: Waiting

  /// Calls `body` when all that was published and settled so far is durable, dead letters included: what an orderly close waits
  /// for. Whoever published has been told by then.
  public func whenDurable(_ body: @escaping Completion) {
    // What is settled by then nobody makes durable any more.
    guard isOpen else { return body(RoutingError(.internalError, "the broker is closed")) }
    for hosted in touchedQueues + stillQueues.values.sorted(by: { $0.queue.id < $1.queue.id }) where !hosted.isDeleted {
      if let commit = hosted.takeCommit(now: exactNow) { take(commit, of: hosted) }
    }
    let units = [publications, settlements, transfers].filter { !$0.isEmpty }
    let held = queuesWithLetters.values.sorted { $0.queue.id < $1.queue.id }
    // What was published there is in no unit yet.
    let remembering = rememberingQueues.filter { !$0.heldPublications.isEmpty }
    let wait = DurabilityWait(count: units.count + held.count + remembering.count + 1) { [self] error in
      tellPublishers()
      body(error)
    }
    for unit in units { unit.whenDurable.append { wait.ended($0) } }
    for hosted in held { hosted.afterLetters.append { [self] in whenDurable { wait.ended($0) } } }
    for hosted in remembering { hosted.afterRemembering.append { [self] in whenDurable { wait.ended($0) } } }
    whenEarlierEnd { wait.ended($0) }
    flushAll()
  }

  /// Calls `body` when what was handed to the log so far is durable. The log may have made a unit wait and refuse it later; one that
  /// is kept is tried again then, and counts until it is durable.
  func whenEarlierEnd(_ body: @escaping Completion) {
    let units = unitsUnderWay + delayedUnits
    let wait = DurabilityWait(count: units.count + 1, body)
    for unit in units { unit.whenDurable.append { wait.ended($0) } }
    broker.log.whenAllDurable { error in wait.ended(error.map { RoutingError($0) }) }
  }
}

/// Units that are not durable yet.
private final class DurabilityWait {
  private var missing: Int
  private var failure: RoutingError?
  private let body: QueueBroker.Completion

  init(count: Int, _ body: @escaping QueueBroker.Completion) {
    missing = count
    self.body = body
  }

  func ended(_ error: RoutingError?) {
    failure = failure ?? error
    missing -= 1
    if missing == 0 { body(failure) }
  }
}
