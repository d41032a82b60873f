// KafkaConnection: one client: frames in, requests to their handlers, answers out in the order of the requests.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceKafkaProtocol

/// One client's connection. Answers leave in the order of the requests, whenever they are ready.
final class KafkaConnection: ConnectionHandler {
  /// The place of one answer in the order of answers.
  private final class Slot {
    let requestSize: Int
    var answer: [Bytes]?
    init(requestSize: Int) { self.requestSize = requestSize }
  }

  let server: KafkaServer
  let connection: any Connection
  let number: UInt64
  private var slots = Deque<Slot>()
  private var waitingRequestBytes = 0
  /// Produce requests that get no answer and are not done.
  private var silentRequests = 0
  /// Bytes of answers that wait for earlier ones.
  private var heldAnswerBytes = 0
  /// Bytes that the server's budget of answers counts for this connection.
  private var countedBytes = 0
  /// Bytes that the server's budget of requests counts for this connection.
  private var countedRequestBytes = 0
  /// Bytes received of a request that is not complete; few count as none.
  private(set) var unfinishedBytes = 0
  /// When that request began to count.
  private(set) var unfinishedSince = MonotonicTime(nanoseconds: 0)
  /// Listed by the server, because the budget of requests is spent.
  var isStarved = false
  private var isFetching = false
  /// The fetch under way, while it waits for records.
  var fetchWait: FetchWait?
  /// A fetch that came while another one was under way, which may take 50 MB each: it waits, and nothing is read.
  private var postponed: Bytes?
  private var isReading = true
  /// Closed, or to be closed: nothing more is taken from it.
  private(set) var isOver = false
  /// Until when the client has to wait because of its quotas; nothing is read meanwhile.
  private(set) var mutedUntil: MonotonicTime?
  private var unmuteTimer: Timer?
  /// Whose request is in progress, and the thread's time up to which it has been charged; nil when nobody is charged.
  var requestTime: (clientID: String, since: Duration)?
  /// What is unsent will be counted again at the end of the turn.
  private var isRecounting = false
  /// Requests that may wait for their answers, and their bytes: beyond that the client has to wait.
  private static let mostWaitingRequests = 1000
  private static let mostWaitingBytes = 16 << 20
  /// The same while the journal is full: what one connection may hold then, besides the request it is reading.
  private static let mostWaitingBytesWhenCongested = 256 << 10
  /// Unsent bytes that are too few to be counted again.
  private static let fewUnsentBytes = 4 << 10

  init(server: KafkaServer, connection: any Connection, number: UInt64) {
    self.server = server
    self.connection = connection
    self.number = number
  }

  var broker: Broker { server.broker }

  /// Whether an answer has to say how long its client must wait, or may have to.
  fileprivate var isThrottling: Bool { mutedUntil != nil || requestTime != nil }

  // MARK: ConnectionHandler

  func connectionReceived(_ input: inout InputBuffer) {
    takeRequests(&input)
    let unfinished = input.count < RequestBudget.always || isOver ? 0 : input.count
    guard unfinished != unfinishedBytes else { return }
    if unfinishedBytes == 0 || unfinished < unfinishedBytes { unfinishedSince = broker.reactor.now }
    unfinishedBytes = unfinished
    throttle()
  }

  private func takeRequests(_ input: inout InputBuffer) {
    while !isOver, isReading, let size = input.peekInt32() {
      guard size >= 8, size <= broker.settings.largestRequest else {
        return refuse("a request of \(size) bytes; 8 to \(broker.settings.largestRequest) are allowed")
      }
      guard input.count >= Int(size) + 4 else { return input.expect(Int(size) + 4) }
      _ = input.take(4)
      dispatch(input.take(Int(size)))
      throttle()
    }
  }

  func connectionDrained() { throttle() }

  func connectionClosed(_ error: IOError?) {
    isOver = true
    postponed = nil
    slots = Deque()
    // A client that is gone wants no records, and may have asked to wait for a month.
    if let fetchWait { broker.cancel(fetchWait) }
    fetchWait = nil
    unmuteTimer?.cancel()
    unmuteTimer = nil
    server.budget.change(by: -countedBytes)
    countedBytes = 0
    server.requestsChanged(by: -countedRequestBytes)
    countedRequestBytes = 0
    unfinishedBytes = 0
    if let error {
      server.logger.log(.debug, "kafka", "connection lost", ["connection": "\(number)", "error": error.description])
    }
    server.closed(self)
  }

