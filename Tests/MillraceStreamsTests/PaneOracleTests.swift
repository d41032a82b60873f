// PaneOracleTests: windows of so many values and global windows over random histories, against an oracle that keeps every value.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private enum Shape {
  case count(length: Int, step: Int)
  case global(count: Int?, interval: Int64?, isPurging: Bool)

  init(using random: inout SeededRandom, global: Bool) {
    if global {
      let isBoth = random.oneIn(3)
      let isCount = random.oneIn(2)
      self = .global(
        count: isBoth || isCount ? .random(in: 1...6, using: &random) : nil,
        interval: isBoth || !isCount ? .random(in: 1...40, using: &random) : nil, isPurging: random.oneIn(2))
    } else {
      let length = Int.random(in: 1...12, using: &random)
      self = .count(length: length, step: random.oneIn(3) ? length : .random(in: 1...length, using: &random))
    }
  }
}

private struct Plan {
  var shape: Shape
  var outOfOrderness: Int64
  var isWide: Bool
  var batches: [[TimedEvent]] = []

  init(using random: inout SeededRandom, global: Bool) {
    shape = Shape(using: &random, global: global)
    outOfOrderness = random.oneIn(2) ? 0 : .random(in: 0...40, using: &random)
    isWide = random.oneIn(2)
    var time = Int64.random(in: -200...200, using: &random)
    for _ in 0..<Int.random(in: 1...30, using: &random) {
      batches.append(
        (0..<Int.random(in: 1...8, using: &random)).map { _ in
          time += random.oneIn(20) ? .random(in: -150...400, using: &random) : .random(in: -6...10, using: &random)
          return TimedEvent(
            key: "k\(Int.random(in: 0..<4, using: &random))", number: .random(in: -9...9, using: &random), time: time)
        })
    }
  }
}

/// A result of `values`, in the order in which they came.
private func result(_ key: String, _ values: some Sequence<TimedEvent>, _ plan: Plan) -> String {
  let values = Array(values)
  let times = values.map(\.time)
  let value =
    plan.isWide
    ? values.map { "\($0.number)" }.joined(separator: ",") : "\(values.reduce(0) { $0 + $1.number })"
  return "\(key) \(times.min() ?? 0) \((times.max() ?? 0) + 1) \(value)"
}

/// What has to be handed on: of each batch first what values complete, in order, then what event time sets free, in any.
private func expected(_ plan: Plan) -> [(inOrder: [String], inAny: [String])] {
  var values: [String: [TimedEvent]] = [:]
  var since: [String: Int] = [:]
  var watermark = Int64.min / 2
  var newest = Int64.min / 2
  return plan.batches.map { batch in
    var inOrder: [String] = []
    var inAny: [String] = []
    for event in batch {
      values[event.key, default: []].append(event)
      since[event.key, default: 0] += 1
      let all = values[event.key] ?? []
      switch plan.shape {
      case .count(let length, let step):
        if all.count % step == 0 { inOrder.append(result(event.key, all.suffix(length), plan)) }
      case .global(let count, _, let isPurging):
        if let count, since[event.key] == count {
          inOrder.append(result(event.key, all, plan))
          since[event.key] = 0
          if isPurging { values[event.key] = nil }
        }
      }
      newest = max(newest, event.time)
    }
    let before = watermark
    watermark = max(watermark, newest - plan.outOfOrderness)
    if case .global(_, let interval?, let isPurging) = plan.shape, before > Int64.min / 2 {
      var multiple = watermark
      while multiple % interval != 0 { multiple -= 1 }
      for (key, count) in since where multiple > before && count > 0 {
        inAny.append(result(key, values[key] ?? [], plan))
        since[key] = 0
        if isPurging { values[key] = nil }
      }
    }
    return (inOrder, inAny)
  }
}

