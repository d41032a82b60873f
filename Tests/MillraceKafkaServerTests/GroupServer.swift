// GroupServer: a broker that can be restarted, and one connection to it that speaks for all members of its groups.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceLog
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceKafkaServer

/// A broker that can be restarted, and one connection to it.
final class GroupServer {
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
    connection.handler = KafkaConnection(server: server, listener: .open, connection: connection, number: 1)
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

  // MARK: Classic members

  func subscription(_ owned: [Int32] = [], version: Int16 = 1) -> Bytes {
    var subscription = ConsumerProtocolSubscription(topics: ["t"])
    if !owned.isEmpty { subscription.ownedPartitions = [.init(topic: "t", partitions: owned)] }
    return subscription.encoded(version: version)
  }

  /// Joins with a subscription to `t`, under an id that is asked for first when there is none.
  func joinReadable(
    _ member: String = "", instance: String? = nil, owned: [Int32] = [], rebalance: Int32 = 10_000, version: Int16 = 5
  ) throws -> JoinGroupResponse {
    let request = JoinGroupRequest(
      groupID: "g", sessionTimeoutMilliseconds: 10_000, rebalanceTimeoutMilliseconds: rebalance, memberID: member,
      groupInstanceID: instance, protocolType: "consumer",
      protocols: [.init(name: "range", metadata: subscription(owned))])
    let answer = try ask(request, version)
    return answer.errorCode == .memberIDRequired
      ? try joinReadable(answer.memberID, rebalance: rebalance, version: version) : answer
  }

  /// The partitions that a member is given; nil when it has to join again.
  func sync(_ member: String, _ generation: Int32, leads: [String] = []) throws -> [Int32]? {
    let all = leads.enumerated().map { at, id in
      SyncGroupRequest.SyncGroupRequestAssignment(
        memberID: id,
        assignment: ConsumerProtocolAssignment([
          .init(topic: "t", partitions: (0..<4).filter { Int($0) % leads.count == at })
        ]).encoded(version: 1))
    }
    let answer = try ask(
      SyncGroupRequest(groupID: "g", generationID: generation, memberID: member, assignments: all), 3)
    guard answer.errorCode == .none else { return nil }
    return try ConsumerProtocolAssignment(answer.assignment).assignedPartitions.flatMap(\.partitions)
  }

  func beatClassic(_ member: String, _ generation: Int32) throws -> KafkaErrorCode {
    try ask(HeartbeatRequest(groupID: "g", generationID: generation, memberID: member), 3).errorCode
  }

  func leaveClassic(_ member: String) throws -> KafkaErrorCode {
    try ask(LeaveGroupRequest(groupID: "g", memberID: member), 0).errorCode
  }

  // MARK: Settings

  /// Sets or deletes (nil) a group's settings.
  func configure(_ settings: [(String, String?)], group: String = "g") throws -> (KafkaErrorCode, String) {
    let answer = try ask(
      IncrementalAlterConfigsRequest(resources: [
        .init(
          resourceType: 32, resourceName: group,
          configs: settings.map { .init(name: $0, configOperation: $1 == nil ? 1 : 0, value: $1) })
      ]), 1)
    let first = try #require(answer.responses.first)
    return (first.errorCode, first.errorMessage ?? "")
  }

  /// A group's settings as they are described: value and source.
  func settings(group: String = "g") throws -> [String: (value: String, source: Int8)] {
    let answer = try ask(
      DescribeConfigsRequest(resources: [.init(resourceType: 32, resourceName: group, configurationKeys: nil)]), 4)
    let configs = try #require(answer.results.first).configs
    return Dictionary(uniqueKeysWithValues: configs.map { ($0.name, ($0.value ?? "", $0.configSource)) })
  }
}