  /// Closes once everything that is answered has been sent.
  func finish() {
    isOver = true
    connection.closeAfterWriting()
  }

  /// Closes because of what the client sent.
  /// - Parameter key: what makes refusals equal that may come with every request; nil for all others together.
  func refuse(_ reason: String, key: String? = nil) {
    guard !isOver else { return }
    isOver = true
    server.logger.logRarely(
      .warning, "kafka", "connection closed", reason,
      ["peer": connection.remoteAddress.description, "connection": "\(number)"], key: key, now: broker.reactor.now)
    connection.closeAfterWriting()
  }

  // MARK: Requests

  private func dispatch(_ frame: Bytes) {
    var reader = ByteReader(frame)
    do throws(DecodingError) {
      let header = try RequestHeader(from: &reader)
      if header.apiKey == FiguresAPI.key { return answerFigures(header) }
      guard let api = header.api else { return refuse("unknown API \(header.apiKey)") }
      guard header.isSupported else {
        if api == .apiVersions {
          return reserve(frame.count)(KafkaFrame.unsupportedApiVersions(correlationID: header.correlationID))
        }
        return refuse("\(api) version \(header.apiVersion) is not supported")
      }
      if api == .fetch, isFetching {
        postponed = frame
        return
      }
      try measured(header) { () throws(DecodingError) in try handle(api, header, reader, frame.count) }
    } catch {
      refuse("a request of \(frame.count) bytes cannot be read: \(error)")
    }
  }

  private func handle(
    _ api: APIKey, _ header: RequestHeader, _ reader: ByteReader, _ size: Int
  ) throws(DecodingError) {
    switch api {
    case .produce: try handleProduce(header, reader, size)
    case .fetch: try decode(FetchRequest.self, header, reader, size, beginFetch)
    case .listOffsets: try decode(ListOffsetsRequest.self, header, reader, size, handleListOffsets)
    case .metadata: try decode(MetadataRequest.self, header, reader, size, handleMetadata)
    case .offsetCommit: try decode(OffsetCommitRequest.self, header, reader, size, handleOffsetCommit)
    case .offsetFetch: try decode(OffsetFetchRequest.self, header, reader, size, handleOffsetFetch)
    case .findCoordinator: try decode(FindCoordinatorRequest.self, header, reader, size, handleFindCoordinator)
    case .joinGroup: try decode(JoinGroupRequest.self, header, reader, size, handleJoinGroup)
    case .heartbeat: try decode(HeartbeatRequest.self, header, reader, size, handleHeartbeat)
    case .leaveGroup: try decode(LeaveGroupRequest.self, header, reader, size, handleLeaveGroup)
    case .syncGroup: try decode(SyncGroupRequest.self, header, reader, size, handleSyncGroup)
    case .describeGroups: try decode(DescribeGroupsRequest.self, header, reader, size, handleDescribeGroups)
    case .listGroups: try decode(ListGroupsRequest.self, header, reader, size, handleListGroups)
    case .apiVersions: try decode(ApiVersionsRequest.self, header, reader, size, handleApiVersions)
    case .createTopics: try decode(CreateTopicsRequest.self, header, reader, size, handleCreateTopics)
    case .deleteTopics: try decode(DeleteTopicsRequest.self, header, reader, size, handleDeleteTopics)
    case .initProducerId: try decode(InitProducerIdRequest.self, header, reader, size, handleInitProducerID)
    case .offsetForLeaderEpoch:
      try decode(OffsetForLeaderEpochRequest.self, header, reader, size, handleOffsetForLeaderEpoch)
    case .describeConfigs: try decode(DescribeConfigsRequest.self, header, reader, size, handleDescribeConfigs)
    case .consumerGroupHeartbeat:
      try decode(ConsumerGroupHeartbeatRequest.self, header, reader, size, handleConsumerGroupHeartbeat)
    case .consumerGroupDescribe:
      try decode(ConsumerGroupDescribeRequest.self, header, reader, size, handleConsumerGroupDescribe)
    case .addPartitionsToTxn:
      try decode(AddPartitionsToTxnRequest.self, header, reader, size, handleAddPartitionsToTxn)
    case .addOffsetsToTxn: try decode(AddOffsetsToTxnRequest.self, header, reader, size, handleAddOffsetsToTxn)
    case .endTxn: try decode(EndTxnRequest.self, header, reader, size, handleEndTxn)
    case .txnOffsetCommit: try decode(TxnOffsetCommitRequest.self, header, reader, size, handleTxnOffsetCommit)
    case .writeTxnMarkers: try decode(WriteTxnMarkersRequest.self, header, reader, size, handleWriteTxnMarkers)
    case .describeProducers:
      try decode(DescribeProducersRequest.self, header, reader, size, handleDescribeProducers)
    case .describeTransactions:
      try decode(DescribeTransactionsRequest.self, header, reader, size, handleDescribeTransactions)
    case .listTransactions: try decode(ListTransactionsRequest.self, header, reader, size, handleListTransactions)
    case .deleteRecords: try decode(DeleteRecordsRequest.self, header, reader, size, handleDeleteRecords)
    case .alterConfigs: try decode(AlterConfigsRequest.self, header, reader, size, handleAlterConfigs)
    case .describeLogDirs: try decode(DescribeLogDirsRequest.self, header, reader, size, handleDescribeLogDirs)
    case .createPartitions: try decode(CreatePartitionsRequest.self, header, reader, size, handleCreatePartitions)
    case .deleteGroups: try decode(DeleteGroupsRequest.self, header, reader, size, handleDeleteGroups)
    case .electLeaders: try decode(ElectLeadersRequest.self, header, reader, size, handleElectLeaders)
    case .incrementalAlterConfigs:
      try decode(IncrementalAlterConfigsRequest.self, header, reader, size, handleIncrementalAlterConfigs)
    case .alterPartitionReassignments:
      try decode(AlterPartitionReassignmentsRequest.self, header, reader, size, handleAlterPartitionReassignments)
    case .listPartitionReassignments:
      try decode(ListPartitionReassignmentsRequest.self, header, reader, size, handleListPartitionReassignments)
    case .offsetDelete: try decode(OffsetDeleteRequest.self, header, reader, size, handleOffsetDelete)
    case .describeClientQuotas:
      try decode(DescribeClientQuotasRequest.self, header, reader, size, handleDescribeClientQuotas)
    case .alterClientQuotas: try decode(AlterClientQuotasRequest.self, header, reader, size, handleAlterClientQuotas)
    case .describeCluster: try decode(DescribeClusterRequest.self, header, reader, size, handleDescribeCluster)
    case .listConfigResources:
      try decode(ListConfigResourcesRequest.self, header, reader, size, handleListConfigResources)
    case .describeTopicPartitions:
      try decode(DescribeTopicPartitionsRequest.self, header, reader, size, handleDescribeTopicPartitions)
    }
  }

