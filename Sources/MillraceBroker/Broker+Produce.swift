// Broker+Produce: record batches from producers into partitions.

import MillraceBase
import MillraceLog
import MillraceMetadata
import MillraceModel

/// Records and bytes that passed through a partition since the start.
public struct PartitionTraffic: Sendable {
  /// Records appended.
  public var recordsIn: UInt64 = 0
  /// Bytes of batches appended.
  public var bytesIn: UInt64 = 0
  /// Bytes of batches handed to readers.
  public var bytesOut: UInt64 = 0
}

extension Broker {
  /// Appends one record batch as a producer sent it.
  ///
  /// `completion` follows once the batch is durable, or with the reason why it was not appended.
  /// - Parameters:
  ///   - records: exactly one batch, magic 2, at most the topic's `max.message.bytes`.
  ///   - transaction: who writes, when the batch is transactional.
  /// - Errors: `.corruptBatch`, `.invalidRecord`, `.unsupportedBatchFormat`, `.unsupportedCompression`,
  ///   `.messageTooLarge`, `.outOfOrderSequence`, `.invalidProducerEpoch`, `.invalidProducerMapping`,
  ///   `.invalidTransactionState`, `.unknownTopicOrPartition`, `.storage`, `.stopped`.
  public func produce(
    _ topic: TopicMetadata, _ index: Int32, records: Bytes, transaction: TransactionalWrite? = nil,
    completion: @escaping (Result<AppendedBatch, BrokerError>) -> Void
  ) {
    let partition: PartitionLog
    let bytes: Bytes
    let header: RecordBatchHeader
    do throws(BrokerError) {
      (partition, bytes, header) = try prepare(topic, index, records)
    } catch {
      return completion(.failure(error))
    }
    guard header.isTransactional else { return append(bytes, header, to: partition, completion: completion) }
    guard let transaction else {
      return completion(
        .failure(BrokerError(.invalidTransactionState, "a transactional batch came without a transactional id")))
    }
    transactions.append(
      bytes, header, to: partition, TopicPartition(topic.name, index), transaction, completion: completion)
  }

  /// Checks a batch from outside and finds its partition; stamps it when the topic wants the broker's time.
  func prepare(
    _ topic: TopicMetadata, _ index: Int32, _ records: Bytes
  ) throws(BrokerError) -> (log: PartitionLog, bytes: Bytes, header: RecordBatchHeader) {
    let header = try check(records, for: topic)
    guard !topic.isInternal else { throw BrokerError(.invalidTopic, "topic \(topic.name) is internal") }
    guard let partition = partition(topic, index) else {
      throw BrokerError(.unknownTopicOrPartition, "topic \(topic.name) has no partition \(index)")
    }
    guard !topic.configs.isEmpty else { return (partition, records, header) }
    let isStamped = topic.configs["message.timestamp.type"] == "LogAppendTime"
    let (bytes, next) = isStamped ? Broker.stamped(records, header, with: reactor.wallClock) : (records, header)
    try checkRules(bytes, next, for: topic)
    return (partition, bytes, next)
  }

  /// Checks what only some topics ask of their records.
  private func checkRules(_ bytes: Bytes, _ header: RecordBatchHeader, for topic: TopicMetadata) throws(BrokerError) {
    let now = reactor.wallClock.milliseconds
    if let limit = topic.configs["message.timestamp.after.max.ms"].flatMap({ Int64($0) }),
      header.maxTimestamp.milliseconds > now, header.maxTimestamp.milliseconds - now > limit
    {
      throw BrokerError(
        .invalidTimestamp,
        "a record's time is \(header.maxTimestamp.milliseconds - now) ms ahead; topic \(topic.name) takes \(limit) ms")
    }
    if let limit = topic.configs["message.timestamp.before.max.ms"].flatMap({ Int64($0) }), !header.hasLogAppendTime,
      header.baseTimestamp.milliseconds < now - limit.clamped(to: 0...Int64.max / 2)
    {
      throw BrokerError(
        .invalidTimestamp,
        "a record's time is \(now - header.baseTimestamp.milliseconds) ms ago; topic \(topic.name) takes \(limit) ms")
    }
    guard topic.isCompacted, !header.isControl else { return }
    let keyless: Int32?
    do throws(RecordBatchError) {
      keyless = try RecordKeys.firstWithoutKey(in: bytes, header)
    } catch {
      throw BrokerError(.corruptBatch, error.reason)
    }
    if let keyless {
      throw BrokerError(
        .invalidRecord, "record \(keyless) of the batch has no key; topic \(topic.name) is compacted by keys")
    }
  }

