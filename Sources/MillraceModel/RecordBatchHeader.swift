// RecordBatchHeader: the fixed part of a record batch (magic 2), checked and patched without looking inside.
//
//   byte  field                 type
//   0     base offset           int64    patched by the log
//   8     length                int32    bytes after this field
//   12    partition leader epoch int32   patched by the log
//   16    magic                 int8     2
//   17    crc                   uint32   CRC-32C of all that follows
//   21    attributes            int16    bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
//   23    last offset delta     int32
//   27    base timestamp        int64
//   35    max timestamp         int64
//   43    producer id           int64
//   51    producer epoch        int16
//   53    base sequence         int32
//   57    record count          int32
//   61    records
//
// All big endian. The CRC leaves out base offset, length and leader epoch, so patching needs no new CRC.
// Source: Kafka protocol, "Record Batch".

import MillraceBase

/// How a batch's records are compressed. Source: Kafka protocol, attributes bits 0–2.
public enum CompressionCodec: UInt8, Sendable, CaseIterable {
  case none = 0
  case gzip = 1
  case snappy = 2
  case lz4 = 3
  case zstd = 4
}

/// What is wrong with a record batch.
public struct RecordBatchError: Error, Equatable, CustomStringConvertible {
  /// The kind of defect.
  public enum Code: Sendable {
    /// Bytes are missing, or a length contradicts another.
    case malformed
    /// The CRC-32C differs.
    case corrupt
    /// Another magic than 2.
    case unsupportedMagic
    /// A codec that does not exist.
    case unsupportedCodec
  }
  /// The kind of defect.
  public let code: Code
  /// The values that contradict each other.
  public let reason: String

  /// An error with its explanation.
  public init(_ code: Code, _ reason: String) {
    self.code = code
    self.reason = reason
  }

  /// Kind and explanation.
  public var description: String { "\(code) record batch: \(reason)" }
}

/// The fixed 61 bytes at the start of a record batch.
public struct RecordBatchHeader: Equatable, Sendable {
  /// Size of the header.
  public static let size = 61
  /// Bytes before the part that `length` counts.
  public static let lengthOverhead = 12

  /// Offset of the first record.
  public var baseOffset: Offset
  /// Size of the whole batch in bytes, the first 12 included.
  public var totalSize: Int
  /// Leader epoch under which the batch was appended; −1 from a producer.
  public var leaderEpoch: Int32
  /// CRC-32C over everything from the attributes on.
  public var crc: UInt32
  /// Codec and flags.
  public var attributes: UInt16
  /// Offset of the last record, relative to the first.
  public var lastOffsetDelta: Int32
  /// Timestamp of the first record, in ms.
  public var baseTimestamp: Timestamp
  /// Largest timestamp, in ms.
  public var maxTimestamp: Timestamp
  /// Producer's id, −1 without idempotence.
  public var producerID: Int64
  /// Producer's epoch.
  public var producerEpoch: Int16
  /// Sequence number of the first record, −1 without idempotence.
  public var baseSequence: Int32
  /// Number of records.
  public var recordCount: Int32

  /// Offset of the last record.
  public var lastOffset: Offset { baseOffset &+ Int64(lastOffsetDelta) }
  /// Offset after the last record.
  public var nextOffset: Offset { lastOffset &+ 1 }
  /// The codec, nil when the number stands for none.
  public var codec: CompressionCodec? { CompressionCodec(rawValue: UInt8(attributes & 7)) }
  /// Part of a transaction.
  public var isTransactional: Bool { attributes & 0x10 != 0 }
  /// Holds a transaction marker instead of records.
  public var isControl: Bool { attributes & 0x20 != 0 }
  /// Timestamps were set by the broker.
  public var hasLogAppendTime: Bool { attributes & 0x08 != 0 }
  /// Sent by an idempotent producer.
  public var isIdempotent: Bool { producerID >= 0 }
  /// Sequence number of the last record; wraps from 2³¹−1 to 0.
  public var lastSequence: Int32 {
    guard baseSequence >= 0 else { return -1 }
    return Int32(truncatingIfNeeded: (Int64(baseSequence) + Int64(lastOffsetDelta)) & 0x7fff_ffff)
  }

  /// Reads the header at the start of `bytes`, without checking the CRC.
  /// - Throws: `.malformed` when 61 bytes are not there or the length is impossible, `.unsupportedMagic`.
  public init(_ bytes: Bytes) throws(RecordBatchError) {
    self = try bytes.withBuffer { buffer throws(RecordBatchError) in try RecordBatchHeader(buffer) }
  }

