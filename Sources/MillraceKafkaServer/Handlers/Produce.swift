// Produce: record batches into partitions; the answer follows when they are durable.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel

extension KafkaConnection {
  private typealias PartitionAnswer = ProduceResponse.PartitionProduceResponse

  /// acks 1 and −1 mean the same: durable on this node. acks 0 gets no answer; then an error closes the connection,
  /// which is the only way to tell, and what Kafka's brokers do.
  func handleProduce(_ request: ProduceRequest, _ context: RequestContext<ProduceResponse>) {
    let isSilent = request.acks == 0
    hasProduced = true
    var parts: [(topic: Int, partition: ProduceRequest.PartitionProduceData)] = []
    for (index, topic) in request.topicData.enumerated() {
      for partition in topic.partitionData { parts.append((index, partition)) }
    }
    let problem = refusal(of: request)
    charge(.producerBytes, parts.reduce(0) { $0 + ($1.partition.records?.count ?? 0) }, context)
    // From version 12 on, writing adds the partition to the transaction. Source: KIP-890.
    let transaction = request.transactionalID.map { TransactionalWrite(id: $0, addsPartition: context.version >= 12) }
    let gathering = Gathering<PartitionAnswer>(parts.count) { [self] answers in
      if answers.contains(where: { $0.errorCode == .kafkaStorageError }) {
        if isSilent { server.requests.refused += 1 } else { refusedRequests += 1 }
      }
      if isSilent {
        if let failed = answers.first(where: { $0.errorCode != .none }) {
          refuse(
            "a produce request with acks=0 failed: \(failed.errorCode): \(failed.errorMessage ?? "")",
            key: "acks=0 \(failed.errorCode)")
        }
        return context.finishSilently()
      }
      var response = ProduceResponse()
      response.responses = request.topicData.map { .init(name: $0.name, topicID: $0.topicID) }
      for (part, answer) in zip(parts, answers) { response.responses[part.topic].partitionResponses.append(answer) }
      context.answer(response)
    }
    // Parts of a topic follow each other.
    var judged: (topic: Int, isAllowed: Bool) = (-1, true)
    for (index, part) in parts.enumerated() {
      let partition = part.partition.index
      if let problem {
        gathering.put(index, failed(partition, problem.0, problem.1))
        continue
      }
      let wish = request.topicData[part.topic]
      // From version 13 on by id.
      let topic = context.version >= 13 ? broker.topic(wish.topicID) : broker.topic(wish.name)
      if judged.topic != part.topic {
        let name = context.version >= 13 ? topic?.name : wish.name
        judged = (part.topic, name.map { client.allows(.write, .topic, $0) } ?? true)
      }
      guard judged.isAllowed else {
        let problem = denial(.write, .topic, topic?.name ?? wish.name)
        gathering.put(index, failed(partition, .topicAuthorizationFailed, problem.reason))
        continue
      }
      guard let topic, let log = broker.partition(topic, partition) else {
        let isUnknownID = context.version >= 13 && topic == nil
        gathering.put(
          index,
          failed(
            partition, isUnknownID ? .unknownTopicID : .unknownTopicOrPartition,
            isUnknownID ? "no topic has the id \(wish.topicID)" : "no such topic or partition"))
        continue
      }
      let records = part.partition.records ?? Bytes()
      if context.version < 7, isZstandard(records) {
        gathering.put(index, failed(partition, .unsupportedCompressionType, "zstd needs produce version 7 or later"))
        continue
      }
      broker.produce(topic, partition, records: records, transaction: transaction) { [self] result in
        switch result {
        case .success(let appended):
          gathering.put(
            index,
            PartitionAnswer(
              index: partition, baseOffset: appended.baseOffset, logStartOffset: log.startOffset))
        case .failure(let error):
          server.complain("produce refused", error, topic: topic.name, partition: partition, connection: number)
          gathering.put(index, failed(partition, KafkaErrorCode(error), error.reason))
        }
      }
    }
  }

  private func refusal(of request: ProduceRequest) -> (KafkaErrorCode, String)? {
    if request.acks < -1 || request.acks > 1 {
      return (.invalidRequiredAcks, "acks is \(request.acks); -1, 0 and 1 are valid")
    }
    if let id = request.transactionalID, !client.allows(.write, .transactionalID, id) {
      return (.transactionalIDAuthorizationFailed, denial(.write, .transactionalID, id).reason)
    }
    return nil
  }

  private func isZstandard(_ records: Bytes) -> Bool {
    records.count > 22 && records[16] == 2 && records[22] & 7 == CompressionCodec.zstd.rawValue
  }

  private func failed(_ partition: Int32, _ code: KafkaErrorCode, _ message: String) -> PartitionAnswer {
    PartitionAnswer(index: partition, errorCode: code, baseOffset: -1, errorMessage: message)
  }
}
