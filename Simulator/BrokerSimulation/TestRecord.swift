// TestRecord: records whose values say who sent them and prove that they are intact.
//
// A value is: magic uint32, producer uint32, number uint64, partition code uint64, then filler bytes that follow from all
// of these. So a reader recognises a record, and any changed byte, without knowing what was sent.

import MillraceBase
import MillraceCompression
import MillraceModel

/// Makes and reads values.
enum TestRecord {
  private static let magic: UInt32 = 0x7265_6331
  private static let fixedSize = 24

  /// A number that stands for a partition.
  static func code(_ partition: TopicPartition) -> UInt64 {
    let bytes = Bytes(partition.topic)
    return bytes.withBuffer { Hashing.stable($0) } &+ UInt64(partition.partition)
  }

  private static func filler(_ name: RecordName, _ code: UInt64, _ index: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: (UInt64(name.number) &* 31 &+ UInt64(name.producer) &* 7 &+ code) &+ UInt64(index) &* 13)
  }

  /// A value of about `size` bytes.
  static func value(_ name: RecordName, _ partition: TopicPartition, size: Int) -> Bytes {
    let code = code(partition)
    var writer = ByteWriter(capacity: size + fixedSize)
    writer.uint32(magic)
    writer.uint32(UInt32(name.producer))
    writer.uint64(UInt64(name.number))
    writer.uint64(code)
    for index in 0..<max(0, size - fixedSize) { writer.uint8(filler(name, code, index)) }
    return writer.finishJoined()
  }

  /// Who sent the value; nil when it is not what was sent to this partition.
  static func name(_ value: Bytes, in partition: TopicPartition) -> RecordName? {
    var reader = ByteReader(value)
    do throws(DecodingError) {
      guard try reader.uint32() == magic else { return nil }
      let name = RecordName(producer: Int(try reader.uint32()), number: Int(truncatingIfNeeded: try reader.uint64()))
      let code = code(partition)
      guard try reader.uint64() == code else { return nil }
      let rest = value[reader.position..<value.count]
      let isIntact = rest.withBuffer { buffer in
        buffer.indices.allSatisfy { buffer[$0] == filler(name, code, $0) }
      }
      return isIntact ? name : nil
    } catch {
      return nil
    }
  }

  /// Who sent the value, to whatever partition; nil when it is no value of this kind.
  static func anyName(_ value: Bytes) -> RecordName? {
    var reader = ByteReader(value)
    do throws(DecodingError) {
      guard try reader.uint32() == magic else { return nil }
      return RecordName(producer: Int(try reader.uint32()), number: Int(truncatingIfNeeded: try reader.uint64()))
    } catch {
      return nil
    }
  }
}

extension TestRecord {
  /// The names of all records of fetched batches, in order, with their offsets.
  /// - Throws: what is wrong, in words.
  static func names(
    _ records: [Bytes], in partition: TopicPartition
  ) throws(RecordProblem) -> [(offset: Offset, name: RecordName)] {
    var out: [(Offset, RecordName)] = []
    try forEachBatch(records, in: partition) { header, body throws(RecordProblem) in
      out += try names(of: body, header, in: partition)
    }
    return out
  }

  /// Calls `body` with each whole batch that was fetched: its header and its records part as it is.
  /// - Throws: what is wrong, in words, and what `body` throws.
  static func forEachBatch(
    _ records: [Bytes], in partition: TopicPartition, mayHaveGaps: Bool = false,
    _ body: (RecordBatchHeader, Bytes) throws(RecordProblem) -> Void
  ) throws(RecordProblem) {
    var writer = ByteWriter()
    for piece in records { writer.append(piece) }
    let all = writer.finishJoined()
    var at = 0
    while at < all.count {
      let header: RecordBatchHeader
      do throws(RecordBatchError) {
        header = try RecordBatchHeader.checked(all[at..<all.count], mayHaveGaps: mayHaveGaps)
      } catch {
        throw RecordProblem(text: "\(partition): a batch that was fetched is wrong at byte \(at): \(error)")
      }
      try body(header, all[(at + RecordBatchHeader.size)..<(at + header.totalSize)])
      at += header.totalSize
    }
  }

  /// The names of a batch's records.
  static func names(
    of body: Bytes, _ header: RecordBatchHeader, in partition: TopicPartition
  ) throws(RecordProblem) -> [(offset: Offset, name: RecordName)] {
    do throws(RecordBatchError) {
      var out: [(Offset, RecordName)] = []
      for record in try RecordReader.records(try plain(body, header), header: header) {
        guard let value = record.value, let name = name(value, in: partition) else {
          throw RecordBatchError(.corrupt, "the value at offset \(record.offset) was never sent")
        }
        out.append((record.offset, name))
      }
      return out
    } catch {
      throw RecordProblem(text: "\(partition): the batch at offset \(header.baseOffset) is wrong: \(error)")
    }
  }

  /// The records part of a batch, decompressed.
  static func plain(_ body: Bytes, _ header: RecordBatchHeader) throws(RecordBatchError) -> Bytes {
    guard let codec = header.codec, let format = CompressionFormat(rawValue: codec.rawValue) else { return body }
    do throws(CompressionError) {
      return try Compression.decompress(body, format: format, limit: 1 << 20)
    } catch {
      throw RecordBatchError(.corrupt, "\(error)")
    }
  }
}

// MARK: Records with keys

extension TestRecord {
  private static let nameHeader = "name"

  /// A record with a key; a header says whose it is, also where there is no value.
  static func keyed(_ record: KeyedRecord, _ partition: TopicPartition, size: Int) -> Record {
    Record(
      key: Bytes("key-\(record.key)"), value: record.isTombstone ? nil : value(record.name, partition, size: size),
      headers: [RecordHeader(nameHeader, Bytes(record.name.description))],
      timestamp: Timestamp(milliseconds: record.timestamp))
  }

  /// The records with keys of a batch.
  static func keyed(
    _ body: Bytes, _ header: RecordBatchHeader, in partition: TopicPartition
  ) throws(RecordProblem) -> [(offset: Offset, record: KeyedRecord)] {
    do throws(RecordBatchError) {
      var out: [(Offset, KeyedRecord)] = []
      for record in try RecordReader.records(try plain(body, header), header: header) {
        let words = (record.headers.first?.value?.text ?? "").split(separator: "/").compactMap { Int($0) }
        guard words.count == 2, let text = record.key?.text, let key = Int(text.dropFirst(4)) else {
          throw RecordBatchError(.corrupt, "the record at offset \(record.offset) was never sent")
        }
        let name = RecordName(producer: words[0], number: words[1])
        if let value = record.value, self.name(value, in: partition) != name {
          throw RecordBatchError(.corrupt, "the value at offset \(record.offset) is not that of record \(name)")
        }
        out.append(
          (
            record.offset,
            KeyedRecord(
              key: key, name: name, isTombstone: record.value == nil, timestamp: record.timestamp.milliseconds)
          ))
      }
      return out
    } catch {
      throw RecordProblem(text: "\(partition): the batch at offset \(header.baseOffset) is wrong: \(error)")
    }
  }
}

/// What is wrong with fetched records.
struct RecordProblem: Error {
  let text: String
}
