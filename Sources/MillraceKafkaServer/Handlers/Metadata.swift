// Metadata: the node, the topics and who leads their partitions; creates topics on first use where that is allowed.

import MillraceBroker
import MillraceIO
import MillraceKafkaProtocol
import MillraceModel
import MillraceSecurity

extension KafkaConnection {
  /// What this client should connect to.
  var advertised: SocketAddress { listener.advertised ?? server.advertised ?? connection.localAddress }

  func handleMetadata(_ request: MetadataRequest, _ context: RequestContext<MetadataResponse>) {
    let wantsAll = request.topics.map { $0.isEmpty && context.version == 0 } ?? true
    if wantsAll {
      let all = broker.topics.values.filter { client.sees(.describe, .topic, $0.name) }
        .sorted { $0.name < $1.name }.map(describe)
      return context.answer(metadata(all, request))
    }
    let wanted = (request.topics ?? []).firstOfEach { "\($0.topicID) \($0.name ?? "")" }
    let creates = request.allowAutoTopicCreation && broker.settings.createsTopics
    let gathering = Gathering<MetadataResponse.MetadataResponseTopic>(wanted.count) { [self] in
      context.answer(metadata($0, request))
    }
    for (index, topic) in wanted.enumerated() {
      if let name = topic.name, topic.topicID == .zero {
        // Whether there is such a topic, and under which id, is not said. Source: Kafka, `handleTopicMetadataRequest`.
        guard client.allows(.describe, .topic, name) else {
          gathering.put(index, .init(errorCode: .topicAuthorizationFailed, name: name))
          continue
        }
        find(name, creates: creates, context) { gathering.put(index, $0) }
      } else if let denied = broker.topic(topic.topicID), !client.allows(.describe, .topic, denied.name) {
        gathering.put(index, .init(errorCode: .topicAuthorizationFailed, name: nil, topicID: topic.topicID))
      } else if let found = broker.topic(topic.topicID) {
        gathering.put(index, describe(found))
      } else {
        gathering.put(index, .init(errorCode: .unknownTopicID, name: nil, topicID: topic.topicID))
      }
    }
  }

  private func metadata(
    _ topics: [MetadataResponse.MetadataResponseTopic], _ request: MetadataRequest
  ) -> MetadataResponse {
    var response = MetadataResponse()
    response.brokers = [
      .init(nodeID: KafkaServer.nodeID, host: advertised.host, port: Int32(advertised.port), rack: nil)
    ]
    response.clusterID = broker.clusterID
    response.controllerID = KafkaServer.nodeID
    response.topics = topics
    if request.includeClusterAuthorizedOperations {
      response.clusterAuthorizedOperations = authorizedClusterOperations()
    }
    if request.includeTopicAuthorizedOperations {
      for index in response.topics.indices where response.topics[index].errorCode == .none {
        response.topics[index].topicAuthorizedOperations = authorizedOperations(
          .topic, response.topics[index].name ?? "")
      }
    }
    return response
  }

  private func find(
    _ name: String, creates: Bool, _ context: RequestContext<MetadataResponse>,
    _ completion: @escaping (MetadataResponse.MetadataResponseTopic) -> Void
  ) {
    if let found = broker.topic(name) { return completion(describe(found)) }
    func refuse(_ code: KafkaErrorCode) { completion(.init(errorCode: code, name: name)) }
    if TopicName.problem(name) != nil { return refuse(.invalidTopic) }
    guard creates, !name.hasPrefix("__") else { return refuse(.unknownTopicOrPartition) }
    guard mayCreate(name) else { return refuse(.topicAuthorizationFailed) }
    charge(.mutations, broker.settings.partitions, context)
    broker.createTopic(name) { [self] result in
      switch result {
      case .success(let topic): completion(describe(topic))
      case .failure(let error):
        // Another request of the same moment may have created it.
        if error.code == .topicExists, let found = broker.topic(name) { return completion(describe(found)) }
        refuse(KafkaErrorCode(error))
      }
    }
  }

  private func describe(_ topic: TopicMetadata) -> MetadataResponse.MetadataResponseTopic {
    let partitions = topic.partitions.indices.map { index in
      MetadataResponse.MetadataResponsePartition(
        partitionIndex: Int32(index), leaderID: KafkaServer.nodeID, leaderEpoch: broker.leaderEpoch,
        replicaNodes: [KafkaServer.nodeID], isrNodes: [KafkaServer.nodeID])
    }
    return .init(name: topic.name, topicID: topic.id, isInternal: topic.isInternal, partitions: partitions)
  }
}
