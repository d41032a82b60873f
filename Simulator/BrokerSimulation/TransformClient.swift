// TransformClient: reads a topic, writes an output for each record, and commits its offsets with them: exactly once.
//
// Two of them may share one transactional id and all of the input, and put each other out; or each has an id and
// partitions of its own.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation

/// A consumer and producer in one.
final class TransformClient: SimulatedClient {
  static let group = "transform"
  static let output = "transformed"
  static let outputs = 2
  /// Stands in the names of outputs, with the index of the input partition added; the number is the input's offset.
  static let producer = 4000

  private let id: String
  private let inputs: [TopicPartition]
  private let all: [TopicPartition]
  /// Once nothing should fail any more, this one gives way to another one with its id.
  private let yields: Bool
  private var positions: [TopicPartition: Offset] = [:]
  private var producerID: Int64 = -1
  private var producerEpoch: Int16 = -1
  private var sequences: [Int32: Int32] = [:]
  /// Counts beginnings and ends, so that late answers are known as such.
  private var turn = 0
  private let usesVersion2: Bool

  init(_ scenario: BrokerScenario, id: String, inputs: [TopicPartition], all: [TopicPartition], yields: Bool) {
    self.yields = yields
    self.id = id
    self.inputs = inputs
    self.all = all
    usesVersion2 = scenario.random.oneIn(2)
    super.init(scenario)
  }

  override func connected() {
    turn += 1
    let mine = turn
    let request = InitProducerIdRequest(
      transactionalID: id, transactionTimeoutMilliseconds: random.oneIn(4) ? 300 : 60_000)
    channel?.send(request, version: 4) { [self] response in
      guard mine == turn else { return }
      guard response.errorCode == .none else { return refused(response.errorCode, "beginning") }
      producerID = response.producerID
      producerEpoch = response.producerEpoch
      sequences = [:]
      askOffsets()
    }
  }

  override func disconnected() { turn += 1 }

  private func askOffsets() {
    let mine = turn
    var request = OffsetFetchRequest(
      groupID: TransformClient.group,
      topics: inputs.map { .init(name: $0.topic, partitionIndexes: [$0.partition]) })
    request.requireStable = true
    let since = inputs.map { scenario.transform.acknowledgedEnd($0) }
    channel?.send(request, version: 7) { [self] response in
      guard mine == turn else { return }
      guard response.errorCode == .none, response.topics.count == inputs.count else { return reconnect() }
      for (index, topic) in response.topics.enumerated() {
        guard let answer = topic.partitions.first else { return reconnect() }
        if answer.errorCode == .unstableOffsetCommit { return soon(20) { [self] in askOffsets() } }
        scenario.note(
          scenario.transform.told(inputs[index], answer.committedOffset, since: since[index]), .transformations)
        positions[inputs[index]] = max(0, answer.committedOffset)
      }
      scenario.count("transformers begun")
      read()
    }
  }

  // MARK: Read

  private func read() {
    let partition = inputs[Int.random(in: inputs.indices, using: &random)]
    let from = positions[partition] ?? 0
    let wish = FetchRequest.FetchPartition(
      partition: partition.partition, fetchOffset: from, partitionMaxBytes: Int32.random(in: 1...8000, using: &random))
    let request = FetchRequest(
      maxWaitMilliseconds: 5, minBytes: 1, maxBytes: 10_000, isolationLevel: 1, sessionEpoch: -1,
      topics: [.init(topic: partition.topic, partitions: [wish])])
    let mine = turn
    channel?.send(request, version: 11) { [self] response in
      guard mine == turn else { return }
      guard let answer = response.responses.first?.partitions.first, answer.errorCode == .none else {
        let code = response.responses.first?.partitions.first?.errorCode ?? response.errorCode
        if code == .kafkaStorageError, scenario.mayFailReads { return reconnect() }
        return refused(code, "reading")
      }
      do throws(RecordProblem) {
        let found = try TestRecord.names(answer.records, in: partition).map(\.offset).filter { $0 >= from }
        if let first = found.first, first != from {
          scenario.ledger.violate("\(partition): offset \(first) comes where \(from) is next", .stableReads)
        }
        guard !found.isEmpty else { return soon(30) { [self] in read() } }
        transform(partition, found)
      } catch {
        scenario.ledger.violate(error.text, .stableReads)
      }
    }
  }

  // MARK: Write

