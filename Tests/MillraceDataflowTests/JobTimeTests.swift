// JobTimeTests: how long records take, and where a job's time goes.

import MillraceBase
import MillraceDataflow
import MillraceModel
import Synchronization
import Testing

/// A clock that stands still until it is told.
private final class HandClock: Sendable {
  private let nanoseconds = Mutex<Int64>(0)

  func pass(_ time: Int64) { nanoseconds.withLock { $0 += time } }

  func options(workers: Int = 1) -> JobOptions {
    var options = JobOptions()
    options.workers = workers
    options.clock = { self.now }
    options.wallClock = { Timestamp(milliseconds: self.now.nanoseconds / 1_000_000) }
    return options
  }

  var now: MonotonicTime { MonotonicTime(nanoseconds: nanoseconds.withLock { $0 }) }
}

/// One batch of records of some time.
private final class OneBatch: ReplayableSource {
  private let bytes: Bytes
  private var isDone = false

  init(_ bytes: Bytes) { self.bytes = bytes }

  func restore(_ position: Bytes?) throws(JobError) { isDone = position != nil }

  func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    guard !isDone else { return SourceBatch(batch: nil, position: Bytes("done"), isFinished: true) }
    isDone = true
    return SourceBatch(batch: bytes, position: Bytes("done"), isFinished: false)
  }
}

private func batch(_ times: [Int64]) -> Bytes {
  var builder = RecordBatchBuilder()
  for time in times { builder.append(Record(value: Bytes("x"), timestamp: Timestamp(milliseconds: time))) }
  return builder.finish()
}

private func finish(_ job: JobDefinition, _ host: MemoryHost, _ options: JobOptions) throws(JobError) -> JobFigures {
  let executor = try JobExecutor(job, host: host, options: options)
  while try executor.turn() == .progress {}
  try executor.settle()
  executor.refreshFigures()
  return executor.figures
}

/// Times of a batch, and what they say: it is read at 5 s, and then each record takes 1 ms.
private let timesAndLatencies: [([Int64], UInt64)] = [
  ([4_600, 4_500, 4_100], 403_000_000), ([9_000, 1], 2_000_000), ([-1, -1], 2_000_000), ([0], 1_000_000),
  ([5_000], 1_000_000),
]

@Test(
  "a record's latency is from the newest time of its batch, or from when it was read where that says nothing",
  arguments: timesAndLatencies)
func latencyOfRecords(times: [Int64], latency: UInt64) throws {
  for isTopic in [true, false] {
    let clock = HandClock()
    clock.pass(5_000_000_000)
    let slow = CallSink { (_: InputRecord) in clock.pass(1_000_000) }
    let host = MemoryHost(clock: { clock.now })
    host.createTopic("in", partitions: 1)
    let bytes = batch(times)
    try host.append(topic: "in", partition: 0, batch: bytes)
    let input = isTopic ? JobInput.topic("in") : .source(name: "s") { OneBatch(bytes) }
    var options = clock.options()
    options.idleWait = .zero
    let figures = try finish(JobDefinition(name: "j", [Pipeline(RecordInput(input), into: slow)]), host, options)
    // Of a source nobody has appended anything.
    let expected = isTopic ? latency : UInt64(times.count) * 1_000_000
    #expect(figures.latency.count == UInt64(times.count) && figures.latency.maximum == expected)
    #expect(figures.latency.value(at: 0.5) <= figures.latency.value(at: 0.99))
    #expect(figures.commits == 1)
  }
}

@Test("time goes to the chains that it was spent in, as far as they are loops of their own", arguments: [1, 2])
func timeOfChains(workers: Int) throws {
  let clock = HandClock()
  let host = MemoryHost(clock: { clock.now })
  host.createTopic("in", partitions: 1)
  var builder = RecordBatchBuilder()
  for number in 0..<5 { builder.append(Record(key: Bytes("k\(number)"), value: Bytes("x"), timestamp: .none)) }
  try host.append(topic: "in", partition: 0, batch: builder.finish())
  let mapped = Map(RecordInput(.topic("in"))) { (record: InputRecord) in
    clock.pass(7_000)
    return record.key
  }
  let counted = KeyedAggregate(
    mapped, key: { $0 }, fold: Counting<BorrowedBytes>(), kind: "count", name: "n")
  let sink = CallSink { (_: Keyed<BorrowedBytes, Int64>) in clock.pass(11_000) }
  let plain = CallSink { (_: InputRecord) in clock.pass(3_000) }
  var options = clock.options(workers: workers)
  options.idleWait = .zero
  let job = JobDefinition(
    name: "busy", [Pipeline(counted, into: sink), Pipeline(RecordInput(.topic("in")), into: plain)])
  let figures = try finish(job, host, options)
  let numbers = figures.chains.map { $0.operators.map(\.number) }
  #expect(numbers == [[0, 1], [2], [3], [4], [5]])
  #expect(figures.chains.allSatisfy { $0.recordsIn == 5 })
  #expect(figures.busy == .microseconds(105))
  // With several workers, what comes to keys is a loop behind that in which it is read.
  let timedWith: [Int?] = workers == 1 ? [3, 3, nil, 5, nil] : [nil, 3, nil, 5, nil]
  #expect(figures.chains.map(\.timedWith) == timedWith)
  let busy: [Int64?] = workers == 1 ? [nil, nil, 90, nil, 15] : [35, nil, 55, nil, 15]
  let told: [Int64?] = figures.chains.map { chain in chain.busy.map { $0.inNanoseconds / 1_000 } }
  #expect(told == busy)
}

@Test("a value that came several times counts as often")
func histogramTimes() {
  var histogram = Histogram()
  histogram.record(5, times: 98)
  histogram.record(1_000, times: 2)
  histogram.record(70_000, times: 0)
  #expect(histogram.count == 100 && histogram.sum == 2_490 && histogram.maximum == 1_000)
  #expect(histogram.value(at: 0.98) == 5 && histogram.value(at: 0.99) == 1_000)
}
