// TransactionTools: what tools ask about transactions and producers, and the one thing they may order: an abort.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel
import MillraceSecurity

extension KafkaConnection {
  func handleDescribeTransactions(
    _ request: DescribeTransactionsRequest, _ context: RequestContext<DescribeTransactionsResponse>
  ) {
    context.answer(
      DescribeTransactionsResponse(
        transactionStates: request.transactionalIDs.map { id in
          guard client.allows(.describe, .transactionalID, id) else {
            return .init(
              errorCode: .transactionalIDAuthorizationFailed, transactionalID: id, producerID: -1, producerEpoch: -1)
          }
          guard let one = broker.transactions.describe(id) else {
            return .init(
              errorCode: id.isEmpty ? .invalidRequest : .transactionalIDNotFound, transactionalID: id, producerID: -1,
              producerEpoch: -1)
          }
          var answer = DescribeTransactionsResponse.TransactionState(
            transactionalID: id, transactionState: one.state,
            transactionTimeoutMilliseconds: one.timeoutMilliseconds,
            transactionStartTimeMilliseconds: one.started?.milliseconds ?? -1, producerID: one.producer.id,
            producerEpoch: one.producer.epoch)
          for partition in one.partitions where client.sees(.describe, .topic, partition.topic) {
            if answer.topics.last?.topic != partition.topic { answer.topics.append(.init(topic: partition.topic)) }
            answer.topics[answer.topics.count - 1].partitions.append(partition.partition)
          }
          return answer
        }))
  }

  /// A filter that is empty, or a duration below 0, filters nothing.
  func handleListTransactions(
    _ request: ListTransactionsRequest, _ context: RequestContext<ListTransactionsResponse>
  ) {
    let known = TransactionCoordinator.stateNames
    var response = ListTransactionsResponse(
      unknownStateFilters: request.stateFilters.filter { !known.contains($0) })
    let states = Set(request.stateFilters)
    let producers = Set(request.producerIDFilters)
    let now = broker.reactor.wallClock.milliseconds
    var found: [TransactionDescription] = []
    do throws(BrokerError) {
      found = try broker.transactions.descriptions(matching: request.transactionalIDPattern ?? "")
    } catch {
      response.errorCode = KafkaErrorCode(error)
    }
    for one in found {
      guard client.sees(.describe, .transactionalID, one.id) else { continue }
      if !states.isEmpty, !states.contains(one.state) { continue }
      if !producers.isEmpty, !producers.contains(one.producer.id) { continue }
      if request.durationFilter >= 0 {
        guard let started = one.started, now - started.milliseconds > request.durationFilter else { continue }
      }
      response.transactionStates.append(
        .init(transactionalID: one.id, producerID: one.producer.id, transactionState: one.state))
    }
    context.answer(response)
  }

  func handleDescribeProducers(
    _ request: DescribeProducersRequest, _ context: RequestContext<DescribeProducersResponse>
  ) {
    context.answer(
      DescribeProducersResponse(
        topics: request.topics.map { topic in
          let isAllowed = client.allows(.read, .topic, topic.name)
          let found = broker.topic(topic.name)
          return .init(
            name: topic.name,
            partitions: topic.partitionIndexes.map { number in
              guard isAllowed else {
                return .init(
                  partitionIndex: number, errorCode: .topicAuthorizationFailed,
                  errorMessage: denial(.read, .topic, topic.name).reason)
              }
              guard let found, let log = broker.partition(found, number) else {
                return .init(
                  partitionIndex: number, errorCode: .unknownTopicOrPartition,
                  errorMessage: "topic \(topic.name) has no partition \(number)")
              }
              return .init(
                partitionIndex: number,
                activeProducers: log.activeProducers.map { one in
                  .init(
                    producerID: one.id, producerEpoch: Int32(one.epoch), lastSequence: one.lastSequence,
                    lastTimestamp: one.lastAppend.milliseconds, coordinatorEpoch: -1,
                    currentTxnStartOffset: one.transactionStart ?? -1)
                })
            })
        }))
  }

  /// What tools send to abort a transaction that hangs. All of the transaction is aborted, also in partitions that are not
  /// named: it has no parts that could end on their own. Committing by this way is refused.
  func handleWriteTxnMarkers(
    _ request: WriteTxnMarkersRequest, _ context: RequestContext<WriteTxnMarkersResponse>
  ) {
    var parts: [(marker: Int, topic: String, partition: Int32)] = []
    for (index, marker) in request.markers.enumerated() {
      for topic in marker.topics {
        for number in topic.partitionIndexes { parts.append((index, topic.name, number)) }
      }
    }
    let gathering = Gathering<KafkaErrorCode>(parts.count) { codes in
      var response = WriteTxnMarkersResponse(markers: request.markers.map { .init(producerID: $0.producerID) })
      for (part, code) in zip(parts, codes) {
        if response.markers[part.marker].topics.last?.name != part.topic {
          response.markers[part.marker].topics.append(.init(name: part.topic))
        }
        let last = response.markers[part.marker].topics.count - 1
        response.markers[part.marker].topics[last].partitions.append(
          .init(partitionIndex: part.partition, errorCode: code))
      }
      context.answer(response)
    }
    guard client.sees(.alter, .cluster, ResourceName.cluster) || client.allowsCluster(.clusterAction) else {
      for index in parts.indices { gathering.put(index, .clusterAuthorizationFailed) }
      return
    }
    // What one marker has aborted is aborted for all partitions that it names.
    var answered: [Int: Set<TopicPartition>] = [:]
    for (index, part) in parts.enumerated() {
      let marker = request.markers[part.marker]
      let partition = TopicPartition(part.topic, part.partition)
      guard broker.topic(part.topic).flatMap({ broker.partition($0, part.partition) }) != nil else {
        gathering.put(index, .unknownTopicOrPartition)
        continue
      }
      guard !marker.transactionResult else {
        gathering.put(index, .invalidRequest)
        continue
      }
      if answered[part.marker]?.contains(partition) == true {
        gathering.put(index, .none)
        continue
      }
      let producer = ProducerIdentity(marker.producerID, marker.producerEpoch)
      answered[part.marker, default: []].formUnion(broker.transactions.partitions(of: producer))
      broker.transactions.abort(producer, in: partition) { error in
        gathering.put(index, error.map { KafkaErrorCode($0) } ?? .none)
      }
    }
  }
}
