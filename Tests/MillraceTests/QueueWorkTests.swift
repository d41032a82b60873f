// QueueWorkTests: consumers of queues in batches and in many tasks, and how they end: closing, deletion, cancellation.

import Foundation
import Millrace
import Synchronization
import Testing

/// What several tasks saw.
final class Collected<Value: Sendable>: Sendable {
  private let held = Mutex<[Value]>([])
  var values: [Value] { held.withLock { $0 } }

  /// Adds a value.
  /// - Returns: how many there are then.
  @discardableResult
  func add(_ value: Value) -> Int {
    held.withLock { held in
      held.append(value)
      return held.count
    }
  }
}

@Suite("working off a queue")
struct QueueWorkTests {
  private struct Failure: Error {}

  @Test("process acknowledges what succeeds, returns what throws, and ends when the queue is closed")
  func processes() async throws {
    try await withBroker { broker in
      let queue = try await broker.queue(
        "q", Queue.Options { $0.retry = .init(from: .milliseconds(1), to: .milliseconds(1)) })
      try await queue.publish(contentsOf: (0..<200).map { QueueMessage("\($0)") })
      let seen = Collected<String>()
      let running = Mutex((now: 0, most: 0))
      try await queue.process(concurrency: 4) { delivery in
        running.withLock { running in
          running.now += 1
          running.most = max(running.most, running.now)
        }
        defer { running.withLock { $0.now -= 1 } }
        if delivery.text.hasSuffix("7"), delivery.failures == 0 { throw Failure() }
        if delivery.text == "13" { try await delivery.reject() }
        if seen.add(delivery.text) == 200 { try await queue.close() }
      }
      #expect(seen.values.sorted() == (0..<200).map { "\($0)" }.sorted())
      #expect(running.withLock { $0.most } <= 4)
      #expect(try await queue.counts().length == 0)
      #expect(try await queue.counts().inFlight == 0)
    }
  }

  @Test("a cancelled process ends with its bodies, and their messages do not count as failed")
  func cancelsProcess() async throws {
    try await withBroker { broker in
      let queue = try await broker.queue("q")
      try await queue.publish(contentsOf: (0..<10).map { QueueMessage("\($0)") })
      let started = Collected<String>()
      let work = Task {
        try await queue.process(concurrency: 3) { delivery in
          started.add(delivery.text)
          try await Task.sleep(for: .seconds(3600))
        }
      }
      while started.values.count < 3 { await Task.yield() }
      work.cancel()
      await expectError(.cancelled) { try await work.value }
      let left = try await queue.browse(limit: 20)
      #expect(left.map(\.text) == (0..<10).map { "\($0)" })
      #expect(left.allSatisfy { $0.failures == 0 && !$0.isInFlight && $0.due == nil })
    }
  }

  @Test("batches are full, or what came in their time, and are settled as one")
  func batches() async throws {
    try await withBroker { broker in
      let (queue, results) = (try await broker.queue("q"), try await broker.queue("results"))
      try await queue.publish(contentsOf: (0..<25).map { QueueMessage("\($0)") })
      var sizes: [Int] = []
      var seen: [String] = []
      for try await batch in queue.batches(of: 10, within: .milliseconds(20)) {
        sizes.append(batch.count)
        seen += batch.map(\.text)
        if sizes.count == 1 {
          try await batch.complete(publishing: [(results, QueueMessage("\(batch.count)"))])
        } else {
          try await batch.ack()
        }
        if seen.count == 25 { break }
      }
      #expect(seen == (0..<25).map { "\($0)" })
      #expect(sizes.allSatisfy { $0 <= 10 })
      #expect(sizes.first == 10)
      #expect(try await queue.counts().inFlight == 0)
      #expect(try await results.browse(limit: 2).map(\.text) == ["10"])
    }
  }

  @Test("loops end when the queue is closed; they throw when it is deleted, or the broker is closed")
  func endsLoops() async throws {
    try await inTemporaryDirectory { directory in
      let broker = try await EmbeddedBroker.open(directory: directory)
      let (one, other, third) = (
        try await broker.queue("one"), try await broker.queue("other"), try await broker.queue("third")
      )
      let loops = [one, other, third].map { queue in
        Task { for try await delivery in queue.deliveries() { try await delivery.ack() } }
      }
      for queue in [one, other, third] {
        try await queue.publish(Bytes("x"))
        while true {
          let counts = try await queue.counts()
          if counts.length + counts.inFlight == 0, counts.consumers == 1 { break }
          await Task.yield()
        }
      }
      try await one.close()
      try await one.close()
      try await loops[0].value
      await expectError(.closed) { try await one.publish(Bytes("y")) }
      await expectError(.closed) { try await one.publish(contentsOf: [QueueMessage("y")]) }
      await expectError(.closed) { for try await _ in one.deliveries() {} }
      try await broker.deleteQueue("other")
      await expectError(.unknownQueue) { try await loops[1].value }
      try await broker.close()
      await expectError(.closed) { try await loops[2].value }
      await expectError(.closed) { try await third.publish(Bytes("y")) }
      await expectError(.closed) {
        try await third.flush(); _ = try await third.counts()
      }
    }
  }

