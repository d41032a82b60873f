// ShareGroup: the members of one share group (KIP-932) as a pure state machine: heartbeats in, answers out.
//
// A member reads the partitions that it is told; nobody has to give one up first, because a record has one holder whoever reads
// its partition. So a member moves to the group's epoch with its next heartbeat. Epochs begin with each start of the broker:
// they decide nothing that outlasts a member's session.

import MillraceBase
import MillraceModel

/// A heartbeat of a member of a share group, as a protocol server hands it over.
public struct ShareHeartbeat: Sendable {
  /// The group.
  public var group: String
  /// Id that the client made.
  public var memberID: String
  /// 0 joins, −1 leaves; else the epoch of the last answer.
  public var epoch: Int32
  /// Where the client is; kept and shown, without effect.
  public var rackID: String?
  /// Topics by name; nil when they have not changed.
  public var topics: [String]?
  /// The client's name for itself.
  public var clientID: String
  /// Address.
  public var clientHost: String

  /// A heartbeat.
  public init(
    group: String, memberID: String, epoch: Int32, rackID: String? = nil, topics: [String]? = nil,
    clientID: String = "", clientHost: String = ""
  ) {
    self.group = group
    self.memberID = memberID
    self.epoch = epoch
    self.rackID = rackID
    self.topics = topics
    self.clientID = clientID
    self.clientHost = clientHost
  }

  /// Longest id of a member: a UUID in text. Source: Kafka, `ShareGroupHeartbeat`.
  public static let longestMemberID = 36
  /// Most topics that one member may name.
  static let largestSubscription = 10_000

  /// Checks what can be checked without the group.
  func check() throws(BrokerError) {
    func require(_ holds: Bool, _ problem: @autoclosure () -> String) throws(BrokerError) {
      if !holds { throw BrokerError(.invalidRequest, "heartbeat for share group \(group): \(problem())") }
    }
    try require(!group.isEmpty, "the group id is empty")
    try require(!memberID.isEmpty, "the member id is empty")
    try require(
      memberID.utf8.count <= ShareHeartbeat.longestMemberID,
      "a member id of \(memberID.utf8.count) bytes; \(ShareHeartbeat.longestMemberID) are allowed")
    try require(rackID != "", "the rack id is empty")
    try require(epoch >= ShareGroup.leaving, "epoch \(epoch)")
    try require(epoch != ShareGroup.joining || !(topics ?? []).isEmpty, "joining needs topics")
    guard let topics else { return }
    try require(
      topics.count <= ShareHeartbeat.largestSubscription,
      "\(topics.count) topics; \(ShareHeartbeat.largestSubscription) are allowed")
    try require(
      topics.allSatisfy { $0.utf8.count <= ConsumerGroupRules.longestTopicName },
      "a topic's name of more than \(ConsumerGroupRules.longestTopicName) bytes")
  }
}

/// The answer to a heartbeat of a member of a share group.
public struct ShareHeartbeatAnswer: Equatable, Sendable {
  /// The member's id.
  public var memberID: String
  /// The member's epoch from now on.
  public var epoch: Int32
  /// When to come again.
  public var interval: Duration
  /// All that the member is to read, when that changed or the member asked.
  public var assignment: Set<TopicIDPartition>?
}

struct ShareGroup {
  enum State: String {
    case empty = "Empty"
    case stable = "Stable"
  }

  /// Epochs with a meaning of their own.
  static let joining: Int32 = 0
  static let leaving: Int32 = -1
  /// What Kafka calls the only assignor of share groups.
  static let assignor = "simple"

  struct Member {
    let id: String
    var rackID: String?
    var clientID: String
    var clientHost: String
    /// Topics by name, sorted.
    var topics: [String] = []
    var epoch: Int32 = 0
    var earlierEpoch: Int32 = 0
    /// What it was told to read.
    var assigned: Set<TopicIDPartition> = []
    var deadline: MonotonicTime

    /// Bytes that the client has brought.
    var size: Int {
      topics.reduce(id.utf8.count + clientID.utf8.count + (rackID?.utf8.count ?? 0)) { $0 + $1.utf8.count }
    }
  }

  let name: String
  var epoch: Int32 = 0
  private(set) var members: [String: Member] = [:]
  private var target: [String: Set<TopicIDPartition>] = [:]
  /// Partitions of all subscribed topics that exist.
  private var topics: [TopicID: Int32] = [:]
  private(set) var assignmentEpoch: Int32 = 0

  init(name: String) { self.name = name }

  var state: State { members.isEmpty ? .empty : .stable }
  /// Bytes that its members have brought.
  var size: Int { members.values.reduce(0) { $0 + $1.size } }
  /// When ``tick(_:)`` has something to do next.
  var nextDeadline: MonotonicTime? {
    members.values.lazy.map(\.deadline).filter { $0.nanoseconds < .max }.min()
  }

