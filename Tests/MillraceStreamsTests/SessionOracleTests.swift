// SessionOracleTests: sessions over random histories, against an oracle that keeps every value, and against sorting.

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

private struct Plan {
  var gap: Int64
  var outOfOrderness: Int64
  var lateness: Int64
  var isMaximum: Bool
  var emission: WindowEmission
  var batches: [[TimedEvent]]

  init(using random: inout SeededRandom, emission: WindowEmission) {
    self.emission = emission
    gap = .random(in: 0...30, using: &random)
    outOfOrderness = random.oneIn(2) ? 0 : .random(in: 0...40, using: &random)
    lateness = random.oneIn(2) ? 0 : .random(in: 0...100, using: &random)
    isMaximum = random.oneIn(2)
    var time = Int64.random(in: -200...200, using: &random)
    batches = []
    for _ in 0..<Int.random(in: 1...30, using: &random) {
      var batch: [TimedEvent] = []
      for _ in 0..<Int.random(in: 1...8, using: &random) {
        time += random.oneIn(15) ? .random(in: -90...200, using: &random) : .random(in: -6...12, using: &random)
        batch.append(
          TimedEvent(
            key: "k\(Int.random(in: 0..<3, using: &random))", number: .random(in: -9...9, using: &random), time: time))
      }
      batches.append(batch)
    }
  }

  func fold(_ values: [Int64]) -> Int64 { isMaximum ? values.max() ?? 0 : values.reduce(0, +) }
}

private struct Group {
  var key: String
  var events: [TimedEvent]
  var start: Int64 { events.map(\.time).min() ?? 0 }
  var last: Int64 { events.map(\.time).max() ?? 0 }
}

/// What has to come out: in order of batches; how many values are late; what is there at the end, of every session there ever was
/// (a session that grew stands only as it was last).
private func expected(_ plan: Plan) -> (results: [[Result]], late: Int) {
  var groups: [Group] = []
  var watermark = Int64.min / 2
  var newest = Int64.min / 2
  var late = 0
  var results: [[Result]] = []
  func result(_ group: Group) -> Result {
    Result(
      key: group.key, start: group.start, end: group.last + plan.gap, value: plan.fold(group.events.map(\.number)))
  }
  for batch in plan.batches {
    var changed: Set<[String]> = []
    for event in batch {
      let touching = groups.filter { group in
        group.key == event.key && group.events.contains { abs($0.time - event.time) <= plan.gap }
      }
      let joined = Group(key: event.key, events: touching.flatMap(\.events) + [event])
      newest = max(newest, event.time)
      guard watermark <= joined.last + plan.gap + plan.lateness else {
        late += 1
        continue
      }
      groups.removeAll { group in touching.contains { $0.key == group.key && $0.start == group.start } }
      groups.append(joined)
      if watermark > joined.last + plan.gap { changed.insert([joined.key, "\(joined.start)"]) }
    }
    var out: [Result] = []
    for group in groups where changed.contains([group.key, "\(group.start)"]) && watermark > group.last + plan.gap {
      out.append(result(group))
    }
    let before = watermark
    watermark = max(watermark, newest - plan.outOfOrderness)
    for group in groups where before <= group.last + plan.gap && watermark > group.last + plan.gap {
      out.append(result(group))
    }
    if case .early(let every) = plan.emission, before > Int64.min / 2 {
      var multiple = watermark
      while multiple % every.inMilliseconds != 0 { multiple -= 1 }
      for group in groups where multiple > before && group.start < multiple && watermark <= group.last + plan.gap {
        out.append(result(group))
      }
    }
    groups.removeAll { watermark > $0.last + plan.gap + plan.lateness }
    results.append(out)
  }
  return (results, late)
}

private func job(_ plan: Plan) -> JobDefinition {
  let sessions = DataStream.topic("in")
    .map { TimedEvent($0) }
    .eventTime(.boundedOutOfOrderness(.milliseconds(plan.outOfOrderness)), name: "times") {
      Timestamp(milliseconds: $0.time)
    }
    .keyBy { $0.key }
    .sessions(gap: .milliseconds(plan.gap))
    .allowedLateness(.milliseconds(plan.lateness))
    .emit(plan.emission)
  let output =
    plan.isMaximum
    ? sessions.maximum(name: "s") { $0.number }.map(text).to(topic: "out")
    : sessions.sum(name: "s") { $0.number }.map(text).to(topic: "out")
  return output.job(named: "sessions")
}

