// JSONRecordWriter: writes a record's fields as an object, without spaces, in the order of the schema.

import MillraceBase
import MillraceDataflow

/// Memory that a text is laid out in, over and over. One owner.
struct TextRoom {
  private var memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1024, alignment: 8)
  private(set) var count = 0

  /// What was written.
  var text: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: memory[..<count]) }

  mutating func clear() { count = 0 }

  /// The memory goes; nothing may be written any more.
  func release() { memory.deallocate() }

  /// Room for `more` bytes behind what was written.
  @inline(__always)
  mutating func reserve(_ more: Int) {
    if memory.count &- count < more { grow(more) }
  }

  @inline(never)
  private mutating func grow(_ more: Int) {
    let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * (count + more), alignment: 8)
    larger.copyMemory(from: text)
    memory.deallocate()
    memory = larger
  }

  mutating func byte(_ value: UInt8) {
    reserve(1)
    memory[count] = value
    count += 1
  }

  mutating func copy(_ buffer: UnsafeRawBufferPointer) {
    guard let from = buffer.baseAddress, buffer.count > 0 else { return }
    reserve(buffer.count)
    (memory.baseAddress ?? UnsafeMutableRawPointer(mutating: from)).advanced(by: count)
      .copyMemory(from: from, byteCount: buffer.count)
    count += buffer.count
  }

  mutating func copy(_ text: StaticString) { text.withUTF8Buffer { copy(UnsafeRawBufferPointer($0)) } }

  mutating func copy(_ text: String) {
    var text = text
    text.withUTF8 { copy(UnsafeRawBufferPointer($0)) }
  }

  mutating func decimal(_ magnitude: UInt64, isNegative: Bool) {
    reserve(1)
    if isNegative {
      memory[count] = UInt8(ascii: "-")
      count += 1
    }
    var (length, bound): (Int, UInt64) = (1, 10)
    while length < 20, magnitude >= bound {
      length += 1
      let (next, overflow) = bound.multipliedReportingOverflow(by: 10)
      bound = overflow ? .max : next
      if overflow { break }
    }
    reserve(length)
    var rest = magnitude
    for place in stride(from: count + length - 1, through: count, by: -1) {
      memory[place] = UInt8(truncatingIfNeeded: 0x30 + rest % 10)
      rest /= 10
    }
    count += length
  }
}

/// Writes records.
enum JSONRecordWriter {
  /// Adds the record at `record`.
  static func write(_ record: UnsafeRawPointer, _ table: FieldTable, into room: inout TextRoom) {
    room.byte(UInt8(ascii: "{"))
    for index in table.entries.indices {
      if index > 0 { room.byte(UInt8(ascii: ",")) }
      room.copy(table.entries[index].name)
      value(index, of: record, table, into: &room)
    }
    room.byte(UInt8(ascii: "}"))
  }

  /// Adds the value of a field.
  private static func value(
    _ index: Int, of record: UnsafeRawPointer, _ table: FieldTable, into room: inout TextRoom
  ) {
    guard !table.writeNumber(index, of: record, into: &room, infinity: "null") else { return }
    let entry = table.entries[index]
    switch entry.kind {
    case .object:
      if let nested = table.fields[index].nested { write(record + entry.offset, nested, into: &room) }
    case .list:
      if let list = table.fields[index].list { write(list, entry, of: record, into: &room) }
    default:
      if !table.withText(index, of: record, { quote($0, into: &room) }) { room.copy("null") }
    }
  }

  /// Adds a list.
  private static func write(
    _ list: ListField, _ entry: FieldTable.Entry, of record: UnsafeRawPointer, into room: inout TextRoom
  ) {
    var isFirst = true
    let isThere = list.forEach(entry, record) { element in
      room.byte(UInt8(ascii: isFirst ? "[" : ","))
      isFirst = false
      if list.isOfRecords {
        write(element, list.table, into: &room)
      } else {
        value(0, of: element, list.table, into: &room)
      }
    }
    if isFirst { room.copy(isThere ? "[" : "null") }
    if isThere { room.byte(UInt8(ascii: "]")) }
  }

