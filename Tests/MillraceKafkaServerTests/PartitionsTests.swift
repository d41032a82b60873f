// PartitionsTests: partitions added and described, records deleted, and what one node says to reassignments.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel
import Testing

@testable import MillraceKafkaServer

@Test("added partitions are in the next metadata answer and take records")
func createdPartitions() throws {
  let client = AdminClient(try ServerWorld())
  func create(_ count: Int32, validateOnly: Bool = false, _ assignments: [[Int32]]? = nil) throws
    -> CreatePartitionsResponse.CreatePartitionsTopicResult
  {
    try client.ask(
      CreatePartitionsRequest(
        topics: [.init(name: "t", count: count, assignments: assignments?.map { .init(brokerIDs: $0) })],
        timeoutMilliseconds: 1000, validateOnly: validateOnly)
    ).results[0]
  }
  #expect(try create(4, validateOnly: true).errorCode == .none)
  #expect(client.world.broker.topic("t")?.partitions.count == 2)
  #expect(try create(4, [[0], [0]]).errorCode == .none)
  let metadata = try client.ask(MetadataRequest(topics: [.init(name: "t")]))
  #expect(metadata.topics[0].partitions.map(\.partitionIndex).sorted() == [0, 1, 2, 3])
  for (count, assignments, code, text) in [
    (4, nil, KafkaErrorCode.invalidPartitions, "4 partitions already"), (1, nil, .invalidPartitions, "1"),
    (20_000, nil, .invalidPartitions, "20000"), (5, [[0], [0]], .invalidReplicationAssignment, "2 assignments"),
    (5, [[1]], .invalidReplicationAssignment, "node 0"), (5, [[0, 1]], .invalidReplicationAssignment, "node 0"),
  ] as [(Int32, [[Int32]]?, KafkaErrorCode, String)] {
    let answer = try create(count, assignments)
    #expect(answer.errorCode == code && answer.errorMessage?.contains(text) == true, "\(answer)")
  }
  let twice = CreatePartitionsRequest.CreatePartitionsTopic(name: "t", count: 9, assignments: nil)
  let unknown = CreatePartitionsRequest.CreatePartitionsTopic(name: "none", count: 9, assignments: nil)
  let answers = try client.ask(CreatePartitionsRequest(topics: [twice, twice, unknown])).results
  #expect(answers.map(\.errorCode) == [.invalidRequest, .invalidRequest, .unknownTopicOrPartition])
}

@Test("deleted records are gone for readers, and what cannot be deleted is refused by partition")
func deletedRecords() throws {
  let client = AdminClient(try ServerWorld())
  for _ in 0..<3 { try client.append() }
  func delete(_ topic: String, _ partition: Int32, _ offset: Int64) throws -> (Int64, KafkaErrorCode) {
    let answer = try client.ask(
      DeleteRecordsRequest(
        topics: [.init(name: topic, partitions: [.init(partitionIndex: partition, offset: offset)])])
    ).topics[0].partitions[0]
    return (answer.lowWatermark, answer.errorCode)
  }
  #expect(try delete("t", 0, 2) == (2, .none))
  #expect(try delete("t", 0, 4) == (-1, .offsetOutOfRange))
  #expect(try delete("t", 2, 0) == (-1, .unknownTopicOrPartition))
  #expect(try delete("none", 0, 0) == (-1, .unknownTopicOrPartition))
  #expect(try delete("t", 0, -1) == (3, .none))
  let earliest = try client.ask(
    ListOffsetsRequest(
      replicaID: -1, topics: [.init(name: "t", partitions: [.init(partitionIndex: 0, timestamp: -2)])]))
  #expect(earliest.topics[0].partitions[0].offset == 3)
}

@Test("the special offsets of remote storage do not exist, the earliest local one is the earliest")
func specialOffsets() throws {
  let client = AdminClient(try ServerWorld())
  for _ in 0..<3 { try client.append() }
  _ = try client.ask(
    DeleteRecordsRequest(topics: [.init(name: "t", partitions: [.init(partitionIndex: 0, offset: 1)])]))
  func offset(_ time: Int64) throws -> Int64 {
    let answer = try client.ask(
      ListOffsetsRequest(
        replicaID: -1, topics: [.init(name: "t", partitions: [.init(partitionIndex: 0, timestamp: time)])]), 11)
    guard answer.topics[0].partitions[0].errorCode == .none else { return -99 }
    return answer.topics[0].partitions[0].offset
  }
  #expect(try [-1, -2, -4, -5, -6, -7].map(offset) == [3, 1, 1, -1, -1, -99])
}

