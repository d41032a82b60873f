// EventTimeTests: how far event time comes: over partitions, idle ones, inputs that end, merged streams; what is late.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Synchronization
import Testing

/// A monotonic clock that a test sets.
private final class Hand: Sendable {
  private let nanoseconds = Mutex<Int64>(1_000_000_000)
  var now: MonotonicTime { MonotonicTime(nanoseconds: nanoseconds.withLock { $0 }) }
  func pass(_ time: Duration) { nanoseconds.withLock { $0 += time.inNanoseconds } }
}

private struct Bench {
  let host = MemoryHost()
  let hand = Hand()
  var executor: JobExecutor?

  init(partitions: Int = 2) {
    for topic in ["a", "b"] { host.createTopic(topic, partitions: partitions) }
    for topic in ["out", "late"] { host.createTopic(topic, partitions: 1) }
  }

  func put(_ topic: String = "a", _ partition: Int32 = 0, _ records: (key: String, time: Int64)...) throws {
    var builder = RecordBatchBuilder()
    for (key, time) in records {
      builder.append(Record(key: Bytes(key), value: Bytes("v"), timestamp: Timestamp(milliseconds: time)))
    }
    try host.append(topic: topic, partition: partition, batch: builder.finish())
  }

  mutating func run(_ job: JobDefinition) throws {
    var options = JobOptions()
    options.idleWait = .zero
    options.briefWait = .zero
    let hand = hand
    options.clock = { hand.now }
    if executor == nil { executor = try JobExecutor(job, host: host, options: options) }
    while try executor?.turn() == .progress {}
    try executor?.settle()
  }

  /// What came out, as "key=value@time".
  func out(_ topic: String = "out") throws -> [String] {
    try host.records(topic: topic, partition: 0).map {
      "\($0.key?.text ?? "")=\($0.value?.text ?? "")@\($0.timestamp.milliseconds)"
    }
  }
}

private func counts(_ name: String = "count") -> JobDefinition {
  DataStream.topic("a").keyBy { $0.key }.window(.tumbling(.milliseconds(100))).count().to(topic: "out").job(named: name)
}

@Test("a window closes when the slowest partition has passed its end, and its results have its last ms as their time")
func slowestPartition() throws {
  var bench = Bench()
  try bench.put("a", 0, ("x", 10), ("y", 20), ("x", 99), ("x", 250))
  try bench.run(counts())
  #expect(try bench.out() == [])
  try bench.put("a", 1, ("x", 30), ("z", 99))
  try bench.run(counts())
  #expect(try bench.out() == [])
  try bench.put("a", 1, ("z", 120))
  try bench.run(counts())
  #expect(try bench.out().sorted() == ["x=3@99", "y=1@99", "z=1@99"])
}

@Test("a partition that brings nothing for five seconds holds nobody up, and counts again when it brings something")
func idlePartition() throws {
  var bench = Bench()
  try bench.put("a", 0, ("x", 10), ("x", 250))
  try bench.run(counts())
  bench.hand.pass(.milliseconds(4_900))
  try bench.run(counts())
  #expect(try bench.out() == [])
  bench.hand.pass(.milliseconds(200))
  // What moves on idles, too, but only the other partition has to.
  try bench.put("a", 0, ("x", 260))
  try bench.run(counts())
  #expect(try bench.out() == ["x=1@99"])
  // Below the watermark: late. Above it: event time waits for this partition again.
  try bench.put("a", 1, ("x", 20), ("x", 270))
  try bench.put("a", 0, ("x", 390))
  try bench.run(counts())
  #expect(try bench.out() == ["x=1@99"])
  #expect(bench.executor?.figures.lateRecords == 1)
}

@Test("when every partition is idle, event time stands still")
func allIdle() throws {
  var bench = Bench(partitions: 1)
  try bench.put("a", 0, ("x", 10), ("x", 250))
  try bench.run(counts())
  #expect(try bench.out() == ["x=1@99"])
  bench.hand.pass(.seconds(3600))
  try bench.run(counts())
  #expect(try bench.out() == ["x=1@99"])
}

/// Two batches, and then nothing more.
private final class Ending: ReplayableSource {
  private var next: UInt8 = 0
  func restore(_ position: Bytes?) { next = position?[0] ?? 0 }
  func next(maxBytes: Int) -> SourceBatch {
    guard next < 2 else { return SourceBatch(batch: nil, position: Bytes([2]), isFinished: true) }
    next += 1
    var builder = RecordBatchBuilder()
    builder.append(
      Record(key: Bytes("x"), value: Bytes("v"), timestamp: Timestamp(milliseconds: Int64(next) * 1000)))
    return SourceBatch(batch: builder.finish(), position: Bytes([next]), isFinished: false)
  }
}

