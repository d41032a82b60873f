// ConsumedRecords: a topic's records as an AsyncSequence, read ahead by one fetch.

import MillraceBase
import MillraceBroker
import MillraceModel

/// The records of a topic, partition by partition in order, as they become durable.
///
/// Each iterator reads for itself. While a loop works on the records of one fetch, the next one is under way, and no more
/// than that: a slow loop holds at most two fetches in memory. A loop in a cancelled task ends.
public struct ConsumedRecords: AsyncSequence, Sendable {
  /// What one iterator does.
  struct Plan: Sendable {
    let topic: String
    let partitions: [Int32]?
    let group: String?
    let start: StartPosition
    let end: ConsumerEnd
    let fetchSize: Int
    let isolation: Isolation
  }

  let broker: EmbeddedBroker
  let plan: Plan

  /// An iterator that begins where the consumer was told to.
  public func makeAsyncIterator() -> Iterator { Iterator(RecordFetcher(broker, plan)) }

  /// Reads one record after the other.
  public struct Iterator: AsyncIteratorProtocol {
    private let fetcher: RecordFetcher
    private var batch: [ConsumedRecord] = []
    private var position = 0

    init(_ fetcher: RecordFetcher) { self.fetcher = fetcher }

    /// The next record; nil at the consumer's end, or when the task was cancelled.
    /// - Throws: `.unknownTopic`, `.offsetOutOfRange`, `.corrupt`, `.storage`, `.closed`.
    public mutating func next(
      isolation actor: isolated (any Actor)? = #isolation
    ) async throws(MillraceError) -> ConsumedRecord? {
      while position == batch.count {
        guard let fetched = try await fetcher.next() else { return nil }
        batch = fetched
        position = 0
      }
      defer { position += 1 }
      return batch[position]
    }

    /// What is left of the last fetch, or else the records of the next one; nil as in ``next(isolation:)``.
    public mutating func nextBatch(
      isolation actor: isolated (any Actor)? = #isolation
    ) async throws(MillraceError) -> [ConsumedRecord]? {
      guard position < batch.count else {
        while let fetched = try await fetcher.next() {
          if !fetched.isEmpty { return fetched }
        }
        return nil
      }
      defer { position = batch.count }
      return Array(batch[position...])
    }
  }

  /// Commits the position behind `record` for the consumer's group; it is durable on return.
  /// - Throws: `.invalidArgument` when the consumer has no group; else as ``EmbeddedBroker/commit(_:group:)``.
  public func commit(_ record: ConsumedRecord) async throws(MillraceError) {
    guard let group = plan.group else {
      throw MillraceError(.invalidArgument, "the consumer of \(plan.topic) has no group to commit for")
    }
    try await broker.commit([record], group: group)
  }
}

extension EmbeddedBroker {
  /// The records of a topic.
  ///
  /// - Parameters:
  ///   - partitions: nil reads all.
  ///   - group: begins where this group has committed; without a commit at `from`. The consumer does not join the group:
  ///     two of them both read everything. Commits are shared with Kafka clients.
  ///   - from: where to begin without a commit.
  ///   - until: when to end.
  ///   - isolation: which records of transactions come.
  ///   - fetchSize: bytes of one fetch, save that the first batch always comes whole.
  public func consume(
    _ topic: String, partitions: [Int32]? = nil, group: String? = nil, from: StartPosition = .earliest,
    until: ConsumerEnd = .never, isolation: Isolation = .committed, fetchSize: Int = 1 << 20
  ) -> ConsumedRecords {
    ConsumedRecords(
      broker: self,
      plan: ConsumedRecords.Plan(
        topic: topic, partitions: partitions, group: group, start: from, end: until, fetchSize: fetchSize,
        isolation: isolation))
  }

  /// Commits for a group that the records, and all before them in their partitions, are done with.
  /// - Throws: `.groupInUse` when Kafka clients are members of the group; `.unknownTopic`, `.invalidArgument`,
  ///   `.storage`, `.closed`.
  public func commit(_ records: [ConsumedRecord], group: String) async throws(MillraceError) {
    var offsets: [TopicPartition: Offset] = [:]
    for record in records {
      let place = TopicPartition(record.topic, record.partition)
      offsets[place] = Swift.max(offsets[place] ?? 0, record.offset + 1)
    }
    let committed = offsets
    try await ask { (broker, answer: Answer<Void>) in
      do throws(BrokerError) {
        guard broker.isOpen else { throw BrokerError(.stopped, "the broker is closed") }
        try broker.groups.checkCommit(group: group, memberID: "", instanceID: nil, generation: -1)
        for place in committed.keys where broker.topic(place.topic) == nil {
          throw BrokerError(.unknownTopicOrPartition, "topic \(place.topic) does not exist")
        }
      } catch {
        return answer.give(.failure(MillraceError(error)))
      }
      let time = broker.reactor.wallClock
      broker.groups.commit(
        group: group,
        offsets: committed.map { place, offset in
          .init(
            partition: place,
            committed: .init(offset: offset, leaderEpoch: -1, metadata: nil, time: time))
        }
      ) { error in
        answer.give(error.map { .failure(MillraceError($0)) } ?? .success(()))
      }
    }
  }

  /// The offsets that a group has committed for a topic: the next to read of each partition.
  /// - Throws: `.closed`.
  public func committedOffsets(of group: String, topic: String) async throws(MillraceError) -> [Int32: Offset] {
    try await ask { broker, answer in
      var offsets: [Int32: Offset] = [:]
      for (place, committed) in broker.groups.offsets(group) where place.topic == topic {
        offsets[place.partition] = committed.offset
      }
      answer.give(.success(offsets))
    }
  }
}
