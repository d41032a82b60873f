// RecordBatchBuilder: packs records into a batch, as a producer does.

import MillraceBase

/// Builds one record batch (magic 2). Reusable after ``finish(producerID:producerEpoch:baseSequence:isTransactional:codec:compress:)``.
///
/// A builder has one owner: make an array of them one by one, because copies share memory.
public struct RecordBatchBuilder {
  /// Room for the header, once there is a record, and the records.
  private var batch = ByteWriter(capacity: 4096)
  private var baseTimestamp = Timestamp.none
  private var maxTimestamp = Timestamp.none
  /// Records added so far.
  public private(set) var count: Int32 = 0

  /// No records.
  public init() {}

  /// Bytes of the batch so far, uncompressed.
  public var size: Int { max(RecordBatchHeader.size, batch.count) }

  /// Adds a record; its offset is its position in the batch.
  public mutating func append(_ record: Record) {
    let headers = record.headers
    begin(
      key: record.key?.buffer, value: record.value?.buffer, timestamp: record.timestamp,
      headersSize: headers.reduce(ByteWriter.varintSize(Int64(headers.count))) { size, header in
        size + ByteWriter.fieldSize(header.key.utf8.count) + ByteWriter.fieldSize(header.value?.count)
      })
    batch.varint(Int32(headers.count))
    for header in headers {
      batch.varint(Int32(header.key.utf8.count))
      batch.utf8(header.key)
      field(header.value?.buffer)
    }
    extendLifetime(record)
  }

  /// Adds a record without headers from raw memory.
  public mutating func append(key: UnsafeRawBufferPointer?, value: UnsafeRawBufferPointer?, timestamp: Timestamp) {
    guard let key else {
      begin(key: nil, value: value, timestamp: timestamp, headersSize: 1)
      return batch.varint(0)
    }
    append(head: UnsafeRawBufferPointer(start: nil, count: 0), key: key, value: value, timestamp: timestamp)
  }

  /// Adds a record without headers whose key is `head` and `key` one behind the other.
  public mutating func append(
    head: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer?, timestamp: Timestamp
  ) {
    prepare(timestamp)
    let delta = timestamp.milliseconds &- baseTimestamp.milliseconds
    let keySize = head.count + key.count
    let length =
      2 + ByteWriter.varintSize(delta) + ByteWriter.varintSize(Int64(count)) + ByteWriter.fieldSize(keySize)
      + ByteWriter.fieldSize(value?.count)
    let number = Int64(count)
    // Laid out in one go, with room for the record's own length.
    batch.fill(atMost: length + 5) { memory in
      var at = memory
      RecordBatchBuilder.put(Int64(length), at: &at)
      at.storeBytes(of: 0, as: UInt8.self)
      at += 1
      RecordBatchBuilder.put(delta, at: &at)
      RecordBatchBuilder.put(number, at: &at)
      RecordBatchBuilder.put(Int64(keySize), at: &at)
      RecordBatchBuilder.copy(head, to: &at)
      RecordBatchBuilder.copy(key, to: &at)
      RecordBatchBuilder.put(Int64(value?.count ?? -1), at: &at)
      if let value { RecordBatchBuilder.copy(value, to: &at) }
      RecordBatchBuilder.put(0, at: &at)
      return at - memory
    }
    count += 1
  }

