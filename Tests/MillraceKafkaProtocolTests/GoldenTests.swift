// GoldenTests: another implementation's encodings, read and written back byte for byte.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import Testing

private struct Golden {
  let name: String
  let version: Int16
  let kind: String
  var bytes: [UInt8]
}

private let golden: [Golden] = {
  var all: [Golden] = []
  for line in [goldenMessages, goldenGroupMessages, goldenShareMessages].joined(separator: "\n").split(separator: "\n")
  {
    if line.hasPrefix(" ") {
      let digits = line.utf8.drop { $0 == UInt8(ascii: " ") }.map { $0 < 58 ? $0 - 48 : $0 - 87 }
      for index in stride(from: 0, to: digits.count, by: 2) {
        all[all.count - 1].bytes.append(digits[index] << 4 | digits[index + 1])
      }
    } else {
      let words = line.split(separator: " ").map(String.init)
      all.append(Golden(name: words[0], version: Int16(words[1]) ?? -1, kind: words[2], bytes: []))
    }
  }
  return all
}()

private func named<Message: KafkaMessage>(
  _ type: Message.Type, _ kind: String = "named", version: Int16? = nil
) throws -> Message {
  let one = try #require(
    golden.first {
      $0.name == String(describing: type) && $0.kind == kind && $0.version == version ?? $0.version
    })
  var reader = ByteReader(Bytes(one.bytes))
  return try Message(from: &reader, version: one.version)
}

@Test("golden: every message in every version is read and written back as it was stored")
func goldenRecoding() throws {
  var covered: [String: Set<Int16>] = [:]
  for one in golden {
    let type = try #require(messageTypes[one.name])
    let recoded = try recode(type, one.bytes, version: one.version)
    #expect(hex(recoded.bytes) == hex(one.bytes), "\(one.name) version \(one.version)")
    #expect(recoded.unread == 0 && recoded.isStable, "\(one.name) version \(one.version)")
    covered[one.name, default: []].insert(one.version)
  }
  for (name, type) in messageTypes { #expect(covered[name] == Set(type.versions), "\(name)") }
}

@Test("golden: only what kafka-python lacks comes from elsewhere")
func goldenSources() {
  let elsewhere = (goldenGroupMessages + "\n" + goldenShareMessages).split(separator: "\n").filter {
    !$0.hasPrefix(" ")
  }
  #expect(
    Set(elsewhere.map { $0.prefix { $0 != " " } }) == [
      "ConsumerGroupHeartbeatRequest", "ConsumerGroupHeartbeatResponse", "ConsumerGroupDescribeRequest",
      "ConsumerGroupDescribeResponse", "ShareGroupHeartbeatRequest", "ShareGroupHeartbeatResponse",
      "ShareGroupDescribeRequest", "ShareGroupDescribeResponse", "ShareFetchRequest", "ShareFetchResponse",
      "ShareAcknowledgeRequest", "ShareAcknowledgeResponse", "DescribeShareGroupOffsetsRequest",
      "DescribeShareGroupOffsetsResponse", "AlterShareGroupOffsetsRequest", "AlterShareGroupOffsetsResponse",
      "DeleteShareGroupOffsetsRequest", "DeleteShareGroupOffsetsResponse",
    ])
}

private let orders = TopicID(high: 0x03e4_2e3e_ced7_4e3a, low: 0xa406_e0f6_aee7_6e10)
private let memberID = "jqMhHfqRQrSoSmypN7CskA"

@Test("golden: a consumer group heartbeat's fields are where they belong")
func goldenConsumerGroupHeartbeat() throws {
  var joining = ConsumerGroupHeartbeatRequest(
    groupID: "readers", memberID: memberID, rackID: "r1", rebalanceTimeoutMilliseconds: 300_000,
    subscribedTopicNames: ["orders"], subscribedTopicRegex: "", serverAssignor: "uniform", topicPartitions: [])
  #expect(try named(ConsumerGroupHeartbeatRequest.self, "joining") == joining)
  joining.subscribedTopicRegex = nil
  #expect(try named(ConsumerGroupHeartbeatRequest.self, "derived", version: 0) == joining)
  #expect(
    try named(ConsumerGroupHeartbeatRequest.self, "assigned")
      == ConsumerGroupHeartbeatRequest(
        groupID: "readers", memberID: memberID, memberEpoch: 2,
        topicPartitions: [.init(topicID: orders, partitions: [0, 3, 2, 1])]))
  #expect(
    try named(ConsumerGroupHeartbeatRequest.self, "leaving")
      == ConsumerGroupHeartbeatRequest(groupID: "readers", memberID: memberID, memberEpoch: -1))
  var answer = ConsumerGroupHeartbeatResponse(
    errorMessage: "Success", memberID: memberID, memberEpoch: 2, heartbeatIntervalMilliseconds: 3000,
    assignment: .init(topicPartitions: [.init(topicID: orders, partitions: [0, 3, 2, 1])]))
  #expect(try named(ConsumerGroupHeartbeatResponse.self, "assigned") == answer)
  #expect(try named(ConsumerGroupHeartbeatResponse.self, "derived", version: 0) == answer)
  answer.assignment = nil
  #expect(try named(ConsumerGroupHeartbeatResponse.self, "unchanged") == answer)
}

