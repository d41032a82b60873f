import Millrace
import Testing
import PageViewsJob

@Test("every word is counted once, also when the program crashes and a commit is lost")
func countsWords() throws {
  let driver = TestDriver(job)
  try driver.send("lines", value: "to be or not to be", at: 1)
  try driver.run()
  driver.crash()
  try driver.send("lines", value: "not", at: 2)
  driver.next(.lost)
  #expect(throws: JobError.self) { try driver.run() }
  // The run whose commit is lost has ended; the next one makes the step again.
  try driver.run()
  var counts: [String: String] = [:]
  for count in try driver.output("counts") { counts[count.key?.text ?? ""] = count.value?.text }
  #expect(counts == ["to": "2", "be": "2", "or": "1", "not": "2"])
}