  private func decode<Request: KafkaRequest>(
    _ type: Request.Type, _ header: RequestHeader, _ reader: ByteReader, _ size: Int,
    _ handler: (Request, RequestContext<Request.Response>) -> Void
  ) throws(DecodingError) {
    var reader = reader
    let request = try Request(from: &reader, version: header.apiVersion)
    handler(request, RequestContext(header: header, connection: self, send: reserve(size)))
  }

  /// One fetch at a time: answers may be large, and no client asks for the next one before it has this one.
  private func beginFetch(_ request: FetchRequest, _ context: RequestContext<FetchResponse>) {
    isFetching = true
    let finished = RequestContext<FetchResponse>(header: context.header, connection: self) { [self] pieces in
      isFetching = false
      fetchWait = nil
      context.send(pieces)
      goOn()
    }
    handleFetch(request, finished)
  }

  private func goOn() {
    guard let frame = postponed, mutedUntil == nil, !isOver else { return }
    postponed = nil
    dispatch(frame)
    throttle()
  }

  /// A produce request with acks 0 gets no answer, so it takes no place in the order either.
  private func handleProduce(_ header: RequestHeader, _ reader: ByteReader, _ size: Int) throws(DecodingError) {
    var reader = reader
    let request = try ProduceRequest(from: &reader, version: header.apiVersion)
    let send = request.acks == 0 ? reserveSilently(size) : reserve(size)
    handleProduce(request, RequestContext(header: header, connection: self, send: send))
  }

  private func answerFigures(_ header: RequestHeader) {
    reserve(0)(FiguresAPI.response(server.figures(), correlationID: header.correlationID))
  }