@Test("an input that has ended brings event time to its end: every window closes, once, also over a restart")
func endedInput() throws {
  var bench = Bench()
  let job = DataStream.source("s") { Ending() }.keyBy { $0.key }.window(.tumbling(.milliseconds(100))).count()
    .to(topic: "out").job(named: "ended")
  try bench.run(job)
  #expect(try bench.out() == ["x=1@1099", "x=1@2099"])
  #expect(try bench.executor?.turn() == .finished)
  bench.executor = nil
  try bench.run(job)
  #expect(try bench.out() == ["x=1@1099", "x=1@2099"])
}

@Test("merged streams are as far as the slower one")
func mergedStreams() throws {
  var bench = Bench(partitions: 1)
  let job = DataStream.topic("a").merge(DataStream.topic("b")).keyBy { $0.key }
    .window(.tumbling(.milliseconds(100))).count().to(topic: "out").job(named: "merged")
  try bench.put("a", 0, ("x", 1), ("x", 500))
  try bench.run(job)
  #expect(try bench.out() == [])
  try bench.put("b", 0, ("x", 2), ("x", 100))
  try bench.run(job)
  #expect(try bench.out() == ["x=2@99"])
}

@Test("late records go where they are told, with key, value and time; the allowed lateness hands a window on again")
func lateRecords() throws {
  var bench = Bench(partitions: 1)
  let job = DataStream.topic("a").keyBy { $0.key }.window(.tumbling(.milliseconds(100)))
    .allowedLateness(.milliseconds(50)).lateRecords(to: "late").count().to(topic: "out").job(named: "late")
  try bench.put("a", 0, ("x", 1), ("y", 2), ("x", 149))
  try bench.run(job)
  try bench.put("a", 0, ("x", 3), ("x", 4))
  try bench.run(job)
  try bench.put("a", 0, ("x", 150))
  try bench.run(job)
  try bench.put("a", 0, ("x", 5))
  try bench.run(job)
  #expect(try bench.out() == ["x=1@99", "y=1@99", "x=3@99"])
  #expect(try bench.out("late") == ["x=v@5"])
  #expect(bench.executor?.figures.lateRecords == 1)
}

@Test("windows of windows: what closes in one is in time for the next")
func windowsOfWindows() throws {
  var bench = Bench(partitions: 1)
  let job = DataStream.topic("a").keyBy { $0.key }.window(.tumbling(.milliseconds(10))).count()
    .keyBy { _ in "all" }.window(.tumbling(.milliseconds(100))).maximum { $0.value }
    .to(topic: "out").job(named: "two")
  try bench.put("a", 0, ("x", 1), ("x", 2), ("y", 3), ("x", 95), ("x", 96), ("x", 97), ("x", 210))
  try bench.run(job)
  #expect(try bench.out() == ["all=3@99"])
}

private func counts(_ windows: TimeWindows) -> JobDefinition {
  DataStream.topic("a").keyBy { $0.key }.window(windows).count().to(topic: "out").job(named: "count")
}

@Test("a job goes on when its windows are made of the same slices, and is refused when they are not, or are gone")
func otherWindows() throws {
  var bench = Bench(partitions: 1)
  try bench.put("a", 0, ("x", 1))
  try bench.run(counts())
  bench.executor = nil
  try bench.put("a", 0, ("x", 101), ("x", 200))
  try bench.run(counts(.hopping(.milliseconds(200), every: .milliseconds(100))))
  #expect(try bench.out() == ["x=1@99", "x=2@199"])
  bench.executor = nil
  let other = #expect(throws: JobError.self) { try bench.run(counts(.tumbling(.milliseconds(50)))) }
  #expect(other?.code == .corruptState)
  #expect(other?.reason.contains("has slices of 100 ms in its state, its windows are cut into 50 ms now") == true)
  let moved = #expect(throws: JobError.self) {
    try bench.run(counts(.tumbling(.milliseconds(100), offset: .milliseconds(7))))
  }
  #expect(moved?.reason.contains("(from 0 and 7 ms on)") == true)
  let without = DataStream.topic("a").to(topic: "out").job(named: "count")
  bench.executor = nil
  let error = #expect(throws: JobError.self) { try bench.run(without) }
  #expect(error?.code == .corruptState)
}

@Test("times at the ends of what 64 bits can say are late, and event time does not follow them")
func farTimes() throws {
  var bench = Bench(partitions: 1)
  try bench.put("a", 0, ("x", .min), ("x", .min + 1), ("x", 5), ("y", .max))
  try bench.run(counts())
  try bench.put("a", 0, ("x", 7), ("x", 100))
  try bench.run(counts())
  #expect(try bench.out() == ["x=2@99"])
  #expect(bench.executor?.figures.lateRecords == 3)
}
