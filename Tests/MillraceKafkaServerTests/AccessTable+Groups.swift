// AccessTable+Groups: what members of consumer groups and their administrators ask.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel
import Testing

@testable import MillraceKafkaServer

extension AccessTable {
  static var groups: [AccessRow] { committing + classic + consumer + administration }

  private static var committing: [AccessRow] {
    [
      AccessRow(.offsetCommit, "", [.group(.read), .topic(.read)]) { _ in
        { client in try commit(client, .init(name: "t", partitions: [.init(committedOffset: 1)]), 9) }
      },
      AccessRow(.offsetCommit, "by id", [.group(.read), .topic(.read)]) { client in
        let id = try client.topicID
        return { client in
          try commit(client, .init(topicID: id, partitions: [.init(committedOffset: 1)]), nil)
        }
      },
      AccessRow(.offsetFetch, "", [.group(.describe), .topic(.describe)]) { client in
        try client.commit("g", [0: 1])
        return { client in
          let wish = OffsetFetchRequest.OffsetFetchRequestTopics(name: "t", partitionIndexes: [0])
          return try offsets(client, .init(groupID: "g", topics: [wish]), 9)
        }
      },
      AccessRow(.offsetFetch, "by id", [.group(.describe), .topic(.describe)]) { client in
        try client.commit("g", [0: 1])
        let wish = OffsetFetchRequest.OffsetFetchRequestTopics(topicID: try client.topicID, partitionIndexes: [0])
        return { client in try offsets(client, .init(groupID: "g", topics: [wish]), nil) }
      },
      AccessRow(.offsetFetch, "of all topics", [.group(.describe), .topic(.describe, hides: true)]) { client in
        try client.commit("g", [0: 1])
        return { client in try offsets(client, .init(groupID: "g", topics: nil), 9) }
      },
      AccessRow(.offsetFetch, "of one group", [.group(.describe), .topic(.describe)]) { client in
        try client.commit("g", [0: 1])
        return { client in
          let answer = try client.ask(
            OffsetFetchRequest(groupID: "g", topics: [.init(name: "t", partitionIndexes: [0])]), 7)
          return AccessReply([answer.errorCode] + answer.topics.flatMap(\.partitions).map(\.errorCode))
        }
      },
    ]
  }

  private static func commit(
    _ client: AdminClient, _ topic: OffsetCommitRequest.OffsetCommitRequestTopic, _ version: Int16?
  ) throws -> AccessReply {
    let answer = try client.ask(OffsetCommitRequest(groupID: "g", topics: [topic]), version)
    return AccessReply(answer.topics.flatMap(\.partitions).map(\.errorCode))
  }

  private static func offsets(
    _ client: AdminClient, _ group: OffsetFetchRequest.OffsetFetchRequestGroup, _ version: Int16?
  ) throws -> AccessReply {
    let answer = try #require(try client.ask(OffsetFetchRequest(groups: [group]), version).groups.first)
    if answer.errorCode == .none, group.topics == nil, answer.topics.isEmpty { return .hidden }
    let partitions = answer.topics.flatMap(\.partitions)
    let reply = AccessReply([answer.errorCode] + partitions.map(\.errorCode))
    return reply == .served || partitions.allSatisfy { $0.committedOffset == -1 } ? reply : .failed("an offset")
  }

  private static var classic: [AccessRow] {
    [
      AccessRow(.findCoordinator, "of a group", [.group(.describe)]) { _ in { try coordinator($0, "g", 0) } },
      AccessRow(.findCoordinator, "of a group, one at a time", [.group(.describe)]) { _ in
        { client in AccessReply(try client.ask(FindCoordinatorRequest(key: "g"), 3).errorCode) }
      },
      AccessRow(.findCoordinator, "of a transactional id", [.transaction(.describe)]) { _ in
        { try coordinator($0, "x", 1) }
      },
      AccessRow(.findCoordinator, "of a share group's partition", [.cluster(.clusterAction)]) { _ in
        { try coordinator($0, "g:AAAAAAAAAAAAAAAAAAAAAA:0", 2) }
      },
      AccessRow(.joinGroup, "", [.group(.read)]) { _ in
        { client in
          let request = JoinGroupRequest(
            groupID: "g", sessionTimeoutMilliseconds: 10_000, rebalanceTimeoutMilliseconds: 10_000,
            protocolType: "consumer", protocols: [.init(name: "range", metadata: Bytes())])
          return AccessReply(try client.ask(request).errorCode, served: .memberIDRequired)
        }
      },
      AccessRow(.syncGroup, "", [.group(.read)]) { client in
        let member = try client.join("g", ["t"])
        return { client in
          AccessReply(
            try client.ask(
              SyncGroupRequest(
                groupID: "g", generationID: 1, memberID: member,
                assignments: [.init(memberID: member, assignment: Bytes([1]))]), 3
            ).errorCode)
        }
      },
      AccessRow(.heartbeat, "", [.group(.read)]) { client in
        let member = try client.join("g", ["t"])
        return { client in
          AccessReply(
            try client.ask(HeartbeatRequest(groupID: "g", generationID: 1, memberID: member)).errorCode)
        }
      },
      AccessRow(.leaveGroup, "", [.group(.read)]) { client in
        let member = try client.join("g", ["t"])
        return { client in
          let answer = try client.ask(LeaveGroupRequest(groupID: "g", members: [.init(memberID: member)]))
          return AccessReply([answer.errorCode] + answer.members.map(\.errorCode))
        }
      },
    ]
  }

