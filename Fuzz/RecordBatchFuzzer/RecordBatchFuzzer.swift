// RecordBatchFuzzer: record batches as producers send them; what the check accepts is read in both ways.

import MillraceBase
import MillraceModel

/// Reads `size` bytes as a record batch, once as they are and once with the right CRC.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzRecordBatch(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  let input = UnsafeRawBufferPointer(start: data, count: size)
  check(Bytes(copying: input))
  guard size >= RecordBatchHeader.size else { return 0 }
  // Almost no mutation hits the CRC, so it is put right, as is what the log patches anyway.
  var batch = [UInt8](input)
  batch.withUnsafeMutableBytes { memory in
    guard let base = memory.baseAddress else { return }
    RecordBatchHeader.patch(base, baseOffset: 1000, leaderEpoch: 1)
    base.storeBytes(of: Int32(size - RecordBatchHeader.lengthOverhead).bigEndian, toByteOffset: 8, as: Int32.self)
    let crc = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: memory[21...]))
    base.storeBytes(of: crc.bigEndian, toByteOffset: 17, as: UInt32.self)
  }
  check(Bytes(batch))
  return 0
}

private func check(_ bytes: Bytes) {
  let header: RecordBatchHeader
  do throws(RecordBatchError) {
    header = try RecordBatchHeader.checked(bytes)
  } catch {
    return
  }
  precondition(header.totalSize <= bytes.count, "\(header.totalSize) of \(bytes.count) bytes")
  let part = bytes[RecordBatchHeader.size..<header.totalSize]
  // Memory of its own, so that the address sanitizer sees a read past its end.
  let records = part.withBuffer { Bytes(copying: $0) }
  var raw = 0
  var sum = 0
  do throws(RecordBatchError) {
    try records.withBuffer { buffer throws(RecordBatchError) in
      try RecordReader.forEach(in: buffer, count: Int(header.recordCount)) { record in
        raw += 1
        for byte in record.key { sum &+= Int(byte) }
        for byte in record.value { sum &+= Int(byte) }
      }
    }
  } catch {
    raw = -1
  }
  do throws(RecordBatchError) {
    let read = try RecordReader.records(records, header: header)
    precondition(read.count == Int(header.recordCount), "\(read.count) of \(header.recordCount) records")
    precondition(raw == read.count, "forEach reads \(raw) records of \(read.count)")
  } catch {
    return
  }
}
