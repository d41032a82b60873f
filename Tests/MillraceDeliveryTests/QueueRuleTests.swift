// QueueRuleTests: one test for each rule of delivery and settlement; the rules are those of docs/internals/queues.md.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceDelivery

@Test("messages go out in order, to equals in turn")
func fifoAndRoundRobin() throws {
  var queue = queue(6)
  let one = try queue.consumer()
  let two = try queue.consumer()
  let deliveries = queue.next(now: ms(0))
  #expect(deliveries.map(\.position.offset) == [0, 1, 2, 3, 4, 5])
  #expect(deliveries.map(\.consumer) == [one, two, one, two, one, two])
}

@Test("a higher consumer priority is served first, lower ones only when it has no credit")
func consumerPriority() throws {
  var queue = queue(4)
  let low = try queue.consumer { $0.priority = -1 }
  let high = try queue.consumer {
    $0.priority = 5
    $0.credit = 2
  }
  #expect(queue.next(now: ms(0)).map(\.consumer) == [high, high, low, low])
}

@Test("credit bounds what is in flight, and may be changed while messages are")
func credit() throws {
  var queue = queue(10)
  let consumer = try queue.consumer { $0.credit = 2 }
  #expect(queue.offsets() == [0, 1])
  #expect(queue.offsets() == [])
  queue.settle(1, .acknowledge)
  #expect(queue.offsets() == [2])
  queue.setCredit(4, of: consumer)
  #expect(queue.offsets() == [3, 4])
  queue.setCredit(1, of: consumer)
  queue.settle(0, .acknowledge)
  #expect(queue.offsets() == [])
  queue.setCredit(0, of: consumer)
  #expect(queue.offsets() == [5, 6, 7, 8, 9])
}

@Test("a credit pool bounds consumers of several queues together, and names the queues that wait for it")
func creditPool() throws {
  let pool = CreditPool(limit: 3)
  var first = queue(5)
  var second = MessageQueue(id: 8, now: ms(0))
  for offset in 0..<5 { second.published(message(Offset(offset))) }
  _ = try first.consumer { $0.pool = pool }
  let consumer = try second.consumer { $0.pool = pool }
  #expect(first.offsets(limit: 2) == [0, 1])
  #expect(second.offsets() == [0])
  #expect(pool.used == 3)
  #expect(pool.takeWaiting() == [])
  first.settle(0, .acknowledge)
  #expect(pool.takeWaiting() == [8])
  #expect(second.offsets() == [1])
  // Whoever dies gives its credit back.
  second.removeConsumer(consumer, isFailure: false, now: ms(0))
  #expect(pool.used == 1)
  #expect(first.offsets() == [2, 3])
}

@Test("a consumer without acknowledgements is served without regard to credit, and is done at once")
func noAck() throws {
  var queue = queue(3)
  _ = try queue.consumer {
    $0.isNoAck = true
    $0.credit = 1
  }
  #expect(queue.offsets() == [0, 1, 2])
  #expect(queue.inFlightCount == 0)
  #expect(queue.takeCommit()?.changes == [.done(lane: 0, ranges: [0..<3], bytes: 3)])
}

@Test("acknowledgements become ranges")
func ranges() throws {
  var queue = queue(10)
  _ = try queue.consumer()
  _ = queue.offsets()
  for offset in [5, 1, 0, 2, 7, 6] { queue.settle(Offset(offset), .acknowledge) }
  #expect(queue.takeCommit()?.changes == [.done(lane: 0, ranges: [0..<3, 5..<8], bytes: 6)])
  #expect(queue.settle(lane: 0, 0..<100, .acknowledge, now: ms(0)) == 4)
  #expect(queue.takeCommit()?.changes == [.done(lane: 0, ranges: [3..<5, 8..<10], bytes: 4)])
  #expect(queue.takeCommit() == nil)
}

@Test("what is not in flight, or with another consumer, is not settled")
func foreignSettlement() throws {
  var queue = queue(2)
  let one = try queue.consumer { $0.credit = 1 }
  let two = try queue.consumer { $0.isPassive = true }
  #expect(queue.offsets() == [0])
  #expect(queue.settle(1, .acknowledge) == false)
  #expect(queue.settle(Position(lane: 3, offset: 0), .acknowledge, now: ms(0)) == false)
  #expect(queue.settle(Position(offset: 0), .acknowledge, by: two, now: ms(0)) == false)
  #expect(queue.settle(Position(offset: 0), .acknowledge, by: one, now: ms(0)) == true)
  #expect(queue.settle(0, .acknowledge) == false)
}

@Test("what a dead consumer had goes back in order, before newer messages")
func deathReturnsInOrder() throws {
  var queue = queue(6)
  let dead = try queue.consumer { $0.credit = 4 }
  #expect(queue.offsets() == [0, 1, 2, 3])
  queue.settle(1, .acknowledge)
  queue.removeConsumer(dead, isFailure: true, now: ms(0))
  _ = try queue.consumer()
  let again = queue.next(now: ms(0))
  #expect(again.map(\.position.offset) == [0, 2, 3, 4, 5])
  #expect(again.map(\.isRedelivered) == [true, true, true, false, false])
  #expect(again.map(\.deliveryCount) == [1, 1, 1, 0, 0])
}

