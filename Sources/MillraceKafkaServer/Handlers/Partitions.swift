// Partitions: CreatePartitions, DeleteRecords and DescribeTopicPartitions.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel

extension KafkaConnection {
  // MARK: CreatePartitions

  func handleCreatePartitions(_ request: CreatePartitionsRequest, _ context: RequestContext<CreatePartitionsResponse>) {
    typealias Answer = CreatePartitionsResponse.CreatePartitionsTopicResult
    let gathering = Gathering<Answer>(request.topics.count) { context.answer(CreatePartitionsResponse(results: $0)) }
    var names: [String: Int] = [:]
    for topic in request.topics { names[topic.name, default: 0] += 1 }
    for (index, wish) in request.topics.enumerated() {
      func fail(_ error: BrokerError) {
        gathering.put(index, Answer(name: wish.name, errorCode: KafkaErrorCode(error), errorMessage: error.reason))
      }
      do throws(BrokerError) {
        guard names[wish.name] == 1 else {
          throw BrokerError(.invalidRequest, "topic \(wish.name) stands in the request more than once")
        }
        try require(.alter, .topic, wish.name)
        guard let topic = broker.topic(wish.name) else {
          throw BrokerError(.unknownTopicOrPartition, "topic \(wish.name) does not exist")
        }
        try broker.checkPartitions(of: topic, total: Int(wish.count))
        try check(wish.assignments, added: Int(wish.count) - topic.partitions.count)
        charge(.mutations, Int(wish.count) - topic.partitions.count, context)
        if request.validateOnly {
          gathering.put(index, Answer(name: wish.name))
          continue
        }
        broker.addPartitions(to: topic.id, total: Int(wish.count)) { result in
          switch result {
          case .success: gathering.put(index, Answer(name: wish.name))
          case .failure(let error): fail(error)
          }
        }
      } catch {
        fail(error)
      }
    }
  }

  private func check(
    _ assignments: [CreatePartitionsRequest.CreatePartitionsAssignment]?, added: Int
  ) throws(BrokerError) {
    guard let assignments, !assignments.isEmpty else { return }
    guard assignments.count == added else {
      throw BrokerError(
        .invalidReplicaAssignment, "\(assignments.count) assignments for \(added) partitions that are added")
    }
    guard assignments.allSatisfy({ $0.brokerIDs == [KafkaServer.nodeID] }) else {
      throw BrokerError(.invalidReplicaAssignment, "node \(KafkaServer.nodeID) is the only one")
    }
  }

  // MARK: DeleteRecords

  func handleDeleteRecords(_ request: DeleteRecordsRequest, _ context: RequestContext<DeleteRecordsResponse>) {
    typealias Answer = DeleteRecordsResponse.DeleteRecordsPartitionResult
    var parts: [(topic: Int, wish: DeleteRecordsRequest.DeleteRecordsPartition)] = []
    for (index, topic) in request.topics.enumerated() {
      for partition in topic.partitions { parts.append((index, partition)) }
    }
    let gathering = Gathering<Answer>(parts.count) { answers in
      var response = DeleteRecordsResponse()
      response.topics = request.topics.map { .init(name: $0.name) }
      for (part, answer) in zip(parts, answers) { response.topics[part.topic].partitions.append(answer) }
      context.answer(response)
    }
    let allowed = request.topics.map { client.allows(.delete, .topic, $0.name) }
    for (index, part) in parts.enumerated() {
      let number = part.wish.partitionIndex
      guard allowed[part.topic] else {
        gathering.put(
          index, Answer(partitionIndex: number, lowWatermark: -1, errorCode: .topicAuthorizationFailed))
        continue
      }
      guard let topic = broker.topic(request.topics[part.topic].name) else {
        gathering.put(
          index, Answer(partitionIndex: number, lowWatermark: -1, errorCode: .unknownTopicOrPartition))
        continue
      }
      // −1 stands for the high watermark. Source: Kafka, `DeleteRecordsRequest`.
      let offset = part.wish.offset == -1 ? nil : part.wish.offset
      broker.deleteRecords(topic, number, before: offset) { [self] result in
        switch result {
        case .success(let start): gathering.put(index, Answer(partitionIndex: number, lowWatermark: start))
        case .failure(let error):
          // The answer has no room for the reason.
          server.logger.logRarely(
            .info, "kafka", "records not deleted", "",
            ["topic": topic.name, "partition": "\(number)", "connection": "\(self.number)", "error": "\(error)"])
          gathering.put(
            index, Answer(partitionIndex: number, lowWatermark: -1, errorCode: KafkaErrorCode(error)))
        }
      }
    }
  }

  // MARK: DescribeTopicPartitions

  /// Most partitions in one answer. Source: Kafka, `max.request.partition.size.limit`.
  private static let mostDescribedPartitions = 2000

  /// Topics come in the order of their names, so that a cursor means the same in the next request. Source: KIP-966.
  func handleDescribeTopicPartitions(
    _ request: DescribeTopicPartitionsRequest, _ context: RequestContext<DescribeTopicPartitionsResponse>
  ) {
    // Of all topics, those are left out that the client may not describe; of those that it names, it is told so.
    var names =
      request.topics.isEmpty
      ? Set(broker.topics.keys.filter { client.sees(.describe, .topic, $0) }) : Set(request.topics.map(\.name))
    if let cursor = request.cursor { names = names.filter { $0 >= cursor.topicName } }
    var rest = min(max(1, Int(request.responsePartitionLimit)), KafkaConnection.mostDescribedPartitions)
    var response = DescribeTopicPartitionsResponse()
    for name in names.sorted() {
      guard client.allows(.describe, .topic, name) else {
        response.topics.append(.init(errorCode: .topicAuthorizationFailed, name: name))
        continue
      }
      guard let topic = broker.topic(name) else {
        let code: KafkaErrorCode = TopicName.problem(name) == nil ? .unknownTopicOrPartition : .invalidTopic
        response.topics.append(.init(errorCode: code, name: name))
        continue
      }
      var first = 0
      if let cursor = request.cursor, cursor.topicName == name { first = max(0, Int(cursor.partitionIndex)) }
      guard first < topic.partitions.count else { continue }
      guard rest > 0 else {
        response.nextCursor = .init(topicName: name, partitionIndex: Int32(first))
        break
      }
      let last = min(topic.partitions.count, first + rest)
      rest -= last - first
      response.topics.append(
        .init(
          name: name, topicID: topic.id, isInternal: topic.isInternal,
          partitions: (first..<last).map { index in
            .init(
              partitionIndex: Int32(index), leaderID: KafkaServer.nodeID, leaderEpoch: broker.leaderEpoch,
              replicaNodes: [KafkaServer.nodeID], isrNodes: [KafkaServer.nodeID], eligibleLeaderReplicas: [],
              lastKnownElr: [])
          }, topicAuthorizedOperations: authorizedOperations(.topic, name)))
      if last < topic.partitions.count {
        response.nextCursor = .init(topicName: name, partitionIndex: Int32(last))
        break
      }
    }
    context.answer(response)
  }
}
