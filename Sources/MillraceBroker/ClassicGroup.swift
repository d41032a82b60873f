// ClassicGroup: one consumer group of the classic protocol as a pure state machine: events in, actions out.
//
//                 join                      all joined, or time over            leader's sync
//   Empty ───────────────▶ PreparingRebalance ──────────────────▶ CompletingRebalance ───────▶ Stable
//     ▲                       ▲        │ nobody left                      │                      │
//     └───────────────────────┼────────┘                                  │                      │
//                             └───────────── join, leave, time-out ◀──────┴──────────────────────┘
//
// Members wait in JoinGroup until all have rejoined, then in SyncGroup until the leader has sent the assignment. Calls
// that wait are known by number; the owner keeps what is to be answered. Time is an argument, never read.
//
// Invariants: no two members have one instance id; a member that waits for an answer never expires; every deadline lies
// ahead of the last event; members always have a protocol in common.
// Source: Kafka protocol, "Group Membership"; KIP-62 (rebalance time-out), KIP-134 (initial delay), KIP-345 (static
// members), KIP-394 (member id required), KIP-814 (leader skips assignment).

import MillraceBase

/// A call that waits for the group.
typealias GroupCall = UInt64

/// What a member offers when it joins.
struct GroupProtocol: Equatable, Sendable {
  var name: String
  var metadata: Bytes

  /// What it takes in memory, in bytes.
  var size: Int { name.utf8.count + metadata.count }
}

/// The answer to a join.
public struct GroupJoined: Sendable {
  /// The generation that begins.
  public var generation: Int32
  /// For example `consumer`.
  public var protocolType: String
  /// The assignor that all members know.
  public var protocolName: String
  /// Member id of the leader.
  public var leader: String
  /// The member's own id.
  public var memberID: String
  /// All members with their metadata, for the leader only.
  public var members: [(id: String, instanceID: String?, metadata: Bytes)]
  /// The leader came back as the same static member: it must not assign anew.
  public var skipAssignment = false
}

/// The answer to a sync.
public struct GroupSynced: Sendable {
  /// For example `consumer`.
  public var protocolType: String
  /// The assignor.
  public var protocolName: String
  /// The member's assignment, made by the leader.
  public var assignment: Bytes
}

/// What the owner has to do after an event.
enum GroupAction {
  case answerJoin(GroupCall, Result<GroupJoined, BrokerError>)
  case answerSync(GroupCall, Result<GroupSynced, BrokerError>)
}

/// A request to join.
struct GroupJoin {
  var memberID: String
  var instanceID: String?
  var clientID: String
  var clientHost: String
  var sessionTimeout: Duration
  var rebalanceTimeout: Duration
  var protocolType: String
  var protocols: [GroupProtocol]
  /// The client understands that it is given an id and has to come again with it (version 4 and later).
  var requiresKnownID: Bool
  /// An id to give to a new member.
  var newMemberID: String
}

struct ClassicGroup {
  enum State: String {
    case empty = "Empty"
    case preparing = "PreparingRebalance"
    case completing = "CompletingRebalance"
    case stable = "Stable"
  }

  struct Member {
    let id: String
    var instanceID: String?
    var clientID: String
    var clientHost: String
    var sessionTimeout: Duration
    var rebalanceTimeout: Duration
    var protocols: [GroupProtocol]
    var assignment = Bytes()
    var join: GroupCall?
    var sync: GroupCall?
    /// The generation was announced, and the member has not asked for its assignment yet.
    var owesSync = false
    /// The generation that it comes with until it joins again, when that is another one than the group's: it had it in a
    /// group of the consumer protocol, which this one goes on from.
    var carriedGeneration: Int32?
    var deadline: MonotonicTime
  }

  /// The first rebalance of a group, which waits for members to come.
  private struct Gathering {
    /// What the wait may still be prolonged by.
    var rest: Duration
    /// Somebody came since the wait was last prolonged.
    var hasNewcomer = false
  }

