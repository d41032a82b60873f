// EmbeddedBroker+Produce: records into topics, one hop to the broker's thread for all batches of a call.

import MillraceBase
import MillraceBroker
import MillraceCompression
import MillraceModel

/// Where a record stands in its topic.
public struct RecordPosition: Hashable, Sendable {
  /// Partition.
  public let partition: Int32
  /// Offset in the partition.
  public let offset: Offset

  /// A place.
  public init(partition: Int32, offset: Offset) {
    self.partition = partition
    self.offset = offset
  }
}

/// A batch on its way into a partition, and which of the caller's records it holds.
struct OutgoingBatch: Sendable {
  var partition: Int32
  var bytes: Bytes
  var records: [Int]
}

extension EmbeddedBroker {
  /// Batches of one call are closed at this size at the latest, or at the topic's limit.
  static let batchSize = 512 << 10

  /// Appends records to a topic; all of them are durable on return.
  ///
  /// Records of one partition keep their order; other producers' records may come between two batches of 512 KiB.
  /// - Parameters:
  ///   - records: their offsets do not matter; those without a time get the current one.
  ///   - topic: made when it is missing and `auto.create.topics.enable` allows it.
  ///   - partition: for all of them; nil lets each record's key decide, as Kafka's default partitioner does. Those
  ///     without a key go to one partition together, another one with each call.
  ///   - codec: how batches are compressed.
  /// - Returns: where each record stands, in the order of `records`.
  /// - Throws: `.unknownTopic`, `.messageTooLarge`, `.invalidArgument`, `.storage`, `.closed`. Then some of the records
  ///   may have been appended, but of each partition only the first ones.
  @discardableResult
  public func produce(
    _ records: [Record], to topic: String, partition: Int32? = nil, codec: CompressionCodec = .none
  ) async throws(MillraceError) -> [RecordPosition] {
    guard !records.isEmpty else { return [] }
    do throws(MillraceError) {
      return try await produce(records, topic, partition, codec, try await route(to: topic))
    } catch {
      // The topic was deleted, and maybe made again, since it was last looked up: nothing was appended.
      guard error.code == .unknownTopic, routes.withLock({ $0.removeValue(forKey: topic) }) != nil else { throw error }
      return try await produce(records, topic, partition, codec, try await route(to: topic))
    }
  }

  private func produce(
    _ records: [Record], _ topic: String, _ partition: Int32?, _ codec: CompressionCodec, _ route: TopicRoute
  ) async throws(MillraceError) -> [RecordPosition] {
    let batches = try EmbeddedBroker.batches(of: records, partition, codec, route)
    let appended = try await append(batches, to: topic, route)
    var positions = [RecordPosition](repeating: RecordPosition(partition: -1, offset: -1), count: records.count)
    for (batch, base) in zip(batches, appended) {
      for (step, index) in batch.records.enumerated() {
        positions[index] = RecordPosition(partition: batch.partition, offset: base + Int64(step))
      }
    }
    return positions
  }

  /// Records as batches, each for one partition.
  static func batches(
    of records: [Record], _ partition: Int32?, _ codec: CompressionCodec, _ route: TopicRoute
  ) throws(MillraceError) -> [OutgoingBatch] {
    if let partition { try check(partition, route) }
    let keyless = Int32.random(in: 0..<Int32(route.partitions))
    let now = Timestamp.now
    var open: [Int32: (builder: RecordBatchBuilder, records: [Int])] = [:]
    var batches: [OutgoingBatch] = []
    for (index, record) in records.enumerated() {
      let target = partition ?? record.key.map { partitionOf($0, route) } ?? keyless
      var held = open.removeValue(forKey: target) ?? (RecordBatchBuilder(), [])
      // A record's head takes 30 bytes at most, apart from its headers' lengths.
      if held.builder.count > 0, held.builder.size + sizeBound(record) > min(batchSize, route.largestBatch) {
        batches.append(OutgoingBatch(partition: target, bytes: try seal(&held.builder, codec), records: held.records))
        held.records = []
      }
      var record = record
      if record.timestamp == .none { record.timestamp = now }
      held.builder.append(record)
      held.records.append(index)
      open[target] = held
    }
    for (target, held) in open.sorted(by: { $0.key < $1.key }) {
      var builder = held.builder
      batches.append(OutgoingBatch(partition: target, bytes: try seal(&builder, codec), records: held.records))
    }
    return batches
  }

  static func check(_ partition: Int32, _ route: TopicRoute) throws(MillraceError) {
    guard partition >= 0, partition < route.partitions else {
      throw MillraceError(
        .invalidArgument, "partition \(partition); the topic has \(route.partitions), counted from 0")
    }
  }

  static func partitionOf(_ key: Bytes, _ route: TopicRoute) -> Int32 {
    key.withBuffer { Int32(Hashing.kafkaPartition(key: $0, partitions: route.partitions)) }
  }

  /// At least the bytes that the record adds to a batch.
  static func sizeBound(_ record: Record) -> Int {
    record.headers.reduce(40 + (record.key?.count ?? 0) + (record.value?.count ?? 0)) { size, header in
      size + 10 + header.key.utf8.count + (header.value?.count ?? 0)
    }
  }

  static func seal(_ builder: inout RecordBatchBuilder, _ codec: CompressionCodec) throws(MillraceError) -> Bytes {
    guard let format = CompressionFormat(rawValue: codec.rawValue) else { return builder.finish() }
    do throws(CompressionError) {
      return try builder.finish(codec: codec) { plain throws(CompressionError) in
        try Compression.compress(plain, format: format)
      }
    } catch {
      throw MillraceError(.invalidArgument, error.description)
    }
  }

  /// Appends batches and waits until they are durable.
  /// - Returns: the offset of each batch's first record.
  private func append(
    _ batches: [OutgoingBatch], to topic: String, _ route: TopicRoute
  ) async throws(MillraceError) -> [Offset] {
    try await ask { broker, answer in
      let append = PendingAppend(count: batches.count, answer)
      for (index, batch) in batches.enumerated() where append.failure == nil {
        guard let found = broker.topic(topic), found.id == route.id else {
          append.end(index, .failure(.unknown(topic)))
          continue
        }
        broker.produce(found, batch.partition, records: batch.bytes) { result in
          append.end(index, result.map(\.baseOffset).mapError { MillraceError($0) })
        }
      }
    }
  }
}

/// The batches of one call that are not durable yet. Belongs to the reactor.
private final class PendingAppend {
  private var offsets: [Offset]
  private var left: Int
  private let answer: Answer<[Offset]>
  private(set) var failure: MillraceError?

  init(count: Int, _ answer: Answer<[Offset]>) {
    offsets = [Offset](repeating: -1, count: count)
    left = count
    self.answer = answer
  }

  func end(_ index: Int, _ result: Result<Offset, MillraceError>) {
    left -= 1
    switch result {
    case .success(let offset): offsets[index] = offset
    case .failure(let error):
      if failure == nil { failure = error }
      answer.give(.failure(error))
    }
    if left == 0, failure == nil { answer.give(.success(offsets)) }
  }
}
