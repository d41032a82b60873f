// KafkaClient+Admin: settings, partitions and groups changed.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel

/// A group as clients see it.
struct ClientGroup: Equatable {
  let name: String
  let state: String
  /// `classic`, `consumer` or `share`; empty when the server does not say.
  let type: String
  let protocolType: String
}

/// A member of a group as clients see it.
struct ClientGroupMember: Equatable {
  let id: String
  let instanceID: String?
  let clientID: String
  let host: String
  /// What the member reads.
  let partitions: [TopicPartition]
}

extension KafkaClient {
  // MARK: Topics

  /// Changes a topic's settings, all or none.
  func configure(
    topic: String, set: [(name: String, value: String)], delete: [String], validateOnly: Bool
  ) throws(ClientError) {
    // 0 sets, 1 deletes. Source: Kafka, AlterConfigOp.OpType.
    let changes =
      set.map { IncrementalAlterConfigsRequest.AlterableConfig(name: $0.name, configOperation: 0, value: $0.value) }
      + delete.map { IncrementalAlterConfigsRequest.AlterableConfig(name: $0, configOperation: 1, value: nil) }
    let answer = try call(
      IncrementalAlterConfigsRequest(
        resources: [.init(resourceType: 2, resourceName: topic, configs: changes)], validateOnly: validateOnly))
    guard let result = answer.responses.first else {
      throw ClientError(.malformed, "the answer does not name topic \(topic)")
    }
    guard result.errorCode == .none else {
      throw ClientError.refused(result.errorCode, "cannot configure topic \(topic)", result.errorMessage)
    }
  }

  /// Gives a topic more partitions.
  func addPartitions(topic: String, total: Int32, validateOnly: Bool) throws(ClientError) {
    let answer = try call(
      CreatePartitionsRequest(
        topics: [.init(name: topic, count: total, assignments: nil)],
        timeoutMilliseconds: Int32(clamping: timeout.inMilliseconds), validateOnly: validateOnly))
    guard let result = answer.results.first else {
      throw ClientError(.malformed, "the answer does not name topic \(topic)")
    }
    guard result.errorCode == .none else {
      throw ClientError.refused(result.errorCode, "cannot add partitions to topic \(topic)", result.errorMessage)
    }
  }

  // MARK: Groups

  /// All groups, by name.
  func groups() throws(ClientError) -> [ClientGroup] {
    let answer = try call(ListGroupsRequest())
    guard answer.errorCode == .none else { throw ClientError.refused(answer.errorCode, "listing groups") }
    return answer.groups.map {
      ClientGroup(name: $0.groupID, state: $0.groupState, type: $0.groupType, protocolType: $0.protocolType)
    }.sorted { $0.name < $1.name }
  }

  /// The group of this name.
  /// - Throws: `.refused` when it does not exist.
  func group(_ name: String) throws(ClientError) -> ClientGroup {
    guard let found = try groups().first(where: { $0.name == name }) else {
      throw ClientError(.refused(.groupIDNotFound), "group \(name) does not exist")
    }
    return found
  }

  /// The members of a group.
  func members(of group: ClientGroup) throws(ClientError) -> [ClientGroupMember] {
    if group.type.lowercased() == "consumer" { return try newMembers(of: group.name) }
    if group.isShared { return try shareMembers(of: group.name) }
    let answer = try call(DescribeGroupsRequest(groups: [group.name]))
    guard let found = answer.groups.first, found.groupID == group.name else {
      throw ClientError(.malformed, "the answer does not name group \(group.name)")
    }
    guard found.errorCode == .none else {
      throw ClientError.refused(found.errorCode, "describing group \(group.name)", found.errorMessage)
    }
    return found.members.map { member in
      ClientGroupMember(
        id: member.memberID, instanceID: member.groupInstanceID, clientID: member.clientID, host: member.clientHost,
        partitions: KafkaClient.partitions(member.memberAssignment, found.protocolType))
    }
  }

  /// Members of a group that the server assigns.
  private func newMembers(of group: String) throws(ClientError) -> [ClientGroupMember] {
    let answer = try call(ConsumerGroupDescribeRequest(groupIDs: [group]))
    guard let found = answer.groups.first, found.groupID == group else {
      throw ClientError(.malformed, "the answer does not name group \(group)")
    }
    guard found.errorCode == .none else {
      throw ClientError.refused(found.errorCode, "describing group \(group)", found.errorMessage)
    }
    return found.members.map { member in
      ClientGroupMember(
        id: member.memberID, instanceID: member.instanceID, clientID: member.clientID, host: member.clientHost,
        partitions: member.assignment.topicPartitions.flatMap { topic in
          topic.partitions.map { TopicPartition(topic.topicName, $0) }
        })
    }
  }

