// ProducerTests: batches that form by themselves, order, bounds and failures.

import Foundation
import Millrace
import Testing

@Suite("a producer")
struct ProducerTests {
  @Test("never holds more than its limit, and loses and reorders nothing", arguments: CompressionCodec.allCases)
  func isBounded(codec: CompressionCodec) async throws {
    try await withBroker { broker in
      var options = Producer.Options()
      options.inFlightLimit = 4000
      options.batchSize = 1000
      options.codec = codec
      let producer = try await broker.producer(for: "t", options: options)
      let sent = (0..<2000).map { "value \($0)" }
      var most = 0
      for value in sent {
        try await producer.send(record(value))
        most = max(most, producer.bytesInFlight)
      }
      try await producer.flush()
      #expect(most <= 4000)
      #expect(most > 500, "nothing was ever in flight")
      #expect(producer.bytesInFlight == 0)
      #expect(try await values(broker, "t") == sent)
    }
  }

  @Test("a record larger than the limit still goes, alone")
  func largeRecordGoes() async throws {
    try await withBroker { broker in
      var options = Producer.Options()
      options.inFlightLimit = 10
      let producer = try await broker.producer(for: "t", options: options)
      for number in 0..<3 { try await producer.send(record("\(number) is longer than ten bytes")) }
      try await producer.close()
      #expect(try await values(broker, "t").count == 3)
      await expectError(.closed) { try await producer.send(record("late")) }
    }
  }

  @Test("shared by many tasks, it keeps each task's order")
  func isShared() async throws {
    try await withBroker { broker in
      try await broker.createTopic("t", partitions: 3)
      var options = Producer.Options()
      options.inFlightLimit = 20_000
      let producer = try await broker.producer(for: "t", options: options)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for task in 0..<8 {
          group.addTask {
            for number in 0..<500 { try await producer.send(record("\(number)", key: "task \(task)")) }
          }
        }
        try await group.waitForAll()
      }
      try await producer.flush()
      var next: [String: Int] = [:]
      for try await record in broker.consume("t", until: .currentEnd) {
        let task = try #require(record.key?.text)
        #expect(record.text == "\(next[task] ?? 0)")
        next[task, default: 0] += 1
      }
      #expect(next.count == 8)
      #expect(next.values.allSatisfy { $0 == 500 })
    }
  }

  @Test("after a failure it accepts nothing more and says why")
  func failsForGood() async throws {
    try await withBroker { broker in
      try await broker.createTopic("t", partitions: 1, configs: ["max.message.bytes": "500"])
      let producer = try await broker.producer(for: "t")
      try await producer.send(record("good"))
      try await producer.flush()
      try await producer.send(record(String(repeating: "x", count: 1000)))
      await expectError(.messageTooLarge) { try await producer.flush() }
      await expectError(.messageTooLarge) { try await producer.send(record("behind")) }
      #expect(producer.bytesInFlight == 0)
      #expect(try await values(broker, "t") == ["good"])
    }
  }

  @Test("a broker that closes ends it")
  func endsWithBroker() async throws {
    try await inTemporaryDirectory { directory in
      let broker = try await EmbeddedBroker.open(directory: directory)
      let producer = try await broker.producer(for: "t")
      try await producer.send(record("in time"))
      try await broker.close()
      await expectError(.closed) {
        try await producer.send(record("late"))
        try await producer.flush()
      }
      let again = try await EmbeddedBroker.open(directory: directory)
      #expect(try await values(again, "t").first == "in time")
      try await again.close()
    }
  }

  @Test("a sender that waits for room ends when its task is cancelled, and its record is not sent")
  func senderIsCancelled() async throws {
    try await withBroker { broker in
      var options = Producer.Options()
      options.inFlightLimit = 1
      let producer = try await broker.producer(for: "t", options: options)
      let sender = Task {
        var sent = 0
        do {
          while true {
            try await producer.send(record("\(sent)"))
            sent += 1
          }
        } catch let error as MillraceError {
          #expect(error.code == .cancelled)
        }
        return sent
      }
      var started = broker.consume("t").makeAsyncIterator()
      _ = try await started.next()
      sender.cancel()
      let sent = try await sender.value
      try await producer.flush()
      #expect(try await values(broker, "t").count == sent)
    }
  }
}
