// Topics: CreateTopics and DeleteTopics.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel

extension KafkaConnection {
  func handleCreateTopics(_ request: CreateTopicsRequest, _ context: RequestContext<CreateTopicsResponse>) {
    typealias Answer = CreateTopicsResponse.CreatableTopicResult
    let gathering = Gathering<Answer>(request.topics.count) { context.answer(CreateTopicsResponse(topics: $0)) }
    var names: [String: Int] = [:]
    for topic in request.topics { names[topic.name, default: 0] += 1 }
    for (index, topic) in request.topics.enumerated() {
      func fail(_ error: BrokerError) {
        gathering.put(
          index, Answer(name: topic.name, errorCode: KafkaErrorCode(error), errorMessage: error.reason, configs: nil))
      }
      do throws(BrokerError) {
        guard names[topic.name] == 1 else {
          throw BrokerError(.invalidRequest, "topic \(topic.name) stands in the request more than once")
        }
        let count = try partitionCount(topic)
        let configs = try configs(topic)
        try broker.checkNewTopic(topic.name, partitions: count, configs: configs)
        charge(.mutations, count, context)
        if request.validateOnly {
          gathering.put(index, created(topic.name, id: .zero, count, configs))
          continue
        }
        broker.createTopic(topic.name, partitions: count, configs: configs) { [self] result in
          switch result {
          case .success(let made): gathering.put(index, created(made.name, id: made.id, count, configs))
          case .failure(let error): fail(error)
          }
        }
      } catch {
        fail(error)
      }
    }
  }

  private func created(_ name: String, id: TopicID, _ count: Int, _ configs: [String: String])
    -> CreateTopicsResponse.CreatableTopicResult
  {
    .init(
      name: name, topicID: id, errorMessage: nil, numPartitions: Int32(count), replicationFactor: 1,
      configs: TopicSettings.table.map { setting in
        let first = values(ofTopic: configs, setting)[0]
        return .init(
          name: setting.name, value: first.value, readOnly: false, configSource: first.source, isSensitive: false)
      })
  }

  private func partitionCount(_ topic: CreateTopicsRequest.CreatableTopic) throws(BrokerError) -> Int {
    guard topic.assignments.isEmpty else {
      let indexes = topic.assignments.map(\.partitionIndex).sorted()
      guard indexes == Array(0..<Int32(indexes.count)) else {
        throw BrokerError(.invalidReplicaAssignment, "partitions must be numbered from 0 without gaps: \(indexes)")
      }
      guard topic.assignments.allSatisfy({ $0.brokerIDs == [KafkaServer.nodeID] }) else {
        throw BrokerError(.invalidReplicaAssignment, "node \(KafkaServer.nodeID) is the only one")
      }
      return indexes.count
    }
    guard topic.replicationFactor == 1 || topic.replicationFactor == -1 else {
      throw BrokerError(
        .invalidReplicationFactor, "replication factor \(topic.replicationFactor); there is one node")
    }
    return topic.numPartitions == -1 ? broker.settings.partitions : Int(topic.numPartitions)
  }

  private func configs(_ topic: CreateTopicsRequest.CreatableTopic) throws(BrokerError) -> [String: String] {
    var configs: [String: String] = [:]
    for config in topic.configs {
      guard let value = config.value else {
        throw BrokerError(.invalidConfig, "\(config.name) has no value")
      }
      guard configs.updateValue(value, forKey: config.name) == nil else {
        throw BrokerError(.invalidConfig, "\(config.name) is set more than once")
      }
    }
    return configs
  }

  func handleDeleteTopics(_ request: DeleteTopicsRequest, _ context: RequestContext<DeleteTopicsResponse>) {
    typealias Answer = DeleteTopicsResponse.DeletableTopicResult
    let wanted: [(name: String?, id: TopicID)] =
      context.version >= 6 ? request.topics.map { ($0.name, $0.topicID) } : request.topicNames.map { ($0, .zero) }
    let gathering = Gathering<Answer>(wanted.count) { context.answer(DeleteTopicsResponse(responses: $0)) }
    for (index, wish) in wanted.enumerated() {
      let found = wish.name.map { broker.topic($0) } ?? broker.topic(wish.id)
      guard let found, !found.isInternal else {
        let code: KafkaErrorCode =
          found != nil ? .invalidTopic : wish.name == nil ? .unknownTopicID : .unknownTopicOrPartition
        let reason = found == nil ? "no such topic" : "the topic is internal"
        gathering.put(index, Answer(name: wish.name, topicID: wish.id, errorCode: code, errorMessage: reason))
        continue
      }
      charge(.mutations, found.partitions.count, context)
      broker.deleteTopic(found) { error in
        gathering.put(
          index,
          Answer(
            name: found.name, topicID: found.id, errorCode: error.map { KafkaErrorCode($0) } ?? .none,
            errorMessage: error?.reason))
      }
    }
  }
}
