// DataStream: ten messages go from two producers into a stream of four partitions, which four tasks process in parallel.
//
//   swift run --package-path examples DataStream

import Foundation
import Millrace

enum Example {
  static func run() async throws {
    let directory = NSTemporaryDirectory() + "millrace-example-\(UUID().uuidString)"
    let broker = try await EmbeddedBroker.open(directory: directory)
    try await broker.createTopic("messages", partitions: 4)

    // Each partition has a task of its own. Messages of one sender have one key, so they stay in order in one partition.
    let processed = InProcessQueue<ConsumedRecord>(capacity: 10)
    let workers = (0..<Int32(4)).map { partition in
      Task {
        for try await message in broker.consume("messages", partitions: [partition]) {
          print("partition \(partition) processes \(message.text)")
          try await processed.send(message)
        }
      }
    }

    try await withThrowingTaskGroup(of: Void.self) { producers in
      for name in ["anna", "eva"] {
        producers.addTask {
          let producer = try await broker.producer(for: "messages")
          for number in 1...5 {
            try await producer.send(Record(key: Bytes(name), value: Bytes("\(name) \(number)")))
          }
          try await producer.close()
        }
      }
      try await producers.waitForAll()
    }

    var received: [String: [String]] = [:]
    for _ in 1...10 {
      guard let message = try await processed.receive() else { break }
      received[message.key?.text ?? "", default: []].append(message.text)
    }
    for worker in workers { worker.cancel() }
    for worker in workers { try await worker.value }
    try await broker.close()
    try FileManager.default.removeItem(atPath: directory)

    for name in ["anna", "eva"] {
      let expected = (1...5).map { "\(name) \($0)" }
      guard received[name] == expected else {
        print("expected \(expected), received \(received[name] ?? [])")
        exit(1)
      }
    }
    print("10 messages processed, those of each sender in order")
  }
}