@Test("golden: a consumer group description's fields are where they belong", arguments: [0, 1] as [Int16])
func goldenConsumerGroupDescribe(version: Int16) throws {
  #expect(
    try named(ConsumerGroupDescribeRequest.self, version == 0 ? "captured" : "derived", version: version)
      == ConsumerGroupDescribeRequest(groupIDs: ["readers"]))
  let member = ConsumerGroupDescribeResponse.Member(
    memberID: "m1", instanceID: "i1", rackID: "r1", memberEpoch: 3, clientID: "c", clientHost: "/10.0.0.1",
    subscribedTopicNames: ["orders"],
    assignment: .init(topicPartitions: [.init(topicID: orders, topicName: "orders", partitions: [0, 2])]),
    memberType: version == 0 ? -1 : 1)
  let group = ConsumerGroupDescribeResponse.DescribedGroup(
    groupID: "readers", groupState: "Stable", groupEpoch: 4, assignmentEpoch: 3, assignorName: "uniform",
    members: [member])
  #expect(
    try named(ConsumerGroupDescribeResponse.self, "derived", version: version)
      == ConsumerGroupDescribeResponse(throttleTimeMilliseconds: 5, groups: [group]))
}

private let shared = TopicID(high: 0x6725_9395_901e_4e56, low: 0x81c4_51e8_78d2_1e18)

@Test("golden: a share group heartbeat's fields are where they belong")
func goldenShareGroupHeartbeat() throws {
  #expect(
    try named(ShareGroupHeartbeatRequest.self, "joining")
      == ShareGroupHeartbeatRequest(
        groupID: "readers", memberID: "wep65ajpS7WEh20r0YEyVg", subscribedTopicNames: ["orders"]))
  #expect(
    try named(ShareGroupHeartbeatResponse.self, "derived")
      == ShareGroupHeartbeatResponse(
        throttleTimeMilliseconds: 5, errorCode: .fencedMemberEpoch, errorMessage: "why", memberID: "m1",
        memberEpoch: 3, heartbeatIntervalMilliseconds: 5000,
        assignment: .init(topicPartitions: [.init(topicID: shared, partitions: [0, 2])])))
}

@Test("golden: a share fetch's fields are where they belong")
func goldenShareFetch() throws {
  let first = try named(ShareFetchRequest.self, "acknowledging")
  #expect(first.shareSessionEpoch == 2 && first.maxWaitMilliseconds == 500 && first.maxRecords == 500)
  #expect(
    first.topics == [
      .init(
        topicID: shared,
        partitions: [
          .init(
            acknowledgementBatches: [
              .init(acknowledgeTypes: [1]), .init(firstOffset: 1, lastOffset: 1, acknowledgeTypes: [2]),
              .init(firstOffset: 2, lastOffset: 2, acknowledgeTypes: [3]),
            ])
        ])
    ])
  #expect(
    try named(ShareFetchRequest.self, "derived", version: 2)
      == ShareFetchRequest(
        groupID: "readers", memberID: "m1", shareSessionEpoch: 7, maxWaitMilliseconds: 500, minBytes: 1,
        maxBytes: 1 << 20, maxRecords: 100, batchSize: 50, shareAcquireMode: 1, isRenewAck: true,
        topics: [
          .init(
            topicID: shared,
            partitions: [
              .init(
                partitionIndex: 3,
                acknowledgementBatches: [.init(firstOffset: 5, lastOffset: 7, acknowledgeTypes: [1, 4, 0])])
            ])
        ], forgottenTopicsData: [.init(topicID: shared, partitions: [4])]))
  #expect(
    try named(ShareFetchResponse.self, "derived", version: 2)
      == ShareFetchResponse(
        throttleTimeMilliseconds: 5, acquisitionLockTimeoutMilliseconds: 30_000,
        responses: [
          .init(
            topicID: shared,
            partitions: [
              .init(
                partitionIndex: 3, acknowledgeErrorCode: .invalidRecordState, acknowledgeErrorMessage: "late",
                currentLeader: .init(leaderEpoch: 9), records: [Bytes("batch")],
                acquiredRecords: [.init(firstOffset: 5, lastOffset: 7, deliveryCount: 2)])
            ])
        ], nodeEndpoints: [.init(host: "h", port: 9092)]))
}