@Sendable private func text(_ result: Windowed<String, Int64>) -> String {
  "\(result.key) \(result.window.start.milliseconds) \(result.window.end.milliseconds) \(result.value)"
}

private func run(
  _ plan: Plan, using random: inout SeededRandom, crashes: Bool
) throws -> (results: [Result], late: UInt64, failures: Int) {
  let history = try History(
    of: job(plan), over: plan.batches.map { $0.map(\.record) }, using: &random, crashes: crashes)
  let results = history.out.map { text -> Result in
    let parts = text.split(separator: " ")
    return Result(
      key: String(parts[0]), start: Int64(parts[1]) ?? 0, end: Int64(parts[2]) ?? 0, value: Int64(parts[3]) ?? 0)
  }
  return (results, history.late, history.failures)
}

@Test("sessions: what is handed on, when, and what is late, however steps are cut", arguments: 0..<8)
func sessionHistories(_ part: UInt64) throws {
  for seed in 0..<histories(50) {
    var random = SeededRandom(seed: 5_000_000 &+ part &* 1000 &+ UInt64(seed))
    let plan = Plan(using: &random, emission: seed % 2 == 0 ? .onClose : .early(every: .milliseconds(7)))
    let (wanted, late) = expected(plan)
    let got = try run(plan, using: &random, crashes: false)
    #expect(got.late == UInt64(late), "part \(part) seed \(seed)")
    var at = 0
    for (number, batch) in wanted.enumerated() {
      let next = got.results[min(at, got.results.count)..<min(at + batch.count, got.results.count)]
      let isRight = counts(next) == counts(batch)
      #expect(isRight, "part \(part) seed \(seed) batch \(number)")
      at += batch.count
    }
    #expect(got.results.count == at, "part \(part) seed \(seed)")
  }
}

@Test("sessions: crashes change nothing of what is handed on", arguments: 0..<8)
func sessionCrashes(_ part: UInt64) throws {
  var failures = 0
  for seed in 0..<histories(30) {
    var random = SeededRandom(seed: 6_000_000 &+ part &* 1000 &+ UInt64(seed))
    let plan = Plan(using: &random, emission: seed % 2 == 0 ? .onClose : .early(every: .milliseconds(7)))
    let wanted = expected(plan).results.flatMap { $0 }
    let got = try run(plan, using: &random, crashes: true)
    failures += got.failures
    let isRight = counts(got.results) == counts(wanted)
    #expect(isRight, "part \(part) seed \(seed)")
  }
  #expect(failures > histories(30) / 2)
}

@Test("sessions of values that are in time are those that sorting finds", arguments: 0..<4)
func sessionsBySorting(_ part: UInt64) throws {
  for seed in 0..<histories(50) {
    var random = SeededRandom(seed: 7_000_000 &+ part &* 1000 &+ UInt64(seed))
    var plan = Plan(using: &random, emission: random.oneIn(2) ? .onClose : .onUpdate)
    // The bound is as large as the disorder.
    plan.outOfOrderness = 0
    var newest = Int64.min
    for event in plan.batches.joined() {
      newest = max(newest, event.time)
      plan.outOfOrderness = max(plan.outOfOrderness, newest - event.time)
    }
    plan.lateness = 0
    var wanted: [String: [Result]] = [:]
    for (key, events) in Dictionary(grouping: plan.batches.joined(), by: \.key) {
      var groups: [Group] = []
      for event in events.sorted(by: { $0.time < $1.time }) {
        if let last = groups.indices.last, event.time - groups[last].last <= plan.gap {
          groups[last].events.append(event)
        } else {
          groups.append(Group(key: key, events: [event]))
        }
      }
      wanted[key] = groups.map {
        Result(key: key, start: $0.start, end: $0.last + plan.gap, value: plan.fold($0.events.map(\.number)))
      }
    }
    let got = try run(plan, using: &random, crashes: random.oneIn(2))
    if plan.emission == .onClose {
      let watermark = newest - plan.outOfOrderness
      let closed = wanted.values.joined().filter { $0.end < watermark }
      let isRight = counts(got.results) == counts(closed)
      #expect(isRight, "part \(part) seed \(seed)")
    } else {
      // What was handed on last of each session is its result.
      let all = Set(got.results)
      let isRight = wanted.values.joined().allSatisfy { all.contains($0) }
      #expect(isRight, "part \(part) seed \(seed)")
    }
  }
}
