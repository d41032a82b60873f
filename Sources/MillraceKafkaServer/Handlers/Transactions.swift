// Transactions: what transactional producers send: ids, partitions, offsets, and the end.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel
import MillraceSecurity

extension KafkaErrorCode {
  /// The code for a call of a transactional producer.
  ///
  /// A coordinator that stops or has no room asks its producers to come again. Clients that do not know PRODUCER_FENCED
  /// are told INVALID_PRODUCER_EPOCH. Source: KIP-588.
  init(transaction error: BrokerError, knowsFenced: Bool) {
    self =
      switch error.code {
      case .stopped, .storage: .coordinatorNotAvailable
      case .producerFenced: knowsFenced ? .producerFenced : .invalidProducerEpoch
      default: KafkaErrorCode(error)
      }
  }
}

extension KafkaConnection {
  // MARK: InitProducerId

  func handleInitProducerID(_ request: InitProducerIdRequest, _ context: RequestContext<InitProducerIdResponse>) {
    guard let id = request.transactionalID else {
      // Who may write anything may have an id for it. Source: KIP-679.
      guard
        client.sees(.idempotentWrite, .cluster, ResourceName.cluster) || client.allowsSome(.write, .topic)
          || client.allowsCluster(.idempotentWrite)
      else {
        return context.answer(InitProducerIdResponse(errorCode: .clusterAuthorizationFailed, producerEpoch: -1))
      }
      // Without a transactional id the id is always a new one, also for a producer that has one. Source: KIP-360.
      return broker.newProducerID { result in
        switch result {
        case .success(let id): context.answer(InitProducerIdResponse(producerID: id, producerEpoch: 0))
        case .failure(let error):
          context.answer(InitProducerIdResponse(errorCode: KafkaErrorCode(group: error), producerEpoch: -1))
        }
      }
    }
    guard client.allows(.write, .transactionalID, id) else {
      return context.answer(
        InitProducerIdResponse(errorCode: .transactionalIDAuthorizationFailed, producerEpoch: -1))
    }
    guard (request.producerID < 0) == (request.producerEpoch < 0) else {
      return context.answer(InitProducerIdResponse(errorCode: .invalidRequest, producerEpoch: -1))
    }
    broker.transactions.initialise(
      id, timeoutMilliseconds: request.transactionTimeoutMilliseconds,
      expected: request.producerID < 0 ? nil : ProducerIdentity(request.producerID, request.producerEpoch)
    ) { [self] result in
      switch result {
      case .success(let producer):
        context.answer(InitProducerIdResponse(producerID: producer.id, producerEpoch: producer.epoch))
      case .failure(let error):
        refused(id, error)
        context.answer(
          InitProducerIdResponse(
            errorCode: KafkaErrorCode(transaction: error, knowsFenced: context.version >= 4), producerEpoch: -1))
      }
    }
  }

  private func refused(_ id: String, _ error: BrokerError) {
    server.logger.logRarely(
      error.code == .storage ? .error : .info, "kafka", "transaction call refused", "",
      ["transactional.id": id, "connection": "\(number)", "error": error.description])
  }

  // MARK: Partitions

  private typealias TopicResults = [AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult]

  func handleAddPartitionsToTxn(
    _ request: AddPartitionsToTxnRequest, _ context: RequestContext<AddPartitionsToTxnResponse>
  ) {
    guard context.version >= 4 else {
      return addCheckedPartitions(
        request.v3AndBelowTopics, request.v3AndBelowTransactionalID,
        ProducerIdentity(request.v3AndBelowProducerID, request.v3AndBelowProducerEpoch),
        knowsFenced: context.version >= 2
      ) { topics in
        context.answer(AddPartitionsToTxnResponse(resultsByTopicV3AndBelow: topics))
      }
    }
    // Only brokers have these versions. Source: KIP-890.
    guard client.allowsCluster(.clusterAction) else {
      return context.answer(AddPartitionsToTxnResponse(errorCode: .clusterAuthorizationFailed))
    }
    let gathering = Gathering<AddPartitionsToTxnResponse.AddPartitionsToTxnResult>(request.transactions.count) {
      context.answer(AddPartitionsToTxnResponse(resultsByTransaction: $0))
    }
    for (index, one) in request.transactions.enumerated() {
      let producer = ProducerIdentity(one.producerID, one.producerEpoch)
      let put = { (topics: TopicResults) in
        gathering.put(index, .init(transactionalID: one.transactionalID, topicResults: topics))
      }
      if one.verifyOnly {
        put(verify(one.topics, one.transactionalID, producer))
      } else {
        addPartitions(one.topics, one.transactionalID, producer, knowsFenced: true, put)
      }
    }
  }

