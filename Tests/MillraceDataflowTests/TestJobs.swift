// TestJobs: small jobs, texts and models that the tests of the engine share.

import MillraceBase
import MillraceDataflow
import MillraceModel
import Testing

/// Cuts at single spaces: enough for the engine's own tests.
struct SpaceSplit: FlatTransform {
  func apply(_ input: InputRecord, _ emit: (BorrowedBytes) -> Void) {
    var start = 0
    let buffer = input.valueBuffer
    for at in 0...buffer.count where at == buffer.count || buffer[at] == 32 {
      if at > start { emit(BorrowedBytes(UnsafeRawBufferPointer(rebasing: buffer[start..<at]))) }
      start = at + 1
    }
  }
}

/// Counts words of `lines` into `counts`.
func countJob(_ name: String = "count") -> JobDefinition {
  let words = FlatMap(RecordInput(.topic("lines")), SpaceSplit())
  let counts = KeyedAggregate(
    words, key: { (word: BorrowedBytes) in word }, fold: Counting(), kind: "count", name: "words")
  return JobDefinition(
    name: name, [Pipeline(counts, into: KeyedTopicSink<BorrowedBytes, Int64>(topic: "counts"))])
}

/// A batch with one record for each value.
func batch(_ values: [String], key: String? = nil) -> Bytes {
  var builder = RecordBatchBuilder()
  for value in values {
    builder.append(Record(key: key.map { Bytes($0) }, value: Bytes(value), timestamp: Timestamp(milliseconds: 7)))
  }
  return builder.finish()
}

/// Lines of random words, some frequent, some rare.
func randomLines(_ count: Int, using random: inout SeededRandom) -> [String] {
  (0..<count).map { _ in
    (0..<Int.random(in: 0...6, using: &random)).map { _ in
      let range = random.oneIn(3) ? 3000 : 20
      return "w\(Int.random(in: 0..<range, using: &random))"
    }.joined(separator: " ")
  }
}

/// The naive model.
func naiveCounts(_ lines: [String]) -> [String: Int] {
  var counts: [String: Int] = [:]
  for line in lines { for word in line.split(separator: " ") { counts[String(word), default: 0] += 1 } }
  return counts
}

/// Every value that topic `counts` ever said of each word, in order.
func emitted(_ host: MemoryHost, partitions: Int32) throws -> [String: [Int]] {
  var out: [String: [Int]] = [:]
  for partition in 0..<partitions {
    for record in try host.records(topic: "counts", partition: partition) {
      let key = try #require(record.key?.text)
      out[key, default: []].append(try #require(Int(record.value?.text ?? "")))
    }
  }
  return out
}

/// Runs until there is nothing left to read.
func drain(_ job: JobDefinition, _ host: MemoryHost, _ options: JobOptions = quick()) throws(JobError) {
  let executor = try JobExecutor(job, host: host, options: options)
  while try executor.turn() == .progress {}
  try executor.settle()
}

/// Options that never wait and make a step of every read of `readBytes`.
func quick(readBytes: Int = 2000) -> JobOptions {
  var options = JobOptions()
  options.readBytes = readBytes
  options.stepBytes = 1
  options.idleWait = .zero
  options.briefWait = .zero
  return options
}
