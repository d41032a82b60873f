// FormatStreamTests: jobs that read and write records as structs.

import MillraceBase
import MillraceDataflow
import MillraceStreams
import Testing

struct FormatStreamTests {
  @Test("a job reads JSON and CSV, drops and counts what is refused, and writes either")
  func stream() throws {
    let refused = RefusedRecords()
    let rows = DataStream.topic("in").decode(Row.self, from: .json, refused: refused)
    let job = StreamOutput.job(
      named: "rows",
      [
        rows.filter { $0.number > 1 }.to(topic: "json", as: .json),
        rows.map { Row(number: $0.number, text: $0.text.uppercased(), note: $0.note) }.to(topic: "csv", as: .csv),
        rows.map { Keyed(key: $0.text, value: $0) }.to(topic: "keyed", as: .json),
        DataStream.topic("csv").decode(Row.self, from: .csv).to(topic: "again", as: .json),
      ])
    let driver = TestDriver(job)
    for value in [#"{"number":1,"text":"one"}"#, "{", #"{"number":2,"text":"two","note":"n"}"#, #"{"number":"3"}"#] {
      try driver.send("in", value: value)
    }
    try driver.send("in", value: nil)
    driver.next(.lost, .applied)
    for _ in 0..<3 {
      do throws(JobError) { try driver.run() } catch { #expect(error.code == .commitFailed) }
    }
    #expect(try driver.output("json").map { $0.value?.text } == [#"{"number":2,"text":"two","note":"n"}"#])
    #expect(try driver.output("csv").map { $0.value?.text } == ["1,ONE,", "2,TWO,n"])
    #expect(try driver.output("keyed").map { $0.key?.text } == ["one", "two"])
    #expect(
      try driver.output("again").map { $0.value?.text } == [
        #"{"number":1,"text":"ONE","note":null}"#, #"{"number":2,"text":"TWO","note":"n"}"#,
      ])
    #expect(refused.count >= 3)
  }

  @Test("results say what was wrong, and where")
  func results() throws {
    let job = DataStream.topic("in").decodeResults(of: Row.self, from: .json)
      .map { result in
        switch result {
        case .success(let row): "row \(row.number)"
        case .failure(let error): "\(error)"
        }
      }
      .to(topic: "out").job(named: "results")
    let driver = TestDriver(job)
    try driver.send("in", value: #"{"number":1,"text":"one"}"#)
    try driver.send("in", value: #"{"number":1,"text":one}"#)
    try driver.run()
    #expect(
      try driver.output("out").map { $0.value?.text } == [
        "row 1", #"the field "text": a string is expected at byte 19"#,
      ])
  }

  @Test("a format that cannot hold the records is a mistake in the job")
  func invalid() throws {
    let job = DataStream.topic("in").decode(Reading.self, from: .csv).forEach { _ in }.job(named: "invalid")
    #expect(throws: JobError.self) { try TestDriver(job).run() }
  }
}
