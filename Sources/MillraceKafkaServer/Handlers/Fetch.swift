// Fetch: record batches to consumers, now or when enough have come.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel

extension KafkaConnection {
  func handleFetch(_ request: FetchRequest, _ context: RequestContext<FetchResponse>) {
    let session: FetchSession?
    var isIncremental = false
    var wishes: [FetchSessionPartition]
    switch server.sessions.begin(
      request, version: context.version, connection: number, now: broker.reactor.now)
    {
    case .refused(let code): return context.answer(FetchResponse(errorCode: code))
    case .incremental(let found):
      session = found
      isIncremental = true
      wishes = found.partitions
    case .full(let made):
      session = made
      wishes = made?.partitions ?? FetchSession.all(of: request)
    }
    let denied = deniedTopics(wishes, context.version)
    let isAnyDenied = !denied.isEmpty
    let rights = client.version
    let targets = wishes.map { wish in
      FetchTarget(
        partition: isAnyDenied && denied.contains(wish.key.topic) ? nil : partition(wish.key, context.version),
        offset: wish.wish.fetchOffset,
        limit: Int(max(0, wish.wish.partitionMaxBytes)), currentLeaderEpoch: wish.wish.currentLeaderEpoch,
        lastFetchedEpoch: wish.wish.lastFetchedEpoch, isCommittedOnly: request.isolationLevel == 1)
    }
    let most = min(Int(max(0, request.maxBytes)), broker.settings.largestFetch, fetchAllowance(context))
    var granted = 0
    fetchWait = broker.fetch(
      targets, minimum: Int(request.minBytes),
      limit: { [server] in
        granted = min(most, server.budget.share)
        server.budget.change(by: granted)
        return granted
      },
      wait: wait(request), isRotating: session != nil
    ) { [self] results in
      server.budget.change(by: -granted)
      // A right may be gone since: who waits for records is told so like who comes now.
      let denied = client.version == rights ? denied : deniedTopics(wishes, context.version)
      var told: [FetchSessionPartition] = []
      var answers: [FetchResponse.PartitionData] = []
      var hadData: Set<FetchKey> = []
      for index in wishes.indices {
        var answer = self.answer(wishes[index], results[index], context.version)
        if !denied.isEmpty, denied.contains(wishes[index].key.topic) {
          answer = FetchResponse.PartitionData(partitionIndex: answer.partitionIndex)
          answer.errorCode = .topicAuthorizationFailed
        }
        if request.isolationLevel == 1 { answer.abortedTransactions = KafkaConnection.aborted(results[index]) }
        let isNews =
          !answer.records.isEmpty || answer.errorCode != .none || answer.divergingEpoch.epoch >= 0
          || answer.highWatermark != wishes[index].highWatermark
          || answer.logStartOffset != wishes[index].startOffset
        if !answer.records.isEmpty { hadData.insert(wishes[index].key) }
        // Clients learn nothing else from an error, so all of it is news again once the error is over.
        wishes[index].highWatermark = answer.errorCode == .none ? answer.highWatermark : -1
        wishes[index].startOffset = answer.errorCode == .none ? answer.logStartOffset : -1
        if isNews || !isIncremental {
          told.append(wishes[index])
          answers.append(answer)
        }
      }
      charge(.consumerBytes, results.reduce(0) { $0 + $1.size }, context)
      session?.tell(told)
      session?.rotate(hadData)
      context.answer(FetchConnectionResponse.build(session: session, told, answers))
    }
  }

  /// How long a fetch may wait for records: as long as it says, but nobody holds a place for weeks, and not for a client that
  /// sends no more, which may be gone. An answer without records before its time is a right one: clients ask again.
  private func wait(_ request: FetchRequest) -> Duration {
    if isPeerFinished { return .zero }
    return min(.milliseconds(Int(max(0, request.maxWaitMilliseconds))), KafkaConnection.longestFetchWait)
  }

