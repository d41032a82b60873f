// RecordSender: records into batches, batches to the server: idempotent, several requests under way, acks=all.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel

/// Sends records to one topic.
///
/// Records with the same key go to the same partition, chosen as Kafka's clients choose it; those without a key fill one
/// partition's batch after the other's. A request whose connection is lost is sent again over a new one: its producer id
/// and sequence make the server recognise what it has already.
final class RecordSender {
  private struct Batch {
    let partition: Int32
    let bytes: Bytes
    let records: Int
  }

  private struct Open {
    var builder = RecordBatchBuilder()
    var sequence: Int32 = 0
  }

  private let client: KafkaClient
  private let topic: ClientTopic
  private var producerID: Int64 = -1
  private var producerEpoch: Int16 = -1
  private var open: [Open]
  /// The partition that records without a key go to for now.
  private var current = 0
  private var underWay = Deque<(batch: Batch, pending: KafkaClient.Pending<ProduceRequest>?)>()
  /// Records that the server has acknowledged.
  private(set) var acknowledged = 0

  /// A batch of this size is sent, in bytes.
  private static let batchSize = 256 << 10
  /// Requests under way. Five is what a server remembers of an idempotent producer. Source: Kafka, KIP-98.
  private static let mostUnderWay = 5
  /// How long a lost connection is tried again.
  private let patience: Duration

  /// A sender for a topic; asks the server for a producer id.
  init(_ client: KafkaClient, topic: ClientTopic, patience: Duration = .seconds(30)) throws(ClientError) {
    self.client = client
    self.topic = topic
    self.patience = patience
    guard !topic.partitions.isEmpty else {
      throw ClientError(.malformed, "topic \(topic.name) has no partitions")
    }
    // One by one: copies of a builder would share their memory.
    open = topic.partitions.map { _ in Open() }
    let answer = try client.call(InitProducerIdRequest(transactionalID: nil, transactionTimeoutMilliseconds: 60_000))
    guard answer.errorCode == .none else { throw ClientError.refused(answer.errorCode, "asking for a producer id") }
    producerID = answer.producerID
    producerEpoch = answer.producerEpoch
  }

  /// Adds a record; sends a batch when it is full.
  /// - Parameter partition: nil chooses one by the key.
  func add(_ record: Record, partition: Int32? = nil) throws(ClientError) {
    let index = try index(of: record, partition)
    if open[index].builder.count > 0, open[index].builder.size + RecordSender.size(record) > RecordSender.batchSize {
      try send(index)
    }
    open[index].builder.append(record)
    if open[index].builder.size >= RecordSender.batchSize { try send(index) }
  }

  private func index(of record: Record, _ partition: Int32?) throws(ClientError) -> Int {
    if let partition {
      guard let index = topic.partitions.firstIndex(of: partition) else {
        throw ClientError(
          .refused(.unknownTopicOrPartition),
          "topic \(topic.name) has no partition \(partition), only 0 to \(topic.partitions.count - 1)")
      }
      return index
    }
    guard let key = record.key else { return current }
    return key.withBuffer { Hashing.kafkaPartition(key: $0, partitions: topic.partitions.count) }
  }

  /// Upper bound of what a record adds to a batch.
  private static func size(_ record: Record) -> Int {
    let headers = record.headers.reduce(0) { $0 + $1.key.utf8.count + ($1.value?.count ?? 0) + 10 }
    return 32 + (record.key?.count ?? 0) + (record.value?.count ?? 0) + headers
  }

  private func send(_ index: Int) throws(ClientError) {
    let records = open[index].builder.count
    guard records > 0 else { return }
    let bytes = open[index].builder.finish(
      producerID: producerID, producerEpoch: producerEpoch, baseSequence: open[index].sequence, compress: { $0 })
    // Sequences wrap from 2³¹−1 to 0. Source: Kafka, KIP-98.
    open[index].sequence = Int32((Int64(open[index].sequence) + Int64(records)) & 0x7fff_ffff)
    if index == current { current = (current + 1) % open.count }
    while underWay.count >= RecordSender.mostUnderWay { try settle() }
    underWay.append((Batch(partition: topic.partitions[index], bytes: bytes, records: Int(records)), nil))
    try transmit()
  }

  /// Sends everything and waits until it is acknowledged.
  func flush() throws(ClientError) {
    for index in open.indices { try send(index) }
    while !underWay.isEmpty { try settle() }
  }

  /// Sends what is waiting without waiting for the acknowledgements.
  func push() throws(ClientError) {
    for index in open.indices { try send(index) }
  }

  private func request(_ batch: Batch) -> ProduceRequest {
    ProduceRequest(
      acks: -1, timeoutMilliseconds: Int32(clamping: client.timeout.inMilliseconds),
      topicData: [
        .init(
          name: topic.name, topicID: topic.id, partitionData: [.init(index: batch.partition, records: batch.bytes)])
      ])
  }

  /// Sends what was not sent yet, in order, over a new connection where need be.
  private func transmit() throws(ClientError) {
    try persist { () throws(ClientError) in try transmitOnce() }
  }

  /// Runs `body` until no connection is lost under it, or patience ends; what is under way is sent again.
  private func persist<Value>(_ body: () throws(ClientError) -> Value) throws(ClientError) -> Value {
    let deadline = MonotonicTime.now + patience
    var wait = Duration.milliseconds(20)
    while true {
      do throws(ClientError) {
        return try body()
      } catch {
        guard error.code == .lost || error.code == .unreachable, MonotonicTime.now + wait < deadline else {
          throw error
        }
        // All over again on a fresh connection, where no older answer can be under way.
        client.close()
        for index in 0..<underWay.count { underWay[index].pending = nil }
        SystemClock.sleep(wait)
        wait = min(wait * 2, .seconds(1))
      }
    }
  }

  /// Waits for the oldest request's answer.
  private func settle() throws(ClientError) {
    let answer = try persist { () throws(ClientError) in
      try transmitOnce()
      guard let first = underWay.first, let pending = first.pending else {
        throw ClientError(.lost, "a request was not sent")
      }
      return try client.receive(pending)
    }
    guard let (batch, _) = underWay.popFirst() else { preconditionFailure("an answer without a request") }
    guard let result = answer.responses.flatMap(\.partitionResponses).first else {
      throw ClientError(.malformed, "the answer names no partition")
    }
    guard result.errorCode == .none || result.errorCode == .duplicateSequenceNumber else {
      throw ClientError.refused(
        result.errorCode, "\(batch.records) records for \(topic.name)-\(batch.partition)", result.errorMessage)
    }
    acknowledged += batch.records
  }

  private func transmitOnce() throws(ClientError) {
    for index in 0..<underWay.count where underWay[index].pending == nil {
      underWay[index].pending = try client.send(request(underWay[index].batch))
    }
  }
}
