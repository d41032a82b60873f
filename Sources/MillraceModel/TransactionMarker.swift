// TransactionMarker: the control batch that ends a transaction in one partition, written and read.
//
// A batch (magic 2) with the attributes "transactional" and "control", the producer's id and epoch, base sequence −1 and
// one record, uncompressed:
//   key    0 version int16 0, 2 type int16 (0 abort, 1 commit)
//   value  0 version int16 0, 2 coordinator epoch int32
// It takes an offset like any record, and readers never show it.
// Source: Kafka protocol, "Control Batches"; Kafka, `EndTransactionMarker`.

import MillraceBase

/// The end of a transaction in a partition.
public struct TransactionMarker: Equatable, Sendable {
  /// Producer whose transaction ends.
  public var producerID: Int64
  /// Epoch of the producer from now on; batches of lower epochs are refused.
  public var producerEpoch: Int16
  /// True when the transaction's records are valid, false when they are void.
  public var isCommit: Bool
  /// Epoch of whoever decided it.
  public var coordinatorEpoch: Int32

  private static let attributes: UInt16 = 0x30
  /// Length and bytes of the one record: attributes, two deltas, key of 4 bytes, value of 6, no headers.
  private static let recordLength: Int32 = 1 + 1 + 1 + 1 + 4 + 1 + 6 + 1

  /// A marker.
  public init(producerID: Int64, producerEpoch: Int16, isCommit: Bool, coordinatorEpoch: Int32) {
    self.producerID = producerID
    self.producerEpoch = producerEpoch
    self.isCommit = isCommit
    self.coordinatorEpoch = coordinatorEpoch
  }

  /// The whole batch, with base offset 0 and a right CRC.
  public func batch(at time: Timestamp) -> Bytes {
    let size = RecordBatchHeader.size + 1 + Int(TransactionMarker.recordLength)
    var writer = ByteWriter(capacity: size)
    writer.int64(0)
    writer.int32(Int32(size - RecordBatchHeader.lengthOverhead))
    writer.int32(-1)
    writer.int8(2)
    writer.uint32(0)
    writer.uint16(TransactionMarker.attributes)
    writer.int32(0)
    writer.int64(time.milliseconds)
    writer.int64(time.milliseconds)
    writer.int64(producerID)
    writer.int16(producerEpoch)
    writer.int32(-1)
    writer.int32(1)
    writer.varint(TransactionMarker.recordLength)
    writer.int8(0)
    writer.varlong(0)
    writer.varint(0)
    writer.varint(4)
    writer.int16(0)
    writer.int16(isCommit ? 1 : 0)
    writer.varint(6)
    writer.int16(0)
    writer.int32(coordinatorEpoch)
    writer.varint(0)
    writer.patchInt32(Int32(bitPattern: writer.checksum(from: 21)), at: 17)
    return writer.finishJoined()
  }

  /// Reads the marker in a control batch.
  /// - Parameters:
  ///   - batch: starts with the batch, whose CRC was found right.
  ///   - header: its header.
  /// - Throws: `.malformed` when the batch holds no marker of this form.
  public init(_ batch: Bytes, header: RecordBatchHeader) throws(RecordBatchError) {
    guard header.isControl, header.isTransactional, header.isIdempotent, header.codec == CompressionCodec.none,
      header.recordCount == 1, header.totalSize <= batch.count
    else { throw RecordBatchError(.malformed, "a control batch that is no transaction's end") }
    let records = try RecordReader.records(batch[RecordBatchHeader.size..<header.totalSize], header: header)
    guard let key = records.first?.key, let value = records.first?.value else {
      throw RecordBatchError(.malformed, "a control record without key or value")
    }
    do throws(DecodingError) {
      var keyReader = ByteReader(key)
      var valueReader = ByteReader(value)
      // Later versions may only add fields at the end. Source: Kafka, `ControlRecordType`.
      guard try keyReader.int16() >= 0, try valueReader.int16() >= 0 else {
        throw DecodingError("a negative version", at: 0)
      }
      let type = try keyReader.int16()
      guard type == 0 || type == 1 else { throw DecodingError("type \(type) is neither abort nor commit", at: 2) }
      isCommit = type == 1
      coordinatorEpoch = try valueReader.int32()
    } catch {
      throw RecordBatchError(.malformed, "control record: \(error)")
    }
    producerID = header.producerID
    producerEpoch = header.producerEpoch
  }
}
