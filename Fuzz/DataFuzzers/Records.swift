// Records: record batches as producers send them, and the bytes that stand for their records when compressed.

import FuzzHarness
import MillraceBase
import MillraceCompression
import MillraceModel

/// zstd allocates the window that a frame asks for, at most 8 MiB for small inputs, before it has seen any of its contents.
private let oneWindow = 10 << 20

/// A batch, once as it is and once with the right checksum; what the check accepts is read in both ways.
let recordBatches = FuzzTarget(name: "record-batches", allowance: oneWindow) { input in
  check(input)
  guard input.count >= RecordBatchHeader.size else { return }
  // Almost no mutation hits the CRC, so it is put right, as is what the log patches anyway.
  check(mended(input))
}

private func check(_ bytes: Bytes) {
  let header: RecordBatchHeader
  do throws(RecordBatchError) {
    header = try RecordBatchHeader.checked(bytes)
  } catch {
    return
  }
  precondition(header.totalSize <= bytes.count, "\(header.totalSize) of \(bytes.count) bytes")
  if header.isControl { checkMarker(bytes, header) }
  let part = bytes[RecordBatchHeader.size..<header.totalSize]
  // Memory of its own, so that the address sanitizer sees a read past its end.
  var records = part.withBuffer { Bytes(copying: $0) }
  if let codec = header.codec, let format = CompressionFormat(rawValue: codec.rawValue) {
    guard let plain = decompressed(records, format) else { return }
    records = plain
  }
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

private func checkMarker(_ bytes: Bytes, _ header: RecordBatchHeader) {
  do throws(RecordBatchError) {
    let marker = try TransactionMarker(bytes, header: header)
    let batch = marker.batch(at: Timestamp(milliseconds: 1))
    let again = try TransactionMarker(batch, header: try RecordBatchHeader.checked(batch))
    precondition(again == marker, "a marker changes when written and read again")
  } catch {
    return
  }
}

/// Most bytes that an input may become.
private func limit(_ bytes: Bytes) -> Int { 4 * bytes.count + 1024 }

private func decompressed(_ bytes: Bytes, _ format: CompressionFormat) -> Bytes? {
  let most = limit(bytes)
  do throws(CompressionError) {
    let plain = try Compression.decompress(bytes, format: format, limit: most)
    precondition(plain.count <= most, "\(plain.count) bytes of at most \(most)")
    return plain
  } catch {
    return nil
  }
}

private let text = Array("the same and the same and the same again".utf8)

/// The first byte chooses the format. What can be decompressed must survive compressing and decompressing again.
let compressedBytes = FuzzTarget(
  name: "compressed-bytes", allowance: oneWindow,
  seeds: {
    CompressionFormat.allCases.flatMap { format -> [[UInt8]] in
      do throws(CompressionError) {
        return [[format.rawValue - 1] + (try Compression.compress(Bytes(text), format: format)).array]
      } catch {
        preconditionFailure("no seed: \(error)")
      }
    }
  }
) { input in
  var choices = Choices(input)
  let format = CompressionFormat.allCases[choices.number(below: CompressionFormat.allCases.count)]
  guard let plain = decompressed(choices.rest(), format) else { return }
  do throws(CompressionError) {
    let packed = try Compression.compress(plain, format: format)
    let again = try Compression.decompress(packed, format: format, limit: plain.count)
    precondition(again == plain, "\(format) changes what it holds")
  } catch {
    preconditionFailure("\(format) refuses what it has written: \(error)")
  }
}
