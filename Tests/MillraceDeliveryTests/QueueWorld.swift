// QueueWorld: a queue with its host: logs, loads that come late, commits, restarts; each step held against NaiveQueue.

import MillraceBase
import MillraceModel

@testable import MillraceDelivery

/// A rule that was broken.
struct Violation: Error, CustomStringConvertible {
  let description: String
}

/// Lies that the world tells in place of the queue, so that it can be shown to notice them.
enum Fault: CaseIterable {
  case acknowledgementLost, deliveryRepeated, deliveryForgotten, orderSwapped, countWrong, redeliveryHidden
  case consumerWrong, deadLetterForgotten, reasonWrong, messageLost, changeForgotten, countForgotten
  case requeueCounted, creditIgnored
}

struct QueueWorld {
  var random: SeededRandom
  var options: QueueOptions
  var queue: MessageQueue
  var naive: NaiveQueue
  /// As of the last commit.
  var committed: NaiveQueue
  var durable = QueueState()
  var now: Int64 = 1000
  var loads: [Load] = []
  var pool = CreditPool(limit: 0)
  var deliveries = 0
  let keys: Int
  let largestLane: UInt8
  let hasDelays: Bool
  let hasExpiry: Bool
  let fault: Fault?
  var faults = 0
  /// Dead letters so far.
  var letters: Set<Position> = []

  var time: Timestamp { Timestamp(milliseconds: now) }

  init(seed: UInt64, fault: Fault? = nil) {
    var random = SeededRandom(seed: seed)
    self.fault = fault
    var options = QueueOptions()
    options.windowMessages = [1, 2, 4, 8, 64].randomElement(using: &random)!
    options.windowBytes = [64, 200, 100_000].randomElement(using: &random)!
    keys = random.oneIn(3) ? Int.random(in: 1...5, using: &random) : 0
    options.isKeyOrdered = keys > 0
    options.lookAhead = random.oneIn(3) ? Int.random(in: 0...3, using: &random) : 1000
    // Between lanes a key goes to who waited first, whatever its priority: the model would need the order of waiting.
    largestLane = keys == 0 && random.oneIn(3) ? UInt8.random(in: 1...4, using: &random) : 0
    options.maximumPriority = largestLane
    hasDelays = keys == 0 && random.oneIn(3)
    hasExpiry = random.oneIn(3)
    if random.oneIn(4) { options.messageTTL = .milliseconds(Int.random(in: 0...200, using: &random)) }
    if random.oneIn(4) { options.maximumLength = Int.random(in: 0...12, using: &random) }
    if random.oneIn(6) { options.maximumBytes = Int.random(in: 0...300, using: &random) }
    if random.oneIn(3) { options.overflow = random.oneIn(2) ? .rejectPublish : .rejectPublishDeadLetter }
    if random.oneIn(3) { options.deliveryLimit = Int32.random(in: 0...3, using: &random) }
    if random.oneIn(3) { options.consumerTimeout = .milliseconds(Int.random(in: 5...100, using: &random)) }
    options.timeoutsCount = random.oneIn(2)
    options.singleActiveConsumer = random.oneIn(5)
    if random.oneIn(4) {
      options.retryDelay.kind = [.all, .failed, .returned].randomElement(using: &random)!
      options.retryDelay.minimum = .milliseconds(10)
      options.retryDelay.maximum = .milliseconds(60)
      options.retryDelay.growth = random.oneIn(2) ? .linear : .exponential
      options.retryDelay.jitter = random.oneIn(2) ? 0.5 : 0
    }
    self.options = options
    self.random = random
    naive = NaiveQueue(options: options)
    committed = naive
    queue = MessageQueue(id: 1, options: options, now: Timestamp(milliseconds: 1000), seed: seed)
  }

  mutating func strikes(_ fault: Fault) -> Bool {
    guard self.fault == fault, random.oneIn(3) else { return false }
    faults += 1
    return true
  }

  func require(_ holds: Bool, _ text: @autoclosure () -> String) throws(Violation) {
    if !holds { throw Violation(description: text()) }
  }

