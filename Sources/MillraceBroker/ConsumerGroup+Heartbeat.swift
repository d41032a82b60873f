// ConsumerGroup+Heartbeat: the one request of a member's life: joining, staying, changing, leaving.

import MillraceBase
import MillraceModel

/// A heartbeat, as a protocol server hands it over. What is nil has not changed since the last one.
public struct ConsumerHeartbeat: Sendable {
  /// The group.
  public var group: String
  /// Id that the client made, or, empty at first, lets the broker make.
  public var memberID: String
  /// 0 joins, −1 leaves, −2 leaves as a static member that will return; else the epoch of the last answer.
  public var epoch: Int32
  /// Id given by the client, for static members.
  public var instanceID: String?
  /// Where the client is; kept and shown, without effect.
  public var rackID: String?
  /// How long the member may take to give up partitions.
  public var rebalanceTimeout: Duration?
  /// Topics by name.
  public var topics: [String]?
  /// Topics by regular expression; empty for none.
  public var pattern: String?
  /// The assignor that the member would like.
  public var assignor: String?
  /// Partitions that the member has now.
  public var owned: Set<TopicIDPartition>?
  /// The client's name for itself.
  public var clientID: String
  /// Address.
  public var clientHost: String
  /// Who the client is, so that an expression stands for no topic that it may not know of; nil for one that may all.
  public var client: ClientIdentity?
  /// The client must bring an id of its own.
  public var requiresID: Bool

  /// A heartbeat that says nothing new.
  public init(
    group: String, memberID: String, epoch: Int32, clientID: String, clientHost: String, requiresID: Bool = true
  ) {
    self.group = group
    self.memberID = memberID
    self.epoch = epoch
    self.clientID = clientID
    self.clientHost = clientHost
    self.requiresID = requiresID
  }

  /// It tells all there is to tell, so that the answer has to as well.
  var isFull: Bool {
    epoch == ConsumerGroup.joining || (rebalanceTimeout != nil && (topics != nil || pattern != nil) && owned != nil)
  }
}

/// The answer to a heartbeat.
public struct ConsumerHeartbeatAnswer: Equatable, Sendable {
  /// The member's id.
  public var memberID: String
  /// The member's epoch from now on.
  public var epoch: Int32
  /// When to come again.
  public var interval: Duration
  /// All that the member may have, when that changed or the member asked; it gives up the rest.
  public var assignment: Set<TopicIDPartition>?
}

extension ConsumerHeartbeat {
  /// Checks what can be checked without the group. Source: Kafka, `throwIfConsumerGroupHeartbeatRequestIsInvalid`.
  func check(_ rules: ConsumerGroupRules) throws(BrokerError) {
    func require(_ holds: Bool, _ problem: @autoclosure () -> String) throws(BrokerError) {
      if !holds { throw BrokerError(.invalidRequest, "heartbeat for group \(group): \(problem())") }
    }
    try require(!group.isEmpty, "the group id is empty")
    try require(instanceID != "", "the instance id is empty")
    try require(rackID != "", "the rack id is empty")
    try require(epoch >= ConsumerGroup.pausing, "epoch \(epoch)")
    try require(rebalanceTimeout.map { $0 > .zero } ?? true, "a rebalance time-out must be above 0")
    try require(!memberID.isEmpty || (epoch == ConsumerGroup.joining && !requiresID), "the member id is empty")
    try require(epoch != ConsumerGroup.pausing || instanceID != nil, "only a static member may leave with epoch -2")
    if epoch == ConsumerGroup.joining {
      try require(rebalanceTimeout != nil, "joining needs a rebalance time-out")
      try require(owned?.isEmpty ?? false, "joining needs an empty list of partitions")
      try require(
        !(topics ?? []).isEmpty || !(pattern ?? "").isEmpty, "joining needs topics or a regular expression")
    }
    try checkTopics(rules)
    if let assignor, !rules.assignors.contains(where: { $0.rawValue == assignor }) {
      throw BrokerError(
        .unsupportedAssignor,
        "assignor \(assignor); there are \(rules.assignors.map(\.rawValue).joined(separator: ", "))")
    }
  }
}

extension ConsumerHeartbeat {
  /// Checks the topics that a member names.
  func checkTopics(_ rules: ConsumerGroupRules) throws(BrokerError) {
    let names = topics ?? []
    guard names.count <= rules.largestSubscription else {
      throw BrokerError(
        .invalidRequest,
        "a member of group \(group) names \(names.count) topics; \(rules.largestSubscription) are allowed")
    }
    guard let long = names.first(where: { $0.utf8.count > ConsumerGroupRules.longestTopicName }) else { return }
    throw BrokerError(
      .invalidRequest,
      "a member of group \(group) names a topic with \(long.utf8.count) bytes; "
        + "\(ConsumerGroupRules.longestTopicName) are allowed")
  }
}

