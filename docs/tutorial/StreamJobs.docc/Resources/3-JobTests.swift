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