  /// Kafka has no such limit; its consumers ask for 500 ms, and none for more than its request timeout of 30 s.
  static let longestFetchWait = Duration.seconds(300)

  /// The topics of a fetch that the client may not read. That an id stands for no topic may be known to all.
  private func deniedTopics(_ wishes: [FetchSessionPartition], _ version: Int16) -> Set<FetchKey.Topic> {
    var denied: Set<FetchKey.Topic> = []
    if client.isUnrestricted { return denied }
    var judged: FetchKey.Topic?
    for wish in wishes where wish.key.topic != judged {
      let topic = wish.key.topic
      judged = topic
      let name = version >= 13 ? broker.topic(topic.id)?.name : topic.name
      if let name, !client.allows(.read, .topic, name) { denied.insert(topic) }
    }
    return denied
  }

  private func partition(_ key: FetchKey, _ version: Int16) -> PartitionLog? {
    guard let topic = version >= 13 ? broker.topic(key.id) : broker.topic(key.name) else { return nil }
    return broker.partition(topic, key.partition)
  }

  /// In the order in which they began, as clients take them.
  private static func aborted(_ result: FetchedPartition) -> [FetchResponse.AbortedTransaction] {
    result.aborted.sorted { $0.firstOffset < $1.firstOffset }.map {
      .init(producerID: $0.producerID, firstOffset: $0.firstOffset)
    }
  }

  private func answer(
    _ wish: FetchSessionPartition, _ result: FetchedPartition, _ version: Int16
  ) -> FetchResponse.PartitionData {
    var answer = FetchResponse.PartitionData(partitionIndex: wish.key.partition)
    answer.highWatermark = result.highWatermark
    answer.lastStableOffset = result.lastStableOffset
    answer.logStartOffset = result.startOffset
    answer.abortedTransactions = nil
    answer.records = result.batches
    if let error = result.error {
      answer.errorCode = KafkaErrorCode(error)
      if error.code == .unknownTopicOrPartition, version >= 13, broker.topic(wish.key.id) == nil {
        answer.errorCode = .unknownTopicID
      }
      if error.code == .storage {
        server.complain(
          "fetch failed", error, topic: wish.key.name, partition: wish.key.partition, connection: number)
      }
    }
    if let diverging = result.diverging {
      answer.divergingEpoch = .init(epoch: diverging.epoch, endOffset: diverging.endOffset)
    }
    return answer
  }
}

/// Builds fetch answers.
private enum FetchConnectionResponse {
  /// Groups partitions by topic, keeping their order.
  static func build(
    session: FetchSession?, _ partitions: [FetchSessionPartition], _ answers: [FetchResponse.PartitionData]
  ) -> FetchResponse {
    var response = FetchResponse(sessionID: session?.id ?? 0)
    for (partition, answer) in zip(partitions, answers) {
      let last = response.responses.indices.last
      if let last, response.responses[last].topic == partition.key.name,
        response.responses[last].topicID == partition.key.id
      {
        response.responses[last].partitions.append(answer)
      } else {
        response.responses.append(
          .init(topic: partition.key.name, topicID: partition.key.id, partitions: [answer]))
      }
    }
    return response
  }
}

extension FetchSession {
  /// The partitions of a request that begins no session.
  static func all(of request: FetchRequest) -> [FetchSessionPartition] {
    request.topics.flatMap { topic in
      topic.partitions.map { wish in
        FetchSessionPartition(
          key: FetchKey(name: topic.topic, id: topic.topicID, partition: wish.partition), wish: wish)
      }
    }
  }

  /// Remembers what the client is told.
  func tell(_ told: [FetchSessionPartition]) {
    guard !told.isEmpty else { return }
    var news: [FetchKey: FetchSessionPartition] = [:]
    for partition in told { news[partition.key] = partition }
    for index in partitions.indices {
      guard let new = news[partitions[index].key] else { continue }
      partitions[index].highWatermark = new.highWatermark
      partitions[index].startOffset = new.startOffset
    }
  }
}
