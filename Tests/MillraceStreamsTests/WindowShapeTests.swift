// WindowShapeTests: windows of every shape, handed on when they close and early, over random histories, against an oracle that
// tries every window near a value.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private struct Result: Hashable {
  var key: String
  var start: Int64
  var end: Int64
  var value: Int64
}

private enum Shape {
  case hopping(length: Int64, hop: Int64, offset: Int64)
  case cumulating(longest: Int64, step: Int64, offset: Int64)

  init(using random: inout SeededRandom, cumulating: Bool) {
    let offset = Int64.random(in: -100...100, using: &random)
    let step = Int64.random(in: 1...20, using: &random)
    self =
      cumulating
      ? .cumulating(longest: step * .random(in: 1...5, using: &random), step: step, offset: offset)
      : .hopping(length: .random(in: step...60, using: &random), hop: step, offset: offset)
  }

  /// The windows that hold `time`.
  func windows(of time: Int64) -> [Range<Int64>] {
    var found: [Range<Int64>] = []
    for start in time - 100...time {
      switch self {
      case .hopping(let length, let hop, let offset):
        if (start - offset) % hop == 0, time < start + length { found.append(start..<start + length) }
      case .cumulating(let longest, let step, let offset):
        guard (start - offset) % longest == 0 else { continue }
        for end in start + 1...start + longest where (end - start) % step == 0 && time < end {
          found.append(start..<end)
        }
      }
    }
    return found
  }
}

private struct Plan {
  var shape: Shape
  var outOfOrderness: Int64
  var lateness: Int64
  /// Distance of early results; nil for none.
  var early: Int64?
  var batches: [[TimedEvent]] = []

