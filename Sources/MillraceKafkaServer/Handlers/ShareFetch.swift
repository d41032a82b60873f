// ShareFetch: ShareFetch and ShareAcknowledge, records to members of share groups and what these say of them (KIP-932).

import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceKafkaProtocol
import MillraceModel
import MillraceSecurity

/// What is said of records of one partition, in either request.
private struct Acknowledged {
  var key: TopicIDPartition
  var batches: [(first: Int64, last: Int64, types: [Int8])]

  /// - Throws: `.invalidRequest` for what cannot be meant.
  func settlements(allowsRenewal: Bool) throws(BrokerError) -> [ShareSettlement] {
    var found: [ShareSettlement] = []
    found.reserveCapacity(batches.count)
    for (first, last, types) in batches {
      guard first >= 0, last >= first, last < .max else {
        throw BrokerError(.invalidRequest, "records \(first) to \(last) are acknowledged")
      }
      var kinds: [ShareAcknowledgement] = []
      kinds.reserveCapacity(types.count)
      for type in types {
        guard let kind = ShareAcknowledgement(rawValue: type), kind != .renew || allowsRenewal else {
          throw BrokerError(.invalidRequest, "acknowledgement of type \(type)")
        }
        kinds.append(kind)
      }
      found.append(ShareSettlement(first..<last + 1, kinds))
    }
    return found
  }
}

