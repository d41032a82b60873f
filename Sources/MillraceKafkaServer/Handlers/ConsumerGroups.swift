// ConsumerGroups: ConsumerGroupHeartbeat and ConsumerGroupDescribe, the requests of KIP-848.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel

extension KafkaConnection {
  func handleConsumerGroupHeartbeat(
    _ request: ConsumerGroupHeartbeatRequest, _ context: RequestContext<ConsumerGroupHeartbeatResponse>
  ) {
    do throws(BrokerError) {
      try require(.read, .group, request.groupID)
      for topic in request.subscribedTopicNames ?? [] { try require(.describe, .topic, topic) }
    } catch {
      return context.answer(
        ConsumerGroupHeartbeatResponse(errorCode: KafkaErrorCode(error), errorMessage: error.reason))
    }
    var beat = ConsumerHeartbeat(
      group: request.groupID, memberID: request.memberID, epoch: request.memberEpoch,
      clientID: context.header.clientID ?? "", clientHost: "/" + connection.remoteAddress.host,
      requiresID: context.version >= 1)
    beat.instanceID = request.instanceID
    beat.rackID = request.rackID
    if request.rebalanceTimeoutMilliseconds != -1 {
      beat.rebalanceTimeout = .milliseconds(Int(request.rebalanceTimeoutMilliseconds))
    }
    beat.topics = request.subscribedTopicNames
    beat.pattern = request.subscribedTopicRegex
    beat.client = client.identity
    beat.assignor = request.serverAssignor
    if request.memberEpoch >= 0, let topics = request.topicPartitions {
      do throws(BrokerError) {
        try broker.groups.checkReport(
          of: request.memberID, instanceID: request.instanceID, in: request.groupID, epoch: request.memberEpoch,
          partitions: topics.reduce(0) { $0 + $1.partitions.count })
      } catch {
        return context.answer(
          ConsumerGroupHeartbeatResponse(errorCode: KafkaErrorCode(group: error), errorMessage: error.reason))
      }
      var owned: Set<TopicIDPartition> = []
      for topic in topics {
        for partition in topic.partitions { owned.insert(TopicIDPartition(topic.topicID, partition)) }
      }
      beat.owned = owned
    }
    broker.groups.heartbeat(beat) { result in
      switch result {
      case .success(let answer):
        var response = ConsumerGroupHeartbeatResponse()
        response.memberID = answer.memberID
        response.memberEpoch = answer.epoch
        response.heartbeatIntervalMilliseconds = Int32(clamping: answer.interval.inMilliseconds)
        response.assignment = answer.assignment.map { assigned in
          .init(topicPartitions: byTopic(assigned.sorted()).map { .init(topicID: $0, partitions: $1) })
        }
        context.answer(response)
      case .failure(let error):
        // A coordinator without room asks its members to come again.
        let code = error.code == .storage ? .coordinatorNotAvailable : KafkaErrorCode(group: error)
        context.answer(ConsumerGroupHeartbeatResponse(errorCode: code, errorMessage: error.reason))
      }
    }
  }

  func handleConsumerGroupDescribe(
    _ request: ConsumerGroupDescribeRequest, _ context: RequestContext<ConsumerGroupDescribeResponse>
  ) {
    var response = ConsumerGroupDescribeResponse()
    for name in request.groupIDs.firstOfEach(\.self) {
      do throws(BrokerError) {
        try require(.describe, .group, name)
        response.groups.append(described(try broker.groups.describeConsumerGroup(name), request))
      } catch {
        response.groups.append(
          .init(errorCode: KafkaErrorCode(group: error), errorMessage: error.reason, groupID: name))
      }
    }
    context.answer(response)
  }

  private func described(
    _ group: ConsumerGroupDescription, _ request: ConsumerGroupDescribeRequest
  ) -> ConsumerGroupDescribeResponse.DescribedGroup {
    let topics = group.members.flatMap { $0.topics + names($0.assigned) + names($0.target) }
    if let refusal = KafkaConnection.refusal(ofGroupThatReads: topics, client) {
      return .init(errorCode: .topicAuthorizationFailed, errorMessage: refusal, groupID: group.name)
    }
    return ConsumerGroupDescribeResponse.DescribedGroup(
      groupID: group.name, groupState: group.state, groupEpoch: group.epoch, assignmentEpoch: group.assignmentEpoch,
      assignorName: group.assignor,
      members: group.members.map { member in
        .init(
          memberID: member.id, instanceID: member.instanceID, rackID: member.rackID, memberEpoch: member.epoch,
          clientID: member.clientID, clientHost: member.clientHost, subscribedTopicNames: member.topics,
          subscribedTopicRegex: member.pattern, assignment: named(member.assigned),
          targetAssignment: named(member.target),
          // Source: KIP-1099.
          memberType: member.isClassic ? 0 : 1)
      }, authorizedOperations: request.includeAuthorizedOperations ? authorizedOperations(.group, group.name) : .min)
  }

  /// Names of the topics of sorted partitions.
  private func names(_ partitions: [TopicIDPartition]) -> [String] {
    byTopic(partitions).compactMap { broker.topic($0.0)?.name }
  }

  /// Why a group is not described: it reads a topic that the client may not describe. Then nothing of its members is told.
  /// Source: Kafka, `KafkaApis.handleConsumerGroupDescribe`.
  static func refusal(ofGroupThatReads topics: [String], _ client: ClientSession) -> String? {
    topics.allSatisfy { client.sees(.describe, .topic, $0) }
      ? nil : "the group reads topics that \(client.principal) may not describe"
  }

  private func named(_ partitions: [TopicIDPartition]) -> ConsumerGroupDescribeResponse.Assignment {
    .init(
      topicPartitions: byTopic(partitions).compactMap { id, partitions in
        // A topic that was deleted has no name any more; its partitions are about to be given up.
        broker.topic(id).map { .init(topicID: id, topicName: $0.name, partitions: partitions) }
      })
  }
}

/// Sorted partitions, gathered by topic.
func byTopic(_ sorted: [TopicIDPartition]) -> [(TopicID, [Int32])] {
  var topics: [(TopicID, [Int32])] = []
  for one in sorted {
    if topics.last?.0 == one.topic {
      topics[topics.count - 1].1.append(one.partition)
    } else {
      topics.append((one.topic, [one.partition]))
    }
  }
  return topics
}
