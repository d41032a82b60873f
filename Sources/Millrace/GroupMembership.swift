// GroupMembership: one member of a consumer group inside this process: joins, stays, commits, leaves.
//
//              join                    the group rebalances
//   outside ─────────▶ member ──────────────────────────▶ must join again ─▶ member …
//      ▲                  │ leave, silence                        │ leave
//      └──────────────────┴───────────────────────────────────────┘
//
// To the group it is a member like those that come over Kafka's protocol, and it offers what their libraries offer
// first, the assignor "range", so that both kinds share the partitions of a topic. It says that it lives several times
// a second, which costs nothing here, so a rebalance is noticed soon.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceKafkaProtocol
import MillraceModel
import Synchronization

/// What a membership and the loop that reads for it tell each other. Any thread.
final class GroupSignal: Sendable {
  /// The loop should stop at the next record: it must join again, or the time to commit has come.
  let needsAttention = Atomic(false)
  /// The partitions may be taken away: they are to be committed, and the group joined again.
  let mustRejoin = Atomic(false)
  /// Counts what the loop asked for, so that a loop that is stuck can be told from one that works.
  let asked = Atomic<UInt64>(0)
  /// The loop waits for records.
  let isWaiting = Atomic(false)
  private let wake: Mutex<(@Sendable () -> Void)?> = Mutex(nil)

  /// `body` ends the loop's wait.
  func whenRaised(_ body: @escaping @Sendable () -> Void) { wake.withLock { $0 = body } }

  func raise(rejoin: Bool) {
    if rejoin { mustRejoin.store(true, ordering: .relaxed) }
    needsAttention.store(true, ordering: .releasing)
    wake.withLock { $0 }?()
  }
}

/// A member of a group that reads one topic. Belongs to the broker's reactor.
final class GroupMembership {
  /// How often a member says that it lives.
  private static let heartbeatInterval = Duration.milliseconds(200)
  /// How many heartbeats lie between two automatic commits.
  private static let heartbeatsPerCommit = 5
  private static let wantedSessionTimeout = 10_000

  private let broker: Broker
  private let group: String
  private let topic: String
  /// How long the loop may take for a record before its partitions go to others.
  private let patience: Duration
  private let signal: GroupSignal
  private var memberID = ""
  private var generation: Int32 = -1
  private var isLeader = false
  /// Partitions of the topic when the leader assigned them.
  private var partitionCount = 0
  private var heartbeat: Timer?
  private var heartbeats = 0
  private var lastAsked: (count: UInt64, time: MonotonicTime)
  private var isGone = false

  init(broker: Broker, group: String, topic: String, patience: Duration, signal: GroupSignal) {
    self.broker = broker
    self.group = group
    self.topic = topic
    self.patience = patience
    self.signal = signal
    lastAsked = (0, broker.reactor.now)
  }

  // MARK: Joining

  /// Joins the group, for the first time or again; `completion` gets the partitions once all members have joined.
  func join(_ completion: @escaping (Result<[Int32], MillraceError>) -> Void) {
    heartbeat?.cancel()
    guard !isGone else { return completion(.failure(.left)) }
    let allowed = broker.settings.sessionTimeouts
    let session = min(max(GroupMembership.wantedSessionTimeout, allowed.lowerBound), allowed.upperBound)
    let subscription = ConsumerProtocolSubscription(topics: [topic]).encoded(version: 1)
    // The id is asked for first, so that a wait for the other members can be given up.
    let request = GroupJoinRequest(
      group: group, memberID: memberID, instanceID: nil, clientID: "millrace", clientHost: "/embedded",
      sessionTimeout: .milliseconds(session), rebalanceTimeout: patience, protocolType: "consumer",
      protocols: [(RangeAssignor.name, subscription)], requiresKnownID: true)
    broker.groups.join(request) { [self] result in
      switch result {
      case .success(let joined):
        memberID = joined.memberID
        generation = joined.generation
        if isGone {
          leaveNow()
          return completion(.failure(.left))
        }
        sync(joined, completion)
      case .failure(let error) where error.code == .memberIDRequired:
        memberID = error.reason
        joinSoon(completion)
      case .failure(let error): recover(from: error, completion)
      }
    }
  }

  private func sync(_ joined: GroupJoined, _ completion: @escaping (Result<[Int32], MillraceError>) -> Void) {
    isLeader = joined.leader == joined.memberID
    partitionCount = broker.topic(topic)?.partitions.count ?? 0
    broker.groups.sync(
      group: group, memberID: memberID, instanceID: nil, generation: generation, protocolType: nil, protocolName: nil,
      assignments: isLeader ? assignments(joined.members) : []
    ) { [self] result in
      switch result {
      case .success(let synced):
        if isGone {
          leaveNow()
          return completion(.failure(.left))
        }
        signal.mustRejoin.store(false, ordering: .relaxed)
        scheduleHeartbeat()
        completion(partitions(synced.assignment))
      case .failure(let error): recover(from: error, completion)
      }
    }
  }

  /// Joins again after what a rebalance leads to; other errors end the attempt.
  private func recover(from error: BrokerError, _ completion: @escaping (Result<[Int32], MillraceError>) -> Void) {
    guard !isGone else { return completion(.failure(.left)) }
    switch error.code {
    case .rebalanceInProgress: joinSoon(completion)
    case .unknownMember, .illegalGeneration:
      memberID = ""
      joinSoon(completion)
    default: completion(.failure(MillraceError(error)))
    }
  }

