// JSONRecordReader: reads an object into a record's fields, in place: one pass, no tree.
//
// Members mostly stand in the order of the schema: a name is compared with the one that is expected first.
// Of a name that comes twice the last value counts.

import MillraceBase
import MillraceDataflow

/// Memory for strings that had escapes in them, until the next record, and for lists while they are read. One owner.
///
/// Safety: what is lent of it is used before the next record is read, or the memory goes.
final class TextScratch {
  private(set) var memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 256, alignment: 8)
  private var used = 0

  /// Memory that lists had, for others: at most one for each list that was within another.
  private var rooms: [UnsafeMutableRawBufferPointer] = []
  private static let mostRoom = 64 << 10

  deinit {
    memory.deallocate()
    for room in rooms { room.deallocate() }
  }

  /// Room for the elements of a list.
  func begin(_ list: ListField) -> ElementRoom {
    if let last = rooms.last, last.count >= list.stride { return ElementRoom(list, in: rooms.removeLast()) }
    return ElementRoom(list, in: nil)
  }

  /// The list was read, or cannot be.
  func end(_ room: inout ElementRoom) {
    let memory = room.end()
    if memory.count <= TextScratch.mostRoom { rooms.append(memory) } else { memory.deallocate() }
  }

  /// Begins a record of `count` bytes; all its strings together are not longer.
  func begin(_ count: Int) {
    used = 0
    guard memory.count < count else { return }
    memory.deallocate()
    memory = .allocate(byteCount: 2 * count, alignment: 8)
  }

  /// The text of a string.
  func unescape(_ span: JSONScanner.Span, of scanner: JSONScanner) throws(DecodingError) -> UnsafeRawBufferPointer {
    guard let base = memory.baseAddress else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    let count = try scanner.unescape(span, into: base + used)
    defer { used += count }
    return UnsafeRawBufferPointer(start: base + used, count: count)
  }

  /// Keeps text that is made of pieces: `write` lays out at most `limit` bytes and says how many.
  func keep(atMost limit: Int, _ write: (UnsafeMutableRawPointer) -> Int) -> UnsafeRawBufferPointer {
    guard let base = memory.baseAddress else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    precondition(limit <= memory.count - used, "\(limit) bytes of text, \(memory.count - used) are left")
    let count = write(base + used)
    defer { used += count }
    return UnsafeRawBufferPointer(start: base + used, count: count)
  }
}

/// Reads one text.
struct JSONRecordReader {
  private var scanner: JSONScanner
  private let scratch: TextScratch

  /// Reads `text`, one object, into the record at `place`, all of whose fields hold values.
  /// - Throws: when it is not valid JSON, or not what the schema says. The record's fields hold values then, but which
  ///   is not said.
  static func read(
    _ text: UnsafeRawBufferPointer, _ table: FieldTable, _ scratch: TextScratch, into place: UnsafeMutableRawPointer
  ) throws(DecodingError) {
    scratch.begin(text.count)
    var reader = JSONRecordReader(scanner: JSONScanner(text), scratch: scratch)
    try reader.object(table, place, depth: 0)
    _ = reader.scanner.peek()
    guard reader.scanner.at == text.count else { throw reader.scanner.error("something follows the value") }
  }

  private mutating func object(
    _ table: FieldTable, _ place: UnsafeMutableRawPointer, depth: Int
  ) throws(DecodingError) {
    let begin = scanner.at
    let first = scanner.peek()
    guard first == UInt8(ascii: "{") else {
      throw scanner.error(scanner.at < scanner.end ? "an object is expected" : "the text ends too early")
    }
    scanner.at += 1
    var seen: UInt64 = 0
    if scanner.peek() == UInt8(ascii: "}") {
      scanner.at += 1
    } else {
      var expected = 0
      while true {
        let index = try name(table, expected)
        if index >= 0 {
          let bit: UInt64 = 1 &<< UInt64(truncatingIfNeeded: index)
          seen = try value(table, index, place, depth: depth &+ 1) ? seen | bit : seen & ~bit
          expected = index &+ 1
        } else {
          try scanner.skipValue(depth: depth + 1)
        }
        let next = scanner.peek()
        guard next == UInt8(ascii: ",") else {
          guard next == UInt8(ascii: "}") else { throw scanner.error("a comma or a bracket is expected") }
          scanner.at &+= 1
          break
        }
        scanner.at &+= 1
      }
    }
    if seen != table.all { try table.complete(place, seen: seen, at: begin) }
  }

