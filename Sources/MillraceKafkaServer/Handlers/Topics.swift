// Topics: CreateTopics, DeleteTopics and DescribeConfigs.

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
        let value = configs[setting.name]
        return .init(
          name: setting.name, value: value ?? setting.standard, readOnly: false,
          configSource: value == nil ? ConfigSource.standard : ConfigSource.topic, isSensitive: false)
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
      broker.deleteTopic(found) { error in
        gathering.put(
          index,
          Answer(
            name: found.name, topicID: found.id, errorCode: error.map { KafkaErrorCode($0) } ?? .none,
            errorMessage: error?.reason))
      }
    }
  }

  // MARK: DescribeConfigs

  /// Where a value comes from. Source: Kafka, `ConfigEntry.ConfigSource`.
  private enum ConfigSource {
    static let topic: Int8 = 1
    static let staticBroker: Int8 = 4
    static let standard: Int8 = 5
  }

  func handleDescribeConfigs(_ request: DescribeConfigsRequest, _ context: RequestContext<DescribeConfigsResponse>) {
    var response = DescribeConfigsResponse()
    for resource in request.resources {
      var result = DescribeConfigsResponse.DescribeConfigsResult(
        errorMessage: nil, resourceType: resource.resourceType, resourceName: resource.resourceName)
      switch resource.resourceType {
      case 2:
        if let topic = broker.topic(resource.resourceName) {
          result.configs = entries(TopicSettings.table, resource, request, readOnly: false) { name in
            topic.configs[name].map { ($0, ConfigSource.topic) }
              ?? (broker.setting(name, of: topic) ?? "", ConfigSource.standard)
          }
        } else {
          result.errorCode = .unknownTopicOrPartition
          result.errorMessage = "no such topic"
        }
      case 4 where resource.resourceName.isEmpty || resource.resourceName == "\(KafkaServer.nodeID)":
        result.configs = entries(BrokerSettings.table, resource, request, readOnly: true) { name in
          (
            broker.settings.text(name) ?? "",
            broker.settings.isSet(name) ? ConfigSource.staticBroker : ConfigSource.standard
          )
        }
      default:
        result.errorCode = .invalidRequest
        result.errorMessage = "there is no resource of type \(resource.resourceType) named \(resource.resourceName)"
      }
      response.results.append(result)
    }
    context.answer(response)
  }

  private func entries(
    _ table: [Setting], _ resource: DescribeConfigsRequest.DescribeConfigsResource, _ request: DescribeConfigsRequest,
    readOnly: Bool, _ value: (String) -> (String, Int8)
  ) -> [DescribeConfigsResponse.DescribeConfigsResourceResult] {
    table.filter { resource.configurationKeys?.contains($0.name) ?? true }.map { setting in
      let (text, source) = value(setting.name)
      var entry = DescribeConfigsResponse.DescribeConfigsResourceResult(
        name: setting.name, value: text, readOnly: readOnly, configSource: source, configType: setting.type.rawValue,
        documentation: nil)
      if request.includeSynonyms {
        entry.synonyms = [.init(name: setting.name, value: text, source: source)]
        if source != ConfigSource.standard {
          entry.synonyms.append(.init(name: setting.name, value: setting.standard, source: ConfigSource.standard))
        }
      }
      if request.includeDocumentation {
        entry.documentation = setting.isHonoured ? setting.text : setting.text + " Accepted, but without effect."
      }
      return entry
    }
  }
}
