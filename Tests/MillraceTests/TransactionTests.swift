// TransactionTests: records of several topics and a group's positions, together or not at all.

import Foundation
import Millrace
import Testing

@Suite("a transaction of the library")
struct TransactionTests {
  @Test("its records and positions are there together, also after the broker was opened again")
  func allOfIt() async throws {
    try await inTemporaryDirectory { directory in
      var broker = try await EmbeddedBroker.open(directory: directory)
      try await broker.createTopic("orders", partitions: 1)
      try await broker.createTopic("bills", partitions: 3)
      try await broker.createTopic("log", partitions: 1)
      try await broker.produce((0..<20).map { record("order \($0)") }, to: "orders")
      for try await order in broker.consume("orders", partitions: [0], group: "billing", until: .currentEnd) {
        var transaction = Transaction()
        transaction.produce([record("bill of \(order.text)", key: order.text)], to: "bills")
        transaction.produce([record("billed \(order.text)")], to: "log", partition: 0)
        transaction.commit([order], group: "billing")
        try await broker.commit(transaction, codec: .lz4)
        if order.offset == 9 { break }
      }
      try await broker.close()
      broker = try await EmbeddedBroker.open(directory: directory)
      #expect(try await broker.committedOffsets(of: "billing", topic: "orders") == [0: 10])
      #expect(try await values(broker, "log") == (0..<10).map { "billed order \($0)" })
      #expect(try await values(broker, "bills").sorted() == (0..<10).map { "bill of order \($0)" })
      try await broker.close()
    }
  }

  @Test("when a part of it is refused nothing of it is there")
  func nothingOfIt() async throws {
    try await withBroker(settings: ["auto.create.topics.enable": "false"]) { broker in
      try await broker.createTopic("a", partitions: 1)
      try await broker.createTopic("b", partitions: 1)
      try await broker.produce([record("seen")], to: "b")
      var seen: [ConsumedRecord] = []
      for try await one in broker.consume("b", until: .currentEnd) { seen.append(one) }
      var transaction = Transaction()
      transaction.produce([record("x")], to: "a")
      transaction.commit(seen, group: "g")
      var wrongPartition = transaction
      wrongPartition.produce([record("y")], to: "b", partition: 7)
      await expectError(.invalidArgument) { try await broker.commit(wrongPartition) }
      var wrongTopic = transaction
      wrongTopic.produce([record("y")], to: "missing")
      await expectError(.unknownTopic) { try await broker.commit(wrongTopic) }
      var tooLarge = transaction
      let filler = String(repeating: "x", count: 900_000)
      for _ in 0..<40 { tooLarge.produce([record(filler)], to: "b") }
      await expectError(.messageTooLarge) { try await broker.commit(tooLarge) }
      #expect(try await values(broker, "a").isEmpty)
      #expect(try await values(broker, "b") == ["seen"])
      #expect(try await broker.committedOffsets(of: "g", topic: "b").isEmpty)
      try await broker.commit(Transaction())
      try await broker.commit(transaction)
      #expect(try await values(broker, "a") == ["x"])
      #expect(try await broker.committedOffsets(of: "g", topic: "b") == [0: 1])
    }
  }
}
