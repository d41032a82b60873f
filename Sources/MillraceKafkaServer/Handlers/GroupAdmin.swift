// GroupAdmin: DeleteGroups and OffsetDelete.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel

extension KafkaConnection {
  func handleDeleteGroups(_ request: DeleteGroupsRequest, _ context: RequestContext<DeleteGroupsResponse>) {
    typealias Answer = DeleteGroupsResponse.DeletableGroupResult
    let gathering = Gathering<Answer>(request.groupsNames.count) { context.answer(DeleteGroupsResponse(results: $0)) }
    for (index, group) in request.groupsNames.enumerated() {
      guard client.allows(.delete, .group, group) else {
        gathering.put(index, Answer(groupID: group, errorCode: .groupAuthorizationFailed))
        continue
      }
      broker.groups.delete(group) { [self] error in
        if let error {
          // The answer has no room for the reason.
          server.logger.logRarely(
            .info, "kafka", "group not deleted", "",
            ["group": group, "connection": "\(number)", "error": error.description])
        }
        gathering.put(
          index, Answer(groupID: group, errorCode: error.map { KafkaErrorCode(group: $0) } ?? .none))
      }
    }
  }

  /// Offsets of topics that a member reads stay. Source: KIP-496.
  func handleOffsetDelete(_ request: OffsetDeleteRequest, _ context: RequestContext<OffsetDeleteResponse>) {
    guard client.allows(.delete, .group, request.groupID) else {
      return context.answer(OffsetDeleteResponse(errorCode: .groupAuthorizationFailed))
    }
    let group = broker.groups.describe(request.groupID)
    if request.groupID.isEmpty { return context.answer(OffsetDeleteResponse(errorCode: .invalidGroupID)) }
    if group.state == "Dead" || group.kind == .share {
      return context.answer(OffsetDeleteResponse(errorCode: .groupIDNotFound))
    }
    let isConsumers = group.protocolType.isEmpty || group.protocolType == "consumer"
    guard group.members.isEmpty || isConsumers else {
      return context.answer(OffsetDeleteResponse(errorCode: .nonEmptyGroup))
    }
    guard let subscribed = subscribedTopics(group) else {
      // Members whose subscription nobody can read may read anything.
      return context.answer(OffsetDeleteResponse(errorCode: .nonEmptyGroup))
    }
    var response = OffsetDeleteResponse()
    var going: [TopicPartition] = []
    for topic in request.topics {
      let isAllowed = client.allows(.read, .topic, topic.name)
      let found = broker.topic(topic.name)
      response.topics.append(
        .init(
          name: topic.name,
          partitions: topic.partitions.map { wish in
            guard isAllowed else {
              return .init(partitionIndex: wish.partitionIndex, errorCode: .topicAuthorizationFailed)
            }
            guard let found, broker.partition(found, wish.partitionIndex) != nil else {
              return .init(partitionIndex: wish.partitionIndex, errorCode: .unknownTopicOrPartition)
            }
            if subscribed.contains(topic.name) {
              return .init(partitionIndex: wish.partitionIndex, errorCode: .groupSubscribedToTopic)
            }
            going.append(TopicPartition(topic.name, wish.partitionIndex))
            return .init(partitionIndex: wish.partitionIndex)
          }))
    }
    let prepared = response
    broker.groups.deleteOffsets(request.groupID, going) { error in
      context.answer(error.map { OffsetDeleteResponse(errorCode: KafkaErrorCode(group: $0)) } ?? prepared)
    }
  }

  /// The topics that members of a group read; nil when a member does not tell. While the group rebalances members tell
  /// through whichever assignor they named.
  private func subscribedTopics(_ group: GroupDescription) -> Set<String>? {
    var topics: Set<String> = []
    if group.kind == .consumer {
      do throws(BrokerError) {
        for member in try broker.groups.describeConsumerGroup(group.name).members {
          topics.formUnion(member.topics)
          // Those that an expression stands for are in the member's target.
          topics.formUnion(member.target.compactMap { broker.topic($0.topic)?.name })
        }
        return topics
      } catch {
        return topics
      }
    }
    for member in group.members {
      do throws(DecodingError) {
        topics.formUnion(try ConsumerProtocolSubscription(member.metadata).topics)
      } catch {
        return nil
      }
    }
    return topics
  }
}