  /// Takes a heartbeat that ``ShareHeartbeat/check()`` found good.
  /// - Throws: `.unknownMember`, `.fencedMemberEpoch`: the member has to join again with epoch 0; `.groupTooLarge`.
  mutating func heartbeat(
    _ beat: ShareHeartbeat, topics known: some GroupTopics, rules: ShareRules, now: MonotonicTime
  ) throws(BrokerError) -> ShareHeartbeatAnswer {
    if beat.epoch == ShareGroup.leaving {
      guard members[beat.memberID] != nil else { throw unknown(beat.memberID) }
      remove([beat.memberID], known)
      return ShareHeartbeatAnswer(memberID: beat.memberID, epoch: beat.epoch, interval: rules.heartbeatInterval)
    }
    var member = try enter(beat, rules, now)
    let isNew = members[member.id] == nil
    var isChanged = isNew
    if let names = beat.topics {
      let sorted = Set(names).sorted()
      isChanged = isChanged || sorted != member.topics
      member.topics = sorted
    }
    member.rackID = beat.rackID ?? member.rackID
    member.clientID = beat.clientID
    member.clientHost = beat.clientHost
    member.deadline = now + rules.sessionTimeout
    members[member.id] = member
    if isChanged {
      epoch += 1
      topics = subscribedTopics(known)
    }
    if assignmentEpoch != epoch { assign(known) }
    let wanted = target[member.id] ?? []
    let isTold = beat.epoch == ShareGroup.joining || beat.topics != nil || wanted != member.assigned
    if member.epoch != epoch {
      member.earlierEpoch = member.epoch
      member.epoch = epoch
    }
    member.assigned = wanted
    members[member.id] = member
    return ShareHeartbeatAnswer(
      memberID: member.id, epoch: member.epoch, interval: rules.heartbeatInterval, assignment: isTold ? wanted : nil)
  }

  private func unknown(_ id: String) -> BrokerError {
    BrokerError(.unknownMember, "share group \(name) has no member \(id)")
  }

  private func enter(_ beat: ShareHeartbeat, _ rules: ShareRules, _ now: MonotonicTime) throws(BrokerError) -> Member {
    guard let member = members[beat.memberID] else {
      guard beat.epoch == ShareGroup.joining else { throw unknown(beat.memberID) }
      guard members.count < rules.largestSize else {
        throw BrokerError(
          .groupTooLarge, "share group \(name) has \(members.count) members; \(rules.largestSize) are allowed")
      }
      return Member(
        id: beat.memberID, rackID: beat.rackID, clientID: beat.clientID, clientHost: beat.clientHost, deadline: now)
    }
    // An answer may have been lost, so the epoch before counts as well.
    let isKnown = beat.epoch == ShareGroup.joining || beat.epoch == member.epoch || beat.epoch == member.earlierEpoch
    guard isKnown else {
      throw BrokerError(
        .fencedMemberEpoch, "member \(member.id) of share group \(name) has epoch \(member.epoch), not \(beat.epoch)")
    }
    return member
  }

  /// A member that needs no heartbeats: it lives where the group does.
  mutating func keep(_ id: String) { members[id]?.deadline = MonotonicTime(nanoseconds: .max) }

  /// A member goes.
  mutating func leave(_ id: String, topics known: some GroupTopics) {
    if members[id] != nil { remove([id], known) }
  }

  private mutating func remove(_ ids: [String], _ known: some GroupTopics) {
    guard !ids.isEmpty else { return }
    for id in ids {
      members[id] = nil
      target[id] = nil
    }
    epoch += 1
    topics = subscribedTopics(known)
  }

  /// Takes out those who have been silent for too long.
  /// - Returns: their ids.
  mutating func tick(_ now: MonotonicTime, topics known: some GroupTopics) -> [String] {
    let late = members.values.filter { $0.deadline <= now }.map(\.id).sorted()
    remove(late, known)
    return late
  }

  /// Topics came, went or grew.
  mutating func topicsChanged(_ known: some GroupTopics) {
    let new = subscribedTopics(known)
    guard new != topics else { return }
    topics = new
    epoch += 1
  }

  private func subscribedTopics(_ known: some GroupTopics) -> [TopicID: Int32] {
    var found: [TopicID: Int32] = [:]
    for name in Set(members.values.lazy.flatMap(\.topics)) {
      if let (id, partitions) = known.topic(name) { found[id] = partitions }
    }
    return found
  }

  /// Each partition to one of its topic's members, in turn over all topics; members that would have none of a topic share one.
  private mutating func assign(_ known: some GroupTopics) {
    var subscribers: [String: [String]] = [:]
    for member in members.values.sorted(by: { $0.id < $1.id }) {
      for topic in member.topics { subscribers[topic, default: []].append(member.id) }
    }
    target = [:]
    var turn = 0
    for (name, ids) in subscribers.sorted(by: { $0.key < $1.key }) {
      guard let (topic, count) = known.topic(name), count > 0 else { continue }
      for index in 0..<max(Int(count), ids.count) {
        target[ids[(turn + index) % ids.count], default: []].insert(
          TopicIDPartition(topic, Int32(index % Int(count))))
      }
      turn += Int(count)
    }
    assignmentEpoch = epoch
  }
}
