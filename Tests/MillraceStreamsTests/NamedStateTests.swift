// NamedStateTests: functions with several states, over random histories and crashes, against dictionaries.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

/// Every kind of state, with and without a time to live, and timers. What it hands on says everything that it sees.
private func job() -> JobDefinition {
  let total = ValueState<Int64>("total")
  let recent = ValueState<String>("recent", timeToLive: .milliseconds(12))
  let numbers = MapState<Int64, Int64>("numbers")
  let fresh = MapState<String, String>("fresh", timeToLive: .milliseconds(9))
  let log = ListState<Int64>("log")
  let window = ListState<Item>("window", timeToLive: .milliseconds(15))
  return items().keyBy { $0.key }.process([total, recent, numbers, fresh, log, window], name: "p") {
    (item: Item, key: StatefulContext<String>, emit: (String) -> Void) in
    key[total] = (key[total] ?? 0) + item.number
    let before = key[recent] ?? "none"
    key[recent] = item.number == 0 ? nil : item.text
    key[numbers][item.number] = item.number == 5 ? nil : (key[numbers][item.number] ?? 0) + 1
    key[fresh]["\(item.number % 3)"] = item.text
    key[log].append(item.time)
    if key[log].count > 4 { key[log].removeFirst(2) }
    if item.number == 6 { key[log].removeAll() }
    if item.number == -6 { key[numbers].removeAll() }
    key[window].append(item)
    for timer in key.timers { key.cancelTimer(at: timer) }
    key.setTimer(at: Timestamp(milliseconds: item.time + 10))
    let map = key[numbers].elements.map { "\($0.name):\($0.value)" }
    let young = key[fresh].elements.map { "\($0.name):\($0.value)" }
    emit(
      "\(item.key) \(key[total] ?? 0) \(before) \(map) \(key[numbers].count) \(young) \(key[log].values) "
        + "\(key[window].values.map(\.text)) \(key.watermark.milliseconds)")
  } onTimer: { key, emit in
    key[log].append(-key.time.milliseconds)
    emit("\(key.key) timer \(key.time.milliseconds) \(key[recent] ?? "none") \(key[window].count)")
    if key[log].count == 4 { key.setTimer(at: Timestamp(milliseconds: key.time.milliseconds + 1)) }
  }.to(topic: "out").job(named: "states")
}

private struct Model {
  struct Key {
    var total: Int64 = 0
    var recent: (text: String, until: Int64)?
    var numbers: [Int64: Int64] = [:]
    var fresh: [String: (text: String, until: Int64)] = [:]
    var log: [Int64] = []
    var window: [(text: String, until: Int64)] = []
    var timer: Int64?
  }
  var keys: [String: Key] = [:]
  var watermark = Int64.min

  mutating func take(_ batch: [TimedEvent]) -> [String] {
    var out: [String] = []
    for event in batch {
      let item = Item(event)
      var key = keys[item.key] ?? Key()
      key.total += item.number
      let before = key.recent?.text ?? "none"
      key.recent = item.number == 0 ? nil : (item.text, item.time + 12)
      key.numbers[item.number] = item.number == 5 ? nil : (key.numbers[item.number] ?? 0) + 1
      key.fresh["\(item.number % 3)"] = (item.text, item.time + 9)
      key.log.append(item.time)
      if key.log.count > 4 { key.log.removeFirst(2) }
      if item.number == 6 { key.log = [] }
      if item.number == -6 { key.numbers = [:] }
      key.window.append((item.text, item.time + 15))
      key.timer = item.time + 10
      // Numbers are encoded with eight bytes: those below 0 come last. Texts come by length, and then by their bytes.
      let map = key.numbers.sorted { UInt64(bitPattern: $0.key) < UInt64(bitPattern: $1.key) }
      let young = key.fresh.sorted { ($0.key.utf8.count, $0.key) < ($1.key.utf8.count, $1.key) }
      out.append(
        "\(item.key) \(key.total) \(before) \(map.map { "\($0.key):\($0.value)" }) \(map.count) "
          + "\(young.map { "\($0.key):\($0.value.text)" }) \(key.log) \(key.window.map(\.text)) \(watermark)")
      keys[item.key] = key
    }
    watermark = max(watermark, batch.map(\.time).max() ?? watermark)
    for (name, state) in keys {
      var key = state
      if let timer = key.timer, timer <= watermark {
        key.timer = nil
        key.log.append(-timer)
        out.append("\(name) timer \(timer) \(key.recent?.text ?? "none") \(key.window.count)")
        if key.log.count == 4 { key.timer = timer + 1 }
      }
      if let recent = key.recent, recent.until <= watermark { key.recent = nil }
      key.fresh = key.fresh.filter { $0.value.until > watermark }
      key.window.removeAll { $0.until <= watermark }
      keys[name] = key
    }
    return out
  }
}

