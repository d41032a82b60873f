// GroupCoordinator+Consumer: groups of the consumer protocol: heartbeats, time-outs, durable epochs, change of protocol.
//
// Members live in memory, as those of classic groups do; after a restart their heartbeats are refused and they join again.
// Epochs never go back over a restart, so that a request from before it is never taken for one of after it: they are
// reserved durably, a block at a time, and no answer with an epoch leaves before its reservation is durable. The
// reservation also is what makes a group without members one of this protocol.

import MillraceBase
import MillraceIO
import MillraceMetadata
import MillraceModel

/// A group with what the coordinator has to know about it.
struct HeldConsumerGroup {
  var group: ConsumerGroup
  /// Epochs below this one are reserved, or will be once `openReservations` are durable.
  var reserved: Int32
  var openReservations = 0
  /// Version of the topics that the group knows.
  var topicsVersion: Int
}

extension GroupCoordinator {
  /// Epochs that are reserved at a time: a restart leaps by at most this many.
  static let epochBlock: Int32 = 100

  /// Takes a member's heartbeat; the answer comes at once, or when a new block of epochs is durable.
  ///
  /// - Errors: `.invalidRequest`, `.unsupportedAssignor`, `.invalidPattern`, `.unknownGroup` (a classic group with members
  ///   has this name), `.unknownMember`, `.fencedMemberEpoch`, `.fencedInstance`, `.unreleasedInstance`, `.groupTooLarge`.
  public func heartbeat(
    _ asked: ConsumerHeartbeat, completion: @escaping (Result<ConsumerHeartbeatAnswer, BrokerError>) -> Void
  ) {
    var beat = asked
    do throws(BrokerError) {
      guard broker.isOpen else { throw BrokerError(.stopped, "the broker is closing") }
      try beat.check(broker.settings.consumerGroups)
      if beat.memberID.isEmpty { beat.memberID = newMemberID(beat.clientID) }
      if let pattern = beat.pattern, !pattern.isEmpty {
        try topics.add(pattern) { consumers.values.reduce(into: []) { $0.formUnion($1.group.patterns) } }
      }
      var held = try hold(beat)
      if held.topicsVersion != topics.currentVersion {
        held.topicsVersion = topics.currentVersion
        held.group.topicsChanged(topics)
      }
      let answer: Result<ConsumerHeartbeatAnswer, BrokerError>
      do throws(BrokerError) {
        answer = .success(try held.group.heartbeat(beat, topics: topics, now: broker.reactor.now))
      } catch {
        answer = .failure(error)
      }
      if settle(held) == 0 { return completion(answer) }
      broker.whenDurable { error in completion(error.map { .failure($0) } ?? answer) }
    } catch {
      completion(.failure(error))
    }
  }

  /// The group that a heartbeat is for, taken out of `consumers`' care until it is settled.
  private func hold(_ beat: ConsumerHeartbeat) throws(BrokerError) -> HeldConsumerGroup {
    if let held = consumers[beat.group] { return held }
    // Either its members went, or the broker was restarted: who knows an epoch has to join again.
    guard beat.epoch == ConsumerGroup.joining else { throw unknown(beat.group, beat.memberID) }
    if let classic = groups[beat.group] {
      guard classic.state == .empty else {
        throw BrokerError(.unknownGroup, "group \(beat.group) is a classic group with members")
      }
      groups[beat.group] = nil
    }
    let reserved = broker.metadata.groupEpochs[beat.group] ?? 1
    return HeldConsumerGroup(
      group: ConsumerGroup(name: beat.group, rules: broker.settings.consumerGroups, epoch: reserved - 1),
      reserved: reserved, topicsVersion: topics.currentVersion)
  }

