// EmbeddingGuideTests: the code of docs/guides/embedding.md, as it stands there: all of it is compiled, and what needs neither a
// directory of its own nor a port of its own runs.

import Foundation
import Millrace
import Testing

@Suite("the guide to embedding")
struct EmbeddingGuideTests {
  private let password = "correct horse"
  private func work(on record: ConsumedRecord) async {}

  /// Compiled only: it opens a directory by its name.
  private func opens() async throws {
    let broker = try await EmbeddedBroker.open(directory: "data")
    try await broker.createTopic("numbers", partitions: 3)

    try await producesAndConsumes(broker)
    try await broker.close()
  }

  private func producesAndConsumes(_ broker: EmbeddedBroker) async throws {
    let positions = try await broker.produce(
      ["one", "two", "three"].map { Record(key: Bytes($0), value: Bytes("number \($0)")) }, to: "numbers")
    for position in positions { print("durable in partition \(position.partition) at offset \(position.offset)") }

    for try await record in broker.consume("numbers", group: "readers", until: .currentEnd) {
      print("received \(record.text)")
    }
  }

  /// Compiled only: it needs ports of its own, files and other machines.
  private func listens(_ broker: EmbeddedBroker) async throws {
    let address = try await broker.listen()  // or listen(kafkaPort: 9092)
    print("kcat -b \(address) -t numbers -C")
    try await broker.listen(amqpPort: 5672)  // AMQP 0-9-1, for pika, kombu, Celery

    var listener = ListenerDefinition(.kafka, host: "0.0.0.0", port: 9093, isEncrypted: true)
    listener.mechanisms = [.scramSHA256, .scramSHA512]
    listener.files = TLSFiles(certificate: "server.pem", key: "server.key")
    listener.advertised = SocketAddress(host: "broker.example.com", port: 9093)

    try await governs(broker)
    try await broker.listen(listener)
    let files = "certificate=server.pem&key=server.key&client-ca=ca.pem"
    try await broker.listen(ListenerDefinition("amqps://0.0.0.0:5671?auth=certificate&\(files)"))
  }

  private func governs(_ broker: EmbeddedBroker) async throws {
    try await broker.setUser("alice", password: password)
    try await broker.addRules([
      AccessRule(ResourcePattern(.topic, "orders"), Principal("alice"), .read),
      AccessRule(ResourcePattern(.group, "billing"), Principal("alice"), .read),
    ])
  }

  @Test("produces, consumes, shares the work, administers")
  func shares() async throws {
    try await withBroker { broker in
      try await broker.createTopic("numbers", partitions: 3)
      try await producesAndConsumes(broker)

      let workers = (0..<3).map { _ in
        Task {
          for try await record in broker.consume("numbers", group: "workers") { await work(on: record) }
        }
      }
      for worker in workers {
        worker.cancel()
        try? await worker.value
      }

      try await broker.configureTopic("numbers", ["retention.ms": "3600000", "cleanup.policy": nil])
      try await broker.addPartitions(to: "numbers", total: 6)
      let more = (0..<100).map { Record(value: Bytes("more \($0)")) }
      try await broker.produce(more, to: "numbers", partition: 0)
      try await broker.deleteRecords(of: "numbers", partition: 0, before: 100)
      try await broker.deleteGroup("readers")
      let left = try await values(broker, "numbers")
      #expect((1...6).contains(left.count), "\(left)")

      try await governs(broker)
      #expect(try await broker.rules().count == 2)
    }
  }

  @Test("sends many records, and moves some from topic to topic in one commit")
  func transacts() async throws {
    try await withBroker { broker in
      let producer = try await broker.producer(for: "messages")
      for number in 1...5 {
        try await producer.send(Record(key: Bytes("anna"), value: Bytes("anna \(number)")))
      }
      try await producer.close()
      #expect(try await values(broker, "messages") == (1...5).map { "anna \($0)" })

      for topic in ["orders", "bills"] { try await broker.createTopic(topic, partitions: 1) }
      try await broker.produce([record("2 chairs", key: "anna")], to: "orders")
      let billing = Task {
        for try await order in broker.consume("orders", partitions: [0], group: "billing") {
          var transaction = Transaction()
          transaction.produce([Record(key: order.key, value: order.value)], to: "bills")
          transaction.commit([order], group: "billing")
          try await broker.commit(transaction)
        }
      }
      for try await bill in broker.consume("bills") {
        #expect(bill.text == "2 chairs")
        break
      }
      billing.cancel()
      try? await billing.value
    }
  }

  @Test("the guide's code is the code above, line by line")
  func isTheSame() throws {
    let here = URL(filePath: #filePath)
    let root = here.deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    let guide = try String(contentsOf: root.appending(path: "docs/guides/embedding.md"), encoding: .utf8)
    let lines = { (text: String) in
      text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
    }
    let compiled = Set(lines(try String(contentsOf: here, encoding: .utf8)))
    var found = 0
    for block in guide.split(separator: "```swift\n").dropFirst() {
      for line in lines(String(block.split(separator: "```", omittingEmptySubsequences: false)[0])) {
        // What stands in a package's description.
        if line.hasPrefix(".package(") || line.hasPrefix(".product(") { continue }
        found += 1
        #expect(compiled.contains(line), "\(line)")
      }
    }
    #expect(found > 40, "\(found) lines of code")
  }
}