@Test("a cancelled consumer gets nothing more, and settles what it has")
func cancel() throws {
  var queue = queue(3)
  let consumer = try queue.consumer { $0.credit = 1 }
  #expect(queue.offsets() == [0])
  queue.cancelConsumer(consumer, now: ms(0))
  #expect(queue.offsets() == [])
  #expect(queue.consumerCount == 0)
  #expect(queue.settle(Position(offset: 0), .requeue(isFailure: false), by: consumer, now: ms(0)) == true)
  #expect(queue.length == 3)
}

@Test("a requeue does not raise the delivery count, a failure does, up to the limit")
func deliveryLimit() throws {
  var queue = queue(1) { $0.deliveryLimit = 2 }
  _ = try queue.consumer()
  for (settlement, count) in [
    (Settlement.requeue(isFailure: false), 0), (.requeue(isFailure: true), 0), (.requeue(isFailure: false), 1),
    (.requeue(isFailure: true), 1), (.requeue(isFailure: true), 2),
  ] {
    #expect(queue.next(now: ms(0)).map(\.deliveryCount) == [Int32(count)])
    queue.settle(0, settlement)
  }
  #expect(queue.offsets() == [])
  let commit = queue.takeCommit() ?? QueueCommit()
  #expect(commit.deadLetters.map(\.reason) == [.deliveryLimit])
  #expect(commit.deadLetters.map(\.deliveryCount) == [3])
  #expect(commit.changes.last == .done(lane: 0, ranges: [0..<1], bytes: 1))
}

@Test("a discarded message is dead-lettered as rejected, in the commit that removes it")
func discard() throws {
  var queue = queue(1)
  _ = try queue.consumer()
  _ = queue.offsets()
  queue.settle(0, .discard)
  let commit = queue.takeCommit() ?? QueueCommit()
  #expect(commit.deadLetters.map(\.reason.rawValue) == ["rejected"])
  #expect(commit.deadLetters[0].message?.body.text == "message 0")
  #expect(commit.changes == [.done(lane: 0, ranges: [0..<1], bytes: 1)])
}

@Test("a higher lane goes first, returned messages of lower lanes notwithstanding")
func priorities() throws {
  var queue = queue(2) { $0.maximumPriority = 9 }
  _ = try queue.consumer { $0.credit = 1 }
  #expect(queue.offsets() == [0])
  queue.published(message(0, lane: 9))
  queue.published(message(0, lane: 4))
  queue.settle(0, .requeue(isFailure: false))
  var order: [Position] = []
  for _ in 0..<4 {
    let position = queue.next(now: ms(0))[0].position
    order.append(position)
    queue.settle(position, .acknowledge, now: ms(0))
  }
  let expected = [Position(lane: 9, offset: 0), Position(lane: 4, offset: 0), Position(offset: 0), Position(offset: 1)]
  #expect(order == expected)
  #expect(queue.options.lane(forPriority: 200) == 9)
}

@Test("an exclusive consumer joins an empty queue only, and nobody joins it, but takes are possible")
func exclusive() throws {
  var queue = queue(2)
  let only = try queue.consumer { $0.isExclusive = true }
  #expect(throws: QueueError.self) { _ = try queue.consumer() }
  let passive = try queue.consumer { $0.isPassive = true }
  #expect(queue.take(by: passive, now: ms(0)).map(\.position.offset) == [0])
  queue.removeConsumer(only, isFailure: false, now: ms(0))
  _ = try queue.consumer()
  #expect(throws: QueueError.self) { _ = try queue.consumer { $0.isExclusive = true } }
}

@Test("a single active consumer has all messages; the next one takes over when it goes, a higher one when it is idle")
func singleActiveConsumer() throws {
  var queue = queue(10) { $0.singleActiveConsumer = true }
  let first = try queue.consumer { $0.credit = 2 }
  let second = try queue.consumer()
  #expect(queue.next(now: ms(0)).map(\.consumer) == [first, first])
  let high = try queue.consumer { $0.priority = 1 }
  queue.settle(0, .acknowledge)
  #expect(queue.next(now: ms(0)).isEmpty)
  #expect(queue.activeConsumer == first)
  queue.settle(1, .acknowledge)
  #expect(queue.activeConsumer == high)
  #expect(queue.next(now: ms(0), limit: 2).map(\.consumer) == [high, high])
  queue.removeConsumer(high, isFailure: false, now: ms(0))
  #expect(queue.activeConsumer == first)
  queue.cancelConsumer(first, now: ms(0))
  #expect(queue.activeConsumer == second)
  #expect(queue.offsets() == [2, 3, 4, 5, 6, 7, 8, 9])
}

@Test("a relief that is called off leaves the active consumer served")
func reliefCalledOff() throws {
  var queue = queue(4) { $0.singleActiveConsumer = true }
  let first = try queue.consumer { $0.credit = 2 }
  #expect(queue.offsets(limit: 1) == [0])
  let high = try queue.consumer { $0.priority = 1 }
  #expect(queue.offsets() == [])
  queue.removeConsumer(high, isFailure: false, now: ms(0))
  #expect(queue.next(now: ms(0)).map(\.consumer) == [first])
}
