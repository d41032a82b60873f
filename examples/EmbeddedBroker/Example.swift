// EmbeddedBroker: a broker inside this program that other programs join with their Kafka clients.
//
//   swift run --package-path examples EmbeddedBroker          checks itself and ends
//   swift run --package-path examples EmbeddedBroker --stay   goes on serving until it is interrupted

import Foundation
import Millrace

enum Example {
  static func run() async throws {
    let directory = NSTemporaryDirectory() + "millrace-example-\(UUID().uuidString)"
    var configuration = EmbeddedBroker.Configuration()
    configuration.settings = ["num.partitions": "3"]
    let broker = try await EmbeddedBroker.open(directory: directory, configuration: configuration)
    let address = try await broker.listen()

    let positions = try await broker.produce(
      ["one", "two", "three"].map { Record(key: Bytes($0), value: Bytes("number \($0)")) }, to: "numbers")
    for position in positions { print("durable in partition \(position.partition) at offset \(position.offset)") }

    // A group remembers how far it has come, also over restarts.
    var received: [String] = []
    for try await record in broker.consume("numbers", group: "readers", until: .currentEnd) {
      print("received \(record.text)")
      received.append(record.text)
    }
    var rest = broker.consume("numbers", group: "readers", until: .currentEnd).makeAsyncIterator()
    let isDone = try await rest.next() == nil

    print("join with: kcat -b \(address) -t numbers -C")
    print("      or: echo hello | kcat -b \(address) -t numbers -P")
    if CommandLine.arguments.contains("--stay") {
      for try await record in broker.consume("numbers", from: .latest) { print("received \(record.text)") }
    }
    try await broker.close()
    try FileManager.default.removeItem(atPath: directory)
    guard received.sorted() == ["number one", "number three", "number two"], isDone else {
      print("received \(received); everything committed: \(isDone)")
      exit(1)
    }
  }
}
