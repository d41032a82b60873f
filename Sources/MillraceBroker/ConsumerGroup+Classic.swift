// ConsumerGroup+Classic: members that speak the classic protocol, inside a group of the consumer protocol.
//
// A group changes its protocol without a stop: a classic group becomes one of the consumer protocol when its first such
// member comes, and a classic one again when the last of them goes. In between its classic members are served by
// translation:
//
//   JoinGroup   a heartbeat that joins: the subscription, and what the member still has, are in its metadata. It is
//               answered at once; the generation is the member's epoch, there is no leader, the broker assigns.
//   SyncGroup   gives what is assigned to the member now.
//   Heartbeat   REBALANCE_IN_PROGRESS sends the member to JoinGroup when the group's epoch is ahead of its own, when it
//               has something to give up, or when all that it still waits for is free.
//
// A classic member that joins has nothing but what it says: it adopts no earlier assignment once it has sent JoinGroup.
// So what it has to give up is believed to be gone at once when its list no longer holds it; one that gives up
// everything before it joins (range, round robin) lists nothing. Source: KIP-848, "Group upgrade and downgrade".

import MillraceBase
import MillraceModel

/// What a classic consumer says in JoinGroup, as far as the broker has to know it.
public struct ClassicSubscription: Equatable, Sendable {
  /// Topics that it subscribes to.
  public var topics: [String]
  /// Partitions that it still has.
  public var owned: [TopicPartition]
  /// Version of the form; assignments are told in the same.
  public var version: Int16

  /// A subscription.
  public init(topics: [String], owned: [TopicPartition], version: Int16) {
    self.topics = topics
    self.owned = owned
    self.version = version
  }
}

/// Reads and writes what classic consumers say to each other. A protocol server brings it, since the broker knows no
/// protocol; without one, groups do not change their protocol while they have members.
public protocol ClassicConsumerCodec {
  /// A member's subscription, nil when it cannot be read.
  func subscription(_ metadata: Bytes) -> ClassicSubscription?
  /// The partitions of an assignment, nil when it cannot be read.
  func assignment(_ bytes: Bytes) -> [TopicPartition]?
  /// An assignment, in a version that ``ClassicSubscription/version`` may have.
  func encode(_ partitions: [TopicPartition], version: Int16) -> Bytes
}

extension ConsumerGroup {
  /// What the group keeps of a member that speaks the classic protocol.
  struct ClassicPart {
    var sessionTimeout: Duration
    /// Assignors with metadata, best first: a classic group takes them over when the last other member goes.
    var protocols: [GroupProtocol]
    var version: Int16
    /// Until when it has to join again, or to ask for its assignment; nil when it need do neither.
    var deadline: MonotonicTime?
  }

  /// What its classic members have brought, in bytes.
  var metadataSize: Int {
    members.values.reduce(0) { sum, one in one.classic?.protocols.reduce(sum) { $0 + $1.size } ?? sum }
  }

  /// Whether all members speak the classic protocol.
  var isAllClassic: Bool { !members.isEmpty && members.values.allSatisfy { $0.classic != nil } }

  /// The partitions that exist of those that a member named.
  static func identities(_ partitions: [TopicPartition], _ known: some GroupTopics) -> Set<TopicIDPartition> {
    var found: Set<TopicIDPartition> = []
    for one in partitions {
      guard let topic = known.topic(one.topic), (0..<topic.partitions).contains(one.partition) else { continue }
      found.insert(TopicIDPartition(topic.id, one.partition))
    }
    return found
  }

  /// Makes a group of the consumer protocol out of a stable classic one: everybody keeps what it has.
  /// - Parameter epoch: below all epochs that the group will give out.
  init(
    _ classic: ClassicGroup, _ subscriptions: [String: ClassicSubscription],
    _ assignments: [String: Set<TopicIDPartition>], rules: ConsumerGroupRules, epoch: Int32,
    topics known: some GroupTopics
  ) {
    self.init(name: classic.name, rules: rules, epoch: max(epoch, classic.generation))
    for one in classic.members {
      guard let subscription = subscriptions[one.id] else { continue }
      var member = Member(
        id: one.id, instanceID: one.instanceID, clientID: one.clientID, clientHost: one.clientHost,
        rebalanceTimeout: one.rebalanceTimeout, sessionDeadline: one.deadline)
      member.names = Set(subscription.topics).sorted()
      member.epoch = classic.generation
      member.earlierEpoch = classic.generation
      member.classic = ClassicPart(
        sessionTimeout: one.sessionTimeout, protocols: one.protocols, version: subscription.version)
      subscribe(&member, to: resolve(member, known))
      followTopics(of: member, known, isGone: false)
      // A leader can make mistakes: the first one that has a partition keeps it.
      for partition in assignments[one.id] ?? [] where holders[partition] == nil {
        holders[partition] = member.id
        member.assigned[partition] = classic.generation
      }
      target[member.id] = Set(member.assigned.keys)
      if let instance = member.instanceID { instances[instance] = member.id }
      members[member.id] = member
    }
  }

  /// Checks that a classic member may join; changes nothing.
  /// - Parameter isNew: the id in `join` was made for this call; else the member came with it.
  /// - Throws: `.fencedInstance` when another member took over its instance id; `.unknownMember` when it was taken out, and
  ///   still works on partitions; those of ``joinClassic(_:_:topics:now:)``.
  func checkJoin(_ join: ConsumerHeartbeat, isNew: Bool) throws(BrokerError) {
    try join.checkTopics(rules)
    if !isNew {
      // Only who comes without an id takes an instance over: one that has an id was there before the holder.
      if let instance = join.instanceID, let holder = instances[instance], holder != join.memberID {
        throw BrokerError(.fencedInstance, "instance \(instance) of group \(name) is now member \(holder)")
      }
      // Under a new epoch it could commit for partitions that others have worked on meanwhile.
      if members[join.memberID] == nil, let owned = join.owned, !owned.isEmpty {
        throw BrokerError(
          .unknownMember,
          "group \(name) has no member \(join.memberID), which has to give up its \(owned.count) partitions first")
      }
    }
    try checkEntry(join, isClassic: true)
  }