  /// In another turn, so that calls that are answered at once do not pile up.
  private func joinSoon(_ completion: @escaping (Result<[Int32], MillraceError>) -> Void) {
    broker.reactor.schedule(after: .zero) { [self] in join(completion) }
  }

  private func assignments(
    _ members: [(id: String, instanceID: String?, metadata: Bytes)]
  ) -> [(memberID: String, assignment: Bytes)] {
    var readers: [RangeAssignor.Member] = []
    for member in members {
      var topics: [String] = []
      do throws(DecodingError) {
        topics = try ConsumerProtocolSubscription(member.metadata).topics
      } catch {
        broker.logger.log(
          .warning, "groups", "what a member wants to read cannot be read; it gets nothing",
          ["group": group, "member": member.id, "error": "\(error)"])
      }
      readers.append(RangeAssignor.Member(id: member.id, instanceID: member.instanceID, topics: topics))
    }
    var partitions: [String: [Int32]] = [:]
    for name in Set(readers.flatMap(\.topics)) {
      if let found = broker.topic(name) { partitions[name] = Array(0..<Int32(found.partitions.count)) }
    }
    return RangeAssignor.assign(readers, partitions: partitions).map { id, list in
      (id, ConsumerProtocolAssignment(list).encoded(version: 1))
    }
  }

  private func partitions(_ assignment: Bytes) -> Result<[Int32], MillraceError> {
    do throws(DecodingError) {
      let all = try ConsumerProtocolAssignment(assignment).assignedPartitions
      return .success(all.filter { $0.topic == topic }.flatMap(\.partitions))
    } catch {
      return .failure(MillraceError(.corrupt, "the assignment that group \(group)'s leader made: \(error)"))
    }
  }

  // MARK: Staying

  private func scheduleHeartbeat() {
    heartbeat?.cancel()
    heartbeat = broker.reactor.schedule(after: GroupMembership.heartbeatInterval) { [weak self] in self?.beat() }
  }

  private func beat() {
    guard !isGone else { return }
    let now = broker.reactor.now
    let asked = signal.asked.load(ordering: .relaxed)
    if asked != lastAsked.count || signal.isWaiting.load(ordering: .relaxed) { lastAsked = (asked, now) }
    // A loop that is stuck lets its session end, so that others get its partitions.
    guard now - lastAsked.time <= patience else { return signal.raise(rejoin: true) }
    do throws(BrokerError) {
      try broker.groups.heartbeat(group: group, memberID: memberID, instanceID: nil, generation: generation)
      heartbeats += 1
      let hasGrown = isLeader && broker.topic(topic)?.partitions.count != partitionCount
      if hasGrown || heartbeats % GroupMembership.heartbeatsPerCommit == 0 { signal.raise(rejoin: hasGrown) }
    } catch {
      signal.raise(rejoin: true)
      // While the group waits for this member it still has to say that it lives.
      guard error.code == .rebalanceInProgress else { return }
    }
    scheduleHeartbeat()
  }

  // MARK: Offsets

  /// Commits the next offsets to read.
  /// - Parameter completion: gets false when the group has gone on without this member, so that nothing was committed.
  func commit(_ offsets: [Int32: Offset], completion: @escaping (Result<Bool, MillraceError>) -> Void) {
    do throws(BrokerError) {
      guard broker.isOpen else { throw BrokerError(.stopped, "the broker is closed") }
      try broker.groups.checkCommit(group: group, memberID: memberID, instanceID: nil, generation: generation)
    } catch {
      switch error.code {
      case .unknownMember, .illegalGeneration, .rebalanceInProgress, .fencedInstance:
        signal.raise(rejoin: true)
        return completion(.success(false))
      default: return completion(.failure(MillraceError(error)))
      }
    }
    let time = broker.reactor.wallClock
    broker.groups.commit(
      group: group,
      offsets: offsets.map { partition, offset in
        .init(
          partition: TopicPartition(topic, partition),
          committed: .init(offset: offset, leaderEpoch: -1, metadata: nil, time: time))
      }
    ) { error in completion(error.map { .failure(MillraceError($0)) } ?? .success(true)) }
  }

  // MARK: Leaving

  /// Commits, then leaves the group, so that the others need not wait for this member. Only the first call counts.
  /// - Parameter done: gets why the offsets could not be committed.
  func leave(committing offsets: [Int32: Offset], _ done: @escaping (MillraceError?) -> Void = { _ in }) {
    guard !isGone else { return done(nil) }
    isGone = true
    heartbeat?.cancel()
    guard generation >= 0, !offsets.isEmpty else {
      leaveNow()
      return done(nil)
    }
    commit(offsets) { [self] result in
      leaveNow()
      if case .failure(let error) = result { done(error) } else { done(nil) }
    }
  }

  private func leaveNow() {
    guard !memberID.isEmpty else { return }
    do throws(BrokerError) {
      try broker.groups.leave(group: group, memberID: memberID, instanceID: nil)
    } catch {
      broker.logger.log(
        .debug, "groups", "left a group that had gone on", ["group": group, "error": error.reason])
    }
    memberID = ""
  }
}

extension MillraceError {
  /// Ends a join whose loop has gone.
  static let left = MillraceError(.cancelled, "the consumer has left its group")
}