  private static func coordinator(_ client: AdminClient, _ key: String, _ type: Int8) throws -> AccessReply {
    AccessReply(
      try client.ask(FindCoordinatorRequest(keyType: type, coordinatorKeys: [key])).coordinators.map(\.errorCode))
  }

  private static var consumer: [AccessRow] {
    [
      AccessRow(.consumerGroupHeartbeat, "with names", [.group(.read), .topic(.describe)]) { _ in
        { client in
          let answer = try client.ask(join(topics: ["t"]))
          let isAssigned = answer.assignment?.topicPartitions.isEmpty == false
          return answer.errorCode == .none && !isAssigned
            ? .failed("nothing is assigned") : AccessReply(answer.errorCode)
        }
      },
      AccessRow(
        .consumerGroupHeartbeat, "with an expression", [.group(.read), .topic(.describe, hides: true)]
      ) { _ in
        { client in
          let answer = try client.ask(join(pattern: ".*"))
          let isAssigned = answer.assignment?.topicPartitions.isEmpty == false
          return answer.errorCode == .none && !isAssigned ? .hidden : AccessReply(answer.errorCode)
        }
      },
      AccessRow(.consumerGroupDescribe, "", [.group(.describe), .topic(.describe)]) { client in
        try #require(try client.ask(join(topics: ["t"])).errorCode == .none)
        return { client in
          let groups = try client.ask(ConsumerGroupDescribeRequest(groupIDs: ["g"])).groups
          let reply = AccessReply(groups.map(\.errorCode))
          return reply == .served || groups.allSatisfy(\.members.isEmpty) ? reply : .failed("members")
        }
      },
    ]
  }

  private static func join(topics: [String]? = nil, pattern: String? = nil) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest(
      groupID: "g", memberID: "m", rebalanceTimeoutMilliseconds: 30_000, subscribedTopicNames: topics,
      subscribedTopicRegex: pattern, topicPartitions: [])
  }

  private static var administration: [AccessRow] {
    [
      AccessRow(.describeGroups, "", [.group(.describe)]) { client in
        _ = try client.join("g", ["t"])
        return { client in
          let groups = try client.ask(DescribeGroupsRequest(groups: ["g"])).groups
          let reply = AccessReply(groups.map(\.errorCode))
          return reply == .served || groups.allSatisfy(\.members.isEmpty) ? reply : .failed("members")
        }
      },
      AccessRow(.listGroups, "", [.group(.describe, hides: true)], [.cluster(.describe, .hidden)]) { client in
        try client.commit("g", [0: 1])
        return { client in try client.ask(ListGroupsRequest()).groups.isEmpty ? .hidden : .served }
      },
      AccessRow(.deleteGroups, "", [.group(.delete)]) { client in
        try client.commit("g", [0: 1])
        return { client in AccessReply(try client.ask(DeleteGroupsRequest(groupsNames: ["g"])).results.map(\.errorCode))
        }
      },
      AccessRow(.offsetDelete, "", [.group(.delete), .topic(.read)]) { client in
        try client.commit("g", [0: 1])
        return { client in
          let answer = try client.ask(
            OffsetDeleteRequest(groupID: "g", topics: [.init(name: "t", partitions: [.init(partitionIndex: 0)])]))
          return AccessReply([answer.errorCode] + answer.topics.flatMap(\.partitions).map(\.errorCode))
        }
      },
    ]
  }
}
