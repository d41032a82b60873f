// BatchCleaner: what compaction leaves of one record batch.
//
// A batch keeps its base offset, last offset delta, producer and sequence, so that offsets and sequences mean what they
// meant; records that stay are copied byte for byte. Tombstones, and markers of transactions without records, are given
// a time at which they may go: the batch's attribute bit 6 is set, its base timestamp becomes that time, and the records'
// timestamps are written relative to it. Source: KIP-534.

import MillraceBase
import MillraceCompression
import MillraceModel

/// What is left of a batch.
enum CleanedBatch {
  /// All of it; copied as it is.
  case unchanged
  /// Nothing.
  case removed
  /// Other bytes, with the largest timestamp in them.
  case rewritten(Bytes, maxTimestamp: Int64)
}

/// A record in a batch's records part, as far as compaction looks at it.
struct CleanedRecord {
  /// Without the length before it.
  var body: Range<Int>
  var timestampDelta: Int64
  /// Where in the body the timestamp's bytes end.
  var afterTimestamp: Int
  var offsetDelta: Int32
  /// Nil for a null key.
  var key: Range<Int>?
  var isTombstone: Bool
}

enum BatchCleaner {
  static let horizonBit: UInt16 = 0x40
  /// Most bytes that a batch may have when its records are decompressed; larger ones are kept as they are.
  static let largestRecords = 256 << 20

  /// When what only waits for its time may be removed; nil when the batch was given no time yet.
  static func horizon(_ header: RecordBatchHeader) -> Int64? {
    header.attributes & horizonBit != 0 ? header.baseTimestamp.milliseconds : nil
  }

  /// The records part of a batch, decompressed.
  static func records(of batch: Bytes, _ header: RecordBatchHeader) throws(RecordBatchError) -> Bytes {
    let body = batch[RecordBatchHeader.size..<header.totalSize]
    guard let codec = header.codec else {
      throw RecordBatchError(.unsupportedCodec, "compression codec \(header.attributes & 7)")
    }
    guard let format = CompressionFormat(rawValue: codec.rawValue) else { return body }
    do throws(CompressionError) {
      return try Compression.decompress(body, format: format, limit: largestRecords)
    } catch {
      throw RecordBatchError(.malformed, error.description)
    }
  }

  /// Calls `body` for each record.
  static func forEach(
    in records: UnsafeRawBufferPointer, count: Int32, _ body: (CleanedRecord) -> Void
  ) throws(RecordBatchError) {
    guard count > 0 else { return }
    guard let base = records.baseAddress else { throw RecordBatchError(.malformed, "no bytes for \(count) records") }
    var cursor = VarintCursor(base: base, end: records.count)
    for _ in 0..<count {
      let length = Int(cursor.next())
      guard !cursor.failed, length > 0, length <= records.count - cursor.position else {
        throw RecordBatchError(.malformed, "a record of \(length) bytes at byte \(cursor.position) of \(records.count)")
      }
      let start = cursor.position
      let end = start + length
      cursor.position += 1
      let timestampDelta = cursor.next()
      let afterTimestamp = cursor.position
      let offsetDelta = Int32(truncatingIfNeeded: cursor.next())
      let keyLength = Int(cursor.next())
      guard !cursor.failed, keyLength >= -1, cursor.position <= end, keyLength <= end - cursor.position else {
        throw RecordBatchError(.malformed, "a key of \(keyLength) bytes at byte \(cursor.position) of \(records.count)")
      }
      let key = keyLength >= 0 ? cursor.position..<(cursor.position + keyLength) : nil
      cursor.position += max(keyLength, 0)
      let valueLength = cursor.next()
      guard !cursor.failed, cursor.position <= end else {
        throw RecordBatchError(.malformed, "a value of \(valueLength) bytes runs past its record")
      }
      body(
        CleanedRecord(
          body: start..<end, timestampDelta: timestampDelta, afterTimestamp: afterTimestamp, offsetDelta: offsetDelta,
          key: key, isTombstone: valueLength == -1))
      cursor.position = end
    }
  }

