// GroupCoordinator+Classic: the calls of classic groups' members: join, sync, heartbeat, leave.

import MillraceBase
import MillraceIO
import MillraceModel

extension GroupCoordinator {
  /// Most bytes of protocols that one member of a classic group may offer, and of the assignment that it may get.
  static let largestMetadata = 1 << 20
  /// Most protocols that one member may offer.
  static let mostProtocols = 100
  /// Longest time that a member is waited for in a rebalance. Clients that want no limit ask for 24 days.
  static let longestRebalance = Duration.seconds(24 * 60 * 60)

  /// Runs `event` on a group (a new one when `create`), then does what it led to and sets the timer anew.
  func change(_ name: String, _ event: (inout ClassicGroup) -> Void) {
    var group =
      groups.removeValue(forKey: name)
      ?? ClassicGroup(
        name: name, initialDelay: broker.settings.initialRebalanceDelay, largestSize: broker.settings.largestGroup)
    let before = (group.state, group.generation, group.members.count)
    event(&group)
    let actions = group.takeActions()
    if before != (group.state, group.generation, group.members.count) { weigh(name, group.metadataSize) }
    if (before.0, before.1) != (group.state, group.generation) {
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

  /// Counts what a group's members have brought, instead of what was counted for its name before.
  func weigh(_ name: String, _ size: Int) {
    metadataSize += size - (metadataSizes.removeValue(forKey: name) ?? 0)
    if size > 0 { metadataSizes[name] = size }
  }

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
      guard request.rebalanceTimeout >= .zero else {
        throw BrokerError(
          .invalidRequest,
          "rebalance time-out of \(request.rebalanceTimeout.inMilliseconds) ms of a member of group \(request.group): "
            + "it must not be negative")
      }
      let size = request.protocols.reduce(0) { $0 + $1.name.utf8.count + $1.metadata.count }
      guard size <= GroupCoordinator.largestMetadata, request.protocols.count <= GroupCoordinator.mostProtocols else {
        throw BrokerError(
          .invalidRequest,
          "a member of group \(request.group) offers \(request.protocols.count) protocols with \(size) bytes; "
            + "\(GroupCoordinator.mostProtocols) with \(GroupCoordinator.largestMetadata) are allowed")
      }
      guard metadataSize + size <= mostMetadata else {
        throw BrokerError(
          .groupTooLarge,
          "the members of all groups have brought \(metadataSize) bytes of metadata; \(mostMetadata) are allowed")
      }
    } catch {
      return completion(.failure(error))
    }
    let join = GroupJoin(
      memberID: request.memberID, instanceID: request.instanceID, clientID: request.clientID,
      clientHost: request.clientHost, sessionTimeout: request.sessionTimeout,
      rebalanceTimeout: min(request.rebalanceTimeout, GroupCoordinator.longestRebalance),
      protocolType: request.protocolType,
      protocols: request.protocols.map { one in
        // A copy, because the metadata outlives the request whose memory it is in.
        GroupProtocol(name: one.name, metadata: one.metadata.withBuffer { Bytes(copying: $0) })
      }, requiresKnownID: request.requiresKnownID, newMemberID: newMemberID(request.clientID))
    if isConsumerGroup(request.group) { return joinConsumerGroup(join, request.group, completion: completion) }
    if !request.memberID.isEmpty, groups[request.group] == nil {
      return completion(.failure(unknown(request.group, request.memberID)))
    }
    if let refusal = becomeClassic(request.group) { return completion(.failure(refusal)) }
    let call = call()
    joins[call] = completion
    change(request.group) {
      // These can be changed at any time.
      $0.initialDelay = broker.settings.initialRebalanceDelay
      $0.largestSize = broker.settings.largestGroup
      $0.join(join, call: call, now: broker.reactor.now)
    }
  }

  /// Gets a member's assignment; the leader brings everybody's.
  public func sync(
    group: String, memberID: String, instanceID: String?, generation: Int32, protocolType: String?,
    protocolName: String?, assignments: [(memberID: String, assignment: Bytes)],
    completion: @escaping (Result<GroupSynced, BrokerError>) -> Void
  ) {
    if consumers[group] != nil {
      return syncConsumerGroup(
        group, memberID, instanceID, generation: generation, type: protocolType, chosen: protocolName,
        completion: completion)
    }
    do throws(BrokerError) {
      try checkMember(group, memberID)
      for (id, assignment) in assignments where assignment.count > GroupCoordinator.largestMetadata {
        throw BrokerError(
          .invalidRequest,
          "the assignment of member \(id) of group \(group) has \(assignment.count) bytes; "
            + "\(GroupCoordinator.largestMetadata) are allowed")
      }
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

  func unknown(_ group: String, _ memberID: String) -> BrokerError {
    BrokerError(.unknownMember, "group \(group) has no member \(memberID)")
  }

  private func checkMember(_ group: String, _ memberID: String) throws(BrokerError) {
    try checkName(group)
    guard groups[group] != nil else { throw unknown(group, memberID) }
  }

  /// A member lives.
  /// - Throws: `.rebalanceInProgress` when it has to join again, `.unknownMember`, `.illegalGeneration`, `.fencedInstance`.
  public func heartbeat(group: String, memberID: String, instanceID: String?, generation: Int32) throws(BrokerError) {
    if consumers[group] != nil {
      return try heartbeatConsumerGroup(group, memberID, instanceID, generation: generation)
    }
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
    if consumers[group] != nil { return try leaveConsumerGroup(group, memberID, instanceID) }
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
}
