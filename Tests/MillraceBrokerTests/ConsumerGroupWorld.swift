// ConsumerGroupWorld: one group of the consumer protocol with a clock, topics, members that behave as clients do, and the
// rules that must hold after each event.

import MillraceBase
import MillraceModel

@testable import MillraceBroker

/// Topics for a group; an expression stands for the names that begin with it.
struct PlayedTopics: GroupTopics {
  var topics: [String: (id: TopicID, partitions: Int32)] = [:]
  private var made: UInt64 = 0
  /// All partitions that there have ever been.
  private(set) var all: Set<TopicIDPartition> = []

  mutating func make(_ name: String, _ partitions: Int32) {
    made += 1
    topics[name] = (TopicID(high: 7, low: made), partitions)
    // Topics grow by a few at most.
    for partition in 0..<(partitions + 200) { all.insert(TopicIDPartition(TopicID(high: 7, low: made), partition)) }
  }

  func topic(_ name: String) -> (id: TopicID, partitions: Int32)? { topics[name] }
  func partitions(of id: TopicID) -> Int32? { topics.values.first { $0.id == id }?.partitions }
  func names(matching pattern: String, for client: ClientIdentity?) -> [String] {
    topics.keys.filter { $0.hasPrefix(pattern) }.sorted()
  }
}

/// A client: what it believes, and what it works on.
final class PlayedMember {
  let id: String
  let instance: String?
  var topics: [String]
  var pattern: String?
  var assignor: String?
  var epoch: Int32 = 0
  /// What it works on.
  var owned: Set<TopicIDPartition> = []
  /// What it was last told to have; nil when it has got there.
  var told: Set<TopicIDPartition>?
  /// The next heartbeat has to say everything.
  var saysAll = true
  /// It has something to report.
  var hasNews = false

  init(_ id: String, instance: String? = nil, topics: [String] = [], pattern: String? = nil, assignor: String? = nil) {
    self.id = id
    self.instance = instance
    self.topics = topics
    self.pattern = pattern
    self.assignor = assignor
  }

  /// A heartbeat as librdkafka and Java make it: everything at first and after a failure, then only what is new.
  func beat(_ special: Int32? = nil) -> ConsumerHeartbeat {
    var beat = ConsumerHeartbeat(group: "g", memberID: id, epoch: special ?? epoch, clientID: "c", clientHost: "/h")
    beat.instanceID = instance
    guard special == nil else { return beat }
    if saysAll || epoch == 0 {
      beat.rebalanceTimeout = .seconds(30)
      beat.topics = topics
      beat.pattern = pattern ?? ""
      beat.assignor = assignor
      beat.owned = owned
    } else if hasNews {
      beat.owned = owned
    }
    return beat
  }

  /// Takes an answer: works at once on what it may keep, and remembers the rest.
  func take(_ answer: ConsumerHeartbeatAnswer) {
    epoch = answer.epoch
    saysAll = false
    hasNews = false
    if let assignment = answer.assignment { told = assignment }
  }

  /// Gives up what it was told to, and only then begins with what is new.
  func obey() {
    guard let assignment = told else { return }
    told = nil
    hasNews = true
    owned = assignment
  }

  /// The broker does not know it any more: everything is given up, and it joins again.
  func fenced() {
    owned = []
    told = nil
    epoch = 0
    saysAll = true
  }
}

/// A group with its members.
final class ConsumerGroupWorld {
  var group: ConsumerGroup
  var topics = PlayedTopics()
  private(set) var now = MonotonicTime(nanoseconds: 0)
  private(set) var problems: [String] = []
  var members: [PlayedMember] = []

  init(_ rules: ConsumerGroupRules = ConsumerGroupRules(), topics: [String: Int32] = ["t": 4], epoch: Int32 = 0) {
    group = ConsumerGroup(name: "g", rules: rules, epoch: epoch)
    for (name, count) in topics.sorted(by: { $0.key < $1.key }) { self.topics.make(name, count) }
  }

  func add(_ member: PlayedMember) -> PlayedMember {
    members.append(member)
    return member
  }

  /// A member that subscribes to `t` unless told otherwise, and has sent its first heartbeat.
  func join(_ id: String, instance: String? = nil, topics: [String] = ["t"], pattern: String? = nil) -> PlayedMember {
    let member = add(PlayedMember(id, instance: instance, topics: topics, pattern: pattern))
    _ = beat(member)
    return member
  }

  /// A raw heartbeat.
  func send(_ beat: ConsumerHeartbeat) -> Result<ConsumerHeartbeatAnswer, BrokerError> {
    defer { check() }
    do throws(BrokerError) {
      try beat.check(group.rules)
      return .success(try group.heartbeat(beat, topics: topics, now: now))
    } catch {
      return .failure(error)
    }
  }

