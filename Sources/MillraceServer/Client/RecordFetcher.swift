// RecordFetcher: reads partitions from given offsets on: fetches, checks, decompresses, and keeps the positions.

import MillraceBase
import MillraceCompression
import MillraceKafkaProtocol
import MillraceModel

/// A record with the place it came from.
struct FetchedRecord {
  let partition: TopicPartition
  let record: Record
}

/// Reads some partitions of some topics, from a position in each.
final class RecordFetcher {
  private let client: KafkaClient
  /// Whether records of transactions in progress, and of aborted ones, are left out.
  private let isCommittedOnly: Bool
  private var topics: [String: ClientTopic] = [:]
  /// The next offset to read in each partition.
  private(set) var positions: [TopicPartition: Offset] = [:]
  /// The partition whose records come first in the next answer.
  private var turn = 0

  /// Most bytes of one answer, and of one partition in it.
  private static let answerSize: Int32 = 8 << 20
  private static let partitionSize: Int32 = 1 << 20
  /// Most bytes that one batch may become when decompressed.
  private static let largestBatch = 64 << 20

  /// A fetcher without partitions.
  init(_ client: KafkaClient, isCommittedOnly: Bool = true) {
    self.client = client
    self.isCommittedOnly = isCommittedOnly
  }

  /// Reads these partitions from now on and no others.
  func assign(_ positions: [TopicPartition: Offset], of topics: [ClientTopic]) {
    self.positions = positions
    self.topics = Dictionary(topics.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
  }

  /// Continues a partition elsewhere.
  func seek(_ partition: TopicPartition, to offset: Offset) { positions[partition] = offset }

  /// What came of a fetch.
  struct Fetched {
    /// In the order of their offsets within each partition.
    var records: [FetchedRecord] = []
    /// Partitions whose position the server does not have (any more).
    var outOfRange: [TopicPartition] = []
    /// The offsets behind all batches that came, also behind those without records for readers.
    var ends: [TopicPartition: Offset] = [:]
  }

  /// Waits at most `wait` for records. Positions do not change: ``took(_:)`` and ``tookAll(of:)`` move them.
  func fetch(wait: Duration) throws(ClientError) -> Fetched {
    let wanted = positions.keys.sorted { ($0.topic, $0.partition) < ($1.topic, $1.partition) }
    guard !wanted.isEmpty else {
      SystemClock.sleep(wait)
      return Fetched()
    }
    turn = (turn + 1) % wanted.count
    let answer = try client.call(request(Array(wanted[turn...] + wanted[..<turn]), wait), extra: wait)
    guard answer.errorCode == .none else { throw ClientError.refused(answer.errorCode, "fetching records") }
    let names = Dictionary(topics.values.map { ($0.id, $0.name) }, uniquingKeysWith: { first, _ in first })
    var fetched = Fetched()
    for response in answer.responses {
      let name = response.topic.isEmpty ? names[response.topicID] ?? "" : response.topic
      for data in response.partitions {
        let partition = TopicPartition(name, data.partitionIndex)
        guard let position = positions[partition] else { continue }
        switch data.errorCode {
        case .none:
          let aborted = (data.abortedTransactions ?? []).map { ($0.producerID, $0.firstOffset) }
          let (records, end) = try RecordFetcher.records(
            data.records, of: partition, from: position, aborted: aborted)
          fetched.records += records
          fetched.ends[partition] = end
        case .offsetOutOfRange: fetched.outOfRange.append(partition)
        case .unknownTopicOrPartition, .unknownTopicID:
          throw ClientError(.refused(data.errorCode), "\(partition) does not exist (any more)")
        default: throw ClientError.refused(data.errorCode, "fetching \(partition)")
        }
      }
    }
    return fetched
  }

  /// A record was handed on: its partition goes on behind it.
  func took(_ record: FetchedRecord) { positions[record.partition] = record.record.offset + 1 }

  /// All records of a fetch were handed on: its partitions go on behind its batches.
  func tookAll(of fetched: Fetched) {
    for (partition, end) in fetched.ends where end > positions[partition] ?? .max { positions[partition] = end }
  }

  private func request(_ wanted: [TopicPartition], _ wait: Duration) -> FetchRequest {
    var list: [FetchRequest.FetchTopic] = []
    for partition in wanted {
      if list.last?.topic != partition.topic {
        list.append(.init(topic: partition.topic, topicID: topics[partition.topic]?.id ?? .zero))
      }
      list[list.count - 1].partitions.append(
        .init(
          partition: partition.partition, fetchOffset: positions[partition] ?? 0,
          partitionMaxBytes: RecordFetcher.partitionSize))
    }
    return FetchRequest(
      maxWaitMilliseconds: Int32(clamping: wait.inMilliseconds), minBytes: 1, maxBytes: RecordFetcher.answerSize,
      isolationLevel: isCommittedOnly ? 1 : 0, topics: list)
  }

  /// The records at or behind `position` in batches that stand one behind the other, of which the last may be cut off;
  /// and the offset behind the whole ones.
  /// - Parameter aborted: producers and first offsets of transactions whose records are void, up to their abort markers.
  static func records(
    _ pieces: [Bytes], of partition: TopicPartition, from position: Offset,
    aborted: [(producer: Int64, first: Offset)] = []
  ) throws(ClientError) -> (records: [FetchedRecord], end: Offset) {
    var all = ByteWriter(capacity: 64)
    for piece in pieces { all.append(piece) }
    let bytes = all.finishJoined()
    var out: [FetchedRecord] = []
    var end = position
    var void = VoidTransactions(aborted)
    var at = 0
    while bytes.count - at >= RecordBatchHeader.size {
      let rest = bytes[at..<bytes.count]
      do throws(RecordBatchError) {
        let size = try RecordBatchHeader(rest).totalSize
        if size > rest.count { break }
        let header = try RecordBatchHeader.checked(rest, mayHaveGaps: true)
        at += size
        end = max(end, header.nextOffset)
        if !(try void.letSee(rest[0..<size], header)) || header.nextOffset <= position { continue }
        let records = try RecordReader.records(try plain(rest[0..<size], header), header: header)
        for record in records where record.offset >= position {
          out.append(FetchedRecord(partition: partition, record: record))
        }
      } catch {
        throw ClientError(.malformed, "\(partition) behind offset \(position): \(error)")
      }
    }
    return (out, end)
  }

  private static func plain(_ batch: Bytes, _ header: RecordBatchHeader) throws(RecordBatchError) -> Bytes {
    let body = batch[RecordBatchHeader.size..<batch.count]
    guard let codec = header.codec, let format = CompressionFormat(rawValue: codec.rawValue) else { return body }
    do throws(CompressionError) {
      return try Compression.decompress(body, format: format, limit: largestBatch)
    } catch {
      throw RecordBatchError(.corrupt, error.description)
    }
  }
}

/// Tells the batches of aborted transactions from others, batch after batch, by what a server told of them.
///
/// A producer's transaction is void from its first offset to its abort marker. Source: Kafka protocol, Fetch,
/// `AbortedTransactions`.
private struct VoidTransactions {
  private var waiting: [(producer: Int64, first: Offset)]
  private var current: Set<Int64> = []

  init(_ aborted: [(producer: Int64, first: Offset)]) {
    // The next one to begin stands last.
    waiting = aborted.sorted { $0.first > $1.first }
  }

  /// Whether the records of the next batch are for readers.
  mutating func letSee(_ batch: Bytes, _ header: RecordBatchHeader) throws(RecordBatchError) -> Bool {
    while let next = waiting.last, next.first <= header.lastOffset {
      current.insert(next.producer)
      waiting.removeLast()
    }
    if header.isControl {
      if try !TransactionMarker(batch, header: header).isCommit { current.remove(header.producerID) }
      return false
    }
    return !(header.isTransactional && current.contains(header.producerID))
  }
}
