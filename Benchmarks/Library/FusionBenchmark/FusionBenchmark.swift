// FusionBenchmark: whether a user's closures fuse with the library's operators across the border of the package.
//
// Three ways to the same sum over the same records: a chain of nine maps and filters, each with a closure of its own; the same
// arithmetic written by hand in one closure; and the arithmetic alone, over an array. Were the closures of the chain
// called one by one, it would take a good deal longer than the one closure. Argument: runs (default 5).

import Foundation
import Millrace

/// The sum that a job adds to, on its one worker.
///
/// Safety: `@unchecked Sendable` because it is used by the thread that runs the job only.
final class Sum: @unchecked Sendable {
  var value: Int64 = 0
}

enum FusionBenchmark {
  static let records = 2_000_000
  static let recordsPerBatch = 5000

  static func run() {
    let runs = CommandLine.arguments.count > 1 ? max(1, Int(CommandLine.arguments[1]) ?? 5) : 5
    do {
      let host = MemoryHost(largestCommit: 1 << 30)
      host.createTopic("numbers", partitions: 1)
      var numbers: [Int64] = []
      var builder = RecordBatchBuilder()
      for index in 0..<records {
        let number = Int64(truncatingIfNeeded: UInt64(index) &* 0x9e37_79b9_7f4a_7c15)
        numbers.append(number)
        withUnsafeBytes(of: number) { builder.append(key: nil, value: $0, timestamp: Timestamp(milliseconds: 0)) }
        if builder.count == recordsPerBatch || index == records - 1 {
          try host.append(topic: "numbers", partition: 0, batch: builder.finish())
        }
      }
      var times: [String: [Double]] = [:]
      for run in 0..<runs {
        let (chain, chained) = try measure(host, "chain-\(run)", chainOfClosures)
        let (byHand, written) = try measure(host, "hand-\(run)", oneClosure)
        let (alone, plain) = arithmetic(numbers)
        precondition(chained == written && written == plain, "sums differ: \(chained), \(written), \(plain)")
        times["chain", default: []].append(chain)
        times["hand", default: []].append(byHand)
        times["array", default: []].append(alone)
      }
      let chain = median(times["chain"] ?? []), hand = median(times["hand"] ?? []), array = median(times["array"] ?? [])
      print("nanoseconds of a record, median of \(runs): chain \(chain), by hand \(hand), arithmetic alone \(array)")
      print("{\"chain_ns\": \(chain), \"hand_ns\": \(hand), \"array_ns\": \(array)}")
    } catch {
      print("failed: \(error)")
      exit(1)
    }
  }

  static func chainOfClosures(_ sum: Sum, _ name: String) -> JobDefinition {
    // In parts, and with the closures' types, for the type checker's sake: the operators are the same.
    let first = DataStream.topic("numbers")
      .map { (record: InputRecord) -> Int64 in record.valueBuffer.loadUnaligned(as: Int64.self) }
      .filter { (number: Int64) -> Bool in number & 7 != 3 }
      .map { (number: Int64) -> Int64 in number &+ 11 }
    let second =
      first
      .map { (number: Int64) -> Int64 in number ^ 0x5bd1 }
      .filter { (number: Int64) -> Bool in number & 15 != 9 }
      .map { (number: Int64) -> Int64 in number &* 31 }
    let third =
      second
      .map { (number: Int64) -> Int64 in number >> 3 }
      .filter { (number: Int64) -> Bool in number & 1 == 0 }
      .map { (number: Int64) -> Int64 in number &- 5 }
    return third.forEach { (number: Int64) in sum.value &+= number }.job(named: name)
  }

  static func oneClosure(_ sum: Sum, _ name: String) -> JobDefinition {
    DataStream.topic("numbers").forEach { record in
      if let number = byHand(record.valueBuffer.loadUnaligned(as: Int64.self)) { sum.value &+= number }
    }.job(named: name)
  }

  @inline(__always)
  static func byHand(_ number: Int64) -> Int64? {
    guard number & 7 != 3 else { return nil }
    let mixed = (number &+ 11) ^ 0x5bd1
    guard mixed & 15 != 9 else { return nil }
    let scaled = (mixed &* 31) >> 3
    return scaled & 1 == 0 ? scaled &- 5 : nil
  }

  static func measure(
    _ host: MemoryHost, _ name: String, _ job: (Sum, String) -> JobDefinition
  ) throws -> (nanoseconds: Double, sum: Int64) {
    let sum = Sum()
    var options = JobOptions()
    options.idleWait = .zero
    options.briefWait = .zero
    let executor = try JobExecutor(job(sum, name), host: host, options: options)
    let start = ContinuousClock.now
    while try executor.turn() == .progress {}
    let passed = ContinuousClock.now - start
    precondition(executor.figures.recordsIn == UInt64(records), "\(executor.figures.recordsIn) records were read")
    return (nanoseconds(passed), sum.value)
  }

  static func arithmetic(_ numbers: [Int64]) -> (nanoseconds: Double, sum: Int64) {
    let start = ContinuousClock.now
    var sum: Int64 = 0
    for number in numbers { if let number = byHand(number) { sum &+= number } }
    return (nanoseconds(ContinuousClock.now - start), sum)
  }

  static func nanoseconds(_ duration: Duration) -> Double {
    (duration / .nanoseconds(1) / Double(records) * 100).rounded() / 100
  }

  static func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
}