  let name: String
  var initialDelay: Duration
  var largestSize: Int
  /// Most bytes of metadata that its members may bring, all together.
  static let largestMetadata = 64 << 20
  private(set) var state = State.empty
  private(set) var generation: Int32 = 0
  private(set) var protocolType = ""
  private(set) var protocolName = ""
  private(set) var leader: String?
  /// In order of joining, so that the same events always give the same leader.
  private(set) var members: [Member] = []
  /// Ids that were given out and have not come back yet, with the time when they are forgotten.
  private var pending: [(id: String, deadline: MonotonicTime)] = []
  /// When the rebalance ends, or the wait for the members' syncs.
  private var phaseDeadline: MonotonicTime?
  /// Set while the initial delay runs.
  private var gathering: Gathering?
  private var actions: [GroupAction] = []

  init(name: String, initialDelay: Duration, largestSize: Int, generation: Int32 = 0) {
    self.name = name
    self.generation = generation
    self.initialDelay = initialDelay
    self.largestSize = largestSize
  }

  /// Nothing is left that the owner would have to remember.
  var isForgettable: Bool { state == .empty && members.isEmpty && pending.isEmpty }

  /// The actions that events have led to, in order.
  mutating func takeActions() -> [GroupAction] {
    defer { actions = [] }
    return actions
  }

  /// When ``tick(_:)`` has something to do next.
  var nextDeadline: MonotonicTime? {
    var next = phaseDeadline
    for member in members where member.join == nil && member.sync == nil {
      next = min(next ?? member.deadline, member.deadline)
    }
    for (_, deadline) in pending { next = min(next ?? deadline, deadline) }
    return next
  }

  private func index(_ id: String) -> Int? { members.firstIndex { $0.id == id } }

  private func index(instance: String?) -> Int? {
    guard let instance else { return nil }
    return members.firstIndex { $0.instanceID == instance }
  }

  /// The member's index, after checking that nobody else took over its instance id.
  private func find(_ id: String, instance: String?) throws(BrokerError) -> Int {
    if let instance {
      guard let holder = index(instance: instance) else {
        throw BrokerError(.unknownMember, "group \(name) has no instance \(instance)")
      }
      guard members[holder].id == id else {
        throw BrokerError(.fencedInstance, "instance \(instance) of group \(name) is now member \(members[holder].id)")
      }
    }
    guard let found = index(id) else { throw BrokerError(.unknownMember, "group \(name) has no member \(id)") }
    return found
  }

  private func checkGeneration(_ wanted: Int32, of at: Int) throws(BrokerError) {
    guard wanted == members[at].carriedGeneration ?? generation else {
      throw BrokerError(.illegalGeneration, "generation \(wanted) of group \(name), \(generation) is current")
    }
  }

  // MARK: Join

  /// A member joins or joins again. The answer comes as an action with `call`, now or later.
  mutating func join(_ request: GroupJoin, call: GroupCall, now: MonotonicTime) {
    do throws(BrokerError) {
      try tryJoin(request, call, now)
    } catch {
      actions.append(.answerJoin(call, .failure(error)))
    }
  }

  private mutating func tryJoin(_ asked: GroupJoin, _ call: GroupCall, _ now: MonotonicTime) throws(BrokerError) {
    var request = asked
    // No time at all would end every rebalance before anybody can come.
    if request.rebalanceTimeout <= .zero { request.rebalanceTimeout = request.sessionTimeout }
    try checkProtocols(request)
    try checkMetadata(request)
    if request.memberID.isEmpty {
      if let held = index(instance: request.instanceID) { return replaceStatic(held, request, call, now) }
      try checkSize()
      if request.instanceID == nil, request.requiresKnownID {
        pending.append((request.newMemberID, now + request.sessionTimeout))
        throw BrokerError(.memberIDRequired, request.newMemberID)
      }
      return add(request, id: request.newMemberID, call, now)
    }
    // Ids are only given out to members without an instance, and have counted as members since.
    if request.instanceID == nil, let waiting = pending.firstIndex(where: { $0.id == request.memberID }) {
      pending.remove(at: waiting)
      return add(request, id: request.memberID, call, now)
    }
    rejoin(try find(request.memberID, instance: request.instanceID), request, call, now)
  }

