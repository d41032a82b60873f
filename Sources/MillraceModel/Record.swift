// Record: one key, value and headers, read from and written into the records part of a batch.
//
// A record inside a batch: length varint, attributes int8, timestamp delta varlong, offset delta varint,
// key length varint (−1 null) and key, value length varint (−1 null) and value,
// header count varint, then each header: key length varint and key, value length varint (−1 null) and value.
// Source: Kafka protocol, "Record".

import MillraceBase

/// A name and a value carried with a record.
public struct RecordHeader: Equatable, Sendable {
  /// Name.
  public var key: String
  /// Value; nil is distinct from empty.
  public var value: Bytes?

  /// A header.
  public init(_ key: String, _ value: Bytes?) {
    self.key = key
    self.value = value
  }
}

/// One record as a value; key and value share memory with the batch it came from.
public struct Record: Equatable, Sendable {
  /// Position in the partition; meaningless before the record is appended.
  public var offset: Offset
  /// Time in ms.
  public var timestamp: Timestamp
  /// Key; nil is distinct from empty.
  public var key: Bytes?
  /// Value; nil is a tombstone.
  public var value: Bytes?
  /// Headers in order; names may repeat.
  public var headers: [RecordHeader]

  /// A record.
  public init(
    key: Bytes? = nil, value: Bytes?, headers: [RecordHeader] = [], timestamp: Timestamp = .none, offset: Offset = -1
  ) {
    self.key = key
    self.value = value
    self.headers = headers
    self.timestamp = timestamp
    self.offset = offset
  }
}

/// A record's key and value as raw memory, for loops that look at every record.
///
/// Valid only inside the closure that receives it.
public struct RawRecord {
  /// Offset relative to the batch's first record.
  public var offsetDelta: Int32
  /// Timestamp relative to the batch's base, in ms.
  public var timestampDelta: Int64
  /// The key; `baseAddress` is nil for a null key.
  public var key: UnsafeRawBufferPointer
  /// The value; `baseAddress` is nil for a null value.
  public var value: UnsafeRawBufferPointer
  /// What follows the value: the headers as they are encoded, not looked at yet.
  public var headers: UnsafeRawBufferPointer

  @usableFromInline
  init(
    offsetDelta: Int32, timestampDelta: Int64, key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer,
    headers: UnsafeRawBufferPointer
  ) {
    self.offsetDelta = offsetDelta
    self.timestampDelta = timestampDelta
    self.key = key
    self.value = value
    self.headers = headers
  }
}

/// Reads the uncompressed records part of a batch.
public enum RecordReader {
  /// Calls `body` for each of `count` records in `records` without allocating.
  ///
  /// - Parameter records: the bytes after the header, decompressed.
  /// - Throws: `.malformed` when a length runs past the end; what `body` throws is not possible here.
  @inlinable
  public static func forEach(
    in records: UnsafeRawBufferPointer, count: Int, _ body: (RawRecord) -> Void
  ) throws(RecordBatchError) {
    guard count > 0 else { return }
    guard let base = records.baseAddress else { throw RecordBatchError(.malformed, "no bytes for \(count) records") }
    var cursor = VarintCursor(base: base, end: records.count)
    let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
    for _ in 0..<count {
      let length = Int(cursor.next())
      // Compared with what is left, because adding a length from outside could overflow.
      guard !cursor.failed, length > 0, length <= records.count &- cursor.position else {
        throw RecordBatchError(.malformed, "a record of \(length) bytes at byte \(cursor.position) of \(records.count)")
      }
      let end = cursor.position &+ length
      cursor.position &+= 1  // attributes, unused
      let timestampDelta = cursor.next()
      let offsetDelta = Int32(truncatingIfNeeded: cursor.next())
      let keyLength = Int(cursor.next())
      guard !cursor.failed, keyLength >= -1, keyLength <= end &- cursor.position else {
        throw RecordBatchError(.malformed, "a key of \(keyLength) bytes at byte \(cursor.position) of \(records.count)")
      }
      var key = nothing
      if keyLength >= 0 {
        key = UnsafeRawBufferPointer(start: base + cursor.position, count: keyLength)
        cursor.position &+= keyLength
      }
      let valueLength = Int(cursor.next())
      guard !cursor.failed, valueLength >= -1, valueLength <= end &- cursor.position else {
        throw RecordBatchError(
          .malformed, "a value of \(valueLength) bytes at byte \(cursor.position) of \(records.count)")
      }
      var value = nothing
      if valueLength >= 0 {
        value = UnsafeRawBufferPointer(start: base + cursor.position, count: valueLength)
        cursor.position &+= valueLength
      }
      body(
        RawRecord(
          offsetDelta: offsetDelta, timestampDelta: timestampDelta, key: key, value: value,
          headers: UnsafeRawBufferPointer(start: base + cursor.position, count: end &- cursor.position)))
      cursor.position = end
    }
  }