  private func addCheckedPartitions(
    _ topics: [AddPartitionsToTxnRequest.AddPartitionsToTxnTopic], _ id: String, _ producer: ProducerIdentity,
    knowsFenced: Bool, _ answer: @escaping (TopicResults) -> Void
  ) {
    guard client.allows(.write, .transactionalID, id) else {
      return answer(results(topics) { _ in .transactionalIDAuthorizationFailed })
    }
    let denied = Set(topics.map(\.name).filter { !client.allows(.write, .topic, $0) })
    guard denied.isEmpty else {
      return answer(
        results(topics) { denied.contains($0.topic) ? .topicAuthorizationFailed : .operationNotAttempted })
    }
    addPartitions(topics, id, producer, knowsFenced: knowsFenced, answer)
  }

  private func addPartitions(
    _ topics: [AddPartitionsToTxnRequest.AddPartitionsToTxnTopic], _ id: String, _ producer: ProducerIdentity,
    knowsFenced: Bool, _ answer: @escaping (TopicResults) -> Void
  ) {
    var problems: [TopicPartition: KafkaErrorCode] = [:]
    var partitions: [TopicPartition] = []
    for topic in topics {
      let found = broker.topic(topic.name)
      for number in topic.partitions {
        let partition = TopicPartition(topic.name, number)
        partitions.append(partition)
        if found?.isInternal == true {
          problems[partition] = .invalidTopic
        } else if found.flatMap({ broker.partition($0, number) }) == nil {
          problems[partition] = .unknownTopicOrPartition
        }
      }
    }
    guard problems.isEmpty else {
      return answer(results(topics) { problems[$0] ?? .operationNotAttempted })
    }
    broker.transactions.add(partitions, to: id, producer) { [self] error in
      if let error { refused(id, error) }
      let code = error.map { KafkaErrorCode(transaction: $0, knowsFenced: knowsFenced) } ?? .none
      answer(results(topics) { _ in code })
    }
  }

  private func verify(
    _ topics: [AddPartitionsToTxnRequest.AddPartitionsToTxnTopic], _ id: String, _ producer: ProducerIdentity
  ) -> TopicResults {
    results(topics) { partition in
      do throws(BrokerError) {
        try broker.transactions.verify(partition, of: id, producer)
        return .none
      } catch {
        // Source: KIP-890. The producer has to abort before it goes on.
        return error.code == .invalidTransactionState
          ? .transactionAbortable : KafkaErrorCode(transaction: error, knowsFenced: true)
      }
    }
  }

  private func results(
    _ topics: [AddPartitionsToTxnRequest.AddPartitionsToTxnTopic], _ code: (TopicPartition) -> KafkaErrorCode
  ) -> TopicResults {
    topics.map { topic in
      .init(
        name: topic.name,
        resultsByPartition: topic.partitions.map { number in
          .init(partitionIndex: number, partitionErrorCode: code(TopicPartition(topic.name, number)))
        })
    }
  }

  // MARK: Offsets

