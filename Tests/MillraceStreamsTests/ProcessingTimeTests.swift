// ProcessingTimeTests: windows and timers by the clock on the wall, which the test sets.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private func windows() -> JobDefinition {
  DataStream.topic("in").processingTime(name: "clock").keyBy { $0.key.text }.window(.tumbling(.seconds(10)))
    .count(name: "windows").map { "\($0.key) \($0.window.end.milliseconds / 1000) \($0.value)" }
    .to(topic: "out").job(named: "processing")
}

private func texts(_ driver: TestDriver) throws -> [String] {
  try driver.output("out").map { $0.value?.text ?? "" }
}

@Test("windows go by the time at which values are processed, and close without records, once, over a restart")
func processingWindows() throws {
  let driver = TestDriver(windows())
  driver.pass(.seconds(3))
  // The records' own times do not count.
  try driver.send("in", key: "a", value: "v", at: 1_000_000)
  try driver.send("in", key: "a", value: "v", at: -5)
  try driver.run()
  driver.pass(.seconds(6))
  try driver.send("in", key: "b", value: "v")
  try driver.run()
  #expect(try texts(driver) == [])
  driver.pass(.seconds(1))
  driver.crash()
  try driver.run()
  #expect(try texts(driver).sorted() == ["a 10 2", "b 10 1"])
  driver.crash()
  try driver.run()
  driver.pass(.seconds(100))
  try driver.run()
  #expect(try texts(driver).count == 2)
  try driver.send("in", key: "a", value: "v")
  try driver.run()
  driver.pass(.seconds(7))
  try driver.run()
  // 110 s it was then; the window ends at 120 s.
  #expect(try texts(driver).count == 2)
  driver.pass(.seconds(3))
  try driver.run()
  #expect(try texts(driver).last == "a 120 1")
  #expect(driver.figures.lateRecords == 0)
}

/// One record, and then nothing more.
private final class Single: ReplayableSource {
  private var isRead = false
  func restore(_ position: Bytes?) { isRead = position != nil }
  func next(maxBytes: Int) -> SourceBatch {
    guard !isRead else { return SourceBatch(batch: nil, position: Bytes([1]), isFinished: true) }
    isRead = true
    var builder = RecordBatchBuilder()
    builder.append(Record(key: Bytes("a"), value: Bytes("v")))
    return SourceBatch(batch: builder.finish(), position: Bytes([1]), isFinished: false)
  }
}

@Test("when all inputs have ended, every window by the clock closes")
func processingEnd() throws {
  let job = DataStream.source("s") { Single() }.processingTime(name: "clock").keyBy { $0.key.text }
    .window(.tumbling(.seconds(10))).count(name: "w").to(topic: "out").job(named: "end")
  let driver = TestDriver(job)
  driver.pass(.seconds(25))
  #expect(try driver.run())
  #expect(try driver.output("out").map { $0.value?.text } == ["1"])
  #expect(try driver.output("out").map(\.timestamp.milliseconds) == [29_999])
  driver.crash()
  #expect(try driver.run())
  #expect(try driver.output("out").count == 1)
}

@Test("a job that waits for nothing makes no steps while time passes")
func processingAtRest() throws {
  let driver = TestDriver(windows())
  try driver.send("in", key: "a", value: "v")
  try driver.run()
  driver.pass(.seconds(10))
  try driver.run()
  let steps = driver.figures.steps
  for _ in 0..<50 {
    driver.pass(.seconds(10))
    try driver.run()
  }
  #expect(driver.figures.steps == steps)
  #expect(try texts(driver) == ["a 10 1"])
}

@Test("a lost step is made again at the time of then; the clock does not run back over a restart; timers go by it")
func processingAfterLosses() throws {
  let last = ValueState<String>("last", timeToLive: .seconds(5))
  let job = DataStream.topic("in").processingTime(name: "clock").keyBy { $0.key.text }.process([last], name: "p") {
    (record: InputRecord, key: StatefulContext<String>, emit: (String) -> Void) in
    emit("\(key[last] ?? "none") at \(key.time.milliseconds)")
    key[last] = record.value.text
    key.setTimer(at: Timestamp(milliseconds: key.time.milliseconds + 2000))
  } onTimer: { key, emit in
    emit("timer \(key.time.milliseconds) \(key[last] ?? "none")")
  }.to(topic: "out").job(named: "timers")
  let driver = TestDriver(job)
  driver.pass(.seconds(1))
  driver.next(.lost)
  try driver.send("in", key: "k", value: "v")
  #expect(throws: JobError.self) { try driver.run() }
  driver.pass(.seconds(1))
  driver.next(.applied)
  #expect(throws: JobError.self) { try driver.run() }
  #expect(try texts(driver) == ["none at 2000"])
  driver.pass(.milliseconds(1800))
  try driver.run()
  #expect(try texts(driver).count == 1)
  driver.pass(.milliseconds(200))
  try driver.run()
  #expect(try texts(driver).last == "timer 4000 v")
  driver.pass(.seconds(3))
  try driver.run()
  try driver.send("in", key: "k", value: "w")
  try driver.run()
  #expect(try texts(driver).last == "none at 7000")
  driver.pass(.seconds(-6))
  driver.crash()
  try driver.send("in", key: "k", value: "x")
  try driver.run()
  #expect(try texts(driver).last == "w at 7000")
}