extension KafkaConnection {
  func handleShareFetch(_ request: ShareFetchRequest, _ context: RequestContext<ShareFetchResponse>) {
    func refuse(_ code: KafkaErrorCode, _ reason: String) {
      context.answer(ShareFetchResponse(errorCode: code, errorMessage: reason))
    }
    let group = request.groupID ?? ""
    let member = request.memberID ?? ""
    if let problem = problem(group, member) { return refuse(.invalidRequest, problem) }
    guard client.allows(.read, .group, group) else {
      return refuse(.groupAuthorizationFailed, denial(.read, .group, group).reason)
    }
    let acknowledged = request.topics.flatMap { topic in
      topic.partitions.filter { !$0.acknowledgementBatches.isEmpty }.map { partition in
        Acknowledged(
          key: TopicIDPartition(topic.topicID, partition.partitionIndex),
          batches: partition.acknowledgementBatches.map { ($0.firstOffset, $0.lastOffset, $0.acknowledgeTypes) })
      }
    }
    let lock = broker.shares.lock(of: group)
    if request.isRenewAck {
      // Reading might take longer than the lock that is to last. Source: KIP-1222.
      guard request.maxWaitMilliseconds == 0, request.minBytes == 0, request.maxBytes == 0, request.maxRecords == 0
      else { return refuse(.invalidRequest, "a request that renews locks asks for records") }
    }
    let session: ShareSession
    var isFull = false
    var isClosed = false
    switch server.shareSessions.fetch(request, group: group, memberID: member, connection: number) {
    case .refused(let code, let reason): return refuse(code, reason)
    case .opened(let opened): (session, isFull) = (opened, true)
    case .continued(let continued): session = continued
    case .closed(let closed): (session, isClosed) = (closed, true)
    }
    var answers = PartitionAnswers<ShareFetchResponse.PartitionData>()
    let gathering = Gathering<Bool>(2) { [self] _ in
      let response = ShareFetchResponse(
        acquisitionLockTimeoutMilliseconds: Int32(clamping: lock.duration.inMilliseconds),
        responses: answers.byTopic.map { .init(topicID: $0, partitions: $1) })
      charge(
        .consumerBytes,
        answers.byTopic.reduce(0) { $0 + $1.1.reduce(0) { $0 + $1.records.reduce(0) { $0 + $1.count } } }, context)
      context.answer(response)
    }
    let fresh = { [self] (key: TopicIDPartition) in
      ShareFetchResponse.PartitionData(
        partitionIndex: key.partition,
        currentLeader: .init(leaderID: KafkaServer.nodeID, leaderEpoch: broker.leaderEpoch))
    }
    let denied = deniedTopics(session.partitions.map(\.topic) + acknowledged.map(\.key.topic))
    settle(acknowledged, member, group, denied, allowsRenewal: request.isRenewAck && lock.canRenew) {
      [self] results in
      for (key, error) in results {
        var answer = answers[key] ?? fresh(key)
        answer.acknowledgeErrorCode = error.map { code($0, key) } ?? .none
        answer.acknowledgeErrorMessage = error?.reason
        answers.put(key, answer)
      }
      gathering.put(0, true)
    }
    if isClosed {
      broker.shares.release(member, of: group, isDelivered: false)
      return gathering.put(1, true)
    }
    if isFull { for key in session.partitions { answers.put(key, fresh(key)) } }
    for key in session.partitions where denied.contains(key.topic) {
      var answer = answers[key] ?? fresh(key)
      answer.errorCode = .topicAuthorizationFailed
      answers.put(key, answer)
    }
    let most = min(Int(max(0, request.maxBytes)), broker.settings.largestFetch, fetchAllowance(context))
    let wish = ShareFetchWish(
      group: group, memberID: member,
      partitions: denied.isEmpty ? session.partitions : session.partitions.filter { !denied.contains($0.topic) },
      maxRecords: Int(max(0, request.maxRecords)),
      isWholeBatches: request.shareAcquireMode == 0, minimumBytes: Int(request.minBytes),
      wait: isPeerFinished || !denied.isEmpty
        ? .zero
        : min(.milliseconds(Int(max(0, request.maxWaitMilliseconds))), KafkaConnection.longestFetchWait))
    var granted = 0
    do throws(BrokerError) {
      shareFetch = try broker.shares.fetch(
        wish,
        limit: { [server] in
          let grant = min(most, server.budget.share)
          server.budget.change(by: grant - granted)
          granted = grant
          return grant
        }
      ) { [self] results in
        server.budget.change(by: -granted)
        granted = 0
        for result in results {
          var answer = answers[result.partition] ?? fresh(result.partition)
          answer.errorCode = result.error.map { code($0, result.partition) } ?? .none
          answer.errorMessage = result.error?.reason
          answer.records = result.batches
          answer.acquiredRecords = result.acquired.map {
            .init(
              firstOffset: $0.range.lowerBound, lastOffset: $0.range.upperBound - 1, deliveryCount: $0.deliveries)
          }
          answers.put(result.partition, answer)
        }
        session.rotate(Set(results.lazy.filter { !$0.acquired.isEmpty }.map(\.partition)))
        gathering.put(1, true)
      }
    } catch {
      refuse(KafkaErrorCode(group: error), error.reason)
    }
  }

  func handleShareAcknowledge(_ request: ShareAcknowledgeRequest, _ context: RequestContext<ShareAcknowledgeResponse>) {
    func refuse(_ code: KafkaErrorCode, _ reason: String) {
      context.answer(ShareAcknowledgeResponse(errorCode: code, errorMessage: reason))
    }
    let group = request.groupID ?? ""
    let member = request.memberID ?? ""
    if let problem = problem(group, member) { return refuse(.invalidRequest, problem) }
    guard client.allows(.read, .group, group) else {
      return refuse(.groupAuthorizationFailed, denial(.read, .group, group).reason)
    }
    let acknowledged = request.topics.flatMap { topic in
      topic.partitions.map { partition in
        Acknowledged(
          key: TopicIDPartition(topic.topicID, partition.partitionIndex),
          batches: partition.acknowledgementBatches.map { ($0.firstOffset, $0.lastOffset, $0.acknowledgeTypes) })
      }
    }
    let lock = broker.shares.lock(of: group)
    var isClosed = false
    switch server.shareSessions.acknowledge(
      epoch: request.shareSessionEpoch, group: group, memberID: member, connection: number)
    {
    case .refused(let code, let reason): return refuse(code, reason)
    case .opened, .continued: break
    case .closed: isClosed = true
    }
    let denied = deniedTopics(acknowledged.map(\.key.topic))
    settle(acknowledged, member, group, denied, allowsRenewal: request.isRenewAck && lock.canRenew) {
      [self] results in
      var answers = PartitionAnswers<ShareAcknowledgeResponse.PartitionData>()
      for (key, error) in results {
        answers.put(
          key,
          .init(
            partitionIndex: key.partition, errorCode: error.map { code($0, key) } ?? .none,
            errorMessage: error?.reason,
            currentLeader: .init(leaderID: KafkaServer.nodeID, leaderEpoch: broker.leaderEpoch)))
      }
      context.answer(
        ShareAcknowledgeResponse(
          acquisitionLockTimeoutMilliseconds: Int32(clamping: lock.duration.inMilliseconds),
          responses: answers.byTopic.map { .init(topicID: $0, partitions: $1) }))
    }
    if isClosed { broker.shares.release(member, of: group, isDelivered: false) }
  }

