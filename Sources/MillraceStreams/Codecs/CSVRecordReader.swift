// CSVRecordReader: reads a row of comma-separated values (RFC 4180) into a record's fields, in place.
//
// A cell in quotes may hold separators, line breaks, and quotes, each written twice. An empty cell without quotes
// stands for a missing field; a text field that may not be missing takes it as the empty text. Numbers, true and false
// are written as in JSON.

import MillraceBase
import MillraceDataflow

/// Where the columns' names come from.
public enum CSVColumns: Sendable, Equatable {
  /// The columns are the fields of the schema, in its order.
  case schema
  /// The columns have these names, in this order.
  case named([String])
  /// Each record's key is the header line of its file, as the sources of files hand it on.
  case recordKey
}

/// Reads rows. One owner.
struct CSVRecordReader {
  private let table: FieldTable
  private let separator: UInt8
  private let scratch: TextScratch
  private let columns: CSVColumns
  /// The field of each column, −1 for none; nil until a header is known.
  private var fields: [Int]?
  /// The columns' names.
  private var names: [[UInt8]] = []
  /// The header that `fields` were made of.
  private var header: [UInt8] = []

  /// - Throws: `.invalidJob` when a column has no field and may not, and for records and lists in records.
  init(_ table: FieldTable, separator: UInt8, columns: CSVColumns, _ scratch: TextScratch) throws(JobError) {
    try table.checkCells()
    self.table = table
    self.separator = separator
    self.columns = columns
    self.scratch = scratch
    do throws(DecodingError) {
      switch columns {
      case .schema: try take(table.fields.map { Array($0.name.utf8) })
      case .named(let names): try take(names.map { Array($0.utf8) })
      case .recordKey: break
      }
    } catch {
      throw JobError(.invalidJob, "the columns of CSV: \(error.reason)")
    }
  }

  private mutating func take(_ columns: [[UInt8]]) throws(DecodingError) {
    var found: [Int] = []
    for name in columns {
      let index = table.index(of: name) ?? -1
      let text = String(decoding: name, as: UTF8.self)
      guard index >= 0 || !table.refusesUnknown else { throw DecodingError("the column \"\(text)\" is unknown", at: 0) }
      guard index < 0 || !found.contains(index) else {
        throw DecodingError("the column \"\(text)\" stands there twice", at: 0)
      }
      found.append(index)
    }
    names = columns
    fields = found
  }

  /// Reads a row into the record at `place`.
  /// - Returns: false for a row that is the header: it is passed over.
  /// - Throws: when it is no row of CSV, or not what the schema says.
  mutating func read(
    key: UnsafeRawBufferPointer, _ row: UnsafeRawBufferPointer, into place: UnsafeMutableRawPointer
  ) throws(DecodingError) -> Bool {
    if columns == .recordKey, fields == nil || !key.elementsEqual(header) { try readHeader(key) }
    let fields = fields ?? []
    scratch.begin(row.count)
    var cells = try CSVCells(row, separator: separator)
    var seen: UInt64 = 0
    var column = 0
    var failure: DecodingError?
    var isHeader = true
    while let cell = try cells.next() {
      guard column < fields.count else {
        throw DecodingError("a row of more than \(fields.count) cells", at: cell.position)
      }
      let text = cell.text(scratch)
      if isHeader { isHeader = text.elementsEqual(names[column]) }
      let index = fields[column]
      column += 1
      guard index >= 0, failure == nil else { continue }
      do throws(DecodingError) {
        if try store(text, cell, index, place) { seen |= 1 << UInt64(index) }
      } catch {
        // The header's names are no numbers.
        guard isHeader else { throw error }
        failure = error
      }
    }
    if isHeader, column == fields.count { return false }
    if let failure { throw failure }
    if seen != table.all { try table.complete(place, seen: seen, at: row.count) }
    return true
  }

  private mutating func readHeader(_ key: UnsafeRawBufferPointer) throws(DecodingError) {
    fields = nil
    guard !key.isEmpty else { throw DecodingError("the record has no key, which should be the header", at: 0) }
    scratch.begin(key.count)
    var cells = try CSVCells(key, separator: separator)
    var columns: [[UInt8]] = []
    while let cell = try cells.next() { columns.append(Array(cell.text(scratch))) }
    try take(columns)
    header = Array(key)
  }

