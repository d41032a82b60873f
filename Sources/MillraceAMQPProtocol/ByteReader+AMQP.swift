// ByteReader+AMQP: reads the field types of AMQP 0-9-1.
//
//   shortstr  uint8 length, bytes         longstr   uint32 length, bytes
//   table     uint32 length, entries      bits      up to eight in a row share a byte, the first in the lowest bit
//
// Lengths are compared with what is left before anything is allocated.

import MillraceBase

extension ByteReader {
  /// A short string, sharing memory; its bytes are not looked at.
  mutating func shortString() throws(DecodingError) -> ShortString {
    ShortString(checked: try slice(Int(try uint8())))
  }

  /// A short string of valid UTF-8.
  mutating func shortText() throws(DecodingError) -> String { try string(Int(try uint8())) }

  /// A long string, sharing memory.
  mutating func longBytes() throws(DecodingError) -> Bytes { try slice(Int(try uint32())) }

  /// A long string of valid UTF-8.
  mutating func longText() throws(DecodingError) -> String { try string(Int(try uint32())) }

  /// A table with all that is in it checked, sharing memory.
  mutating func table() throws(DecodingError) -> AMQPFieldTable {
    let at = position + 4
    let content = try longBytes()
    do throws(DecodingError) {
      return try AMQPFieldTable(encoded: content)
    } catch {
      throw DecodingError(error.reason, at: at + error.position)
    }
  }
}
