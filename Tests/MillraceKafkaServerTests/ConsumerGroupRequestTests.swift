// ConsumerGroupRequestTests: groups of the consumer protocol over the wire, in virtual time: answers, commits, lists, change of
// protocol, topics that come later, restarts.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceLog
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceKafkaServer

/// A broker that can be restarted, and one connection to it.
private final class GroupServer {
  let world = SimulatedWorld(seed: 3)
  private(set) var broker: Broker
  private var disk: SimulatedFileSystem
  private var server: KafkaServer
  private var settings: BrokerSettings
  private var connection: PlayedConnection
  private var correlation: Int32 = 0

  init(setting name: String? = nil, _ value: String = "") throws {
    settings = BrokerSettings()
    if let name { try settings.set(name, value) }
    disk = SimulatedFileSystem(world: world)
    broker = try GroupServer.open(world, disk, settings)
    server = KafkaServer(broker: broker, logger: .silent)
    connection = GroupServer.connect(server)
    try makeTopic("t", 4)
  }

  deinit { world.tearDown() }

  private static func open(
    _ world: SimulatedWorld, _ disk: SimulatedFileSystem, _ settings: BrokerSettings
  ) throws -> Broker {
    try Broker(
      log: LogConfiguration(directory: "/data"), settings: settings, fileSystem: disk,
      reactor: SimulatedReactor(world: world, name: "broker"), writer: SimulatedExecutor(world: world),
      background: SimulatedExecutor(world: world), logger: .silent, seed: 1)
  }

  private static func connect(_ server: KafkaServer) -> PlayedConnection {
    let connection = PlayedConnection()
    connection.handler = KafkaConnection(server: server, connection: connection, number: 1)
    return connection
  }

  /// Kill -9 and start.
  func restart() throws {
    world.restart()
    disk = disk.reopen()
    broker = try GroupServer.open(world, disk, settings)
    server = KafkaServer(broker: broker, logger: .silent)
    connection = GroupServer.connect(server)
  }

  func makeTopic(_ name: String, _ partitions: Int) throws {
    var isMade = false
    broker.createTopic(name, partitions: partitions) { if case .success = $0 { isMade = true } }
    try #require(world.run { isMade })
  }

  func deleteTopic(_ name: String) throws {
    var isGone = false
    broker.deleteTopic(try #require(broker.topic(name))) { _ in isGone = true }
    try #require(world.run { isGone })
  }

  func ask<Request: KafkaRequest>(_ request: Request, _ version: Int16) throws -> Request.Response {
    correlation += 1
    let wanted = correlation
    connection.receive(frame(request, version, wanted))
    try #require(world.run { self.connection.answers.ids.last == wanted })
    return try connection.last(Request.self, version)
  }

  func beat(
    _ member: String, _ epoch: Int32, group: String = "g", instance: String? = nil, topics: [String]? = nil,
    pattern: String? = nil, assignor: String? = nil, owned: [(TopicID, [Int32])]? = nil, version: Int16 = 1
  ) throws -> ConsumerGroupHeartbeatResponse {
    let isJoin = epoch == 0
    let isDefault = isJoin && topics == nil && pattern == nil
    return try ask(
      ConsumerGroupHeartbeatRequest(
        groupID: group, memberID: member, memberEpoch: epoch, instanceID: instance, rackID: "rack",
        rebalanceTimeoutMilliseconds: isJoin ? 30_000 : -1, subscribedTopicNames: isDefault ? ["t"] : topics,
        subscribedTopicRegex: pattern, serverAssignor: assignor,
        topicPartitions: isJoin ? [] : owned?.map { .init(topicID: $0.0, partitions: $0.1) }), version)
  }

  func commit(_ member: String, _ epoch: Int32, _ offset: Int64, partition: Int32 = 0) throws -> KafkaErrorCode? {
    let answer = try ask(
      OffsetCommitRequest(
        groupID: "g", generationIDOrMemberEpoch: epoch, memberID: member,
        topics: [
          .init(name: "t", partitions: [.init(partitionIndex: partition, committedOffset: offset)])
        ]), 9)
    return answer.topics.first?.partitions.first?.errorCode
  }

  func fetch(_ member: String?, _ epoch: Int32) throws -> (KafkaErrorCode?, Int64?) {
    let answer = try ask(
      OffsetFetchRequest(
        groups: [
          .init(
            groupID: "g", memberID: member, memberEpoch: epoch,
            topics: [.init(name: "t", partitionIndexes: [0])])
        ]), 9)
    return (answer.groups.first?.errorCode, answer.groups.first?.topics.first?.partitions.first?.committedOffset)
  }

  func list(states: [String] = [], types: [String] = []) throws -> [[String]] {
    try ask(ListGroupsRequest(statesFilter: states, typesFilter: types), 5).groups.map {
      [$0.groupID, $0.protocolType, $0.groupState, $0.groupType]
    }
  }

  func described(_ group: String = "g") throws -> ConsumerGroupDescribeResponse.DescribedGroup {
    try #require(try ask(ConsumerGroupDescribeRequest(groupIDs: [group]), 1).groups.first)
  }

  func joinClassic(_ member: String = "") throws -> JoinGroupResponse {
    try ask(
      JoinGroupRequest(
        groupID: "g", sessionTimeoutMilliseconds: 10_000, rebalanceTimeoutMilliseconds: 10_000, memberID: member,
        protocolType: "consumer", protocols: [.init(name: "range", metadata: Bytes())]), 3)
  }

  var id: TopicID { broker.topic("t")?.id ?? .zero }
}

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

@Test("a group has one protocol at a time, and changes it while it is empty")
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
  #expect(try server.joinClassic("x").errorCode == .unknownMemberID)
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
