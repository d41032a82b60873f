// WindowOracleTests: windows over random histories, against an oracle that searches a list.
//
// An event is a record "key number" with its time. The oracle takes the batches in order, holds each window's keys in
// dictionaries, and says what is handed on after each batch.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private struct Result: Hashable {
  var key: String
  var end: Int64
  var value: Int64
}

private enum Kind: CaseIterable { case count, sum, minimum, maximum }

/// What a history is about.
private struct Plan {
  var length: Int64
  var hop: Int64
  var offset: Int64
  var outOfOrderness: Int64
  var lateness: Int64
  var kind: Kind
  var emission: WindowEmission
  var batches: [[TimedEvent]]

  init(using random: inout SeededRandom, emission: WindowEmission) {
    self.emission = emission
    length = .random(in: 1...60, using: &random)
    hop = random.oneIn(3) ? length : .random(in: 1...length, using: &random)
    offset = .random(in: -100...100, using: &random)
    outOfOrderness = random.oneIn(2) ? 0 : .random(in: 0...40, using: &random)
    lateness = random.oneIn(2) ? 0 : .random(in: 0...100, using: &random)
    kind = Kind.allCases.randomElement(using: &random) ?? .count
    var time = Int64.random(in: -200...200, using: &random)
    batches = []
    for _ in 0..<Int.random(in: 1...30, using: &random) {
      var batch: [TimedEvent] = []
      for _ in 0..<Int.random(in: 1...8, using: &random) {
        // Times go on, fall back, and jump.
        time += random.oneIn(20) ? .random(in: -150...400, using: &random) : .random(in: -6...10, using: &random)
        batch.append(
          TimedEvent(
            key: "k\(Int.random(in: 0..<4, using: &random))", number: .random(in: -9...9, using: &random), time: time))
      }
      batches.append(batch)
    }
  }

  var windows: TimeWindows {
    .hopping(.milliseconds(length), every: .milliseconds(hop), offset: .milliseconds(offset))
  }

  /// Ends of the windows that hold `time`, by trying every one near it.
  func ends(of time: Int64) -> [Int64] {
    var ends: [Int64] = []
    for start in (time - length + 1)...time {
      let distance = start - offset
      if distance % hop == 0 { ends.append(start + length) }
    }
    return ends
  }

  func fold(_ values: [Int64]) -> Int64 {
    switch kind {
    case .count: Int64(values.count)
    case .sum: values.reduce(0, +)
    case .minimum: values.min() ?? 0
    case .maximum: values.max() ?? 0
    }
  }
}

/// What has to come out: in order of batches; which values are late.
private func expected(_ plan: Plan) -> (results: [[Result]], late: Int) {
  var windows: [Int64: [String: [Int64]]] = [:]
  var watermark = Int64.min / 2
  var newest = Int64.min / 2
  var late = 0
  var results: [[Result]] = []
  for batch in plan.batches {
    var out: [Result] = []
    var changed: Set<[String]> = []
    for event in batch {
      let open = plan.ends(of: event.time).filter { watermark < $0 + plan.lateness }
      if open.isEmpty { late += 1 }
      for end in open {
        windows[end, default: [:]][event.key, default: []].append(event.number)
        if end <= watermark { changed.insert([event.key, "\(end)"]) }
      }
      newest = max(newest, event.time)
    }
    for pair in changed {
      let end = Int64(pair[1]) ?? 0
      out.append(Result(key: pair[0], end: end, value: plan.fold(windows[end]?[pair[0]] ?? [])))
    }
    let before = watermark
    watermark = max(watermark, newest - plan.outOfOrderness)
    for (end, keys) in windows where end > before && end <= watermark {
      for (key, values) in keys { out.append(Result(key: key, end: end, value: plan.fold(values))) }
    }
    results.append(out)
  }
  return (results, late)
}