  func handleAddOffsetsToTxn(
    _ request: AddOffsetsToTxnRequest, _ context: RequestContext<AddOffsetsToTxnResponse>
  ) {
    do throws(BrokerError) {
      try require(.write, .transactionalID, request.transactionalID)
      try require(.read, .group, request.groupID)
    } catch {
      return context.answer(AddOffsetsToTxnResponse(errorCode: KafkaErrorCode(error)))
    }
    broker.transactions.add(
      group: request.groupID, to: request.transactionalID,
      ProducerIdentity(request.producerID, request.producerEpoch)
    ) { [self] error in
      if let error { refused(request.transactionalID, error) }
      context.answer(
        AddOffsetsToTxnResponse(
          errorCode: error.map { KafkaErrorCode(transaction: $0, knowsFenced: context.version >= 2) } ?? .none))
    }
  }

  func handleTxnOffsetCommit(
    _ request: TxnOffsetCommitRequest, _ context: RequestContext<TxnOffsetCommitResponse>
  ) {
    do throws(BrokerError) {
      try require(.write, .transactionalID, request.transactionalID)
      try require(.read, .group, request.groupID)
    } catch {
      let code = KafkaErrorCode(error)
      return context.answer(
        TxnOffsetCommitResponse(
          topics: request.topics.map { topic in
            .init(
              name: topic.name,
              partitions: topic.partitions.map { .init(partitionIndex: $0.partitionIndex, errorCode: code) })
          }))
    }
    var offsets: [PartitionOffset] = []
    var problems: [TopicPartition: KafkaErrorCode] = [:]
    for topic in request.topics {
      let isAllowed = client.allows(.read, .topic, topic.name)
      let found = broker.topic(topic.name)
      for wish in topic.partitions {
        let partition = TopicPartition(topic.name, wish.partitionIndex)
        if !isAllowed {
          problems[partition] = .topicAuthorizationFailed
        } else if found.flatMap({ broker.partition($0, wish.partitionIndex) }) == nil {
          problems[partition] = .unknownTopicOrPartition
        } else if wish.committedMetadata?.utf8.count ?? 0 > broker.settings.largestOffsetMetadata {
          problems[partition] = .offsetMetadataTooLarge
        } else {
          offsets.append(
            PartitionOffset(
              partition: partition,
              committed: CommittedOffset(
                offset: wish.committedOffset, leaderEpoch: wish.committedLeaderEpoch,
                metadata: wish.committedMetadata, time: broker.reactor.wallClock)))
        }
      }
    }
    broker.transactions.commit(
      offsets, of: request.groupID, memberID: request.memberID, instanceID: request.groupInstanceID,
      generation: request.generationID, in: request.transactionalID,
      ProducerIdentity(request.producerID, request.producerEpoch), isImplicit: context.version >= 5
    ) { [self] error in
      if let error { refused(request.transactionalID, error) }
      // Clients know this one code here. Source: Kafka, `TransactionManager.TxnOffsetCommitHandler`.
      let code = error.map { KafkaErrorCode(transaction: $0, knowsFenced: false) } ?? .none
      context.answer(
        TxnOffsetCommitResponse(
          topics: request.topics.map { topic in
            .init(
              name: topic.name,
              partitions: topic.partitions.map { wish in
                .init(
                  partitionIndex: wish.partitionIndex,
                  errorCode: problems[TopicPartition(topic.name, wish.partitionIndex)] ?? code)
              })
          }))
    }
  }

  // MARK: The end

  /// From version 5 on the producer goes on with a new epoch. Source: KIP-890.
  func handleEndTxn(_ request: EndTxnRequest, _ context: RequestContext<EndTxnResponse>) {
    guard client.allows(.write, .transactionalID, request.transactionalID) else {
      return context.answer(EndTxnResponse(errorCode: .transactionalIDAuthorizationFailed))
    }
    broker.transactions.end(
      request.transactionalID, ProducerIdentity(request.producerID, request.producerEpoch),
      isCommit: request.committed, bumps: context.version >= 5
    ) { [self] result in
      switch result {
      case .success(let producer):
        context.answer(EndTxnResponse(producerID: producer.id, producerEpoch: producer.epoch))
      case .failure(let error):
        refused(request.transactionalID, error)
        context.answer(
          EndTxnResponse(errorCode: KafkaErrorCode(transaction: error, knowsFenced: context.version >= 2)))
      }
    }
  }
}
