// ResultLinesTests: rows as lines of JSON, and which rows of a changelog hold at its end.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceNexmark
import Testing

@testable import MillraceNexmarkQueries

/// A batch of rows: of each the key and the value.
private func batch(_ rows: [(key: String?, value: Bytes?)]) -> Bytes {
  var builder = RecordBatchBuilder()
  for row in rows {
    builder.append(Record(key: row.key.map { Bytes($0) }, value: row.value, timestamp: Timestamp(milliseconds: 0)))
  }
  return builder.finish()
}

private func bytes<each Column: RowColumn>(_ row: Row<repeat each Column>) -> Bytes {
  var copy = Bytes()
  row.withBytes { copy = Bytes(copying: $0) }
  return copy
}

private func text(_ lines: ResultLines) -> String {
  var text = ""
  lines.write { text += String(decoding: $0, as: UTF8.self) }
  return text
}

@Test("a column of each type is written as the page says")
func columnsOfEachType() throws {
  let row = Row(
    Int64(-7), "a \"b\" \\ Mühle\n", Thousandths(66_403_144), Day(of: Timestamp(milliseconds: 1_436_918_399_999)),
    Timestamp(milliseconds: 12))
  let lines = try ResultLines([batch([(nil, bytes(row))])], columns: ["n", "t", "p", "d", "at"])
  #expect(
    text(lines) == #"{"n":-7,"t":"a \"b\" \\ Mühle\n","p":66403.144,"d":"2015-07-14","at":12}"# + "\n")
}

@Test(
  "thousandths have exactly three decimals",
  arguments: [
    (0, "0.000"), (8, "0.008"), (-8, "-0.008"), (908, "0.908"), (1_000, "1.000"), (-90_800_001, "-90800.001"),
    (.max, "9223372036854775.807"), (.min, "-9223372036854775.808"),
  ] as [(Int64, String)])
func thousandthsHaveThreeDecimals(_ count: Int64, _ text: String) {
  #expect(RowLines.decimal(thousandths: count) == text)
}

@Test("a day begins at midnight in UTC, also before 1970")
func daysBeginAtMidnight() {
  for (time, day) in [(0, 0), (86_399_999, 0), (86_400_000, 1), (-1, -1), (-86_400_000, -1), (-86_400_001, -2)] {
    #expect(Day(of: Timestamp(milliseconds: Int64(time))).number == Int64(day), "\(time)")
  }
  #expect(RowLines.date(day: -1) == "1969-12-31")
}

@Test("of rows with the same key the last one holds, and none where that has no value; rows without a key all hold")
func lastRowOfAKeyHolds() throws {
  func row(_ number: Int64) -> Bytes { bytes(Row(number)) }
  let lines = try ResultLines(
    [
      batch([(nil, row(5)), ("a", row(1)), ("b", row(2)), (nil, row(5))]), batch([("a", row(3)), ("c", row(4))]),
      batch([("b", nil)]),
    ], columns: ["n"])
  #expect(text(lines) == "{\"n\":3}\n{\"n\":4}\n{\"n\":5}\n{\"n\":5}\n")
  #expect(lines.count == 4)
}

@Test("lines are sorted by their bytes, a line before one that goes on")
func linesAreSorted() throws {
  let rows = [Int64(10), 9, 100, 1].map { (key: nil as String?, value: bytes(Row($0)) as Bytes?) }
  #expect(text(try ResultLines([batch(rows)], columns: ["n"])) == "{\"n\":100}\n{\"n\":10}\n{\"n\":1}\n{\"n\":9}\n")
}

@Test("a row with a column too many, too few or of an unknown type is refused")
func brokenRowsAreRefused() {
  for row in [bytes(Row(Int64(1))), bytes(Row(Int64(1), Int64(2), Int64(3))), Bytes([9, 0, 0, 0, 0, 0, 0, 0, 0])] {
    #expect(throws: DecodingError.self) { try ResultLines([batch([(nil, row)])], columns: ["a", "b"]) }
  }
}
