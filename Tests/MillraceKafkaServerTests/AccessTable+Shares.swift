// AccessTable+Shares: what members of share groups and their administrators ask.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel
import Testing

@testable import MillraceKafkaServer

extension AccessTable {
  static var shares: [AccessRow] { members + offsets }

  private static let join = ShareGroupHeartbeatRequest(groupID: "g", memberID: "m", subscribedTopicNames: ["t"])

  private static func join(_ client: AdminClient) throws {
    try #require(try client.ask(join).errorCode == .none)
  }

  private static var members: [AccessRow] {
    [
      AccessRow(.shareGroupHeartbeat, "", [.group(.read), .topic(.describe)]) { _ in
        { client in AccessReply(try client.ask(join).errorCode) }
      },
      AccessRow(.shareGroupDescribe, "", [.group(.describe), .topic(.describe)]) { client in
        try join(client)
        return { client in
          let groups = try client.ask(ShareGroupDescribeRequest(groupIDs: ["g"])).groups
          let reply = AccessReply(groups.map(\.errorCode))
          return reply == .served || groups.allSatisfy(\.members.isEmpty) ? reply : .failed("members")
        }
      },
      AccessRow(.shareFetch, "", [.group(.read), .topic(.read)]) { client in
        let id = try client.topicID
        try join(client)
        try client.append()
        return { client in
          let answer = try client.ask(
            ShareFetchRequest(
              groupID: "g", memberID: "m", maxBytes: 1000, maxRecords: 10,
              topics: [.init(topicID: id, partitions: [.init(partitionIndex: 0)])]))
          let partitions = answer.responses.flatMap(\.partitions)
          let reply = AccessReply([answer.errorCode] + partitions.map(\.errorCode))
          return reply == .served || partitions.allSatisfy(\.records.isEmpty) ? reply : .failed("records")
        }
      },
      AccessRow(.shareFetch, "that acknowledges", [.group(.read), .topic(.read)]) { client in
        let id = try client.topicID
        try open(client, id)
        let batch = ShareFetchRequest.AcknowledgementBatch(firstOffset: 0, lastOffset: 0, acknowledgeTypes: [1])
        return { _ in
          let answer = try client.ask(
            ShareFetchRequest(
              groupID: "g", memberID: "m", shareSessionEpoch: 1,
              topics: [.init(topicID: id, partitions: [.init(partitionIndex: 0, acknowledgementBatches: [batch])])]))
          return AccessReply([answer.errorCode] + answer.responses.flatMap(\.partitions).map(\.acknowledgeErrorCode))
        }
      },
      AccessRow(.shareAcknowledge, "", [.group(.read), .topic(.read)]) { client in
        let id = try client.topicID
        try open(client, id)
        let batch = ShareAcknowledgeRequest.AcknowledgementBatch(firstOffset: 0, lastOffset: 0, acknowledgeTypes: [1])
        return { _ in
          let answer = try client.ask(
            ShareAcknowledgeRequest(
              groupID: "g", memberID: "m", shareSessionEpoch: 1,
              topics: [.init(topicID: id, partitions: [.init(partitionIndex: 0, acknowledgementBatches: [batch])])]))
          return AccessReply([answer.errorCode] + answer.responses.flatMap(\.partitions).map(\.errorCode))
        }
      },
    ]
  }

  /// A session that has taken the record at offset 0. It belongs to the client's connection, so that the same one has to ask.
  private static func open(_ client: AdminClient, _ id: TopicID) throws {
    try join(client)
    try client.append()
    let answer = try client.ask(
      ShareFetchRequest(
        groupID: "g", memberID: "m", maxBytes: 1000, maxRecords: 10,
        topics: [.init(topicID: id, partitions: [.init(partitionIndex: 0)])]))
    try #require(answer.responses.flatMap(\.partitions).flatMap(\.acquiredRecords).count == 1)
  }

  private static var offsets: [AccessRow] {
    [
      AccessRow(.describeShareGroupOffsets, "", [.group(.describe), .topic(.describe)]) { client in
        try join(client)
        return { client in
          try described(client, .init(groupID: "g", topics: [.init(topicName: "t", partitions: [0])]))
        }
      },
      AccessRow(
        .describeShareGroupOffsets, "of all topics", [.group(.describe), .topic(.describe, hides: true)]
      ) { client in
        try join(client)
        return { client in try described(client, .init(groupID: "g", topics: nil)) }
      },
      AccessRow(.alterShareGroupOffsets, "", [.group(.read), .topic(.read)]) { client in
        try join(client)
        try client.append()
        _ = try client.ask(ShareGroupHeartbeatRequest(groupID: "g", memberID: "m", memberEpoch: -1))
        return { client in
          let answer = try client.ask(
            AlterShareGroupOffsetsRequest(
              groupID: "g", topics: [.init(topicName: "t", partitions: [.init(partitionIndex: 0, startOffset: 1)])]))
          return AccessReply([answer.errorCode] + answer.responses.flatMap(\.partitions).map(\.errorCode))
        }
      },
      AccessRow(.deleteShareGroupOffsets, "", [.group(.delete), .topic(.read)]) { client in
        try open(client, try client.topicID)
        _ = try client.ask(ShareGroupHeartbeatRequest(groupID: "g", memberID: "m", memberEpoch: -1))
        return { client in
          let answer = try client.ask(DeleteShareGroupOffsetsRequest(groupID: "g", topics: [.init(topicName: "t")]))
          return AccessReply([answer.errorCode] + answer.responses.map(\.errorCode))
        }
      },
    ]
  }

  private static func described(
    _ client: AdminClient, _ wish: DescribeShareGroupOffsetsRequest.DescribeShareGroupOffsetsRequestGroup
  ) throws -> AccessReply {
    let groups = try client.ask(DescribeShareGroupOffsetsRequest(groups: [wish])).groups
    let topics = groups.flatMap(\.topics)
    let reply = AccessReply(groups.map(\.errorCode) + topics.flatMap(\.partitions).map(\.errorCode))
    return reply == .served && topics.isEmpty ? .hidden : reply
  }
}
