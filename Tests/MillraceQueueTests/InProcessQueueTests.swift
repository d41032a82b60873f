// InProcessQueue: order, bound, closing, and nothing lost or doubled among threads and tasks.

import Synchronization
import Testing

@testable import MillraceQueue

/// Message of a producer: which, and its how many-th.
private struct Message: Hashable, Sendable {
  var producer: Int
  var number: Int
}

/// Every message once, and each producer's in order for each consumer.
private func check(_ received: [[Message]], producers: Int, each: Int) {
  var seen = Array(repeating: 0, count: producers)
  for part in received {
    var last = Array(repeating: -1, count: producers)
    for message in part {
      if message.number <= last[message.producer] {
        Issue.record("\(message) was received after number \(last[message.producer])")
        return
      }
      last[message.producer] = message.number
      seen[message.producer] += 1
    }
  }
  #expect(seen == Array(repeating: each, count: producers))
  #expect(Set(received.joined()).count == producers * each)
}

@Test("messages leave in the order in which they were accepted", arguments: [1, 2, 3, 4, 7, 8])
func everyCapacityKeepsOrderAndBound(capacity: Int) throws {
  let queue = InProcessQueue<Int>(capacity: capacity)
  var next = 0
  var expected = 0
  // Every fill level at every position of the ring.
  for round in 0..<40 {
    let room = capacity - queue.count
    for offered in 0...room {
      #expect(try queue.trySend(next) == (offered < room))
      if offered < room { next += 1 }
    }
    #expect(queue.count == capacity)
    for _ in 0..<(1 + round % capacity) {
      #expect(queue.tryReceive() == expected)
      expected += 1
    }
  }
  #expect(queue.drain() == Array(expected..<next))
  #expect(queue.tryReceive() == nil)
}

@Test("batches are accepted as far as there is room and leave in order", arguments: [1, 2, 3, 5, 8])
func everyBatchSizeWrapsAround(capacity: Int) throws {
  for batch in 1...(capacity + 2) {
    let queue = InProcessQueue<Int>(capacity: capacity)
    var next = 0
    var expected = 0
    for _ in 0..<20 {
      let room = capacity - queue.count
      let sent = try queue.trySend(contentsOf: next..<(next + batch))
      #expect(sent == min(room, batch))
      next += sent
      let received = queue.tryReceiveBatch(maximum: max(1, batch - 1))
      #expect(received == Array(expected..<(expected + received.count)))
      #expect(received.count == min(next - expected, max(1, batch - 1)))
      expected += received.count
    }
  }
}

@Test("a closed queue refuses messages, gives what it holds, and then nil")
func closing() throws {
  let queue = InProcessQueue<Int>(capacity: 4)
  try queue.send(contentsOf: [1, 2])
  queue.close()
  queue.close()
  #expect(queue.isClosed && !queue.isFinished)
  #expect(throws: QueueError(.closed)) { try queue.send(3) }
  #expect(throws: QueueError(.closed)) { try queue.trySend(3) }
  #expect(throws: QueueError(.closed)) { try queue.send(contentsOf: [3]) }
  #expect(queue.receive() == 1)
  #expect(queue.receiveBatch(maximum: 5, within: .seconds(3600)) == [2])
  #expect(queue.isFinished)
  #expect(queue.receive() == nil)
  #expect(queue.receiveBatch(maximum: 5) == nil)
  #expect(try queue.receive(within: .seconds(3600)) == nil)
}

@Test("a blocked sender of a batch learns how much was accepted when the queue closes")
func closingTellsHowMuchWasAccepted() async {
  let queue = InProcessQueue<Int>(capacity: 2)
  let sender = Task { () -> QueueError? in
    do throws(QueueError) {
      try await queue.send(contentsOf: 0..<5)
      return nil
    } catch { return error }
  }
  await until { queue.senders.count.load(ordering: .relaxed) == 1 }
  queue.close()
  #expect(await sender.value == QueueError(.closed, accepted: 2))
  #expect(queue.drain() == [0, 1])
}

@Test("a thread's wait ends when its time has passed")
func threadsTimeOut() throws {
  let queue = InProcessQueue<Int>(capacity: 2)
  #expect(throws: QueueError(.timedOut)) { try queue.receive(within: .milliseconds(2)) }
  #expect(queue.receiveBatch(maximum: 3, within: .milliseconds(1)) == [])
  try queue.send(contentsOf: [1, 2])
  #expect(throws: QueueError(.timedOut)) { try queue.send(3, within: .milliseconds(2)) }
  #expect(queue.receiveBatch(maximum: 3, within: .milliseconds(1)) == [1, 2])
  #expect(queue.senders.count.load(ordering: .relaxed) == 0)
  #expect(queue.receivers.count.load(ordering: .relaxed) == 0)
}

