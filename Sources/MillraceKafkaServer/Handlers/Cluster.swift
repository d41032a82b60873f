// Cluster: what a cluster of one node answers: DescribeCluster, DescribeLogDirs, ElectLeaders and reassignments.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel

extension KafkaConnection {
  func handleDescribeCluster(_ request: DescribeClusterRequest, _ context: RequestContext<DescribeClusterResponse>) {
    // 1 asks for the brokers' addresses, 2 for the controllers', which have none of their own. Source: KIP-919.
    guard request.endpointType == 1 else {
      return context.answer(
        DescribeClusterResponse(
          errorCode: request.endpointType == 2 ? .mismatchedEndpointType : .unsupportedEndpointType,
          errorMessage: "addresses of type \(request.endpointType) are not served, only the brokers' (1)",
          endpointType: request.endpointType))
    }
    context.answer(
      DescribeClusterResponse(
        endpointType: 1, clusterID: broker.clusterID, controllerID: KafkaServer.nodeID,
        brokers: [.init(brokerID: KafkaServer.nodeID, host: advertised.host, port: Int32(advertised.port))],
        clusterAuthorizedOperations: request.includeClusterAuthorizedOperations
          ? authorizedClusterOperations() : Int32.min))
  }

  // MARK: DescribeLogDirs

  func handleDescribeLogDirs(_ request: DescribeLogDirsRequest, _ context: RequestContext<DescribeLogDirsResponse>) {
    typealias Topic = DescribeLogDirsResponse.DescribeLogDirsTopic
    guard client.allowsCluster(.describe) else {
      return context.answer(DescribeLogDirsResponse(errorCode: .clusterAuthorizationFailed))
    }
    func describe(_ topic: TopicMetadata, _ partitions: [Int32]) -> Topic? {
      let found = partitions.compactMap { index in
        broker.partition(topic, index).map {
          DescribeLogDirsResponse.DescribeLogDirsPartition(partitionIndex: index, partitionSize: $0.size)
        }
      }
      return found.isEmpty ? nil : Topic(name: topic.name, partitions: found)
    }
    var directory = DescribeLogDirsResponse.DescribeLogDirsResult(logDir: broker.dataDirectory)
    if let wanted = request.topics {
      directory.topics = wanted.firstOfEach(\.topic).compactMap { wish in
        broker.topic(wish.topic).flatMap { describe($0, wish.partitions) }
      }
    } else {
      directory.topics = broker.topics.values.sorted { $0.name < $1.name }.compactMap { topic in
        describe(topic, Array(0..<Int32(topic.partitions.count)))
      }
    }
    // Source of the two sizes: KIP-827.
    broker.measureSpace { space in
      var directory = directory
      if let space { (directory.totalBytes, directory.usableBytes) = space }
      context.answer(DescribeLogDirsResponse(results: [directory]))
    }
  }

  // MARK: Leaders and replicas

  /// The one node leads everything already.
  func handleElectLeaders(_ request: ElectLeadersRequest, _ context: RequestContext<ElectLeadersResponse>) {
    guard client.allowsCluster(.alter) else {
      return context.answer(
        ElectLeadersResponse(
          errorCode: .clusterAuthorizationFailed,
          replicaElectionResults: (request.topicPartitions ?? []).map { topic in
            .init(
              topic: topic.topic,
              partitionResult: topic.partitions.map {
                .init(partitionID: $0, errorCode: .clusterAuthorizationFailed, errorMessage: nil)
              })
          }))
    }
    guard request.electionType == 0 || request.electionType == 1 else {
      return context.answer(ElectLeadersResponse(errorCode: .invalidRequest))
    }
    // Without partitions all are meant, and only those are named that needed an election. Source: Kafka, `ElectLeaders`.
    context.answer(
      ElectLeadersResponse(
        replicaElectionResults: (request.topicPartitions ?? []).map { topic in
          .init(
            topic: topic.topic,
            partitionResult: topic.partitions.map { number in
              guard broker.topic(topic.topic).flatMap({ broker.partition($0, number) }) != nil else {
                return .init(
                  partitionID: number, errorCode: .unknownTopicOrPartition,
                  errorMessage: "there is no partition \(topic.topic)-\(number)")
              }
              return .init(
                partitionID: number, errorCode: .electionNotNeeded,
                errorMessage: "node \(KafkaServer.nodeID) leads \(topic.topic)-\(number) already")
            })
        }))
  }

  func handleAlterPartitionReassignments(
    _ request: AlterPartitionReassignmentsRequest, _ context: RequestContext<AlterPartitionReassignmentsResponse>
  ) {
    guard client.allowsCluster(.alter) else {
      return context.answer(
        AlterPartitionReassignmentsResponse(
          allowReplicationFactorChange: request.allowReplicationFactorChange, errorCode: .clusterAuthorizationFailed,
          errorMessage: "partitions may not be reassigned"))
    }
    func judge(_ topic: String, _ wish: AlterPartitionReassignmentsRequest.ReassignablePartition)
      -> AlterPartitionReassignmentsResponse.ReassignablePartitionResponse
    {
      func refuse(_ code: KafkaErrorCode, _ reason: String)
        -> AlterPartitionReassignmentsResponse.ReassignablePartitionResponse
      {
        .init(partitionIndex: wish.partitionIndex, errorCode: code, errorMessage: reason)
      }
      let place = "\(topic)-\(wish.partitionIndex)"
      guard broker.topic(topic).flatMap({ broker.partition($0, wish.partitionIndex) }) != nil else {
        return refuse(.unknownTopicOrPartition, "there is no partition \(place)")
      }
      guard let replicas = wish.replicas else {
        return refuse(.noReassignmentInProgress, "\(place) is not being reassigned")
      }
      guard replicas == [KafkaServer.nodeID] else {
        return refuse(
          .invalidReplicationAssignment,
          "\(place) cannot go to nodes \(replicas): \(KafkaServer.nodeID) is the only one")
      }
      return .init(partitionIndex: wish.partitionIndex, errorMessage: nil)
    }
    context.answer(
      AlterPartitionReassignmentsResponse(
        allowReplicationFactorChange: request.allowReplicationFactorChange, errorMessage: nil,
        responses: request.topics.map { topic in
          .init(name: topic.name, partitions: topic.partitions.map { judge(topic.name, $0) })
        }))
  }

  /// Nothing is ever under way.
  func handleListPartitionReassignments(
    _ request: ListPartitionReassignmentsRequest, _ context: RequestContext<ListPartitionReassignmentsResponse>
  ) {
    guard client.allowsCluster(.describe) else {
      return context.answer(
        ListPartitionReassignmentsResponse(
          errorCode: .clusterAuthorizationFailed, errorMessage: "reassignments may not be described"))
    }
    context.answer(ListPartitionReassignmentsResponse(errorMessage: nil))
  }
}
