// QueueWorld+Host: what the host does: loads, commits, consumers, restarts; and the random histories.

import MillraceBase
import MillraceModel

@testable import MillraceDelivery

extension QueueWorld {
  // MARK: loads

  mutating func answerLoads(all: Bool) {
    loads += queue.takeLoads()
    while !loads.isEmpty, all || random.oneIn(2) {
      let load = loads.removeFirst()
      let log = naive.lanes[load.lane]!
      var whole = load.offset
      var bytes = 0
      while whole < Offset(log.count), whole < load.offset + Offset(load.count), bytes < max(load.bytes, 1) {
        bytes += log[Int(whole)].message.size
        whole += 1
      }
      let end = random.oneIn(4) ? Offset.random(in: load.offset + 1...whole, using: &random) : whole
      var found = log[Int(load.offset)..<Int(end)].filter { !$0.isLost }.map(\.message)
      if !found.isEmpty, strikes(.messageLost) { found.removeLast() }
      queue.loaded(load, messages: found, through: end)
      loads += queue.takeLoads()
    }
  }

  // MARK: commits

  /// Takes the commit, checks all of it, and applies it to what is durable.
  mutating func commit() throws(Violation) {
    if var commit = queue.takeCommit() {
      if !commit.deadLetters.isEmpty, strikes(.deadLetterForgotten) { commit.deadLetters.removeLast() }
      if !commit.deadLetters.isEmpty, strikes(.reasonWrong) {
        commit.deadLetters[0].reason = commit.deadLetters[0].reason == .rejected ? .maxlen : .rejected
      }
      for letter in commit.deadLetters { try check(letter) }
      for change in commit.changes {
        try check(change)
        if case .done = change, strikes(.changeForgotten) { continue }
        if case .counted = change, strikes(.countForgotten) { continue }
        durable.apply(try copy(change))
      }
    }
    for position in naive.positions where naive[position]!.mustLeave {
      throw Violation(description: "\(position) should have left (\(naive[position]!.reason?.rawValue ?? "done"))")
    }
    naive.forget()
    committed = naive
  }

  private func copy(_ change: QueueChange) throws(Violation) -> QueueChange {
    var writer = ByteWriter()
    change.encode(to: &writer)
    var reader = ByteReader(writer.finishJoined())
    let read: QueueChange
    do throws(DecodingError) {
      read = try QueueChange(from: &reader)
    } catch { throw Violation(description: "\(change): \(error)") }
    try require(read == change && reader.remaining == 0, "\(change) was read back as \(read)")
    return read
  }

  private mutating func check(_ letter: DeadLetter) throws(Violation) {
    let position = letter.position
    guard let entry = naive[position], entry.state != .done else {
      throw Violation(description: "\(position) dead-lettered after it was done")
    }
    try require(letter.message == nil || letter.message === entry.message, "\(position) left with other content")
    try require(letter.deliveryCount == entry.count, "\(position) dead-lettered with count \(letter.deliveryCount)")
    switch letter.reason {
    case .rejected, .deliveryLimit:
      try require(entry.reason == letter.reason, "\(position) dead-lettered as \(letter.reason)")
    case .expired:
      try require(entry.state == .ready && !entry.mustLeave, "\(position) expired while \(entry.state)")
      try require(naive.lastMoment(entry.message) < now, "\(position) expired before its time")
    case .maxlen:
      let isTooLong =
        options.maximumLength.map { naive.length > $0 } ?? false
        || options.maximumBytes.map { length(bytes: naive) > $0 } ?? false
      // The size of what the log has lost is not known.
      let isExact = options.maximumBytes == nil || !naive.lanes.values.joined().contains(where: \.isLost)
      try require(
        (isTooLong || !isExact) && options.overflow == .dropHead, "\(position) dropped, the queue is not too long")
      try require(entry.state == .ready && !entry.mustLeave, "\(position) dropped while \(entry.state)")
      if !hasDelays, !options.isKeyOrdered, options.retryDelay.kind == .disabled {
        let lane = naive.lanes[position.lane]!
        let older = lane[..<Int(position.offset)].first {
          $0.state == .ready && !$0.mustLeave && !$0.isLost && $0.due <= now
        }
        try require(older == nil, "\(position) dropped before \(older?.message.offset ?? -1)")
      }
    }
    naive.change(position) {
      $0.mustLeave = true
      $0.reason = letter.reason
    }
    letters.insert(position)
  }