private func output<Windows: WindowAssigner>(
  _ windows: Windows, _ plan: Plan
) -> StreamOutput {
  let windowed = DataStream.topic("in")
    .map { TimedEvent($0) }
    .eventTime(.boundedOutOfOrderness(.milliseconds(plan.outOfOrderness)), name: "times") {
      Timestamp(milliseconds: $0.time)
    }
    .keyBy { $0.key }
    .window(windows)
  @Sendable func text(_ key: String, _ window: Window, _ value: String) -> String {
    "\(key) \(window.start.milliseconds) \(window.end.milliseconds) \(value)"
  }
  guard plan.isWide else {
    return windowed.sum(name: "w") { $0.number }.map { text($0.key, $0.window, "\($0.value)") }.to(topic: "out")
  }
  let lists = Folding<TimedEvent, [Int64]>([], adding: { $0.append($1.number) }, merging: { $0 += $1 })
  return windowed.aggregate(lists, name: "w")
    .map { text($0.key, $0.window, $0.value.map { "\($0)" }.joined(separator: ",")) }.to(topic: "out")
}

private func job(_ plan: Plan) -> JobDefinition {
  switch plan.shape {
  case .count(let length, let step): output(CountWindows.count(length, every: step), plan).job(named: "panes")
  case .global(let count, let interval, let isPurging):
    output(GlobalWindows.global(trigger(count, interval), purging: isPurging), plan).job(named: "panes")
  }
}

private func trigger(_ count: Int?, _ interval: Int64?) -> WindowTrigger {
  switch (count, interval) {
  case (let count?, let interval?): .count(count, orEvery: .milliseconds(interval))
  case (let count?, nil): .count(count)
  case (nil, let interval): .every(.milliseconds(interval ?? 0))
  }
}

@Test(
  "windows of so many values, and global ones: what is handed on, and when, however steps are cut and commits fail",
  arguments: [(false, false), (false, true), (true, false), (true, true)], 0..<4)
