// KafkaConnection+Requests: each request to its handler.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceSecurity

extension KafkaConnection {
  func dispatch(_ frame: Bytes, _ request: PendingRequest) {
    if let proof, proof.isRaw { return takeRawMessage(frame, proof, request) }
    var reader = ByteReader(frame)
    do throws(DecodingError) {
      let header = try RequestHeader(from: &reader)
      guard admits(header.api) else { return }
      if header.apiKey == FiguresAPI.key { return answerFigures(header, request) }
      if header.apiKey == QueueAPI.key {
        if isFetching {
          postponed = (frame, request)
          return
        }
        return try measured(header) { () throws(DecodingError) in try answerQueues(header, reader, request) }
      }
      guard let api = header.api else { return refuse("unknown API \(header.apiKey)") }
      guard header.isSupported else {
        if api == .apiVersions {
          return reserve(request)(KafkaFrame.unsupportedApiVersions(correlationID: header.correlationID))
        }
        return refuse("\(api) version \(header.apiVersion) is not supported")
      }
      if api == .fetch || api == .shareFetch, isFetching {
        postponed = (frame, request)
        return
      }
      try measured(header) { () throws(DecodingError) in try handle(api, header, reader, request) }
    } catch {
      refuse("a request of \(frame.count) bytes cannot be read: \(error)")
    }
  }

  private func handle(
    _ api: APIKey, _ header: RequestHeader, _ reader: ByteReader, _ pending: PendingRequest
  ) throws(DecodingError) {
    switch api {
    case .produce: try handleProduce(header, reader, pending)
    case .fetch:
      try decode(FetchRequest.self, header, reader, pending) { handleFetch($0, beginFetch($1)) }
    case .listOffsets: try decode(ListOffsetsRequest.self, header, reader, pending, handleListOffsets)
    case .metadata: try decode(MetadataRequest.self, header, reader, pending, handleMetadata)
    case .offsetCommit: try decode(OffsetCommitRequest.self, header, reader, pending, handleOffsetCommit)
    case .offsetFetch: try decode(OffsetFetchRequest.self, header, reader, pending, handleOffsetFetch)
    case .findCoordinator: try decode(FindCoordinatorRequest.self, header, reader, pending, handleFindCoordinator)
    case .joinGroup: try decode(JoinGroupRequest.self, header, reader, pending, handleJoinGroup)
    case .heartbeat: try decode(HeartbeatRequest.self, header, reader, pending, handleHeartbeat)
    case .leaveGroup: try decode(LeaveGroupRequest.self, header, reader, pending, handleLeaveGroup)
    case .syncGroup: try decode(SyncGroupRequest.self, header, reader, pending, handleSyncGroup)
    case .describeGroups: try decode(DescribeGroupsRequest.self, header, reader, pending, handleDescribeGroups)
    case .listGroups: try decode(ListGroupsRequest.self, header, reader, pending, handleListGroups)
    case .saslHandshake: try decode(SaslHandshakeRequest.self, header, reader, pending, handleSaslHandshake)
    case .saslAuthenticate:
      try decode(SaslAuthenticateRequest.self, header, reader, pending, handleSaslAuthenticate)
    case .apiVersions: try decode(ApiVersionsRequest.self, header, reader, pending, handleApiVersions)
    case .createTopics: try decode(CreateTopicsRequest.self, header, reader, pending, handleCreateTopics)
    case .deleteTopics: try decode(DeleteTopicsRequest.self, header, reader, pending, handleDeleteTopics)
    case .initProducerId: try decode(InitProducerIdRequest.self, header, reader, pending, handleInitProducerID)
    case .offsetForLeaderEpoch:
      try decode(OffsetForLeaderEpochRequest.self, header, reader, pending, handleOffsetForLeaderEpoch)
    case .describeAcls: try decode(DescribeAclsRequest.self, header, reader, pending, handleDescribeAcls)
    case .createAcls: try decode(CreateAclsRequest.self, header, reader, pending, handleCreateAcls)
    case .deleteAcls: try decode(DeleteAclsRequest.self, header, reader, pending, handleDeleteAcls)
    case .describeConfigs: try decode(DescribeConfigsRequest.self, header, reader, pending, handleDescribeConfigs)
    case .consumerGroupHeartbeat:
      try decode(ConsumerGroupHeartbeatRequest.self, header, reader, pending, handleConsumerGroupHeartbeat)
    case .consumerGroupDescribe:
      try decode(ConsumerGroupDescribeRequest.self, header, reader, pending, handleConsumerGroupDescribe)
    case .addPartitionsToTxn:
      try decode(AddPartitionsToTxnRequest.self, header, reader, pending, handleAddPartitionsToTxn)
    case .addOffsetsToTxn: try decode(AddOffsetsToTxnRequest.self, header, reader, pending, handleAddOffsetsToTxn)
    case .endTxn: try decode(EndTxnRequest.self, header, reader, pending, handleEndTxn)
    case .txnOffsetCommit: try decode(TxnOffsetCommitRequest.self, header, reader, pending, handleTxnOffsetCommit)
    case .writeTxnMarkers: try decode(WriteTxnMarkersRequest.self, header, reader, pending, handleWriteTxnMarkers)
    case .describeProducers:
      try decode(DescribeProducersRequest.self, header, reader, pending, handleDescribeProducers)
    case .describeTransactions:
      try decode(DescribeTransactionsRequest.self, header, reader, pending, handleDescribeTransactions)
    case .listTransactions: try decode(ListTransactionsRequest.self, header, reader, pending, handleListTransactions)
    case .deleteRecords: try decode(DeleteRecordsRequest.self, header, reader, pending, handleDeleteRecords)
    case .alterConfigs: try decode(AlterConfigsRequest.self, header, reader, pending, handleAlterConfigs)
    case .describeLogDirs: try decode(DescribeLogDirsRequest.self, header, reader, pending, handleDescribeLogDirs)
    case .createPartitions: try decode(CreatePartitionsRequest.self, header, reader, pending, handleCreatePartitions)
    case .deleteGroups: try decode(DeleteGroupsRequest.self, header, reader, pending, handleDeleteGroups)
    case .electLeaders: try decode(ElectLeadersRequest.self, header, reader, pending, handleElectLeaders)
    case .incrementalAlterConfigs:
      try decode(IncrementalAlterConfigsRequest.self, header, reader, pending, handleIncrementalAlterConfigs)
    case .alterPartitionReassignments:
      try decode(AlterPartitionReassignmentsRequest.self, header, reader, pending, handleAlterPartitionReassignments)
    case .listPartitionReassignments:
      try decode(ListPartitionReassignmentsRequest.self, header, reader, pending, handleListPartitionReassignments)
    case .offsetDelete: try decode(OffsetDeleteRequest.self, header, reader, pending, handleOffsetDelete)
    case .describeClientQuotas:
      try decode(DescribeClientQuotasRequest.self, header, reader, pending, handleDescribeClientQuotas)
    case .alterClientQuotas: try decode(AlterClientQuotasRequest.self, header, reader, pending, handleAlterClientQuotas)
    case .describeCluster: try decode(DescribeClusterRequest.self, header, reader, pending, handleDescribeCluster)
    case .listConfigResources:
      try decode(ListConfigResourcesRequest.self, header, reader, pending, handleListConfigResources)
    case .describeTopicPartitions:
      try decode(DescribeTopicPartitionsRequest.self, header, reader, pending, handleDescribeTopicPartitions)
    case .describeUserScramCredentials:
      try decode(DescribeUserScramCredentialsRequest.self, header, reader, pending, handleDescribeUserScramCredentials)
    case .alterUserScramCredentials:
      try decode(AlterUserScramCredentialsRequest.self, header, reader, pending, handleAlterUserScramCredentials)
    case .shareGroupHeartbeat:
      try decode(ShareGroupHeartbeatRequest.self, header, reader, pending, handleShareGroupHeartbeat)
    case .shareGroupDescribe:
      try decode(ShareGroupDescribeRequest.self, header, reader, pending, handleShareGroupDescribe)
    case .shareFetch:
      try decode(ShareFetchRequest.self, header, reader, pending) { handleShareFetch($0, beginFetch($1)) }
    case .shareAcknowledge:
      try decode(ShareAcknowledgeRequest.self, header, reader, pending, handleShareAcknowledge)
    case .describeShareGroupOffsets:
      try decode(DescribeShareGroupOffsetsRequest.self, header, reader, pending, handleDescribeShareGroupOffsets)
    case .alterShareGroupOffsets:
      try decode(AlterShareGroupOffsetsRequest.self, header, reader, pending, handleAlterShareGroupOffsets)
    case .deleteShareGroupOffsets:
      try decode(DeleteShareGroupOffsetsRequest.self, header, reader, pending, handleDeleteShareGroupOffsets)
    }
  }