  /// Takes a member's name and the colon.
  /// - Returns: which field it is, −1 for none.
  @inline(__always)
  private mutating func name(_ table: FieldTable, _ expected: Int) throws(DecodingError) -> Int {
    guard scanner.peek() == 0x22 else { throw scanner.error("a name in quotes is expected") }
    if expected < table.entries.count {
      let name = table.entries[expected].name
      if name.count <= scanner.end &- scanner.at, JSONRecordReader.equal(name, scanner.text + scanner.at) {
        scanner.at &+= name.count
        return expected
      }
    }
    return try otherName(table)
  }

  /// Whether as many bytes as `name` has, at least 3, are the same at `other`.
  @inline(__always)
  private static func equal(_ name: UnsafeRawBufferPointer, _ other: UnsafeRawPointer) -> Bool {
    guard let base = name.baseAddress else { return false }
    var at = 0
    while name.count &- at >= 8 {
      guard word(base, at) == word(other, at) else { return false }
      at &+= 8
    }
    if at == name.count { return true }
    // The rest overlaps with what was compared.
    if name.count >= 8 { return word(base, name.count &- 8) == word(other, name.count &- 8) }
    while at < name.count {
      guard base.load(fromByteOffset: at, as: UInt8.self) == other.load(fromByteOffset: at, as: UInt8.self) else {
        return false
      }
      at &+= 1
    }
    return true
  }

  @inline(__always)
  private static func word(_ base: UnsafeRawPointer, _ at: Int) -> UInt64 {
    base.loadUnaligned(fromByteOffset: at, as: UInt64.self)
  }

  @inline(never)
  private mutating func otherName(_ table: FieldTable) throws(DecodingError) -> Int {
    let begin = scanner.at
    let span = try scanner.string()
    try scanner.colon()
    let found: Int?
    if span.hasEscapes {
      // The name's text is as short as what stands there, so it fits beside the strings.
      found = table.index(of: try scratch.unescape(span, of: scanner))
    } else {
      let quoted = span.end - span.start + 2
      let base = scanner.text + begin
      found =
        table.entries.firstIndex { entry in
          entry.name.count == quoted + 1
            && JSONRecordReader.equal(UnsafeRawBufferPointer(rebasing: entry.name[..<quoted]), base)
        } ?? (table.hasEscapedNames ? table.index(of: scanner.buffer(span.start, span.end)) : nil)
    }
    if let found { return found }
    guard !table.refusesUnknown else {
      let name = String(decoding: scanner.buffer(span.start, span.end), as: UTF8.self)
      throw DecodingError("the field \"\(name)\" is unknown", at: begin)
    }
    return -1
  }

  /// Takes the value of a field.
  /// - Returns: false when it is null.
  @inline(__always)
  private mutating func value(
    _ table: FieldTable, _ index: Int, _ place: UnsafeMutableRawPointer, depth: Int
  ) throws(DecodingError) -> Bool {
    let entry = table.entries[index]
    let first = scanner.peek()
    if first == UInt8(ascii: "n") {
      try scanner.word("null")
      return false
    }
    switch entry.kind {
    case .lent:
      guard first == 0x22 else { throw mismatch(table, index, "a string") }
      let span = try scanner.string()
      let text = span.hasEscapes ? try scratch.unescape(span, of: scanner) : scanner.buffer(span.start, span.end)
      entry.store(BorrowedBytes(text), in: place)
    case .int8, .int16, .int32, .int64, .uint8, .uint16, .uint32, .uint64:
      guard first &- 0x30 < 10 || first == UInt8(ascii: "-") else { throw mismatch(table, index, "a whole number") }
      let begin = scanner.at
      let (magnitude, isNegative) = try scanner.integer()
      guard entry.store(magnitude, isNegative: isNegative, in: place) else {
        scanner.at = begin
        throw mismatch(table, index, "a whole number within the bounds of \(entry.kind)")
      }
    default: try rareValue(table, index, first, place, depth: depth)
    }
    return true
  }

