// ConsumerGroup: one group of the consumer protocol (KIP-848) as a pure state machine: heartbeats in, answers out.
//
// The group has an epoch, which every change of members, subscriptions or topics raises; a target assignment, made by an
// assignor for one group epoch (the assignment epoch); and of each member what it has now, which moves towards the target
// one heartbeat at a time (ConsumerGroup+Reconciliation.swift):
//
//              target differs, something to give up        owned partitions no longer hold it
//   stable ───────────────────────────────────▶ unrevoked ────────────────────────────────────┐
//     ▲ ▲                                                                                     │
//     │ └──────────────────────── all of the target is free ◀─────────────────────────────────┤
//     │                                                                                       ▼
//     └── others have let go, or the target changed ── unreleased ◀── part of the target is still with others
//
// A member's epoch is that of the target it has moved to. It stays behind while the member has something to give up, and
// nobody else gets that before the member has said that it is gone, has left, or is fenced. A heartbeat that says
// everything may come from a member that has not seen the last answer and is about to begin with what it was told before,
// so what it does not list is believed to be gone only when the next heartbeat agrees; Kafka believes it at once.
//
// Invariants: a partition is with at most one member (assigned or revoking), and that is what `holders` says; a member's
// epoch never exceeds the assignment epoch, which never exceeds the group's; no two members have one instance id; in a
// target no partition occurs twice; a member whose answer is kept back is never late. Time is an argument, never read.
// Source: KIP-848, "The Next Generation of the Consumer Rebalance Protocol"; KIP-1082 (ids made by clients); KIP-1251
// (commits under an earlier epoch).

import MillraceBase
import MillraceModel

/// The topics that there are, as a group asks for them.
protocol GroupTopics {
  /// Identity and number of partitions, nil when there is no such topic.
  func topic(_ name: String) -> (id: TopicID, partitions: Int32)?
  /// Number of partitions of the topic with this identity, nil when there is none.
  func partitions(of id: TopicID) -> Int32?
  /// Names of topics that a regular expression stands for, of those that `client` may describe; nil may all.
  func names(matching pattern: String, for client: ClientIdentity?) -> [String]
}

/// What all consumer groups have in common, from the settings.
struct ConsumerGroupRules: Sendable {
  var sessionTimeout: Duration = .seconds(45)
  var heartbeatInterval: Duration = .seconds(5)
  var largestSize = Int.max
  /// The first one is used when no member asks for another.
  var assignors: [ServerAssignor] = [.uniform, .range]
  /// Most topics that one member may name.
  var largestSubscription = 10_000
  /// Longest name of a topic, in bytes. Source: Kafka, `Topic.MAX_NAME_LENGTH`.
  static let longestTopicName = 249
}

struct ConsumerGroup {
  enum State: String {
    case empty = "Empty"
    case assigning = "Assigning"
    case reconciling = "Reconciling"
    case stable = "Stable"
  }

  /// Epochs with a meaning of their own.
  static let joining: Int32 = 0
  static let leaving: Int32 = -1
  static let pausing: Int32 = -2

  struct Member {
    enum State {
      case stable
      case unrevoked
      case unreleased
    }

    let id: String
    var instanceID: String?
    var rackID: String?
    var clientID: String
    var clientHost: String
    /// Whose rights decide which topics ``pattern`` stands for; nil has all.
    var client: ClientIdentity?
    var rebalanceTimeout: Duration
    /// Topics by name, sorted.
    var names: [String] = []
    /// Topics by regular expression.
    var pattern: String?
    var assignor: String?
    /// Topics of the subscription that exist.
    var topics: Set<TopicID> = []
    /// Number of that subscription among those of the group, nil before there is one.
    var subscription: Int?
    var epoch: Int32 = 0
    var earlierEpoch: Int32 = 0
    var state = State.stable
    /// What it may work on, with the epoch since which it has.
    var assigned: [TopicIDPartition: Int32] = [:]
    /// What it said last that it has.
    var reported: Set<TopicIDPartition> = []
    /// Its last heartbeat said everything.
    var saidAll = false
    /// What it has to give up, with the epoch since which it has it.
    var revoking: [TopicIDPartition: Int32] = [:]
    var sessionDeadline: MonotonicTime
    /// Set while it has something to give up.
    var rebalanceDeadline: MonotonicTime?
    /// Set for a member that speaks the classic protocol (ConsumerGroup+Classic.swift).
    var classic: ClassicPart?
    /// The epoch of an answer that is kept back until the epoch is durable; the member cannot be late meanwhile.
    var awaited: Int32?

