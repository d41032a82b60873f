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
    var bytes = records
    var header: RecordBatchHeader
    do throws(BrokerError) {
      header = try check(bytes, for: topic)
    } catch {
      return completion(.failure(error))
    }
    guard !topic.isInternal else {
      return completion(.failure(BrokerError(.invalidTopic, "topic \(topic.name) is internal")))
    }
    guard let partition = partition(topic, index) else {
      return completion(
        .failure(BrokerError(.unknownTopicOrPartition, "topic \(topic.name) has no partition \(index)")))
    }
    if topic.configs["message.timestamp.type"] == "LogAppendTime" {
      (bytes, header) = Broker.stamped(bytes, header, with: reactor.wallClock)
    }
    guard header.isTransactional else { return append(bytes, header, to: partition, completion: completion) }
    guard let transaction else {
      return completion(
        .failure(BrokerError(.invalidTransactionState, "a transactional batch came without a transactional id")))
    }
    transactions.append(
      bytes, header, to: partition, TopicPartition(topic.name, index), transaction, completion: completion)
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
    let block: Int64 = 1000
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