  /// Appends one checked batch.
  func append(
    _ bytes: Bytes, _ header: RecordBatchHeader, to partition: PartitionLog,
    completion: @escaping (Result<AppendedBatch, BrokerError>) -> Void
  ) {
    log.append(AppendUnit(partition, bytes, header)) { [self] result in
      switch result {
      case .success(let appended):
        if !appended[0].isDuplicate { count(partition, header) }
        completion(.success(appended[0]))
      case .failure(let error): completion(.failure(BrokerError(error)))
      }
    }
  }

  func count(_ partition: PartitionLog, _ header: RecordBatchHeader) {
    traffic[partition.id, default: PartitionTraffic()].recordsIn += UInt64(header.recordCount)
    traffic[partition.id, default: PartitionTraffic()].bytesIn += UInt64(header.totalSize)
  }

  private func check(_ bytes: Bytes, for topic: TopicMetadata) throws(BrokerError) -> RecordBatchHeader {
    let limit = topic.configs["max.message.bytes"].flatMap { Int($0) } ?? settings.largestMessage
    guard bytes.count <= limit else {
      throw BrokerError(
        .messageTooLarge, "a batch of \(bytes.count) bytes; topic \(topic.name) takes \(limit) at most")
    }
    let header: RecordBatchHeader
    do throws(RecordBatchError) {
      header = try RecordBatchHeader.checked(bytes)
    } catch {
      let code: BrokerError.Code =
        switch error.code {
        case .malformed, .corrupt: .corruptBatch
        case .unsupportedMagic: .unsupportedBatchFormat
        case .unsupportedCodec: .unsupportedCompression
        }
      throw BrokerError(code, error.reason)
    }
    guard header.totalSize == bytes.count else {
      throw BrokerError(
        .invalidRecord, "\(bytes.count - header.totalSize) bytes behind the batch; one batch per partition is allowed")
    }
    guard !header.isControl else { throw BrokerError(.invalidRecord, "control batches are the broker's own") }
    guard header.isIdempotent || !header.isTransactional else {
      throw BrokerError(.invalidRecord, "a transactional batch without a producer id")
    }
    guard !header.isIdempotent || (header.baseSequence >= 0 && header.producerEpoch >= 0) else {
      throw BrokerError(
        .invalidRecord,
        "producer id \(header.producerID) with sequence \(header.baseSequence), epoch \(header.producerEpoch)")
    }
    return header
  }

  /// The batch with the broker's time as every record's time.
  static func stamped(
    _ bytes: Bytes, _ header: RecordBatchHeader, with time: Timestamp
  ) -> (Bytes, RecordBatchHeader) {
    let copy = Chunk(capacity: bytes.count)
    bytes.withBuffer { from in
      if let base = from.baseAddress { copy.base.copyMemory(from: base, byteCount: from.count) }
    }
    var next = header
    next.attributes |= 0x08
    next.maxTimestamp = time
    copy.base.storeBytes(of: next.attributes.bigEndian, toByteOffset: 21, as: UInt16.self)
    copy.base.storeBytes(of: time.milliseconds.bigEndian, toByteOffset: 35, as: Int64.self)
    next.crc = CRC32C.checksum(UnsafeRawBufferPointer(start: copy.base + 21, count: bytes.count - 21))
    copy.base.storeBytes(of: next.crc.bigEndian, toByteOffset: 17, as: UInt32.self)
    return (copy.bytes(0..<bytes.count), next)
  }

  // MARK: Producer ids

  /// Gives out a producer id that was never given before, with epoch 0.
  public func newProducerID(completion: @escaping (Result<Int64, BrokerError>) -> Void) {
    if let id = producerIDs.first {
      producerIDs = (id + 1)..<producerIDs.upperBound
      return completion(.success(id))
    }
    waitingForProducerIDs.append(completion)
    guard waitingForProducerIDs.count == 1 else { return }
    let first = metadata.reservedProducerIDs
    let block = Metadata.producerIDBlock
    record(.producerIDsReserved(next: first + block)) { [self] error in
      let waiting = waitingForProducerIDs
      waitingForProducerIDs = []
      if let error {
        for completion in waiting { completion(.failure(error)) }
      } else {
        producerIDs = first..<(first + block)
        for completion in waiting { newProducerID(completion: completion) }
      }
    }
  }
}

extension Int64 {
  /// The nearest number within `range`.
  fileprivate func clamped(to range: ClosedRange<Int64>) -> Int64 {
    Swift.min(Swift.max(self, range.lowerBound), range.upperBound)
  }
}
