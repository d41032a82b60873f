// TimeRuleTests: the rules that time brings: expiry, delay, retry, time-outs; and limits, keys and duplicates.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceDelivery

@Test("the shorter of queue and message TTL counts, and expired messages leave at the head, by deadline")
func expiry() throws {
  var queue = queue { $0.messageTTL = .milliseconds(100) }
  queue.published(message(0, at: 0))
  queue.published(message(1, at: 0, expiration: 30))
  queue.published(message(2, at: 50))
  #expect(queue.offsets() == [])
  #expect(queue.nextDeadline() == ms(101))
  #expect(queue.offsets(at: 100) == [])
  #expect(queue.length == 3)
  _ = queue.offsets(at: 101)
  let commit = queue.takeCommit() ?? QueueCommit()
  #expect(commit.deadLetters.map(\.position.offset) == [0, 1])
  #expect(commit.deadLetters.allSatisfy { $0.reason == .expired })
  #expect(queue.nextDeadline() == ms(151))
  _ = try queue.consumer()
  #expect(queue.offsets(at: 150) == [2])
}

@Test("a message with a time to live of 0 is delivered at once or never")
func immediateOrNever() throws {
  var queue = queue { $0.messageTTL = .zero }
  _ = try queue.consumer { $0.credit = 1 }
  queue.published(message(0, at: 5))
  queue.published(message(1, at: 5))
  #expect(queue.offsets(at: 5) == [0])
  queue.settle(0, .acknowledge)
  #expect(queue.offsets(at: 6) == [])
  #expect(queue.length == 0)
}

@Test("a delayed message does not hold up others, and comes before newer ones when it is due")
func delay() throws {
  var queue = queue()
  queue.published(message(0, notBefore: 50))
  queue.published(message(1))
  _ = try queue.consumer { $0.credit = 2 }
  #expect(queue.offsets() == [1])
  #expect(queue.delayedCount == 1)
  #expect(queue.heldBytes == 1)
  #expect(queue.nextDeadline() == ms(50))
  queue.published(message(2, notBefore: 40))
  queue.published(message(3))
  queue.settle(1, .acknowledge)
  // Its content is read again when it is due.
  #expect(queue.offsets(at: 50) == [])
  let load = queue.takeLoads().first
  #expect(load?.offset == 0 && load?.kind == .returned)
  if let load { queue.loaded(load, messages: [message(0), message(2), message(3)], through: 4) }
  #expect(queue.offsets(at: 50) == [0, 2])
}

@Test("a failed message waits longer each time, no longer than the maximum, and its time survives a restart")
func retryDelay() throws {
  var queue = queue(1) {
    $0.retryDelay.kind = .failed
    $0.retryDelay.minimum = .milliseconds(10)
    $0.retryDelay.maximum = .milliseconds(25)
  }
  _ = try queue.consumer()
  var state = QueueState()
  var now: Int64 = 0
  for wait in [10, 20, 25, 25] as [Int64] {
    var delivered = queue.offsets(at: now)
    for load in queue.takeLoads() { queue.loaded(load, messages: [message(0)], through: 1) }
    delivered += queue.offsets(at: now)
    #expect(delivered == [0])
    queue.settle(0, .requeue(isFailure: true), at: now)
    #expect(queue.offsets(at: now + wait - 1) == [])
    #expect(queue.nextDeadline() == ms(now + wait))
    for change in queue.takeCommit()?.changes ?? [] { state.apply(change) }
    now += wait
  }
  var restarted = MessageQueue(id: 7, state: state, backlog: [LaneBacklog(end: 1)], now: ms(0))
  _ = try restarted.consumer()
  for load in restarted.takeLoads() { restarted.loaded(load, messages: [message(0)], through: 1) }
  #expect(restarted.offsets(at: now - 1) == [])
  #expect(restarted.nextDeadline() == ms(now))
}

@Test("jitter takes from the delay, never adds, and follows from the seed")
func jitter() {
  var delay = RetryDelay()
  delay.minimum = .milliseconds(1000)
  delay.jitter = 0.5
  delay.growth = .exponential
  var one = SeededRandom(seed: 5)
  var two = SeededRandom(seed: 5)
  for count in 1...4 as ClosedRange<Int32> {
    let wait = delay.milliseconds(count: count, using: &one)
    #expect(wait == delay.milliseconds(count: count, using: &two))
    #expect(wait > 500 << (count - 1) - 1 && wait <= 1000 << (count - 1))
  }
  #expect(delay.milliseconds(count: .max, using: &one) <= 3_600_000)
}

@Test("a delivery that takes too long comes back, unless it was renewed, and its consumer is named")
func timeouts() throws {
  for counts in [false, true] {
    var queue = queue(2) {
      $0.consumerTimeout = .milliseconds(30)
      $0.timeoutsCount = counts
    }
    let slow = try queue.consumer { $0.credit = 2 }
    #expect(queue.offsets() == [0, 1])
    #expect(queue.renew(Position(offset: 1), by: slow, timeout: .milliseconds(50), now: ms(10)) == true)
    #expect(queue.offsets(at: 29) == [])
    #expect(queue.takeTimedOut() == [])
    let again = queue.next(now: ms(30))
    #expect(again.map(\.position.offset) == [0])
    #expect(again.map(\.deliveryCount) == [counts ? 1 : 0])
    #expect(queue.takeTimedOut() == [slow])
    #expect(queue.nextDeadline() == ms(60))
  }
}

