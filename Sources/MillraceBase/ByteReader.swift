// ByteReader: reads numbers, strings and slices from bytes that came from outside, never past their end.

/// Why bytes could not be read as what they should be.
public struct DecodingError: Error, Equatable, CustomStringConvertible {
  /// What was wrong, in words, with the values.
  public let reason: String
  /// Where: the position in the bytes handed to the reader.
  public let position: Int

  /// An error at `position`.
  public init(_ reason: String, at position: Int) {
    self.reason = reason
    self.position = position
  }

  /// Reason and position.
  public var description: String { "\(reason) at byte \(position)" }
}

/// A cursor over ``Bytes``. Numbers are big endian unless the name says otherwise.
///
/// Every read checks the bound; what is announced by a length field is compared with what is there before anything is
/// allocated for it.
public struct ByteReader {
  /// What is read from.
  public let bytes: Bytes
  /// Index of the next byte.
  public private(set) var position: Int

  /// A reader at the first byte.
  public init(_ bytes: Bytes) {
    self.bytes = bytes
    position = 0
  }

  /// Bytes left.
  public var remaining: Int { bytes.count - position }

  @inline(__always)
  private mutating func take(_ count: Int, _ what: StaticString) throws(DecodingError) -> UnsafeRawPointer {
    guard count >= 0, count <= bytes.count - position else {
      throw DecodingError("\(what) needs \(count) bytes, \(bytes.count - position) are left", at: position)
    }
    let start = bytes.start + position
    position += count
    return start
  }

  /// Reads a fixed-width big-endian integer.
  @inline(__always)
  private mutating func fixed<T: FixedWidthInteger>(_ type: T.Type, _ what: StaticString) throws(DecodingError) -> T {
    defer { extendLifetime(bytes) }
    return T(bigEndian: try take(MemoryLayout<T>.size, what).loadUnaligned(as: T.self))
  }

  /// One byte, 0 or 1; any other value counts as true, as Kafka's brokers read it.
  public mutating func bool() throws(DecodingError) -> Bool { try fixed(UInt8.self, "bool") != 0 }
  /// One signed byte.
  public mutating func int8() throws(DecodingError) -> Int8 { try fixed(Int8.self, "int8") }
  /// One byte.
  public mutating func uint8() throws(DecodingError) -> UInt8 { try fixed(UInt8.self, "uint8") }
  /// Two bytes.
  public mutating func int16() throws(DecodingError) -> Int16 { try fixed(Int16.self, "int16") }
  /// Two bytes, unsigned.
  public mutating func uint16() throws(DecodingError) -> UInt16 { try fixed(UInt16.self, "uint16") }
  /// Four bytes.
  public mutating func int32() throws(DecodingError) -> Int32 { try fixed(Int32.self, "int32") }
  /// Four bytes, unsigned.
  public mutating func uint32() throws(DecodingError) -> UInt32 { try fixed(UInt32.self, "uint32") }
  /// Eight bytes.
  public mutating func int64() throws(DecodingError) -> Int64 { try fixed(Int64.self, "int64") }
  /// Eight bytes, unsigned.
  public mutating func uint64() throws(DecodingError) -> UInt64 { try fixed(UInt64.self, "uint64") }
  /// Eight bytes, IEEE 754.
  public mutating func float64() throws(DecodingError) -> Double { Double(bitPattern: try uint64()) }

  /// An unsigned LEB128 number of at most 32 bits. Source: Kafka protocol, UNSIGNED_VARINT.
  public mutating func unsignedVarint() throws(DecodingError) -> UInt32 {
    let value = try unsignedVarlong()
    guard let narrow = UInt32(exactly: value) else {
      throw DecodingError("varint \(value) exceeds 32 bits", at: position)
    }
    return narrow
  }

  /// An unsigned LEB128 number of at most 64 bits.
  public mutating func unsignedVarlong() throws(DecodingError) -> UInt64 {
    defer { extendLifetime(bytes) }
    var value: UInt64 = 0
    var shift: UInt64 = 0
    let first = position
    while position < bytes.count {
      let byte = bytes.start.load(fromByteOffset: position, as: UInt8.self)
      position += 1
      if shift == 63 && byte > 1 { throw DecodingError("varint exceeds 64 bits", at: first) }
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return value }
      shift += 7
      if shift > 63 { throw DecodingError("varint longer than 10 bytes", at: first) }
    }
    throw DecodingError("varint runs past the end", at: first)
  }

  /// A zig-zag number of at most 32 bits. Source: Kafka protocol, VARINT.
  public mutating func varint() throws(DecodingError) -> Int32 {
    let raw = try unsignedVarint()
    return Int32(bitPattern: raw >> 1) ^ -Int32(bitPattern: raw & 1)
  }

  /// A zig-zag number of at most 64 bits. Source: Kafka protocol, VARLONG.
  public mutating func varlong() throws(DecodingError) -> Int64 {
    let raw = try unsignedVarlong()
    return Int64(bitPattern: raw >> 1) ^ -Int64(bitPattern: raw & 1)
  }

  /// The next `count` bytes, sharing memory.
  public mutating func slice(_ count: Int) throws(DecodingError) -> Bytes {
    let start = try take(count, "bytes")
    return Bytes(owner: bytes.owner, start: start, count: count)
  }

  /// The next `count` bytes as text.
  /// - Throws: when they are not valid UTF-8.
  public mutating func string(_ count: Int) throws(DecodingError) -> String {
    let at = position
    let part = try slice(count)
    guard let text = part.withBuffer({ String(validating: $0, as: UTF8.self) }) else {
      throw DecodingError("string of \(count) bytes is not valid UTF-8", at: at)
    }
    return text
  }

  /// Passes over `count` bytes.
  public mutating func skip(_ count: Int) throws(DecodingError) {
    _ = try take(count, "skipped bytes")
  }
}
