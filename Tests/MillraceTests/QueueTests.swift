// QueueTests: durable and transient queues of the embedded broker: publishing, settling, options, what survives.

import Foundation
import Millrace
import Testing

@Suite("a queue of the embedded broker")
struct QueueTests {
  @Test("gives messages in order with all they carry, and forgets what was acknowledged, over a second open")
  func survivesReopening() async throws {
    try await inTemporaryDirectory { directory in
      var broker = try await EmbeddedBroker.open(directory: directory)
      var queue = try await broker.queue("orders")
      #expect(queue.isDurable)
      var message = QueueMessage(
        Bytes("first"), headers: ["kind": "order", "lines": 3, "paid": true, "rest": ["a", 1.5, .null]],
        messageID: "id-1")
      message.correlationID = "c"
      message.replyTo = "answers"
      message.contentType = "text/plain"
      message.type = "new"
      try await queue.publish(message)
      try await queue.publish(contentsOf: ["second", "third"].map { QueueMessage($0) })
      var seen: [String] = []
      for try await delivery in queue.deliveries() {
        seen.append(delivery.text)
        if delivery.text == "first" {
          #expect(delivery.headers == message.headers)
          #expect(delivery.messageID == "id-1")
          #expect(delivery.correlationID == "c")
          #expect(delivery.replyTo == "answers")
          #expect(delivery.contentType == "text/plain")
          #expect(delivery.type == "new")
          #expect(!delivery.isRedelivered)
        }
        if delivery.text == "third" { break }
        try await delivery.ack()
      }
      #expect(seen == ["first", "second", "third"])
      try await broker.close()
      broker = try await EmbeddedBroker.open(directory: directory)
      queue = try await broker.queue("orders")
      #expect(try await queue.browse(limit: 10).map(\.text) == ["third"])
      try await broker.close()
    }
  }

  @Test("a transient queue is gone with its broker, and may be declared anew")
  func transient() async throws {
    try await inTemporaryDirectory { directory in
      var broker = try await EmbeddedBroker.open(directory: directory)
      let queue = try await broker.queue("t", .transient)
      #expect(!queue.isDurable)
      for number in 0..<1000 { try await queue.publish(Bytes("\(number)")) }
      #expect(try await queue.counts().length == 1000)
      // What one task publishes keeps its order, whichever way.
      for number in 1000..<1300 { try await queue.publish(Bytes("\(number)")) }
      try await queue.publish(contentsOf: (1300..<1302).map { QueueMessage("\($0)") })
      #expect(try await queue.browse(limit: 2000).map(\.text) == (0..<1302).map { "\($0)" })
      try await queue.send(Bytes("last"))
      #expect(try await queue.purge() == 1303)
      try await broker.close()
      broker = try await EmbeddedBroker.open(directory: directory)
      #expect(try await broker.queue("t").counts().length == 0)
      try await broker.close()
    }
  }

