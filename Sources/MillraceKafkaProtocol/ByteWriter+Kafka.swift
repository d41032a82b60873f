// ByteWriter+Kafka: writes the primitive types of Kafka's protocol; ByteReader+Kafka.swift shows their layout.

import MillraceBase
import MillraceModel

extension ByteWriter {
  /// Sixteen bytes.
  mutating func topicID(_ id: TopicID) {
    uint64(id.high)
    uint64(id.low)
  }

  /// A length or count; nil is null.
  private mutating func length(_ length: Int?, compact: Bool) {
    let length = length ?? -1
    precondition(length <= Int(Int32.max) - 1, "length \(length) does not fit into Kafka's 32 bits")
    if compact {
      unsignedVarint(UInt32(length + 1))
    } else {
      int32(Int32(length))
    }
  }

  /// Text; only a text composed here can be longer than 32,767 bytes, and is cut at a character's border.
  mutating func string(_ text: String?, compact: Bool) {
    guard let text else { return compact ? unsignedVarint(0) : int16(-1) }
    var count = text.utf8.count
    if count > longestString {
      var end = text.utf8.index(text.utf8.startIndex, offsetBy: longestString)
      while end.samePosition(in: text.unicodeScalars) == nil { end = text.utf8.index(before: end) }
      return string(String(text[..<end]), compact: compact)
    }
    if compact {
      count += 1
      unsignedVarint(UInt32(count))
    } else {
      int16(Int16(count))
    }
    utf8(text)
  }

  /// Bytes, spliced in when large.
  mutating func bytes(_ bytes: Bytes?, compact: Bool) {
    length(bytes?.count, compact: compact)
    if let bytes { append(bytes) }
  }

  /// Pieces sent one after the other as one byte string.
  mutating func gatheredBytes(_ pieces: [Bytes], compact: Bool) {
    length(pieces.reduce(0) { $0 + $1.count }, compact: compact)
    for piece in pieces { append(piece) }
  }

  mutating func array(_ elements: [some KafkaStructure]?, compact: Bool, version: Int16) {
    length(elements?.count, compact: compact)
    guard let elements else { return }
    for element in elements { element.encode(to: &self, version: version) }
  }

  mutating func stringArray(_ elements: [String]?, compact: Bool) {
    length(elements?.count, compact: compact)
    guard let elements else { return }
    for element in elements { string(element, compact: compact) }
  }

  mutating func int32Array(_ elements: [Int32]?, compact: Bool) {
    length(elements?.count, compact: compact)
    guard let elements else { return }
    for element in elements { int32(element) }
  }

  mutating func int8Array(_ elements: [Int8], compact: Bool) {
    length(elements.count, compact: compact)
    for element in elements { int8(element) }
  }

  mutating func int64Array(_ elements: [Int64], compact: Bool) {
    length(elements.count, compact: compact)
    for element in elements { int64(element) }
  }

  /// A structure behind the byte that says whether it is there.
  mutating func nullableStructure(_ structure: (some KafkaStructure)?, version: Int16) {
    guard let structure else { return int8(-1) }
    int8(1)
    structure.encode(to: &self, version: version)
  }

  /// No tagged fields.
  mutating func noTaggedFields() { uint8(0) }
}

/// Collects tagged fields, in the order of their tags, to write them behind their number.
struct TaggedFieldWriter {
  private var count: UInt32 = 0
  private var fields: ByteWriter?

  /// Adds a field; tags must rise.
  mutating func add(_ tag: UInt32, _ encode: (inout ByteWriter) -> Void) {
    var field = ByteWriter(capacity: 64)
    encode(&field)
    let value = field.finishJoined()
    var all = fields.take() ?? ByteWriter(capacity: 64)
    all.unsignedVarint(tag)
    all.unsignedVarint(UInt32(value.count))
    all.append(value)
    fields = all
    count += 1
  }

  /// Writes the number of fields and the fields.
  consuming func write(to writer: inout ByteWriter) {
    writer.unsignedVarint(count)
    guard let fields else { return }
    writer.append(fields.finishJoined())
  }
}
