// GroupMember: one member of a consumer group: joins, keeps itself alive, commits, leaves.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel

/// A member of a classic consumer group that reads one topic.
final class GroupMember {
  private let client: KafkaClient
  private let group: String
  private let topic: String
  private var memberID = ""
  private var generation: Int32 = -1
  private var nextHeartbeat = MonotonicTime(nanoseconds: 0)

  /// Silence after which the server gives the member up: long enough for a reader of the output that pauses.
  private static let sessionTimeout = Duration.seconds(30)
  private static let rebalanceTimeout = Duration.seconds(30)
  private static let heartbeatInterval = Duration.seconds(3)

  /// A member that has not joined yet.
  init(_ client: KafkaClient, group: String, topic: String) {
    self.client = client
    self.group = group
    self.topic = topic
  }

  // MARK: Joining

  /// Joins the group, or joins it anew after a rebalance has begun; waits for the other members.
  /// - Returns: the partitions that this member is to read.
  func join() throws(ClientError) -> [TopicPartition] {
    try findCoordinator()
    while true {
      let joined = try joinOnce()
      let assignments = joined.leader == joined.memberID && !joined.skipAssignment ? try assign(joined) : []
      let answer = try client.call(
        SyncGroupRequest(
          groupID: group, generationID: generation, memberID: memberID, protocolType: joined.protocolType,
          protocolName: joined.protocolName, assignments: assignments),
        extra: GroupMember.rebalanceTimeout, isInterruptible: true)
      switch answer.errorCode {
      case .none:
        nextHeartbeat = .now + GroupMember.heartbeatInterval
        return try partitions(answer.assignment)
      case .rebalanceInProgress: continue
      case .unknownMemberID, .illegalGeneration: forget()
      default: throw ClientError.refused(answer.errorCode, "joining group \(group)")
      }
    }
  }

  private func joinOnce() throws(ClientError) -> JoinGroupResponse {
    while true {
      let answer = try client.call(
        JoinGroupRequest(
          groupID: group, sessionTimeoutMilliseconds: Int32(GroupMember.sessionTimeout.inMilliseconds),
          rebalanceTimeoutMilliseconds: Int32(GroupMember.rebalanceTimeout.inMilliseconds), memberID: memberID,
          protocolType: "consumer",
          protocols: [
            .init(
              name: RangeAssignor.name, metadata: ConsumerProtocolSubscription(topics: [topic]).encoded(version: 1))
          ]),
        extra: GroupMember.rebalanceTimeout, isInterruptible: true)
      switch answer.errorCode {
      case .none:
        memberID = answer.memberID
        generation = answer.generationID
        return answer
      case .memberIDRequired: memberID = answer.memberID
      case .unknownMemberID: forget()
      case .rebalanceInProgress, .coordinatorNotAvailable, .coordinatorLoadInProgress:
        SystemClock.sleep(.milliseconds(100))
      default: throw ClientError.refused(answer.errorCode, "joining group \(group)")
      }
    }
  }

  /// A server alone coordinates all groups; it may only be too early to ask.
  private func findCoordinator() throws(ClientError) {
    let deadline = MonotonicTime.now + client.timeout
    while true {
      let request =
        try client.version(of: .findCoordinator) >= 4
        ? FindCoordinatorRequest(keyType: 0, coordinatorKeys: [group]) : FindCoordinatorRequest(key: group)
      let answer = try client.call(request)
      let code = answer.coordinators.first?.errorCode ?? answer.errorCode
      if code == .none { return }
      guard code == .coordinatorNotAvailable, MonotonicTime.now < deadline else {
        throw ClientError.refused(
          code, "group \(group)", answer.coordinators.first?.errorMessage ?? answer.errorMessage)
      }
      SystemClock.sleep(.milliseconds(100))
    }
  }

  private func assign(_ joined: JoinGroupResponse) throws(ClientError)
    -> [SyncGroupRequest.SyncGroupRequestAssignment]
  {
    var members: [RangeAssignor.Member] = []
    for member in joined.members {
      do throws(DecodingError) {
        let subscription = try ConsumerProtocolSubscription(member.metadata)
        members.append(.init(id: member.memberID, instanceID: member.groupInstanceID, topics: subscription.topics))
      } catch {
        throw ClientError(.malformed, "what member \(member.memberID) wants to read cannot be read: \(error)")
      }
    }
    // All topics, because another member's may not exist, which is no reason to fail.
    let topics = try client.topics()
    let partitions = Dictionary(topics.map { ($0.name, $0.partitions) }, uniquingKeysWith: { first, _ in first })
    return RangeAssignor.assign(members, partitions: partitions).map { id, list in
      .init(memberID: id, assignment: ConsumerProtocolAssignment(list).encoded(version: 1))
    }
  }