  /// Adds a string; bytes that are not UTF-8 become U+FFFD.
  private static func quote(_ text: UnsafeRawBufferPointer, into room: inout TextRoom) {
    guard isPlain(text) else {
      var json = JSONWriter()
      json.string(String(decoding: text, as: UTF8.self))
      json.bytes.withUnsafeBytes { room.copy($0) }
      return
    }
    room.byte(0x22)
    room.copy(text)
    room.byte(0x22)
  }

  /// Whether a text stands between quotes as it is.
  private static func isPlain(_ text: UnsafeRawBufferPointer) -> Bool {
    let ones: UInt64 = 0x0101_0101_0101_0101
    var at = 0
    var marks: UInt64 = 0
    var all: UInt64 = 0
    while text.count &- at >= 8 {
      // As in JSONScanner; that a mark above the first may be wrong does not matter here either.
      let word = text.loadUnaligned(fromByteOffset: at, as: UInt64.self)
      let quote = word ^ (ones &* 0x22)
      let backslash = word ^ (ones &* 0x5c)
      let delete = word ^ (ones &* 0x7f)
      marks |=
        ((word &- ones &* 0x20) & ~word) | ((quote &- ones) & ~quote) | ((backslash &- ones) & ~backslash)
        | ((delete &- ones) & ~delete)
      all |= word
      at &+= 8
    }
    guard marks & (ones &* 0x80) == 0 else { return false }
    while at < text.count {
      let byte = text[at]
      guard byte >= 0x20, byte != 0x22, byte != 0x5c, byte != 0x7f else { return false }
      all |= UInt64(byte)
      at &+= 1
    }
    return all & (ones &* 0x80) == 0 || UTF8Check.isValid(text)
  }
}

extension FieldTable {
  /// Writes the number, or true or false, or nothing's word `infinity` for a number that has no digits.
  /// - Returns: false when the field is no number, or nil.
  func writeNumber(
    _ index: Int, of record: UnsafeRawPointer, into room: inout TextRoom, infinity: StaticString
  ) -> Bool {
    let entry = entries[index]
    switch entry.kind {
    case .int64: return signed(entry.load(Int64.self, from: record), &room)
    case .int32: return signed(entry.load(Int32.self, from: record).map(Int64.init), &room)
    case .int16: return signed(entry.load(Int16.self, from: record).map(Int64.init), &room)
    case .int8: return signed(entry.load(Int8.self, from: record).map(Int64.init), &room)
    case .uint64: return unsigned(entry.load(UInt64.self, from: record), &room)
    case .uint32: return unsigned(entry.load(UInt32.self, from: record).map(UInt64.init), &room)
    case .uint16: return unsigned(entry.load(UInt16.self, from: record).map(UInt64.init), &room)
    case .uint8: return unsigned(entry.load(UInt8.self, from: record).map(UInt64.init), &room)
    case .double:
      guard let value = entry.load(Double.self, from: record) else { return false }
      if value.isFinite { room.copy(value.description) } else { room.copy(infinity) }
      return true
    case .bool:
      guard let value = entry.load(Bool.self, from: record) else { return false }
      room.copy(value ? "true" : "false")
      return true
    default: return false
    }
  }

  private func signed(_ value: Int64?, _ room: inout TextRoom) -> Bool {
    guard let value else { return false }
    room.decimal(value.magnitude, isNegative: value < 0)
    return true
  }

  private func unsigned(_ value: UInt64?, _ room: inout TextRoom) -> Bool {
    guard let value else { return false }
    room.decimal(value, isNegative: false)
    return true
  }

  /// Calls `body` with the text of a field that is one.
  /// - Returns: false when the field is no text, or nil.
  func withText(_ index: Int, of record: UnsafeRawPointer, _ body: (UnsafeRawBufferPointer) -> Void) -> Bool {
    let entry = entries[index]
    switch entry.kind {
    case .lent:
      guard let value = entry.load(BorrowedBytes.self, from: record) else { return false }
      body(value.buffer)
    case .string:
      guard let value = entry.load(String.self, from: record) else { return false }
      value.withBytes(body)
    case .bytes:
      guard let value = entry.load(Bytes.self, from: record) else { return false }
      value.withBytes(body)
    case .text:
      guard let value = fields[index].writeText?(record + entry.offset) else { return false }
      value.withBytes(body)
    default: return false
    }
    return true
  }
}
