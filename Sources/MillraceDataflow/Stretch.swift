// Stretch: values of a key that lie together, in a session or a pane, and how they stand in the state log.
//
// First and last event time int64, then the state: 64 bits, or its length uint32 and what its encoding says; big endian.

import MillraceBase

/// Values of a key that lie together.
struct Stretch: Equatable {
  /// Event time of the earliest value.
  var first: Int64
  /// Event time of the latest value.
  var last: Int64
  /// What the aggregation made of them.
  var bits: UInt64

  /// Of values from `first` to `last`.
  init(first: Int64, last: Int64, bits: UInt64) {
    self.first = first
    self.last = last
    self.bits = bits
  }

  /// Writes it.
  /// - Parameter codec: of states that take more than 64 bits.
  func write(_ codec: (any StateCodec)?, into writer: inout ByteWriter) {
    writer.int64(first)
    writer.int64(last)
    guard let codec else { return writer.uint64(bits) }
    let at = writer.count
    writer.int32(0)
    codec.write(bits, into: &writer)
    writer.patchInt32(Int32(writer.count - at - 4), at: at)
  }

  /// Reads one whose values are later than `behind`.
  /// - Parameter name: of what it is, for the error.
  init(
    from reader: inout ByteReader, _ name: StaticString, behind: Int64 = -TimeWindows.farthest,
    _ codec: (any StateCodec)?
  ) throws(DecodingError) {
    let at = reader.position
    first = try reader.int64()
    last = try reader.int64()
    guard first <= last, first > behind, last < TimeWindows.farthest else {
      throw DecodingError("a \(name) from \(first) to \(last) ms", at: at)
    }
    guard let codec else {
      bits = try reader.uint64()
      return
    }
    let content = reader.position
    let bytes = try reader.slice(Int(try reader.uint32()))
    defer { extendLifetime(bytes) }
    do throws(JobError) {
      bits = try codec.read(bytes.buffer)
    } catch {
      throw DecodingError(error.reason, at: content)
    }
  }
}
