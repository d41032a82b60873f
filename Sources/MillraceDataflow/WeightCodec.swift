// WeightCodec: how often an element is there, as it stands in the state log: a fingerprint of the name of the elements'
// encoding, uint32, then the weight, int64, which is not 0; big endian.

import MillraceBase

/// Weights of elements, which are the bits themselves.
final class WeightCodec: StateCodec {
  private let encoding: String
  private let fingerprint: UInt32

  init(_ encoding: String) {
    self.encoding = encoding
    fingerprint = UInt32(truncatingIfNeeded: Bytes(encoding).withBuffer { Hashing.stable($0) })
  }

  func write(_ bits: UInt64, into writer: inout ByteWriter) {
    writer.uint32(fingerprint)
    writer.uint64(bits)
  }

  func read(_ value: UnsafeRawBufferPointer) throws(JobError) -> UInt64 {
    guard value.count == 12, UInt32(bigEndian: value.loadUnaligned(as: UInt32.self)) == fingerprint,
      value.bigEndianNumber(at: 4) != 0
    else { throw JobError(.corruptState, "the weight of an element that is no \(encoding), in \(value.count) bytes") }
    return UInt64(bitPattern: value.bigEndianNumber(at: 4))
  }

  func release(_ bits: UInt64) {}
}
