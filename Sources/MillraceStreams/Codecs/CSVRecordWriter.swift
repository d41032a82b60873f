// CSVRecordWriter: writes a record's fields as a row of comma-separated values (RFC 4180), in the order of the schema.
//
// nil is an empty cell; an empty text is written as "", so that the two are told apart. A number that is infinite or
// none is an empty cell. The row has no line break at its end.

import MillraceBase
import MillraceDataflow

/// Writes rows.
enum CSVRecordWriter {
  /// Adds the row of the record at `record`.
  static func write(_ record: UnsafeRawPointer, _ table: FieldTable, separator: UInt8, into room: inout TextRoom) {
    for index in table.entries.indices {
      if index > 0 { room.byte(separator) }
      if table.writeNumber(index, of: record, into: &room, infinity: "") { continue }
      _ = table.withText(index, of: record) { cell($0, separator, into: &room) }
    }
  }

  /// Adds the row of the columns' names.
  static func writeHeader(_ table: FieldTable, separator: UInt8, into room: inout TextRoom) {
    for (index, field) in table.fields.enumerated() {
      if index > 0 { room.byte(separator) }
      field.name.withBytes { cell($0, separator, into: &room) }
    }
  }

  private static func cell(_ text: UnsafeRawBufferPointer, _ separator: UInt8, into room: inout TextRoom) {
    guard UTF8Check.isValid(text) else {
      return String(decoding: text, as: UTF8.self).withBytes { cell($0, separator, into: &room) }
    }
    let isPlain = !text.isEmpty && text.allSatisfy { $0 != 0x22 && $0 != separator && $0 != 10 && $0 != 13 }
    if isPlain { return room.copy(text) }
    room.byte(0x22)
    for byte in text {
      if byte == 0x22 { room.byte(0x22) }
      room.byte(byte)
    }
    room.byte(0x22)
  }
}
