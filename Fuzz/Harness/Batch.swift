// Batch: bytes of an input made a record batch with a right checksum.

import MillraceBase
import MillraceModel

/// The bytes as a batch of their own length with a right checksum.
package func mended(_ input: Bytes) -> Bytes {
  var batch = input.array
  let size = batch.count
  batch.withUnsafeMutableBytes { memory in
    guard let base = memory.baseAddress else { return }
    RecordBatchHeader.patch(base, baseOffset: 1000, leaderEpoch: 1)
    base.storeBytes(of: Int32(size - RecordBatchHeader.lengthOverhead).bigEndian, toByteOffset: 8, as: Int32.self)
    let crc = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: memory[21...]))
    base.storeBytes(of: crc.bigEndian, toByteOffset: 17, as: UInt32.self)
  }
  return Bytes(batch)
}
