// ConsumerGroupRequestTests: groups of the consumer protocol over the wire, in virtual time: answers, commits, lists, change of
// protocol, topics that come later, restarts.

import MillraceBase
import MillraceKafkaProtocol
import MillraceLog
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceBroker
@testable import MillraceKafkaServer

private func count(_ answer: ConsumerGroupHeartbeatResponse) -> Int? {
  answer.assignment.map { $0.topicPartitions.reduce(0) { $0 + $1.partitions.count } }
}

@Test("two members share a topic over heartbeats, and the group is listed and described as what it is")
func sharing() throws {
  let server = try GroupServer()
  let first = try server.beat("m1", 0)
  #expect(first.errorCode == .none && first.memberID == "m1" && first.memberEpoch == 1 && count(first) == 4)
  #expect(first.heartbeatIntervalMilliseconds == 5000)
  #expect(try server.list() == [["g", "consumer", "Stable", "consumer"]])
  #expect(count(try server.beat("m2", 0, assignor: "range")) == 0)
  let told = try server.beat("m1", 1)
  let kept = told.assignment?.topicPartitions.first?.partitions ?? []
  #expect(kept.count == 2 && told.memberEpoch == 1)
  #expect(try server.list(states: ["reconciling"]).count == 1 && server.list(states: ["Stable"]).isEmpty)
  #expect(try server.beat("m1", 1, owned: [(server.id, kept)]).memberEpoch == 2)
  #expect(count(try server.beat("m2", 2)) == 2)
  let group = try server.described()
  #expect(group.errorCode == .none && group.groupState == "Stable" && group.groupEpoch == 2)
  #expect(group.assignmentEpoch == 2 && group.assignorName == "range")
  let member = try #require(group.members.first)
  #expect(member.memberID == "m1" && member.rackID == "rack" && member.clientID == "test" && member.memberType == 1)
  #expect(member.subscribedTopicNames == ["t"] && member.memberEpoch == 2 && member.clientHost == "/127.0.0.1")
  #expect(member.assignment == member.targetAssignment && member.assignment.topicPartitions.first?.topicName == "t")
  #expect(try server.list(types: ["Classic"]) == [] && server.list(types: ["CONSUMER"]).count == 1)
  let classic = try server.ask(DescribeGroupsRequest(groups: ["g"]), 6)
  #expect(classic.groups.first?.errorCode == .groupIDNotFound && classic.groups.first?.groupState == "Dead")
  #expect(try server.ask(DescribeGroupsRequest(groups: ["g"]), 5).groups.first?.errorCode == KafkaErrorCode.none)
  #expect(try server.described("none").errorCode == .groupIDNotFound)
  #expect(server.broker.figures(connections: 1).contains("\"state\":\"Stable\""))
}

@Test("refusals have Kafka's codes")
func refusalCodes() throws {
  let server = try GroupServer(setting: "group.consumer.max.size", "1")
  #expect(try server.beat("m1", 0, group: "").errorCode == .invalidRequest)
  #expect(try server.beat("", 0).errorCode == .invalidRequest)
  #expect(try server.beat("m1", 0, assignor: "sticky").errorCode == .unsupportedAssignor)
  #expect(try server.beat("m1", 0, pattern: "(").errorCode == .invalidRegularExpression)
  #expect(try server.beat("m1", 0, pattern: "(a)\\1").errorCode == .invalidRegularExpression)
  #expect(try server.beat("m1", 7).errorCode == .unknownMemberID)
  #expect(try server.beat("m1", -1).errorCode == .unknownMemberID)
  #expect(try server.list() == [], "what was refused leaves nothing behind")
  #expect(try server.beat("m1", 0, instance: "i").errorCode == .none)
  #expect(try server.beat("m2", 0, instance: "i").errorCode == .unreleasedInstanceID)
  #expect(try server.beat("m2", 0).errorCode == .groupMaxSizeReached)
  #expect(try server.beat("m1", 9, instance: "i").errorCode == .fencedMemberEpoch)
  #expect(try server.beat("m3", 1, instance: "i").errorCode == .fencedInstanceID)
  #expect(try server.beat("m3", 1, instance: "i", owned: [(server.id, [0])]).errorCode == .fencedInstanceID)
}

