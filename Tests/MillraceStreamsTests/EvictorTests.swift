// EvictorTests: functions that see the values of windows, and evictors, over random histories, against models that search lists.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private typealias Values = [Timestamped<Item>]

enum Eviction: CaseIterable, Sendable {
  case none, last, within, own

  fileprivate var evictor: Evictor<Item>? {
    switch self {
    case .none: nil
    case .last: .last(3)
    case .within: .within(.milliseconds(5))
    case .own: Evictor { values in values.removeAll { $0.value.number < 0 } }
    }
  }

  /// What is left, by another way.
  fileprivate func left(_ events: [TimedEvent]) -> [TimedEvent] {
    let newest = events.map(\.time).max() ?? 0
    return switch self {
    case .none: events
    case .last: Array(events.suffix(3))
    case .within: events.filter { newest - $0.time < 5 }
    case .own: events.filter { $0.number >= 0 }
    }
  }
}

private func text(_ events: [TimedEvent]) -> String { events.map { "\($0.number)@\($0.time)" }.joined(separator: ",") }

private func line(_ window: Windowed<String, Values>) -> String {
  "\(window.key) \(window.window.end.milliseconds) \(window.value.map { "\($0.value.number)@\($0.time.milliseconds)" }.joined(separator: ","))"
}

@Test(
  "a function sees all values of a window that an evictor leaves, in their order, over crashes",
  arguments: Eviction.allCases)
func oracleProcessWindows(_ eviction: Eviction) throws {
  var failures = 0
  for seed in UInt64(0)..<24 {
    var random = SeededRandom(seed: seed)
    let batches = randomBatches(40, keys: 3, using: &random)
    let keyed = items().keyBy { $0.key }
    let isOfSessions = seed % 3 == 2
    let output =
      isOfSessions
      ? keyed.sessions(gap: .milliseconds(6)).process(name: "w", evicting: eviction.evictor) { $1(line($0)) }
        .to(topic: "out")
      : keyed.window(.hopping(.milliseconds(20), every: .milliseconds(10)))
        .process(name: "w", evicting: eviction.evictor) { $1(line($0)) }.to(topic: "out")
    let history = try History(
      of: output.job(named: "process-windows"), over: batches.map { $0.map(\.record) }, using: &random,
      crashes: seed % 2 == 1)
    failures += history.failures
    let end = batches.joined().map(\.time).max() ?? 0
    var expected: [String] = []
    for (key, events) in Dictionary(grouping: batches.joined(), by: \.key) {
      if isOfSessions {
        var session: [TimedEvent] = []
        for event in events + [TimedEvent(key: key, number: 0, time: .max)] {
          if let last = session.last, event.time - last.time > 6 {
            if last.time + 6 < end { expected.append("\(key) \(last.time + 6) \(text(eviction.left(session)))") }
            session = []
          }
          session.append(event)
        }
      } else {
        for close in stride(from: Int64(10), through: end, by: 10) {
          let values = events.filter { close - 20 <= $0.time && $0.time < close }
          if !values.isEmpty { expected.append("\(key) \(close) \(text(eviction.left(values)))") }
        }
      }
    }
    #expect(counts(history.out) == counts(expected), "seed \(seed)")
  }
  #expect(failures > 20)
}

@Test(
  "a global window keeps what evictors leave before and behind each result", arguments: Eviction.allCases,
  Eviction.allCases)
func oracleEvictors(_ before: Eviction, _ after: Eviction) throws {
  for seed in UInt64(0)..<6 {
    var random = SeededRandom(seed: 90 + seed)
    let batches = randomBatches(40, keys: 3, using: &random)
    let isPurging = seed == 0
    let job = items().keyBy { $0.key }.window(.global(.count(4), purging: isPurging))
      .process(name: "g", evictingBefore: before.evictor, after: after.evictor) { $1(line($0)) }
      .to(topic: "out").job(named: "evictors")
    let history = try History(
      of: job, over: batches.map { $0.map(\.record) }, using: &random, crashes: seed % 2 == 1)
    var kept: [String: [TimedEvent]] = [:]
    var since: [String: Int] = [:]
    let expected = batches.map { batch in
      batch.compactMap { event -> String? in
        kept[event.key, default: []].append(event)
        since[event.key, default: 0] += 1
        guard since[event.key] == 4 else { return nil }
        since[event.key] = 0
        let all = kept[event.key] ?? []
        let seen = before.left(all)
        kept[event.key] = isPurging ? [] : after.left(seen)
        let end = ((seen.isEmpty ? all : seen).map(\.time).max() ?? 0) + 1
        return "\(event.key) \(end) \(text(seen))"
      }
    }
    let isRight = history.agrees(history.out, with: expected)
    #expect(isRight, "seed \(seed)")
  }
}

@Test("late values go where they are told, as they came, and lateness changes what the function sees")
func processWindowsLate() throws {
  let job = DataStream.topic("in").map { $0.value.text }.keyBy { _ in "k" }.window(.tumbling(.milliseconds(10)))
    .allowedLateness(.milliseconds(10)).lateValues(to: TopicSink<String>(topic: "late"))
    .process(name: "w", evicting: .last(2)) { window, emit in
      emit(window.value.map { "\($0.value)\($0.time.milliseconds)" }.joined(separator: " "))
    }.to(topic: "out").job(named: "late")
  let driver = TestDriver(job)
  for (text, time) in [("a", Int64(1)), ("b", 5), ("c", 12), ("d", 3), ("e", 40), ("f", 4)] {
    try driver.send("in", value: text, at: time)
    try driver.run()
  }
  #expect(try driver.output("out").map { $0.value?.text } == ["a1 b5", "b5 d3", "c12"])
  #expect(try driver.output("late").map { $0.value?.text } == ["f"])
  #expect(driver.figures.lateRecords == 1)
}