  /// All records of a batch as values.
  /// - Parameters:
  ///   - records: the bytes after the header, decompressed.
  ///   - header: the batch's header.
  /// - Throws: `.malformed` where a length or a count contradicts the bytes.
  public static func records(_ records: Bytes, header: RecordBatchHeader) throws(RecordBatchError) -> [Record] {
    var out: [Record] = []
    var reader = ByteReader(records)
    do throws(DecodingError) {
      out.reserveCapacity(min(Int(header.recordCount), records.count / 7))
      for _ in 0..<header.recordCount {
        let length = Int(try reader.varint())
        var record = ByteReader(try reader.slice(length))
        _ = try record.int8()
        let timestampDelta = try record.varlong()
        let offsetDelta = Int64(try record.varint())
        let key = try nullable(&record)
        let value = try nullable(&record)
        let headers = try headerList(&record)
        out.append(
          Record(
            key: key, value: value, headers: headers,
            timestamp: header.hasLogAppendTime
              ? header.maxTimestamp : Timestamp(milliseconds: header.baseTimestamp.milliseconds &+ timestampDelta),
            offset: header.baseOffset &+ offsetDelta))
      }
    } catch {
      throw RecordBatchError(.malformed, error.description)
    }
    return out
  }

  /// The headers of a record that ``forEach(in:count:_:)`` handed out.
  /// - Parameter headers: ``RawRecord/headers``.
  /// - Returns: nil when the bytes are no headers, or more follow them.
  public static func headers(_ headers: UnsafeRawBufferPointer) -> [RecordHeader]? {
    var reader = ByteReader(Bytes(copying: headers))
    do throws(DecodingError) {
      let found = try headerList(&reader)
      return reader.remaining == 0 ? found : nil
    } catch {
      return nil
    }
  }

  private static func headerList(_ record: inout ByteReader) throws(DecodingError) -> [RecordHeader] {
    let headerCount = Int(try record.varint())
    guard headerCount >= 0, headerCount <= record.remaining else {
      throw DecodingError("\(headerCount) headers in \(record.remaining) bytes", at: record.position)
    }
    var headers: [RecordHeader] = []
    headers.reserveCapacity(headerCount)
    for _ in 0..<headerCount {
      let name = try record.string(Int(try record.varint()))
      headers.append(RecordHeader(name, try nullable(&record)))
    }
    return headers
  }

  private static func nullable(_ reader: inout ByteReader) throws(DecodingError) -> Bytes? {
    let length = Int(try reader.varint())
    if length == -1 { return nil }
    return try reader.slice(length)
  }
}

/// Zig-zag varints over raw memory; `failed` stays set once a number ran past the end.
public struct VarintCursor {
  @usableFromInline let base: UnsafeRawPointer
  @usableFromInline let end: Int
  /// Index of the next byte.
  public var position = 0
  /// A number was cut off or too long.
  public var failed = false

  /// A cursor over `end` bytes at `base`.
  @inlinable
  public init(base: UnsafeRawPointer, end: Int) {
    self.base = base
    self.end = end
  }

  /// The next zig-zag number; 0 when `failed`.
  @inlinable @inline(__always)
  public mutating func next() -> Int64 {
    if position < end {
      let byte = base.load(fromByteOffset: position, as: UInt8.self)
      if byte < 0x80 {
        position &+= 1
        let raw = Int64(byte)
        return (raw >> 1) ^ -(raw & 1)
      }
    }
    return slow()
  }

  @inlinable @inline(never)
  mutating func slow() -> Int64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while position < end, shift < 64 {
      let byte = base.load(fromByteOffset: position, as: UInt8.self)
      position &+= 1
      value |= UInt64(byte & 0x7f) &<< shift
      if byte < 0x80 { return Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1) }
      shift &+= 7
    }
    failed = true
    return 0
  }
}