@Test("over its limit a queue drops its oldest ready messages, those in flight do not count")
func dropHead() throws {
  var queue = queue(2) {
    $0.maximumLength = 2
    $0.maximumBytes = 10
  }
  _ = try queue.consumer { $0.credit = 1 }
  #expect(queue.offsets() == [0])
  for offset in 2...3 { queue.published(message(Offset(offset))) }
  _ = queue.offsets()
  let commit = queue.takeCommit() ?? QueueCommit()
  #expect(commit.deadLetters.map(\.position.offset) == [1])
  #expect(commit.deadLetters[0].reason == .maxlen)
  queue.published(message(4, size: 10))
  _ = queue.offsets()
  #expect(queue.takeCommit()?.changes == [.done(lane: 0, ranges: [2..<4], bytes: 2)])
  #expect(queue.length == 1)
}

@Test("a full queue that rejects counts what is admitted and not yet published", arguments: [false, true])
func rejectPublish(deadLetters: Bool) {
  var queue = queue {
    $0.maximumLength = 2
    $0.overflow = deadLetters ? .rejectPublishDeadLetter : .rejectPublish
  }
  let rejected: MessageQueue.Admission = deadLetters ? .rejectedDeadLetter : .rejected
  #expect(queue.admit(size: 1, now: ms(0)) == .accepted)
  #expect(queue.admit(size: 1, now: ms(0)) == .accepted)
  #expect(queue.admit(size: 1, now: ms(0)) == rejected)
  queue.withdrawn(size: 1)
  #expect(queue.admit(size: 1, now: ms(0)) == .accepted)
  queue.published(message(0))
  queue.published(message(1))
  #expect(queue.admit(size: 1, now: ms(0)) == rejected)
}

@Test("an id is taken once within the window of time and number")
func deduplication() {
  var queue = queue {
    $0.deduplicationCount = 2
    $0.deduplicationTime = .milliseconds(100)
  }
  func admit(_ id: String, at time: Int64) -> MessageQueue.Admission {
    queue.admit(size: 1, deduplicationID: Bytes(id), now: ms(time))
  }
  #expect(admit("a", at: 0) == .accepted)
  #expect(admit("a", at: 100) == .duplicate)
  #expect(admit("a", at: 101) == .accepted)
  #expect(admit("b", at: 102) == .accepted)
  #expect(admit("c", at: 103) == .accepted)
  #expect(admit("a", at: 104) == .accepted)
  queue.withdrawn(size: 1, deduplicationID: Bytes("a"))
  #expect(admit("a", at: 105) == .accepted)
  queue.remember(Bytes("d"), at: ms(105))
  #expect(admit("d", at: 106) == .duplicate)
}

@Test("of a key one message is in flight, in order over failures and delays, and others pass")
func keyOrder() throws {
  var queue = queue {
    $0.isKeyOrdered = true
    $0.retryDelay.kind = .failed
    $0.retryDelay.minimum = .milliseconds(10)
  }
  for (offset, key) in ["a", "a", "b", nil, "a"].enumerated() { queue.published(message(Offset(offset), key: key)) }
  _ = try queue.consumer()
  #expect(queue.offsets() == [0, 2, 3])
  #expect(queue.blockedCount == 2)
  queue.settle(0, .requeue(isFailure: true))
  #expect(queue.offsets() == [])
  _ = queue.offsets(at: 10)
  for load in queue.takeLoads() { queue.loaded(load, messages: [message(0, key: "a")], through: 1) }
  #expect(queue.offsets(at: 10) == [0])
  queue.settle(0, .acknowledge)
  #expect(queue.offsets(at: 10) == [1])
  queue.settle(1, .discard)
  #expect(queue.offsets(at: 10) == [4])
  queue.settle(4, .acknowledge)
  #expect(queue.keys.count == 1)
}

@Test("a retried message keeps its key over a restart")
func keyOverRestart() throws {
  var state = QueueState()
  state.apply(.counted(lane: 0, offset: 0, count: 1))
  state.apply(.delayed(lane: 0, offset: 0, until: ms(50)))
  var options = QueueOptions()
  options.isKeyOrdered = true
  var queue = MessageQueue(id: 7, options: options, state: state, backlog: [LaneBacklog(end: 2)], now: ms(0))
  _ = try queue.consumer()
  for load in queue.takeLoads() {
    queue.loaded(load, messages: [message(0, key: "a"), message(1, key: "a")], through: 2)
  }
  #expect(queue.offsets() == [])
  #expect(queue.delayedCount == 1)
  #expect(queue.blockedCount == 1)
}

@Test("no more messages than the look-ahead wait for their keys")
func lookAhead() throws {
  var queue = queue {
    $0.isKeyOrdered = true
    $0.lookAhead = 2
  }
  for offset in 0..<5 { queue.published(message(Offset(offset), key: offset < 4 ? "a" : "b")) }
  _ = try queue.consumer()
  #expect(queue.offsets() == [0])
  #expect(queue.blockedCount == 2)
  queue.settle(0, .acknowledge)
  #expect(queue.offsets() == [1, 4])
}

@Test("an unused queue expires; consumers, takes and a touch keep it")
func queueExpiry() throws {
  var queue = queue { $0.expires = .milliseconds(100) }
  #expect(queue.nextDeadline() == ms(100))
  let passive = try queue.addConsumer(ConsumerOptions(), now: ms(50))
  #expect(!queue.isExpired(now: ms(1000)))
  queue.removeConsumer(passive, isFailure: false, now: ms(200))
  #expect(!queue.isExpired(now: ms(299)))
  #expect(queue.isExpired(now: ms(300)))
  queue.touch(now: ms(250))
  #expect(!queue.isExpired(now: ms(300)))
}