@Test("golden: a produce request's fields are where they belong")
func goldenProduce() throws {
  let request = try named(ProduceRequest.self)
  #expect(
    request
      == ProduceRequest(
        transactionalID: "tx", acks: -1, timeoutMilliseconds: 1500,
        topicData: [.init(name: "lines", partitionData: [.init(index: 3, records: Bytes("batch"))])]))
}

@Test("golden: a fetch response's fields are where they belong")
func goldenFetch() throws {
  let partition = FetchResponse.PartitionData(
    partitionIndex: 4, errorCode: KafkaErrorCode(rawValue: 5), highWatermark: 6, lastStableOffset: 7,
    logStartOffset: 8, divergingEpoch: .init(epoch: 9, endOffset: 10),
    abortedTransactions: [.init(producerID: 11, firstOffset: 12)], preferredReadReplica: 13,
    records: [Bytes("slices")])
  let expected = FetchResponse(
    throttleTimeMilliseconds: 1, errorCode: .corruptMessage, sessionID: 3,
    responses: [
      .init(
        topicID: TopicID(high: 0x0102_0304_0506_0708, low: 0x090a_0b0c_0d0e_0f10), partitions: [partition])
    ])
  #expect(try named(FetchResponse.self) == expected)
}

@Test("golden: a join group response's fields are where they belong")
func goldenJoinGroup() throws {
  #expect(
    try named(JoinGroupResponse.self)
      == JoinGroupResponse(
        throttleTimeMilliseconds: 1, generationID: 2, protocolType: "consumer", protocolName: "range", leader: "a",
        memberID: "b", members: [.init(memberID: "a", metadata: Bytes([0, 3]))]))
}

@Test("golden: a metadata response's fields are where they belong")
func goldenMetadata() throws {
  let partition = MetadataResponse.MetadataResponsePartition(
    errorCode: .replicaNotAvailable, partitionIndex: 1, leaderID: 2, leaderEpoch: 3, replicaNodes: [4],
    isrNodes: [5], offlineReplicas: [6])
  #expect(
    try named(MetadataResponse.self)
      == MetadataResponse(
        brokers: [.init(nodeID: 1, host: "h", port: 9092)], clusterID: "c", controllerID: 1,
        topics: [
          .init(
            name: "t", topicID: TopicID(high: 0, low: 5), partitions: [partition], topicAuthorizedOperations: 7)
        ]))
}

@Test("golden: every strict prefix of every message is refused")
func goldenPrefixes() throws {
  var refused = 0
  for one in golden {
    let type = try #require(messageTypes[one.name])
    let bytes = Bytes(one.bytes)
    for count in 0..<bytes.count {
      do throws(DecodingError) {
        try decode(type, bytes[0..<count], version: one.version)
        Issue.record("\(one.name) version \(one.version) accepts \(count) of \(bytes.count) bytes")
      } catch {
        refused += 1
      }
    }
  }
  #expect(refused == golden.reduce(0) { $0 + $1.bytes.count })
}

@Test("a byte flipped anywhere never crashes a reader, and what is still accepted is written and read alike")
func flippedBytes() throws {
  var accepted = 0
  for one in golden {
    let type = try #require(messageTypes[one.name])
    for index in one.bytes.indices {
      for flip: UInt8 in [0x01, 0xff] {
        var bytes = one.bytes
        bytes[index] ^= flip
        do throws(DecodingError) {
          let recoded = try recode(type, bytes, version: one.version)
          accepted += 1
          if !recoded.isStable { Issue.record("\(one.name) version \(one.version): \(hex(bytes))") }
        } catch {
          if error.position > bytes.count { Issue.record("position \(error.position) of \(bytes.count)") }
        }
      }
    }
  }
  #expect(accepted > 1000)
}
