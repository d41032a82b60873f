// SessionOracleTests: sessions over random histories, against an oracle that keeps every value, and against sorting.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private struct Event {
  var key: String
  var number: Int64
  var time: Int64
}

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
  var batches: [[Event]]

  init(using random: inout SeededRandom, emission: WindowEmission) {
    self.emission = emission
    gap = .random(in: 0...30, using: &random)
    outOfOrderness = random.oneIn(2) ? 0 : .random(in: 0...40, using: &random)
    lateness = random.oneIn(2) ? 0 : .random(in: 0...100, using: &random)
    isMaximum = random.oneIn(2)
    var time = Int64.random(in: -200...200, using: &random)
    batches = []
    for _ in 0..<Int.random(in: 1...30, using: &random) {
      var batch: [Event] = []
      for _ in 0..<Int.random(in: 1...8, using: &random) {
        time += random.oneIn(15) ? .random(in: -90...200, using: &random) : .random(in: -6...12, using: &random)
        batch.append(
          Event(
            key: "k\(Int.random(in: 0..<3, using: &random))", number: .random(in: -9...9, using: &random), time: time))
      }
      batches.append(batch)
    }
  }

  func fold(_ values: [Int64]) -> Int64 { isMaximum ? values.max() ?? 0 : values.reduce(0, +) }
}

private struct Group {
  var key: String
  var events: [Event]
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
    groups.removeAll { watermark > $0.last + plan.gap + plan.lateness }
    results.append(out)
  }
  return (results, late)
}

private func job(_ plan: Plan) -> JobDefinition {
  let sessions = DataStream.topic("events")
    .map { record -> Event in
      let parts = record.value.text.split(separator: " ")
      return Event(key: String(parts[0]), number: Int64(parts[1]) ?? 0, time: Int64(parts[2]) ?? 0)
    }
    .eventTime(.boundedOutOfOrderness(.milliseconds(plan.outOfOrderness)), name: "times") {
      Timestamp(milliseconds: $0.time)
    }
    .keyBy { $0.key }
    .sessions(gap: .milliseconds(plan.gap))
    .allowedLateness(.milliseconds(plan.lateness))
    .emit(plan.emission)
  let output =
    plan.isMaximum
    ? sessions.maximum(name: "s") { $0.number }.map(text).to(topic: "results")
    : sessions.sum(name: "s") { $0.number }.map(text).to(topic: "results")
  return output.job(named: "sessions")
}

@Sendable private func text(_ result: Windowed<String, Int64>) -> String {
  "\(result.key) \(result.window.start.milliseconds) \(result.window.end.milliseconds) \(result.value)"
}

private func run(
  _ plan: Plan, using random: inout SeededRandom, crashes: Bool
) throws -> (results: [Result], late: UInt64, failures: Int) {
  let seed = random.next()
  let host = MemoryHost { number in
    var luck = SeededRandom(seed: seed &+ number)
    guard crashes, luck.oneIn(4) else { return .acknowledged }
    return luck.oneIn(2) ? .applied : .lost
  }
  host.createTopic("events", partitions: 1)
  host.createTopic("results", partitions: 1)
  var appended = 0
  var late: UInt64 = 0
  var failures = 0
  while true {
    var options = JobOptions()
    options.idleWait = .zero
    options.briefWait = .zero
    options.readBytes = random.oneIn(2) ? 1 : 400
    options.stepBytes = random.oneIn(2) ? 1 : 2000
    options.commitsInFlight = Int.random(in: 1...3, using: &random)
    do throws(JobError) {
      let executor = try JobExecutor(job(plan), host: host, options: options)
      while true {
        if appended < plan.batches.count, random.oneIn(2) {
          var builder = RecordBatchBuilder()
          for event in plan.batches[appended] {
            builder.append(
              Record(key: nil, value: Bytes("\(event.key) \(event.number) \(event.time)"), timestamp: .none))
          }
          try host.append(topic: "events", partition: 0, batch: builder.finish())
          appended += 1
        }
        if try executor.turn() != .progress, appended == plan.batches.count { break }
      }
      try executor.settle()
      late = executor.figures.lateRecords
      break
    } catch {
      guard crashes, error.code == .commitFailed || error.code == .fenced else { throw error }
      failures += 1
      try #require(failures < 1000)
    }
  }
  let results = try host.records(topic: "results", partition: 0).map { record -> Result in
    let parts = (record.value?.text ?? "").split(separator: " ")
    return Result(
      key: String(parts[0]), start: Int64(parts[1]) ?? 0, end: Int64(parts[2]) ?? 0, value: Int64(parts[3]) ?? 0)
  }
  return (results, late, failures)
}

private func count(_ results: some Sequence<Result>) -> [Result: Int] {
  var counts: [Result: Int] = [:]
  for result in results { counts[result, default: 0] += 1 }
  return counts
}

@Test("sessions: what is handed on, when, and what is late, however steps are cut", arguments: 0..<8)
func sessionHistories(_ part: UInt64) throws {
  for seed in 0..<50 {
    var random = SeededRandom(seed: 5_000_000 &+ part &* 1000 &+ UInt64(seed))
    let plan = Plan(using: &random, emission: .onClose)
    let (wanted, late) = expected(plan)
    let got = try run(plan, using: &random, crashes: false)
    #expect(got.late == UInt64(late), "part \(part) seed \(seed)")
    var at = 0
    for (number, batch) in wanted.enumerated() {
      let next = got.results[min(at, got.results.count)..<min(at + batch.count, got.results.count)]
      let isRight = count(next) == count(batch)
      #expect(isRight, "part \(part) seed \(seed) batch \(number)")
      at += batch.count
    }
    #expect(got.results.count == at, "part \(part) seed \(seed)")
  }
}

@Test("sessions: crashes change nothing of what is handed on", arguments: 0..<8)
func sessionCrashes(_ part: UInt64) throws {
  var failures = 0
  for seed in 0..<30 {
    var random = SeededRandom(seed: 6_000_000 &+ part &* 1000 &+ UInt64(seed))
    let plan = Plan(using: &random, emission: .onClose)
    let wanted = expected(plan).results.flatMap { $0 }
    let got = try run(plan, using: &random, crashes: true)
    failures += got.failures
    let isRight = count(got.results) == count(wanted)
    #expect(isRight, "part \(part) seed \(seed)")
  }
  #expect(failures > 30)
}

@Test("sessions of values that are in time are those that sorting finds", arguments: 0..<4)
func sessionsBySorting(_ part: UInt64) throws {
  for seed in 0..<50 {
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
      let isRight = count(got.results) == count(closed)
      #expect(isRight, "part \(part) seed \(seed)")
    } else {
      // What was handed on last of each session is its result.
      let all = Set(got.results)
      let isRight = wanted.values.joined().allSatisfy { all.contains($0) }
      #expect(isRight, "part \(part) seed \(seed)")
    }
  }
}
