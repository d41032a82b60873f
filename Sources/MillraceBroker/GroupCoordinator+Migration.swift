// GroupCoordinator+Migration: groups that change their protocol while they have members, and classic members of groups of
// the consumer protocol (ConsumerGroup+Classic.swift).

import MillraceBase
import MillraceIO
import MillraceModel

/// `group.consumer.migration.policy`: which way a group may change its protocol while it has members.
enum GroupMigration: String, CaseIterable {
  case disabled
  case upgrade
  case downgrade
  case bidirectional

  var allowsUpgrade: Bool { self == .upgrade || self == .bidirectional }
  var allowsDowngrade: Bool { self == .downgrade || self == .bidirectional }
}

extension GroupCoordinator {
  /// A classic group with members as one of the consumer protocol.
  /// - Throws: `.unknownGroup` when that cannot be, `.groupLoading` while the group rebalances.
  func upgrade(_ classic: ClassicGroup, epoch: Int32) throws(BrokerError) -> ConsumerGroup {
    guard broker.settings.groupMigration.allowsUpgrade, let classicCodec, classic.protocolType == "consumer" else {
      throw BrokerError(.unknownGroup, "group \(classic.name) is a classic group with members")
    }
    var subscriptions: [String: ClassicSubscription] = [:]
    var assignments: [String: Set<TopicIDPartition>] = [:]
    for member in classic.members {
      let chosen = member.protocols.first { $0.name == classic.protocolName } ?? member.protocols.first
      guard let subscription = chosen.flatMap({ classicCodec.subscription($0.metadata) }),
        let assignment = classicCodec.assignment(member.assignment)
      else {
        throw BrokerError(
          .unknownGroup, "group \(classic.name) is a classic group, what its member \(member.id) says cannot be read")
      }
      subscriptions[member.id] = subscription
      assignments[member.id] = ConsumerGroup.identities(assignment, topics)
    }
    // Who has what is known only then.
    guard classic.isSettled else {
      throw BrokerError(.groupLoading, "group \(classic.name) rebalances before it changes its protocol")
    }
    return ConsumerGroup(
      classic, subscriptions, assignments, rules: rules(of: classic.name), epoch: epoch, topics: topics)
  }

  /// Another group takes a classic one's place.
  func dropClassic(_ name: String) {
    groups[name] = nil
    metadataSize -= metadataSizes.removeValue(forKey: name) ?? 0
  }

  /// Makes a classic group of one whose members of the consumer protocol have all gone.
  func downgrade(_ held: HeldConsumerGroup) {
    let old = held.group
    consumers[old.name] = nil
    end(old.name, isEmpty: false)
    let members = old.members.values.sorted { $0.id < $1.id }.compactMap { member -> ClassicGroup.Member? in
      guard let part = member.classic else { return nil }
      var taken = ClassicGroup.Member(
        id: member.id, instanceID: member.instanceID, clientID: member.clientID, clientHost: member.clientHost,
        sessionTimeout: part.sessionTimeout, rebalanceTimeout: member.rebalanceTimeout, protocols: part.protocols,
        // One whose answer waits could not say that it lives.
        deadline: member.awaited == nil
          ? member.sessionDeadline : max(member.sessionDeadline, broker.reactor.now + part.sessionTimeout))
      taken.assignment = assignment(of: member)
      taken.carriedGeneration = member.epoch
      return taken
    }
    broker.logger.log(.info, "groups", "group is classic again", ["group": old.name, "members": "\(members.count)"])
    change(old.name) { $0.goOn(with: members, generation: old.epoch, now: broker.reactor.now) }
  }

  private func assignment(of member: ConsumerGroup.Member) -> Bytes {
    guard let classicCodec, let part = member.classic else { return Bytes() }
    let partitions = member.assigned.keys.sorted().compactMap { one in
      broker.topic(one.topic).map { TopicPartition($0.name, one.partition) }
    }
    return classicCodec.encode(partitions, version: part.version)
  }

  /// Whether a group of the consumer protocol with members has this name.
  func isConsumerGroup(_ name: String) -> Bool { consumers[name].map { !$0.group.members.isEmpty } ?? false }

  /// A classic member joins a group of the consumer protocol.
  func joinConsumerGroup(
    _ request: GroupJoin, _ name: String, completion: @escaping (Result<GroupJoined, BrokerError>) -> Void
  ) {
    do throws(BrokerError) {
      guard request.protocolType == "consumer", let first = request.protocols.first,
        let subscription = classicCodec?.subscription(first.metadata)
      else {
        throw BrokerError(
          .inconsistentGroupProtocol,
          "group \(name) speaks the consumer protocol, and what the member subscribes to cannot be read")
      }
      var join = ConsumerHeartbeat(
        group: name, memberID: request.memberID, epoch: ConsumerGroup.joining, clientID: request.clientID,
        clientHost: request.clientHost)
      join.instanceID = request.instanceID
      join.topics = subscription.topics
      join.pattern = ""
      join.rebalanceTimeout = request.rebalanceTimeout > .zero ? request.rebalanceTimeout : request.sessionTimeout
      join.owned = ConsumerGroup.identities(subscription.owned, topics)
      if join.memberID.isEmpty { join.memberID = request.newMemberID }
      try consumers[name]?.group.checkJoin(join, isNew: request.memberID.isEmpty)
      if request.memberID.isEmpty, request.instanceID == nil, request.requiresKnownID {
        throw BrokerError(.memberIDRequired, request.newMemberID)
      }
      let part = ConsumerGroup.ClassicPart(
        sessionTimeout: request.sessionTimeout, protocols: request.protocols, version: subscription.version)
      run(name, tells: { (joined: GroupJoined) in (joined.memberID, joined.generation) }, completion) {
        [self] group throws(BrokerError) in
        let epoch = try group.joinClassic(join, part, topics: topics, now: broker.reactor.now)
        return GroupJoined(
          generation: epoch, protocolType: "consumer", protocolName: first.name, leader: "", memberID: join.memberID,
          members: [])
      }
    } catch {
      completion(.failure(error))
    }
  }

  /// A classic member of a group of the consumer protocol asks for its assignment.
  func syncConsumerGroup(
    _ name: String, _ memberID: String, _ instanceID: String?, generation: Int32, type: String?, chosen: String?,
    completion: @escaping (Result<GroupSynced, BrokerError>) -> Void
  ) {
    run(name, tells: { (_: GroupSynced) in nil }, completion) { [self] group throws(BrokerError) in
      let member = try group.syncClassic(
        memberID, instanceID, generation: generation, type: type, chosen: chosen, now: broker.reactor.now)
      return GroupSynced(
        protocolType: "consumer", protocolName: member.classic?.protocols.first?.name ?? "",
        assignment: assignment(of: member))
    }
  }

  /// A classic member of a group of the consumer protocol lives.
  func heartbeatConsumerGroup(
    _ name: String, _ memberID: String, _ instanceID: String?, generation: Int32
  ) throws(BrokerError) {
    var refusal: BrokerError?
    run(name, tells: { (_: Void) in nil }, { if case .failure(let error) = $0 { refusal = error } }) {
      [self] group throws(BrokerError) in
      try group.heartbeatClassic(memberID, instanceID, generation: generation, now: broker.reactor.now)
    }
    if let refusal { throw refusal }
  }
}
