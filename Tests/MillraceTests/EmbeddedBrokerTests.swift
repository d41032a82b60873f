// EmbeddedBrokerTests: opening and closing, topics, producing and consuming, and what is refused.

import Foundation
import Millrace
import Testing

@Suite("an embedded broker")
struct EmbeddedBrokerTests {
  @Test("keeps records and a group's offsets over a close and a second open")
  func survivesReopening() async throws {
    try await inTemporaryDirectory { directory in
      var broker = try await EmbeddedBroker.open(directory: directory)
      try await broker.createTopic("t", partitions: 1)
      try await broker.produce((0..<10).map { record("\($0)") }, to: "t")
      let records = broker.consume("t", group: "g", until: .currentEnd, commits: .byHand)
      for try await record in records where record.text == "3" { try await records.commit(record) }
      try await broker.close()
      broker = try await EmbeddedBroker.open(directory: directory)
      #expect(try await broker.committedOffsets(of: "g", topic: "t") == [0: 4])
      #expect(try await values(broker, "t", group: "g") == (4..<10).map { "\($0)" })
      #expect(try await values(broker, "t") == (0..<10).map { "\($0)" })
      try await broker.close()
    }
  }

  @Test("its directory belongs to it until it is closed; closing twice is harmless")
  func ownsItsDirectory() async throws {
    try await inTemporaryDirectory { directory in
      let broker = try await EmbeddedBroker.open(directory: directory)
      await expectError(.storage) { _ = try await EmbeddedBroker.open(directory: directory) }
      async let first: Void = broker.close()
      async let second: Void = broker.close()
      _ = try await (first, second)
      try await broker.close()
      await expectError(.closed) { try await broker.produce([record("late")], to: "t") }
      await expectError(.closed) { _ = try await broker.topics() }
      await expectError(.closed) { try await broker.run(WordCount.job()) }
      try await EmbeddedBroker.open(directory: directory).close()
    }
  }

  @Test("a broker that nobody uses any more closes itself")
  func closesItself() async throws {
    try await inTemporaryDirectory { directory in
      var broker: EmbeddedBroker? = try await EmbeddedBroker.open(directory: directory)
      try await broker?.produce([record("kept")], to: "t")
      broker = nil
      var reopened: EmbeddedBroker?
      while reopened == nil {
        do throws(MillraceError) { reopened = try await EmbeddedBroker.open(directory: directory) } catch {
          #expect(error.code == .storage)
          await Task.yield()
        }
      }
      let again = try #require(reopened)
      #expect(try await values(again, "t") == ["kept"])
      try await again.close()
    }
  }

  @Test("records come back with key, value, headers and time, by every codec", arguments: CompressionCodec.allCases)
  func everyCodec(codec: CompressionCodec) async throws {
    try await withBroker { broker in
      let sent = [
        Record(
          key: Bytes("k"), value: Bytes(String(repeating: "long ", count: 2000)),
          headers: [RecordHeader("h", Bytes("v")), RecordHeader("h", nil)], timestamp: Timestamp(milliseconds: 7)),
        Record(key: Bytes(""), value: nil, timestamp: Timestamp(milliseconds: 5)),
        Record(key: nil, value: Bytes(""), timestamp: Timestamp(milliseconds: 6)),
      ]
      let positions = try await broker.produce(sent, to: "t", partition: 0, codec: codec)
      #expect(positions.map(\.offset) == [0, 1, 2])
      var got: [Record] = []
      for try await record in broker.consume("t", until: .currentEnd) {
        var plain = record.record
        plain.offset = -1
        got.append(plain)
      }
      #expect(got == sent)
    }
  }