extension ConsumerGroup {
  /// Takes a heartbeat that ``ConsumerHeartbeat/check(_:)`` found good.
  ///
  /// - Throws: `.unknownMember`, `.fencedMemberEpoch`: the member has to give up everything and join again with epoch 0;
  ///   `.fencedInstance`, `.unreleasedInstance`: another one has, or still has, its instance id; `.groupTooLarge`.
  mutating func heartbeat(
    _ beat: ConsumerHeartbeat, topics known: some GroupTopics, now: MonotonicTime
  ) throws(BrokerError) -> ConsumerHeartbeatAnswer {
    if beat.epoch == ConsumerGroup.leaving || beat.epoch == ConsumerGroup.pausing { return try leave(beat) }
    var member = try enter(beat, now)
    member.classic = nil
    let before = Set(member.assigned.keys)
    take(beat, into: &member, known)
    member.sessionDeadline = now + rules.sessionTimeout
    let owned = believed(beat, member)
    // Only what was given to it counts: no list of a client's makes the group remember more than that.
    if let said = beat.owned {
      member.reported = said.filter { member.assigned[$0] != nil || member.revoking[$0] != nil }
    }
    member.saidAll = beat.isFull
    members[member.id] = member
    if epoch != assignmentEpoch { assign() }
    reconcile(member.id, owned: owned, isFinal: beat.epoch == ConsumerGroup.joining, now)
    guard let settled = members[member.id] else { preconditionFailure("member \(member.id) is gone") }
    let assigned = Set(settled.assigned.keys)
    return ConsumerHeartbeatAnswer(
      memberID: settled.id, epoch: settled.epoch, interval: rules.heartbeatInterval,
      assignment: beat.isFull || assigned != before ? assigned : nil)
  }

  /// What a heartbeat proves that the member has; nil when it proves nothing.
  ///
  /// Only a member that has seen the last answer says little. One that says everything may have missed it: what it listed
  /// is believed once the next heartbeat says little, or the same again, as that of a client does that always says all.
  private func believed(_ beat: ConsumerHeartbeat, _ member: Member) -> Set<TopicIDPartition>? {
    if beat.epoch == ConsumerGroup.joining { return beat.owned }
    if beat.isFull {
      let said = beat.owned?.filter { member.assigned[$0] != nil || member.revoking[$0] != nil }
      return member.saidAll && member.reported == said ? said : nil
    }
    return beat.owned ?? (member.saidAll ? member.reported : nil)
  }

  /// Checks that whoever sends a heartbeat is a member, or may become one; changes nothing.
  /// - Parameter isClassic: it comes with a request to join of the classic protocol.
  func checkEntry(_ beat: ConsumerHeartbeat, isClassic: Bool = false) throws(BrokerError) {
    guard beat.epoch == ConsumerGroup.joining else {
      let member = try identify(beat.memberID, beat.instanceID)
      guard member.classic == nil else {
        throw BrokerError(.unknownMember, "member \(beat.memberID) of group \(name) speaks the classic protocol")
      }
      if beat.epoch > 0 { try checkEpoch(beat, member) }
      return
    }
    if let instance = beat.instanceID, let holder = instances[instance] {
      return try checkTakeOver(instance, from: holder, beat, isClassic)
    }
    if let member = members[beat.memberID] {
      guard member.instanceID == beat.instanceID else {
        throw BrokerError(
          .fencedInstance, "member \(beat.memberID) of group \(name) joined with another instance id")
      }
      return
    }
    guard members.count < rules.largestSize else {
      throw BrokerError(.groupTooLarge, "group \(name) has \(members.count) members already")
    }
  }

  /// The member that a heartbeat is of, new or known.
  mutating func enter(
    _ beat: ConsumerHeartbeat, _ now: MonotonicTime, isClassic: Bool = false
  ) throws(BrokerError) -> Member {
    try checkEntry(beat, isClassic: isClassic)
    if beat.epoch == ConsumerGroup.joining, let instance = beat.instanceID, let holder = instances[instance] {
      return try takeOver(instance, from: holder, beat)
    }
    if let member = members[beat.memberID] { return member }
    if let instance = beat.instanceID { instances[instance] = beat.memberID }
    return Member(
      id: beat.memberID, instanceID: beat.instanceID, clientID: beat.clientID, clientHost: beat.clientHost,
      rebalanceTimeout: beat.rebalanceTimeout ?? .zero, sessionDeadline: now)
  }

  /// The member with an id, after checking that nobody else took over its instance id.
  func identify(_ id: String, _ instanceID: String?) throws(BrokerError) -> Member {
    if let instanceID {
      guard let holder = instances[instanceID] else {
        throw BrokerError(.unknownMember, "group \(name) has no instance \(instanceID)")
      }
      guard holder == id else {
        throw BrokerError(.fencedInstance, "instance \(instanceID) of group \(name) is now member \(holder)")
      }
    }
    return try find(id)
  }