  /// What model and queue say of a message.
  func describe(_ position: Position) -> String {
    var queue = queue
    let index = queue.laneIndex(position.lane)!
    let slot = queue.lanes[index].slot(position.offset)
    return "\(naive[position]!), the queue: \(slot.map { "\($0)" } ?? "no slot"), returned "
      + "\(queue.lanes[index].returned), cursor \(queue.lanes[index].cursor) of \(queue.lanes[index].loadedEnd), "
      + "\(queue.lanes[index].end), options \(options)"
  }

  // MARK: publishing

  mutating func publish() throws(Violation) {
    let lane = UInt8.random(in: 0...largestLane, using: &random)
    let size = Int.random(in: 1...40, using: &random)
    if options.overflow != .dropHead {
      let isFull =
        options.maximumLength.map { naive.length >= $0 } ?? false
        || options.maximumBytes.map { length(bytes: naive) + size > $0 } ?? false
      let expected: MessageQueue.Admission =
        !isFull ? .accepted : options.overflow == .rejectPublish ? .rejected : .rejectedDeadLetter
      let admission = queue.admit(size: size, now: time)
      // The size of what the log has lost is not known.
      let isExact = options.maximumBytes == nil || !naive.lanes.values.joined().contains(where: \.isLost)
      try require(!isExact || admission == expected, "admission \(admission), expected \(expected)")
      guard admission == .accepted else { return }
      if random.oneIn(8) {
        queue.withdrawn(size: size)
        return
      }
    }
    let key = keys > 0 && !random.oneIn(5) ? Bytes([UInt8.random(in: 0..<UInt8(keys), using: &random)]) : nil
    let message = Message(
      offset: Offset(naive.lanes[lane]?.count ?? 0), priority: lane, timestamp: time, body: Bytes(), size: size,
      expiration: hasExpiry && random.oneIn(2) ? soon() : .none,
      notBefore: hasDelays && random.oneIn(3) ? soon() : .none,
      groupKey: key)
    naive.lanes[lane, default: []].append(NaiveQueue.Entry(message: message, due: message.notBefore.milliseconds))
    // What is in the log is there, whatever is committed later.
    committed.lanes[lane, default: []].append(naive.lanes[lane]!.last!)
    if random.oneIn(6) {
      queue.published(lane: lane, through: message.offset + 1, bytes: Int64(size))
    } else {
      queue.published(message)
    }
  }

  mutating func soon() -> Timestamp { Timestamp(milliseconds: now + .random(in: 0...80, using: &random)) }

  func length(bytes naive: NaiveQueue) -> Int {
    naive.lanes.values.reduce(0) {
      $0 + $1.reduce(0) { $0 + ($1.state == .ready && !$1.mustLeave ? $1.message.size : 0) }
    }
  }

  // MARK: deliveries

  mutating func pump(limit: Int) throws(Violation) -> Int {
    naive.takeBack(now: now)
    var out = queue.next(now: time, limit: limit)
    let count = out.count
    if !out.isEmpty {
      if strikes(.deliveryForgotten) { out.removeLast() }
      if !out.isEmpty, strikes(.deliveryRepeated) { out.append(out[0]) }
      if out.count > 1, out[0].position.lane == out[1].position.lane, strikes(.orderSwapped) { out.swapAt(0, 1) }
      if !out.isEmpty, strikes(.countWrong) { out[0].deliveryCount += 1 }
      if !out.isEmpty, out[0].isRedelivered, strikes(.redeliveryHidden) { out[0].isRedelivered = false }
      if !out.isEmpty, strikes(.consumerWrong), let other = naive.consumers.first(where: { $0.id != out[0].consumer }) {
        out[0].consumer = other.id
      }
    }
    for delivery in out { try accept(delivery, isPushed: true) }
    return count
  }

