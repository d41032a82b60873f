// ShareGroups: ShareGroupHeartbeat and ShareGroupDescribe, the membership of share groups (KIP-932).

import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel

extension KafkaConnection {
  func handleShareGroupHeartbeat(
    _ request: ShareGroupHeartbeatRequest, _ context: RequestContext<ShareGroupHeartbeatResponse>
  ) {
    let beat = ShareHeartbeat(
      group: request.groupID, memberID: request.memberID, epoch: request.memberEpoch, rackID: request.rackID,
      topics: request.subscribedTopicNames, clientID: context.header.clientID ?? "",
      clientHost: "/" + connection.remoteAddress.host)
    do throws(BrokerError) {
      try require(.read, .group, request.groupID)
      for topic in request.subscribedTopicNames ?? [] { try require(.describe, .topic, topic) }
      let answer = try broker.shares.heartbeat(beat)
      context.answer(
        ShareGroupHeartbeatResponse(
          memberID: answer.memberID, memberEpoch: answer.epoch,
          heartbeatIntervalMilliseconds: Int32(clamping: answer.interval.inMilliseconds),
          assignment: answer.assignment.map { assigned in
            .init(topicPartitions: byTopic(assigned.sorted()).map { .init(topicID: $0, partitions: $1) })
          }))
    } catch {
      context.answer(
        ShareGroupHeartbeatResponse(errorCode: KafkaErrorCode(group: error), errorMessage: error.reason))
    }
  }

  func handleShareGroupDescribe(
    _ request: ShareGroupDescribeRequest, _ context: RequestContext<ShareGroupDescribeResponse>
  ) {
    var response = ShareGroupDescribeResponse()
    for name in request.groupIDs.firstOfEach(\.self) {
      do throws(BrokerError) {
        try require(.describe, .group, name)
        let group = try broker.shares.describe(name)
        let topics = group.members.flatMap { member in
          member.topics + byTopic(member.assigned).compactMap { broker.topic($0.0)?.name }
        }
        if let refusal = KafkaConnection.refusal(ofGroupThatReads: topics, client) {
          throw BrokerError(.denied(.topic), refusal)
        }
        response.groups.append(
          .init(
            groupID: group.name, groupState: group.state, groupEpoch: group.epoch,
            assignmentEpoch: group.assignmentEpoch, assignorName: group.assignor,
            members: group.members.map { member in
              .init(
                memberID: member.id, rackID: member.rackID, memberEpoch: member.epoch, clientID: member.clientID,
                clientHost: member.clientHost, subscribedTopicNames: member.topics,
                assignment: .init(
                  topicPartitions: byTopic(member.assigned).compactMap { id, partitions in
                    broker.topic(id).map { .init(topicID: id, topicName: $0.name, partitions: partitions) }
                  }))
            },
            authorizedOperations: request.includeAuthorizedOperations ? authorizedOperations(.group, name) : .min))
      } catch {
        response.groups.append(
          .init(errorCode: KafkaErrorCode(group: error), errorMessage: error.reason, groupID: name))
      }
    }
    context.answer(response)
  }
}
