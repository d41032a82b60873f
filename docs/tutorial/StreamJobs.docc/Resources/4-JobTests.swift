import Millrace
import PageViewsJob
import Testing

@Test("a minute is handed on when event time has come to its end")
func countsMinutes() throws {
  let driver = TestDriver(job)
  try driver.send("clicks", value: #"{"user":"ann","page":"/","time":1000}"#)
  try driver.send("clicks", value: #"{"user":"bob","page":"/","time":69999}"#)
  try driver.run()
  #expect(try driver.newOutput("minutes").isEmpty)

  // The bound on disorder is 10 s: at 70 s everything of minute 0 is expected to be there.
  try driver.send("clicks", value: #"{"user":"ann","page":"/","time":70000}"#)
  try driver.run()
  #expect(try driver.newOutput("minutes").map { $0.value?.text } == [#"{"page":"/","minute":0,"views":1}"#])
}

@Test("a crash between two clicks loses nothing and counts nothing twice")
func survivesACrash() throws {
  let driver = TestDriver(job)
  try driver.send("clicks", value: #"{"user":"ann","page":"/","time":1000}"#)
  try driver.run()

  driver.crash()
  try driver.send("clicks", value: #"{"user":"bob","page":"/","time":2000}"#)
  try driver.send("clicks", value: #"{"user":"ann","page":"/","time":70000}"#)
  try driver.run()
  #expect(try driver.output("minutes").map { $0.value?.text } == [#"{"page":"/","minute":0,"views":2}"#])
}

@Test("a step whose commit is lost is made again", arguments: [TestDriver.Fate.lost, .applied])
func survivesAFailedCommit(fate: TestDriver.Fate) throws {
  let driver = TestDriver(job)
  try driver.send("clicks", value: #"{"user":"ann","page":"/","time":1000}"#)
  try driver.run()

  try driver.send("clicks", value: #"{"user":"ann","page":"/","time":70000}"#)
  driver.next(fate)
  // The run ends with the commit that failed, as the program would; the next run recovers.
  #expect(throws: JobError.self) { try driver.run() }
  try driver.run()
  #expect(try driver.output("minutes").map { $0.value?.text } == [#"{"page":"/","minute":0,"views":1}"#])
}
