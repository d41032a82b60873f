import Millrace
import PageViewsJob
import Testing

@Test("each page has the number of its clicks")
func countsViews() throws {
  let driver = TestDriver(job)
  try driver.send("clicks", value: #"{"user":"ann","page":"/","time":1000}"#)
  try driver.send("clicks", value: #"{"user":"bob","page":"/","time":20000}"#)
  try driver.send("clicks", value: #"{"user":"ann","page":"/cart","time":30000}"#)
  try driver.run()
  var views: [String: String] = [:]
  for count in try driver.output("views") { views[count.key?.text ?? ""] = count.value?.text }
  #expect(views == ["/": "2", "/cart": "1"])
}
