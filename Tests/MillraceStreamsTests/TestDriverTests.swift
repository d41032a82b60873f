// TestDriverTests: the driver as a user's tests use it.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private func clicks() -> JobDefinition {
  DataStream.topic("clicks").keyBy { $0.value }.window(.tumbling(.seconds(60))).count(name: "minutes")
    .to(topic: "counts").job(named: "clicks")
}

private func texts(_ records: [Record]) -> [String] { records.map { "\($0.key?.text ?? "")=\($0.value?.text ?? "")" } }

@Test("a driver sends, runs, and tells what is new")
func driverRuns() throws {
  let driver = TestDriver(clicks())
  try driver.send("clicks", value: "/", at: 1_000)
  try driver.send("clicks", value: "/", at: 2_000)
  #expect(try driver.run() == false)
  #expect(try driver.output("counts").isEmpty)
  try driver.send("clicks", value: "/a", at: 61_000)
  try driver.run()
  #expect(texts(try driver.newOutput("counts")) == ["/=2"])
  #expect(try driver.newOutput("counts").isEmpty)
  try driver.send("clicks", value: "/", at: 130_000)
  try driver.run()
  #expect(texts(try driver.newOutput("counts")) == ["/a=1"])
  #expect(texts(try driver.output("counts")) == ["/=2", "/a=1"])
  #expect(driver.figures.recordsIn == 4)
}

@Test("a driver's crash forgets what was not committed, and commits may be lost or told wrongly")
func driverCrashes() throws {
  let driver = TestDriver(clicks())
  try driver.send("clicks", value: "/", at: 1_000)
  try driver.run()
  driver.crash()
  #expect(driver.figures.recordsIn == 0)
  try driver.send("clicks", value: "/", at: 61_000)
  driver.next(.lost)
  #expect(throws: JobError.self) { try driver.run() }
  #expect(try driver.output("counts").isEmpty)
  driver.next(.applied)
  #expect(throws: JobError.self) { try driver.run() }
  #expect(texts(try driver.output("counts")) == ["/=1"])
  try driver.run()
  #expect(texts(try driver.output("counts")) == ["/=1"])
}

@Test("a driver's time passes when it is told: partitions become idle, records without a time get it")
func driverTime() throws {
  let driver = TestDriver(clicks(), partitions: 2)
  try driver.send("clicks", [Record(value: Bytes("/"), timestamp: Timestamp(milliseconds: 100_000))], partition: 1)
  try driver.run()
  driver.pass(.seconds(4))
  #expect(driver.now == Timestamp(milliseconds: 4_000))
  try driver.send("clicks", value: "/late?", partition: 1)
  try driver.run()
  #expect(driver.figures.lateRecords == 0)
  driver.pass(.seconds(2))
  try driver.send("clicks", value: "/", at: 200_000, partition: 1)
  try driver.run()
  // Partition 0 is idle, so that partition 1 alone says how far event time has come.
  #expect(texts(try driver.output("counts")).sorted() == ["/=1", "/late?=1"])
  #expect(throws: JobError.self) { try driver.send("clicks", value: "x", partition: 7) }
}

@Test("a driver makes single steps, with commits in flight")
func driverSteps() throws {
  var options = JobOptions()
  options.readBytes = 1
  options.stepBytes = 1
  let job = DataStream.topic("in").to(topic: "out").job(named: "copy")
  let driver = TestDriver(job, options: options)
  for number in 0..<3 { try driver.send("in", value: "\(number)", at: 1) }
  #expect(try driver.step())
  #expect(try driver.step())
  #expect(try driver.output("out").count == 2)
  while try driver.step() {}
  #expect(try driver.output("out").map { $0.value?.text } == ["0", "1", "2"])
}