  @Test(
    "every call that waits when the broker is closed ends, and what was answered is there", arguments: [true, false])
  func closesUnderLoad(isDurable: Bool) async throws {
    try await inTemporaryDirectory { directory in
      let broker = try await EmbeddedBroker.open(directory: directory)
      let queue = try await broker.queue("q", isDurable ? nil : .transient)
      let published = Collected<String>()
      let work = Task {
        await withTaskGroup(of: Void.self) { group in
          for task in 0..<20 {
            group.addTask {
              do throws(MillraceError) {
                for number in 0... {
                  try await queue.publish(Bytes("\(task):\(number)"))
                  published.add("\(task):\(number)")
                }
              } catch {
                #expect(error.code == .closed)
              }
            }
          }
          group.addTask {
            do throws(MillraceError) {
              while true {
                try await queue.send(Bytes("sent"))
                try await queue.flush()
              }
            } catch {
              #expect(error.code == .closed)
            }
          }
        }
      }
      while published.values.count < 200 { await Task.yield() }
      try await broker.close()
      await work.value
      guard isDurable else { return }
      let again = try await EmbeddedBroker.open(directory: directory)
      let kept = Set(try await again.queue("q").browse(limit: .max).map(\.text))
      #expect(Set(published.values).subtracting(kept).isEmpty)
      try await again.close()
    }
  }

  @Test("a cancelled loop ends and gives its messages back; a delivery outlives a closed broker")
  func cancelsLoop() async throws {
    try await inTemporaryDirectory { directory in
      let broker = try await EmbeddedBroker.open(directory: directory)
      let queue = try await broker.queue("q")
      try await queue.publish(contentsOf: (0..<5).map { QueueMessage("\($0)") })
      let got = Collected<QueueDelivery>()
      let loop = Task {
        for try await delivery in queue.deliveries(prefetch: 2) { got.add(delivery) }
      }
      while got.values.count < 2 { await Task.yield() }
      loop.cancel()
      try await loop.value
      #expect(try await queue.counts().inFlight == 2)
      try await got.values[0].ack()
      try await broker.close()
      await expectError(.closed) { try await got.values[1].ack() }
      let again = try await EmbeddedBroker.open(directory: directory)
      #expect(try await again.queue("q").browse(limit: 9).map(\.text) == ["1", "2", "3", "4"])
      try await again.close()
    }
  }

  @Test("a delivery that takes too long is somebody else's then")
  func takesTooLong() async throws {
    try await withBroker { broker in
      let queue = try await broker.queue("q", Queue.Options { $0.deliveryTimeout = .milliseconds(10) })
      try await queue.publish(Bytes("slow"))
      var slow = queue.deliveries(prefetch: 1).makeAsyncIterator()
      let first = try #require(try await slow.next())
      let again = try #require(try await slow.next())
      #expect(again.text == "slow")
      #expect(again.isRedelivered)
      // Both name the same message, which is in flight once.
      try await again.ack()
      await expectError(.notInFlight) { try await first.ack() }
      #expect(try await queue.counts().length == 0)
    }
  }

  @Test("a single active consumer is served alone until it goes")
  func singleActive() async throws {
    try await withBroker { broker in
      let queue = try await broker.queue("q", Queue.Options { $0.hasSingleActiveConsumer = true })
      var active = Optional(queue.deliveries(prefetch: 5).makeAsyncIterator())
      try await queue.publish(Bytes("a"))
      try await active?.next()?.ack()
      let standby = Task { () -> String? in
        for try await delivery in queue.deliveries(prefetch: 5) { return delivery.text }
        return nil
      }
      while try await queue.counts().consumers < 2 { await Task.yield() }
      try await queue.publish(Bytes("b"))
      #expect(try await active?.next()?.text == "b")
      active = nil
      #expect(try await standby.value == "b")
    }
  }
}
