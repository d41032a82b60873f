// RecordBatchBuilder: packs records into a batch, as a producer does.

import MillraceBase

/// Builds one record batch (magic 2). Reusable after ``finish(producerID:producerEpoch:baseSequence:isTransactional:codec:compress:)``.
///
/// A builder has one owner: make an array of them one by one, because copies share memory.
public struct RecordBatchBuilder {
  private var records = ByteWriter(capacity: 4096)
  private var baseTimestamp = Timestamp.none
  private var maxTimestamp = Timestamp.none
  /// Records added so far.
  public private(set) var count: Int32 = 0

  /// No records.
  public init() {}

  /// Bytes of the batch so far, uncompressed.
  public var size: Int { RecordBatchHeader.size + records.count }

  /// Adds a record; its offset is its position in the batch.
  public mutating func append(_ record: Record) {
    let headers = record.headers
    begin(
      key: record.key?.buffer, value: record.value?.buffer, timestamp: record.timestamp,
      headersSize: headers.reduce(ByteWriter.varintSize(Int64(headers.count))) { size, header in
        size + ByteWriter.fieldSize(header.key.utf8.count) + ByteWriter.fieldSize(header.value?.count)
      })
    records.varint(Int32(headers.count))
    for header in headers {
      records.varint(Int32(header.key.utf8.count))
      records.utf8(header.key)
      field(header.value?.buffer)
    }
    extendLifetime(record)
  }

  /// Adds a record without headers from raw memory.
  public mutating func append(key: UnsafeRawBufferPointer?, value: UnsafeRawBufferPointer?, timestamp: Timestamp) {
    begin(key: key, value: value, timestamp: timestamp, headersSize: 1)
    records.varint(0)
  }

  private mutating func begin(
    key: UnsafeRawBufferPointer?, value: UnsafeRawBufferPointer?, timestamp: Timestamp, headersSize: Int
  ) {
    if count == 0 {
      baseTimestamp = timestamp
      maxTimestamp = timestamp
    }
    if timestamp > maxTimestamp { maxTimestamp = timestamp }
    let delta = timestamp.milliseconds &- baseTimestamp.milliseconds
    let length =
      1 + ByteWriter.varintSize(delta) + ByteWriter.varintSize(Int64(count)) + ByteWriter.fieldSize(key?.count)
      + ByteWriter.fieldSize(value?.count) + headersSize
    records.varint(Int32(length))
    records.int8(0)
    records.varlong(delta)
    records.varint(count)
    field(key)
    field(value)
    count += 1
  }

  private mutating func field(_ bytes: UnsafeRawBufferPointer?) {
    guard let bytes else { return records.varint(-1) }
    records.varint(Int32(bytes.count))
    records.copy(bytes)
  }

  /// The batch, with base offset 0 and a right CRC; the builder is empty again.
  ///
  /// - Parameters:
  ///   - producerID: −1 without idempotence.
  ///   - producerEpoch: −1 without idempotence.
  ///   - baseSequence: −1 without idempotence.
  ///   - isTransactional: the batch belongs to the producer's transaction.
  ///   - codec: written into the attributes; `compress` must produce it.
  ///   - compress: turns the records part into its compressed form; nil leaves it as it is.
  /// - Throws: what `compress` throws.
  public mutating func finish<Failure: Error>(
    producerID: Int64 = -1, producerEpoch: Int16 = -1, baseSequence: Int32 = -1, isTransactional: Bool = false,
    codec: CompressionCodec = .none, compress: (Bytes) throws(Failure) -> Bytes
  ) throws(Failure) -> Bytes {
    precondition(count > 0, "a batch holds at least one record")
    let plain = records.finishJoined()
    records = ByteWriter(capacity: 4096)
    let body = codec == .none ? plain : try compress(plain)
    let size = RecordBatchHeader.size + body.count
    var writer = ByteWriter(capacity: size)
    writer.int64(0)
    writer.int32(Int32(size - RecordBatchHeader.lengthOverhead))
    writer.int32(-1)
    writer.int8(2)
    writer.uint32(0)
    writer.uint16(UInt16(codec.rawValue) | (isTransactional ? 0x10 : 0))
    writer.int32(count - 1)
    writer.int64(baseTimestamp.milliseconds)
    writer.int64(maxTimestamp.milliseconds)
    writer.int64(producerID)
    writer.int16(producerEpoch)
    writer.int32(baseSequence)
    writer.int32(count)
    body.withBuffer { writer.copy($0) }
    let crc = writer.checksum(from: 21)
    writer.patchInt32(Int32(bitPattern: crc), at: 17)
    count = 0
    return writer.finishJoined()
  }

  /// The batch, uncompressed and without a producer id.
  public mutating func finish() -> Bytes {
    finish(compress: { $0 })
  }
}

extension ByteWriter {
  /// Bytes that a zig-zag varint of `value` takes.
  static func varintSize(_ value: Int64) -> Int {
    let raw = UInt64(bitPattern: (value << 1) ^ (value >> 63))
    return raw == 0 ? 1 : (64 - raw.leadingZeroBitCount + 6) / 7
  }

  /// Bytes that a length-prefixed field takes, nil being null.
  static func fieldSize(_ count: Int?) -> Int {
    guard let count else { return 1 }
    return varintSize(Int64(count)) + count
  }
}
