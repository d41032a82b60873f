// AttemptTests: functions that fail for single values: left out, written to another topic, or the end of the job.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private struct Unlucky: Error, CustomStringConvertible {
  let number: Int64
  var description: String { "no luck with \(number)" }
}

private func job(_ policy: ErrorPolicy) -> JobDefinition {
  DataStream.topic("in").map { Item(TimedEvent($0)) }.flatMap(onError: policy) { (item: Item, emit: (String) -> Void) in
    if item.number % 2 == 0 { emit("even \(item.text)") }
    if item.number < 0 { throw Unlucky(number: item.number) }
    emit("fine \(item.text)")
  }.to(topic: "out").job(named: "attempt")
}

@Test("what a function fails for is left out or becomes a dead letter, once, over crashes", arguments: [false, true])
func oracleAttempts(_ isSkipped: Bool) throws {
  var failures = 0
  for seed in UInt64(0)..<histories(40) {
    var random = SeededRandom(seed: seed)
    let batches = randomBatches(40, keys: 3, using: &random)
    // Dead letters go to the same topic, so that their order shows.
    let history = try History(
      of: job(isSkipped ? .skip : .deadLetter(topic: "out")), over: batches.map { $0.map(\.record) }, using: &random,
      crashes: seed % 2 == 1)
    failures += history.failures
    var expected: [String] = []
    for event in batches.flatMap({ $0 }) {
      if event.number % 2 == 0 { expected.append("even \(Item(event).text)") }
      if event.number >= 0 {
        expected.append("fine \(Item(event).text)")
      } else if !isSkipped {
        expected.append("\(event.key) \(event.number) \(event.time)")
      }
    }
    #expect(history.out == expected, "seed \(seed)")
  }
  #expect(failures > histories(40) / 2)
}

@Test("a dead letter has its record's key, value, time and headers, and what was thrown, also behind a shared stream")
func deadLetters() throws {
  let shared = DataStream.topic("in").map { Item(TimedEvent($0)) }.shared()
  let job = StreamOutput.job(
    named: "letters",
    [
      shared.map(onError: .deadLetter(topic: "dead")) { (item: Item) throws -> String in
        throw Unlucky(number: item.number)
      }.to(topic: "out"),
      shared.map(onError: .skip) { (item: Item) throws -> String in
        if item.number == 2 { throw Unlucky(number: 2) }
        return item.text
      }.to(topic: "out"),
    ])
  let driver = TestDriver(job, partitions: 3)
  let headers = [RecordHeader("a", Bytes("1")), RecordHeader("b", nil), RecordHeader("", Bytes(""))]
  try driver.send("in", [Record(value: Bytes("k 1 1"), timestamp: Timestamp(milliseconds: 1))], partition: 2)
  try driver.send(
    "in",
    [
      Record(key: Bytes("key"), value: Bytes("k 2 2"), headers: headers, timestamp: Timestamp(milliseconds: 77)),
      Record(key: Bytes("key"), value: Bytes("k 3 3"), timestamp: Timestamp(milliseconds: 78)),
    ], partition: 2)
  try driver.run()
  let dead = try driver.output("dead").sorted { $0.timestamp.milliseconds < $1.timestamp.milliseconds }
  #expect(dead.map { $0.value?.text } == ["k 1 1", "k 2 2", "k 3 3"])
  #expect(dead.map { $0.key?.text } == [nil, "key", "key"])
  #expect(dead.map(\.timestamp.milliseconds) == [1, 77, 78])
  #expect(
    dead[1].headers == headers + [
      RecordHeader(DeadLetter.error, Bytes("no luck with 2")), RecordHeader(DeadLetter.topic, Bytes("in")),
      RecordHeader(DeadLetter.partition, Bytes("2")), RecordHeader(DeadLetter.offset, Bytes("1")),
    ])
  #expect(try Set(driver.output("out").map { $0.value?.text }) == ["1@1", "3@3"])
  #expect(driver.figures.failedRecords == 4)
}

@Test("a dead letter of a value that no single record led to has no key and no value")
func deadLettersOfState() throws {
  let job = DataStream.topic("in").keyBy { $0.key }.count(name: "n")
    .map(onError: .deadLetter(topic: "dead")) { (count: Keyed<BorrowedBytes, Int64>) throws -> String in
      throw Unlucky(number: count.value)
    }.to(topic: "out").job(named: "letters")
  let driver = TestDriver(job)
  try driver.send("in", key: "k", value: "v", at: 5)
  try driver.run()
  let dead = try driver.output("dead")
  #expect(dead.count == 1 && dead[0].key == nil && dead[0].value == nil && dead[0].timestamp.milliseconds == 5)
  #expect(dead[0].headers == [RecordHeader(DeadLetter.error, Bytes("no luck with 1"))])
}

@Test("a job that is to end with a failure says the record and the error, and commits nothing of the step")
func failingJob() throws {
  let driver = TestDriver(job(.fail))
  try driver.send("in", value: "k 4 1")
  try driver.run()
  try driver.send("in", value: "k 6 2")
  try driver.send("in", value: "k -1 3")
  try driver.send("in", value: "k -3 4")
  let error = #expect(throws: JobError.self) { try driver.run() }
  #expect(error == JobError(.functionFailed, "in-0 at offset 2: no luck with -1"))
  #expect(try driver.output("out").map { $0.value?.text } == ["even 4@1", "fine 4@1"])
  let again = #expect(throws: JobError.self) { try driver.run() }
  #expect(again == error)
}