  private func checkSize() throws(BrokerError) {
    guard members.count + pending.count < largestSize else {
      throw BrokerError(.groupTooLarge, "group \(name) has \(members.count) members already")
    }
  }

  private func checkProtocols(_ request: GroupJoin) throws(BrokerError) {
    guard !request.protocolType.isEmpty, !request.protocols.isEmpty else {
      throw BrokerError(.inconsistentGroupProtocol, "a member of group \(name) must offer a protocol")
    }
    // What the member itself, or its instance before a restart, offered earlier does not bind it.
    let others = members.filter {
      $0.id != request.memberID && ($0.instanceID == nil || $0.instanceID != request.instanceID)
    }
    guard !others.isEmpty else { return }
    guard request.protocolType == protocolType else {
      throw BrokerError(
        .inconsistentGroupProtocol, "group \(name) speaks \(protocolType), not \(request.protocolType)")
    }
    let offered = Set(request.protocols.map(\.name))
    guard offered.contains(where: { candidate in others.allSatisfy { $0.protocols.contains { $0.name == candidate } } })
    else {
      throw BrokerError(.inconsistentGroupProtocol, "no protocol of the new member is known to all of group \(name)")
    }
  }

  /// What its members have brought and are given, in bytes.
  var metadataSize: Int {
    members.reduce(0) { sum, one in one.protocols.reduce(sum + one.assignment.count) { $0 + $1.size } }
  }

  private func checkMetadata(_ request: GroupJoin) throws(BrokerError) {
    let own = request.protocols.reduce(0) { $0 + $1.size }
    let all = members.reduce(own) { sum, one in
      one.id == request.memberID ? sum : one.protocols.reduce(sum) { $0 + $1.size }
    }
    guard all <= ClassicGroup.largestMetadata else {
      throw BrokerError(
        .groupTooLarge,
        "the members of group \(name) would bring \(all) bytes of metadata; \(ClassicGroup.largestMetadata) are allowed"
      )
    }
  }

  /// Whether everybody knows what it shall read.
  var isSettled: Bool { state == .stable && members.allSatisfy { !$0.owesSync } }

  private mutating func add(_ request: GroupJoin, id: String, _ call: GroupCall, _ now: MonotonicTime) {
    members.append(
      Member(
        id: id, instanceID: request.instanceID, clientID: request.clientID, clientHost: request.clientHost,
        sessionTimeout: request.sessionTimeout, rebalanceTimeout: request.rebalanceTimeout,
        protocols: request.protocols, join: call, deadline: now + request.sessionTimeout))
    gathering?.hasNewcomer = true
    adoptProtocolType(request)
    rebalance(now)
  }

  /// A lone member decides what the group speaks.
  private mutating func adoptProtocolType(_ request: GroupJoin) {
    if members.count == 1 { protocolType = request.protocolType }
  }

  private mutating func rejoin(_ at: Int, _ request: GroupJoin, _ call: GroupCall, _ now: MonotonicTime) {
    let isSame = members[at].protocols == request.protocols && protocolType == request.protocolType
    members[at].deadline = now + request.sessionTimeout
    members[at].sessionTimeout = request.sessionTimeout
    members[at].rebalanceTimeout = request.rebalanceTimeout
    let staysFollower = state == .stable && isSame && members[at].id != leader
    let repeatsJoin = state == .completing && isSame
    if staysFollower || repeatsJoin {
      return actions.append(.answerJoin(call, .success(joined(members[at]))))
    }
    if let earlier = members[at].join {
      // The client gave up on its first call; only one can wait.
      actions.append(.answerJoin(earlier, .failure(rebalancing)))
    }
    members[at].protocols = request.protocols
    adoptProtocolType(request)
    members[at].join = call
    rebalance(now)
  }