private func job(_ plan: Plan) -> JobDefinition {
  let values = DataStream.topic("in")
    .map { TimedEvent($0) }
    .eventTime(.boundedOutOfOrderness(.milliseconds(plan.outOfOrderness)), name: "times") {
      Timestamp(milliseconds: $0.time)
    }
    .keyBy { $0.key }
    .window(plan.windows)
    .allowedLateness(.milliseconds(plan.lateness))
    .emit(plan.emission)
  let output: StreamOutput =
    switch plan.kind {
    case .count: values.count(name: "w").map(text).to(topic: "out")
    case .sum: values.sum(name: "w") { $0.number }.map(text).to(topic: "out")
    case .minimum: values.minimum(name: "w") { $0.number }.map(text).to(topic: "out")
    case .maximum: values.maximum(name: "w") { $0.number }.map(text).to(topic: "out")
    }
  return output.job(named: "windows")
}

@Sendable private func text(_ result: Windowed<String, Int64>) -> String {
  "\(result.key) \(result.window.end.milliseconds) \(result.value)"
}

private func run(
  _ plan: Plan, using random: inout SeededRandom, crashes: Bool
) throws -> (results: [Result], late: UInt64, failures: Int) {
  let history = try History(
    of: job(plan), over: plan.batches.map { $0.map(\.record) }, using: &random, crashes: crashes)
  let results = history.out.map { text -> Result in
    let parts = text.split(separator: " ")
    return Result(key: String(parts[0]), end: Int64(parts[1]) ?? 0, value: Int64(parts[2]) ?? 0)
  }
  return (results, history.late, history.failures)
}

@Test("windows: what is handed on, when, and what is late, however steps are cut", arguments: 0..<8)
func windowHistories(_ part: UInt64) throws {
  for seed in 0..<histories(50) {
    var random = SeededRandom(seed: part &* 1000 &+ UInt64(seed))
    let plan = Plan(using: &random, emission: .onClose)
    let (wanted, late) = expected(plan)
    let got = try run(plan, using: &random, crashes: false)
    #expect(got.late == UInt64(late), "part \(part) seed \(seed)")
    // In order of batches; within one in any order.
    var at = 0
    for (number, batch) in wanted.enumerated() {
      let next = got.results[min(at, got.results.count)..<min(at + batch.count, got.results.count)]
      #expect(counts(next) == counts(batch), "part \(part) seed \(seed) batch \(number)")
      at += batch.count
    }
    #expect(got.results.count == at, "part \(part) seed \(seed)")
  }
}

@Test("windows: crashes change nothing of what is handed on", arguments: 0..<8)
func windowCrashes(_ part: UInt64) throws {
  var failures = 0
  for seed in 0..<histories(30) {
    var random = SeededRandom(seed: 77_000 &+ part &* 1000 &+ UInt64(seed))
    let plan = Plan(using: &random, emission: .onClose)
    let wanted = expected(plan).results.flatMap { $0 }
    let got = try run(plan, using: &random, crashes: true)
    failures += got.failures
    #expect(counts(got.results) == counts(wanted), "part \(part) seed \(seed)")
  }
  #expect(failures > histories(30) / 2)
}

@Test("windows on update: what was handed on last of a key and window is its result", arguments: 0..<4)
func windowUpdates(_ part: UInt64) throws {
  for seed in 0..<histories(50) {
    var random = SeededRandom(seed: 990_000 &+ part &* 1000 &+ UInt64(seed))
    let plan = Plan(using: &random, emission: .onUpdate)
    let got = try run(plan, using: &random, crashes: random.oneIn(2)).results
    var last: [[String]: Int64] = [:]
    for result in got { last[[result.key, "\(result.end)"]] = result.value }
    let isRight = last == finalValues(plan)
    #expect(isRight, "part \(part) seed \(seed)")
  }
}

/// The value of every key and window at the end, closed or not.
private func finalValues(_ plan: Plan) -> [[String]: Int64] {
  var values: [[String]: [Int64]] = [:]
  var watermark = Int64.min / 2
  var newest = Int64.min / 2
  for batch in plan.batches {
    for event in batch {
      for end in plan.ends(of: event.time) where watermark < end + plan.lateness {
        values[[event.key, "\(end)"], default: []].append(event.number)
      }
      newest = max(newest, event.time)
    }
    watermark = max(watermark, newest - plan.outOfOrderness)
  }
  return values.mapValues(plan.fold)
}
