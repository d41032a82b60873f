// ShareOffsets: DescribeShareGroupOffsets, AlterShareGroupOffsets and DeleteShareGroupOffsets: how far share groups are.

import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel

extension KafkaConnection {
  func handleDescribeShareGroupOffsets(
    _ request: DescribeShareGroupOffsetsRequest, _ context: RequestContext<DescribeShareGroupOffsetsResponse>
  ) {
    typealias Partition = DescribeShareGroupOffsetsResponse.DescribeShareGroupOffsetsResponsePartition
    var response = DescribeShareGroupOffsetsResponse()
    for wish in request.groups.firstOfEach(\.groupID) {
      guard client.allows(.describe, .group, wish.groupID) else {
        response.groups.append(
          .init(
            groupID: wish.groupID, errorCode: .groupAuthorizationFailed,
            errorMessage: denial(.describe, .group, wish.groupID).reason))
        continue
      }
      guard broker.shares.exists(wish.groupID) else {
        response.groups.append(
          .init(
            groupID: wish.groupID, errorCode: .groupIDNotFound,
            errorMessage: "group \(wish.groupID) is not a share group"))
        continue
      }
      var answer = DescribeShareGroupOffsetsResponse.DescribeShareGroupOffsetsResponseGroup(groupID: wish.groupID)
      func described(_ key: TopicIDPartition) -> Partition {
        guard let offset = broker.shares.offset(of: key, in: wish.groupID) else {
          return Partition(partitionIndex: key.partition, startOffset: -1)
        }
        return Partition(
          partitionIndex: key.partition, startOffset: offset.start, leaderEpoch: broker.leaderEpoch, lag: offset.lag)
      }
      if let topics = wish.topics {
        for topic in topics {
          let isAllowed = client.allows(.describe, .topic, topic.topicName)
          let found = isAllowed ? broker.topic(topic.topicName) : nil
          answer.topics.append(
            .init(
              topicName: topic.topicName, topicID: found?.id ?? .zero,
              partitions: topic.partitions.map { index in
                guard isAllowed else {
                  return Partition(
                    partitionIndex: index, startOffset: -1, errorCode: .topicAuthorizationFailed,
                    errorMessage: denial(.describe, .topic, topic.topicName).reason)
                }
                guard let found, broker.partition(found, index) != nil else {
                  return Partition(
                    partitionIndex: index, startOffset: -1, errorCode: .unknownTopicOrPartition,
                    errorMessage: "the topic or partition does not exist")
                }
                return described(TopicIDPartition(found.id, index))
              }))
        }
      } else {
        for (id, partitions) in byTopic(broker.shares.partitions(of: wish.groupID)) {
          guard let topic = broker.topic(id), client.sees(.describe, .topic, topic.name) else { continue }
          answer.topics.append(
            .init(
              topicName: topic.name, topicID: id, partitions: partitions.map { described(TopicIDPartition(id, $0)) }))
        }
      }
      response.groups.append(answer)
    }
    context.answer(response)
  }

  func handleAlterShareGroupOffsets(
    _ request: AlterShareGroupOffsetsRequest, _ context: RequestContext<AlterShareGroupOffsetsResponse>
  ) {
    guard client.allows(.read, .group, request.groupID) else {
      return context.answer(
        AlterShareGroupOffsetsResponse(
          errorCode: .groupAuthorizationFailed, errorMessage: denial(.read, .group, request.groupID).reason))
    }
    var response = AlterShareGroupOffsetsResponse()
    var offsets: [(key: TopicIDPartition, start: Offset)] = []
    for topic in request.topics {
      let isAllowed = client.allows(.read, .topic, topic.topicName)
      let found = isAllowed ? broker.topic(topic.topicName) : nil
      response.responses.append(
        .init(
          topicName: topic.topicName, topicID: found?.id ?? .zero,
          partitions: topic.partitions.map { wish in
            guard isAllowed else {
              return .init(
                partitionIndex: wish.partitionIndex, errorCode: .topicAuthorizationFailed,
                errorMessage: denial(.read, .topic, topic.topicName).reason)
            }
            guard let found, let log = broker.partition(found, wish.partitionIndex) else {
              return .init(
                partitionIndex: wish.partitionIndex, errorCode: .unknownTopicOrPartition,
                errorMessage: "the topic or partition does not exist")
            }
            guard (0...log.highWatermark).contains(wish.startOffset) else {
              return .init(
                partitionIndex: wish.partitionIndex, errorCode: .invalidRequest,
                errorMessage: "offset \(wish.startOffset) is not within 0...\(log.highWatermark)")
            }
            offsets.append((TopicIDPartition(found.id, wish.partitionIndex), wish.startOffset))
            return .init(partitionIndex: wish.partitionIndex)
          }))
    }
    let prepared = response
    broker.shares.alterOffsets(offsets, of: request.groupID) { error in
      context.answer(
        error.map { AlterShareGroupOffsetsResponse(errorCode: KafkaErrorCode(group: $0), errorMessage: $0.reason) }
          ?? prepared)
    }
  }

  func handleDeleteShareGroupOffsets(
    _ request: DeleteShareGroupOffsetsRequest, _ context: RequestContext<DeleteShareGroupOffsetsResponse>
  ) {
    guard client.allows(.delete, .group, request.groupID) else {
      return context.answer(
        DeleteShareGroupOffsetsResponse(
          errorCode: .groupAuthorizationFailed, errorMessage: denial(.delete, .group, request.groupID).reason))
    }
    var response = DeleteShareGroupOffsetsResponse()
    var topics: [TopicID] = []
    for topic in request.topics {
      guard client.allows(.read, .topic, topic.topicName) else {
        response.responses.append(
          .init(
            topicName: topic.topicName, errorCode: .topicAuthorizationFailed,
            errorMessage: denial(.read, .topic, topic.topicName).reason))
        continue
      }
      guard let found = broker.topic(topic.topicName) else {
        response.responses.append(
          .init(
            topicName: topic.topicName, errorCode: .unknownTopicOrPartition,
            errorMessage: "topic \(topic.topicName) does not exist"))
        continue
      }
      topics.append(found.id)
      response.responses.append(.init(topicName: topic.topicName, topicID: found.id))
    }
    let prepared = response
    broker.shares.deleteOffsets(of: topics, in: request.groupID) { error in
      context.answer(
        error.map { DeleteShareGroupOffsetsResponse(errorCode: KafkaErrorCode(group: $0), errorMessage: $0.reason) }
          ?? prepared)
    }
  }
}
