// CSVRecordTests: rows read in place, by RFC 4180, and written.

import MillraceBase
import MillraceDataflow
import MillraceStreams
import Testing

struct CSVRecordTests {
  private func decode(_ text: String, key: String = "", _ format: TextFormat = .csv) throws -> Result<
    Row?, DecodingError
  > {
    let decoder = try RecordDecoder<Row>(format)
    let (text, key) = (Bytes(text), Bytes(key))
    do throws(DecodingError) {
      return .success(try decoder.decode(text.buffer, key: key.buffer))
    } catch {
      return .failure(error)
    }
  }

  @Test("cells are read with and without quotes; what is doubled inside stands there once")
  func reads() throws {
    #expect(try decode("1,two,three").get() == Row(number: 1, text: "two", note: "three"))
    #expect(
      try decode("-1,\"a,b\",\"say \"\"hi\"\"\nü\"\r\n").get() == Row(number: -1, text: "a,b", note: "say \"hi\"\nü"))
    #expect(try decode("\"12\",\"\"\"\",\"\"").get() == Row(number: 12, text: "\"", note: ""))
    #expect(try decode("1; a ,b;", .csv(separator: ";")).get() == Row(number: 1, text: " a ,b", note: nil))
  }

  @Test("an empty cell is a missing field, but for a text that may not be missing; so is a cell that is not there")
  func missing() throws {
    #expect(try decode("1,,").get() == Row(number: 1, text: "", note: nil))
    #expect(try decode("1,a").get() == Row(number: 1, text: "a", note: nil))
    #expect(try decode(",a,b").reason == #"the field "number" is missing at byte 4"#)
    #expect(try decode("1").reason == #"the field "text" is missing at byte 1"#)
    #expect(try decode("").reason == #"the field "number" is missing at byte 0"#)
  }

  @Test("what is no row is refused, with the place")
  func malformed() throws {
    for (row, position) in [
      ("1,a\"b", 3), ("1,\"a", 2), ("1,\"a\"b", 5), ("1,a\nb", 3), ("1,a\rb", 3), ("1,a,b,c", 6), ("x,a,b", 0),
      ("1.5,a,b", 0),
      (" 1,a,b", 0), ("01,a,b", 0), ("99999999999999999999,a", 0),
    ] {
      guard case .failure(let error) = try decode(row) else {
        Issue.record("\(row) was taken")
        continue
      }
      #expect(error.position == position, "\(row): \(error)")
    }
    let decoder = try RecordDecoder<Row>(.csv)
    #expect(decoder.read([0x31, 0x2c, 0xff], \.text).reason.contains("UTF-8"))
  }

  @Test("columns are found by their names: the schema's, given ones, or those in a record's key")
  func columns() throws {
    #expect(try decode("number,text,note").get() == nil)
    let named = TextFormat.csv(columns: .named(["note", "other", "number", "text"]))
    #expect(try decode("n,o,5,t", named).get() == Row(number: 5, text: "t", note: "n"))
    #expect(try decode("note,other,number,text", named).get() == nil)
    #expect(
      try decode("o,n,5,t", key: "other,\"note\",number,text\r", .csv(columns: .recordKey)).get()
        == Row(number: 5, text: "t", note: "n"))
    #expect(try decode("5,t", .csv(columns: .recordKey)).reason.contains("no key"))
    // Another header for the next record.
    let decoder = try RecordDecoder<Row>(.csv(columns: .recordKey))
    var seen: [Row?] = []
    for (key, row) in [
      ("number,text", "1,a"), ("text,number", "b,2"), ("text,number", "text,number"), ("number,text", "3,c"),
    ] {
      let (key, row) = (Bytes(key), Bytes(row))
      seen.append(try decoder.decode(row.buffer, key: key.buffer))
    }
    #expect(seen == [Row(number: 1, text: "a"), Row(number: 2, text: "b"), nil, Row(number: 3, text: "c")])
    #expect(throws: JobError.self) { try RecordDecoder<Row>(.csv(columns: .named(["text", "text"]))) }
    #expect(throws: JobError.self) { try RecordDecoder<Strict>(.csv(columns: .named(["a", "b"]))) }
    #expect(throws: JobError.self) { try RecordDecoder<Reading>(.csv) }
    #expect(throws: JobError.self) { try RecordEncoder<Reading>(.csv) }
  }

  @Test("rows are written so that they are read as they were")
  func writes() throws {
    let encoder = try RecordEncoder<Row>(.csv)
    #expect(encoder.header == "number,text,note")
    #expect(encoder.text(of: Row(number: -3, text: "a,\"b\"\r\n", note: nil)) == "-3,\"a,\"\"b\"\"\r\n\",")
    #expect(encoder.text(of: Row(number: 0, text: "", note: "")) == "0,\"\",\"\"")
    var random = SeededRandom(seed: 11)
    let parts = ["a", "\"", ",", "\n", "\r", "ü", " ", ";"]
    for separator: Unicode.Scalar in [",", ";", "\t"] {
      let format = TextFormat.csv(separator: separator)
      let encoder = try RecordEncoder<Row>(format)
      for _ in 0..<300 {
        func text() -> String {
          (0..<Int.random(in: 0..<6, using: &random)).map { _ in parts[Int.random(in: 0..<8, using: &random)] }.joined()
        }
        let row = Row(number: Int64(bitPattern: random.next()), text: text(), note: random.oneIn(3) ? nil : text())
        #expect(try decode(encoder.text(of: row), format).get() == row, "\(encoder.text(of: row))")
      }
    }
  }
}