@Test("named states: values, lists, maps, their time to live, and timers, over crashes", arguments: 0..<4)
func oracleNamedStates(_ part: UInt64) throws {
  var failures = 0
  for seed in 0..<histories(25) {
    var random = SeededRandom(seed: part &* 500 &+ UInt64(seed))
    let batches = randomBatches(50, keys: 4, disorder: seed % 3 == 0 ? 12 : 0, using: &random)
    let history = try History(of: job(), over: batches.map { $0.map(\.record) }, using: &random, crashes: seed % 2 == 1)
    failures += history.failures
    var model = Model()
    // The timers of a batch come in an order that does not matter here.
    let isRight = history.agrees(history.out, with: batches.map { model.take($0) })
    #expect(isRight, "part \(part) seed \(seed)")
  }
  #expect(failures > histories(20) / 2)
}

@Test("an element of a large map or list is written alone, and states that are not used any more take no room")
func elementsOfStates() throws {
  let map = MapState<String, Int64>("map")
  let list = ListState<Int64>("list", timeToLive: .milliseconds(100))
  let job = DataStream.topic("in").keyBy { $0.key.text }.process([map, list], name: "p") {
    (record: InputRecord, key: StatefulContext<String>, emit: (String) -> Void) in
    let text = record.value.text
    if text == "clear" {
      key[map].removeAll()
    } else {
      key[map][text] = Int64(text.utf8.count)
      key[list].append(Int64(key[map].count))
    }
    emit("\(key[map].count) \(key[list].count)")
  }.to(topic: "out").job(named: "large")
  let driver = TestDriver(job)
  for number in 0..<500 { try driver.send("in", key: "k", value: "n\(number)", at: 1) }
  try driver.run()
  var most: UInt64 = 0
  for number in 0..<20 {
    let before = driver.figures.stateRecords
    try driver.send("in", key: "k", value: "m\(number)", at: 2)
    try driver.run()
    most = max(most, driver.figures.stateRecords - before)
  }
  // Two elements, a position, the time, and the sweep's share.
  #expect(most < 100)
  #expect(try driver.output("out").last?.value?.text == "520 520")
  driver.crash()
  try driver.send("in", key: "k", value: "clear", at: 101)
  try driver.run()
  #expect(try driver.output("out").last?.value?.text == "0 520")
  try driver.send("in", key: "k", value: "x", at: 102)
  try driver.run()
  // Those of the first ms were gone when event time had come to 101.
  #expect(try driver.output("out").last?.value?.text == "1 21")
  driver.crash()
  try driver.send("in", key: "k", value: "clear", at: 500)
  try driver.run()
  // Only what is known of the input's time.
  #expect(driver.figures.stateKeys == 2)
}

private func sortJob() -> JobDefinition {
  DataStream.topic("in").map { Item(TimedEvent($0)) }
    .eventTime(.boundedOutOfOrderness(.milliseconds(10)), name: "times") { Timestamp(milliseconds: $0.time) }
    .keyBy { $0.key }.sortedByTime(late: LateItems(), name: "s").map { "\($0.key) \($0.text)" }
    .to(topic: "out").job(named: "sort")
}

/// Late items, in the topic `out` like the others.
private struct LateItems: RecordSink {
  var sink = TopicSink<String>(topic: "out")
  func bound(to graph: inout JobGraph) throws(JobError) -> LateItems { LateItems(sink: try sink.bound(to: &graph)) }
  func receive(_ input: Item, _ time: Timestamp) { sink.receive("late \(input.text)", time) }
}

@Test("values are handed on in the order of their times, once event time has come to them, over crashes")
func oracleSortedByTime() throws {
  var failures = 0
  for seed in UInt64(0)..<histories(60) {
    var random = SeededRandom(seed: seed)
    let batches = randomBatches(50, keys: 3, disorder: 25, using: &random)
    let history = try History(
      of: sortJob(), over: batches.map { $0.map(\.record) }, using: &random, crashes: seed % 2 == 1)
    failures += history.failures
    var watermark = Int64.min
    var held: [Item] = []
    var expected: [String] = []
    for batch in batches {
      for item in batch.map(Item.init) {
        if item.time < watermark { expected.append("late \(item.text)") } else { held.append(item) }
      }
      watermark = max(watermark, (batch.map(\.time).max() ?? 0) - 10)
      // Stable: equal times stay as they came.
      let due = held.enumerated().filter { $0.element.time <= watermark }
        .sorted { ($0.element.time, $0.offset) < ($1.element.time, $1.offset) }
      expected += due.map { "\($0.element.key) \($0.element.text)" }
      held.removeAll { $0.time <= watermark }
    }
    // Late ones of several keys come in any order.
    let isRight = history.agrees(history.out, with: expected.map { [$0] }) {
      $0.hasPrefix("late") ? $0 : String($0.prefix { $0 != " " })
    }
    #expect(isRight, "seed \(seed)")
    if history.failures == 0 { #expect(Int(history.late) == expected.filter { $0.hasPrefix("late") }.count) }
  }
  #expect(failures > histories(40) / 2)
}
