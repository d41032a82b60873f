// ByteReader+Kafka: reads the primitive types of Kafka's protocol.
//
//   type      classic                           compact (flexible versions)
//   string    int16 length, UTF-8               unsigned varint length + 1, UTF-8
//   bytes     int32 length, bytes               unsigned varint length + 1, bytes
//   array     int32 count, elements             unsigned varint count + 1, elements
//   null      length or count -1                0
//   structure its fields; where it may be null, an int8 in front: negative for null, else 1
//   tags      -                                 unsigned varint count, then each: tag, size, bytes
//
// Lengths are compared with what is left before anything is allocated. Strings are at most 32,767 bytes in either
// form, as Kafka's own readers want it. Source: Kafka protocol, "Protocol Primitive Types"; KIP-482.

import MillraceBase
import MillraceModel

/// Longest string in bytes.
let longestString = Int(Int16.max)

extension ByteReader {
  /// Sixteen bytes.
  mutating func topicID() throws(DecodingError) -> TopicID {
    TopicID(high: try uint64(), low: try uint64())
  }

  /// A length or count behind which `unit` bytes follow for each; nil is null.
  private mutating func length(
    compact: Bool, unit: Int, _ what: StaticString
  ) throws(DecodingError) -> Int? {
    let at = position
    let length = compact ? Int(try unsignedVarint()) - 1 : Int(try int32())
    if length == -1 { return nil }
    guard length >= 0, length <= remaining / unit else {
      throw DecodingError("\(what) of \(length) needs more than the \(remaining) bytes left", at: at)
    }
    return length
  }

  private func required<Value>(_ value: Value?, _ what: StaticString) throws(DecodingError) -> Value {
    guard let value else { throw DecodingError("\(what) must not be null", at: position) }
    return value
  }

  mutating func nullableString(compact: Bool) throws(DecodingError) -> String? {
    let at = position
    let length = compact ? Int(try unsignedVarint()) - 1 : Int(try int16())
    if length == -1 { return nil }
    guard length >= 0, length <= longestString else {
      throw DecodingError("string of \(length) bytes; 0 to \(longestString) are allowed", at: at)
    }
    return try string(length)
  }

  mutating func string(compact: Bool) throws(DecodingError) -> String {
    try required(try nullableString(compact: compact), "string")
  }

  /// A slice that shares the reader's memory.
  mutating func nullableBytes(compact: Bool) throws(DecodingError) -> Bytes? {
    guard let length = try length(compact: compact, unit: 1, "byte string") else { return nil }
    return try slice(length)
  }

  mutating func bytes(compact: Bool) throws(DecodingError) -> Bytes {
    try required(try nullableBytes(compact: compact), "byte string")
  }

  /// One piece, or none when null or empty.
  mutating func gatheredBytes(compact: Bool) throws(DecodingError) -> [Bytes] {
    guard let bytes = try nullableBytes(compact: compact), !bytes.isEmpty else { return [] }
    return [bytes]
  }

  /// Structures, each of at least `minimumElementSize` bytes.
  mutating func nullableArray<Element: KafkaStructure>(
    compact: Bool, version: Int16, minimumElementSize: Int
  ) throws(DecodingError) -> [Element]? {
    guard let count = try length(compact: compact, unit: minimumElementSize, "array") else { return nil }
    var elements: [Element] = []
    elements.reserveCapacity(count)
    for _ in 0..<count { elements.append(try Element(from: &self, version: version)) }
    return elements
  }

  mutating func array<Element: KafkaStructure>(
    compact: Bool, version: Int16, minimumElementSize: Int
  ) throws(DecodingError) -> [Element] {
    try required(
      try nullableArray(compact: compact, version: version, minimumElementSize: minimumElementSize), "array")
  }

  mutating func nullableStringArray(compact: Bool) throws(DecodingError) -> [String]? {
    guard let count = try length(compact: compact, unit: compact ? 1 : 2, "array") else { return nil }
    var elements: [String] = []
    elements.reserveCapacity(count)
    for _ in 0..<count { elements.append(try string(compact: compact)) }
    return elements
  }

  mutating func stringArray(compact: Bool) throws(DecodingError) -> [String] {
    try required(try nullableStringArray(compact: compact), "array")
  }

  mutating func nullableInt32Array(compact: Bool) throws(DecodingError) -> [Int32]? {
    guard let count = try length(compact: compact, unit: 4, "array") else { return nil }
    var elements: [Int32] = []
    elements.reserveCapacity(count)
    for _ in 0..<count { elements.append(try int32()) }
    return elements
  }

  mutating func int32Array(compact: Bool) throws(DecodingError) -> [Int32] {
    try required(try nullableInt32Array(compact: compact), "array")
  }

  mutating func int8Array(compact: Bool) throws(DecodingError) -> [Int8] {
    let count = try required(try length(compact: compact, unit: 1, "array"), "array")
    var elements: [Int8] = []
    elements.reserveCapacity(count)
    for _ in 0..<count { elements.append(try int8()) }
    return elements
  }

  mutating func int64Array(compact: Bool) throws(DecodingError) -> [Int64] {
    let count = try required(try length(compact: compact, unit: 8, "array"), "array")
    var elements: [Int64] = []
    elements.reserveCapacity(count)
    for _ in 0..<count { elements.append(try int64()) }
    return elements
  }

  /// A structure behind the byte that says whether it is there; as in Kafka, any byte that is not negative says so.
  mutating func nullableStructure<Structure: KafkaStructure>(version: Int16) throws(DecodingError) -> Structure? {
    try int8() < 0 ? nil : try Structure(from: &self, version: version)
  }
}

/// A tagged field whose value is still to be read.
struct TaggedField {
  /// Its number.
  let tag: UInt32
  /// Reads its value and nothing behind it.
  var value: ByteReader
}

extension ByteReader {
  /// The number of tagged fields that follow; each takes two bytes at least.
  mutating func tagCount() throws(DecodingError) -> Int {
    let at = position
    let count = Int(try unsignedVarint())
    guard count <= remaining / 2 else {
      throw DecodingError("\(count) tagged fields in \(remaining) bytes", at: at)
    }
    return count
  }

  /// The next tagged field.
  mutating func taggedField() throws(DecodingError) -> TaggedField {
    let tag = try unsignedVarint()
    let size = Int(try unsignedVarint())
    return TaggedField(tag: tag, value: ByteReader(try slice(size)))
  }

  /// Passes over tagged fields that nobody here knows.
  mutating func skipTaggedFields() throws(DecodingError) {
    for _ in 0..<(try tagCount()) { _ = try taggedField() }
  }
}