  /// A classic member joins, or joins again.
  /// - Returns: the member's epoch, which is its generation.
  /// - Throws: `.inconsistentGroupProtocol`, `.groupTooLarge`, `.fencedInstance`.
  mutating func joinClassic(
    _ join: ConsumerHeartbeat, _ part: ClassicPart, topics known: some GroupTopics, now: MonotonicTime
  ) throws(BrokerError) -> Int32 {
    let offered = Set(part.protocols.map(\.name))
    let others = members.values.filter { $0.id != join.memberID && $0.classic != nil }
    let common = others.reduce(offered) { common, other in
      common.intersection(other.classic?.protocols.map(\.name) ?? [])
    }
    guard !common.isEmpty else {
      throw BrokerError(
        .inconsistentGroupProtocol, "no protocol of the new member is known to all classic members of group \(name)")
    }
    let size = (others.compactMap(\.classic) + [part]).reduce(0) { sum, one in
      one.protocols.reduce(sum) { $0 + $1.size }
    }
    guard size <= ClassicGroup.largestMetadata else {
      throw BrokerError(
        .groupTooLarge,
        "the members of group \(name) would bring \(size) bytes of metadata; \(ClassicGroup.largestMetadata) are allowed"
      )
    }
    var member = try enter(join, now, isClassic: true)
    member.classic = part
    member.classic?.deadline = now + (join.rebalanceTimeout ?? part.sessionTimeout)
    member.sessionDeadline = now + part.sessionTimeout
    member.reported = []
    member.saidAll = false
    take(join, into: &member, known)
    if epoch != assignmentEpoch { assign() }
    reconcile(member.id, owned: join.owned, isFinal: true, now)
    return members[member.id]?.epoch ?? 0
  }

  /// A classic member asks for its assignment.
  /// - Throws: `.unknownMember`, `.fencedInstance`, `.illegalGeneration`, `.inconsistentGroupProtocol`,
  ///   `.rebalanceInProgress` when it has to join again first.
  mutating func syncClassic(
    _ id: String, _ instanceID: String?, generation: Int32, type: String?, chosen: String?, now: MonotonicTime
  ) throws(BrokerError) -> Member {
    var (member, part) = try findClassic(id, instanceID, generation)
    if let type, type != "consumer" {
      throw BrokerError(.inconsistentGroupProtocol, "group \(name) speaks consumer, not \(type)")
    }
    if let chosen, chosen != part.protocols.first?.name {
      throw BrokerError(
        .inconsistentGroupProtocol, "group \(name) uses \(part.protocols.first?.name ?? ""), not \(chosen)")
    }
    member.sessionDeadline = now + part.sessionTimeout
    // One that has something to give up learns so from its assignment.
    let isBehind = epoch != member.epoch && member.state != .unrevoked
    if !isBehind { part.deadline = nil }
    member.classic = part
    members[id] = member
    if isBehind { throw BrokerError(.rebalanceInProgress, "group \(name) is rebalancing") }
    return member
  }

  /// A classic member says that it lives.
  /// - Throws: as ``syncClassic(_:_:generation:type:chosen:now:)``.
  mutating func heartbeatClassic(
    _ id: String, _ instanceID: String?, generation: Int32, now: MonotonicTime
  ) throws(BrokerError) {
    var (member, part) = try findClassic(id, instanceID, generation)
    member.sessionDeadline = now + part.sessionTimeout
    let mustJoin = mustJoinAgain(member)
    if mustJoin, part.deadline == nil { part.deadline = now + member.rebalanceTimeout }
    member.classic = part
    members[id] = member
    if mustJoin { throw BrokerError(.rebalanceInProgress, "group \(name) is rebalancing") }
  }

  /// Source: Kafka, `classicGroupHeartbeatToConsumerGroup`.
  private func mustJoinAgain(_ member: Member) -> Bool {
    if member.epoch != epoch { return true }
    switch member.state {
    case .stable: return false
    case .unrevoked: return true
    case .unreleased:
      // When only a part is free it waits, so that it is disturbed once.
      return (target[member.id] ?? []).allSatisfy { member.assigned[$0] != nil || holders[$0] == nil }
    }
  }

  private func findClassic(
    _ id: String, _ instanceID: String?, _ generation: Int32
  ) throws(BrokerError) -> (Member, ClassicPart) {
    let member = try identify(id, instanceID)
    guard let part = member.classic else {
      throw BrokerError(.unknownMember, "member \(id) of group \(name) speaks the consumer protocol")
    }
    guard generation == member.epoch else { throw wrongGeneration(member, generation) }
    return (member, part)
  }

  func wrongGeneration(_ member: Member, _ wanted: Int32) -> BrokerError {
    BrokerError(
      .illegalGeneration, "generation \(wanted) of member \(member.id) of group \(name), which has \(member.epoch)")
  }

  /// A classic member leaves; one of the consumer protocol does so with a heartbeat.
  mutating func leaveClassic(_ id: String, _ instanceID: String?) throws(BrokerError) {
    let member = try identify(id, instanceID)
    guard member.classic != nil else {
      throw BrokerError(.unknownMember, "members of group \(name) leave with a heartbeat")
    }
    remove(id)
  }
}
