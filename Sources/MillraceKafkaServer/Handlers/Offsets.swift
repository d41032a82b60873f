// Offsets: ListOffsets and OffsetForLeaderEpoch.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel

extension KafkaConnection {
  func handleListOffsets(_ request: ListOffsetsRequest, _ context: RequestContext<ListOffsetsResponse>) {
    typealias Answer = ListOffsetsResponse.ListOffsetsPartitionResponse
    var parts: [(topic: Int, wish: ListOffsetsRequest.ListOffsetsPartition)] = []
    for (index, topic) in request.topics.enumerated() {
      for partition in topic.partitions { parts.append((index, partition)) }
    }
    let gathering = Gathering<Answer>(parts.count) { answers in
      var response = ListOffsetsResponse()
      response.topics = request.topics.map { .init(name: $0.name) }
      for (part, answer) in zip(parts, answers) { response.topics[part.topic].partitions.append(answer) }
      context.answer(response)
    }
    let allowed = request.topics.map { client.allows(.describe, .topic, $0.name) }
    for (index, part) in parts.enumerated() {
      let number = part.wish.partitionIndex
      func fail(_ code: KafkaErrorCode) { gathering.put(index, Answer(partitionIndex: number, errorCode: code)) }
      guard allowed[part.topic] else {
        fail(.topicAuthorizationFailed)
        continue
      }
      guard let topic = broker.topic(request.topics[part.topic].name), let log = broker.partition(topic, number) else {
        fail(.unknownTopicOrPartition)
        continue
      }
      if let error = broker.checkLeaderEpoch(part.wish.currentLeaderEpoch) {
        fail(KafkaErrorCode(error))
        continue
      }
      guard let query = OffsetQuery(kafka: part.wish.timestamp) else {
        fail(.invalidRequest)
        continue
      }
      broker.offset(for: query, in: log, isCommittedOnly: request.isolationLevel == 1) { result in
        switch result {
        case .success(let found):
          gathering.put(
            index,
            Answer(
              partitionIndex: number, timestamp: found.timestamp.milliseconds, offset: found.offset,
              leaderEpoch: found.leaderEpoch))
        case .failure(let error): fail(KafkaErrorCode(error))
        }
      }
    }
  }

  func handleOffsetForLeaderEpoch(
    _ request: OffsetForLeaderEpochRequest, _ context: RequestContext<OffsetForLeaderEpochResponse>
  ) {
    var response = OffsetForLeaderEpochResponse()
    for topic in request.topics {
      let isAllowed = client.allows(.describe, .topic, topic.topic)
      let found = broker.topic(topic.topic)
      response.topics.append(
        .init(
          topic: topic.topic,
          partitions: topic.partitions.map { wish in
            var answer = OffsetForLeaderEpochResponse.EpochEndOffset(partition: wish.partition)
            guard isAllowed else {
              answer.errorCode = .topicAuthorizationFailed
              return answer
            }
            guard let found, let log = broker.partition(found, wish.partition) else {
              answer.errorCode = .unknownTopicOrPartition
              return answer
            }
            if let error = broker.checkLeaderEpoch(wish.currentLeaderEpoch) {
              answer.errorCode = KafkaErrorCode(error)
            } else if wish.leaderEpoch == broker.leaderEpoch {
              answer.leaderEpoch = wish.leaderEpoch
              answer.endOffset = log.highWatermark
            } else if wish.leaderEpoch < broker.leaderEpoch, let end = log.endOffset(ofEpoch: wish.leaderEpoch) {
              answer.leaderEpoch = end.epoch
              answer.endOffset = end.endOffset
            }
            return answer
          }))
    }
    context.answer(response)
  }
}

extension OffsetQuery {
  /// The meaning of a timestamp in ListOffsets; nil for a number that means nothing. Source: Kafka, `ListOffsetsRequest`.
  ///
  /// Everything is local, so that the earliest local offset (−4) is the earliest. What has gone to remote storage last
  /// (−5), and what would go there next (−6), do not exist.
  init?(kafka timestamp: Int64) {
    switch timestamp {
    case -1: self = .latest
    case -2, -4: self = .earliest
    case -3: self = .largestTimestamp
    case -5, -6: self = .remote
    case 0...: self = .time(Timestamp(milliseconds: timestamp))
    default: return nil
    }
  }
}