@Test("a list of partitions that nobody could have is refused, and whether one is a member is looked at first")
func boundedReports() throws {
  let server = try GroupServer()
  #expect(try server.beat("m1", 0).errorCode == .none)
  let many = Array(0..<Int32(100_000))
  let refused = try server.beat("m1", 1, owned: [(server.id, many)])
  #expect(refused.errorCode == .invalidRequest && refused.errorMessage?.contains("100000") == true)
  #expect(try server.beat("ghost", 1, owned: [(server.id, many)]).errorCode == .unknownMemberID)
  #expect(try server.beat("m1", 1, owned: [(server.id, [0, 1, 2, 3])]).errorCode == .none)
  #expect(try server.beat("m1", -1, owned: [(server.id, many)]).errorCode == .none, "who leaves, leaves")
}

@Test("the expression of one who is no member, or cannot become one, is not even compiled")
func membershipBeforeExpressions() throws {
  let server = try GroupServer(setting: "group.consumer.max.size", "1")
  #expect(try server.beat("m1", 0).errorCode == .none)
  #expect(try server.beat("ghost", 5, pattern: "(").errorCode == .unknownMemberID)
  #expect(try server.beat("m1", 9, pattern: "(").errorCode == .fencedMemberEpoch)
  #expect(try server.beat("m2", 0, pattern: "(").errorCode == .groupMaxSizeReached)
  #expect(try server.beat("m1", 1, pattern: "(").errorCode == .invalidRegularExpression)
}

@Test("names that no topic can have, and a rebalance time-out that is none, are refused")
func boundedHeartbeats() throws {
  let server = try GroupServer()
  let long = String(repeating: "x", count: 250)
  #expect(try server.beat("m1", 0, topics: [long]).errorCode == .invalidRequest)
  #expect(try server.beat("m1", 0, topics: [String(long.dropLast())]).errorCode == .none)
  let answer = try server.ask(
    ConsumerGroupHeartbeatRequest(groupID: "g", memberID: "m1", memberEpoch: 1, rebalanceTimeoutMilliseconds: -7), 1)
  #expect(answer.errorCode == .invalidRequest)
}

@Test("a group's own session time-out and heartbeat interval count at once, within the broker's limits")
func groupSettings() throws {
  let server = try GroupServer()
  #expect(try server.beat("m1", 0).heartbeatIntervalMilliseconds == 5000)
  #expect(try server.settings()["consumer.session.timeout.ms"].map { $0 == ("45000", 5) } == true)
  let changed = try server.configure([
    ("consumer.session.timeout.ms", "60000"), ("consumer.heartbeat.interval.ms", "7000"),
  ])
  #expect(changed.0 == .none)
  #expect(try server.settings()["consumer.session.timeout.ms"].map { $0 == ("60000", 8) } == true)
  #expect(try server.beat("m1", 1).heartbeatIntervalMilliseconds == 7000)
  server.world.run(for: .seconds(50))
  #expect(try server.beat("m1", 1).errorCode == .none, "the session is 60 s now")
  server.world.run(for: .seconds(61))
  #expect(try server.beat("m1", 1).errorCode == .unknownMemberID)
  #expect(try server.beat("m2", 0, group: "other").heartbeatIntervalMilliseconds == 5000)
  // Durable, and there for a group that begins later.
  try server.restart()
  #expect(try server.beat("m1", 0).heartbeatIntervalMilliseconds == 7000)
  #expect(try server.configure([("consumer.heartbeat.interval.ms", nil)]).0 == .none)
  #expect(try server.beat("m1", 0).heartbeatIntervalMilliseconds == 5000)
  for (name, value) in [
    ("consumer.session.timeout.ms", "44999"), ("consumer.session.timeout.ms", "60001"),
    ("consumer.heartbeat.interval.ms", "4999"), ("consumer.heartbeat.interval.ms", "15001"),
    ("consumer.session.timeout.ms", "soon"), ("consumer.assignor", "uniform"),
    ("share.isolation.level", "serializable"),
  ] {
    let refused = try server.configure([(name, value)])
    #expect(refused.0 == .invalidConfig && refused.1.contains(name), "\(name)=\(value): \(refused)")
  }
  #expect(try server.configure([("share.session.timeout.ms", "50000")]).0 == .none)
}