  /// Those of these topics that the client may not read.
  private func deniedTopics(_ topics: [TopicID]) -> Set<TopicID> {
    if client.isUnrestricted { return [] }
    return Set(topics).filter { id in broker.topic(id).map { !client.allows(.read, .topic, $0.name) } ?? false }
  }

  private func problem(_ group: String, _ member: String) -> String? {
    if group.isEmpty { return "the group id is empty" }
    if member.isEmpty { return "the member id is empty" }
    if member.utf8.count > ShareHeartbeat.longestMemberID {
      return "a member id of \(member.utf8.count) bytes; \(ShareHeartbeat.longestMemberID) are allowed"
    }
    return nil
  }

  private func code(_ error: BrokerError, _ key: TopicIDPartition) -> KafkaErrorCode {
    if error.code == .unknownTopicOrPartition, broker.topic(key.topic) == nil { return .unknownTopicID }
    return KafkaErrorCode(error)
  }

  /// Hands over what is said of records; `completion` follows when all of it is durable, or refused.
  private func settle(
    _ acknowledged: [Acknowledged], _ member: String, _ group: String, _ denied: Set<TopicID>, allowsRenewal: Bool,
    completion: @escaping ([(TopicIDPartition, BrokerError?)]) -> Void
  ) {
    let gathering = Gathering<(TopicIDPartition, BrokerError?)>(acknowledged.count, completion)
    for (index, one) in acknowledged.enumerated() {
      do throws(BrokerError) {
        if denied.contains(one.key.topic), let topic = broker.topic(one.key.topic) {
          throw denial(.read, .topic, topic.name)
        }
        let settlements = try one.settlements(allowsRenewal: allowsRenewal)
        broker.shares.settle(settlements, of: one.key, by: member, in: group) { gathering.put(index, (one.key, $0)) }
      } catch {
        gathering.put(index, (one.key, error))
      }
    }
  }
}

/// Answers of partitions, each topic's together, in the order of their coming.
private struct PartitionAnswers<Answer> {
  private var answers: [TopicIDPartition: Answer] = [:]
  private var order: [TopicIDPartition] = []

  subscript(key: TopicIDPartition) -> Answer? { answers[key] }

  mutating func put(_ key: TopicIDPartition, _ answer: Answer) {
    if answers.updateValue(answer, forKey: key) == nil { order.append(key) }
  }

  var byTopic: [(TopicID, [Answer])] {
    var topics: [TopicID: Int] = [:]
    var found: [(TopicID, [Answer])] = []
    for key in order {
      guard let answer = answers[key] else { continue }
      if let index = topics[key.topic] {
        found[index].1.append(answer)
      } else {
        topics[key.topic] = found.count
        found.append((key.topic, [answer]))
      }
    }
    return found
  }
}