  private func transform(_ input: TopicPartition, _ offsets: [Offset]) {
    var parts: [Int32: [Offset]] = [:]
    for offset in offsets { parts[Int32(offset / 3) % Int32(TransformClient.outputs), default: []].append(offset) }
    let left = parts.keys.sorted()
    guard !usesVersion2 else { return write(input, parts, left[...], end: offsets[offsets.count - 1] + 1) }
    var request = AddPartitionsToTxnRequest()
    request.v3AndBelowTransactionalID = id
    request.v3AndBelowProducerID = producerID
    request.v3AndBelowProducerEpoch = producerEpoch
    request.v3AndBelowTopics = [.init(name: TransformClient.output, partitions: left)]
    let mine = turn
    channel?.send(request, version: 3) { [self] response in
      guard mine == turn else { return }
      let codes = response.resultsByTopicV3AndBelow.flatMap { $0.resultsByPartition.map(\.partitionErrorCode) }
      if let code = codes.first(where: { $0 != .none }) { return refused(code, "adding partitions") }
      write(input, parts, left[...], end: offsets[offsets.count - 1] + 1)
    }
  }

  private func write(
    _ input: TopicPartition, _ parts: [Int32: [Offset]], _ left: ArraySlice<Int32>, end: Offset
  ) {
    guard let index = left.first else { return addGroup(input, end) }
    let output = TopicPartition(TransformClient.output, index)
    let producer = TransformClient.producer + (all.firstIndex(of: input) ?? 0)
    var builder = RecordBatchBuilder()
    for offset in parts[index] ?? [] {
      let name = RecordName(producer: producer, number: Int(offset))
      builder.append(Record(value: TestRecord.value(name, output, size: 30), timestamp: world.wallClock))
    }
    let sequence = sequences[index, default: 0]
    sequences[index] = sequence + builder.count
    let bytes = builder.finish(
      producerID: producerID, producerEpoch: producerEpoch, baseSequence: sequence, isTransactional: true,
      compress: { $0 })
    var request = ProduceRequest(acks: -1, timeoutMilliseconds: 30_000)
    request.transactionalID = id
    request.topicData = [.init(name: output.topic, partitionData: [.init(index: index, records: bytes)])]
    let mine = turn
    channel?.send(request, version: usesVersion2 ? 12 : 8) { [self] response in
      guard mine == turn else { return }
      let code = response.responses.first?.partitionResponses.first?.errorCode ?? .unknownServerError
      guard code == .none else { return refused(code, "producing") }
      write(input, parts, left.dropFirst(), end: end)
    }
  }

  // MARK: Commit

  private func addGroup(_ input: TopicPartition, _ end: Offset) {
    guard !usesVersion2 else { return sendOffsets(input, end) }
    let request = AddOffsetsToTxnRequest(
      transactionalID: id, producerID: producerID, producerEpoch: producerEpoch, groupID: TransformClient.group)
    let mine = turn
    channel?.send(request, version: 3) { [self] response in
      guard mine == turn else { return }
      guard response.errorCode == .none else { return refused(response.errorCode, "adding the group") }
      sendOffsets(input, end)
    }
  }

  private func sendOffsets(_ input: TopicPartition, _ end: Offset) {
    var request = TxnOffsetCommitRequest()
    request.transactionalID = id
    request.groupID = TransformClient.group
    request.producerID = producerID
    request.producerEpoch = producerEpoch
    request.topics = [
      .init(name: input.topic, partitions: [.init(partitionIndex: input.partition, committedOffset: end)])
    ]
    let mine = turn
    channel?.send(request, version: usesVersion2 ? 5 : 3) { [self] response in
      guard mine == turn else { return }
      let code = response.topics.first?.partitions.first?.errorCode ?? .unknownServerError
      guard code == .none else { return refused(code, "sending offsets") }
      soon(random.oneIn(10) ? 500 : 3) { [self] in finish(input, end) }
    }
  }

  private func finish(_ input: TopicPartition, _ end: Offset) {
    let commits = !random.oneIn(5)
    if commits { scenario.transform.asking(input, end) }
    let request = EndTxnRequest(
      transactionalID: id, producerID: producerID, producerEpoch: producerEpoch, committed: commits)
    let mine = turn
    channel?.send(request, version: usesVersion2 ? 5 : 3) { [self] response in
      guard mine == turn else { return }
      guard response.errorCode == .none else { return refused(response.errorCode, "ending") }
      if usesVersion2 {
        if response.producerID != producerID || response.producerEpoch != producerEpoch { sequences = [:] }
        producerID = response.producerID
        producerEpoch = response.producerEpoch
      }
      if commits {
        scenario.transform.committed(input, end)
        positions[input] = end
      }
      soon(10) { [self] in read() }
    }
  }

  private func refused(_ code: KafkaErrorCode, _ what: String) {
    switch code {
    case .invalidProducerEpoch, .producerFenced, .invalidProducerIDMapping, .invalidTxnState, .transactionAbortable:
      scenario.count("transformers put out")
      if scenario.isCalm, yields { return stop() }
      reconnect()
    case .kafkaStorageError, .notLeaderOrFollower, .coordinatorNotAvailable, .notCoordinator, .concurrentTransactions,
      .coordinatorLoadInProgress:
      reconnect()
    default: scenario.ledger.violate("transformer \(id): \(what) failed: \(code)")
    }
  }
}