  /// Goes on with the members of a group of the consumer protocol, which all have to join again. The group is new.
  /// - Parameter generation: the last one that the group has had.
  mutating func goOn(with taken: [Member], generation last: Int32, now: MonotonicTime) {
    precondition(members.isEmpty && !taken.isEmpty, "group \(name) has \(members.count) members, \(taken.count) come")
    members = taken
    generation = last
    protocolType = "consumer"
    protocolName = chooseProtocol()
    state = .stable
    rebalance(now)
  }

  /// A static member came back without its id, for example after a restart.
  private mutating func replaceStatic(_ at: Int, _ request: GroupJoin, _ call: GroupCall, _ now: MonotonicTime) {
    let old = members[at]
    let fenced = BrokerError(.fencedInstance, "instance \(request.instanceID ?? "") has started again")
    if let call = old.join { actions.append(.answerJoin(call, .failure(fenced))) }
    if let call = old.sync { actions.append(.answerSync(call, .failure(fenced))) }
    var member = Member(
      id: request.newMemberID, instanceID: request.instanceID, clientID: request.clientID,
      clientHost: request.clientHost, sessionTimeout: request.sessionTimeout,
      rebalanceTimeout: request.rebalanceTimeout, protocols: request.protocols, assignment: old.assignment,
      owesSync: old.owesSync, deadline: now + request.sessionTimeout)
    let wasLeader = leader == old.id
    if wasLeader { leader = member.id }
    if state == .stable, old.protocols == request.protocols, protocolType == request.protocolType {
      members[at] = member
      var answer = joined(member)
      // Source: KIP-814. The returning leader learns the members, but keeps the assignment.
      answer.skipAssignment = wasLeader
      return actions.append(.answerJoin(call, .success(answer)))
    }
    member.join = call
    members[at] = member
    adoptProtocolType(request)
    rebalance(now)
  }

  private func joined(_ member: Member) -> GroupJoined {
    let isLeader = member.id == leader
    return GroupJoined(
      generation: generation, protocolType: protocolType, protocolName: protocolName, leader: leader ?? "",
      memberID: member.id,
      members: isLeader
        ? members.map { one in
          (one.id, one.instanceID, one.protocols.first { $0.name == protocolName }?.metadata ?? Bytes())
        } : [])
  }

  // MARK: Rebalance

  private mutating func rebalance(_ now: MonotonicTime) {
    if state != .preparing {
      for index in members.indices {
        guard let call = members[index].sync else { continue }
        members[index].sync = nil
        members[index].deadline = now + members[index].sessionTimeout
        actions.append(.answerSync(call, .failure(rebalancing)))
      }
      let isFirst = state == .empty
      state = .preparing
      if members.isEmpty || (isFirst && initialDelay <= .zero) { return completeJoin(now) }
      if isFirst {
        // Source: KIP-134. Whoever comes meanwhile prolongs the wait, up to the rebalance time-out in all.
        let delay = min(initialDelay, longestRebalance)
        gathering = Gathering(rest: longestRebalance - delay)
        phaseDeadline = now + delay
      } else {
        phaseDeadline = now + longestRebalance
      }
    }
    completeJoinIfReady(now)
  }

  private var longestRebalance: Duration { members.map(\.rebalanceTimeout).max() ?? .zero }

  private var rebalancing: BrokerError { BrokerError(.rebalanceInProgress, "group \(name) is rebalancing") }

  private mutating func completeJoinIfReady(_ now: MonotonicTime) {
    guard state == .preparing, gathering == nil, pending.isEmpty, members.allSatisfy({ $0.join != nil }) else { return }
    completeJoin(now)
  }

