// KafkaClient+Shares: share groups looked at and changed.

import MillraceKafkaProtocol
import MillraceModel

/// How far a share group is in a partition.
struct ClientShareOffset: Equatable {
  /// Everything below is done.
  let start: Offset
  /// Records that are not done; nil when the server does not say.
  let lag: Int64?
}

extension ClientGroup {
  /// Its members share partitions.
  var isShared: Bool { type.lowercased() == "share" }
}

extension KafkaClient {
  /// Members of a share group.
  func shareMembers(of group: String) throws(ClientError) -> [ClientGroupMember] {
    let answer = try call(ShareGroupDescribeRequest(groupIDs: [group]))
    guard let found = answer.groups.first, found.groupID == group else {
      throw ClientError(.malformed, "the answer does not name group \(group)")
    }
    guard found.errorCode == .none else {
      throw ClientError.refused(found.errorCode, "describing group \(group)", found.errorMessage)
    }
    return found.members.map { member in
      ClientGroupMember(
        id: member.memberID, instanceID: nil, clientID: member.clientID, host: member.clientHost,
        partitions: member.assignment.topicPartitions.flatMap { topic in
          topic.partitions.map { TopicPartition(topic.topicName, $0) }
        })
    }
  }

  /// How far a share group is.
  func shareOffsets(of group: String) throws(ClientError) -> [TopicPartition: ClientShareOffset] {
    let answer = try call(DescribeShareGroupOffsetsRequest(groups: [.init(groupID: group, topics: nil)]))
    var found: [TopicPartition: ClientShareOffset] = [:]
    for one in answer.groups {
      guard one.errorCode == .none else {
        throw ClientError.refused(one.errorCode, "offsets of group \(group)", one.errorMessage)
      }
      for topic in one.topics {
        for partition in topic.partitions where partition.startOffset >= 0 {
          found[TopicPartition(topic.topicName, partition.partitionIndex)] = ClientShareOffset(
            start: partition.startOffset, lag: partition.lag >= 0 ? partition.lag : nil)
        }
      }
    }
    return found
  }

  /// Has a share group without members begin elsewhere.
  func alterShareOffsets(_ offsets: [TopicPartition: Offset], group: String) throws(ClientError) {
    let byTopic = Dictionary(grouping: offsets.keys, by: \.topic)
    let answer = try call(
      AlterShareGroupOffsetsRequest(
        groupID: group,
        topics: byTopic.sorted { $0.key < $1.key }.map { topic, partitions in
          .init(
            topicName: topic,
            partitions: partitions.sorted { $0.partition < $1.partition }.map {
              .init(partitionIndex: $0.partition, startOffset: offsets[$0] ?? 0)
            })
        }))
    guard answer.errorCode == .none else {
      throw ClientError.refused(answer.errorCode, "cannot reset group \(group)", answer.errorMessage)
    }
    for topic in answer.responses {
      for partition in topic.partitions where partition.errorCode != .none {
        throw ClientError.refused(
          partition.errorCode, "cannot reset \(topic.topicName)-\(partition.partitionIndex) of group \(group)",
          partition.errorMessage)
      }
    }
  }
}
