// APIKey: the APIs of Kafka's protocol whose messages are known here, with the versions that are advertised.

import MillraceBase

/// An API of Kafka's protocol; the raw value is its key on the wire.
public enum APIKey: Int16, CaseIterable, Sendable, CustomStringConvertible {
  case produce = 0
  case fetch = 1
  case listOffsets = 2
  case metadata = 3
  case offsetCommit = 8
  case offsetFetch = 9
  case findCoordinator = 10
  case joinGroup = 11
  case heartbeat = 12
  case leaveGroup = 13
  case syncGroup = 14
  case describeGroups = 15
  case listGroups = 16
  case saslHandshake = 17
  case apiVersions = 18
  case createTopics = 19
  case deleteTopics = 20
  case deleteRecords = 21
  case initProducerId = 22
  case offsetForLeaderEpoch = 23
  case addPartitionsToTxn = 24
  case addOffsetsToTxn = 25
  case endTxn = 26
  case writeTxnMarkers = 27
  case txnOffsetCommit = 28
  case describeAcls = 29
  case createAcls = 30
  case deleteAcls = 31
  case describeConfigs = 32
  case alterConfigs = 33
  case describeLogDirs = 35
  case saslAuthenticate = 36
  case createPartitions = 37
  case deleteGroups = 42
  case electLeaders = 43
  case incrementalAlterConfigs = 44
  case alterPartitionReassignments = 45
  case listPartitionReassignments = 46
  case offsetDelete = 47
  case describeClientQuotas = 48
  case alterClientQuotas = 49
  case describeUserScramCredentials = 50
  case alterUserScramCredentials = 51
  case describeCluster = 60
  case describeProducers = 61
  case describeTransactions = 65
  case listTransactions = 66
  case consumerGroupHeartbeat = 68
  case consumerGroupDescribe = 69
  case listConfigResources = 74
  case describeTopicPartitions = 75
  case shareGroupHeartbeat = 76
  case shareGroupDescribe = 77
  case shareFetch = 78
  case shareAcknowledge = 79
  case describeShareGroupOffsets = 90
  case alterShareGroupOffsets = 91
  case deleteShareGroupOffsets = 92

  /// APIs whose messages are there but that no handler answers yet: neither advertised nor accepted.
  ///
  /// Who writes an API's handler takes it out of here.
  public static let unserved: Set<APIKey> = []

  /// Kafka's name.
  public var name: String { facts.request.apiName }
  /// Kafka's name.
  public var description: String { name }

  /// The first version with compact lengths and tagged fields.
  public var firstFlexibleVersion: Int16 { facts.flexible }

  /// Versions that a broker advertises.
  ///
  /// Produce starts at 0 although versions 0 to 2 cannot be read: without them librdkafka believes that the broker
  /// knows no compression. Source: KAFKA-18659. EndTxn 5, TxnOffsetCommit 5 and Produce 12 are those of the second
  /// transaction protocol, which clients use when the feature `transaction.version` is 2 (KIP-890).
  public var advertisedVersions: ClosedRange<Int16> { facts.advertised }

  /// Versions whose bodies are read and answered; a request in any other gets `.unsupportedVersion`.
  public var supportedVersions: ClosedRange<Int16> { facts.advertised.clamped(to: facts.request.versions) }

  /// Whether a version has compact lengths and tagged fields.
  public func isFlexible(_ version: Int16) -> Bool { version >= firstFlexibleVersion }

  /// The version of the request header in front of a request of version `version`: 1, or 2 with tagged fields.
  public func requestHeaderVersion(_ version: Int16) -> Int16 { isFlexible(version) ? 2 : 1 }

  /// The version of the response header: 0, or 1 with tagged fields.
  ///
  /// Always 0 for ApiVersions, because a client cannot know yet what the broker understands. Source: KIP-511.
  public func responseHeaderVersion(_ version: Int16) -> Int16 {
    self != .apiVersions && isFlexible(version) ? 1 : 0
  }

  /// The request's type.
  public var requestType: any KafkaRequest.Type { facts.request }