  /// A zig-zag varint.
  @inline(__always)
  private static func put(_ value: Int64, at place: inout UnsafeMutableRawPointer) {
    var rest = UInt64(bitPattern: (value << 1) ^ (value >> 63))
    while rest >= 0x80 {
      place.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, as: UInt8.self)
      place += 1
      rest >>= 7
    }
    place.storeBytes(of: UInt8(truncatingIfNeeded: rest), as: UInt8.self)
    place += 1
  }

  @inline(__always)
  private static func copy(_ bytes: UnsafeRawBufferPointer, to place: inout UnsafeMutableRawPointer) {
    guard let from = bytes.baseAddress else { return }
    if bytes.count == 8 {
      place.storeBytes(of: from.loadUnaligned(as: UInt64.self), as: UInt64.self)
    } else {
      place.copyMemory(from: from, byteCount: bytes.count)
    }
    place += bytes.count
  }

  /// Adds a record without a key and with one header, which has no name; `write` lays the header's value out in
  /// `headerSize` bytes.
  public mutating func append(
    value: UnsafeRawBufferPointer?, timestamp: Timestamp, headerSize: Int, _ write: (UnsafeMutableRawPointer) -> Void
  ) {
    begin(key: nil, value: value, timestamp: timestamp, headersSize: 2 + ByteWriter.fieldSize(headerSize))
    batch.varint(1)
    batch.varint(0)
    batch.varint(Int32(headerSize))
    batch.fill(atMost: headerSize) {
      write($0)
      return headerSize
    }
  }

  /// A record of this time comes.
  private mutating func prepare(_ timestamp: Timestamp) {
    if count == 0 {
      batch.fill(atMost: RecordBatchHeader.size) { _ in RecordBatchHeader.size }
      baseTimestamp = timestamp
      maxTimestamp = timestamp
    }
    if timestamp > maxTimestamp { maxTimestamp = timestamp }
  }

  private mutating func begin(
    key: UnsafeRawBufferPointer?, value: UnsafeRawBufferPointer?, timestamp: Timestamp, headersSize: Int
  ) {
    prepare(timestamp)
    let delta = timestamp.milliseconds &- baseTimestamp.milliseconds
    let length =
      1 + ByteWriter.varintSize(delta) + ByteWriter.varintSize(Int64(count)) + ByteWriter.fieldSize(key?.count)
      + ByteWriter.fieldSize(value?.count) + headersSize
    batch.varint(Int32(length))
    batch.int8(0)
    batch.varlong(delta)
    batch.varint(count)
    field(key)
    field(value)
    count += 1
  }

  private mutating func field(_ bytes: UnsafeRawBufferPointer?) {
    guard let bytes else { return batch.varint(-1) }
    batch.varint(Int32(bytes.count))
    batch.copy(bytes)
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
    let records = count
    count = 0
    if codec != .none {
      let plain = batch.finishJoined()
      batch = ByteWriter(capacity: 4096)
      let body = try compress(plain[RecordBatchHeader.size..<plain.count])
      batch = ByteWriter(capacity: RecordBatchHeader.size + body.count)
      batch.fill(atMost: RecordBatchHeader.size) { _ in RecordBatchHeader.size }
      body.withBuffer { batch.copy($0) }
    }
    let size = batch.count
    batch.overwrite(RecordBatchHeader.size, at: 0) { header in
      func put<Number: FixedWidthInteger>(_ number: Number, at position: Int) {
        header.storeBytes(of: number.bigEndian, toByteOffset: position, as: Number.self)
      }
      put(Int64(0), at: 0)
      put(Int32(size - RecordBatchHeader.lengthOverhead), at: 8)
      put(Int32(-1), at: 12)
      put(Int8(2), at: 16)
      put(UInt32(0), at: 17)
      put(UInt16(codec.rawValue) | (isTransactional ? 0x10 : 0), at: 21)
      put(records - 1, at: 23)
      put(baseTimestamp.milliseconds, at: 27)
      put(maxTimestamp.milliseconds, at: 35)
      put(producerID, at: 43)
      put(producerEpoch, at: 51)
      put(baseSequence, at: 53)
      put(records, at: 57)
    }
    let crc = batch.checksum(from: 21)
    batch.patchInt32(Int32(bitPattern: crc), at: 17)
    // A small batch would hold on to the whole of the first memory.
    if codec == .none, size <= 2048 { return batch.takeCopy() }
    let bytes = batch.finishJoined()
    batch = ByteWriter(capacity: 4096)
    return bytes
  }

  /// The batch, uncompressed and without a producer id.
  public mutating func finish() -> Bytes {
    finish(compress: { $0 })
  }
}

extension ByteWriter {
  /// Bytes that a zig-zag varint of `value` takes.
  public static func varintSize(_ value: Int64) -> Int {
    let raw = UInt64(bitPattern: (value << 1) ^ (value >> 63))
    return raw == 0 ? 1 : (64 - raw.leadingZeroBitCount + 6) / 7
  }

  /// Bytes that a length-prefixed field takes, nil being null.
  static func fieldSize(_ count: Int?) -> Int {
    guard let count else { return 1 }
    return varintSize(Int64(count)) + count
  }
}