  private mutating func completeJoin(_ now: MonotonicTime) {
    // A static member is kept until its session ends; dynamic ones that did not come are gone.
    members.removeAll { $0.join == nil && $0.instanceID == nil }
    gathering = nil
    if !members.isEmpty, members.allSatisfy({ $0.join == nil }) {
      // Nobody came who could lead: those who are left have until their sessions end.
      phaseDeadline = now + longestRebalance
      return
    }
    generation = generation == .max ? 1 : generation + 1
    guard !members.isEmpty else {
      state = .empty
      phaseDeadline = nil
      protocolName = ""
      leader = nil
      return
    }
    if !members.contains(where: { $0.id == leader && $0.join != nil }) {
      leader = members.first { $0.join != nil }?.id
    }
    protocolName = chooseProtocol()
    state = .completing
    phaseDeadline = now + longestRebalance
    for index in members.indices {
      members[index].carriedGeneration = nil
      members[index].assignment = Bytes()
      members[index].owesSync = true
      guard let call = members[index].join else { continue }
      members[index].join = nil
      members[index].deadline = now + members[index].sessionTimeout
      actions.append(.answerJoin(call, .success(joined(members[index]))))
    }
  }

  /// Of the protocols that all know, the one that most members put first. Source: Kafka, `selectProtocol`.
  private func chooseProtocol() -> String {
    let common = members[0].protocols.map(\.name).filter { name in
      members.allSatisfy { $0.protocols.contains { $0.name == name } }
    }
    var votes: [String: Int] = [:]
    for member in members {
      if let vote = member.protocols.first(where: { common.contains($0.name) }) { votes[vote.name, default: 0] += 1 }
    }
    var best = common.first ?? ""
    for name in common where votes[name] ?? 0 > votes[best] ?? 0 { best = name }
    return best
  }

  // MARK: Sync, heartbeat, leave

  /// A member wants its assignment; the leader brings everybody's.
  mutating func sync(
    memberID: String, instanceID: String?, generation wanted: Int32, protocolType type: String?,
    protocolName chosen: String?, assignments: [(memberID: String, assignment: Bytes)], call: GroupCall,
    now: MonotonicTime
  ) {
    do throws(BrokerError) {
      let at = try find(memberID, instance: instanceID)
      try checkGeneration(wanted, of: at)
      if let type, type != protocolType {
        throw BrokerError(.inconsistentGroupProtocol, "group \(name) speaks \(protocolType), not \(type)")
      }
      if let chosen, chosen != protocolName {
        throw BrokerError(.inconsistentGroupProtocol, "group \(name) uses \(protocolName), not \(chosen)")
      }
      switch state {
      case .empty: throw BrokerError(.unknownMember, "group \(name) is empty")
      case .preparing: throw rebalancing
      case .stable:
        members[at].deadline = now + members[at].sessionTimeout
        members[at].owesSync = false
        if members.allSatisfy({ !$0.owesSync }) { phaseDeadline = nil }
        actions.append(.answerSync(call, .success(synced(members[at]))))
      case .completing:
        if let earlier = members[at].sync { actions.append(.answerSync(earlier, .failure(rebalancing))) }
        members[at].sync = call
        members[at].owesSync = false
        if memberID == leader { stabilise(assignments, now) }
      }
    } catch {
      actions.append(.answerSync(call, .failure(error)))
    }
  }

  private func synced(_ member: Member) -> GroupSynced {
    GroupSynced(protocolType: protocolType, protocolName: protocolName, assignment: member.assignment)
  }

  private mutating func stabilise(_ assignments: [(memberID: String, assignment: Bytes)], _ now: MonotonicTime) {
    state = .stable
    // Whoever does not ask for its assignment in time holds partitions that nobody works on.
    if members.allSatisfy({ !$0.owesSync }) { phaseDeadline = nil }
    for (id, assignment) in assignments {
      // A copy, because the assignment outlives the request whose memory it is in.
      if let at = index(id) { members[at].assignment = assignment.withBuffer { Bytes(copying: $0) } }
    }
    for index in members.indices {
      guard let call = members[index].sync else { continue }
      members[index].sync = nil
      members[index].deadline = now + members[index].sessionTimeout
      actions.append(.answerSync(call, .success(synced(members[index]))))
    }
  }