  /// What an assignment names; nothing when it is none of the consumers' protocol.
  private static func partitions(_ assignment: Bytes, _ protocolType: String) -> [TopicPartition] {
    guard protocolType == "consumer", assignment.count > 0 else { return [] }
    do throws(DecodingError) {
      return try ConsumerProtocolAssignment(assignment).assignedPartitions.flatMap { topic in
        topic.partitions.map { TopicPartition(topic.topic, $0) }
      }
    } catch {
      return []
    }
  }

  /// The offsets that a group has committed.
  func committedOffsets(of group: String) throws(ClientError) -> [TopicPartition: Offset] {
    var found: [TopicPartition: Offset] = [:]
    if try version(of: .offsetFetch) >= 8 {
      let answer = try call(OffsetFetchRequest(groups: [.init(groupID: group, topics: nil)]))
      for one in answer.groups {
        guard one.errorCode == .none else { throw ClientError.refused(one.errorCode, "offsets of group \(group)") }
        for topic in one.topics {
          for partition in topic.partitions where partition.committedOffset >= 0 {
            found[TopicPartition(topic.name, partition.partitionIndex)] = partition.committedOffset
          }
        }
      }
    } else {
      let answer = try call(OffsetFetchRequest(groupID: group, topics: nil))
      guard answer.errorCode == .none else { throw ClientError.refused(answer.errorCode, "offsets of group \(group)") }
      for topic in answer.topics {
        for partition in topic.partitions where partition.committedOffset >= 0 {
          found[TopicPartition(topic.name, partition.partitionIndex)] = partition.committedOffset
        }
      }
    }
    return found
  }

  /// Commits offsets for a group without members; all or none.
  func commit(_ offsets: [TopicPartition: Offset], group: String) throws(ClientError) {
    let byTopic = Dictionary(grouping: offsets.keys, by: \.topic)
    let answer = try call(
      OffsetCommitRequest(
        groupID: group, generationIDOrMemberEpoch: -1,
        topics: byTopic.sorted { $0.key < $1.key }.map { topic, partitions in
          .init(
            name: topic,
            partitions: partitions.map { .init(partitionIndex: $0.partition, committedOffset: offsets[$0] ?? 0) })
        }))
    for topic in answer.topics {
      for partition in topic.partitions where partition.errorCode != .none {
        throw ClientError.refused(
          partition.errorCode, "cannot reset \(topic.name)-\(partition.partitionIndex) of group \(group)")
      }
    }
  }

  /// Deletes a group with its committed offsets.
  func deleteGroup(_ name: String) throws(ClientError) {
    let answer = try call(DeleteGroupsRequest(groupsNames: [name]))
    guard let result = answer.results.first else {
      throw ClientError(.malformed, "the answer does not name group \(name)")
    }
    switch result.errorCode {
    case .none: return
    case .groupIDNotFound: throw ClientError(.refused(result.errorCode), "group \(name) does not exist")
    case .nonEmptyGroup: throw ClientError(.refused(result.errorCode), "group \(name) has members")
    default: throw ClientError.refused(result.errorCode, "cannot delete group \(name)")
    }
  }

  /// The offset of the first record at or after a time in some partitions; the end where there is none.
  func offsets(_ topic: String, _ partitions: [Int32], from time: Timestamp) throws(ClientError) -> [Int32: Offset] {
    let answer = try call(
      ListOffsetsRequest(
        replicaID: -1,
        topics: [
          .init(name: topic, partitions: partitions.map { .init(partitionIndex: $0, timestamp: time.milliseconds) })
        ]))
    var found: [Int32: Offset] = [:]
    for partition in answer.topics.flatMap(\.partitions) {
      guard partition.errorCode == .none else {
        throw ClientError.refused(partition.errorCode, "offsets of \(topic)-\(partition.partitionIndex)")
      }
      if partition.offset >= 0 { found[partition.partitionIndex] = partition.offset }
    }
    let rest = partitions.filter { found[$0] == nil }
    if !rest.isEmpty { found.merge(try offsets(topic, rest, .latest)) { old, _ in old } }
    return found
  }
}
