// QueueBenchmark: 16-byte values per second through the in-process queue, an array behind a mutex and AsyncStream.
//
// Every way of sending runs several times, the ways interleaved, and its median counts. Argument: runs (default 5).
//   swift run -c release --package-path Benchmarks/Library QueueBenchmark

import Foundation
import Millrace
import Synchronization

/// A value of 16 bytes.
struct Value: Sendable {
  var number: Int
  var check: Int
}

/// A way to move `count` values from producers to consumers; returns the sum of the numbers that arrived.
struct Contender: Sendable {
  let name: String
  let count: Int
  let run: @Sendable (Int) async -> Int
}

enum QueueBenchmark {
  static let runs = CommandLine.arguments.count > 1 ? max(1, Int(CommandLine.arguments[1]) ?? 5) : 5
  static let capacity = 4096
  static let batch = 512

  static func run() async {
    var rates: [String: [Double]] = [:]
    let contenders = contenders()
    for _ in 0..<runs {
      for contender in contenders {
        let clock = ContinuousClock()
        let start = clock.now
        let sum = await contender.run(contender.count)
        let seconds = (clock.now - start) / .seconds(1)
        precondition(
          sum == contender.count * (contender.count - 1) / 2, "\(contender.name): values were lost or doubled")
        rates[contender.name, default: []].append(Double(contender.count) / seconds / 1e6)
      }
    }
    print("million values of 16 bytes per second: median of \(runs) (lowest, highest); capacity \(capacity)")
    for contender in contenders {
      let sorted = (rates[contender.name] ?? []).sorted()
      let line = [sorted[runs / 2], sorted[0], sorted[runs - 1]].map { String(format: "%8.2f", $0) }
      print(contender.name.padding(toLength: 52, withPad: " ", startingAt: 0), line[0], " (\(line[1]),\(line[2]))")
    }
    let medians = contenders.map { contender in
      "\"\(contender.name)\": \((rates[contender.name] ?? []).sorted()[runs / 2])"
    }
    print("{\(medians.joined(separator: ", "))}")
  }

  static func contenders() -> [Contender] {
    [
      Contender(name: "queue: threads 1:1, batches of \(batch)", count: 10_000_000) { count in
        let queue = InProcessQueue<Value>(capacity: capacity)
        return await threads(
          produce: [{ sendBatches(queue, 0..<count) }], then: { queue.close() }, consume: [{ sumBatches(queue) }])
      },
      Contender(name: "queue: threads 1:1, one by one", count: 4_000_000) { count in
        let queue = InProcessQueue<Value>(capacity: capacity)
        return await threads(
          produce: [{ sendOneByOne(queue, 0..<count) }], then: { queue.close() }, consume: [{ sumOneByOne(queue) }])
      },
      Contender(name: "queue: threads 2:2, one by one", count: 4_000_000) { count in
        let queue = InProcessQueue<Value>(capacity: capacity)
        return await threads(
          produce: [{ sendOneByOne(queue, 0..<(count / 2)) }, { sendOneByOne(queue, (count / 2)..<count) }],
          then: { queue.close() }, consume: [{ sumOneByOne(queue) }, { sumOneByOne(queue) }])
      },
      Contender(name: "queue: tasks 1:1, one by one", count: 2_000_000) { count in
        let queue = InProcessQueue<Value>(capacity: capacity)
        async let sum: Int = {
          var sum = 0
          for await value in queue { sum += value.number }
          return sum
        }()
        do {
          for number in 0..<count { try await queue.send(Value(number: number, check: number)) }
        } catch { print("sending failed: \(error)") }
        queue.close()
        return await sum
      },
      Contender(name: "queue: process, 2 tasks, ordered", count: 200_000) { count in
        let queue = InProcessQueue<Value>(capacity: capacity)
        async let sum: Int = {
          var sum = 0
          do {
            for try await number in queue.process(concurrency: 2, { $0.number }) { sum += number }
          } catch { print("processing failed: \(error)") }
          return sum
        }()
        do {
          for number in 0..<count { try await queue.send(Value(number: number, check: number)) }
        } catch { print("sending failed: \(error)") }
        queue.close()
        return await sum
      },
      Contender(name: "mutex + array: threads 1:1, drained in batches", count: 10_000_000) { count in
        let drained = DrainedArray()
        return await threads(
          produce: [
            {
              for number in 0..<count { drained.append(Value(number: number, check: number)) }
              return 0
            }
          ], then: {},
          consume: [
            {
              var sum = 0
              var left = count
              while left > 0 {
                let values = drained.takeAll()
                left -= values.count
                for value in values { sum += value.number }
              }
              return sum
            }
          ])
      },
      Contender(name: "AsyncStream: tasks 1:1, unbounded", count: 1_000_000) { count in
        let (stream, continuation) = AsyncStream.makeStream(of: Value.self)
        async let sum: Int = {
          var sum = 0
          for await value in stream { sum += value.number }
          return sum
        }()
        for number in 0..<count { continuation.yield(Value(number: number, check: number)) }
        continuation.finish()
        return await sum
      },
    ]
  }

  static func sendOneByOne(_ queue: InProcessQueue<Value>, _ numbers: Range<Int>) -> Int {
    do throws(QueueError) {
      for number in numbers { try queue.send(Value(number: number, check: number)) }
    } catch { print("sending failed: \(error)") }
    return 0
  }

  static func sumOneByOne(_ queue: InProcessQueue<Value>) -> Int {
    var sum = 0
    while let value = queue.receive() { sum += value.number }
    return sum
  }

  static func sendBatches(_ queue: InProcessQueue<Value>, _ numbers: Range<Int>) -> Int {
    var values = ContiguousArray<Value>()
    values.reserveCapacity(batch)
    do throws(QueueError) {
      for number in numbers {
        values.append(Value(number: number, check: number))
        if values.count == batch {
          try queue.send(contentsOf: values)
          values.removeAll(keepingCapacity: true)
        }
      }
      try queue.send(contentsOf: values)
    } catch { print("sending failed: \(error)") }
    return 0
  }

  static func sumBatches(_ queue: InProcessQueue<Value>) -> Int {
    var sum = 0
    while let values = queue.receiveBatch(maximum: batch) {
      for value in values { sum += value.number }
    }
    return sum
  }

  /// Runs each body on a thread; when the producers have ended, `then`; returns the consumers' sum.
  static func threads(
    produce: [@Sendable () -> Int], then: @escaping @Sendable () -> Void, consume: [@Sendable () -> Int]
  ) async -> Int {
    async let consumed = onThreads(consume)
    _ = await onThreads(produce)
    then()
    return await consumed
  }

  static func onThreads(_ bodies: [@Sendable () -> Int]) async -> Int {
    await withTaskGroup(of: Int.self) { group in
      for body in bodies {
        group.addTask {
          await withCheckedContinuation { continuation in
            Thread { continuation.resume(returning: body()) }.start()
          }
        }
      }
      return await group.reduce(0, +)
    }
  }
}

/// What people write by hand: an unbounded array behind a lock, taken whole by the consumer.
final class DrainedArray: Sendable {
  private let values = Mutex<[Value]>([])
  func append(_ value: Value) { values.withLock { $0.append(value) } }
  func takeAll() -> [Value] {
    values.withLock { values in
      var taken: [Value] = []
      swap(&taken, &values)
      return taken
    }
  }
}