  @inline(never)
  private mutating func rareValue(
    _ table: FieldTable, _ index: Int, _ first: UInt8, _ place: UnsafeMutableRawPointer, depth: Int
  ) throws(DecodingError) {
    let entry = table.entries[index]
    switch entry.kind {
    case .double:
      guard first &- 0x30 < 10 || first == UInt8(ascii: "-") else { throw mismatch(table, index, "a number") }
      entry.store(try scanner.double(), in: place)
    case .bool:
      guard first == UInt8(ascii: "t") || first == UInt8(ascii: "f") else {
        throw mismatch(table, index, "true or false")
      }
      try scanner.word(first == UInt8(ascii: "t") ? "true" : "false")
      entry.store(first == UInt8(ascii: "t"), in: place)
    case .object:
      guard first == UInt8(ascii: "{"), let nested = table.fields[index].nested else {
        throw mismatch(table, index, "an object")
      }
      guard depth < JSONValue.greatestDepth else {
        throw scanner.error("nested deeper than \(JSONValue.greatestDepth)")
      }
      try object(nested, place + entry.offset, depth: depth)
    case .list:
      guard first == UInt8(ascii: "["), let list = table.fields[index].list else {
        throw mismatch(table, index, "a list")
      }
      guard depth < JSONValue.greatestDepth else {
        throw scanner.error("nested deeper than \(JSONValue.greatestDepth)")
      }
      var room = scratch.begin(list)
      defer { scratch.end(&room) }
      try elements(of: list, into: &room, depth: depth)
      room.store(entry, in: place)
    default:
      guard first == 0x22 else { throw mismatch(table, index, "a string") }
      let begin = scanner.at
      let span = try scanner.string()
      let text = span.hasEscapes ? try scratch.unescape(span, of: scanner) : scanner.buffer(span.start, span.end)
      guard table.store(text, index, in: place) else {
        scanner.at = begin
        throw mismatch(table, index, "another text")
      }
    }
  }

  /// Takes a list with its brackets.
  private mutating func elements(
    of list: ListField, into room: inout ElementRoom, depth: Int
  ) throws(DecodingError) {
    scanner.at += 1
    guard scanner.peek() != UInt8(ascii: "]") else {
      scanner.at += 1
      return
    }
    while true {
      let place = room.add()
      if list.isOfRecords {
        try object(list.table, place, depth: depth + 1)
      } else if try !value(list.table, 0, place, depth: depth + 1), !list.table.entries[0].isOptional {
        scanner.at -= 4
        throw mismatch(list.table, 0, "a value")
      }
      let next = scanner.peek()
      scanner.at += 1
      guard next == UInt8(ascii: ",") else {
        guard next == UInt8(ascii: "]") else {
          scanner.at -= 1
          throw scanner.error("a comma or a bracket is expected")
        }
        return
      }
    }
  }

  @inline(never)
  private func mismatch(_ table: FieldTable, _ index: Int, _ what: String) -> DecodingError {
    let rest = scanner.end - scanner.at
    return DecodingError(
      "the field \"\(table.fields[index].name)\": \(rest > 0 ? "\(what) is expected" : "the text ends too early")",
      at: scanner.at)
  }
}

extension FieldTable {
  /// Stores a text in a field that is one.
  /// - Returns: whether it stands for a value.
  func store(_ text: UnsafeRawBufferPointer, _ index: Int, in record: UnsafeMutableRawPointer) -> Bool {
    let entry = entries[index]
    switch entry.kind {
    case .string: return entry.store(String(decoding: text, as: UTF8.self), in: record)
    case .bytes: return entry.store(Bytes(copying: text), in: record)
    case .lent: return entry.store(BorrowedBytes(text), in: record)
    case .text: return fields[index].readText?(text, record + entry.offset) ?? false
    default: return false
    }
  }
}
