// GroupConsumer: reads for one iterator what its group gives it, and commits what the loop is done with.
//
// Invariants:
// 1. A record counts as done when the loop asks for the next one. Only what is done is committed automatically.
// 2. Before partitions can go to another member, what is done is committed and the rest of the fetch is dropped: so a
//    clean hand-over loses and repeats nothing.
// 3. An offset is never committed below one that was committed before under the same assignment.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceModel
import Synchronization

/// A group's records for one iterator. One task at a time asks it.
final class GroupConsumer: Sendable {
  private struct State {
    var batch: [ConsumedRecord] = []
    /// Records of `batch` that were handed over.
    var position = 0
    /// Records of `batch` that are noted in `done`.
    var noted = 0
    /// The next offset to read of each partition, behind what the loop is done with.
    var done: [Int32: Offset] = [:]
    var committed: [Int32: Offset] = [:]
    var isMember = false
    var isOver = false

    /// Notes what was handed over as done: all of it, or all but the record that the loop still has.
    mutating func note(_ count: Int) {
      for record in batch[min(noted, count)..<count] { done[record.partition] = record.offset + 1 }
      noted = max(noted, count)
    }

    /// What is done and not committed yet.
    var uncommitted: [Int32: Offset] { done.filter { $0.value > committed[$0.key] ?? -1 } }
  }

  private let broker: EmbeddedBroker
  private let plan: ConsumedRecords.Plan
  private let group: String
  private let fetcher: RecordFetcher
  private let signal: GroupSignal
  private let membership: ReactorBound<GroupMembership>
  private let state = Mutex(State())

  /// A consumer that has not joined yet.
  static func make(
    _ broker: EmbeddedBroker, _ plan: ConsumedRecords.Plan, group: String
  ) async throws(MillraceError) -> GroupConsumer {
    _ = try await broker.route(to: plan.topic)
    let signal = GroupSignal()
    let membership: ReactorBound<GroupMembership> = try await broker.ask { broker, answer in
      guard broker.isOpen else { return answer.give(.failure(.closed)) }
      answer.give(
        .success(
          ReactorBound(
            GroupMembership(
              broker: broker, group: group, topic: plan.topic, patience: plan.patience, signal: signal),
            on: broker.reactor)))
    }
    var ends: [Int32: Offset]?
    if plan.end != .never {
      let found: [Int32: Offset] = try await broker.ask { broker, answer in
        guard let topic = broker.topic(plan.topic) else { return answer.give(.failure(.unknown(plan.topic))) }
        var ends: [Int32: Offset] = [:]
        for index in 0..<Int32(topic.partitions.count) {
          guard let log = broker.partition(topic, index) else { continue }
          ends[index] = plan.isolation == .committed ? log.lastStableOffset : log.highWatermark
        }
        answer.give(.success(ends))
      }
      ends = found
    }
    return GroupConsumer(broker, plan, group, RecordFetcher(broker, plan, ends: ends), signal, membership)
  }

  private init(
    _ broker: EmbeddedBroker, _ plan: ConsumedRecords.Plan, _ group: String, _ fetcher: RecordFetcher,
    _ signal: GroupSignal, _ membership: ReactorBound<GroupMembership>
  ) {
    self.broker = broker
    self.plan = plan
    self.group = group
    self.fetcher = fetcher
    self.signal = signal
    self.membership = membership
    signal.whenRaised { [weak fetcher] in fetcher?.interrupt() }
  }

  deinit {
    // The loop was left by `break`, or by an error of its own: the record it has may not be done with.
    let last = state.withLock { state -> [Int32: Offset]? in
      guard !state.isOver else { return nil }
      state.note(max(0, state.position - 1))
      return plan.commits == .automatic ? state.uncommitted : [:]
    }
    guard let last else { return }
    let membership = membership
    broker.parts.reactor.submit { membership.take().leave(committing: last) }
  }

  // MARK: Reading

  /// The next record; nil at the consumer's end, or when the task was cancelled.
  func next() async throws(MillraceError) -> ConsumedRecord? {
    while true {
      let record = state.withLock { state -> ConsumedRecord? in
        guard state.position < state.batch.count, !signal.needsAttention.load(ordering: .acquiring) else { return nil }
        state.position += 1
        return state.batch[state.position - 1]
      }
      signal.asked.wrappingAdd(1, ordering: .relaxed)
      if let record { return record }
      guard try await advance() else { return nil }
    }
  }

  /// What is left of the last fetch, or else the records of the next one; nil as in ``next()``.
  func nextBatch() async throws(MillraceError) -> [ConsumedRecord]? {
    while true {
      let records = state.withLock { state -> [ConsumedRecord] in
        guard !signal.needsAttention.load(ordering: .acquiring) else { return [] }
        defer { state.position = state.batch.count }
        return Array(state.batch[state.position...])
      }
      signal.asked.wrappingAdd(1, ordering: .relaxed)
      if !records.isEmpty { return records }
      guard try await advance() else { return nil }
    }
  }

