// PunctuatedTests: watermarks that values say themselves.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

@Test(
  "a window closes when a value says so, not when later times come, and what comes behind the mark is late",
  arguments: [1, 3])
func punctuated(workers: Int) throws {
  // "a 5" is a value at 5 ms, "mark 10" says that none before 10 ms follows.
  struct Value: ExchangeValue {
    let word: String
    let time: Int64
  }
  let values = DataStream.topic("in").map { record in
    let parts = record.value.text.split(separator: " ")
    return Value(word: String(parts[0]), time: Int64(parts[1]) ?? 0)
  }
  let job = values.eventTime(name: "times", watermark: { value, time in value.word == "mark" ? time : nil }) {
    Timestamp(milliseconds: $0.time)
  }
  .filter { $0.word != "mark" }
  .keyBy(\.word).window(.tumbling(.milliseconds(10))).count(name: "counts")
  .map { "\($0.key) \($0.window.start.milliseconds): \($0.value)" }.to(topic: "out").job(named: "marks")
  let driver = TestDriver(job, partitions: 1)
  driver.workers = workers
  func out() throws -> [String] { try driver.newOutput("out").map { $0.value?.text ?? "" }.sorted() }
  for value in ["a 5", "b 7", "a 35", "a 8"] { try driver.send("in", value: value) }
  try driver.run()
  #expect(try out() == [])
  try driver.send("in", value: "mark 10")
  try driver.run()
  #expect(try out() == ["a 0: 2", "b 0: 1"])
  driver.crash()
  // Lower marks change nothing; a mark in a batch counts behind it.
  try driver.send("in", value: "mark 3")
  try driver.send("in", value: "a 9")
  try driver.send("in", ["mark 20", "b 12"].map { Record(value: Bytes($0), timestamp: Timestamp(milliseconds: 0)) })
  try driver.run()
  #expect(try out() == ["b 10: 1"])
  #expect(driver.figures.lateRecords == 1)
  try driver.send("in", value: "mark 40")
  try driver.run()
  #expect(try out() == ["a 30: 1"])
}