  mutating func accept(_ delivery: Delivery, isPushed: Bool) throws(Violation) {
    deliveries += 1
    let position = delivery.position
    guard let entry = naive[position] else { throw Violation(description: "\(position) was never published") }
    try require(entry.state == .ready, "\(position) delivered while \(entry.state)")
    try require(delivery.message === entry.message, "\(position): another message's content")
    try require(!entry.mustLeave, "\(position) delivered, it should have left")
    try require(naive.lastMoment(entry.message) >= now, "\(position) delivered after it expired")
    try require(entry.due <= now, "\(position) delivered before it is due")
    try require(!naive.isKeyTaken(position, now: now), "\(position) delivered while its key is taken")
    try require(delivery.deliveryCount == entry.count, "\(position) count \(delivery.deliveryCount), is \(entry.count)")
    if entry.wasDelivered || entry.count > 0 {
      try require(delivery.isRedelivered, "\(position) delivered again as if for the first time")
    }
    if options.lookAhead == 1000 || !options.isKeyOrdered, let first = naive.first(now: now) {
      try require(first == position || entry.isLost, "\(position) delivered, \(first) is before it: \(describe(first))")
    }
    guard let consumer = naive.consumers.first(where: { $0.id == delivery.consumer }) else {
      throw Violation(description: "\(position) delivered to nobody")
    }
    if isPushed {
      // A pool was charged already for the whole batch.
      let own = naive.inFlight(with: consumer.id).count
      try require(!consumer.isCancelled && !consumer.options.isPassive, "\(position) pushed to one that takes no more")
      try require(
        consumer.options.isNoAck || consumer.options.credit == 0 || own < consumer.options.credit,
        "\(position) delivered beyond the credit")
      if options.singleActiveConsumer {
        try require(consumer.id == queue.activeConsumer, "\(position) delivered to a standby")
      } else if !consumer.options.isNoAck {
        let better = naive.consumers.first {
          $0.options.priority > consumer.options.priority && $0.options.pool == nil && naive.hasCredit($0)
        }
        try require(better == nil, "\(position) delivered past a consumer of higher priority")
      }
    }
    let deadline = consumer.options.timeout ?? options.consumerTimeout
    naive.change(position) {
      $0.wasDelivered = true
      $0.state = .inFlight(consumer.id, deadline: deadline.map { now + $0.inMilliseconds } ?? .max)
      if consumer.options.isNoAck {
        $0.state = .ready
        $0.mustLeave = true
      }
    }
  }

  // MARK: settling

  mutating func settle(_ position: Position) throws(Violation) {
    guard case .inFlight(let holder, _) = naive[position]!.state else { return }
    let by = random.oneIn(2) ? holder : nil
    switch Int.random(in: 0..<6, using: &random) {
    case 0:
      let until = random.oneIn(4) && keys == 0 ? Timestamp(milliseconds: now + 20) : nil
      let isCounted = strikes(.requeueCounted)
      _ = queue.settle(position, .requeue(isFailure: isCounted, until: until), by: by, now: time)
      naive.giveBack(position, isFailure: false)
    case 1:
      _ = queue.settle(position, .requeue(isFailure: true), by: by, now: time)
      naive.giveBack(position, isFailure: true)
    case 2:
      let done = queue.settle(position, .discard, by: by, now: time)
      try require(done, "\(position) in flight was not settled")
      leave(position, .rejected)
    default:
      if !strikes(.acknowledgementLost) {
        try require(queue.acknowledge(position), "\(position) in flight was not acknowledged")
      }
      leave(position, nil)
    }
    try require(fault != nil || !queue.acknowledge(position), "\(position) was acknowledged twice")
  }

  mutating func settleMany() throws(Violation) {
    guard let lane = naive.lanes.keys.sorted().randomElement(using: &random) else { return }
    let end = Offset(naive.lanes[lane]!.count)
    let low = Offset.random(in: 0...end, using: &random)
    let range = low..<Offset.random(in: low...end + 2, using: &random)
    let count = queue.settle(lane: lane, range, .acknowledge, now: time)
    let expected = naive.inFlight(with: nil).filter { $0.lane == lane && range.contains($0.offset) }
    try require(count == expected.count, "\(count) settled in \(range), \(expected.count) are in flight")
    for position in expected { leave(position, nil) }
  }

  mutating func leave(_ position: Position, _ reason: DeadLetterReason?) {
    naive.change(position) {
      $0.state = .ready
      $0.mustLeave = true
      $0.reason = reason
    }
  }
}