@Test("in version 0 the broker makes the member's id")
func madeIDs() throws {
  let server = try GroupServer()
  let answer = try server.beat("", 0, version: 0)
  let id = try #require(answer.memberID)
  #expect(id.hasPrefix("test-") && count(answer) == 4)
  #expect(try server.beat(id, answer.memberEpoch, version: 0).errorCode == .none)
}

@Test("offsets are committed and fetched under a member's epoch, and others are told that theirs is stale")
func offsets() throws {
  let server = try GroupServer()
  #expect(try server.commit("", -1, 3) == KafkaErrorCode.none, "nobody is there: an administrator may")
  _ = try server.beat("m1", 0)
  #expect(try server.commit("m1", 1, 5) == KafkaErrorCode.none)
  #expect(try server.commit("m1", 2, 6) == .staleMemberEpoch)
  #expect(try server.commit("m2", 1, 6) == .unknownMemberID)
  #expect(try server.commit("", -1, 6) == .unknownMemberID)
  #expect(try server.fetch("m1", 1) == (KafkaErrorCode.none, 5))
  #expect(try server.fetch(nil, -1) == (KafkaErrorCode.none, 5))
  #expect(try server.fetch("m1", 2).0 == .staleMemberEpoch)
  #expect(try server.fetch("m2", 1).0 == .unknownMemberID)
}

@Test("a topic that is made later and matches an expression reaches the member; internal ones never do")
func laterTopics() throws {
  let server = try GroupServer()
  #expect(count(try server.beat("m1", 0, pattern: "logs\\..*|__.*")) == 0)
  try server.makeTopic("logs.a", 3)
  try server.makeTopic("other", 3)
  let answer = try server.beat("m1", 1)
  #expect(count(answer) == 3 && answer.memberEpoch == 2)
  #expect(try server.beat("m1", 2).assignment == nil)
  #expect(try server.described().members.first?.subscribedTopicRegex == "logs\\..*|__.*")
  try server.deleteTopic("logs.a")
  #expect(count(try server.beat("m1", 2)) == 0)
}

@Test("silence ends a member in time, and a group that nobody is in and that has no offsets is forgotten")
func sessions() throws {
  let server = try GroupServer()
  _ = try server.beat("m1", 0)
  server.world.run(for: .seconds(44))
  #expect(try server.list().count == 1)
  server.world.run(for: .seconds(2))
  #expect(try server.list() == [])
  #expect(try server.described().errorCode == .groupIDNotFound)
  #expect(try server.beat("m1", 1).errorCode == .unknownMemberID)
  _ = try server.beat("m1", 0)
  _ = try server.commit("m1", 1, 1)
  #expect(try server.beat("m1", -1).memberEpoch == -1)
  #expect(try server.list() == [["g", "consumer", "Empty", "consumer"]])
  try server.deleteTopic("t")
  #expect(try server.list() == [], "with its last offset an empty group goes")
}

@Test("after a restart members are told to join again, and their epochs go on, never back")
func restarts() throws {
  let server = try GroupServer()
  var last: Int32 = 0
  for round in 0..<3 {
    for _ in 0..<5 {
      let joined = try server.beat("m1", 0, instance: "i")
      #expect(joined.memberEpoch > last, "round \(round)")
      last = joined.memberEpoch
      #expect(try server.commit("m1", last, Int64(last)) == KafkaErrorCode.none)
      _ = try server.beat("m1", -1, instance: "i")
    }
    let stays = try server.beat("m1", 0, instance: "i").memberEpoch
    try server.restart()
    #expect(try server.list() == [["g", "consumer", "Empty", "consumer"]])
    #expect(try server.beat("m1", stays, instance: "i").errorCode == .unknownMemberID)
    #expect(try server.commit("m1", stays, 0) == .unknownMemberID, "an old commit must not pass for a new one")
    #expect(try server.fetch("m1", stays).0 == .unknownMemberID)
    #expect(try server.fetch(nil, -1) == (KafkaErrorCode.none, Int64(last)))
    last = stays
  }
}

