// KeyedRecords: batches of records with keys, and what is read of them again, for tests of cleaning.

import MillraceBase
import MillraceCompression
import MillraceModel
import Testing

@testable import MillraceLog

/// A record as a test remembers it.
struct KeyedRecord: Equatable {
  var offset: Offset
  var key: String?
  var value: String?
  var time: Int64
}

/// A batch of keyed records in any codec.
func keyedBatch(
  _ records: [(key: String?, value: String?)], time: Int64, codec: CompressionCodec = .none, producer: Int64 = -1,
  sequence: Int32 = -1, isTransactional: Bool = false
) throws -> (bytes: Bytes, header: RecordBatchHeader) {
  var builder = RecordBatchBuilder()
  for (index, record) in records.enumerated() {
    builder.append(
      Record(
        key: record.key.map { Bytes($0) }, value: record.value.map { Bytes($0) },
        headers: index % 3 == 2 ? [RecordHeader("h", Bytes("\(index)"))] : [],
        timestamp: Timestamp(milliseconds: time + Int64(index))))
  }
  let bytes = try builder.finish(
    producerID: producer, producerEpoch: producer < 0 ? -1 : 0, baseSequence: sequence,
    isTransactional: isTransactional, codec: codec
  ) { bytes in
    guard let format = CompressionFormat(rawValue: codec.rawValue) else { return bytes }
    return try Compression.compress(bytes, format: format)
  }
  return (bytes, try RecordBatchHeader.checked(bytes))
}

/// The records of stored batches; each batch's own checksum is verified.
func records(in batches: [Bytes]) throws -> [KeyedRecord] {
  try batches.flatMap { batch in
    let header = try RecordBatchHeader(batch)
    #expect(batch[21..<header.totalSize].crc32c == header.crc)
    return try RecordReader.records(BatchCleaner.records(of: batch, header), header: header).map {
      KeyedRecord(offset: $0.offset, key: $0.key?.text, value: $0.value?.text, time: $0.timestamp.milliseconds)
    }
  }
}

extension LogWorld {
  /// Appends and waits until it is durable.
  @discardableResult
  func append(_ batch: (bytes: Bytes, header: RecordBatchHeader), to log: PartitionLog) throws -> Offset {
    let pending = append(AppendUnit(log, batch.bytes, batch.header))
    run { pending.result != nil }
    return try #require(try pending.value().first).baseOffset
  }

  /// All batches of a partition that may have gaps.
  func readWithGaps(_ log: PartitionLog, limit: Int = 1 << 20) throws -> [Bytes] {
    var out: [Bytes] = []
    var next = log.startOffset
    while next < log.highWatermark {
      let runs = try read(log, from: next, limit: limit).get()
      try #require(!runs.isEmpty, "nothing at \(next) of \(log.startOffset)..<\(log.highWatermark)")
      for run in runs {
        for (position, header) in try RecordBatchRun.headers(in: run) {
          #expect(header.nextOffset > next, "batch \(header.baseOffset) again at \(next)")
          out.append(run[position..<(position + header.totalSize)])
          next = header.nextOffset
        }
      }
    }
    return out
  }

  /// Compacts until nothing is left to do.
  func compact(_ log: PartitionLog, _ policy: CleanupPolicy) {
    store.compact([(log, policy)])
    run { !store.cleaning.isRunning }
    world.run(for: .seconds(3))
  }
}
