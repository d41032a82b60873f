// TableTests: tables and what is counted of their changes, over random histories and crashes, against a model that
// computes it anew.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

/// A product in a category, with a price; or that it is gone.
private struct Offer: StateCodable, Equatable, Sendable {
  var category: String
  var price: Int64
  var text: String { "\(category) \(price)" }
  static var stateEncoding: String { "offer/1" }
  func encode(into writer: inout ByteWriter) {
    category.encode(into: &writer)
    price.encode(into: &writer)
  }
  init(from reader: inout ByteReader) throws(DecodingError) {
    category = try String(from: &reader)
    price = try Int64(from: &reader)
  }
  /// The number says both; what is below 0 is gone.
  init?(_ number: Int64) {
    guard number >= 0 else { return nil }
    category = "c\(number % 3)"
    price = number / 3
  }
}

private enum Shape: CaseIterable { case count, sum, average, minimum, maximum, byTime }

private func job(_ shape: Shape) -> JobDefinition {
  let offers = DataStream.topic("in").map(TimedEvent.init).eventTime(.boundedOutOfOrderness(.seconds(1000))) {
    Timestamp(milliseconds: $0.time)
  }.keyBy { $0.key }
  let changes = offers.latest(name: "offers") { Offer($0.number) }.changes().keyBy { $0.value.value.category }
  let output =
    switch shape {
    case .count: changes.count(name: "n").to(topic: "out")
    case .sum: changes.sum(name: "n") { $0.value.price }.to(topic: "out")
    case .average:
      changes.average(name: "n") { $0.value.price }
        .map { TableUpdate(key: $0.key, old: $0.old?.average, new: $0.new?.average) }.to(topic: "out")
    case .minimum: changes.minimum(name: "n") { $0.value.price }.to(topic: "out")
    case .maximum: changes.maximum(name: "n") { $0.value.price }.to(topic: "out")
    case .byTime:
      offers.latest(by: .eventTime, name: "offers") { Offer($0.number) }
        .map { TableUpdate(key: $0.key, old: $0.old?.text, new: $0.new?.text) }.to(topic: "out")
    }
  return output.job(named: "tables")
}

/// What the keys of the topic `out` have when the events are through.
private func expected(_ shape: Shape, _ events: some Sequence<TimedEvent>) -> [String: String] {
  var last: [String: TimedEvent] = [:]
  for event in events {
    if shape == .byTime, let known = last[event.key], known.time > event.time, known.number >= 0 { continue }
    last[event.key] = event
  }
  let offers = last.compactMapValues { Offer($0.number) }
  if shape == .byTime { return offers.mapValues(\.text) }
  return Dictionary(grouping: offers.values, by: \.category).mapValues { offers in
    let sum = offers.reduce(0) { $0 + $1.price }
    return switch shape {
    case .count: "\(offers.count)"
    case .sum: "\(sum)"
    case .minimum: "\(offers.map(\.price).min() ?? 0)"
    case .maximum: "\(offers.map(\.price).max() ?? 0)"
    default: "\(Double(sum) / Double(offers.count))"
    }
  }
}

@Test(
  "oracle: tables, and counts, sums, averages and extremes of their changes, over crashes", arguments: Shape.allCases)