@Test("epochs are durable before a member hears of them, at any rate of change")
func durableEpochs() throws {
  let server = try GroupServer()
  _ = try server.beat("m0", 0)
  _ = try server.commit("m0", 1, 1)
  var last: Int32 = 1
  for number in 1...250 {
    last = try server.beat("m\(number)", 0).memberEpoch
    _ = try server.beat("m\(number)", -1)
  }
  #expect(last > 400)
  try server.restart()
  #expect(try server.beat("new", 0).memberEpoch > last)
}

@Test("a group whose members cannot be understood has one protocol at a time, and changes it while it is empty")
func changeOfProtocol() throws {
  let server = try GroupServer()
  let classic = try server.joinClassic()
  #expect(classic.errorCode == .none)
  #expect(try server.beat("m1", 0).errorCode == .groupIDNotFound)
  #expect(try server.described().errorCode == .groupIDNotFound)
  _ = try server.ask(LeaveGroupRequest(groupID: "g", memberID: classic.memberID), 0)
  #expect(try server.commit("", -1, 4) == KafkaErrorCode.none)
  #expect(try server.list() == [["g", "consumer", "Empty", "classic"]])
  #expect(count(try server.beat("m1", 0)) == 4)
  #expect(try server.list() == [["g", "consumer", "Stable", "consumer"]])
  #expect(try server.joinClassic().errorCode == .inconsistentGroupProtocol)
  #expect(try server.joinClassic("x").errorCode == .inconsistentGroupProtocol)
  let heartbeat = try server.ask(HeartbeatRequest(groupID: "g", generationID: 1, memberID: "m1"), 3)
  #expect(heartbeat.errorCode == .unknownMemberID)
  _ = try server.beat("m1", -1)
  #expect(try server.joinClassic().errorCode == .none)
  #expect(try server.list() == [["g", "consumer", "CompletingRebalance", "classic"]])
  #expect(try server.fetch(nil, -1) == (KafkaErrorCode.none, 4), "offsets stay")
  try server.restart()
  #expect(try server.list() == [["g", "consumer", "Empty", "classic"]])
}

@Test("an administrator takes a static member out with LeaveGroup, by its instance id only")
func administrativeLeave() throws {
  let server = try GroupServer()
  _ = try server.beat("m1", 0, instance: "i")
  let leave = try server.ask(
    LeaveGroupRequest(groupID: "g", members: [.init(memberID: "m1"), .init(groupInstanceID: "i")]), 4)
  #expect(leave.members.map(\.errorCode) == [.unknownMemberID, .none])
  #expect(try server.list() == [])
}

@Test("settings that contradict each other keep the broker from starting")
func contradictingSettings() {
  for (name, value) in [
    ("group.consumer.session.timeout.ms", "1000"), ("group.consumer.heartbeat.interval.ms", "60000"),
    ("group.consumer.min.heartbeat.interval.ms", "9000"), ("group.consumer.assignors", ""),
  ] {
    #expect(throws: BrokerError.self, "\(name)") { _ = try GroupServer(setting: name, value) }
  }
  #expect(throws: BrokerError.self) { _ = try GroupServer(setting: "group.consumer.assignors", "sticky") }
}

