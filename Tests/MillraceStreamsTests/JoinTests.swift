// JoinTests: joins of streams that only grow, over random histories and crashes, against models that look through lists
// of all values.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

extension TimedEvent: StateCodable {
  static var stateEncoding: String { "timed/1" }
  func encode(into writer: inout ByteWriter) {
    key.encode(into: &writer)
    number.encode(into: &writer)
    time.encode(into: &writer)
  }
  init(from reader: inout ByteReader) throws(DecodingError) {
    self.init(key: try String(from: &reader), number: try Int64(from: &reader), time: try Int64(from: &reader))
  }
}

/// Even numbers are left, odd ones right.
extension TimedEvent { var isLeft: Bool { number % 2 == 0 } }

/// By how much left times may be out of order; right ones by nothing.
private let disorder: Int64 = 5

private enum Shape: CaseIterable {
  case all
  case interval(Int64, Int64)
  case window(Int64, every: Int64)

  static var allCases: [Shape] {
    [
      .all, .interval(-10, 10), .interval(0, 7), .interval(3, 9), .interval(-9, -3), .window(20, every: 20),
      .window(20, every: 8),
    ]
  }
}

private func job(_ shape: Shape) -> JobDefinition {
  let events = DataStream.topic("in").map(TimedEvent.init)
  let left = events.filter(\.isLeft)
    .eventTime(.boundedOutOfOrderness(.milliseconds(disorder), idleness: nil), name: "l") {
      Timestamp(milliseconds: $0.time)
    }.keyBy { $0.key }
  let right = events.filter { !$0.isLeft }
    .eventTime(.boundedOutOfOrderness(.zero, idleness: nil), name: "r") { Timestamp(milliseconds: $0.time) }
    .keyBy { $0.key }
  @Sendable func text(_ pair: Joined<TimedEvent, TimedEvent>) -> String {
    "\(pair.left.key) \(pair.left.number) \(pair.right.number)"
  }
  let output =
    switch shape {
    case .all: left.join(right, name: "j").map(text).to(topic: "out")
    case .interval(-10, 10): left.join(right, within: .milliseconds(10), name: "j").map(text).to(topic: "out")
    case .interval(let lower, let upper):
      left.intervalJoin(right, between: .milliseconds(lower) ... .milliseconds(upper), name: "j").map(text)
        .to(topic: "out")
    case .window(let length, let hop):
      left.windowJoin(right, in: .hopping(.milliseconds(length), every: .milliseconds(hop)), name: "j")
        .map { "\($0.key) \($0.value.left.number) \($0.value.right.number) \($0.window.start.milliseconds)" }
        .to(topic: "out")
    }
  return output.job(named: "join")
}

/// What has to be handed on with each batch, with its time; and how many values are late.
private func expected(_ shape: Shape, _ batches: [[TimedEvent]]) -> (out: [[String]], late: UInt64) {
  var seen: [TimedEvent] = []
  var watermark = Int64.min
  var late: UInt64 = 0
  func isOpen(_ start: Int64, _ length: Int64) -> Bool { start + length > watermark }
  func starts(_ time: Int64, _ length: Int64, _ hop: Int64) -> [Int64] {
    (time - length...time).filter { $0 % hop == 0 && $0 <= time && time < $0 + length && isOpen($0, length) }
  }
  func isKept(_ event: TimedEvent, _ lower: Int64, _ upper: Int64) -> Bool {
    watermark == .min || (event.isLeft ? event.time + upper : event.time - lower) >= watermark
  }
  let out = batches.map { batch in
    var out: [String] = []
    for event in batch.filter(\.isLeft) + batch.filter({ !$0.isLeft }) {
      let partners = seen.filter { $0.key == event.key && $0.isLeft != event.isLeft }
      func pair(_ other: TimedEvent) -> String {
        "\(event.key) \(event.isLeft ? event.number : other.number) \(event.isLeft ? other.number : event.number)"
      }
      switch shape {
      case .all: out += partners.map { "\(pair($0))@\(max($0.time, event.time))" }
      case .interval(let lower, let upper):
        for other in partners where isKept(other, lower, upper) {
          let distance = event.isLeft ? other.time - event.time : event.time - other.time
          if distance >= lower, distance <= upper { out.append("\(pair(other))@\(max(other.time, event.time))") }
        }
        // Neither kept, nor could any value of the other side be that belongs to it.
        let farthest = TimedEvent(
          key: "", number: event.isLeft ? 1 : 0, time: event.isLeft ? event.time + upper : event.time - lower)
        if !isKept(event, lower, upper), !isKept(farthest, lower, upper) { late += 1 }
      case .window(let length, let hop):
        let windows = starts(event.time, length, hop)
        if windows.isEmpty { late += 1 }
        for other in partners {
          for start in windows where start <= other.time && other.time < start + length {
            out.append("\(pair(other)) \(start)@\(start + length - 1)")
          }
        }
      }
      seen.append(event)
    }
    let newest = (left: seen.filter(\.isLeft).map(\.time).max(), right: seen.filter { !$0.isLeft }.map(\.time).max())
    if let left = newest.left, let right = newest.right { watermark = max(watermark, min(left - disorder, right)) }
    return out
  }
  return (out, late)
}