  // MARK: Answers

  /// Takes the next place in the order of answers; the result fills it, once.
  ///
  /// Whoever answers holds the connection until then, as its request context does anyway. A weak reference would make
  /// every retain of the connection slower, for good.
  private func reserve(_ size: Int) -> ([Bytes]) -> Void {
    let slot = Slot(requestSize: size)
    slots.append(slot)
    waitingRequestBytes += size
    return { [self] pieces in
      precondition(slot.answer == nil, "a request was answered twice")
      slot.answer = pieces
      answered(pieces)
    }
  }

  /// Counts a request that gets no answer; the result says that it is done, once.
  private func reserveSilently(_ size: Int) -> ([Bytes]) -> Void {
    silentRequests += 1
    waitingRequestBytes += size
    return { [self] _ in
      silentRequests -= 1
      waitingRequestBytes -= size
      throttle()
    }
  }

  private func answered(_ pieces: [Bytes]) {
    heldAnswerBytes += KafkaConnection.size(pieces)
    sendReady()
  }

  private static func size(_ pieces: [Bytes]) -> Int { pieces.reduce(0) { $0 + $1.count } }

  private func sendReady() {
    guard !isOver else { return }
    while let slot = slots.first, let answer = slot.answer {
      slots.removeFirst()
      waitingRequestBytes -= slot.requestSize
      heldAnswerBytes -= KafkaConnection.size(answer)
      connection.write(answer)
    }
    throttle()
  }

  /// Reads nothing more from the client for a time; what it had to wait already counts.
  func mute(for time: Duration) {
    guard time > .zero, !isOver else { return }
    let end = broker.reactor.now + time
    if let mutedUntil, mutedUntil >= end { return }
    mutedUntil = end
    unmuteTimer?.cancel()
    unmuteTimer = broker.reactor.schedule(after: time) { [self] in
      mutedUntil = nil
      unmuteTimer = nil
      goOn()
      throttle()
    }
    throttle()
  }

  /// Reads on, or no further for now.
  func throttle() {
    guard !isOver else { return }
    let unsent = connection.pendingWriteBytes + heldAnswerBytes
    server.budget.change(by: unsent - countedBytes)
    countedBytes = unsent
    let requests = waitingRequestBytes + unfinishedBytes
    if requests != countedRequestBytes {
      let change = requests - countedRequestBytes
      countedRequestBytes = requests
      server.requestsChanged(by: change)
    }
    let isStarving = server.requestBudget.isSpent && requests >= RequestBudget.always
    if isStarving { server.starve(self) }
    let mostBytes =
      broker.isCongested ? KafkaConnection.mostWaitingBytesWhenCongested : KafkaConnection.mostWaitingBytes
    let isFull =
      isStarving || mutedUntil != nil || postponed != nil
      || slots.count + silentRequests >= KafkaConnection.mostWaitingRequests
      || waitingRequestBytes >= mostBytes || unsent >= server.budget.unsentLimit
    if isFull == isReading {
      isReading = !isFull
      connection.setReading(isReading)
    }
    if unsent >= KafkaConnection.fewUnsentBytes { recountAtEndOfTurn() }
  }

  /// A connection collects output and sends it later in the turn, without a word unless the system had no room.
  private func recountAtEndOfTurn() {
    guard !isRecounting else { return }
    isRecounting = true
    broker.reactor.atEndOfTurn { [self] in
      isRecounting = false
      // What did not leave by now waits for room, and connectionDrained follows.
      let unsent = connection.pendingWriteBytes + heldAnswerBytes
      if unsent != countedBytes { throttle() }
    }
  }
}

/// What a handler needs besides the request itself.
struct RequestContext<Response: KafkaResponse> {
  let header: RequestHeader
  let connection: KafkaConnection
  fileprivate let send: ([Bytes]) -> Void

  /// Version of the request, and so of the answer.
  var version: Int16 { header.apiVersion }

  /// Says that a request that gets no answer is done.
  func finishSilently() { send([]) }

  /// Sends the answer.
  func answer(_ response: Response) {
    if connection.isThrottling {
      var told = response
      connection.tellThrottle(&told)
      return send(KafkaFrame.response(told, version: header.apiVersion, correlationID: header.correlationID))
    }
    send(KafkaFrame.response(response, version: header.apiVersion, correlationID: header.correlationID))
  }
}
