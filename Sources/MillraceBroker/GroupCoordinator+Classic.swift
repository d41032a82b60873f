// GroupCoordinator+Classic: the calls of classic groups' members: join, sync, heartbeat, leave.

import MillraceBase
import MillraceIO
import MillraceModel

extension GroupCoordinator {
  /// Runs `event` on a group (a new one when `create`), then does what it led to and sets the timer anew.
  func change(_ name: String, _ event: (inout ClassicGroup) -> Void) {
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
    if let refusal = becomeClassic(request.group) { return completion(.failure(refusal)) }
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