  private func decode<Request: KafkaRequest>(
    _ type: Request.Type, _ header: RequestHeader, _ reader: ByteReader, _ pending: PendingRequest,
    _ handler: (Request, RequestContext<Request.Response>) -> Void
  ) throws(DecodingError) {
    var reader = reader
    let request = try Request(from: &reader, version: header.apiVersion)
    handler(request, RequestContext(header: header, connection: self, send: reserve(pending)))
  }

  /// One fetch at a time: answers may be large, and no client asks for the next one before it has this one.
  private func beginFetch<Response>(_ context: RequestContext<Response>) -> RequestContext<Response> {
    isFetching = true
    return RequestContext<Response>(header: context.header, connection: self) { [self] pieces in
      isFetching = false
      fetchWait = nil
      shareFetch = nil
      context.send(pieces)
      goOn()
    }
  }

  func goOn() {
    guard let (frame, request) = postponed, mutedUntil == nil, !isOver else { return }
    postponed = nil
    dispatch(frame, request)
    throttle()
    closeWhenDone()
  }

  /// A produce request with acks 0 gets no answer, so it takes no place in the order either.
  private func handleProduce(
    _ header: RequestHeader, _ reader: ByteReader, _ pending: PendingRequest
  ) throws(DecodingError) {
    var reader = reader
    let request = try ProduceRequest(from: &reader, version: header.apiVersion)
    let send = request.acks == 0 ? reserveSilently(pending) : reserve(pending)
    handleProduce(request, RequestContext(header: header, connection: self, send: send))
  }

  private func answerFigures(_ header: RequestHeader, _ request: PendingRequest) {
    let answer: FiguresAPI.Answer =
      client.allowsCluster(.describe)
      ? .figures(server.figures()) : .refused(denial(.describe, .cluster, ResourceName.cluster).reason)
    reserve(request)(FiguresAPI.response(answer, correlationID: header.correlationID))
  }
}
