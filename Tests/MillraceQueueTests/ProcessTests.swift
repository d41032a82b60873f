// process: parallel mapping with and without order, its bound, its errors and its end.

import Synchronization
import Testing

@testable import MillraceQueue

private struct Refused: Error, Equatable { let value: Int }

private func filled(_ range: Range<Int>) throws -> InProcessQueue<Int> {
  let queue = InProcessQueue<Int>(capacity: max(1, range.count))
  _ = try queue.trySend(contentsOf: range)
  queue.close()
  return queue
}

@Test("ordered processing keeps the order, whichever task is faster", arguments: [1, 2, 5])
func orderedKeepsOrder(concurrency: Int) async throws {
  var results: [Int] = []
  let sequence = try filled(0..<500).process(concurrency: concurrency) { value in
    for _ in 0..<(value * 7919 % 5) { await Task.yield() }
    return value * 2
  }
  for try await result in sequence { results.append(result) }
  #expect(results == (0..<500).map { $0 * 2 })
}

@Test("unordered processing gives every result once, and does not wait for a slow one")
func unorderedGivesAll() async throws {
  let gate = InProcessQueue<Bool>(capacity: 1)
  var results: [Int] = []
  let sequence = try filled(0..<100).process(concurrency: 2, ordered: false) { value in
    if value == 0 { _ = try await gate.receive() }
    return value
  }
  for try await result in sequence {
    results.append(result)
    // The first message is held back until all others are out.
    if results.count == 99 { try await gate.send(true) }
  }
  #expect(results.last == 0)
  #expect(results.sorted() == Array(0..<100))
}

@Test("as many tasks as asked run at once, and no more messages are taken than twice that")
func processingIsBounded() async throws {
  let queue = try filled(0..<100)
  let gate = InProcessQueue<Bool>(capacity: 100)
  let running = Atomic<Int>(0)
  let most = Atomic<Int>(0)
  let sequence = queue.process(concurrency: 3) { value in
    let now = running.add(1, ordering: .sequentiallyConsistent).newValue
    most.max(now, ordering: .sequentiallyConsistent)
    if value == 0 { _ = try await gate.receive() }
    running.subtract(1, ordering: .sequentiallyConsistent)
    return value
  }
  var iterator = sequence.makeAsyncIterator()
  // Message 0 holds everything back: 6 are taken in all, and stay so.
  await until { queue.count == 94 }
  for _ in 0..<100 { await Task.yield() }
  #expect(queue.count == 94)
  try await gate.send(true)
  var results: [Int] = []
  while let result = try await iterator.next() { results.append(result) }
  #expect(results == Array(0..<100))
  #expect(most.load(ordering: .relaxed) <= 3)
}

@Test("an error comes after the results before it, and ends the sequence")
func errorsPropagate() async throws {
  var results: [Int] = []
  let queue = try filled(0..<100)
  let sequence = queue.process(concurrency: 4) { value in
    if value == 20 { throw Refused(value: value) }
    for _ in 0..<(value % 3) { await Task.yield() }
    return value
  }
  var iterator = sequence.makeAsyncIterator()
  await #expect(throws: Refused(value: 20)) {
    while let result = try await iterator.next() { results.append(result) }
  }
  #expect(results == Array(0..<20))
  #expect(try await iterator.next() == nil)
  #expect(queue.count >= 100 - 28)
}

@Test("leaving the loop stops the workers and leaves the rest to others")
func leavingStopsWorkers() async throws {
  let queue = InProcessQueue<Int>(capacity: 100)
  try await queue.send(contentsOf: 0..<50)
  for try await _ in queue.process(concurrency: 2, { $0 }) { break }
  await until { queue.receivers.count.load(ordering: .relaxed) == 0 }
  let left = queue.count
  #expect(left >= 45)
  #expect(queue.drain().count == left)
}

@Test("cancelling the consumer stops processing")
func cancellingStopsWorkers() async throws {
  let queue = InProcessQueue<Int>(capacity: 4)
  let consumer = Task {
    for try await _ in queue.process(concurrency: 2, { $0 }) {}
  }
  await until { queue.receivers.count.load(ordering: .relaxed) == 2 }
  consumer.cancel()
  await #expect(throws: CancellationError.self) { try await consumer.value }
  await until { queue.receivers.count.load(ordering: .relaxed) == 0 }
  try await queue.send(1)
  #expect(queue.tryReceive() == 1)
}