  /// Keeps or forgets a group after an event, reserves epochs, sets its timer, and tells operators.
  /// - Returns: how many reservations are not durable yet.
  @discardableResult
  private func settle(_ changed: HeldConsumerGroup) -> Int {
    var held = changed
    let name = held.group.name
    let before = consumers[name]?.group
    if before?.state != held.group.state || before?.epoch != held.group.epoch {
      broker.logger.log(
        .info, "groups", "consumer group changed",
        [
          "group": name, "state": held.group.state.rawValue, "epoch": "\(held.group.epoch)",
          "members": "\(held.group.members.count)",
        ])
    }
    timers.removeValue(forKey: name)?.cancel()
    if held.group.members.isEmpty, broker.metadata.groupOffsets[name] == nil {
      consumers[name] = nil
      if before != nil || broker.metadata.groupEpochs[name] != nil { end(name) }
      return 0
    }
    if held.group.epoch >= held.reserved, held.reserved < .max {
      let (next, isOver) = held.group.epoch.addingReportingOverflow(GroupCoordinator.epochBlock)
      held.reserved = isOver ? .max : next
      held.openReservations += 1
      consumers[name] = held
      broker.record(.groupEpochsReserved(group: name, next: held.reserved)) { [weak self] _ in
        self?.consumers[name]?.openReservations -= 1
      }
    } else {
      consumers[name] = held
    }
    if let deadline = held.group.nextDeadline {
      timers[name] = broker.reactor.schedule(after: max(.zero, deadline - broker.reactor.now)) { [weak self] in
        self?.tick(name)
      }
    }
    return consumers[name]?.openReservations ?? 0
  }

  private func tick(_ name: String) {
    guard var held = consumers[name] else { return }
    held.group.tick(broker.reactor.now)
    settle(held)
  }

  /// Forgets groups that have neither members nor offsets any more, after offsets were deleted.
  func forgetEmptyGroups() {
    for name in broker.metadata.groupEpochs.keys.sorted() where broker.metadata.groupOffsets[name] == nil {
      guard consumers[name]?.group.members.isEmpty ?? true else { continue }
      consumers[name] = nil
      end(name)
    }
  }

  private func end(_ name: String) { broker.record(.consumerGroupEnded(group: name)) { _ in } }

  /// Makes room for a classic group: one of the consumer protocol must be empty.
  /// - Returns: why that is not so.
  func becomeClassic(_ name: String) -> BrokerError? {
    guard kind(name) == .consumer else { return nil }
    if let held = consumers[name], !held.group.members.isEmpty {
      return BrokerError(
        .inconsistentGroupProtocol, "group \(name) speaks the consumer protocol and has members")
    }
    consumers[name] = nil
    end(name)
    return nil
  }

  /// An administrator takes a static member out by its instance id; members leave with a heartbeat.
  func leaveConsumerGroup(_ name: String, _ memberID: String, _ instanceID: String?) throws(BrokerError) {
    guard var held = consumers[name] else { throw unknown(name, memberID) }
    guard let instanceID else { throw unknown(name, memberID) }
    try held.group.remove(instance: instanceID)
    settle(held)
  }

  // MARK: Looking

  /// How a group of the consumer protocol stands.
  /// - Throws: `.unknownGroup`, also for a classic group.
  public func describeConsumerGroup(_ name: String) throws(BrokerError) -> ConsumerGroupDescription {
    guard kind(name) == .consumer else { throw BrokerError(.unknownGroup, "group \(name) is not a consumer group") }
    let rules = broker.settings.consumerGroups
    let group =
      consumers[name]?.group
      ?? ConsumerGroup(name: name, rules: rules, epoch: (broker.metadata.groupEpochs[name] ?? 1) - 1)
    return ConsumerGroupDescription(
      name: name, state: group.state.rawValue, epoch: group.epoch, assignmentEpoch: group.assignmentEpoch,
      assignor: group.assignor.rawValue,
      members: group.members.values.sorted { $0.id < $1.id }.map { member in
        ConsumerMemberDescription(
          id: member.id, instanceID: member.instanceID, rackID: member.rackID, epoch: member.epoch,
          clientID: member.clientID, clientHost: member.clientHost, topics: member.names, pattern: member.pattern,
          assigned: member.assigned.keys.sorted(), target: (group.target[member.id] ?? []).sorted())
      })
  }

  /// The same in the terms of classic groups, for lists and figures.
  func describeShortly(_ name: String) -> GroupDescription {
    let group = consumers[name]?.group
    let members = group?.members.values.sorted { $0.id < $1.id } ?? []
    return GroupDescription(
      name: name, kind: .consumer, state: (group?.state ?? .empty).rawValue, protocolType: "consumer",
      protocolName: group?.assignor.rawValue ?? "",
      members: members.map { member in
        GroupMemberDescription(
          id: member.id, instanceID: member.instanceID, clientID: member.clientID, clientHost: member.clientHost,
          metadata: Bytes(), assignment: Bytes())
      })
  }
}