  private struct Facts {
    let request: any KafkaRequest.Type
    let flexible: Int16
    let advertised: ClosedRange<Int16>
    init(_ request: any KafkaRequest.Type, flexible: Int16, advertised: ClosedRange<Int16>) {
      self.request = request
      self.flexible = flexible
      self.advertised = advertised
    }
  }

  private var facts: Facts {
    switch self {
    case .produce: Facts(ProduceRequest.self, flexible: 9, advertised: 0...13)
    case .fetch: Facts(FetchRequest.self, flexible: 12, advertised: 4...18)
    case .listOffsets: Facts(ListOffsetsRequest.self, flexible: 6, advertised: 1...11)
    case .metadata: Facts(MetadataRequest.self, flexible: 9, advertised: 0...13)
    case .offsetCommit: Facts(OffsetCommitRequest.self, flexible: 8, advertised: 2...10)
    case .offsetFetch: Facts(OffsetFetchRequest.self, flexible: 6, advertised: 1...10)
    case .findCoordinator: Facts(FindCoordinatorRequest.self, flexible: 3, advertised: 0...6)
    case .joinGroup: Facts(JoinGroupRequest.self, flexible: 6, advertised: 0...9)
    case .heartbeat: Facts(HeartbeatRequest.self, flexible: 4, advertised: 0...4)
    case .leaveGroup: Facts(LeaveGroupRequest.self, flexible: 4, advertised: 0...5)
    case .syncGroup: Facts(SyncGroupRequest.self, flexible: 4, advertised: 0...5)
    case .describeGroups: Facts(DescribeGroupsRequest.self, flexible: 5, advertised: 0...6)
    case .listGroups: Facts(ListGroupsRequest.self, flexible: 3, advertised: 0...5)
    case .saslHandshake: Facts(SaslHandshakeRequest.self, flexible: Int16.max, advertised: 0...1)
    case .apiVersions: Facts(ApiVersionsRequest.self, flexible: 3, advertised: 0...4)
    case .createTopics: Facts(CreateTopicsRequest.self, flexible: 5, advertised: 2...7)
    case .deleteTopics: Facts(DeleteTopicsRequest.self, flexible: 4, advertised: 1...6)
    case .deleteRecords: Facts(DeleteRecordsRequest.self, flexible: 2, advertised: 0...2)
    case .initProducerId: Facts(InitProducerIdRequest.self, flexible: 2, advertised: 0...5)
    case .offsetForLeaderEpoch: Facts(OffsetForLeaderEpochRequest.self, flexible: 4, advertised: 2...4)
    case .addPartitionsToTxn: Facts(AddPartitionsToTxnRequest.self, flexible: 3, advertised: 0...5)
    case .addOffsetsToTxn: Facts(AddOffsetsToTxnRequest.self, flexible: 3, advertised: 0...4)
    case .endTxn: Facts(EndTxnRequest.self, flexible: 3, advertised: 0...5)
    case .writeTxnMarkers: Facts(WriteTxnMarkersRequest.self, flexible: 1, advertised: 1...2)
    case .txnOffsetCommit: Facts(TxnOffsetCommitRequest.self, flexible: 3, advertised: 0...5)
    case .describeAcls: Facts(DescribeAclsRequest.self, flexible: 2, advertised: 1...3)
    case .createAcls: Facts(CreateAclsRequest.self, flexible: 2, advertised: 1...3)
    case .deleteAcls: Facts(DeleteAclsRequest.self, flexible: 2, advertised: 1...3)
    case .describeConfigs: Facts(DescribeConfigsRequest.self, flexible: 4, advertised: 1...4)
    case .alterConfigs: Facts(AlterConfigsRequest.self, flexible: 2, advertised: 0...2)
    case .describeLogDirs: Facts(DescribeLogDirsRequest.self, flexible: 2, advertised: 1...5)
    case .saslAuthenticate: Facts(SaslAuthenticateRequest.self, flexible: 2, advertised: 0...2)
    case .createPartitions: Facts(CreatePartitionsRequest.self, flexible: 2, advertised: 0...3)
    case .deleteGroups: Facts(DeleteGroupsRequest.self, flexible: 2, advertised: 0...2)
    case .electLeaders: Facts(ElectLeadersRequest.self, flexible: 2, advertised: 0...2)
    case .incrementalAlterConfigs: Facts(IncrementalAlterConfigsRequest.self, flexible: 1, advertised: 0...1)
    case .alterPartitionReassignments: Facts(AlterPartitionReassignmentsRequest.self, flexible: 0, advertised: 0...1)
    case .listPartitionReassignments: Facts(ListPartitionReassignmentsRequest.self, flexible: 0, advertised: 0...0)
    case .offsetDelete: Facts(OffsetDeleteRequest.self, flexible: Int16.max, advertised: 0...0)
    case .describeClientQuotas: Facts(DescribeClientQuotasRequest.self, flexible: 1, advertised: 0...1)
    case .alterClientQuotas: Facts(AlterClientQuotasRequest.self, flexible: 1, advertised: 0...1)
    case .describeUserScramCredentials:
      Facts(DescribeUserScramCredentialsRequest.self, flexible: 0, advertised: 0...0)
    case .alterUserScramCredentials: Facts(AlterUserScramCredentialsRequest.self, flexible: 0, advertised: 0...0)
    case .describeCluster: Facts(DescribeClusterRequest.self, flexible: 0, advertised: 0...2)
    case .describeProducers: Facts(DescribeProducersRequest.self, flexible: 0, advertised: 0...0)
    case .describeTransactions: Facts(DescribeTransactionsRequest.self, flexible: 0, advertised: 0...0)
    case .listTransactions: Facts(ListTransactionsRequest.self, flexible: 0, advertised: 0...2)
    case .consumerGroupHeartbeat: Facts(ConsumerGroupHeartbeatRequest.self, flexible: 0, advertised: 0...1)
    case .consumerGroupDescribe: Facts(ConsumerGroupDescribeRequest.self, flexible: 0, advertised: 0...1)
    case .listConfigResources: Facts(ListConfigResourcesRequest.self, flexible: 0, advertised: 0...1)
    case .describeTopicPartitions: Facts(DescribeTopicPartitionsRequest.self, flexible: 0, advertised: 0...0)
    case .shareGroupHeartbeat: Facts(ShareGroupHeartbeatRequest.self, flexible: 0, advertised: 1...1)
    case .shareGroupDescribe: Facts(ShareGroupDescribeRequest.self, flexible: 0, advertised: 1...1)
    case .shareFetch: Facts(ShareFetchRequest.self, flexible: 0, advertised: 1...2)
    case .shareAcknowledge: Facts(ShareAcknowledgeRequest.self, flexible: 0, advertised: 1...2)
    case .describeShareGroupOffsets: Facts(DescribeShareGroupOffsetsRequest.self, flexible: 0, advertised: 0...1)
    case .alterShareGroupOffsets: Facts(AlterShareGroupOffsetsRequest.self, flexible: 0, advertised: 0...0)
    case .deleteShareGroupOffsets: Facts(DeleteShareGroupOffsetsRequest.self, flexible: 0, advertised: 0...0)
    }
  }
}

