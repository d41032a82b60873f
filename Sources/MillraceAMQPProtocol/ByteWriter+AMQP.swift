// ByteWriter+AMQP: writes the field types of AMQP 0-9-1.
//
// All of it is copied, nothing spliced in, so that the size of a frame can be put in front afterwards.

import MillraceBase

extension ByteWriter {
  /// A short string.
  mutating func shortString(_ value: ShortString) {
    uint8(UInt8(value.count))
    value.bytes.withBuffer { copy($0) }
  }

  /// A short string of at most 255 bytes of UTF-8.
  mutating func shortText(_ text: String) {
    precondition(text.utf8.count <= ShortString.limit, "a short string of \(text.utf8.count) bytes")
    uint8(UInt8(text.utf8.count))
    utf8(text)
  }

  /// A long string.
  mutating func longBytes(_ bytes: Bytes) {
    precondition(bytes.count <= Int(UInt32.max), "a long string of \(bytes.count) bytes")
    uint32(UInt32(bytes.count))
    bytes.withBuffer { copy($0) }
  }

  /// A long string of UTF-8.
  mutating func longText(_ text: String) {
    precondition(text.utf8.count <= Int(UInt32.max), "a long string of \(text.utf8.count) bytes")
    uint32(UInt32(text.utf8.count))
    utf8(text)
  }

  /// A table with its length.
  mutating func table(_ table: AMQPFieldTable) { longBytes(table.encoded) }

  /// Up to eight bits in one byte, the first in the lowest.
  mutating func bits(
    _ b0: Bool, _ b1: Bool = false, _ b2: Bool = false, _ b3: Bool = false, _ b4: Bool = false
  ) {
    uint8((b0 ? 1 : 0) | (b1 ? 2 : 0) | (b2 ? 4 : 0) | (b3 ? 8 : 0) | (b4 ? 16 : 0))
  }
}
