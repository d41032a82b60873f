// Updates: how many updates of keyed state a core makes in a second, however many keys there are.

import MillraceBase
import MillraceConnectors
import MillraceDataflow
import MillraceModel
import MillraceStreams

/// Which keys the updates are of.
enum KeyChoice: String {
  /// Every key as likely as any other.
  case uniform
  /// The k-th key in proportion to 1/k.
  case zipf
}

/// A job that sums numbers by key, on a host in memory: decoding of the records, the keyed state and its records for the state
/// log are in the figures. What it hands on is encoded in the second form only.
struct Updates {
  let keys: Int
  let updates: Int
  /// Eight bytes, or sixteen.
  let keySize: Int
  let writesResults: Bool
  /// Bytes of memory for the state; what is beyond lies in files in `folder`. Nil for no limit.
  var memory: Int?
  var folder = "."

  /// Fills the state, then measures updates of each choice, and prints a line for each.
  func run(_ choices: [KeyChoice]) throws(JobError) {
    let host = MemoryHost()
    host.createTopic("updates", partitions: 1)
    host.createTopic("sums", partitions: 1)
    let folder = folder
    host.makeStateFiles { () throws(JobError) in try ScratchStateFile(in: folder) }
    var options = JobOptions()
    options.stateMemory = memory
    let executor = try JobExecutor(job, host: host, options: options)
    try feed(host, count: keys) { UInt64($0) }
    let fill = try work(executor)
    Report.say(
      "\(label), new keys: \(Report.rate(keys, fill.processor)) (longest step \(Report.milliseconds(fill.longest)))")
    for choice in choices {
      var random = SeededRandom(seed: 7)
      let zipf = Zipf(keys)
      try feed(host, count: updates) { _ in
        switch choice {
        case .uniform: UInt64.random(in: 0..<UInt64(keys), using: &random)
        case .zipf: UInt64(zipf.next(&random) - 1)
        }
      }
      let spent = try work(executor)
      let rate = Report.rate(updates, spent.processor)
      Report.say("\(label), \(choice.rawValue) keys: \(rate) (longest step \(Report.milliseconds(spent.longest)))")
      guard memory != nil else { continue }
      Report.say("  memory \(executor.figures.stateMemory >> 20) MiB, files \(executor.figures.stateFiles >> 20) MiB")
    }
  }

  private var label: String {
    "\(keys / 1000) thousand keys of \(keySize) bytes\(writesResults ? ", results written" : "")"
      + (memory.map { ", \($0 >> 20) MiB of memory" } ?? "")
  }

  private var job: JobDefinition {
    if keySize == 8 {
      return pipeline {
        NumberKey(Int64(bigEndian: $0.key.buffer.loadUnaligned(as: Int64.self)))
      } text: {
        $0.number
      }
    }
    return pipeline {
      NumberPairKey(
        Int64(bigEndian: $0.key.buffer.loadUnaligned(as: Int64.self)),
        Int64(bigEndian: $0.key.buffer.loadUnaligned(fromByteOffset: 8, as: Int64.self)))
    } text: {
      $0.second
    }
  }

  private func pipeline<Key: StreamKey>(
    _ key: @escaping @Sendable (InputRecord) -> Key, text: @escaping @Sendable (Key) -> Int64
  ) -> JobDefinition {
    let all = writesResults
    return DataStream<RecordInput>.topic("updates").keyBy(key)
      .sum(name: "sums") { Int64(bigEndian: $0.value.buffer.loadUnaligned(as: Int64.self)) }
      .filter { _ in all }
      .map { Keyed(key: text($0.key), value: $0.value) }
      .to(topic: "sums").job(named: "state-benchmark")
  }

  /// Appends records with the keys that `choose` says, of the number of the record.
  private func feed(_ host: MemoryHost, count: Int, _ choose: (Int) -> UInt64) throws(JobError) {
    var builder = RecordBatchBuilder()
    for index in 0..<count {
      // Keys come in no order that the table could know of.
      let first = Hashing.mix(choose(index)).bigEndian
      let second = Hashing.mix(first).bigEndian
      let one = Int64(1).bigEndian
      withUnsafeBytes(of: (first, second)) { key in
        withUnsafeBytes(of: one) { value in
          builder.append(
            key: UnsafeRawBufferPointer(rebasing: key[..<keySize]), value: value, timestamp: Timestamp(milliseconds: 0))
        }
      }
      if builder.size > 500_000 || index == count - 1 {
        try host.append(topic: "updates", partition: 0, batch: builder.finish())
      }
    }
  }

  /// Makes steps until everything was read.
  private func work(_ executor: JobExecutor) throws(JobError) -> (processor: Double, longest: Double) {
    let begun = Report.processorSeconds()
    var last = begun
    var longest = 0.0
    repeat {
      _ = try executor.turn()
      let now = Report.processorSeconds()
      longest = max(longest, now - last)
      last = now
    } while executor.figures.lag > 0
    try executor.settle()
    return (Report.processorSeconds() - begun, longest)
  }
}

/// Numbers from 1 to a highest one, k in proportion to 1/k.
/// Source: Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions", 1996.
struct Zipf {
  private let highest: Double
  private let low: Double
  private let high: Double

  init(_ count: Int) {
    highest = Double(count)
    low = Zipf.integral(1.5) - 1
    high = Zipf.integral(highest + 0.5)
  }

  private static func integral(_ x: Double) -> Double { Report.logarithm(x) }

  func next(_ random: inout SeededRandom) -> Int {
    while true {
      let u = high + Double.random(in: 0..<1, using: &random) * (low - high)
      let x = Report.exponential(u)
      let k = min(max(x.rounded(), 1), highest)
      if u >= Zipf.integral(k + 0.5) - 1 / k { return Int(k) }
    }
  }
}
