// RecordJSONTests: records as lines of JSON, lines out of portions, and numbers for people.

import Foundation
import MillraceBase
import MillraceModel
import Testing

@testable import MillraceServer

private func written(_ record: Record) -> String {
  var json = JSONWriter()
  RecordJSON.write(FetchedRecord(partition: TopicPartition("t", 2), record: record), to: &json)
  return json.text
}

private func read(_ text: String) throws -> RecordJSON.Wish {
  try Bytes(text).withBuffer { try RecordJSON.read($0) }
}

@Test("a record as JSON holds all its parts, bytes that are not UTF-8 as base 64")
func writesRecords() {
  let record = Record(
    key: nil, value: Bytes("a \"quoted\" text"),
    headers: [RecordHeader("h", Bytes([0xff, 0xfe])), RecordHeader("n", nil)],
    timestamp: Timestamp(milliseconds: 17), offset: 5)
  #expect(
    written(record)
      == #"{"topic":"t","partition":2,"offset":5,"timestamp":17,"key":null,"value":"a \"quoted\" text","#
      + #""headers":[{"key":"h","value_base64":"//4="},{"key":"n","value":null}]}"#)
}

@Test("what is written can be read again")
func readsWhatWasWritten() throws {
  let record = Record(
    key: Bytes([0x80]), value: Bytes(""), headers: [RecordHeader("h", Bytes("v")), RecordHeader("h", nil)],
    timestamp: Timestamp(milliseconds: 17), offset: -1)
  let wish = try read(written(record))
  #expect(wish.record == record)
  #expect(wish.partition == 2)
}

@Test("headers may be an object of texts")
func headersAsObject() throws {
  #expect(
    try read(#"{"value":"v","headers":{"a":"1","b":null}}"#).record.headers == [
      RecordHeader("a", Bytes("1")), RecordHeader("b", nil),
    ])
}

@Test(
  "a line that is no record is refused with a reason",
  arguments: [
    ("[]", "object"), ("{", "ends too early"), (#"{"value":1}"#, "value"), (#"{"partition":-1}"#, "partition"),
    (#"{"partition":4294967296}"#, "partition"), (#"{"key_base64":"x"}"#, "base 64"), (#"{"colour":"red"}"#, "colour"),
    (#"{"headers":[{"value":"v"}]}"#, "key"), (#"{"headers":"x"}"#, "headers"), (#"{"timestamp":"now"}"#, "timestamp"),
  ])
func refusesOtherJSON(_ text: String, _ part: String) {
  #expect {
    try read(text)
  } throws: { error in
    "\(error)".contains(part)
  }
}

@Test("every way to cut a text into portions gives the same lines")
func everyPortionGivesTheSameLines() throws {
  let text = Array("one\n\nthree\nlast".utf8)
  for first in 0...text.count {
    for second in first...text.count {
      var lines: [String] = []
      var reader = LineReader()
      let body = { (line: UnsafeRawBufferPointer, number: Int) throws(CommandFailure) in
        lines.append("\(number):\(String(decoding: line, as: UTF8.self))")
      }
      for part in [text[..<first], text[first..<second], text[second...]] {
        try Array(part).withUnsafeBytes { try reader.take($0, body) }
      }
      try reader.finish(body)
      #expect(lines == ["1:one", "2:", "3:three", "4:last"], "cut at \(first) and \(second)")
    }
  }
}

@Test("a line beyond the limit is refused before it is held whole")
func longLines() {
  var reader = LineReader(limit: 4)
  #expect(throws: CommandFailure.self) {
    try Array("12345".utf8).withUnsafeBytes { try reader.take($0) { _, _ throws(CommandFailure) in } }
  }
}

@Test("numbers for people are grouped, rounded and carry their units")
func numbersForPeople() {
  #expect([0, 999, 1000, 1_234_567, -1000].map { Shown.count($0) } == ["0", "999", "1,000", "1,234,567", "-1,000"])
  #expect([0, 0.04, 0.05, 12.34, -1.5].map { Shown.decimal($0) } == ["0.0", "0.0", "0.1", "12.3", "-1.5"])
  #expect([0, 1023, 1024, 1 << 30].map { Shown.bytes(Double($0)) } == ["0 B", "1023 B", "1.0 KiB", "1.0 GiB"])
  #expect(Shown.table([["a", "10"], ["long", "1"]]) == "a     10\nlong   1\n")
}
