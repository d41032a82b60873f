// DeduplicateTests: the first value of each key, for ever and for a time, over random histories and crashes, against lists.

import MillraceBase
import MillraceModel
import MillraceStreams
import Testing

@testable import MillraceDataflow

private func job(within: Duration?) -> JobDefinition {
  items().keyBy { $0.key }.deduplicate(within: within, name: "d").map { "\($0.key) \($0.text)" }
    .to(topic: "out").job(named: "first")
}

/// What is handed on, how many are late, and how many keys are known in the end.
private func expected(_ batches: [[TimedEvent]], within: Int64?) -> (out: [String], late: UInt64) {
  var first: [String: Int64] = [:]
  var watermark = Int64.min / 2
  var out: [String] = []
  var late: UInt64 = 0
  for batch in batches {
    for event in batch {
      if let within {
        if event.time < watermark - within {
          late += 1
          continue
        }
        // Nothing is ever forgotten here.
        if let known = first[event.key], event.time < known + within { continue }
      } else if first[event.key] != nil {
        continue
      }
      first[event.key] = event.time
      out.append("\(event.key) \(Item(event).text)")
    }
    watermark = max(watermark, batch.map(\.time).max() ?? watermark)
  }
  return (out, late)
}

@Test(
  "only the first value of a key is handed on, for ever or for a time, over crashes",
  arguments: [nil, .zero, 5, 20, 100] as [Int64?])
func oracleDeduplicate(_ within: Int64?) throws {
  var failures = 0
  for seed in UInt64(0)..<histories(60) {
    var random = SeededRandom(seed: seed)
    let batches = randomBatches(40, keys: 6, disorder: seed % 3 == 0 ? 0 : 40, using: &random)
    let history = try History(
      of: job(within: within.map { .milliseconds($0) }), over: batches.map { $0.map(\.record) }, using: &random,
      crashes: seed % 2 == 1)
    failures += history.failures
    let model = expected(batches, within: within)
    #expect(history.agrees(history.out, with: model.out.map { [$0] }), "within \(within ?? -1) seed \(seed)")
    if history.failures == 0 { #expect(history.late == model.late, "within \(within ?? -1) seed \(seed)") }
  }
  #expect(failures > histories(60) / 2)
}

@Test("keys are forgotten when event time has passed them by twice the time, and late values go where they are told")
func forgottenKeys() throws {
  let job = items().keyBy { $0.key }
    .deduplicate(within: .milliseconds(10), late: CallTopic(), name: "d")
    .map { $0.text }.to(topic: "out").job(named: "first")
  let driver = TestDriver(job)
  func send(_ key: String, _ time: Int64) throws {
    try driver.send("in", value: "\(key) 0 \(time)")
    try driver.run()
  }
  for number in 0..<50 { try send("k\(number)", Int64(number)) }
  // Of the operator: the keys since the 30th ms. Of the clocks: the watermarks, and where partitions stand.
  let clocks = 4
  #expect(driver.figures.stateKeys - clocks == 20)
  driver.crash()
  try send("k49", 49)
  #expect(driver.figures.stateKeys - clocks == 20)
  #expect(try driver.output("out").count == 50)
  // What the run before knew is forgotten in time, too.
  try send("k49", 55)
  #expect(driver.figures.stateKeys - clocks == 14)
  #expect(try driver.output("out").count == 50)
  try send("new", 44)
  #expect(try driver.output("late").map { $0.value?.text } == ["44"])
  try send("new", 45)
  try send("new", 54)
  try send("new", 55)
  #expect(try driver.output("out").suffix(2).map { $0.value?.text } == ["0@45", "0@55"])
}

/// The times of items, in the topic `late`.
private struct CallTopic: RecordSink {
  var sink = TopicSink<String>(topic: "late")
  func bound(to graph: inout JobGraph) throws(JobError) -> CallTopic { CallTopic(sink: try sink.bound(to: &graph)) }
  func receive(_ input: Item, _ time: Timestamp) { sink.receive("\(input.time)", time) }
}

@Test("elements of one key are records of their own: a new one costs the same however many there are")
func elementsAlone() throws {
  let job = DataStream.topic("in").keyBy { $0.key }.distinctCount(name: "n") { $0.value }
    .to(topic: "out").job(named: "distinct")
  var sizes: [UInt64] = []
  let driver = TestDriver(job)
  for number in 0..<4000 {
    let before = driver.figures.stateRecords
    try driver.send("in", key: "x", value: "element \(number % 3999)", at: 1)
    try driver.run()
    sizes.append(driver.figures.stateRecords - before)
  }
  // What was there is not written again, but for the sweep's share.
  #expect(try #require(sizes.max()) < 200)
  #expect(try driver.output("out").map { $0.value?.text } == (1...3999).map { "\($0)" })
  driver.crash()
  try driver.send("in", key: "x", value: "element 5", at: 1)
  try driver.send("in", key: "x", value: "another", at: 1)
  try driver.send("in", key: "y", value: "element 5", at: 1)
  try driver.run()
  let last = try driver.output("out").suffix(2).map { "\($0.key?.text ?? "")=\($0.value?.text ?? "")" }
  #expect(Set(last) == ["x=4000", "y=1"])
}

@Test("an element's key group is its key's, and an element without its key is refused")
func elementGroups() throws {
  for (key, element) in [("a", "1"), ("a", "22"), ("", "x"), ("long key", "")] {
    let joined = Bytes(key).withBuffer { key in
      Bytes(element).withBuffer { element in ElementKey.join(key, element) { Bytes(copying: $0) } }
    }
    #expect(joined.withBuffer { ElementKey.group($0) } == Bytes(key).withBuffer { KeyGroup.of($0) })
    let parts = try #require(ElementKey.split(joined.buffer))
    #expect(BorrowedBytes(parts.key).text == key && BorrowedBytes(parts.element).text == element)
  }
  for wrong in [[], [0, 0, 0], [0, 0, 0, 1], [255, 255, 255, 255, 1]] as [[UInt8]] {
    let bytes = Bytes(wrong)
    #expect(ElementKey.split(bytes.buffer) == nil)
  }
}
