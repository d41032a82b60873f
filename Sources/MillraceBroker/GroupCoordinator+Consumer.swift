// GroupCoordinator+Consumer: groups of the consumer protocol: heartbeats, time-outs, settings.
//
// Members live in memory, as those of classic groups do; after a restart their heartbeats are refused and they join again.
// Epochs never go back over a restart: GroupCoordinator+Epochs.swift.

import MillraceBase
import MillraceIO
import MillraceMetadata
import MillraceModel

/// A group with what the coordinator has to know about it.
struct HeldConsumerGroup {
  var group: ConsumerGroup
  /// Tells this group from others that have had, or will have, the same name.
  let life: UInt64
  /// Epochs below this one are reserved durably.
  var durable: Int32
  /// Version of the topics that the group knows.
  var topicsVersion: Int

  /// Whether an answer with this epoch has to wait until more epochs are durable.
  func mustWait(for epoch: Int32) -> Bool { epoch > 0 && epoch >= durable && durable < .max }
}

extension GroupCoordinator {
  /// Takes a member's heartbeat; the answer comes at once, or when a new block of epochs is durable.
  ///
  /// - Errors: `.invalidRequest`, `.unsupportedAssignor`, `.invalidPattern`, `.unknownGroup` (a classic group with members
  ///   has this name and cannot change its protocol), `.groupLoading` (it can, once it has settled), `.unknownMember`,
  ///   `.fencedMemberEpoch`, `.fencedInstance`, `.unreleasedInstance`, `.groupTooLarge`, `.groupUnavailable` (nothing could
  ///   be made durable: the member should try again).
  public func heartbeat(
    _ asked: ConsumerHeartbeat, completion: @escaping (Result<ConsumerHeartbeatAnswer, BrokerError>) -> Void
  ) {
    var beat = asked
    beat.rebalanceTimeout = beat.rebalanceTimeout.map { min($0, GroupCoordinator.longestRebalance) }
    do throws(BrokerError) {
      guard broker.isOpen else { throw BrokerError(.stopped, "the broker is closing") }
      try beat.check(broker.settings.consumerGroups)
      if beat.memberID.isEmpty { beat.memberID = newMemberID(beat.clientID) }
      let fresh = consumers[beat.group] == nil ? try begin(beat) : nil
      // Who is no member and cannot become one costs no work on its expression.
      try (fresh ?? consumers[beat.group])?.group.checkEntry(beat)
      if let pattern = beat.pattern, !pattern.isEmpty {
        try topics.add(pattern) { consumers.values.reduce(into: []) { $0.formUnion($1.group.patterns) } }
      }
      if fresh != nil { dropClassic(beat.group) }
      run(beat.group, fresh, tells: { ($0.memberID, $0.epoch) }, completion) { [self] group throws(BrokerError) in
        try group.heartbeat(beat, topics: topics, now: broker.reactor.now)
      }
    } catch {
      completion(.failure(error))
    }
  }

  /// Checks a list of partitions that a heartbeat brings, before anything is made of it.
  /// - Parameter count: entries in the list.
  /// - Throws: `.unknownMember`; `.fencedInstance` when another member has its instance id; `.invalidRequest` when there are
  ///   more than partitions in all, and more than it was given.
  public func checkReport(
    of memberID: String, instanceID: String?, in group: String, epoch: Int32, partitions count: Int
  ) throws(BrokerError) {
    var most = 0
    if epoch > 0 {
      guard let held = consumers[group] else { throw unknown(group, memberID) }
      let member = try held.group.identify(memberID, instanceID)
      most = max(member.assigned.count + member.revoking.count, topics.partitionCount)
    }
    guard count <= most else {
      throw BrokerError(
        .invalidRequest,
        "heartbeat for group \(group): member \(memberID) has \(count) partitions; \(most) are possible")
    }
  }

  /// A new group for a heartbeat.
  private func begin(_ beat: ConsumerHeartbeat) throws(BrokerError) -> HeldConsumerGroup {
    // Either its members went, or the broker was restarted: who knows an epoch has to join again.
    guard beat.epoch == ConsumerGroup.joining else { throw unknown(beat.group, beat.memberID) }
    try checkNoShareGroup(beat.group)
    let reserved = broker.metadata.groupEpochs[beat.group] ?? 1
    guard let classic = groups[beat.group], classic.state != .empty else {
      return newLife(ConsumerGroup(name: beat.group, rules: rules(of: beat.group), epoch: reserved - 1))
    }
    return newLife(try upgrade(classic, epoch: reserved - 1))
  }

  private func newLife(_ group: ConsumerGroup) -> HeldConsumerGroup {
    defer { nextLife += 1 }
    return HeldConsumerGroup(
      group: group, life: nextLife, durable: broker.metadata.groupEpochs[group.name] ?? 1,
      topicsVersion: topics.currentVersion)
  }

  /// Runs `event` on a group, keeps it, and answers when what it tells is durable.
  /// - Parameters:
  ///   - fresh: the group when there is none of the name.
  ///   - tells: the member that an answer tells its epoch, and the epoch; nil when it tells none.
  func run<Answer>(
    _ name: String, _ fresh: HeldConsumerGroup? = nil, tells: (Answer) -> (memberID: String, epoch: Int32)?,
    _ completion: @escaping (Result<Answer, BrokerError>) -> Void,
    _ event: (inout ConsumerGroup) throws(BrokerError) -> Answer
  ) {
    let isKnown = consumers[name] != nil
    // Taken out meanwhile, so that changing it does not copy it.
    guard var changed = consumers.removeValue(forKey: name) ?? fresh else {
      return completion(.failure(BrokerError(.unknownMember, "group \(name) has no members")))
    }
    let before: Standing = (changed.group.state, changed.group.epoch, isKnown)
    if changed.topicsVersion != topics.currentVersion {
      changed.topicsVersion = topics.currentVersion
      changed.group.topicsChanged(topics)
    }
    do throws(BrokerError) {
      let answer = try event(&changed.group)
      guard let told = tells(answer), changed.mustWait(for: told.epoch) else {
        settle(changed, before)
        return completion(.success(answer))
      }
      let life = changed.life
      changed.group.holdBack(told.memberID, told.epoch)
      settle(changed, before)
      whenReserved(name, life, told) { error in completion(error.map { .failure($0) } ?? .success(answer)) }
    } catch {
      settle(changed, before)
      completion(.failure(error))
    }
  }

