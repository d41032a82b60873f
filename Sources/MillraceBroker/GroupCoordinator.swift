// GroupCoordinator: all consumer groups: their members' calls, timers and committed offsets.

import MillraceBase
import MillraceIO
import MillraceMetadata
import MillraceModel

/// How a group stands.
public struct GroupDescription: Sendable {
  /// Name.
  public var name: String
  /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`, or `Dead` for a group that does not exist.
  public var state: String
  /// For example `consumer`; empty without members.
  public var protocolType: String
  /// The assignor; empty unless stable or completing.
  public var protocolName: String
  /// Members in order of joining.
  public var members: [GroupMemberDescription]
}

/// One member of a group.
public struct GroupMemberDescription: Sendable {
  /// Id that the broker gave.
  public var id: String
  /// Id that the client gave, for static members.
  public var instanceID: String?
  /// The client's name for itself.
  public var clientID: String
  /// Address.
  public var clientHost: String
  /// What the member said with the chosen protocol.
  public var metadata: Bytes
  /// What the leader gave it.
  public var assignment: Bytes
}

/// A wish to join a group, as a protocol server hands it over.
public struct GroupJoinRequest {
  /// The group.
  public var group: String
  /// Id given by the broker, empty at first.
  public var memberID: String
  /// Id given by the client, for static members.
  public var instanceID: String?
  /// The client's name for itself.
  public var clientID: String
  /// Address.
  public var clientHost: String
  /// Silence after which the member is gone.
  public var sessionTimeout: Duration
  /// How long a rebalance waits for the member.
  public var rebalanceTimeout: Duration
  /// For example `consumer`.
  public var protocolType: String
  /// Assignors with metadata, best first.
  public var protocols: [(name: String, metadata: Bytes)]
  /// The client can be told its id first and come again.
  public var requiresKnownID: Bool

  /// A wish with all its parts.
  public init(
    group: String, memberID: String, instanceID: String?, clientID: String, clientHost: String,
    sessionTimeout: Duration, rebalanceTimeout: Duration, protocolType: String,
    protocols: [(name: String, metadata: Bytes)], requiresKnownID: Bool
  ) {
    self.group = group
    self.memberID = memberID
    self.instanceID = instanceID
    self.clientID = clientID
    self.clientHost = clientHost
    self.sessionTimeout = sessionTimeout
    self.rebalanceTimeout = rebalanceTimeout
    self.protocolType = protocolType
    self.protocols = protocols
    self.requiresKnownID = requiresKnownID
  }
}

/// All consumer groups. Belongs to the broker's reactor.
///
/// Membership lives in memory: after a restart members join again. Committed offsets are durable.
public final class GroupCoordinator {
  unowned let broker: Broker
  private var groups: [String: ClassicGroup] = [:]
  private var timers: [String: Timer] = [:]
  private var joins: [GroupCall: (Result<GroupJoined, BrokerError>) -> Void] = [:]
  private var syncs: [GroupCall: (Result<GroupSynced, BrokerError>) -> Void] = [:]
  private var nextCall: GroupCall = 1

  init(broker: Broker) {
    self.broker = broker
  }

  private func call() -> GroupCall {
    defer { nextCall += 1 }
    return nextCall
  }

  private func newMemberID(_ clientID: String) -> String {
    "\(clientID.isEmpty ? "member" : clientID)-\(TopicID.random(using: &broker.random))"
  }

  private func checkName(_ group: String) throws(BrokerError) {
    guard !group.isEmpty, broker.isOpen else {
      throw group.isEmpty
        ? BrokerError(.invalidGroupID, "the group id is empty") : BrokerError(.stopped, "the broker is closing")
    }
  }

  /// Runs `event` on a group (a new one when `create`), then does what it led to and sets the timer anew.
  private func change(_ name: String, _ event: (inout ClassicGroup) -> Void) {
    var group =
      groups.removeValue(forKey: name)
      ?? ClassicGroup(
        name: name, initialDelay: broker.settings.initialRebalanceDelay, largestSize: broker.settings.largestGroup)
    let before = (group.state, group.generation)
    event(&group)
    let actions = group.takeActions()
    if before != (group.state, group.generation) {
      broker.logger.log(
        .info, "groups", "group changed",
        [
          "group": name, "state": group.state.rawValue, "generation": "\(group.generation)",
          "members": "\(group.members.count)",
        ])
    }
    timers.removeValue(forKey: name)?.cancel()
    if let deadline = group.nextDeadline {
      timers[name] = broker.reactor.schedule(after: max(.zero, deadline - broker.reactor.now)) { [weak self] in
        guard let self else { return }
        self.change(name) { $0.tick(self.broker.reactor.now) }
      }
    }
    if !group.isForgettable { groups[name] = group }
    for action in actions {
      switch action {
      case .answerJoin(let call, let result): joins.removeValue(forKey: call)?(result)
      case .answerSync(let call, let result): syncs.removeValue(forKey: call)?(result)
      }
    }
  }

  // MARK: Membership

  /// Joins a group; the answer comes when all its members have.
  public func join(_ request: GroupJoinRequest, completion: @escaping (Result<GroupJoined, BrokerError>) -> Void) {
    do throws(BrokerError) {
      try checkName(request.group)
      let milliseconds = request.sessionTimeout.inMilliseconds
      guard broker.settings.sessionTimeouts.contains(Int(milliseconds)) else {
        let allowed = broker.settings.sessionTimeouts
        throw BrokerError(
          .invalidSessionTimeout,
          "session time-out of \(milliseconds) ms, \(allowed.lowerBound) to \(allowed.upperBound) are allowed")
      }
    } catch {
      return completion(.failure(error))
    }
    if !request.memberID.isEmpty, groups[request.group] == nil {
      return completion(.failure(unknown(request.group, request.memberID)))
    }
    let call = call()
    joins[call] = completion
    let join = GroupJoin(
      memberID: request.memberID, instanceID: request.instanceID, clientID: request.clientID,
      clientHost: request.clientHost, sessionTimeout: request.sessionTimeout,
      rebalanceTimeout: request.rebalanceTimeout, protocolType: request.protocolType,
      protocols: request.protocols.map { one in
        // A copy, because the metadata outlives the request whose memory it is in.
        GroupProtocol(name: one.name, metadata: one.metadata.withBuffer { Bytes(copying: $0) })
      }, requiresKnownID: request.requiresKnownID, newMemberID: newMemberID(request.clientID))
    change(request.group) { $0.join(join, call: call, now: broker.reactor.now) }
  }

  /// Gets a member's assignment; the leader brings everybody's.
  public func sync(
    group: String, memberID: String, instanceID: String?, generation: Int32, protocolType: String?,
    protocolName: String?, assignments: [(memberID: String, assignment: Bytes)],
    completion: @escaping (Result<GroupSynced, BrokerError>) -> Void
  ) {
    do throws(BrokerError) {
      try checkMember(group, memberID)
    } catch {
      return completion(.failure(error))
    }
    let call = call()
    syncs[call] = completion
    change(group) {
      $0.sync(
        memberID: memberID, instanceID: instanceID, generation: generation, protocolType: protocolType,
        protocolName: protocolName, assignments: assignments, call: call, now: broker.reactor.now)
    }
  }

  private func unknown(_ group: String, _ memberID: String) -> BrokerError {
    BrokerError(.unknownMember, "group \(group) has no member \(memberID)")
  }

  private func checkMember(_ group: String, _ memberID: String) throws(BrokerError) {
    try checkName(group)
    guard groups[group] != nil else { throw unknown(group, memberID) }
  }

  /// A member lives.
  /// - Throws: `.rebalanceInProgress` when it has to join again, `.unknownMember`, `.illegalGeneration`, `.fencedInstance`.
  public func heartbeat(group: String, memberID: String, instanceID: String?, generation: Int32) throws(BrokerError) {
    try checkMember(group, memberID)
    var failure: BrokerError?
    change(group) { state in
      do throws(BrokerError) {
        try state.heartbeat(
          memberID: memberID, instanceID: instanceID, generation: generation, now: broker.reactor.now)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  /// A member goes.
  public func leave(group: String, memberID: String, instanceID: String?) throws(BrokerError) {
    try checkMember(group, memberID)
    var failure: BrokerError?
    change(group) { state in
      do throws(BrokerError) {
        try state.leave(memberID: memberID, instanceID: instanceID, now: broker.reactor.now)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  // MARK: Offsets

  /// Checks that a member may commit for its group.
  public func checkCommit(group: String, memberID: String, instanceID: String?, generation: Int32) throws(BrokerError) {
    try checkName(group)
    guard let state = groups[group] else {
      if generation < 0 { return }
      // The group has no members: either they went, or the broker was restarted and they have to join again.
      throw unknown(group, memberID)
    }
    try state.checkCommit(memberID: memberID, instanceID: instanceID, generation: generation)
  }

  /// Checks that a member may add offsets of its group to a transaction. A producer that knows of no members is believed,
  /// and a rebalance is no obstacle: the transaction belongs to the generation that began it. Source: KIP-447.
  func checkTransactionalCommit(
    group: String, memberID: String, instanceID: String?, generation: Int32
  ) throws(BrokerError) {
    try checkName(group)
    if generation < 0, memberID.isEmpty, instanceID == nil { return }
    guard let state = groups[group] else {
      throw BrokerError(.illegalGeneration, "group \(group) has no members, so generation \(generation) is not current")
    }
    do throws(BrokerError) {
      try state.checkCommit(memberID: memberID, instanceID: instanceID, generation: generation)
    } catch {
      guard error.code == .rebalanceInProgress else { throw error }
    }
  }

  /// Partitions of a group for which a transaction in progress is about to commit offsets.
  public func pendingPartitions(_ group: String) -> Set<TopicPartition> {
    broker.metadata.transactions.pendingPartitions(ofGroup: group)
  }

  /// Commits offsets of a group, all or none; `completion` follows when they are durable.
  public func commit(
    group: String, offsets: [PartitionOffset], completion: @escaping (BrokerError?) -> Void
  ) {
    guard !offsets.isEmpty else { return completion(nil) }
    broker.record(.offsetsCommitted(group: group, offsets: offsets), completion: completion)
  }

  /// Offsets that a group has committed.
  public func offsets(_ group: String) -> [TopicPartition: CommittedOffset] {
    broker.metadata.groupOffsets[group] ?? [:]
  }

  // MARK: Looking

  /// Names of all groups with members or offsets, sorted.
  public var names: [String] {
    Set(groups.keys).union(broker.metadata.groupOffsets.keys).sorted()
  }

  /// How a group stands.
  public func describe(_ name: String) -> GroupDescription {
    guard let group = groups[name] else {
      let hasOffsets = broker.metadata.groupOffsets[name] != nil
      return GroupDescription(
        name: name, state: hasOffsets ? "Empty" : "Dead", protocolType: hasOffsets ? "consumer" : "", protocolName: "",
        members: [])
    }
    let isSettled = group.state == .stable || group.state == .completing
    return GroupDescription(
      name: name, state: group.state.rawValue, protocolType: group.protocolType,
      protocolName: isSettled ? group.protocolName : "",
      members: group.members.map { member in
        GroupMemberDescription(
          id: member.id, instanceID: member.instanceID, clientID: member.clientID, clientHost: member.clientHost,
          metadata: member.protocols.first { $0.name == group.protocolName }?.metadata ?? Bytes(),
          assignment: member.assignment)
      })
  }

  func close() {
    for timer in timers.values { timer.cancel() }
    timers = [:]
    for name in groups.keys.sorted() {
      change(name) { $0.close() }
      timers.removeValue(forKey: name)?.cancel()
    }
  }
}