    /// When the group has to look at it next, nil while it waits for an answer.
    var deadline: MonotonicTime? {
      if awaited != nil { return nil }
      return min(sessionDeadline, rebalanceDeadline ?? sessionDeadline, classic?.deadline ?? sessionDeadline)
    }
  }

  let name: String
  var rules: ConsumerGroupRules
  var epoch: Int32
  var assignmentEpoch: Int32
  var assignor: ServerAssignor
  var members: [String: Member] = [:]
  /// Member ids of static members.
  var instances: [String: String] = [:]
  var target: [String: Set<TopicIDPartition>] = [:]
  /// Who has each partition, assigned or revoking.
  var holders: [TopicIDPartition: String] = [:]
  /// Partitions of all subscribed topics that exist.
  var topics: [TopicID: Int32] = [:]
  var subscriptions = GroupSubscriptions()

  /// A group without members.
  /// - Parameter epoch: below all epochs that it will give out.
  init(name: String, rules: ConsumerGroupRules, epoch: Int32 = 0) {
    self.name = name
    self.rules = rules
    self.epoch = epoch
    assignmentEpoch = epoch
    assignor = rules.assignors.first ?? .uniform
  }

  var state: State {
    if members.isEmpty { return .empty }
    if epoch != assignmentEpoch { return .assigning }
    return members.values.allSatisfy { isReconciled($0) } ? .stable : .reconciling
  }

  func isReconciled(_ member: Member) -> Bool { member.state == .stable && member.epoch == assignmentEpoch }

  /// When ``tick(_:)`` has something to do next.
  var nextDeadline: MonotonicTime? {
    var next: MonotonicTime?
    for member in members.values {
      if let deadline = member.deadline { next = min(next ?? deadline, deadline) }
    }
    return next
  }

  /// Regular expressions that members subscribe with.
  var patterns: Set<String> { Set(members.values.compactMap(\.pattern)) }

  /// Fences those who were silent for too long, or did not give up in time what they had to.
  mutating func tick(_ now: MonotonicTime) {
    let late = members.values.filter { $0.deadline.map { $0 <= now } ?? false }
    for member in late.sorted(by: { $0.id < $1.id }) { remove(member.id) }
  }

  /// An answer with this epoch to a member has to wait.
  mutating func holdBack(_ id: String, _ epoch: Int32) { members[id]?.awaited = epoch }

  /// An answer that had to wait leaves now; what the member is told to do it has the whole time for.
  /// - Returns: whether the member is still what the answer says.
  mutating func answered(_ id: String, _ epoch: Int32, _ now: MonotonicTime) -> Bool {
    guard var member = members[id] else { return false }
    defer { members[id] = member }
    if member.awaited == epoch { member.awaited = nil }
    guard member.epoch == epoch else { return false }
    member.sessionDeadline = now + (member.classic?.sessionTimeout ?? rules.sessionTimeout)
    if member.rebalanceDeadline != nil { member.rebalanceDeadline = now + member.rebalanceTimeout }
    if member.classic?.deadline != nil { member.classic?.deadline = now + member.rebalanceTimeout }
    return true
  }

  /// Takes a member out, with all it had.
  mutating func remove(_ id: String) {
    guard let member = members.removeValue(forKey: id) else { return }
    if let instance = member.instanceID { instances[instance] = nil }
    release(member.assigned.keys)
    release(member.revoking.keys)
    target[id] = nil
    raiseEpoch()
    if let number = member.subscription, subscriptions.leave(number) { dropTopics() }
  }