  @Test("many tasks publish and consume, and every message is worked on exactly once", arguments: [true, false])
  func manyTasks(isDurable: Bool) async throws {
    try await withBroker { broker in
      let queue = try await broker.queue("q", isDurable ? nil : .transient)
      let seen = Collected<String>()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for producer in 0..<4 {
          group.addTask {
            for number in 0..<60 { try await queue.publish(Bytes("\(producer):\(number)")) }
          }
          group.addTask {
            for number in 0..<60 { try await queue.send(Bytes("\(producer + 4):\(number)")) }
            try await queue.flush()
          }
        }
        for _ in 0..<3 {
          group.addTask {
            for try await delivery in queue.deliveries(prefetch: 10) {
              try await delivery.ack()
              if seen.add(delivery.text) == 480 { try await queue.close() }
            }
          }
        }
        try await group.waitForAll()
      }
      let expected = (0..<8).flatMap { producer in (0..<60).map { "\(producer):\($0)" } }
      #expect(seen.values.sorted() == expected.sorted())
      let counts = try await broker.queue("q").counts()
      #expect(counts.length == 0)
      #expect(counts.inFlight == 0)
    }
  }

  @Test("a loop that ends gives back what it was not handed; what it was handed can still be settled")
  func leavesALoop() async throws {
    try await withBroker { broker in
      let queue = try await broker.queue("q")
      try await queue.publish(contentsOf: (0..<50).map { QueueMessage("\($0)") })
      var kept: [QueueDelivery] = []
      for try await delivery in queue.deliveries(prefetch: 20) {
        kept.append(delivery)
        if kept.count == 2 { break }
      }
      #expect(try await queue.counts().length == 48)
      #expect(try await queue.counts().inFlight == 2)
      try await kept[0].ack()
      await expectError(.notInFlight) { try await kept[0].ack() }
      // The other one is dropped, and counts as failed.
      kept = []
      var rest: [QueueDelivery] = []
      for try await delivery in queue.deliveries(prefetch: 20) {
        rest.append(delivery)
        if rest.count == 2 { break }
      }
      #expect(rest.map(\.text) == ["1", "2"])
      #expect(rest.map(\.failures) == [1, 0])
      #expect(rest.map(\.isRedelivered) == [true, true])
    }
  }

  @Test("returned messages come again after their delay, and are dead letters when they failed too often")
  func failures() async throws {
    try await withBroker { broker in
      let options = Queue.Options {
        $0.deadLetter = .queue("dead")
        $0.deliveryLimit = 2
        $0.retry = .init(from: .milliseconds(1), to: .milliseconds(2), jitter: 0.5)
      }
      let queue = try await broker.queue("q", options)
      let dead = try await broker.queue("dead")
      try await queue.publish(contentsOf: ["bad", "worse", "shy"].map { QueueMessage($0) })
      var seen: [String] = []
      var isReleased = false
      for try await delivery in queue.deliveries() {
        seen.append("\(delivery.text) \(delivery.failures)")
        switch delivery.text {
        case "bad": try await delivery.nack()
        case "worse": try await delivery.reject()
        case _ where !isReleased:
          isReleased = true
          try await delivery.release()
        default: try await delivery.ack()
        }
        let counts = try await queue.counts()
        if counts.length + counts.inFlight == 0 { break }
      }
      #expect(seen.sorted() == ["bad 0", "bad 1", "bad 2", "shy 0", "shy 0", "worse 0"])
      let letters = try await dead.browse(limit: 10)
      #expect(
        Set(letters.map { "\($0.text) \($0.deaths.map(\.reason))" }) == [
          "bad [\"delivery_limit\"]", "worse [\"rejected\"]",
        ])
      #expect(letters.allSatisfy { $0.deaths.first?.queue == "q" })
      // And back again, as new ones.
      #expect(try await dead.redrive() == 2)
      #expect(try await dead.counts().length == 0)
      let back = try await queue.browse(limit: 10)
      #expect(Set(back.map(\.text)) == ["bad", "worse"])
      #expect(back.allSatisfy { $0.failures == 0 && $0.deaths.isEmpty && $0.headers.isEmpty })
    }
  }

  @Test("an acknowledgement and its results are one commit, or nothing of it happens")
  func completes() async throws {
    try await withBroker { broker in
      let queue = try await broker.queue("q")
      let results = try await broker.queue("results")
      let full = try await broker.queue(
        "full",
        Queue.Options {
          $0.maximumLength = 1; $0.overflow = .reject
        })
      try await queue.publish(contentsOf: ["a", "b"].map { QueueMessage($0) })
      var deliveries = queue.deliveries().makeAsyncIterator()
      let first = try #require(try await deliveries.next())
      await expectError(.queueFull) {
        try await first.complete(publishing: [
          (results, QueueMessage("r")), (full, QueueMessage("1")), (full, QueueMessage("2")),
        ])
      }
      #expect(try await results.counts().length == 0)
      #expect(try await full.counts().length == 0)
      try await first.complete(publishing: [(results, QueueMessage("r1")), (results, QueueMessage("r2"))])
      #expect(try await results.browse(limit: 10).map(\.text) == ["r1", "r2"])
      await expectError(.notInFlight) { try await first.complete(publishing: [(results, QueueMessage("r3"))]) }
      let second = try #require(try await deliveries.next())
      #expect(second.text == "b")
      try await second.complete(publishing: [])
      #expect(try await queue.counts().inFlight == 0)
      #expect(try await results.counts().length == 2)
    }
  }

  @Test(
    "messages that wait for a time are listed, taken out, and delivered when it has come", arguments: [true, false])
  func schedules(isDurable: Bool) async throws {
    try await withBroker { broker in
      let queue = try await broker.queue("q", isDurable ? nil : .transient)
      let far = Timestamp(milliseconds: Timestamp.now.milliseconds + 3_600_000)
      try await queue.publish(Bytes("far"), at: far)
      try await queue.publish(Bytes("cancelled"), delay: .seconds(3600))
      try await queue.publish(Bytes("near"), delay: .milliseconds(20))
      var deliveries = queue.deliveries().makeAsyncIterator()
      let near = try #require(try await deliveries.next())
      #expect(near.text == "near")
      try await near.ack()
      let waiting = try await queue.scheduled(limit: 10)
      #expect(waiting.map(\.text) == ["far", "cancelled"])
      let due = try #require(waiting.first?.due)
      #expect(abs(due.milliseconds - far.milliseconds) < 60_000)
      #expect(try await queue.remove(waiting[1]))
      #expect(try await !queue.remove(waiting[1]))
      #expect(try await queue.scheduled(limit: 10).map(\.text) == ["far"])
      #expect(try await queue.purge() == 1)
      #expect(try await queue.counts().length == 0)
    }
  }

  @Test("priorities, expiry, keys, limits and message ids do what the options say")
  func options() async throws {
    try await withBroker { broker in
      let ranked = try await broker.queue("ranked", Queue.Options { $0.maximumPriority = 3 })
      for (text, priority) in [("low", 0), ("high", 3), ("higher", 9)] {
        try await ranked.publish(Bytes(text), priority: UInt8(priority))
      }
      #expect(try await ranked.browse(limit: 10).map(\.text) == ["high", "higher", "low"])

      let short = try await broker.queue(
        "short",
        Queue.Options {
          $0.maximumLength = 2; $0.deadLetter = .queue("dropped")
        })
      for number in 0..<3 { try await short.publish(Bytes("\(number)")) }
      #expect(try await short.browse(limit: 10).map(\.text) == ["1", "2"])
      var dropped = try await broker.queue("dropped").deliveries().makeAsyncIterator()
      #expect(try await dropped.next()?.text == "0")

      let strict = try await broker.queue(
        "strict",
        Queue.Options {
          $0.maximumLength = 2; $0.overflow = .reject
        })
      for number in 0..<2 { try await strict.publish(Bytes("\(number)")) }
      await expectError(.queueFull) { try await strict.publish(Bytes("2")) }
      await expectError(.queueFull) { try await strict.publish(contentsOf: [QueueMessage("3")]) }
      try await strict.send(Bytes("4"))
      await expectError(.queueFull) { try await strict.flush() }
      try await strict.flush()
      #expect(try await strict.counts().length == 2)

      let once = try await broker.queue("once", Queue.Options { $0.deduplication = .init() })
      for _ in 0..<2 { try await once.publish(Bytes("x"), messageID: "a") }
      try await once.publish(Bytes("y"), messageID: "b")
      #expect(try await once.browse(limit: 10).map(\.text) == ["x", "y"])

      let keyed = try await broker.queue("keyed", Queue.Options { $0.groupHeader = "customer" })
      for (text, key) in [("a1", "a"), ("a2", "a"), ("b1", "b")] { try await keyed.publish(Bytes(text), key: key) }
      var deliveries = keyed.deliveries().makeAsyncIterator()
      let first = try #require(try await deliveries.next())
      let second = try #require(try await deliveries.next())
      #expect([first.text, second.text] == ["a1", "b1"])
      #expect(first.key == "a")
      try await first.ack()
      #expect(try await deliveries.next()?.text == "a2")

      let brief = try await broker.queue("brief", Queue.Options { $0.deadLetter = .queue("late") })
      try await brief.publish(Bytes("gone"), expiresAfter: .zero)
      try await brief.publish(Bytes("stays"), expiresAfter: .seconds(3600))
      let late = try await broker.queue("late")
      var letters = late.deliveries().makeAsyncIterator()
      let letter = try #require(try await letters.next())
      #expect(letter.text == "gone")
      #expect(letter.deaths.map { [$0.queue, $0.reason] } == [["brief", "expired"]])
      #expect(try await brief.browse(limit: 10).map(\.text) == ["stays"])
    }
  }

  @Test("moves messages to another queue of the broker")
  func moves() async throws {
    try await withBroker { broker in
      let (one, other) = (try await broker.queue("one"), try await broker.queue("other", .transient))
      try await one.publish(contentsOf: (0..<600).map { QueueMessage(Bytes("\($0)"), headers: ["n": .int($0)]) })
      #expect(try await one.move(to: other, limit: 500) == 500)
      let moved = try await other.browse(limit: 1000)
      #expect(moved.map(\.text) == (0..<500).map { "\($0)" })
      #expect(moved[7].headers == ["n": 7])
      #expect(try await one.counts().length == 100)
      #expect(try await one.figures().length == 100)
    }
  }

  @Test("what makes no sense is refused")
  func refuses() async throws {
    try await withBroker { broker in
      let queue = try await broker.queue("q")
      await expectError(.queueExists) { _ = try await broker.queue("q", .transient) }
      await expectError(.invalidArgument) { _ = try await broker.queue("") }
      await expectError(.invalidArgument) { _ = try await broker.queue("amq.own") }
      await expectError(.invalidArgument) {
        _ = try await broker.queue("r", Queue.Options { $0.messageTTL = .seconds(-1) })
      }
      await expectError(.invalidArgument) { try await queue.publish(Bytes("x"), key: "k") }
      await expectError(.invalidArgument) { try await queue.publish(Bytes("x"), expiresAfter: .seconds(-1)) }
      await expectError(.invalidArgument) {
        try await queue.publish(Bytes("x"), messageID: String(repeating: "x", count: 256))
      }
      await expectError(.messageTooLarge) {
        try await queue.publish(Bytes([UInt8](repeating: 7, count: 40 << 20)))
      }
      let other = try await broker.queue("other")
      #expect(try await broker.deleteQueue("other") == 0)
      await expectError(.unknownQueue) { try await other.publish(Bytes("x")) }
      await expectError(.unknownQueue) { _ = try await other.counts() }
      await expectError(.unknownQueue) { for try await _ in other.deliveries() {} }
      #expect(try await queue.counts().length == 0)
    }
  }
}
