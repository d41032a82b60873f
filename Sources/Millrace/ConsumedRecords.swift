// ConsumedRecords: a topic's records as an AsyncSequence, read ahead by one fetch; alone, or as a member of a group.

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
    let commits: GroupCommits
    let patience: Duration

    /// The group to join; nil for a consumer that reads for itself.
    var joinedGroup: String? { partitions == nil ? group : nil }
  }

  let broker: EmbeddedBroker
  let plan: Plan
  private let members = GroupConsumers()

  init(broker: EmbeddedBroker, plan: Plan) {
    self.broker = broker
    self.plan = plan
  }

  /// An iterator that begins where the consumer was told to. In a group it becomes a member of its own when it is first
  /// asked for a record.
  public func makeAsyncIterator() -> Iterator { Iterator(broker, plan, members) }

  /// Reads one record after the other.
  public struct Iterator: AsyncIteratorProtocol {
    private let broker: EmbeddedBroker
    private let plan: Plan
    private let members: GroupConsumers
    private let fetcher: RecordFetcher
    private var consumer: GroupConsumer?
    private var batch: [ConsumedRecord] = []
    private var position = 0

    init(_ broker: EmbeddedBroker, _ plan: Plan, _ members: GroupConsumers) {
      self.broker = broker
      self.plan = plan
      self.members = members
      fetcher = RecordFetcher(broker, plan)
    }

    /// A member of the group that reads for one iterator.
    private static func member(
      _ broker: EmbeddedBroker, _ plan: Plan, _ group: String, _ members: GroupConsumers
    ) async throws(MillraceError) -> GroupConsumer {
      let made = try await GroupConsumer.make(broker, plan, group: group)
      members.add(made)
      return made
    }

    /// The next record; nil at the consumer's end, or when the task was cancelled.
    /// - Throws: `.unknownTopic`, `.offsetOutOfRange`, `.corrupt`, `.storage`, `.closed`; `.invalidArgument` when the group
    ///   cannot be joined.
    public mutating func next(
      isolation actor: isolated (any Actor)? = #isolation
    ) async throws(MillraceError) -> ConsumedRecord? {
      if consumer == nil, let group = plan.joinedGroup {
        consumer = try await Iterator.member(broker, plan, group, members)
      }
      if let consumer { return try await consumer.next() }
      while position == batch.count {
        guard case .records(let fetched) = try await fetcher.next() else { return nil }
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
      if consumer == nil, let group = plan.joinedGroup {
        consumer = try await Iterator.member(broker, plan, group, members)
      }
      if let consumer { return try await consumer.nextBatch() }
      guard position < batch.count else {
        guard case .records(let fetched) = try await fetcher.next() else { return nil }
        return fetched
      }
      defer { position = batch.count }
      return Array(batch[position...])
    }
  }

  /// Commits the position behind `record` for the consumer's group; it is durable on return.
  /// - Throws: `.invalidArgument` when the consumer has no group; `.rebalanced` when the record's partition was given to
  ///   another member meanwhile, which will get the record, too; else as ``EmbeddedBroker/commit(_:group:)``.
  public func commit(_ record: ConsumedRecord) async throws(MillraceError) {
    guard let group = plan.group else {
      throw MillraceError(.invalidArgument, "the consumer of \(plan.topic) has no group to commit for")
    }
    if plan.joinedGroup != nil {
      let present = members.present
      for member in present {
        guard let isCommitted = try await member.commit(record.partition, record.offset + 1) else { continue }
        if isCommitted { return }
        break
      }
      if !present.isEmpty {
        throw MillraceError(
          .rebalanced, "partition \(record.partition) of \(plan.topic) was given to another member of group \(group)")
      }
    }
    try await broker.commit([record], group: group)
  }
}

extension EmbeddedBroker {
  /// The records of a topic.
  ///
  /// - Parameters:
  ///   - partitions: nil reads all, or in a group those that the group gives.
  ///   - group: joins this group: its members, iterators and Kafka clients alike, share the topic's partitions, and each
  ///     begins where the group has committed. With `partitions` the consumer only begins there and joins nothing.
  ///   - from: where to begin without a commit.
  ///   - until: when to end.
  ///   - isolation: which records of transactions come.
  ///   - fetchSize: bytes of one fetch, save that the first batch always comes whole.
  ///   - commits: who commits for a consumer that has joined a group.
  ///   - patience: how long a member of a group may take for a record before its partitions go to others.
  public func consume(
    _ topic: String, partitions: [Int32]? = nil, group: String? = nil, from: StartPosition = .earliest,
    until: ConsumerEnd = .never, isolation: Isolation = .committed, fetchSize: Int = 1 << 20,
    commits: GroupCommits = .automatic, patience: Duration = .seconds(300)
  ) -> ConsumedRecords {
    ConsumedRecords(
      broker: self,
      plan: ConsumedRecords.Plan(
        topic: topic, partitions: partitions, group: group, start: from, end: until, fetchSize: fetchSize,
        isolation: isolation, commits: commits, patience: patience))
  }

  /// Commits for a group that the records, and all before them in their partitions, are done with.
  /// - Throws: `.groupInUse` when the group has members, who alone may commit for it; `.unknownTopic`, `.invalidArgument`,
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

  /// Waits while a transaction in progress is about to commit offsets of these partitions for a group: a consumer that
  /// reads what is committed only must begin behind what that transaction has worked on. Source: KIP-447.
  /// - Parameter goesOn: whether it is still worth waiting.
  /// - Returns: false when it was not.
  func waitForOffsets(
    of group: String, _ plan: ConsumedRecords.Plan, _ partitions: [Int32], while goesOn: () -> Bool
  ) async throws(MillraceError) -> Bool {
    guard plan.isolation == .committed else { return true }
    let places = Set(partitions.map { TopicPartition(plan.topic, $0) })
    while true {
      let isPending: Bool = try await ask { broker, answer in
        answer.give(.success(!broker.groups.pendingPartitions(group).isDisjoint(with: places)))
      }
      if !isPending { return true }
      guard goesOn() else { return false }
      // Kafka's clients ask again after retry.backoff.ms, which is as long.
      try await ask { (broker, answer: Answer<Void>) in
        broker.reactor.schedule(after: .milliseconds(100)) { answer.give(.success(())) }
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
