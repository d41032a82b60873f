// Transaction: records for any number of topics, and a group's positions, durable and visible together or not at all.

import MillraceBase
import MillraceBroker
import MillraceModel

/// What ``EmbeddedBroker/commit(_:)`` makes durable in one commit.
///
/// It is only a list until then: nothing of it exists before, and dropping it undoes it. All of it may take 32 MiB.
public struct Transaction: Sendable {
  struct Part: Sendable {
    var topic: String
    var records: [Record]
    var partition: Int32?
  }

  private(set) var parts: [Part] = []
  private(set) var positions: [String: [TopicPartition: Offset]] = [:]

  /// Nothing yet.
  public init() {}

  /// Adds records for a topic; as in ``EmbeddedBroker/produce(_:to:partition:codec:)``.
  public mutating func produce(_ records: [Record], to topic: String, partition: Int32? = nil) {
    if !records.isEmpty { parts.append(Part(topic: topic, records: records, partition: partition)) }
  }

  /// Adds that a group is done with the records, and all before them in their partitions.
  public mutating func commit(_ records: [ConsumedRecord], group: String) {
    for record in records {
      let place = TopicPartition(record.topic, record.partition)
      let next = Swift.max(positions[group]?[place] ?? 0, record.offset + 1)
      positions[group, default: [:]][place] = next
    }
  }
}

extension EmbeddedBroker {
  /// Makes all of a transaction durable, or nothing; on return it is durable, and every reader sees it.
  ///
  /// A group's positions may be in it as long as the group has no members: its consumers name their partitions. Consume,
  /// transform and produce with this, and no record is lost or done twice, through any crash:
  /// ```swift
  /// for try await record in broker.consume("orders", partitions: [0], group: "billing") {
  ///   var transaction = Transaction()
  ///   transaction.produce([bill(record)], to: "bills")
  ///   transaction.commit([record], group: "billing")
  ///   try await broker.commit(transaction)
  /// }
  /// ```
  /// - Parameter codec: how batches are compressed.
  /// - Throws: `.unknownTopic`, `.messageTooLarge` (a record, or all of it beyond 32 MiB), `.invalidArgument`,
  ///   `.groupInUse` when a group has members, `.storage`, `.closed`. Then nothing of it was appended,
  ///   save after `.storage` or `.closed`, when only the next start tells; but never a part of it.
  public func commit(_ transaction: Transaction, codec: CompressionCodec = .none) async throws(MillraceError) {
    var batches: [JobStep.Output] = []
    for part in transaction.parts {
      let route = try await route(to: part.topic)
      for batch in try EmbeddedBroker.batches(of: part.records, part.partition, codec, route) {
        batches.append(JobStep.Output(topic: part.topic, partition: batch.partition, bytes: batch.bytes))
      }
    }
    let outputs = batches
    try await ask { (broker, answer: Answer<Void>) in
      let time = broker.reactor.wallClock
      let offsets = transaction.positions.mapValues { places in
        places.map { place, offset in
          PartitionOffset(
            partition: place, committed: .init(offset: offset, leaderEpoch: -1, metadata: nil, time: time))
        }
      }
      broker.append(together: outputs, offsets: offsets) { error in
        answer.give(error.map { .failure(MillraceError($0)) } ?? .success(()))
      }
    }
  }
}
