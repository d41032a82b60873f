// Throttling: clients that use more than their quota are told how long to wait, and are not read from meanwhile.
//
// An answer always comes at once and never is an error: it says `throttle_time_ms`, and the connection is read no further
// until that time is over, whether the client keeps to it or not. Answers that leave meanwhile say what is left of it.
// Source: KIP-219.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol

/// A response that can say how long its client has to wait.
protocol ThrottledResponse {
  var throttleTimeMilliseconds: Int32 { get set }
}

extension ProduceResponse: ThrottledResponse {}
extension FetchResponse: ThrottledResponse {}
extension ListOffsetsResponse: ThrottledResponse {}
extension MetadataResponse: ThrottledResponse {}
extension OffsetCommitResponse: ThrottledResponse {}
extension OffsetFetchResponse: ThrottledResponse {}
extension FindCoordinatorResponse: ThrottledResponse {}
extension JoinGroupResponse: ThrottledResponse {}
extension HeartbeatResponse: ThrottledResponse {}
extension LeaveGroupResponse: ThrottledResponse {}
extension SyncGroupResponse: ThrottledResponse {}
extension DescribeGroupsResponse: ThrottledResponse {}
extension ListGroupsResponse: ThrottledResponse {}
extension ApiVersionsResponse: ThrottledResponse {}
extension CreateTopicsResponse: ThrottledResponse {}
extension DeleteTopicsResponse: ThrottledResponse {}
extension InitProducerIdResponse: ThrottledResponse {}
extension OffsetForLeaderEpochResponse: ThrottledResponse {}
extension DescribeConfigsResponse: ThrottledResponse {}
extension DeleteRecordsResponse: ThrottledResponse {}
extension AlterConfigsResponse: ThrottledResponse {}
extension DescribeLogDirsResponse: ThrottledResponse {}
extension CreatePartitionsResponse: ThrottledResponse {}
extension DeleteGroupsResponse: ThrottledResponse {}
extension ElectLeadersResponse: ThrottledResponse {}
extension ShareGroupHeartbeatResponse: ThrottledResponse {}
extension ShareGroupDescribeResponse: ThrottledResponse {}
extension ShareFetchResponse: ThrottledResponse {}
extension ShareAcknowledgeResponse: ThrottledResponse {}
extension DescribeShareGroupOffsetsResponse: ThrottledResponse {}
extension AlterShareGroupOffsetsResponse: ThrottledResponse {}
extension DeleteShareGroupOffsetsResponse: ThrottledResponse {}
extension IncrementalAlterConfigsResponse: ThrottledResponse {}
extension AlterPartitionReassignmentsResponse: ThrottledResponse {}
extension ListPartitionReassignmentsResponse: ThrottledResponse {}
extension OffsetDeleteResponse: ThrottledResponse {}
extension DescribeClientQuotasResponse: ThrottledResponse {}
extension AlterClientQuotasResponse: ThrottledResponse {}
extension DescribeClusterResponse: ThrottledResponse {}
extension ListConfigResourcesResponse: ThrottledResponse {}
extension DescribeTopicPartitionsResponse: ThrottledResponse {}
extension DescribeAclsResponse: ThrottledResponse {}
extension CreateAclsResponse: ThrottledResponse {}
extension DeleteAclsResponse: ThrottledResponse {}
extension DescribeUserScramCredentialsResponse: ThrottledResponse {}
extension AlterUserScramCredentialsResponse: ThrottledResponse {}
extension AddPartitionsToTxnResponse: ThrottledResponse {}
extension AddOffsetsToTxnResponse: ThrottledResponse {}
extension EndTxnResponse: ThrottledResponse {}
extension TxnOffsetCommitResponse: ThrottledResponse {}
extension DescribeProducersResponse: ThrottledResponse {}
extension DescribeTransactionsResponse: ThrottledResponse {}
extension ListTransactionsResponse: ThrottledResponse {}

extension KafkaConnection {
  /// Counts what a request uses of its client's quota; beyond it the connection waits.
  func charge<Response>(
    _ limit: ClientQuotas.Limit, _ amount: @autoclosure () -> Int, _ context: RequestContext<Response>
  ) {
    guard broker.quotas.isLimiting(limit) else { return }
    charge(limit, Double(amount()), clientID: context.header.clientID ?? "")
  }

  private func charge(_ limit: ClientQuotas.Limit, _ amount: Double, clientID: String) {
    mute(
      for: broker.quotas.charge(
        limit, user: client.principal.name, clientID: clientID, amount, now: broker.reactor.now))
  }

  /// Most bytes that a fetch should get, so that one alone does not use more than a second's worth.
  func fetchAllowance<Response>(_ context: RequestContext<Response>) -> Int {
    guard broker.quotas.isLimiting(.consumerBytes),
      let value = broker.quotas.value(
        .consumerBytes, user: client.principal.name, clientID: context.header.clientID ?? "")
    else { return .max }
    return max(1, Int(min(value, 1e9)))
  }

  /// Runs the synchronous part of a request and charges the time it took.
  func measured(_ header: RequestHeader, _ body: () throws(DecodingError) -> Void) throws(DecodingError) {
    guard broker.quotas.isLimiting(.requestTime) else { return try body() }
    requestTime = (header.clientID ?? "", server.processorTime())
    try body()
    chargeRequestTime()
    requestTime = nil
  }

  /// Charges what the request in progress has taken since this was called last.
  private func chargeRequestTime() {
    guard let (clientID, since) = requestTime else { return }
    let now = server.processorTime()
    requestTime = (clientID, now)
    charge(.requestTime, max(0, Double((now - since).inNanoseconds) / 1e9), clientID: clientID)
  }

  /// Says in a response how long its client has to wait, when it has to.
  func tellThrottle<Response>(_ response: inout Response) {
    chargeRequestTime()
    guard let mutedUntil, mutedUntil > broker.reactor.now, var told = response as? any ThrottledResponse else { return }
    // Rounded up, so that a client that keeps to it does not come too early.
    let rest = (mutedUntil - broker.reactor.now).inNanoseconds
    told.throttleTimeMilliseconds = Int32(clamping: (rest + 999_999) / 1_000_000)
    if let back = told as? Response { response = back }
  }
}