  /// - Returns: false when the cell stands for a missing field.
  private func store(
    _ text: UnsafeRawBufferPointer, _ cell: CSVCells.Cell, _ index: Int, _ place: UnsafeMutableRawPointer
  ) throws(DecodingError) -> Bool {
    let entry = table.entries[index]
    let isText = [.string, .bytes, .lent, .text].contains(entry.kind)
    if text.isEmpty, !cell.isQuoted, !isText || !table.fields[index].isRequired { return false }
    guard isText ? table.store(text, index, in: place) : CSVRecordReader.storeNumber(text, entry, place) else {
      throw DecodingError("the field \"\(table.fields[index].name)\" is no \(entry.kind)", at: cell.position)
    }
    return true
  }

  private static func storeNumber(
    _ text: UnsafeRawBufferPointer, _ entry: FieldTable.Entry, _ place: UnsafeMutableRawPointer
  ) -> Bool {
    if entry.kind == .bool {
      guard text.elementsEqual("true".utf8) || text.elementsEqual("false".utf8) else { return false }
      return entry.store(text.count == 4, in: place)
    }
    var scanner = JSONScanner(text)
    // A space in front is none of a number.
    guard let first = text.first, first > 0x20 else { return false }
    do throws(DecodingError) {
      if entry.kind == .double {
        let value = try scanner.double()
        return scanner.at == text.count && entry.store(value, in: place)
      }
      let (magnitude, isNegative) = try scanner.integer()
      return scanner.at == text.count && entry.store(magnitude, isNegative: isNegative, in: place)
    } catch {
      return false
    }
  }
}

/// The cells of a row, one after the other.
struct CSVCells {
  /// A cell as it stands in the row.
  struct Cell {
    /// What is inside the quotes, if there are any.
    let raw: UnsafeRawBufferPointer
    let isQuoted: Bool
    let hasDoubledQuotes: Bool
    /// Where it begins.
    let position: Int

    /// Its text: in place, or in `scratch`.
    func text(_ scratch: TextScratch) -> UnsafeRawBufferPointer {
      guard hasDoubledQuotes else { return raw }
      return scratch.keep(atMost: raw.count) { out in
        var written = 0
        var wasQuote = false
        for byte in raw {
          wasQuote = byte == 0x22 && !wasQuote
          guard !wasQuote else { continue }
          out.storeBytes(of: byte, toByteOffset: written, as: UInt8.self)
          written += 1
        }
        return written
      }
    }
  }

  private let row: UnsafeRawBufferPointer
  private let separator: UInt8
  private var at = 0
  private var isDone = false

  /// The cells of `row`, whose line break, if it has one, is none of them.
  /// - Throws: when it is not valid UTF-8.
  init(_ row: UnsafeRawBufferPointer, separator: UInt8) throws(DecodingError) {
    var end = row.count
    if end > 0, row[end - 1] == 10 { end -= 1 }
    if end > 0, row[end - 1] == 13 { end -= 1 }
    self.row = UnsafeRawBufferPointer(rebasing: row[..<end])
    self.separator = separator
    guard UTF8Check.isValid(row) else { throw DecodingError("a row that is not valid UTF-8", at: 0) }
  }

  /// The next cell; nil behind the last one. An empty row has one empty cell.
  mutating func next() throws(DecodingError) -> Cell? {
    guard !isDone else { return nil }
    let start = at
    let cell: Cell
    if at < row.count, row[at] == 0x22 {
      cell = try quoted()
    } else {
      while at < row.count, row[at] != separator {
        guard row[at] != 0x22, row[at] != 10, row[at] != 13 else {
          throw DecodingError("a quote or a line break in a cell without quotes", at: at)
        }
        at += 1
      }
      cell = Cell(
        raw: UnsafeRawBufferPointer(rebasing: row[start..<at]), isQuoted: false, hasDoubledQuotes: false,
        position: start)
    }
    if at == row.count { isDone = true } else { at += 1 }
    return cell
  }

  private mutating func quoted() throws(DecodingError) -> Cell {
    let start = at
    at += 1
    var isDoubled = false
    while true {
      guard at < row.count else { throw DecodingError("a quote that is not closed", at: start) }
      guard row[at] == 0x22 else {
        at += 1
        continue
      }
      guard at + 1 < row.count, row[at + 1] == 0x22 else { break }
      isDoubled = true
      at += 2
    }
    let raw = UnsafeRawBufferPointer(rebasing: row[(start + 1)..<at])
    at += 1
    guard at == row.count || row[at] == separator else {
      throw DecodingError("something follows a quote that closes a cell", at: at)
    }
    return Cell(raw: raw, isQuoted: true, hasDoubledQuotes: isDoubled, position: start)
  }
}