/// A stable classic group of two members that can be read; their ids and generation.
private func classicPair(_ server: GroupServer) throws -> (ids: [String], generation: Int32) {
  let one = try server.joinReadable()
  #expect(try server.sync(one.memberID, one.generationID, leads: [one.memberID])?.count == 4)
  // The second one's join is answered when the first has come again.
  let id = try server.ask(
    JoinGroupRequest(
      groupID: "g", sessionTimeoutMilliseconds: 10_000, rebalanceTimeoutMilliseconds: 10_000, memberID: "",
      protocolType: "consumer", protocols: [.init(name: "range", metadata: server.subscription())]), 5
  ).memberID
  var joined: [String: Int32] = [:]
  for member in [id, one.memberID] {
    server.broker.groups.join(
      .init(
        group: "g", memberID: member, instanceID: nil, clientID: "test", clientHost: "/h", sessionTimeout: .seconds(10),
        rebalanceTimeout: .seconds(10), protocolType: "consumer", protocols: [("range", server.subscription())],
        requiresKnownID: true)
    ) { result in
      if case .success(let answer) = result { joined[answer.memberID] = answer.generation }
    }
  }
  try #require(server.world.run { joined.count == 2 })
  let generation = try #require(joined[id])
  let leads = [one.memberID, id]
  #expect(try server.beat("early", 0).errorCode == .coordinatorLoadInProgress, "it is not settled yet")
  #expect(try server.sync(one.memberID, generation, leads: leads) == [0, 2])
  #expect(try server.sync(id, generation) == [1, 3])
  return (leads, generation)
}

@Test("a live classic group goes over to the consumer protocol with its first such member, and back with its last")
func onlineMigration() throws {
  let server = try GroupServer()
  let (ids, generation) = try classicPair(server)
  #expect(try server.commit(ids[0], generation, 7) == KafkaErrorCode.none)
  let new = try server.beat("new", 0)
  #expect(new.errorCode == .none && count(new) == 0 && new.memberEpoch > generation)
  #expect(try server.list() == [["g", "consumer", "Reconciling", "consumer"]])
  #expect(try server.described().members.map(\.memberType).sorted() == [0, 0, 1])
  // What was worked on before is committed under the old generation; then everybody joins again.
  #expect(try server.commit(ids[0], generation, 8) == KafkaErrorCode.none)
  var epochs: [String: Int32] = [:]
  var held: [String: [Int32]] = [:]
  for id in ids {
    #expect(try server.beatClassic(id, generation) == .rebalanceInProgress)
    let joined = try server.joinReadable(id)
    #expect(
      joined.errorCode == .none && joined.leader == "" && joined.protocolName == "range" && joined.members.isEmpty)
    epochs[id] = joined.generationID
    held[id] = try server.sync(id, joined.generationID)
  }
  let told = try server.beat("new", new.memberEpoch)
  #expect(Set(held.values.flatMap { $0 }).count == 3 && count(told) == 1)
  #expect(try server.list() == [["g", "consumer", "Stable", "consumer"]])
  #expect(try server.beatClassic(ids[0], try #require(epochs[ids[0]])) == .none)
  #expect(try server.commit(ids[0], generation, 9) == .illegalGeneration)
  // The epochs that classic members hear are durable as well.
  #expect(try server.leaveClassic(ids[1]) == .none)
  #expect(try server.leaveClassic("new") == .unknownMemberID, "one of the consumer protocol leaves with a heartbeat")
  #expect(try server.beat("new", -1).errorCode == .none)
  #expect(try server.list() == [["g", "consumer", "PreparingRebalance", "classic"]])
  let epoch = try #require(epochs[ids[0]])
  #expect(try server.commit(ids[0], epoch, 10) == KafkaErrorCode.none, "nothing that was worked on is lost")
  #expect(try server.beatClassic(ids[0], epoch) == .rebalanceInProgress)
  let again = try server.joinReadable(ids[0])
  #expect(again.leader == ids[0] && again.generationID > epoch)
  #expect(try server.sync(ids[0], again.generationID, leads: [ids[0]])?.count == 4)
  #expect(try server.fetch(nil, -1) == (KafkaErrorCode.none, 10))
}