  /// A member says that it lives.
  mutating func heartbeat(
    memberID: String, instanceID: String?, generation wanted: Int32, now: MonotonicTime
  ) throws(BrokerError) {
    let at = try find(memberID, instance: instanceID)
    try checkGeneration(wanted, of: at)
    members[at].deadline = now + members[at].sessionTimeout
    if state == .preparing { throw rebalancing }
  }

  /// A member goes; a static one may be named by its instance alone.
  mutating func leave(memberID: String, instanceID: String?, now: MonotonicTime) throws(BrokerError) {
    if instanceID == nil, let waiting = pending.firstIndex(where: { $0.id == memberID }) {
      pending.remove(at: waiting)
      return completeJoinIfReady(now)
    }
    let at: Int
    if let instanceID, memberID.isEmpty {
      guard let found = index(instance: instanceID) else {
        throw BrokerError(.unknownMember, "group \(name) has no instance \(instanceID)")
      }
      at = found
    } else {
      at = try find(memberID, instance: instanceID)
    }
    remove(at, now)
  }

  private mutating func remove(_ at: Int, _ now: MonotonicTime) {
    let member = members.remove(at: at)
    let gone = BrokerError(.unknownMember, "member \(member.id) has left group \(name)")
    if let call = member.join { actions.append(.answerJoin(call, .failure(gone))) }
    if let call = member.sync { actions.append(.answerSync(call, .failure(gone))) }
    if leader == member.id { leader = nil }
    if state == .preparing {
      if members.isEmpty { completeJoin(now) } else { completeJoinIfReady(now) }
    } else {
      rebalance(now)
    }
  }

  /// Ends what has taken too long.
  mutating func tick(_ now: MonotonicTime) {
    pending.removeAll { $0.deadline <= now }
    while let silent = members.firstIndex(where: { $0.join == nil && $0.sync == nil && $0.deadline <= now }) {
      remove(silent, now)
    }
    if let deadline = phaseDeadline, deadline <= now {
      phaseDeadline = nil
      switch state {
      case .preparing: endPreparation(now)
      case .completing, .stable:
        // The leader, or others, joined but never asked for their assignment.
        members.removeAll { $0.owesSync }
        if !members.contains(where: { $0.id == leader }) { leader = nil }
        rebalance(now)
      case .empty: break
      }
    }
    completeJoinIfReady(now)
  }

  private mutating func endPreparation(_ now: MonotonicTime) {
    if let gathering, gathering.hasNewcomer, gathering.rest > .zero {
      let delay = min(initialDelay, gathering.rest)
      self.gathering = Gathering(rest: gathering.rest - delay)
      phaseDeadline = now + delay
    } else {
      completeJoin(now)
    }
  }

  /// Whether a member may commit offsets. A consumer outside any group protocol comes with a negative generation.
  func checkCommit(memberID: String, instanceID: String?, generation wanted: Int32) throws(BrokerError) {
    if wanted < 0, state == .empty { return }
    if wanted < 0, memberID.isEmpty, instanceID == nil {
      throw BrokerError(.unknownMember, "group \(name) is in use; offsets need a member and its generation")
    }
    try checkGeneration(wanted, of: try find(memberID, instance: instanceID))
    if state == .completing { throw rebalancing }
  }

  /// Refuses everybody who waits, because the broker closes.
  mutating func close() {
    let closing = BrokerError(.stopped, "the broker is closing")
    for index in members.indices {
      if let call = members[index].join { actions.append(.answerJoin(call, .failure(closing))) }
      if let call = members[index].sync { actions.append(.answerSync(call, .failure(closing))) }
      members[index].join = nil
      members[index].sync = nil
    }
  }
}