  init(using random: inout SeededRandom, cumulating: Bool, early: Bool) {
    shape = Shape(using: &random, cumulating: cumulating)
    outOfOrderness = random.oneIn(2) ? 0 : .random(in: 0...40, using: &random)
    lateness = random.oneIn(2) ? 0 : .random(in: 0...100, using: &random)
    self.early = early ? .random(in: 1...30, using: &random) : nil
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

/// What has to be handed on, batch by batch, and how many values are late.
private func expected(_ plan: Plan) -> (results: [[Result]], late: UInt64) {
  var windows: [Range<Int64>: [String: Int64]] = [:]
  var watermark = Int64.min / 2
  var newest = Int64.min / 2
  var late: UInt64 = 0
  var results: [[Result]] = []
  for batch in plan.batches {
    var out: [Result] = []
    var changed: Set<[String]> = []
    var again: [Range<Int64>] = []
    for event in batch {
      let open = plan.shape.windows(of: event.time).filter { watermark < $0.upperBound + plan.lateness }
      if open.isEmpty { late += 1 }
      for window in open {
        windows[window, default: [:]][event.key, default: 0] += event.number
        if window.upperBound <= watermark, changed.insert([event.key, "\(window)"]).inserted { again.append(window) }
      }
      newest = max(newest, event.time)
    }
    func handOn(_ window: Range<Int64>, _ isWanted: (String) -> Bool = { _ in true }) {
      for (key, value) in windows[window] ?? [:] where isWanted(key) {
        out.append(Result(key: key, start: window.lowerBound, end: window.upperBound, value: value))
      }
    }
    for window in Set(again) { handOn(window) { changed.contains([$0, "\(window)"]) } }
    let before = watermark
    watermark = max(watermark, newest - plan.outOfOrderness)
    for window in windows.keys where window.upperBound > before && window.upperBound <= watermark { handOn(window) }
    if let early = plan.early, before > Int64.min / 2 {
      // The last multiple that event time has come to.
      var multiple = watermark
      while multiple % early != 0 { multiple -= 1 }
      for window in windows.keys where multiple > before && window.lowerBound < multiple {
        if window.upperBound > watermark { handOn(window) }
      }
    }
    results.append(out)
  }
  return (results, late)
}

private func job<Windows: EventTimeWindowAssigner>(_ windows: Windows, _ plan: Plan) -> JobDefinition {
  DataStream.topic("in")
    .map { TimedEvent($0) }
    .eventTime(.boundedOutOfOrderness(.milliseconds(plan.outOfOrderness)), name: "times") {
      Timestamp(milliseconds: $0.time)
    }
    .keyBy { $0.key }
    .window(windows)
    .allowedLateness(.milliseconds(plan.lateness))
    .emit(plan.early.map { .early(every: .milliseconds($0)) } ?? .onClose)
    .sum(name: "w") { $0.number }
    .map { "\($0.key) \($0.window.start.milliseconds) \($0.window.end.milliseconds) \($0.value)" }
    .to(topic: "out")
    .job(named: "windows")
}

private func job(_ plan: Plan) -> JobDefinition {
  switch plan.shape {
  case .hopping(let length, let hop, let offset):
    job(
      .hopping(.milliseconds(length), every: .milliseconds(hop), offset: .milliseconds(offset)) as TimeWindows, plan)
  case .cumulating(let longest, let step, let offset):
    job(
      .cumulating(.milliseconds(longest), step: .milliseconds(step), offset: .milliseconds(offset))
        as CumulatingWindows, plan)
  }
}

private func run(_ plan: Plan, _ random: inout SeededRandom, crashes: Bool) throws -> (
  results: [Result], history: History
) {
  let history = try History(
    of: job(plan), over: plan.batches.map { $0.map(\.record) }, using: &random, crashes: crashes)
  let results = history.out.map { text -> Result in
    let parts = text.split(separator: " ")
    return Result(
      key: String(parts[0]), start: Int64(parts[1]) ?? 0, end: Int64(parts[2]) ?? 0, value: Int64(parts[3]) ?? 0)
  }
  return (results, history)
}

@Test(
  "cumulating windows, and early results of them and of hopping ones: what is handed on, and when",
  arguments: [(true, false), (true, true), (false, true)], 0..<4)
func windowShapeHistories(_ shape: (cumulating: Bool, early: Bool), _ part: UInt64) throws {
  for seed in 0..<histories(50) {
    var random = SeededRandom(seed: 3_000_000 &+ part &* 1000 &+ UInt64(seed))
    let plan = Plan(using: &random, cumulating: shape.cumulating, early: shape.early)
    let (wanted, late) = expected(plan)
    let got = try run(plan, &random, crashes: false)
    #expect(got.history.late == late, "\(shape) part \(part) seed \(seed)")
    // In order of batches; within one in any order.
    var at = 0
    for (number, batch) in wanted.enumerated() {
      let next = got.results[min(at, got.results.count)..<min(at + batch.count, got.results.count)]
      let isRight = counts(next) == counts(batch)
      #expect(isRight, "\(shape) part \(part) seed \(seed) batch \(number)")
      at += batch.count
    }
    #expect(got.results.count == at, "\(shape) part \(part) seed \(seed)")
  }
}

@Test(
  "cumulating windows and early results over crashes", arguments: [(true, false), (true, true), (false, true)], 0..<4)
func windowShapeCrashes(_ shape: (cumulating: Bool, early: Bool), _ part: UInt64) throws {
  var failures = 0
  for seed in 0..<histories(30) {
    var random = SeededRandom(seed: 4_000_000 &+ part &* 1000 &+ UInt64(seed))
    let plan = Plan(using: &random, cumulating: shape.cumulating, early: shape.early)
    let wanted = expected(plan).results.joined()
    let got = try run(plan, &random, crashes: true)
    failures += got.history.failures
    let isRight = counts(got.results) == counts(wanted)
    #expect(isRight, "\(shape) part \(part) seed \(seed)")
  }
  #expect(failures > histories(30) / 2)
}

@Test("windows that cumulate are described by whole numbers of steps")
func cumulatingDescriptions() async {
  await #expect(processExitsWith: .failure) {
    _ = CumulatingWindows.cumulating(.milliseconds(10), step: .milliseconds(3))
  }
  await #expect(processExitsWith: .failure) {
    _ = CumulatingWindows.cumulating(.milliseconds(10), step: .zero)
  }
}