  @Test("records of one key share a partition, and every record's place is told")
  func partitionsByKey() async throws {
    try await withBroker { broker in
      try await broker.createTopic("t", partitions: 5)
      let sent = (0..<200).map { record("v\($0)", key: "k\($0 % 20)") }
      let positions = try await broker.produce(sent, to: "t")
      #expect(Set(positions.map(\.partition)).count > 1)
      var places: [RecordPosition: String] = [:]
      for try await record in broker.consume("t", until: .currentEnd) {
        places[RecordPosition(partition: record.partition, offset: record.offset)] = record.text
      }
      #expect(places.count == 200)
      for (index, position) in positions.enumerated() {
        #expect(places[position] == "v\(index)")
        #expect(position.partition == positions[index % 20].partition)
      }
    }
  }

  @Test("a call's records beyond one batch are split and keep their order")
  func splitsLargeCalls() async throws {
    try await withBroker { broker in
      let filler = String(repeating: "x", count: 10_000)
      let sent = (0..<300).map { "\($0) \(filler)" }
      try await broker.produce(sent.map { record($0) }, to: "t")
      #expect(try await values(broker, "t") == sent)
    }
  }

  @Test("a consumer begins where it is told to", arguments: [1 << 20, 1])
  func beginsWhereTold(fetchSize: Int) async throws {
    try await withBroker { broker in
      for number in 0..<20 {
        try await broker.produce(
          [Record(value: Bytes("\(number)"), timestamp: Timestamp(milliseconds: Int64(number * 10)))], to: "t")
      }
      func first(_ start: StartPosition) async throws -> String? {
        for try await record in broker.consume("t", from: start, fetchSize: fetchSize) { return record.text }
        return nil
      }
      #expect(try await first(.earliest) == "0")
      #expect(try await first(.offset(7)) == "7")
      #expect(try await first(.time(Timestamp(milliseconds: 95))) == "10")
      await expectError(.offsetOutOfRange) { _ = try await first(.offset(21)) }
      var latest = broker.consume("t", from: .latest, until: .currentEnd).makeAsyncIterator()
      #expect(try await latest.next() == nil)
      #expect(try await broker.offsets(of: "t") == [0..<20])
    }
  }

  @Test("a consumer of very many fetches gets every record once")
  func readsManyFetches() async throws {
    try await withBroker { broker in
      let producer = try await broker.producer(for: "t")
      for number in 0..<3000 { try await producer.send(record("\(number)"), partition: 0) }
      try await producer.flush()
      // Small calls make many small batches behind the few large ones.
      for number in 3000..<3300 { try await broker.produce([record("\(number)")], to: "t", partition: 0) }
      var next = 0
      for try await record in broker.consume("t", until: .currentEnd, fetchSize: 1) {
        #expect(record.text == "\(next)")
        next += 1
      }
      #expect(next == 3300)
    }
  }

  @Test("a consumer waits for records, reads all partitions, and ends when its task is cancelled")
  func waitsAndIsCancelled() async throws {
    try await withBroker { broker in
      try await broker.createTopic("t", partitions: 4)
      let seen = InProcessQueue<String>(capacity: 100)
      let consumer = Task {
        for try await record in broker.consume("t") { try await seen.send(record.text) }
        return "ended"
      }
      for partition in 0..<Int32(4) {
        try await broker.produce([record("p\(partition)")], to: "t", partition: partition)
        #expect(try await seen.receive() == "p\(partition)")
      }
      consumer.cancel()
      #expect(try await consumer.value == "ended")
    }
  }

  @Test("a consumer that waits learns that the broker is closed")
  func consumerEndsWithBroker() async throws {
    try await inTemporaryDirectory { directory in
      let broker = try await EmbeddedBroker.open(directory: directory)
      try await broker.produce([record("only")], to: "t")
      let started = InProcessQueue<Int>(capacity: 1)
      let consumer = Task {
        for try await _ in broker.consume("t") { try await started.send(1) }
      }
      _ = try await started.receive()
      try await broker.close()
      await expectError(.closed) { try await consumer.value }
    }
  }