  /// Reads the header at the start of `buffer`, without checking the CRC.
  public init(_ buffer: UnsafeRawBufferPointer) throws(RecordBatchError) {
    guard buffer.count >= 17 else {
      throw RecordBatchError(.malformed, "\(buffer.count) bytes are too few for a batch")
    }
    func load<T: FixedWidthInteger>(_ at: Int, _: T.Type) -> T {
      T(bigEndian: buffer.loadUnaligned(fromByteOffset: at, as: T.self))
    }
    let magic = load(16, Int8.self)
    guard magic == 2 else { throw RecordBatchError(.unsupportedMagic, "magic \(magic), only 2 is supported") }
    guard buffer.count >= RecordBatchHeader.size else {
      throw RecordBatchError(.malformed, "\(buffer.count) bytes are fewer than the header's \(RecordBatchHeader.size)")
    }
    let length = load(8, Int32.self)
    guard length >= Int32(RecordBatchHeader.size - RecordBatchHeader.lengthOverhead) else {
      throw RecordBatchError(.malformed, "length field is \(length)")
    }
    baseOffset = load(0, Int64.self)
    totalSize = Int(length) + RecordBatchHeader.lengthOverhead
    leaderEpoch = load(12, Int32.self)
    crc = load(17, UInt32.self)
    attributes = load(21, UInt16.self)
    lastOffsetDelta = load(23, Int32.self)
    baseTimestamp = Timestamp(milliseconds: load(27, Int64.self))
    maxTimestamp = Timestamp(milliseconds: load(35, Int64.self))
    producerID = load(43, Int64.self)
    producerEpoch = load(51, Int16.self)
    baseSequence = load(53, Int32.self)
    recordCount = load(57, Int32.self)
  }

  /// Checks a batch from outside: complete, magic 2, CRC right, counts consistent, codec known.
  ///
  /// - Parameters:
  ///   - bytes: starts with the batch; may go on behind it.
  ///   - mayHaveGaps: takes fewer records than offsets, which compaction leaves behind.
  /// - Throws: what is wrong.
  /// - Complexity: O(bytes) for the CRC.
  public static func checked(
    _ bytes: Bytes, mayHaveGaps: Bool = false
  ) throws(RecordBatchError) -> RecordBatchHeader {
    let header = try RecordBatchHeader(bytes)
    guard header.totalSize <= bytes.count else {
      throw RecordBatchError(.malformed, "length says \(header.totalSize) bytes, \(bytes.count) are there")
    }
    let computed = bytes[21..<header.totalSize].crc32c
    guard computed == header.crc else {
      throw RecordBatchError(.corrupt, "CRC-32C is \(hex(computed)), the batch says \(hex(header.crc))")
    }
    guard header.codec != nil else {
      throw RecordBatchError(.unsupportedCodec, "compression codec \(header.attributes & 7)")
    }
    guard header.recordCount >= 1,
      mayHaveGaps ? header.lastOffsetDelta >= header.recordCount - 1 : header.lastOffsetDelta == header.recordCount - 1
    else {
      throw RecordBatchError(
        .malformed, "\(header.recordCount) records with a last offset delta of \(header.lastOffsetDelta)")
    }
    guard header.codec != CompressionCodec.none || header.totalSize - size >= Int(header.recordCount) * 7 else {
      throw RecordBatchError(
        .malformed, "\(header.recordCount) records do not fit into \(header.totalSize - size) bytes")
    }
    return header
  }

  /// From this size on a batch's own CRC is used instead of reading all its bytes once more.
  private static let combiningSize = 16 * 1024

  /// Continues a CRC-32C over a whole batch whose own CRC is known to be right.
  ///
  /// The batch's CRC stands for everything behind it, so that of a large batch only the first 21 bytes are read.
  public static func checksum(ofVerified batch: UnsafeRawBufferPointer, continuing seed: UInt32) -> UInt32 {
    guard batch.count >= combiningSize else { return CRC32C.checksum(batch, continuing: seed) }
    let own = UInt32(bigEndian: batch.loadUnaligned(fromByteOffset: 17, as: UInt32.self))
    let head = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: batch[..<21]), continuing: seed)
    return CRC32C.combined(head, own, secondLength: batch.count - 21)
  }

  /// Writes base offset and leader epoch into a batch; the CRC does not cover them.
  @inlinable
  public static func patch(_ batch: UnsafeMutableRawPointer, baseOffset: Offset, leaderEpoch: Int32) {
    batch.storeBytes(of: baseOffset.bigEndian, as: Int64.self)
    batch.storeBytes(of: leaderEpoch.bigEndian, toByteOffset: 12, as: Int32.self)
  }

  /// Writes the base offset into a batch; the CRC does not cover it.
  @inlinable
  public static func patch(_ batch: UnsafeMutableRawPointer, baseOffset: Offset) {
    batch.storeBytes(of: baseOffset.bigEndian, as: Int64.self)
  }

  private static func hex(_ value: UInt32) -> String { "0x" + String(value, radix: 16) }
}
