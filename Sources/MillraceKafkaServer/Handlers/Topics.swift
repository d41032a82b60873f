// Topics: CreateTopics and DeleteTopics.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel
import MillraceSecurity

extension KafkaConnection {
  /// Whether the client may create a topic of this name.
  func mayCreate(_ name: String) -> Bool {
    client.sees(.create, .cluster, ResourceName.cluster) || client.allows(.create, .topic, name)
  }

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
        guard mayCreate(topic.name) else { throw denial(.create, .topic, topic.name) }
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
    // Source: KIP-525.
    guard client.sees(.describeConfigs, .topic, name) else {
      return .init(
        name: name, topicID: id, errorMessage: nil, topicConfigErrorCode: .topicAuthorizationFailed,
        numPartitions: -1, replicationFactor: -1, configs: [])
    }
    return .init(
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
      if let denied = deletionDenied(wish.name, found) {
        gathering.put(
          index,
          Answer(
            name: denied.name, topicID: denied.id ?? (wish.name == nil ? wish.id : .zero),
            errorCode: .topicAuthorizationFailed, errorMessage: denied.reason))
        continue
      }
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

  /// Why a topic may not be deleted, with the name and id that may be told; nil when it may.
  ///
  /// Who may not even describe it gets back what stands in the request. Source: Kafka, `ControllerApis.deleteTopics`.
  private func deletionDenied(
    _ named: String?, _ found: TopicMetadata?
  ) -> (name: String?, id: TopicID?, reason: String)? {
    // An id that no topic has stands for nothing that could be denied.
    guard let name = named ?? found?.name, !client.allows(.delete, .topic, name) else { return nil }
    let isSeen = client.sees(.describe, .topic, name)
    let reason = isSeen ? denial(.delete, .topic, name).reason : "\(client.principal) may not delete this topic"
    return (isSeen ? name : named, isSeen ? found?.id : nil, reason)
  }
}