  @Test("what cannot be done is refused with its reason")
  func refuses() async throws {
    try await withBroker(settings: ["auto.create.topics.enable": "false"]) { broker in
      try await broker.createTopic("t", partitions: 2, configs: ["max.message.bytes": "1000"])
      await expectError(.topicExists) { try await broker.createTopic("t") }
      await expectError(.invalidArgument) { try await broker.createTopic("not a name") }
      await expectError(.invalidArgument) { try await broker.createTopic("u", partitions: 0) }
      await expectError(.invalidArgument) { try await broker.createTopic("u", configs: ["nonsense": "1"]) }
      await expectError(.unknownTopic) { try await broker.produce([record("x")], to: "u") }
      await expectError(.unknownTopic) { _ = try await broker.producer(for: "u") }
      await expectError(.unknownTopic) { _ = try await values(broker, "u") }
      await expectError(.unknownTopic) { try await broker.deleteTopic("u") }
      await expectError(.unknownTopic) { _ = try await broker.offsets(of: "u") }
      await expectError(.invalidArgument) { try await broker.produce([record("x")], to: "t", partition: 2) }
      await expectError(.messageTooLarge) {
        try await broker.produce([record(String(repeating: "x", count: 2000))], to: "t")
      }
      await expectError(.invalidArgument) { try await broker.listen(host: "0.0.0.0") }
      await expectError(.invalidArgument) {
        try await broker.consume("t").commit(
          ConsumedRecord(topic: "t", partition: 0, record: record("x")))
      }
    }
    try await inTemporaryDirectory { directory in
      var configuration = EmbeddedBroker.Configuration()
      configuration.settings = ["num.partitions": "many"]
      let wrong = configuration
      await expectError(.invalidArgument) {
        _ = try await EmbeddedBroker.open(directory: directory, configuration: wrong)
      }
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }
  }

  @Test("a topic that was deleted and made again is found again")
  func findsNewTopic() async throws {
    try await withBroker { broker in
      try await broker.createTopic("t", partitions: 4)
      try await broker.produce([record("old")], to: "t", partition: 3)
      try await broker.deleteTopic("t")
      try await broker.createTopic("t", partitions: 1)
      try await broker.produce([record("new")], to: "t")
      #expect(try await values(broker, "t") == ["new"])
      #expect(try await broker.topics().map(\.partitions) == [1])
    }
  }

  @Test("Kafka clients on its listener read what the library produced")
  func servesKafka() async throws {
    try await withBroker { broker in
      try await broker.produce([record("from the library")], to: "t")
      let address = try await broker.listen()
      let socket = try PlainSocket(port: address.port)
      defer { socket.close() }
      // Fetch, version 4. Source: Kafka protocol, "Fetch Request (Version: 4)".
      let header: [UInt8] = bigEndian(Int16(1)) + bigEndian(Int16(4)) + bigEndian(Int32(77)) + bigEndian(Int16(-1))
      let limits: [UInt8] =
        bigEndian(Int32(-1)) + bigEndian(Int32(1000)) + bigEndian(Int32(1)) + bigEndian(Int32(1 << 20)) + [0]
      let topic: [UInt8] = bigEndian(Int32(1)) + bigEndian(Int16(1)) + Array("t".utf8)
      let partition: [UInt8] =
        bigEndian(Int32(1)) + bigEndian(Int32(0)) + bigEndian(Int64(0)) + bigEndian(Int32(1 << 20))
      let answer = try socket.call(header + limits + topic + partition)
      #expect(Array(answer[..<4]) == bigEndian(Int32(77)))
      #expect(String(decoding: answer, as: UTF8.self).contains("from the library"))
    }
  }

  @Test("AMQP clients are served where the program asks for it")
  func servesAMQP() async throws {
    try await withBroker { broker in
      await expectError(.invalidArgument) { try await broker.listen(host: "0.0.0.0", amqpPort: 0) }
      let address = try await broker.listen(amqpPort: 0)
      let socket = try PlainSocket(port: address.port)
      defer { socket.close() }
      // A method frame on channel 0: connection.start, class 10 method 10.
      let start = try socket.exchange(Array("AMQP".utf8) + [0, 0, 9, 1], for: 11)
      #expect(start[..<3] == [1, 0, 0] && start[7...] == [0, 10, 0, 10])
    }
  }
}