private func tableHistories(_ shape: Shape) throws {
  var failures = 0
  var tombstones = 0
  for seed in UInt64(0)..<60 {
    var random = SeededRandom(seed: seed)
    let batches = (0..<40).map { _ in
      (0..<Int.random(in: 1...5, using: &random)).map { _ in
        TimedEvent(
          key: "k\(Int.random(in: 0..<6, using: &random))", number: .random(in: -5...12, using: &random),
          time: .random(in: 0...50, using: &random))
      }
    }
    let history = try History(
      of: job(shape), over: batches.map { $0.map(\.record) }, using: &random, crashes: seed % 2 == 1)
    failures += history.failures
    // What the topic says at the end of each step is right for some number of batches, and those rise.
    let states = [[:]] + batches.indices.map { expected(shape, batches[...$0].joined()) }
    var at = 0
    for state in history.states {
      while at < states.count, states[at] != state { at += 1 }
    }
    #expect(at < states.count, "\(shape) seed \(seed)")
    #expect(history.states.last == states.last, "\(shape) seed \(seed)")
    // Nothing is said twice in a row of a key; averages may be equal when what they are of is not.
    var said: [String: String?] = [:]
    for record in history.records {
      let key = record.key?.text ?? ""
      let value = record.value?.text
      if shape != .average || value == nil {
        #expect(said[key] != .some(value), "\(shape) seed \(seed): \(key) is \(value ?? "gone") again")
      }
      if value == nil { #expect(said[key] != nil, "\(shape) seed \(seed): \(key) was never there") }
      said[key] = .some(value)
      tombstones += value == nil ? 1 : 0
    }
  }
  #expect(failures > 20)
  #expect(tombstones > 50)
}

@Test("a key that is gone leaves no state; equal values are handed on once; times are the newest of the step")
func tablesForgetKeys() throws {
  let job = DataStream.topic("in").keyBy { $0.key.text }.latest(name: "t") { Offer(Int64($0.value.text) ?? 0) }
    .map { TableUpdate(key: $0.key, old: $0.old?.price, new: $0.new?.price) }.to(topic: "out").job(named: "forget")
  let driver = TestDriver(job)
  try driver.send("in", key: "a", value: "30", at: 1)
  try driver.send("in", key: "b", value: "60", at: 5)
  try driver.send("in", key: "a", value: "30", at: 2)
  try driver.run()
  #expect(try driver.newOutput("out").map { "\($0.key?.text ?? "") \($0.value?.text ?? "-")" } == ["a 10", "b 20"])
  #expect(try driver.output("out").map(\.timestamp.milliseconds) == [5, 5])
  try driver.send("in", key: "a", value: "30", at: 6)
  try driver.run()
  #expect(try driver.newOutput("out").isEmpty)
  let keys = driver.figures.stateKeys
  try driver.send("in", key: "a", value: "-1", at: 7)
  try driver.send("in", key: "c", value: "9", at: 7)
  try driver.send("in", key: "c", value: "-1", at: 7)
  try driver.run()
  #expect(try driver.newOutput("out").map { "\($0.key?.text ?? "") \($0.value?.text ?? "-")" } == ["a -"])
  #expect(driver.figures.stateKeys == keys - 1)
  driver.crash()
  try driver.send("in", key: "b", value: "60", at: 8)
  try driver.send("in", key: "a", value: "33", at: 8)
  try driver.run()
  #expect(try driver.newOutput("out").map { "\($0.key?.text ?? "") \($0.value?.text ?? "-")" } == ["a 11"])
}

@Test("aggregates of values that stay, as tables: what each hands on, and the changes that come of it")
func growingTables() throws {
  let keyed = DataStream.topic("in").keyBy { $0.key.text }
  @Sendable func number(_ record: InputRecord) -> Int64 { Int64(record.value.text) ?? 0 }
  @Sendable func text<Value>(_ name: String) -> @Sendable (Change<Keyed<String, Value>>) -> String {
    { "\(name) \($0.weight) \($0.value.key) \($0.value.value)" }
  }
  let job = StreamOutput.job(
    named: "growing",
    [
      keyed.table.count().changes().map(text("count")).to(topic: "out"),
      keyed.table.sum(number).changes().map(text("sum")).to(topic: "out"),
      keyed.table.minimum(number).changes().map(text("minimum")).to(topic: "out"),
      keyed.table.maximum(number).changes().map(text("maximum")).to(topic: "out"),
      keyed.table.average(number).changes().map { $0.map { Keyed(key: $0.key, value: $0.value.average) } }
        .map(text("average")).to(topic: "out"),
      DataStream.topic("in").map(number).asChanges().keyBy { _ in "all" }.count().changes().map(text("all"))
        .to(topic: "out"),
    ])
  let driver = TestDriver(job)
  try driver.send("in", key: "a", value: "3")
  try driver.run()
  #expect(
    try driver.newOutput("out").map { $0.value?.text } == [
      "count 1 a 1", "sum 1 a 3", "minimum 1 a 3", "maximum 1 a 3", "average 1 a 3.0", "all 1 all 1",
    ])
  driver.crash()
  try driver.send("in", key: "a", value: "4")
  try driver.run()
  #expect(
    try driver.newOutput("out").map { $0.value?.text } == [
      "count -1 a 1", "count 1 a 2", "sum -1 a 3", "sum 1 a 7", "maximum -1 a 3", "maximum 1 a 4", "average -1 a 3.0",
      "average 1 a 3.5", "all -1 all 1", "all 1 all 2",
    ])
}