  /// Leaves of a batch what `keeps` says, and gives tombstones their time.
  ///
  /// - Parameters:
  ///   - newHorizon: the time, in ms, from which tombstones that are seen for the first time may be removed.
  ///   - keeps: gets a record and its key's bytes.
  /// - Throws: when the records cannot be read; the batch is to be kept as it is then.
  static func clean(
    _ batch: Bytes, _ header: RecordBatchHeader, newHorizon: Int64,
    keeps: (CleanedRecord, UnsafeRawBufferPointer?) -> Bool
  ) throws(RecordBatchError) -> CleanedBatch {
    let records = try records(of: batch, header)
    var kept: [CleanedRecord] = []
    var hasTombstone = false
    try records.withBuffer { buffer throws(RecordBatchError) in
      try forEach(in: buffer, count: header.recordCount) { record in
        guard keeps(record, record.key.map { UnsafeRawBufferPointer(rebasing: buffer[$0]) }) else { return }
        kept.append(record)
        if record.isTombstone { hasTombstone = true }
      }
    }
    if kept.isEmpty { return .removed }
    let getsHorizon = hasTombstone && horizon(header) == nil
    if kept.count == Int(header.recordCount), !getsHorizon { return .unchanged }
    return try rewrite(records, kept, header, horizon: getsHorizon ? newHorizon : nil)
  }

  /// A marker's batch with the time from which it may be removed.
  static func withHorizon(
    _ batch: Bytes, _ header: RecordBatchHeader, horizon: Int64
  ) throws(RecordBatchError) -> CleanedBatch {
    let records = try records(of: batch, header)
    var all: [CleanedRecord] = []
    try records.withBuffer { buffer throws(RecordBatchError) in
      try forEach(in: buffer, count: header.recordCount) { all.append($0) }
    }
    return try rewrite(records, all, header, horizon: horizon)
  }

  private static func rewrite(
    _ records: Bytes, _ kept: [CleanedRecord], _ header: RecordBatchHeader, horizon: Int64?
  ) throws(RecordBatchError) -> CleanedBatch {
    let base = horizon ?? header.baseTimestamp.milliseconds
    var newest = Int64.min
    var out = ByteWriter(capacity: max(64, kept.reduce(0) { $0 + $1.body.count + 12 }))
    records.withBuffer { buffer in
      for record in kept {
        let time = header.baseTimestamp.milliseconds &+ record.timestampDelta
        newest = max(newest, time)
        let delta = time &- base
        let rest = record.afterTimestamp..<record.body.upperBound
        out.varint(Int32(1 + varintSize(delta) + rest.count))
        out.uint8(buffer[record.body.lowerBound])
        out.varlong(delta)
        out.copy(UnsafeRawBufferPointer(rebasing: buffer[rest]))
      }
    }
    let body = try compressed(out.finishJoined(), header)
    // With the broker's time on all records, the batch's largest timestamp is that time.
    let maxTimestamp = header.hasLogAppendTime ? header.maxTimestamp.milliseconds : newest
    var writer = ByteWriter(capacity: RecordBatchHeader.size + body.count)
    writer.int64(header.baseOffset)
    writer.int32(Int32(RecordBatchHeader.size + body.count - RecordBatchHeader.lengthOverhead))
    writer.int32(header.leaderEpoch)
    writer.int8(2)
    writer.uint32(0)
    writer.uint16(header.attributes | (horizon == nil ? 0 : horizonBit))
    writer.int32(header.lastOffsetDelta)
    writer.int64(base)
    writer.int64(maxTimestamp)
    writer.int64(header.producerID)
    writer.int16(header.producerEpoch)
    writer.int32(header.baseSequence)
    writer.int32(Int32(kept.count))
    body.withBuffer { writer.copy($0) }
    let crc = writer.checksum(from: 21)
    writer.patchInt32(Int32(bitPattern: crc), at: 17)
    return .rewritten(writer.finishJoined(), maxTimestamp: maxTimestamp)
  }

  private static func compressed(_ bytes: Bytes, _ header: RecordBatchHeader) throws(RecordBatchError) -> Bytes {
    guard let codec = header.codec, let format = CompressionFormat(rawValue: codec.rawValue) else { return bytes }
    do throws(CompressionError) {
      return try Compression.compress(bytes, format: format)
    } catch {
      throw RecordBatchError(.malformed, error.description)
    }
  }

  private static func varintSize(_ value: Int64) -> Int {
    let raw = UInt64(bitPattern: (value << 1) ^ (value >> 63))
    return raw == 0 ? 1 : (64 - raw.leadingZeroBitCount + 6) / 7
  }
}
