// InProcessQueue for tasks: waiting, cancelling and time-outs by a clock that is set by hand.

import Testing

@testable import MillraceQueue

/// Whether exactly `count` calls sleep on the list.
private func asleep(_ list: WaitList, _ count: Int) -> Bool {
  list.count.load(ordering: .sequentiallyConsistent) == count
}

@Test("a sender waits while the queue is full and goes on when there is room")
func sendersWait() async throws {
  let queue = InProcessQueue<Int>(capacity: 1)
  try await queue.send(1)
  let sender = Task { try await queue.send(2) }
  await until { asleep(queue.senders, 1) }
  #expect(queue.count == 1)
  #expect(try await queue.receive() == 1)
  try await sender.value
  #expect(try await queue.receive() == 2)
}

@Test("a task that is cancelled while it waits to receive takes no message")
func cancelledReceiverTakesNothing() async throws {
  let queue = InProcessQueue<Int>(capacity: 2)
  let receiver = Task { try await queue.receive() }
  let other = Task { try await queue.receive() }
  await until { asleep(queue.receivers, 2) }
  receiver.cancel()
  await #expect(throws: QueueError(.cancelled)) { try await receiver.value }
  #expect(asleep(queue.receivers, 1))
  try await queue.send(7)
  #expect(try await other.value == 7)
}

@Test("a task that is cancelled while it waits to send sends nothing")
func cancelledSenderSendsNothing() async throws {
  let queue = InProcessQueue<Int>(capacity: 1)
  try await queue.send(1)
  let sender = Task { try await queue.send(2) }
  await until { asleep(queue.senders, 1) }
  sender.cancel()
  await #expect(throws: QueueError(.cancelled)) { try await sender.value }
  #expect(queue.drain() == [1])
}

@Test("cancelling receivers at any moment loses and doubles no message")
func cancellingLosesNothing() async throws {
  for round in 0..<200 {
    let queue = InProcessQueue<Int>(capacity: 4)
    let received = Collected<Int>()
    let receivers = (0..<4).map { _ in
      Task {
        do throws(QueueError) {
          while let value = try await queue.receive() { received.add([value]) }
        } catch { #expect(error.code == .cancelled) }
      }
    }
    let sender = Task {
      for value in 0..<40 { try await queue.send(value) }
    }
    for _ in 0..<(round % 17) { await Task.yield() }
    receivers[0].cancel()
    receivers[2].cancel()
    try await sender.value
    queue.close()
    for receiver in receivers { await receiver.value }
    #expect(received.all.joined().sorted() == Array(0..<40))
  }
}

@Test("a batch comes when it is full, before its time has passed")
func batchComesWhenFull() async throws {
  let clock = ManualClock()
  let queue = InProcessQueue<Int>(capacity: 8, clock: clock)
  let batch = Task { try await queue.receiveBatch(maximum: 3, within: .milliseconds(5)) }
  await until { asleep(queue.receivers, 1) && clock.sleeping == 1 }
  for value in 0..<4 { try await queue.send(value) }
  #expect(try await batch.value == [0, 1, 2])
  #expect(queue.count == 1)
  await until { clock.sleeping == 0 }
}

@Test("a batch comes with what there is when its time has passed")
func batchComesInTime() async throws {
  let clock = ManualClock()
  let queue = InProcessQueue<Int>(capacity: 8, clock: clock)
  let batch = Task { try await queue.receiveBatch(maximum: 3, within: .milliseconds(5)) }
  await until { asleep(queue.receivers, 1) && clock.sleeping == 1 }
  try await queue.send(1)
  await until { queue.count == 0 && asleep(queue.receivers, 1) }
  clock.advance(by: .milliseconds(4))
  #expect(clock.sleeping == 1)
  clock.advance(by: .milliseconds(1))
  #expect(try await batch.value == [1])
  let empty = Task { try await queue.receiveBatch(maximum: 3, within: .milliseconds(5)) }
  await until { asleep(queue.receivers, 1) && clock.sleeping == 1 }
  clock.advance(by: .milliseconds(5))
  #expect(try await empty.value == [])
}

@Test("a cancelled batch keeps what it has taken")
func cancelledBatchIsDelivered() async throws {
  let queue = InProcessQueue<Int>(capacity: 8, clock: ManualClock())
  try await queue.send(contentsOf: [1, 2])
  let batch = Task { try await queue.receiveBatch(maximum: 3, within: .milliseconds(5)) }
  await until { asleep(queue.receivers, 1) }
  batch.cancel()
  #expect(try await batch.value == [1, 2])
}

@Test("a task's wait ends when its time has passed")
func tasksTimeOut() async throws {
  let clock = ManualClock()
  let queue = InProcessQueue<Int>(capacity: 1, clock: clock)
  let receiver = Task { try await queue.receive(within: .seconds(9)) }
  await until { asleep(queue.receivers, 1) && clock.sleeping == 1 }
  clock.advance(by: .seconds(9))
  await #expect(throws: QueueError(.timedOut)) { try await receiver.value }
  try await queue.send(1)
  let sender = Task { try await queue.send(2, within: .seconds(9)) }
  await until { asleep(queue.senders, 1) && clock.sleeping == 1 }
  clock.advance(by: .seconds(9))
  await #expect(throws: QueueError(.timedOut)) { try await sender.value }
  #expect(asleep(queue.senders, 0) && asleep(queue.receivers, 0))
}

@Test("closing wakes everybody who waits")
func closingWakesAll() async throws {
  let queue = InProcessQueue<Int>(capacity: 1)
  let receivers = (0..<5).map { _ in Task { try await queue.receive() } }
  await until { asleep(queue.receivers, 5) }
  queue.close()
  for receiver in receivers { #expect(try await receiver.value == nil) }
}