extension KafkaRequest {
  /// Kafka's name of the API: the type's name without `Request`.
  static var apiName: String { String(String(describing: Self.self).dropLast("Request".count)) }
  /// The response's type, with its versions.
  static var responseType: any KafkaResponse.Type { Response.self }
}

extension APIKey {
  /// The response's type.
  public var responseType: any KafkaResponse.Type { requestType.responseType }

  /// What a broker puts into its ApiVersions response: all APIs that are served.
  public static var advertisedList: [ApiVersionsResponse.ApiVersion] {
    allCases.filter { !unserved.contains($0) }.map { api in
      ApiVersionsResponse.ApiVersion(
        apiKey: api.rawValue, minVersion: api.advertisedVersions.lowerBound,
        maxVersion: api.advertisedVersions.upperBound)
    }
  }

  /// The highest version that both sides speak, nil when there is none.
  /// - Parameter peer: what the broker listed in its ApiVersions response.
  public func commonVersion(with peer: [ApiVersionsResponse.ApiVersion]) -> Int16? {
    guard let theirs = peer.first(where: { $0.apiKey == rawValue }) else { return nil }
    let lowest = max(theirs.minVersion, supportedVersions.lowerBound)
    let highest = min(theirs.maxVersion, supportedVersions.upperBound)
    return lowest <= highest ? highest : nil
  }
}
