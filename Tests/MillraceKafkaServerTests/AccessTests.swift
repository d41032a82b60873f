// AccessTests: what a client without a right may learn, what mixed requests are answered, and rights that change.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel
import MillraceSecurity
import Testing

@testable import MillraceKafkaServer

private func bits(_ operations: AccessOperation...) -> Int32 {
  operations.reduce(0) { $0 | 1 << Int32($1.rawValue) }
}

@Suite struct AccessTests {
  let world: ServerWorld
  let client: AdminClient

  init() throws {
    world = try ServerWorld()
    client = AdminClient(world)
    try client.makeTopic("secret")
    world.broker.access.isExposed = true
  }

  private func allow(_ needs: AccessNeed...) throws { try client.changeRules(adding: needs.map(\.rule)) }

  private func id(_ topic: String) throws -> TopicID { try #require(world.broker.topic(topic)).id }

  // MARK: What may not be known

  @Test("a topic that may not be described is answered as one that does not exist")
  func metadataTellsNothing() throws {
    let answers = try client.ask(MetadataRequest(topics: [.init(name: "secret"), .init(name: "none")])).topics
    for answer in answers {
      var expected = MetadataResponse.MetadataResponseTopic(
        errorCode: .topicAuthorizationFailed, name: answer.name)
      expected.topicAuthorizedOperations = answer.topicAuthorizedOperations
      #expect(answer == expected)
    }
    #expect(answers.map(\.name) == ["secret", "none"])
    #expect(try client.ask(MetadataRequest(topics: nil)).topics.isEmpty)
    let byID = try client.ask(MetadataRequest(topics: [.init(topicID: try id("secret"), name: nil)])).topics
    #expect(byID.map(\.errorCode) == [.topicAuthorizationFailed] && byID[0].name == nil && byID[0].partitions.isEmpty)
    let partitions = try client.ask(
      DescribeTopicPartitionsRequest(topics: [.init(name: "none"), .init(name: "secret")])
    ).topics
    #expect(partitions.map(\.errorCode) == [.topicAuthorizationFailed, .topicAuthorizationFailed])
    #expect(partitions.allSatisfy { $0.topicID == .zero && $0.partitions.isEmpty })
  }

  @Test("deleting a topic that may not be described tells neither its name nor its id, and one that may both")
  func deletionTellsNothing() throws {
    let secret = try id("secret")
    func delete(_ name: String?, _ id: TopicID) throws -> DeleteTopicsResponse.DeletableTopicResult {
      try client.ask(DeleteTopicsRequest(topics: [.init(name: name, topicID: id)])).responses[0]
    }
    func check(_ name: String?, _ id: TopicID, _ told: String?, _ toldID: TopicID) throws {
      let answer = try delete(name, id)
      #expect(answer.errorCode == .topicAuthorizationFailed)
      #expect(answer.name == told && answer.topicID == toldID)
    }
    try check("secret", .zero, "secret", .zero)
    try check("none", .zero, "none", .zero)
    try check(nil, secret, nil, secret)
    #expect(try delete(nil, TopicID(high: 1, low: 2)).errorCode == .unknownTopicID)
    #expect(try !(delete(nil, secret).errorMessage ?? "").contains("secret"))
    try allow(.topic(.describe, "secret"))
    try check("secret", .zero, "secret", secret)
    try check(nil, secret, "secret", secret)
    #expect(world.broker.topic("secret") != nil)
  }

  @Test("of a topic that was created, settings are told to who may describe them")
  func createdSettings() throws {
    try allow(.topic(.create, "a"), .topic(.create, "b"), .topic(.describeConfigs, "b"))
    let answers = try client.ask(
      CreateTopicsRequest(
        topics: ["a", "b"].map { .init(name: $0, numPartitions: 2, replicationFactor: 1) })
    ).topics
    #expect(answers.map(\.errorCode) == [.none, .none])
    #expect(answers[0].topicConfigErrorCode == .topicAuthorizationFailed && answers[0].numPartitions == -1)
    #expect(answers[0].configs?.isEmpty == true)
    #expect(answers[1].topicConfigErrorCode == .none && answers[1].numPartitions == 2)
    #expect(answers[1].configs?.isEmpty == false)
  }

  // MARK: Bits

  @Test("the operations that a client is told of are those that it may do")
  func authorizedOperations() throws {
    try allow(.topic(.read), .topic(.alterConfigs), .group(.delete), .cluster(.create))
    let topics = try client.ask(
      MetadataRequest(topics: [.init(name: "t")], includeTopicAuthorizedOperations: true)
    ).topics
    #expect(topics[0].topicAuthorizedOperations == bits(.read, .describe, .alterConfigs, .describeConfigs))
    let partitions = try client.ask(DescribeTopicPartitionsRequest(topics: [.init(name: "t")])).topics
    #expect(partitions[0].topicAuthorizedOperations == bits(.read, .describe, .alterConfigs, .describeConfigs))
    let groups = try client.ask(DescribeGroupsRequest(groups: ["g"], includeAuthorizedOperations: true)).groups
    #expect(groups[0].authorizedOperations == bits(.delete, .describe))
    func cluster() throws -> Int32 {
      try client.ask(DescribeClusterRequest(includeClusterAuthorizedOperations: true)).clusterAuthorizedOperations
    }
    // Only who may describe it is told. Source: Kafka, `KafkaApis.handleDescribeCluster`.
    #expect(try cluster() == 0)
    try allow(.cluster(.alter))
    #expect(try cluster() == bits(.create, .alter, .describe))
    let metadata = try client.ask(MetadataRequest(topics: [], includeClusterAuthorizedOperations: true), 8)
    #expect(metadata.clusterAuthorizedOperations == bits(.create, .alter, .describe))
  }

  // MARK: Some of it

  @Test("what a request may do is done, though something else in it may not be")
  func mixedRequests() throws {
    try allow(.topic(.write), .topic(.read), .group(.read), .topic(.describe), .topic(.delete))
    var write = produce()
    write.topicData += produce(topic: "secret").topicData
    #expect(
      try client.ask(write, 9).responses.flatMap(\.partitionResponses).map(\.errorCode)
        == [.none, .topicAuthorizationFailed])
    #expect(world.broker.topic("secret").flatMap { world.broker.partition($0, 0) }?.highWatermark == 0)
    let fetch = FetchRequest(
      maxBytes: 1000,
      topics: ["secret", "t"].map { .init(topic: $0, partitions: [.init(partition: 0, partitionMaxBytes: 1000)]) })
    let read = try client.ask(fetch, 12).responses.flatMap(\.partitions)
    #expect(read.map(\.errorCode) == [.topicAuthorizationFailed, .none])
    #expect(read.map(\.records.isEmpty) == [true, false])
    let commit = OffsetCommitRequest(
      groupID: "g", topics: ["secret", "t"].map { .init(name: $0, partitions: [.init(committedOffset: 1)]) })
    #expect(
      try client.ask(commit, 9).topics.flatMap(\.partitions).map(\.errorCode) == [.topicAuthorizationFailed, .none])
    #expect(world.broker.groups.offsets("g").count == 1)
    let gone = try client.ask(DeleteTopicsRequest(topics: [.init(name: "secret"), .init(name: "t")])).responses
    #expect(gone.map(\.errorCode) == [.topicAuthorizationFailed, .none])
  }

  @Test("who may produce nothing but asks for no answer is disconnected, as with Kafka")
  func silentProduce() throws {
    client.send(produce(acks: 0), 9)
    world.world.run(for: .milliseconds(10))
    #expect(client.connection.isClosing)
    #expect(world.broker.topic("t").flatMap { world.broker.partition($0, 0) }?.highWatermark == 0)
  }

  @Test("a partition of a fetch session that was denied is served when the right comes, and denied when it goes")
  func fetchSessions() throws {
    try allow(.topic(.write))
    try client.append()
    var request = FetchRequest(maxBytes: 1000, sessionEpoch: 0)
    request.topics = [.init(topicID: try id("t"), partitions: [.init(partition: 0, partitionMaxBytes: 1000)])]
    var answer = try client.ask(request)
    #expect(answer.responses.flatMap(\.partitions).map(\.errorCode) == [.topicAuthorizationFailed])
    func goOn(_ epoch: Int32) throws -> [FetchResponse.PartitionData] {
      answer = try client.ask(FetchRequest(maxBytes: 1000, sessionID: answer.sessionID, sessionEpoch: epoch))
      return answer.responses.flatMap(\.partitions)
    }
    try allow(.topic(.read))
    let served = try goOn(1)
    #expect(served.map(\.errorCode) == [.none] && served.allSatisfy { !$0.records.isEmpty })
    try client.changeRules(adding: [], removing: [AccessNeed.topic(.read).rule])
    let denied = try goOn(2)
    #expect(denied.map(\.errorCode) == [.topicAuthorizationFailed] && denied.allSatisfy(\.records.isEmpty))
  }

  // MARK: Expressions

  @Test("an expression of a group stands for topics while the member may describe them")
  func expressionsFollowRules() throws {
    try allow(.group(.read), .topic(.describe))
    func beat(_ epoch: Int32) throws -> ConsumerGroupHeartbeatResponse {
      let isJoin = epoch == 0
      return try client.ask(
        ConsumerGroupHeartbeatRequest(
          groupID: "g", memberID: "m", memberEpoch: epoch, rebalanceTimeoutMilliseconds: isJoin ? 30_000 : -1,
          subscribedTopicRegex: isJoin ? ".*" : nil, topicPartitions: isJoin ? [] : nil))
    }
    func topics(_ answer: ConsumerGroupHeartbeatResponse) -> [TopicID]? {
      answer.assignment?.topicPartitions.map(\.topicID)
    }
    let joined = try beat(0)
    #expect(topics(joined) == [try id("t")])
    try allow(.topic(.describe, "secret"))
    let more = try beat(joined.memberEpoch)
    #expect(Set(topics(more) ?? []) == [try id("t"), try id("secret")])
    try client.changeRules(adding: [], removing: [AccessNeed.topic(.describe, "secret").rule])
    let fewer = try beat(more.memberEpoch)
    #expect(topics(fewer) == [try id("t")])
  }

  // MARK: Others

  @Test("administrators and super users are asked nothing, and rules of one user are none of another")
  func administrators() throws {
    try client.changeRules(adding: [AccessRule(ResourcePattern(.topic, "t"), Principal("other"), .all)])
    #expect(try client.ask(produce(), 9).responses[0].partitionResponses[0].errorCode == .topicAuthorizationFailed)
    let answer = try client.ask(MetadataRequest(topics: nil)).topics
    #expect(answer.isEmpty)
    var isSet = false
    let change = [(name: "super.users", change: SettingChange.set("User:ANONYMOUS"))]
    let node = ConfigResource(.broker, "0")
    let checked = try world.broker.check(change, of: node, replacing: false)
    world.broker.configure(node, checked) { _ in isSet = true }
    try #require(world.world.run { isSet })
    #expect(try client.ask(produce(), 9).responses[0].partitionResponses[0].errorCode == .none)
    #expect(try client.ask(MetadataRequest(topics: nil)).topics.count == 2)
  }

  @Test("each thing that a request is denied is told once, not once for each of its partitions")
  func denialsAreToldOnce() throws {
    var denials: [AccessControl.Decision] = []
    world.broker.access.onDecision = { denials.append($0) }
    var request = produce()
    request.topicData[0].partitionData += [.init(index: 1, records: request.topicData[0].partitionData[0].records)]
    _ = try client.ask(request, 9)
    #expect(
      denials.map { "\($0.principal) \($0.host) \($0.operation) \($0.kind) \($0.name)" }
        == ["User:ANONYMOUS 127.0.0.1 write topic t"])
    denials = []
    _ = try client.ask(ListGroupsRequest())
    _ = try client.ask(MetadataRequest(topics: nil))
    _ = try client.ask(ListTransactionsRequest())
    #expect(denials.isEmpty)
  }
}