  private mutating func check(_ change: QueueChange) throws(Violation) {
    switch change {
    case .counted(let lane, let offset, let count):
      let entry = naive[Position(lane: lane, offset: offset)]!
      try require(entry.count == count && entry.state != .done, "\(lane):\(offset) counted \(count), is \(entry.count)")
    case .delayed(let lane, let offset, let until):
      let wait = until.milliseconds - now
      try require(wait > 0 && wait <= 60, "\(lane):\(offset) delayed by \(wait)")
      naive.change(Position(lane: lane, offset: offset)) { $0.due = until.milliseconds }
    case .done(let lane, let ranges, _):
      for range in ranges {
        for offset in range {
          let position = Position(lane: lane, offset: offset)
          guard let entry = naive[position] else { throw Violation(description: "\(position) is done, and was never") }
          try require(entry.state != .done, "\(position) is done twice")
          try require(entry.mustLeave || entry.isLost && !entry.isInFlight, "\(position) is done, nobody said so")
          try require(
            entry.reason == nil || letters.contains(position), "\(position) left without its dead letter")
          naive.change(position) {
            $0.state = .done
            $0.mustLeave = false
          }
        }
      }
    }
  }

  // MARK: consumers and restarts

  mutating func addConsumer() throws(Violation) {
    guard naive.consumers.count < 6 else { return }
    var consumer = ConsumerOptions()
    consumer.credit = random.oneIn(3) ? 0 : Int.random(in: 1...4, using: &random)
    consumer.priority = Int32.random(in: -1...1, using: &random)
    consumer.isNoAck = random.oneIn(6)
    consumer.isPassive = random.oneIn(6)
    if !consumer.isPassive, random.oneIn(3) { consumer.pool = pool }
    if random.oneIn(5) { consumer.timeout = .milliseconds(7) }
    do throws(QueueError) {
      let id = try queue.addConsumer(consumer, now: time)
      naive.consumers.append(NaiveQueue.NaiveConsumer(id: id, options: consumer))
    } catch { throw Violation(description: error.description) }
  }

  mutating func removeConsumer() {
    guard let index = naive.consumers.indices.randomElement(using: &random) else { return }
    let id = naive.consumers[index].id
    if random.oneIn(2) {
      queue.cancelConsumer(id, now: time)
      naive.consumers[index].isCancelled = true
      return
    }
    let isFailure = random.oneIn(2)
    for position in naive.inFlight(with: id) { naive.giveBack(position, isFailure: isFailure) }
    queue.removeConsumer(id, isFailure: isFailure, now: time)
    naive.consumers.remove(at: index)
  }

  /// Starts anew from what is durable. Without a commit before it, what was not committed has not happened.
  mutating func restart() throws(Violation) {
    naive = committed
    naive.restart()
    loads = []
    pool = CreditPool(limit: Int.random(in: 0...4, using: &random))
    var writer = ByteWriter()
    durable.encode(to: &writer)
    var reader = ByteReader(writer.finishJoined())
    let state: QueueState
    do throws(DecodingError) {
      state = try QueueState(from: &reader)
    } catch { throw Violation(description: error.description) }
    try require(state == durable, "the state was read back as \(state)")
    let backlog = naive.lanes.sorted { $0.key < $1.key }.map { lane, entries in
      LaneBacklog(
        lane: lane, end: Offset(entries.count), bytes: entries.reduce(0) { $0 + Int64($1.message.size) })
    }
    queue = MessageQueue(
      id: 1, options: options, state: state, backlog: backlog, now: time, seed: random.next())
  }

  // MARK: histories

  /// One step of a random history, and all checks.
  mutating func step() throws(Violation) {
    switch Int.random(in: 0..<20, using: &random) {
    case 0..<6: for _ in 0..<Int.random(in: 1...4, using: &random) { try publish() }
    case 6..<10:
      if let position = naive.inFlight(with: nil).randomElement(using: &random) { try settle(position) }
    case 10: try settleMany()
    case 11, 12: try addConsumer()
    case 13: removeConsumer()
    case 14:
      guard let index = naive.consumers.indices.randomElement(using: &random) else { break }
      let credit = Int.random(in: 0...5, using: &random)
      naive.consumers[index].options.credit = credit
      queue.setCredit(strikes(.creditIgnored) ? 0 : credit, of: naive.consumers[index].id)
      if random.oneIn(3) { pool.limit = Int.random(in: 0...5, using: &random) }
    case 15:
      guard let consumer = naive.consumers.filter(\.options.isPassive).randomElement(using: &random) else { break }
      naive.takeBack(now: now)
      for delivery in queue.take(by: consumer.id, limit: 2, now: time) { try accept(delivery, isPushed: false) }
    case 16: try rare()
    default: now += Int64.random(in: 0...30, using: &random)
    }
    try commit()
    answerLoads(all: false)
    let limit = Int.random(in: 1...4, using: &random)
    _ = try pump(limit: limit)
    try commit()
    try checkFigures()
    if random.oneIn(4) { try settleDown() }
    let late = queue.takeTimedOut()
    try require(late.isEmpty || options.consumerTimeout != nil || late.count <= 6, "\(late.count) timed out")
  }

