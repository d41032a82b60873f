// TextFormat: how records are written as text, and what reads and writes them so.

import MillraceBase
import MillraceDataflow

/// How a ``TypedRecord`` stands in text.
public struct TextFormat: Sendable {
  enum Kind: Sendable {
    case json
    case csv(separator: UInt8, CSVColumns)
  }

  let kind: Kind

  /// Whether it is JSON.
  public var isJSON: Bool { if case .json = kind { true } else { false } }

  /// A JSON object (RFC 8259). Written without spaces, fields in the order of the schema, nil and numbers that are
  /// infinite or none as `null`. Read strictly: at most 64 deep; of a name that stands there twice the last value
  /// counts; whole numbers must fit into their field, and have no fraction and no exponent; other numbers are rounded
  /// to the nearest, and must be finite.
  public static let json = TextFormat(kind: .json)

  /// A row of comma-separated values (RFC 4180) whose columns are the fields of the schema.
  public static let csv = csv()

  /// A row of separated values (RFC 4180).
  ///
  /// - Parameters:
  ///   - separator: an ASCII character between cells; no quote and no line break.
  ///   - columns: where the names of columns come from when rows are read. A row that holds just these names is a
  ///     header, and passed over. Rows are written with the columns of the schema.
  public static func csv(separator: Unicode.Scalar = ",", columns: CSVColumns = .schema) -> TextFormat {
    precondition(
      separator.isASCII && !["\"", "\n", "\r"].contains(separator), "\(separator) may not separate cells")
    return TextFormat(kind: .csv(separator: UInt8(ascii: separator), columns))
  }
}

/// Reads records of one type. One owner.
///
/// Safety: `@unchecked Sendable` because a job's copy of it is used by the job's worker thread only.
public final class RecordDecoder<Record: TypedRecord>: @unchecked Sendable {
  @usableFromInline let reader: TextReader
  @usableFromInline let place: UnsafeMutablePointer<Record>

  /// A decoder of `format`.
  /// - Throws: `.invalidJob` when the format cannot hold such records.
  public init(_ format: TextFormat) throws(JobError) {
    reader = try TextReader(format, Record.schema.table)
    place = .allocate(capacity: 1)
    place.initialize(to: Record())
  }

  deinit {
    place.deinitialize(count: 1)
    place.deallocate()
  }

  /// Reads one record. What it lends, ``BorrowedBytes``, stands in `text` or in the decoder: it is valid as long as both
  /// live, and until the next call.
  ///
  /// - Parameter key: of the record; the header, with ``CSVColumns/recordKey``.
  /// - Returns: nil for a header.
  /// - Throws: when the text is not well-formed or not what the schema says, with the place.
  /// - Complexity: O(bytes). Nothing is allocated but what fields keep, and for numbers of more than 15 digits with a
  ///   fraction.
  @inlinable
  public func decode(
    _ text: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
  ) throws(DecodingError) -> Record? {
    try reader.read(key: key, text, into: UnsafeMutableRawPointer(place)) ? place.pointee : nil
  }
}

/// What a decoder does, of no type in particular. One owner.
@usableFromInline
final class TextReader {
  private let table: FieldTable
  private let scratch = TextScratch()
  private var csv: CSVRecordReader?

  init(_ format: TextFormat, _ table: FieldTable) throws(JobError) {
    self.table = table
    if case .csv(let separator, let columns) = format.kind {
      csv = try CSVRecordReader(table, separator: separator, columns: columns, scratch)
    }
  }

  /// Reads one record.
  /// - Returns: false for a header.
  @usableFromInline
  func read(
    key: UnsafeRawBufferPointer, _ text: UnsafeRawBufferPointer, into place: UnsafeMutableRawPointer
  ) throws(DecodingError) -> Bool {
    if csv != nil { return try csv?.read(key: key, text, into: place) ?? false }
    try JSONRecordReader.read(text, table, scratch, into: place)
    return true
  }
}

/// Writes records of one type. One owner.
///
/// Safety: `@unchecked Sendable` because a job's copy of it is used by the job's worker thread only.
public final class RecordEncoder<Record: TypedRecord>: @unchecked Sendable {
  @usableFromInline let writer: TextWriter

  /// An encoder of `format`.
  /// - Throws: `.invalidJob` when the format cannot hold such records.
  public init(_ format: TextFormat) throws(JobError) { writer = try TextWriter(format, Record.schema.table) }

  /// Calls `body` with the text of a record, without a line break at its end. The bytes are lent for the call.
  @inlinable
  public func withText(of record: Record, _ body: (UnsafeRawBufferPointer) -> Void) {
    withUnsafePointer(to: record) { body(writer.write(UnsafeRawPointer($0))) }
  }

  /// The text of a record.
  public func text(of record: Record) -> String {
    var text = ""
    withText(of: record) { text = String(decoding: $0, as: UTF8.self) }
    return text
  }

  /// What stands before the first record of a file: the columns of CSV, without a line break; nil for JSON.
  public var header: String? { writer.header }
}

/// What an encoder does, of no type in particular. One owner.
@usableFromInline
final class TextWriter {
  private let table: FieldTable
  private let format: TextFormat
  private var room = TextRoom()

  init(_ format: TextFormat, _ table: FieldTable) throws(JobError) {
    if case .csv = format.kind { try table.checkCells() }
    self.table = table
    self.format = format
  }

  deinit { room.release() }

  /// The text of the record at `record`, lent until the next call.
  @usableFromInline
  func write(_ record: UnsafeRawPointer) -> UnsafeRawBufferPointer {
    room.clear()
    switch format.kind {
    case .json: JSONRecordWriter.write(record, table, into: &room)
    case .csv(let separator, _): CSVRecordWriter.write(record, table, separator: separator, into: &room)
    }
    return room.text
  }

  var header: String? {
    guard case .csv(let separator, _) = format.kind else { return nil }
    room.clear()
    CSVRecordWriter.writeHeader(table, separator: separator, into: &room)
    return String(decoding: room.text, as: UTF8.self)
  }
}