  mutating func release(_ partitions: some Collection<TopicIDPartition>) {
    for partition in partitions { holders[partition] = nil }
  }

  mutating func raiseEpoch() { epoch = epoch == .max ? 1 : epoch + 1 }

  // MARK: Topics

  /// Topics came, went or grew: what members subscribe to is found anew.
  mutating func topicsChanged(_ known: some GroupTopics) {
    guard !members.isEmpty else { return }
    let before = topics
    var isChanged = false
    for id in members.keys {
      guard var member = members[id] else { continue }
      let found = resolve(member, known)
      guard found != member.topics else { continue }
      subscribe(&member, to: found)
      members[id] = member
      isChanged = true
    }
    topics = subscriptions.topics.reduce(into: [:]) { $0[$1] = known.partitions(of: $1) }
    if isChanged || topics != before { raiseEpoch() }
  }

  /// The topics of a member's subscription that exist.
  func resolve(_ member: Member, _ known: some GroupTopics) -> Set<TopicID> {
    var found = Set(member.names.compactMap { known.topic($0)?.id })
    if let pattern = member.pattern {
      for name in known.names(matching: pattern, for: member.client) {
        if let id = known.topic(name)?.id { found.insert(id) }
      }
    }
    return found
  }

  /// Gives a member its subscription, which it shares with those who have the same.
  /// - Returns: whether the last one that others had is gone, so that topics may be without subscribers.
  @discardableResult
  mutating func subscribe(_ member: inout Member, to found: Set<TopicID>) -> Bool {
    let isGone = member.subscription.map { subscriptions.leave($0) } ?? false
    let (number, topics) = subscriptions.enter(found)
    member.subscription = number
    member.topics = topics
    return isGone
  }

  /// Learns the partition counts of a member's topics, and drops topics that nobody subscribes to any more.
  mutating func followTopics(of member: Member, _ known: some GroupTopics, isGone: Bool) {
    for id in member.topics where topics[id] == nil { topics[id] = known.partitions(of: id) }
    if isGone { dropTopics() }
  }

  private mutating func dropTopics() {
    let subscribed = subscriptions.topics
    topics = topics.filter { subscribed.contains($0.key) }
  }

  // MARK: Offsets

  /// Whether offsets may be committed.
  ///
  /// Under a member's current epoch all may be; under an earlier one, `partitions` that the member has had since then. A
  /// negative epoch is a client outside the protocol, which may commit while nobody is there.
  func checkCommit(
    memberID: String, epoch wanted: Int32, partitions: [TopicIDPartition]?
  ) throws(BrokerError) {
    if wanted < 0, members.isEmpty { return }
    let member = try find(memberID)
    if wanted == member.epoch, wanted >= 0 { return }
    if member.classic != nil { throw wrongGeneration(member, wanted) }
    guard let partitions else { throw stale(member, wanted) }
    for partition in partitions {
      guard wanted >= 0, wanted < member.epoch, let since = member.assigned[partition] ?? member.revoking[partition],
        since <= wanted
      else { throw stale(member, wanted) }
    }
  }

  /// Whether a member may read the group's offsets under an epoch.
  func checkFetch(memberID: String, epoch wanted: Int32) throws(BrokerError) {
    let member = try find(memberID)
    guard wanted == member.epoch else { throw stale(member, wanted) }
  }

  private func stale(_ member: Member, _ wanted: Int32) -> BrokerError {
    BrokerError(
      .staleMemberEpoch, "epoch \(wanted) of member \(member.id) of group \(name), which has \(member.epoch) now")
  }

  func find(_ id: String) throws(BrokerError) -> Member {
    guard let member = members[id] else { throw BrokerError(.unknownMember, "group \(name) has no member \(id)") }
    return member
  }
}