  private mutating func rare() throws(Violation) {
    switch Int.random(in: 0..<5, using: &random) {
    case 0:
      let expected = naive.positions.filter { naive[$0]!.state == .ready }
      let count = queue.purge()
      try require(count == expected.count, "purged \(count) of \(expected.count)")
      for position in expected { leave(position, nil) }
    // The model does not know that a retried message keeps its key over a restart.
    case 1 where !options.isKeyOrdered || options.retryDelay.kind == .disabled: try restart()
    case 2 where !options.isKeyOrdered || options.retryDelay.kind == .disabled:
      // A crash before the commit.
      if let position = naive.inFlight(with: nil).randomElement(using: &random) { try settle(position) }
      try restart()
    case 1, 2, 3:
      let ready = naive.positions.filter { naive[$0]!.state == .ready }
      if !options.isKeyOrdered, let position = ready.randomElement(using: &random) {
        naive.change(position) { $0.isLost = true }
        committed.change(position) { $0.isLost = true }
      }
    default:
      guard let position = naive.inFlight(with: nil).randomElement(using: &random),
        case .inFlight(let holder, let deadline) = naive[position]!.state, deadline > now
      else { return }
      try require(queue.renew(position, by: holder, timeout: .milliseconds(40), now: time), "\(position) not renewed")
      naive.change(position) { $0.state = .inFlight(holder, deadline: now + 40) }
    }
  }

  /// Everything that can go out goes out: nothing deliverable may be left while somebody could take it.
  mutating func settleDown() throws(Violation) {
    for _ in 0..<10_000 {
      answerLoads(all: true)
      let count = try pump(limit: 5)
      try commit()
      if count == 0, loads.isEmpty, queue.nextDeadline().map({ $0.milliseconds > now }) ?? true {
        loads += queue.takeLoads()
        if loads.isEmpty { break }
      }
    }
    try require(loads.isEmpty, "loads go on without end")
    let eligible = naive.consumers.first {
      naive.hasCredit($0) && (!options.singleActiveConsumer || $0.id == queue.activeConsumer)
    }
    let isDraining = queue.consumers.isDraining
    if eligible != nil, !isDraining, options.lookAhead == 1000 || !options.isKeyOrdered {
      if let first = naive.first(now: now) {
        throw Violation(description: "\(first) is not delivered: \(describe(first))")
      }
    }
    if options.overflow == .dropHead {
      try require(
        options.maximumLength.map { naive.length <= $0 } ?? true, "length \(naive.length) is above the limit")
    }
    try checkFigures()
  }

  func checkFigures() throws(Violation) {
    try require(queue.inFlightCount == naive.inFlight, "\(queue.inFlightCount) in flight, not \(naive.inFlight)")
    try require(
      queue.length == naive.undone - naive.inFlight, "length \(queue.length), not \(naive.undone - naive.inFlight)")
    let sizes = naive.lanes.values.joined()
    if !sizes.contains(where: \.isLost) {
      try require(queue.lengthBytes == length(bytes: naive), "\(queue.lengthBytes) bytes, not \(length(bytes: naive))")
    }
    // One message may pass each bound, in each lane, ahead of the cursor and behind it.
    let lanes = Int(largestLane) + 1
    let held = lanes * 2 * (options.windowBytes + 2 * 40)
    try require(queue.heldBytes >= 0 && queue.heldBytes <= held, "\(queue.heldBytes) bytes are held, bound \(held)")
    let live = naive.inFlight + queue.delayedCount + queue.blockedCount
    let slots = lanes * (2 * max(options.windowMessages, 64) + 64) + 9 * (live + naive.undone)
    try require(queue.heldSlots <= slots, "\(queue.heldSlots) slots, bound \(slots)")
    try require(queue.timeEntries <= 64 + 3 * (live + 1), "\(queue.timeEntries) entries by time, \(live) live")
    let state = queue.durableState()
    for (number, lane) in state.lanes {
      let other = durable.lanes[number] ?? QueueState.Lane()
      try require(lane == other, "durable state of lane \(number) is \(other), the queue's \(lane)")
    }
  }
}

/// Runs one random history; what it did, or the first rule that it broke.
func runHistory(seed: UInt64, steps: Int = 150, fault: Fault? = nil) -> Result<QueueWorld, Violation> {
  var world = QueueWorld(seed: seed, fault: fault)
  for step in 0..<steps {
    do throws(Violation) {
      try world.step()
    } catch { return .failure(Violation(description: "seed \(seed), step \(step): \(error.description)")) }
  }
  return .success(world)
}