@Test("topics are described page by page, in order, without leaving out or repeating a partition")
func describedPartitions() throws {
  let world = try ServerWorld()
  var made = 0
  for name in ["a", "z"] { world.broker.createTopic(name, partitions: 3) { _ in made += 1 } }
  try #require(world.world.run { made == 2 })
  let client = AdminClient(world)
  var request = DescribeTopicPartitionsRequest(responsePartitionLimit: 2)
  var pages: [[String]] = []
  repeat {
    let answer = try client.ask(request)
    pages.append(answer.topics.flatMap { topic in topic.partitions.map { "\(topic.name ?? "")\($0.partitionIndex)" } })
    request.cursor = answer.nextCursor.map { .init(topicName: $0.topicName, partitionIndex: $0.partitionIndex) }
  } while request.cursor != nil && pages.count < 10
  #expect(pages == [["a0", "a1"], ["a2", "t0"], ["t1", "z0"], ["z1", "z2"]])
  let named = try client.ask(
    DescribeTopicPartitionsRequest(topics: [.init(name: "z"), .init(name: "none"), .init(name: "no/slash")]))
  #expect(named.topics.map(\.name) == ["no/slash", "none", "z"])
  #expect(named.topics.map(\.errorCode) == [.invalidTopic, .unknownTopicOrPartition, .none])
}

@Test("one node leads everything: no election is needed, and partitions can only stay where they are")
func oneNode() throws {
  let client = AdminClient(try ServerWorld())
  let election = try client.ask(
    ElectLeadersRequest(topicPartitions: [
      .init(topic: "t", partitions: [0, 7]), .init(topic: "none", partitions: [0]),
    ])
  )
  #expect(
    election.replicaElectionResults.flatMap { $0.partitionResult.map(\.errorCode) }
      == [.electionNotNeeded, .unknownTopicOrPartition, .unknownTopicOrPartition])
  #expect(try client.ask(ElectLeadersRequest(topicPartitions: nil)).replicaElectionResults.isEmpty)
  #expect(try client.ask(ElectLeadersRequest(electionType: 2)).errorCode == .invalidRequest)
  let moved = try client.ask(
    AlterPartitionReassignmentsRequest(topics: [
      .init(
        name: "t",
        partitions: [
          .init(partitionIndex: 0, replicas: [0]), .init(partitionIndex: 1, replicas: [1]),
          .init(partitionIndex: 1, replicas: nil), .init(partitionIndex: 9, replicas: [0]),
        ])
    ])
  ).responses[0].partitions
  #expect(
    moved.map(\.errorCode)
      == [.none, .invalidReplicationAssignment, .noReassignmentInProgress, .unknownTopicOrPartition])
  #expect(moved[1].errorMessage?.contains("[1]") == true)
  #expect(try client.ask(ListPartitionReassignmentsRequest()).topics.isEmpty)
}

@Test("the cluster and its directory are described")
func describedCluster() throws {
  let client = AdminClient(try ServerWorld())
  try client.append(100)
  let cluster = try client.ask(DescribeClusterRequest(includeClusterAuthorizedOperations: true))
  #expect(cluster.brokers.map(\.port) == [9092] && cluster.clusterID == client.world.broker.clusterID)
  #expect(cluster.clusterAuthorizedOperations > 0)
  #expect(try client.ask(DescribeClusterRequest(endpointType: 2)).errorCode == .mismatchedEndpointType)
  let directory = try client.ask(DescribeLogDirsRequest(topics: nil)).results[0]
  #expect(directory.totalBytes == 1 << 40 && (1..<directory.totalBytes).contains(directory.usableBytes))
  #expect(directory.logDir == "/data" && directory.topics.map(\.name) == ["t"])
  #expect(directory.topics[0].partitions.map { $0.partitionSize > 100 } == [true, false])
  let one = try client.ask(DescribeLogDirsRequest(topics: [.init(topic: "t", partitions: [1, 5])])).results[0]
  #expect(one.topics[0].partitions.map(\.partitionIndex) == [1])
}

@Test("produce and offset requests with topic ids reach the topic, and an unknown id is told as such")
func topicIDs() throws {
  let client = AdminClient(try ServerWorld())
  let id = try #require(client.world.broker.topic("t")?.id)
  var request = produce()
  for (wanted, code) in [(id, KafkaErrorCode.none), (TopicID(high: 1, low: 1), .unknownTopicID)] {
    request.topicData[0].topicID = wanted
    let produced = try client.ask(request, 13)
    #expect(produced.responses[0].partitionResponses[0].errorCode == code && produced.responses[0].topicID == wanted)
    let committed = try client.ask(
      OffsetCommitRequest(
        groupID: "g", generationIDOrMemberEpoch: -1,
        topics: [.init(topicID: wanted, partitions: [.init(partitionIndex: 0, committedOffset: 1)])]), 10)
    #expect(committed.topics[0].partitions[0].errorCode == code && committed.topics[0].topicID == wanted)
    let found = try client.ask(
      OffsetFetchRequest(
        groups: [.init(groupID: "g", topics: [.init(topicID: wanted, partitionIndexes: [0])])]), 10)
    let partition = found.groups[0].topics[0].partitions[0]
    #expect(partition.errorCode == code && partition.committedOffset == (code == .none ? 1 : -1))
    #expect(found.groups[0].topics[0].topicID == wanted)
  }
  let all = try client.ask(OffsetFetchRequest(groups: [.init(groupID: "g", topics: nil)]), 10)
  #expect(all.groups[0].topics.map(\.topicID) == [id])
  #expect(client.world.broker.groups.offsets("g").keys.map(\.topic) == ["t"])
}