@Test("threads lose and double nothing, and keep each producer's order", arguments: [1, 2, 3, 64])
func threadsLoseNothing(capacity: Int) async {
  let queue = InProcessQueue<Message>(capacity: capacity)
  let received = Collected<Message>()
  let each = 4_000
  let most = Atomic<Int>(0)
  let producers: [@Sendable () -> Void] = (0..<4).map { producer in
    {
      do throws(QueueError) {
        if producer % 2 == 0 {
          for number in 0..<each { try queue.send(Message(producer: producer, number: number)) }
        } else {
          for first in stride(from: 0, to: each, by: 8) {
            try queue.send(contentsOf: (first..<(first + 8)).map { Message(producer: producer, number: $0) })
          }
        }
      } catch { Issue.record("sending failed: \(error)") }
    }
  }
  let consumers: [@Sendable () -> Void] = (0..<3).map { consumer in
    {
      var own: [Message] = []
      if consumer == 0 {
        while let message = queue.receive() { own.append(message) }
      } else {
        while let batch = queue.receiveBatch(maximum: 5) { own += batch }
      }
      most.max(queue.count, ordering: .relaxed)
      received.add(own)
    }
  }
  async let consuming: Void = onThreads(consumers)
  await onThreads(producers)
  queue.close()
  await consuming
  check(received.all, producers: 4, each: each)
  #expect(most.load(ordering: .relaxed) <= capacity)
}

@Test("tasks and threads share a queue and lose and double nothing", arguments: [1, 3, 32])
func tasksAndThreadsLoseNothing(capacity: Int) async throws {
  let queue = InProcessQueue<Message>(capacity: capacity)
  let received = Collected<Message>()
  let each = 2_000
  async let threadConsumer: Void = onThreads([
    {
      var own: [Message] = []
      while let message = queue.receive() { own.append(message) }
      received.add(own)
    }
  ])
  async let taskConsumers: Void = withTaskGroup(of: Void.self) { group in
    group.addTask {
      var own: [Message] = []
      for await message in queue { own.append(message) }
      received.add(own)
    }
    group.addTask {
      var own: [Message] = []
      do {
        while let batch = try await queue.receiveBatch(maximum: 4, within: .milliseconds(1)) { own += batch }
      } catch { Issue.record("receiving failed: \(error)") }
      received.add(own)
    }
  }
  async let threadProducer: Void = onThreads([
    {
      do throws(QueueError) {
        for number in 0..<each { try queue.send(Message(producer: 0, number: number)) }
      } catch { Issue.record("sending failed: \(error)") }
    }
  ])
  try await withThrowingTaskGroup(of: Void.self) { group in
    for producer in 1..<4 {
      group.addTask {
        for number in 0..<each { try await queue.send(Message(producer: producer, number: number)) }
      }
    }
    try await group.waitForAll()
  }
  await threadProducer
  queue.close()
  _ = await (threadConsumer, taskConsumers)
  check(received.all, producers: 4, each: each)
}

@Test("what a closing queue accepted is received, and everything else was refused")
func closingWhileSendingLosesNothing() async {
  for _ in 0..<60 {
    let queue = InProcessQueue<Int>(capacity: 8)
    let accepted = Atomic<Int>(0)
    let received = Atomic<Int>(0)
    let producer: @Sendable () -> Void = {
      do throws(QueueError) {
        while true {
          try queue.send(1)
          accepted.add(1, ordering: .relaxed)
        }
      } catch { #expect(error.code == .closed) }
    }
    let consumer: @Sendable () -> Void = {
      while queue.receive() != nil { received.add(1, ordering: .relaxed) }
    }
    let closer: @Sendable () -> Void = {
      while received.load(ordering: .relaxed) < 20 {}
      queue.close()
    }
    await onThreads([producer, producer, consumer, consumer, closer])
    #expect(queue.drain().isEmpty)
    #expect(accepted.load(ordering: .relaxed) == received.load(ordering: .relaxed))
  }
}

@Test("messages live exactly as long as the queue holds them")
func lifetimes() async throws {
  let counter = Counted.counter()
  do {
    let queue = InProcessQueue<Counted>(capacity: 5)
    for value in 0..<3 { #expect(try queue.trySend(Counted(value, counter))) }
    #expect(queue.tryReceive()?.value == 0)
    #expect(try queue.trySend(contentsOf: (3..<10).map { Counted($0, counter) }) == 3)
    #expect(counter.now == 5)
    #expect(queue.tryReceiveBatch(maximum: 2).map(\.value) == [1, 2])
    #expect(counter.now == 3)
    #expect(try queue.trySend(Counted(10, counter)))
    queue.close()
    #expect(throws: QueueError.self) { try queue.trySend(Counted(11, counter)) }
    #expect(counter.now == 4)
  }
  #expect(counter.now == 0)
}
