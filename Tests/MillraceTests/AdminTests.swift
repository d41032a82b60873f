// AdminTests: an embedded broker's topics are configured and grown, records and groups deleted.

import Millrace
import Testing

@Suite("administering an embedded broker")
struct AdminTests {
  @Test("a topic's settings change for the next batch, and what is not allowed changes nothing")
  func configures() async throws {
    try await withBroker { broker in
      try await broker.createTopic("t", partitions: 1)
      try await broker.produce([record("before")], to: "t")
      let configs = try await broker.configureTopic("t", ["max.message.bytes": "100", "retention.ms": "5"]).configs
      #expect(configs == ["max.message.bytes": "100", "retention.ms": "5"])
      await expectError(.messageTooLarge) {
        try await broker.produce([record(String(repeating: "x", count: 200))], to: "t")
      }
      await expectError(.invalidArgument) { try await broker.configureTopic("t", ["retention.ms": "soon"]) }
      await expectError(.unknownTopic) { try await broker.configureTopic("none", [:]) }
      #expect(try await broker.configureTopic("t", ["max.message.bytes": nil]).configs == ["retention.ms": "5"])
      try await broker.produce([record(String(repeating: "x", count: 200))], to: "t")
    }
  }

  @Test("added partitions are produced to, without a word to the producer")
  func grows() async throws {
    try await withBroker { broker in
      try await broker.createTopic("t", partitions: 1)
      try await broker.produce([record("before")], to: "t")
      #expect(try await broker.addPartitions(to: "t", total: 4).partitions == 4)
      let keyed = (0..<100).map {
        Record(key: Bytes("\($0)"), value: Bytes("v"), timestamp: Timestamp(milliseconds: 1))
      }
      let positions = try await broker.produce(keyed, to: "t")
      #expect(Set(positions.map(\.partition)) == [0, 1, 2, 3])
      await expectError(.invalidArgument) { try await broker.addPartitions(to: "t", total: 4) }
      await expectError(.unknownTopic) { try await broker.addPartitions(to: "none", total: 4) }
    }
  }

  @Test("deleted records are gone for readers, a deleted group begins anew")
  func deletes() async throws {
    try await withBroker { broker in
      try await broker.createTopic("t", partitions: 1)
      try await broker.produce((0..<5).map { record("\($0)") }, to: "t")
      let records = broker.consume("t", group: "g", until: .currentEnd)
      for try await record in records where record.text == "4" { try await records.commit(record) }
      #expect(try await broker.deleteRecords(of: "t", partition: 0, before: 2) == 2)
      await expectError(.offsetOutOfRange) { try await broker.deleteRecords(of: "t", partition: 0, before: 9) }
      #expect(try await broker.offsets(of: "t") == [2..<5])
      try await broker.deleteGroup("g")
      await expectError(.unknownGroup) { try await broker.deleteGroup("g") }
      #expect(try await values(broker, "t", group: "g") == ["2", "3", "4"])
    }
  }
}