  /// The answer to a heartbeat can be lost: a member may come with its earlier epoch while it has no more than it should.
  private func checkEpoch(_ beat: ConsumerHeartbeat, _ member: Member) throws(BrokerError) {
    if beat.epoch == member.epoch { return }
    if beat.epoch == member.earlierEpoch, member.epoch > 0, let owned = beat.owned,
      owned.allSatisfy({ member.assigned[$0] != nil })
    {
      return
    }
    throw BrokerError(
      .fencedMemberEpoch,
      "epoch \(beat.epoch) of member \(member.id) of group \(name), which has \(member.epoch)")
  }

  /// Where one of the two speaks the classic protocol, whose static members do not say that they leave, the newer one
  /// takes over at once, as it does there.
  private func checkTakeOver(
    _ instance: String, from holder: String, _ beat: ConsumerHeartbeat, _ isClassic: Bool
  ) throws(BrokerError) {
    let old = try find(holder)
    if holder == beat.memberID { return }
    guard old.epoch == ConsumerGroup.pausing || isClassic || old.classic != nil else {
      throw BrokerError(
        .unreleasedInstance, "instance \(instance) of group \(name) is still held by member \(holder)")
    }
    guard members[beat.memberID] == nil else {
      throw BrokerError(.fencedInstance, "member \(beat.memberID) of group \(name) joined with another instance id")
    }
  }

  /// A static member joins under an instance id that is taken: its own, after a restart.
  private mutating func takeOver(
    _ instance: String, from holder: String, _ beat: ConsumerHeartbeat
  ) throws(BrokerError) -> Member {
    let old = try find(holder)
    if holder == beat.memberID { return old }
    // What the earlier one had to give up goes with it.
    release(old.revoking.keys)
    var member = Member(
      id: beat.memberID, instanceID: instance, clientID: beat.clientID, clientHost: beat.clientHost,
      rebalanceTimeout: old.rebalanceTimeout, sessionDeadline: old.sessionDeadline)
    member.names = old.names
    member.pattern = old.pattern
    member.assignor = old.assignor
    member.topics = old.topics
    member.subscription = old.subscription
    member.assigned = old.assigned
    for partition in old.assigned.keys { holders[partition] = member.id }
    members[holder] = nil
    instances[instance] = member.id
    target[member.id] = target.removeValue(forKey: holder)
    return member
  }

  /// Takes over what a heartbeat says about the member; what changes the assignment raises the group's epoch.
  mutating func take(_ beat: ConsumerHeartbeat, into member: inout Member, _ known: some GroupTopics) {
    member.clientID = beat.clientID
    member.clientHost = beat.clientHost
    if let rack = beat.rackID { member.rackID = rack }
    if let timeout = beat.rebalanceTimeout { member.rebalanceTimeout = timeout }
    let isNew = members[member.id] == nil && target[member.id] == nil
    members[member.id] = member
    let before = (member.names, member.pattern, member.assignor, preferredAssignor)
    let isOther = member.client != beat.client && (member.pattern ?? beat.pattern) != nil
    member.client = beat.client
    if let topics = beat.topics { member.names = Set(topics).sorted() }
    if let pattern = beat.pattern { member.pattern = pattern.isEmpty ? nil : pattern }
    if let assignor = beat.assignor { member.assignor = assignor }
    let isChanged = (before.0, before.1) != (member.names, member.pattern)
    var hasMoved = false
    if isNew || isChanged || isOther {
      let found = resolve(member, known)
      hasMoved = found != member.topics
      let isGone = subscribe(&member, to: found)
      followTopics(of: member, known, isGone: isGone)
    }
    members[member.id] = member
    if isNew || isChanged || hasMoved || (before.2 != member.assignor && before.3 != preferredAssignor) { raiseEpoch() }
  }

  /// The assignor that most members ask for, the first of the settings when none does.
  var preferredAssignor: ServerAssignor {
    var votes: [String: Int] = [:]
    for member in members.values {
      if let assignor = member.assignor { votes[assignor, default: 0] += 1 }
    }
    var best = rules.assignors.first ?? .uniform
    for assignor in rules.assignors where votes[assignor.rawValue] ?? 0 > votes[best.rawValue] ?? 0 { best = assignor }
    return best
  }

  private mutating func leave(_ beat: ConsumerHeartbeat) throws(BrokerError) -> ConsumerHeartbeatAnswer {
    try checkEntry(beat)
    var member = try find(beat.memberID)
    if beat.epoch == ConsumerGroup.pausing {
      // What it has is kept for it until its session ends; what it had to give up, it has given up.
      release(member.revoking.keys)
      member.revoking = [:]
      member.rebalanceDeadline = nil
      member.state = .stable
      member.epoch = ConsumerGroup.pausing
      members[member.id] = member
    } else {
      remove(member.id)
    }
    return ConsumerHeartbeatAnswer(
      memberID: member.id, epoch: beat.epoch, interval: rules.heartbeatInterval, assignment: nil)
  }

  /// Takes out a static member that an administrator names by its instance id.
  mutating func remove(instance: String) throws(BrokerError) {
    guard let holder = instances[instance] else {
      throw BrokerError(.unknownMember, "group \(name) has no instance \(instance)")
    }
    remove(holder)
  }
}