  /// Does what has to be done between two records: joins, commits, fetches.
  /// - Returns: false when the consumer has come to its end; it has left the group then.
  private func advance() async throws(MillraceError) -> Bool {
    do throws(MillraceError) {
      // A call after the end stays there.
      if state.withLock({ $0.isOver }) { return false }
      state.withLock { $0.note($0.position) }
      if Task.isCancelled { return try await end() }
      let isMember = state.withLock { $0.isMember }
      if !isMember || signal.mustRejoin.load(ordering: .relaxed) {
        if isMember { try await commitDone() }
        guard try await join() else { return try await end() }
      } else if signal.needsAttention.exchange(false, ordering: .acquiring) {
        try await commitDone()
      }
      if state.withLock({ $0.position < $0.batch.count }) { return true }
      signal.isWaiting.store(true, ordering: .relaxed)
      defer { signal.isWaiting.store(false, ordering: .relaxed) }
      switch try await fetcher.next() {
      case .records(let records):
        state.withLock { state in
          state.batch = records
          state.position = 0
          state.noted = 0
        }
        return true
      case .interrupted: return true
      case .end: return try await end()
      }
    } catch {
      // Whatever failed, the others of the group must not wait for this member.
      await leave()
      throw error
    }
  }

  private func end() async throws(MillraceError) -> Bool {
    if let error = await leave() { throw error }
    return false
  }

  // MARK: The group

  /// Joins and turns to the partitions that were given.
  /// - Returns: false when the task was cancelled meanwhile.
  private func join() async throws(MillraceError) -> Bool {
    let membership = membership
    let reactor = broker.parts.reactor
    let joined: Result<[Int32], MillraceError> = await withTaskCancellationHandler {
      do throws(MillraceError) {
        return .success(try await broker.ask { _, answer in membership.take().join { answer.give($0) } })
      } catch {
        return .failure(error)
      }
    } onCancel: {
      reactor.submit { membership.take().leave(committing: [:]) }
    }
    if Task.isCancelled { return false }
    var partitions = try joined.get()
    let isStable = try await broker.waitForOffsets(of: group, plan, partitions) { [signal] in
      !Task.isCancelled && !signal.mustRejoin.load(ordering: .relaxed)
    }
    if !isStable {
      if Task.isCancelled { return false }
      // What the group gave is about to be given anew: nothing of it is begun.
      partitions = []
    }
    let known = try await broker.committedOffsets(of: group, topic: plan.topic)
    let starts = try await fetcher.turn(to: partitions)
    state.withLock { state in
      state.batch = []
      state.position = 0
      state.noted = 0
      // Where a partition was begun is worth a commit, too: `latest` must not move when members come and go.
      state.done = starts
      state.committed = known
      state.isMember = true
    }
    signal.needsAttention.store(signal.mustRejoin.load(ordering: .relaxed), ordering: .relaxed)
    return true
  }

  private func commitDone() async throws(MillraceError) {
    guard plan.commits == .automatic else { return }
    _ = try await commit(state.withLock { $0.uncommitted })
  }

  /// Commits the next offsets to read; they are durable on return.
  /// - Returns: false when the group has gone on without this member.
  private func commit(_ offsets: [Int32: Offset]) async throws(MillraceError) -> Bool {
    guard !offsets.isEmpty else { return true }
    let membership = membership
    let isCommitted: Bool = try await broker.ask { _, answer in
      membership.take().commit(offsets) { answer.give($0) }
    }
    if isCommitted { state.withLock { $0.committed.merge(offsets) { max($0, $1) } } }
    return isCommitted
  }

  /// Whether it has left its group for good.
  var isOver: Bool { state.withLock { $0.isOver } }

  /// Commits for a partition that this consumer holds.
  /// - Returns: nil when it does not hold it.
  func commit(_ partition: Int32, _ offset: Offset) async throws(MillraceError) -> Bool? {
    guard state.withLock({ $0.isMember && $0.done[partition] != nil }) else { return nil }
    return try await commit([partition: offset])
  }

  /// Commits what is done, and leaves the group.
  /// - Returns: why it could not be committed.
  @discardableResult
  private func leave() async -> MillraceError? {
    let last = state.withLock { state -> [Int32: Offset]? in
      guard !state.isOver else { return nil }
      state.isOver = true
      state.batch = []
      state.position = 0
      state.noted = 0
      return state.isMember && plan.commits == .automatic ? state.uncommitted : [:]
    }
    guard let last else { return nil }
    let membership = membership
    do throws(MillraceError) {
      let failure: MillraceError? = try await broker.ask { _, answer in
        membership.take().leave(committing: last) { answer.give(.success($0)) }
      }
      return failure
    } catch {
      return error
    }
  }
}

/// The consumers that iterators of one sequence made, so that a record can be committed by the one that holds its partition.
final class GroupConsumers: Sendable {
  private struct Weak {
    weak var consumer: GroupConsumer?
  }
  private let all = Mutex<[Weak]>([])

  func add(_ consumer: GroupConsumer) {
    all.withLock { all in
      all.removeAll { $0.consumer == nil }
      all.append(Weak(consumer: consumer))
    }
  }

  /// Those that have not come to their end.
  var present: [GroupConsumer] { all.withLock { $0.compactMap(\.consumer).filter { !$0.isOver } } }
}
