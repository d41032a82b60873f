// Broker+Offsets: which offset stands for a time, and where leader epochs end.

import MillraceBase
import MillraceCompression
import MillraceLog
import MillraceModel

/// An offset found for a time.
public struct FoundOffset: Equatable, Sendable {
  /// The offset, −1 when none was found.
  public var offset: Offset
  /// The record's time, −1 for the ends of the log.
  public var timestamp: Timestamp
  /// Leader epoch of the record, −1 when unknown.
  public var leaderEpoch: Int32
}

/// What offset is asked for.
public enum OffsetQuery: Equatable, Sendable {
  /// The offset after the last record that a reader of this kind may see.
  case latest
  /// The oldest record.
  case earliest
  /// The record with the largest timestamp.
  case largestTimestamp
  /// The first record at or after a time.
  case time(Timestamp)
  /// An end of what lies in remote storage, which there is none of.
  case remote
}

extension Broker {
  /// Most bytes that one batch may become when its records are looked at.
  static let largestBatch = 64 << 20

  /// Finds an offset.
  /// - Parameter isCommittedOnly: for a reader of committed records, to whom what lies behind the last stable offset does
  ///   not exist.
  public func offset(
    for query: OffsetQuery, in partition: PartitionLog, isCommittedOnly: Bool = false,
    completion: @escaping (Result<FoundOffset, BrokerError>) -> Void
  ) {
    switch query {
    case .latest:
      completion(
        .success(
          FoundOffset(
            offset: isCommittedOnly ? partition.lastStableOffset : partition.highWatermark, timestamp: .none,
            leaderEpoch: leaderEpoch)))
    case .earliest:
      let offset = partition.startOffset
      completion(
        .success(FoundOffset(offset: offset, timestamp: .none, leaderEpoch: partition.epoch(ofOffset: offset))))
    case .remote: completion(.success(FoundOffset(offset: -1, timestamp: .none, leaderEpoch: -1)))
    case .largestTimestamp:
      log.newestBatch(partition) { [self] result in
        completion(find(in: result, partition, isCommittedOnly) { $0.max { $0.timestamp < $1.timestamp } })
      }
    case .time(let time):
      log.firstBatch(partition, notBefore: time) { [self] result in
        completion(find(in: result, partition, isCommittedOnly) { $0.first { $0.timestamp >= time } })
      }
    }
  }

  private func find(
    in result: Result<Bytes?, LogError>, _ partition: PartitionLog, _ isCommittedOnly: Bool,
    _ choose: ([Record]) -> Record?
  ) -> Result<FoundOffset, BrokerError> {
    do {
      guard let batch = try result.get() else {
        return .success(FoundOffset(offset: -1, timestamp: .none, leaderEpoch: -1))
      }
      let records = try Broker.records(of: batch)
      guard let record = choose(records.filter { $0.offset >= partition.startOffset }),
        !isCommittedOnly || record.offset < partition.lastStableOffset
      else {
        return .success(FoundOffset(offset: -1, timestamp: .none, leaderEpoch: -1))
      }
      return .success(
        FoundOffset(
          offset: record.offset, timestamp: record.timestamp, leaderEpoch: partition.epoch(ofOffset: record.offset)))
    } catch let error as LogError {
      return .failure(BrokerError(error))
    } catch {
      return .failure(BrokerError(.corruptBatch, "\(error)"))
    }
  }

  /// The records of a stored batch, decompressed.
  /// - Throws: `.corruptBatch` when they are not what the header says.
  public static func records(of batch: Bytes) throws(BrokerError) -> [Record] {
    do {
      let header = try RecordBatchHeader(batch)
      return try RecordReader.records(try plainRecords(of: batch, header: header), header: header)
    } catch {
      throw BrokerError(.corruptBatch, "\(error)")
    }
  }

  /// The records part of a batch, decompressed.
  /// - Throws: `.corruptBatch` when it cannot be decompressed, or becomes larger than 64 MiB.
  public static func plainRecords(of batch: Bytes, header: RecordBatchHeader) throws(BrokerError) -> Bytes {
    let body = batch[RecordBatchHeader.size..<header.totalSize]
    guard let codec = header.codec, let format = CompressionFormat(rawValue: codec.rawValue) else {
      if header.codec == CompressionCodec.none { return body }
      throw BrokerError(.corruptBatch, "compression codec \(header.attributes & 7)")
    }
    do throws(CompressionError) {
      return try Compression.decompress(body, format: format, limit: largestBatch)
    } catch {
      throw BrokerError(.corruptBatch, "\(error)")
    }
  }
}