  /// How a group stood before an event.
  private typealias Standing = (state: ConsumerGroup.State, epoch: Int32, isKnown: Bool)

  /// Keeps or forgets a group after an event, sets its timer, and tells operators.
  private func settle(_ held: HeldConsumerGroup, _ before: Standing) {
    let name = held.group.name
    if !before.isKnown || before.state != held.group.state || before.epoch != held.group.epoch {
      broker.logger.log(
        .info, "groups", "consumer group changed",
        [
          "group": name, "state": held.group.state.rawValue, "epoch": "\(held.group.epoch)",
          "members": "\(held.group.members.count)",
        ])
    }
    timers.removeValue(forKey: name)?.cancel()
    weigh(name, held.group.metadataSize)
    if held.group.members.isEmpty, broker.metadata.groupOffsets[name] == nil {
      consumers[name] = nil
      if before.isKnown || broker.metadata.groupEpochs[name] != nil { end(name, isEmpty: true) }
      return
    }
    if held.group.isAllClassic, broker.settings.groupMigration.allowsDowngrade { return downgrade(held) }
    consumers[name] = held
    setTimer(name)
  }

  /// Sets the timer of a group of the consumer protocol for whoever of its members can be late next.
  func setTimer(_ name: String) {
    timers.removeValue(forKey: name)?.cancel()
    guard let deadline = consumers[name]?.group.nextDeadline else { return }
    timers[name] = broker.reactor.schedule(after: max(.zero, deadline - broker.reactor.now)) { [weak self] in
      self?.tick(name)
    }
  }

  private func tick(_ name: String) {
    guard consumers[name] != nil else { return }
    let now = broker.reactor.now
    run(name, tells: { (_: Void) in nil }, { _ in }) { group in group.tick(now) }
  }

  /// Forgets groups that have neither members nor offsets any more, after offsets were deleted.
  func forgetEmptyGroups() {
    for name in broker.metadata.groupEpochs.keys.sorted() where broker.metadata.groupOffsets[name] == nil {
      guard consumers[name]?.group.members.isEmpty ?? true else { continue }
      consumers[name] = nil
      end(name, isEmpty: true)
    }
  }

  /// Makes room for a classic group: one of the consumer protocol must be empty.
  /// - Returns: why that is not so.
  func becomeClassic(_ name: String) -> BrokerError? {
    if kind(name) == .share {
      return BrokerError(.inconsistentGroupProtocol, "group \(name) is a share group")
    }
    guard kind(name) == .consumer else { return nil }
    if let held = consumers[name], !held.group.members.isEmpty {
      return BrokerError(
        .inconsistentGroupProtocol, "group \(name) speaks the consumer protocol and has members")
    }
    consumers[name] = nil
    end(name, isEmpty: false)
    return nil
  }

  /// A classic member leaves; an administrator takes a static member out by its instance id. Others leave with a heartbeat.
  func leaveConsumerGroup(_ name: String, _ memberID: String, _ instanceID: String?) throws(BrokerError) {
    var refusal: BrokerError?
    run(name, tells: { (_: Void) in nil }, { if case .failure(let error) = $0 { refusal = error } }) {
      group throws(BrokerError) in
      if let instanceID, memberID.isEmpty {
        try group.remove(instance: instanceID)
      } else {
        try group.leaveClassic(memberID, instanceID)
      }
    }
    if let refusal { throw refusal }
  }

  // MARK: Rules

  /// What holds for a group of the consumer protocol, with its own settings.
  func rules(of name: String) -> ConsumerGroupRules {
    var rules = broker.settings.consumerGroups
    let own = broker.configs(of: ConfigResource(.group, name))
    if !own.isEmpty { GroupSettings.apply(own, to: &rules, broker.settings) }
    return rules
  }

  /// A group's settings were changed.
  func settingsChanged(_ name: String) { consumers[name]?.group.rules = rules(of: name) }

  // MARK: Looking

  /// How a group of the consumer protocol stands.
  /// - Throws: `.unknownGroup`, also for a classic group.
  public func describeConsumerGroup(_ name: String) throws(BrokerError) -> ConsumerGroupDescription {
    guard kind(name) == .consumer else { throw BrokerError(.unknownGroup, "group \(name) is not a consumer group") }
    let group =
      consumers[name]?.group
      ?? ConsumerGroup(name: name, rules: rules(of: name), epoch: (broker.metadata.groupEpochs[name] ?? 1) - 1)
    return ConsumerGroupDescription(
      name: name, state: group.state.rawValue, epoch: group.epoch, assignmentEpoch: group.assignmentEpoch,
      assignor: group.assignor.rawValue,
      members: group.members.values.sorted { $0.id < $1.id }.map { member in
        ConsumerMemberDescription(
          id: member.id, instanceID: member.instanceID, rackID: member.rackID, epoch: member.epoch,
          clientID: member.clientID, clientHost: member.clientHost, topics: member.names, pattern: member.pattern,
          assigned: member.assigned.keys.sorted(), target: (group.target[member.id] ?? []).sorted(),
          isClassic: member.classic != nil)
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