@Test("oracle: joins of streams, of all values, in intervals and in windows, over crashes", arguments: Shape.allCases)
private func joinHistories(_ shape: Shape) throws {
  var failures = 0
  var late: UInt64 = 0
  var pairs = 0
  for seed in UInt64(0)..<histories(40) {
    var random = SeededRandom(seed: seed)
    var time: Int64 = 1000
    let batches = (0..<40).map { _ in
      (0..<Int.random(in: 1...5, using: &random)).map { _ in
        time += random.oneIn(10) ? .random(in: 0...40, using: &random) : .random(in: 0...3, using: &random)
        return TimedEvent(
          key: "k\(Int.random(in: 0..<4, using: &random))", number: .random(in: 0..<100, using: &random),
          time: time - (random.oneIn(4) ? .random(in: 0...50, using: &random) : 0))
      }
    }
    let history = try History(
      of: job(shape), over: batches.map { $0.map(\.record) }, using: &random, crashes: seed % 2 == 1)
    failures += history.failures
    let out = history.records.map { "\($0.value?.text ?? "")@\($0.timestamp.milliseconds)" }
    let model = expected(shape, batches)
    #expect(history.agrees(out, with: model.out), "\(shape) seed \(seed)")
    if seed % 2 == 0 { #expect(history.late == model.late, "\(shape) seed \(seed)") }
    late += model.late
    pairs += out.count
  }
  #expect(failures > histories(20) / 2)
  #expect(pairs > histories(400) / 2)
  if case .all = shape {} else { #expect(late > histories(20) / 2) }
}

@Test("what can find no partner any more takes no state; a join of all values keeps them")
func joinsForget() throws {
  func job(_ within: Duration?) -> JobDefinition {
    let events = DataStream.topic("in").map(TimedEvent.init).eventTime { Timestamp(milliseconds: $0.time) }
    let left = events.filter(\.isLeft).keyBy { $0.key }
    let right = DataStream.topic("in").map(TimedEvent.init).eventTime { Timestamp(milliseconds: $0.time) }
      .filter { !$0.isLeft }.keyBy { $0.key }
    let joined = within.map { left.join(right, within: $0) } ?? left.join(right)
    return joined.map { "\($0.left.number) \($0.right.number)" }.to(topic: "out").job(named: "forget")
  }
  for within in [nil, Duration.milliseconds(10)] {
    let driver = TestDriver(job(within))
    for time in Int64(0)..<1000 {
      try driver.send("in", [TimedEvent(key: "k\(time % 3)", number: time, time: time).record])
    }
    try driver.run()
    if within == nil {
      #expect(driver.figures.stateKeys >= 1000)
    } else {
      #expect(driver.figures.stateKeys < 40)
    }
    // What was said to be gone is gone for the next run as well.
    driver.crash()
    let before = try driver.output("out").count
    try driver.send("in", [TimedEvent(key: "k0", number: 1000, time: 1000).record])
    try driver.run()
    let found = try driver.output("out").count - before
    #expect(found == (within == nil ? 167 : 2))
  }
}

@Test("after a crash every worker of a join knows what is late")
func joinsKnowTheTime() throws {
  func events(_ name: String) -> DataStream<Map<RecordInput, TimedEvent>> {
    DataStream.topic(name).map(TimedEvent.init)
  }
  let left = events("left").eventTime(name: "l") { Timestamp(milliseconds: $0.time) }.keyBy { $0.key }
  let right = events("right").eventTime(name: "r") { Timestamp(milliseconds: $0.time) }.keyBy { $0.key }
  let job = left.windowJoin(right, in: .tumbling(.milliseconds(20)))
    .map { "\($0.key) \($0.value.left.time) \($0.value.right.time)" }.to(topic: "out").job(named: "late")
  var options = JobOptions()
  options.workers = 4
  let driver = TestDriver(job, options: options)
  let keys = (0..<20).map { "k\($0)" }
  for topic in ["left", "right"] {
    try driver.send(topic, keys.map { TimedEvent(key: $0, number: 0, time: 1000).record })
  }
  try driver.run()
  #expect(try driver.output("out").count == keys.count)
  driver.crash()
  // All of these are behind event time, though no batch has said so in this run.
  try driver.send("left", keys.map { TimedEvent(key: $0, number: 1, time: 100).record })
  try driver.send("right", keys.map { TimedEvent(key: $0, number: 1, time: 100).record })
  try driver.run()
  #expect(try driver.output("out").count == keys.count, "what is late meets nobody")
  #expect(driver.figures.lateRecords == UInt64(2 * keys.count))
}

@Test("joins of joins: what one hands on is kept by the next")
func joinsOfJoins() throws {
  let events = DataStream.topic("in").map(TimedEvent.init)
  func part(_ rest: Int64) -> KeyedStream<Filter<Map<RecordInput, TimedEvent>>, String> {
    events.filter { $0.number % 3 == rest }.keyBy { $0.key }
  }
  let job = part(0).join(part(1)).keyBy { $0.left.key }.join(part(2))
    .map { "\($0.left.left.number) \($0.left.right.number) \($0.right.number)" }.to(topic: "out").job(named: "three")
  let driver = TestDriver(job)
  try driver.send(
    "in", [TimedEvent(key: "a", number: 3, time: 1).record, TimedEvent(key: "b", number: 4, time: 1).record])
  try driver.send("in", [TimedEvent(key: "a", number: 5, time: 1).record])
  try driver.run()
  driver.crash()
  try driver.send("in", [TimedEvent(key: "a", number: 1, time: 1).record])
  try driver.run()
  driver.crash()
  try driver.send(
    "in", [TimedEvent(key: "a", number: 2, time: 1).record, TimedEvent(key: "a", number: 6, time: 1).record])
  try driver.run()
  #expect(try driver.output("out").map { $0.value?.text ?? "" }.sorted() == ["3 1 2", "3 1 5", "6 1 2", "6 1 5"])
}

@Test("a stream joined with a table sees what the log had of it before: oracle over crashes", arguments: [false, true])
func streamTableHistories(_ isLeft: Bool) throws {
  let events = DataStream.topic("in").map(TimedEvent.init)
  let table = events.filter { !$0.isLeft }.keyBy { $0.key }.latest(name: "t") { $0.number % 5 == 0 ? nil : $0.number }
  let stream = events.filter(\.isLeft).keyBy { $0.key }
  let output =
    isLeft
    ? stream.leftJoin(table).map { "\($0.left.key) \($0.left.number) \($0.right.map { "\($0)" } ?? "-")" }
      .to(topic: "out")
    : stream.join(table).map { "\($0.left.key) \($0.left.number) \($0.right)" }.to(topic: "out")
  var failures = 0
  for seed in UInt64(0)..<histories(40) {
    var random = SeededRandom(seed: seed)
    let batches = (0..<40).map { _ in
      (0..<Int.random(in: 1...5, using: &random)).map { _ in
        TimedEvent(
          key: "k\(Int.random(in: 0..<4, using: &random))", number: .random(in: 0..<100, using: &random), time: 0)
      }
    }
    let history = try History(
      of: output.job(named: "enrich"), over: batches.map { $0.map(\.record) }, using: &random, crashes: seed % 2 == 1)
    failures += history.failures
    var expected: [String] = []
    var last: [String: Int64] = [:]
    for batch in batches {
      for event in batch where !event.isLeft { last[event.key] = event.number % 5 == 0 ? nil : event.number }
      for event in batch where event.isLeft {
        guard isLeft || last[event.key] != nil else { continue }
        expected.append("\(event.key) \(event.number) \(last[event.key].map { "\($0)" } ?? "-")")
      }
    }
    #expect(history.agrees(history.out, with: expected.map { [$0] }), "seed \(seed)")
  }
  #expect(failures > histories(20) / 2)
}