@Test("a classic member joins a group of the consumer protocol that has members; its epochs survive a restart")
func classicJoinsConsumerGroup() throws {
  let server = try GroupServer()
  #expect(count(try server.beat("new", 0)) == 4)
  let joined = try server.joinReadable()
  #expect(joined.errorCode == .none && joined.generationID == 2)
  #expect(try server.sync(joined.memberID, 2) == [])
  let told = try server.beat("new", 1)
  let kept = told.assignment?.topicPartitions.first?.partitions ?? []
  #expect(try server.beat("new", 1, owned: [(server.id, kept)]).memberEpoch == 2)
  #expect(try server.beatClassic(joined.memberID, 2) == .rebalanceInProgress, "what it waits for is free")
  let again = try server.joinReadable(joined.memberID)
  #expect(try server.sync(joined.memberID, again.generationID)?.count == 2)
  #expect(try server.commit(joined.memberID, again.generationID, 3) == KafkaErrorCode.none)
  #expect(try server.sync(joined.memberID, 77) == nil)
  try server.restart()
  #expect(try server.beatClassic(joined.memberID, again.generationID) == .unknownMemberID)
  #expect(try server.beat("new", 0).memberEpoch > again.generationID)
}

@Test("a policy keeps groups with members from changing their protocol")
func migrationPolicy() throws {
  let server = try GroupServer(setting: "group.consumer.migration.policy", "downgrade")
  let joined = try server.joinReadable()
  #expect(try server.sync(joined.memberID, joined.generationID, leads: [joined.memberID])?.count == 4)
  #expect(try server.beat("new", 0).errorCode == .groupIDNotFound)
  let other = try GroupServer(setting: "group.consumer.migration.policy", "upgrade")
  #expect(try other.beat("new", 0).errorCode == .none)
  let classic = try other.joinReadable()
  #expect(classic.errorCode == .none)
  #expect(try other.beat("new", -1).errorCode == .none)
  #expect(try other.list().first?.last == "consumer", "it goes on with classic members only")
}

@Test("what the members of all classic groups have brought is counted, and forgotten with them")
func classicMetadataInAll() throws {
  let server = try GroupServer()
  let groups = try #require(server.broker.groups)
  let joined = try server.joinReadable()
  #expect(groups.metadataSize > 0)
  groups.mostMetadata = groups.metadataSize + 10
  #expect(try server.joinReadable().errorCode == .groupMaxSizeReached)
  #expect(try server.leaveClassic(joined.memberID) == .none)
  #expect(groups.metadataSize == 0)
  groups.mostMetadata = 1000
  let again = try server.joinReadable()
  #expect(try server.sync(again.memberID, again.generationID, leads: [again.memberID])?.count == 4)
  #expect(try server.beat("new", 0).errorCode == .none)
  #expect(groups.metadataSize > 0, "the group is of the other kind now, with what its classic member has brought")
}

@Test("what a classic member brings is bounded, and the largest size of a group can be changed while it lives")
func classicBounds() throws {
  let server = try GroupServer()
  let large = Bytes(Array(repeating: 1, count: (1 << 20) + 1))
  func join(_ protocols: [JoinGroupRequest.JoinGroupRequestProtocol]) throws -> KafkaErrorCode {
    try server.ask(
      JoinGroupRequest(
        groupID: "g", sessionTimeoutMilliseconds: 10_000, rebalanceTimeoutMilliseconds: 10_000, memberID: "",
        protocolType: "consumer", protocols: protocols), 3
    ).errorCode
  }
  #expect(try join([.init(name: "range", metadata: large)]) == .invalidRequest)
  #expect(try join((0..<101).map { .init(name: "p\($0)", metadata: Bytes()) }) == .invalidRequest)
  #expect(try join([.init(name: "range", metadata: Bytes())]) == .none)
  let changed = try server.ask(
    IncrementalAlterConfigsRequest(resources: [
      .init(
        resourceType: 4, resourceName: "0", configs: [.init(name: "group.max.size", configOperation: 0, value: "1")])
    ]), 1)
  #expect(changed.responses.first?.errorCode == KafkaErrorCode.none)
  #expect(try join([.init(name: "range", metadata: Bytes())]) == .groupMaxSizeReached)
}