  func refusal(_ beat: ConsumerHeartbeat) -> BrokerError.Code? {
    guard case .failure(let error) = send(beat) else { return nil }
    return error.code
  }

  /// A member's heartbeat; the answer, or the refusal, is taken in unless it is lost.
  @discardableResult
  func beat(_ member: PlayedMember, lost: Bool = false, obeys: Bool = true) -> BrokerError.Code? {
    let result = send(member.beat())
    if lost {
      member.saysAll = true
      return nil
    }
    switch result {
    case .success(let answer):
      member.take(answer)
      if obeys { member.obey() }
      check()
      return nil
    case .failure(let error):
      if error.code == .unknownMember || error.code == .fencedMemberEpoch { member.fenced() }
      // Another one has its instance: for a client that is the end.
      if error.code == .fencedInstance { members.removeAll { $0 === member } }
      check()
      return error.code
    }
  }

  func leave(_ member: PlayedMember, epoch: Int32 = ConsumerGroup.leaving) {
    member.fenced()
    _ = send(member.beat(epoch))
    members.removeAll { $0 === member }
    check()
  }

  /// Every member reports, so many times.
  func rounds(_ count: Int = 4) {
    for _ in 0..<count {
      for member in members { beat(member) }
    }
  }

  /// Lets time pass, with ticks at each deadline.
  func pass(_ time: Duration) {
    let end = now + time
    while let next = group.nextDeadline, next <= end {
      now = max(now, next)
      group.tick(now)
      check()
      if let after = group.nextDeadline, after <= now {
        problems.append("after a tick at \(now.nanoseconds) the next deadline is \(after.nanoseconds)")
        break
      }
    }
    now = end
  }

  func change(_ body: (inout PlayedTopics) -> Void) {
    body(&topics)
    group.topicsChanged(topics)
    check()
  }

  // MARK: Rules

  private func require(_ holds: Bool, _ rule: @autoclosure () -> String) {
    if !holds { problems.append("\(now.nanoseconds) \(group.state): \(rule())") }
  }

  func check() {
    var holders: [TopicIDPartition: String] = [:]
    for member in group.members.values {
      for one in Array(member.assigned.keys) + Array(member.revoking.keys) {
        let other = holders.updateValue(member.id, forKey: one)
        require(other == nil, "\(one) is with \(other ?? "") and \(member.id)")
      }
      require(member.epoch <= group.assignmentEpoch, "\(member.id) has epoch \(member.epoch)")
      require((member.state == .unrevoked) == !member.revoking.isEmpty, "\(member.id) gives up \(member.revoking)")
      require((member.rebalanceDeadline != nil) == (member.state == .unrevoked), "\(member.id) has a wrong deadline")
      require(member.instanceID.map { group.instances[$0] == member.id } ?? true, "\(member.id) lost its instance")
      require(member.topics.isSubset(of: Set(group.topics.keys)), "\(member.id) has topics that the group has not")
      require(
        member.reported.isSubset(of: topics.all),
        "\(member.id) made the group remember \(member.reported.count) partitions")
    }
    let subscribed = group.members.values.reduce(into: Set()) { $0.formUnion($1.topics) }
    require(
      Set(group.topics.keys) == subscribed, "the group knows \(group.topics.count) of \(subscribed.count) topics")
    require(group.subscriptions.topics == subscribed, "the subscriptions hold other topics than the members'")
    require(holders == group.holders, "holders are \(group.holders), they should be \(holders)")
    require(group.instances.count == group.members.values.count { $0.instanceID != nil }, "instances without members")
    require(group.assignmentEpoch <= group.epoch, "assignment epoch \(group.assignmentEpoch) of \(group.epoch)")
    require(Set(group.target.keys).isSubset(of: group.members.keys), "a target without a member")
    require(
      group.target.values.reduce(0) { $0 + $1.count } == group.target.values.reduce(Set()) { $0.union($1) }.count,
      "the target gives a partition twice")
    checkClients()
  }

  /// What a client works on is kept for it as long as the group knows it, so no two of them ever work on the same.
  private func checkClients() {
    var workers: [TopicIDPartition: String] = [:]
    for member in members {
      guard let known = group.members[member.id], member.epoch > 0 else { continue }
      for one in member.owned {
        require(known.assigned[one] != nil || known.revoking[one] != nil, "\(member.id) works on \(one) unheld")
        let other = workers.updateValue(member.id, forKey: one)
        require(other == nil, "\(one) is worked on by \(other ?? "") and \(member.id)")
      }
    }
  }
}