  private func partitions(_ assignment: Bytes) throws(ClientError) -> [TopicPartition] {
    do throws(DecodingError) {
      return try ConsumerProtocolAssignment(assignment).assignedPartitions.flatMap { topic in
        topic.partitions.map { TopicPartition(topic.topic, $0) }
      }
    } catch {
      throw ClientError(.malformed, "the assignment of group \(group) cannot be read: \(error)")
    }
  }

  private func forget() {
    memberID = ""
    generation = -1
  }

  // MARK: Staying

  /// Says that this member lives, when it is time to.
  /// - Returns: true when it has to join anew.
  func mustRejoin() throws(ClientError) -> Bool {
    guard MonotonicTime.now >= nextHeartbeat else { return false }
    nextHeartbeat = .now + GroupMember.heartbeatInterval
    let answer = try client.call(
      HeartbeatRequest(groupID: group, generationID: generation, memberID: memberID))
    switch answer.errorCode {
    case .none: return false
    case .rebalanceInProgress, .coordinatorNotAvailable: return true
    case .unknownMemberID, .illegalGeneration:
      forget()
      return true
    default: throw ClientError.refused(answer.errorCode, "group \(group)")
    }
  }

  // MARK: Offsets

  /// What the group has committed of these partitions; those without a committed offset are left out.
  func committed(_ partitions: [TopicPartition]) throws(ClientError) -> [TopicPartition: Offset] {
    guard !partitions.isEmpty else { return [:] }
    let byTopic = Dictionary(grouping: partitions, by: \.topic)
    let request =
      try client.version(of: .offsetFetch) >= 8
      ? OffsetFetchRequest(groups: [
        .init(
          groupID: group, topics: byTopic.map { .init(name: $0.key, partitionIndexes: $0.value.map(\.partition)) })
      ])
      : OffsetFetchRequest(
        groupID: group, topics: byTopic.map { .init(name: $0.key, partitionIndexes: $0.value.map(\.partition)) })
    let answer = try client.call(request)
    let code = answer.groups.first?.errorCode ?? answer.errorCode
    guard code == .none else { throw ClientError.refused(code, "offsets of group \(group)") }
    var found: [TopicPartition: Offset] = [:]
    for topic in answer.groups.first?.topics ?? [] {
      for one in topic.partitions where one.committedOffset >= 0 {
        found[TopicPartition(topic.name, one.partitionIndex)] = one.committedOffset
      }
    }
    for topic in answer.topics {
      for one in topic.partitions where one.committedOffset >= 0 {
        found[TopicPartition(topic.name, one.partitionIndex)] = one.committedOffset
      }
    }
    return found
  }

  /// Commits the next offsets to read.
  /// - Returns: false when the group has gone on without this member, so that nothing was committed.
  func commit(_ offsets: [TopicPartition: Offset]) throws(ClientError) -> Bool {
    guard !offsets.isEmpty else { return true }
    let topics = Dictionary(grouping: offsets.sorted { $0.key.partition < $1.key.partition }, by: \.key.topic).map {
      name, list in
      OffsetCommitRequest.OffsetCommitRequestTopic(
        name: name,
        partitions: list.map { .init(partitionIndex: $0.key.partition, committedOffset: $0.value) })
    }
    let answer = try client.call(
      OffsetCommitRequest(
        groupID: group, generationIDOrMemberEpoch: generation, memberID: memberID, topics: topics))
    for topic in answer.topics {
      for partition in topic.partitions where partition.errorCode != .none {
        switch partition.errorCode {
        case .unknownMemberID, .illegalGeneration, .rebalanceInProgress: return false
        default:
          throw ClientError.refused(
            partition.errorCode, "committing for group \(group) in \(topic.name)-\(partition.partitionIndex)")
        }
      }
    }
    return true
  }

  /// Leaves the group, so that the others need not wait for this member.
  func leave() throws(ClientError) {
    guard !memberID.isEmpty else { return }
    let request =
      try client.version(of: .leaveGroup) >= 3
      ? LeaveGroupRequest(groupID: group, members: [.init(memberID: memberID)])
      : LeaveGroupRequest(groupID: group, memberID: memberID)
    // Whatever the server says, this member is gone.
    _ = try client.call(request)
    forget()
  }
}
