// ResultLines: the result of a query over a finite input: lines of JSON, sorted by their bytes.

import Glibc
import MillraceBase
import MillraceDataflow
import MillraceModel

/// The rows of a result as lines.
public struct ResultLines {
  private let text: Bytes
  private let lines: [Range<Int>]

  /// How many rows there are.
  public var count: Int { lines.count }

  /// What holds at the end of record batches with rows: of rows with the same key the last one, unless that is null.
  /// - Parameter columns: the names of a row's columns.
  /// - Throws: when a batch or a row cannot be read.
  /// - Complexity: O(n log n).
  public init(_ batches: [Bytes], columns: [String]) throws(DecodingError) {
    var unsorted = RowLines(columns: columns)
    var last: [[UInt8]: Bytes] = [:]
    for batch in batches {
      for record in try ResultLines.records(batch) {
        if let key = record.key {
          last[key.array] = record.value
        } else if let value = record.value {
          try unsorted.add(value)
        }
      }
    }
    for row in last.values { try unsorted.add(row) }
    (text, lines) = unsorted.finish()
  }

  private static func records(_ batch: Bytes) throws(DecodingError) -> [Record] {
    do throws(RecordBatchError) {
      let header = try RecordBatchHeader(batch)
      return try RecordReader.records(batch[RecordBatchHeader.size..<header.totalSize], header: header)
    } catch {
      throw DecodingError("a batch of rows: \(error)", at: 0)
    }
  }

  /// Hands the lines, each with its line feed, to `body` in portions.
  public func write<Failure: Error>(_ body: (UnsafeRawBufferPointer) throws(Failure) -> Void) throws(Failure) {
    let portion = 256 << 10
    var index = 0
    while index < lines.count {
      var writer = ByteWriter(capacity: 2 * portion)
      while index < lines.count, writer.count < portion {
        text[lines[index]].withBuffer { writer.copy($0) }
        index += 1
      }
      try writer.finishJoined().withBuffer { (bytes) throws(Failure) in try body(bytes) }
    }
  }
}

/// Writes rows as lines.
struct RowLines {
  private var writer = ByteWriter(capacity: 1 << 20)
  private var ranges: [Range<Int>] = []
  /// What stands before each column's value.
  private let names: [[UInt8]]

  init(columns: [String]) {
    names = columns.enumerated().map { Array("\($0 == 0 ? "{" : ",")\"\($1)\":".utf8) }
  }

  /// The lines, and where each stands, sorted by their bytes.
  consuming func finish() -> (text: Bytes, lines: [Range<Int>]) {
    let text = writer.finishJoined()
    text.withBuffer { bytes in
      ranges.sort { left, right in
        guard let base = bytes.baseAddress else { return false }
        let order = memcmp(base + left.lowerBound, base + right.lowerBound, min(left.count, right.count))
        return order == 0 ? left.count < right.count : order < 0
      }
    }
    return (text, ranges)
  }

  /// Adds a row as a line.
  mutating func add(_ row: Bytes) throws(DecodingError) {
    let begin = writer.count
    var reader = ByteReader(row)
    for name in names {
      name.withUnsafeBytes { writer.copy($0) }
      let type = try reader.uint8()
      switch type {
      case RowLayout.number: writer.utf8(String(try reader.int64()))
      case RowLayout.text: quote(try reader.slice(Int(try reader.uint32())))
      case RowLayout.thousandths: writer.utf8(RowLines.decimal(thousandths: try reader.int64()))
      case RowLayout.day: writer.utf8("\"\(RowLines.date(day: try reader.int64()))\"")
      default: throw DecodingError("a column of type \(type)", at: reader.position - 1)
      }
    }
    guard reader.remaining == 0 else {
      throw DecodingError("\(reader.remaining) bytes behind \(names.count) columns", at: reader.position)
    }
    writer.utf8("}\n")
    ranges.append(begin..<writer.count)
  }

  private mutating func quote(_ text: Bytes) {
    let isPlain = text.withBuffer { bytes in
      bytes.allSatisfy { $0 >= 32 && $0 < 127 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }
    }
    if isPlain {
      writer.uint8(UInt8(ascii: "\""))
      text.withBuffer { writer.copy($0) }
      writer.uint8(UInt8(ascii: "\""))
    } else {
      var json = JSONWriter()
      json.string(text.text)
      json.bytes.withUnsafeBytes { writer.copy($0) }
    }
  }

  /// A number of thousandths with exactly three decimals.
  static func decimal(thousandths: Int64) -> String {
    let (whole, rest) = thousandths.magnitude.quotientAndRemainder(dividingBy: 1000)
    let digits = String(rest)
    return "\(thousandths < 0 ? "-" : "")\(whole).\(String(repeating: "0", count: 3 - digits.count))\(digits)"
  }

  /// `YYYY-MM-DD` of a day since 1970-01-01.
  static func date(day: Int64) -> Substring {
    Logger.iso8601(Timestamp(milliseconds: day.multipliedReportingOverflow(by: 86_400_000).partialValue)).prefix(10)
  }
}