func paneHistories(_ kind: (global: Bool, crashes: Bool), _ part: UInt64) throws {
  var failures = 0
  for seed in 0..<histories(50) {
    var random = SeededRandom(seed: 8_000_000 &+ part &* 1000 &+ UInt64(seed))
    let plan = Plan(using: &random, global: kind.global)
    let history = try History(
      of: job(plan), over: plan.batches.map { $0.map(\.record) }, using: &random, crashes: kind.crashes)
    failures += history.failures
    let isRight = history.agrees(history.out, with: expected(plan).flatMap { $0.inOrder.map { [$0] } + [$0.inAny] })
    #expect(isRight, "\(kind) part \(part) seed \(seed)")
    #expect(history.late == 0)
  }
  if kind.crashes { #expect(failures > histories(30) / 2) }
}

@Test("results that event time leads to are in time for windows behind them", arguments: 0..<4)
func globalResultsAreInTime(_ part: UInt64) throws {
  for seed in 0..<histories(50) {
    var random = SeededRandom(seed: 9_000_000 &+ part &* 1000 &+ UInt64(seed))
    let plan = Plan(using: &random, global: true)
    guard case .global(_, let interval?, let isPurging) = plan.shape else { continue }
    let job = DataStream.topic("in")
      .map { TimedEvent($0) }
      .eventTime(.boundedOutOfOrderness(.milliseconds(plan.outOfOrderness)), name: "times") {
        Timestamp(milliseconds: $0.time)
      }
      .keyBy { $0.key }
      .window(.global(.every(.milliseconds(interval)), purging: isPurging))
      .count(name: "g")
      .keyBy { $0.key }
      .window(.tumbling(.milliseconds(.random(in: 1...50, using: &random))))
      .count(name: "w").map { "\($0.value)" }.to(topic: "out").job(named: "chain")
    let history = try History(of: job, over: plan.batches.map { $0.map(\.record) }, using: &random, crashes: false)
    #expect(history.late == 0, "part \(part) seed \(seed)")
  }
}

@Test(
  "a global window's result has the time of its latest value, or the ms before the multiple"
)
func globalTimes() throws {
  let job = DataStream.topic("in").keyBy { $0.key }
    .window(.global(.count(2, orEvery: .milliseconds(10)), purging: true))
    .count(name: "g").map { "\($0.key.text)\($0.value)" }.to(topic: "out").job(named: "times")
  let driver = TestDriver(job)
  try driver.send("in", key: "a", value: "", at: 3)
  try driver.send("in", key: "a", value: "", at: 5)
  try driver.send("in", key: "b", value: "", at: 7)
  try driver.run()
  #expect(try driver.newOutput("out").map { "\($0.value?.text ?? "") at \($0.timestamp.milliseconds)" } == ["a2 at 5"])
  try driver.send("in", key: "c", value: "", at: 38)
  try driver.run()
  let out = try driver.newOutput("out").map { "\($0.value?.text ?? "") at \($0.timestamp.milliseconds)" }
  #expect(out == ["b1 at 9", "c1 at 29"])
}

/// A batch of one record, and then nothing more.
private final class Ending: ReplayableSource {
  private var isRead = false
  func restore(_ position: Bytes?) { isRead = position != nil }
  func next(maxBytes: Int) -> SourceBatch {
    guard !isRead else { return SourceBatch(batch: nil, position: Bytes([1]), isFinished: true) }
    isRead = true
    var builder = RecordBatchBuilder()
    builder.append(Record(key: Bytes("x"), value: Bytes("v"), timestamp: Timestamp(milliseconds: 1234)))
    return SourceBatch(batch: builder.finish(), position: Bytes([1]), isFinished: false)
  }
}

@Test("the end of all inputs hands on what waits for event time, once, at the multiple that it waited for")
func globalEnd() throws {
  let job = DataStream.source("s") { Ending() }.keyBy { $0.key }
    .window(.global(.every(.milliseconds(100)), purging: false))
    .count(name: "g").map { "\($0.value)" }.to(topic: "out").job(named: "end")
  let driver = TestDriver(job)
  for _ in 0..<2 {
    #expect(try driver.run())
    #expect(try driver.output("out").map { "\($0.value?.text ?? "") at \($0.timestamp.milliseconds)" } == ["1 at 1299"])
    driver.crash()
  }
}

@Test("state of windows of other numbers of values is refused; triggers of a global window may change")
func otherCountsAreRefused() throws {
  func job<Windows: WindowAssigner>(_ windows: Windows) -> JobDefinition {
    DataStream.topic("in").keyBy { $0.key }.window(windows).count(name: "w").map { "\($0.value)" }.to(topic: "out")
      .job(named: "job")
  }
  let host = MemoryHost(newTopicPartitions: 1)
  func run(_ job: JobDefinition, _ values: Int) throws(JobError) -> [String] {
    _ = try host.partitionCount(topic: "in")
    var options = JobOptions()
    options.idleWait = .zero
    options.briefWait = .zero
    var builder = RecordBatchBuilder()
    for _ in 0..<values {
      builder.append(Record(key: Bytes("k"), value: Bytes("v"), timestamp: Timestamp(milliseconds: 5)))
    }
    if values > 0 { try host.append(topic: "in", partition: 0, batch: builder.finish()) }
    let executor = try JobExecutor(job, host: host, options: options)
    while try executor.turn() == .progress {}
    try executor.settle()
    return try host.records(topic: "out", partition: 0).map { $0.value?.text ?? "" }
  }
  #expect(try run(job(.count(6, every: 4)), 5) == ["4"])
  let other = #expect(throws: JobError.self) { try run(job(.count(8, every: 4)), 0) }
  #expect(other?.code == .corruptState)
  #expect(other?.reason.contains("windows of 6 values every 4 in its state, of 8 every 4 now") == true)
  #expect(throws: JobError.self) { try run(job(.global(.count(4), purging: true)), 0) }
  #expect(try run(job(.count(6, every: 4)), 3) == ["4", "6"])
}
