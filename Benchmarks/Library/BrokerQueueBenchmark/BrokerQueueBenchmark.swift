// BrokerQueueBenchmark: messages of 16 bytes per second through a queue of the embedded broker, in this process.
//
// Every way runs several times, the ways interleaved, and its median counts. Arguments: runs (default 3), part of the names
// of the ways to run.
//   swift run -c release --package-path Benchmarks/Library BrokerQueueBenchmark

import Foundation
import Millrace

/// A way to move `count` messages through a queue; returns the sum of the numbers that arrived.
struct Contender: Sendable {
  let name: String
  let count: Int
  let options: Queue.Options
  let run: @Sendable (Queue, Int) async throws -> Int
}

enum BrokerQueueBenchmark {
  static let runs = CommandLine.arguments.count > 1 ? max(1, Int(CommandLine.arguments[1]) ?? 3) : 3
  static let prefetch = 8192
  static let wanted = CommandLine.arguments.count > 2 ? CommandLine.arguments[2] : ""

  static func run() async throws {
    let contenders = contenders.filter { wanted.isEmpty || $0.name.contains(wanted) }
    let directory = NSTemporaryDirectory() + "millrace-benchmark-\(UUID().uuidString)"
    let broker = try await EmbeddedBroker.open(directory: directory)
    var rates: [String: [Double]] = [:]
    for run in 0..<runs {
      for (index, contender) in contenders.enumerated() {
        let queue = try await broker.queue("q\(run).\(index)", contender.options)
        let clock = ContinuousClock()
        let start = clock.now
        let sum = try await contender.run(queue, contender.count)
        let seconds = (clock.now - start) / .seconds(1)
        precondition(
          sum == contender.count * (contender.count - 1) / 2, "\(contender.name): messages were lost or doubled")
        rates[contender.name, default: []].append(Double(contender.count) / seconds / 1e6)
        try await broker.deleteQueue(queue.name)
      }
    }
    try await broker.close()
    try FileManager.default.removeItem(atPath: directory)
    print("million messages of 16 bytes per second: median of \(runs) (lowest, highest); prefetch \(prefetch)")
    for contender in contenders {
      let sorted = (rates[contender.name] ?? []).sorted()
      let line = [sorted[runs / 2], sorted[0], sorted[runs - 1]].map { String(format: "%8.3f", $0) }
      print(contender.name.padding(toLength: 52, withPad: " ", startingAt: 0), line[0], " (\(line[1]),\(line[2]))")
    }
    let medians = contenders.map { contender in
      "\"\(contender.name)\": \((rates[contender.name] ?? []).sorted()[runs / 2])"
    }
    print("{\(medians.joined(separator: ", "))}")
  }

  static let contenders: [Contender] = [
    Contender(name: "transient, one by one", count: 2_000_000, options: .transient) { queue, count in
      async let sum = sum(queue, count)
      for number in 0..<count { try await queue.publish(message(number)) }
      return try await sum
    },
    Contender(name: "transient, in batches of 512", count: 2_000_000, options: .transient) { queue, count in
      async let sum = sumBatches(queue, count)
      for start in stride(from: 0, to: count, by: 512) {
        try await queue.publish(contentsOf: (start..<min(start + 512, count)).lazy.map { QueueMessage(message($0)) })
      }
      return try await sum
    },
    Contender(name: "transient, process with 2 tasks", count: 500_000, options: .transient) { queue, count in
      async let sum = process(queue, count)
      for number in 0..<count { try await queue.publish(message(number)) }
      return try await sum
    },
    Contender(name: "durable, sent one by one", count: 1_000_000, options: Queue.Options()) { queue, count in
      async let sum = sum(queue, count)
      for number in 0..<count { try await queue.send(message(number)) }
      return try await sum
    },
    Contender(name: "durable, 256 tasks wait for each", count: 100_000, options: Queue.Options()) { queue, count in
      async let sum = sum(queue, count)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for task in 0..<256 {
          group.addTask {
            for number in stride(from: task, to: count, by: 256) { try await queue.publish(message(number)) }
          }
        }
        try await group.waitForAll()
      }
      return try await sum
    },
  ]

  static func message(_ number: Int) -> Bytes {
    withUnsafeBytes(of: (number, number)) { Bytes(copying: $0) }
  }

  static func number(_ body: Bytes) -> Int {
    body.withBuffer { $0.loadUnaligned(as: Int.self) }
  }

  static func sum(_ queue: Queue, _ count: Int) async throws -> Int {
    var (sum, left) = (0, count)
    for try await delivery in queue.deliveries(prefetch: prefetch) {
      sum += number(delivery.body)
      delivery.ackLater()
      left -= 1
      if left == 0 { break }
    }
    return sum
  }

  static func sumBatches(_ queue: Queue, _ count: Int) async throws -> Int {
    var (sum, left) = (0, count)
    for try await batch in queue.batches(of: 512, within: .zero, prefetch: prefetch) {
      for delivery in batch { sum += number(delivery.body) }
      batch.ackLater()
      left -= batch.count
      if left == 0 { break }
    }
    return sum
  }

  static func process(_ queue: Queue, _ count: Int) async throws -> Int {
    let total = Total(count)
    try await queue.process(concurrency: 2, prefetch: prefetch) { delivery in
      if await total.add(number(delivery.body)) { try await queue.close() }
    }
    return await total.sum
  }
}

/// A sum of several tasks.
actor Total {
  private(set) var sum = 0
  private var left: Int

  init(_ count: Int) { left = count }

  /// Adds a number.
  /// - Returns: whether it was the last one.
  func add(_ number: Int) -> Bool {
    sum += number
    left -= 1
    return left == 0
  }
}
