// KeyedClient: a producer that writes values and tombstones of a few keys, in transactions or not, and deletes records.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation

/// A producer of the cleaned topic: idempotent, one batch at a time.
final class KeyedClient: SimulatedClient {
  private struct Batch {
    let index: Int
    let records: [KeyedRecord]
    let bytes: Bytes
  }

  private let id: Int
  private let state: CleanupState
  /// Nil for a producer without transactions.
  private let transactionalID: String?
  private var batchesLeft: Int
  private var producerID: Int64 = -1
  private var producerEpoch: Int16 = -1
  private var sequences = [Int32](repeating: 0, count: CleanupPlan.partitions)
  private var numbers = [Int](repeating: 0, count: CleanupPlan.partitions)
  private var unanswered: Batch?
  private var open: Int?
  private var asksForCommit = false
  /// The broker has answered the beginning, and so ended what this id had left open before.
  private var isReady = false

  init(_ scenario: BrokerScenario, id: Int, state: CleanupState, batches: Int) {
    self.id = id
    self.state = state
    batchesLeft = batches
    transactionalID = scenario.random.oneIn(3) ? "keyed-\(id)" : nil
    super.init(scenario)
  }

  /// Whether everything was acknowledged.
  var isDone: Bool { batchesLeft == 0 && unanswered == nil && open == nil && isReady }

  override func connected() {
    giveUp()
    guard producerID < 0 || transactionalID != nil else {
      isReady = true
      return act()
    }
    let request = InitProducerIdRequest(
      transactionalID: transactionalID, transactionTimeoutMilliseconds: transactionalID == nil ? 0 : 60_000)
    channel?.send(request, version: 4) { [self] response in
      guard response.errorCode == .none else { return refused(response.errorCode, "beginning") }
      producerID = response.producerID
      producerEpoch = response.producerEpoch
      sequences = sequences.map { _ in 0 }
      isReady = true
      act()
    }
  }

  override func disconnected() { giveUp() }

  /// What was not answered of a transaction is not sent again: it is aborted when the producer begins anew.
  private func giveUp() {
    isReady = false
    guard transactionalID != nil else { return }
    unanswered = nil
    guard let transaction = open else { return }
    open = nil
    state.ended(transaction, asksForCommit ? .unknown : .aborted)
  }

  private func act() {
    guard channel != nil else { return }
    if let unanswered { return send(unanswered) }
    guard batchesLeft > 0 else { return }
    if state.plan.rules.deletes, random.oneIn(12) { deleteRecords() }
    if transactionalID != nil {
      let transaction = state.newTransaction()
      open = transaction
      asksForCommit = false
      return add(transaction)
    }
    batchesLeft -= 1
    send(newBatch())
  }

  private func newBatch() -> Batch {
    let index = Int.random(in: 0..<CleanupPlan.partitions, using: &random)
    var records: [KeyedRecord] = []
    var builder = RecordBatchBuilder()
    for _ in 0..<Int.random(in: 1...5, using: &random) {
      let record = KeyedRecord(
        key: Int.random(in: 0..<state.plan.keys, using: &random),
        name: RecordName(producer: id, number: numbers[index]), isTombstone: random.oneIn(5),
        timestamp: world.wallClock.milliseconds)
      numbers[index] += 1
      records.append(record)
      builder.append(
        TestRecord.keyed(record, CleanupState.partition(index), size: Int.random(in: 0...400, using: &random)))
    }
    let bytes = builder.finish(
      producerID: producerID, producerEpoch: producerEpoch, baseSequence: sequences[index],
      isTransactional: transactionalID != nil, compress: { $0 })
    sequences[index] += Int32(records.count)
    state.ledgers[index].sending(records, bytes: bytes.count, transaction: open)
    return Batch(index: index, records: records, bytes: bytes)
  }

  private func send(_ batch: Batch) {
    unanswered = batch
    var request = ProduceRequest(acks: -1, timeoutMilliseconds: 30_000)
    request.transactionalID = transactionalID
    request.topicData = [
      .init(name: CleanupPlan.topic, partitionData: [.init(index: Int32(batch.index), records: batch.bytes)])
    ]
    let mine = open
    channel?.send(request, version: 8) { [self] response in
      guard mine == open else { return }
      guard let answer = response.responses.first?.partitionResponses.first, answer.errorCode == .none else {
        return refused(
          response.responses.first?.partitionResponses.first?.errorCode ?? .unknownServerError, "producing")
      }
      unanswered = nil
      // A batch that was there already, and is gone since, has no offset to tell.
      if answer.baseOffset >= 0 {
        scenario.note(state.ledgers[batch.index].acknowledged(batch.records, at: answer.baseOffset), .cleanupShows)
      }
      scenario.count("keyed records acknowledged", batch.records.count)
      soon(6) { [self] in if open == nil { act() } else { goOn() } }
    }
  }

  // MARK: Transactions

  private func add(_ transaction: Int) {
    for index in state.ledgers.indices { state.ledgers[index].adding() }
    var request = AddPartitionsToTxnRequest()
    request.v3AndBelowTransactionalID = transactionalID ?? ""
    request.v3AndBelowProducerID = producerID
    request.v3AndBelowProducerEpoch = producerEpoch
    request.v3AndBelowTopics = [
      .init(name: CleanupPlan.topic, partitions: (0..<Int32(CleanupPlan.partitions)).map { $0 })
    ]
    channel?.send(request, version: 3) { [self] response in
      guard open == transaction else { return }
      let codes = response.resultsByTopicV3AndBelow.flatMap { $0.resultsByPartition.map(\.partitionErrorCode) }
      if let code = codes.first(where: { $0 != .none }) { return refused(code, "adding partitions") }
      goOn()
    }
  }

  private func goOn() {
    guard batchesLeft > 0, !random.oneIn(4) else { return soon(random.oneIn(8) ? 200 : 5) { [self] in end() } }
    batchesLeft -= 1
    send(newBatch())
  }

  private func end() {
    guard let transaction = open else { return }
    asksForCommit = !random.oneIn(3)
    let commits = asksForCommit
    let request = EndTxnRequest(
      transactionalID: transactionalID ?? "", producerID: producerID, producerEpoch: producerEpoch, committed: commits)
    channel?.send(request, version: 3) { [self] response in
      guard open == transaction else { return }
      guard response.errorCode == .none else { return refused(response.errorCode, "ending") }
      open = nil
      state.ended(transaction, commits ? .committed : .aborted)
      scenario.count("keyed transactions ended")
      act()
    }
  }

  private func refused(_ code: KafkaErrorCode, _ what: String) {
    switch code {
    case .kafkaStorageError, .notLeaderOrFollower, .coordinatorNotAvailable, .notCoordinator, .concurrentTransactions:
      reconnect()
    default: scenario.ledger.violate("keyed producer \(id): \(what) failed: \(code)")
    }
  }

  // MARK: DeleteRecords

  private func deleteRecords() {
    let index = Int.random(in: 0..<CleanupPlan.partitions, using: &random)
    let before = Offset.random(in: 0...Int64(numbers[index]), using: &random) / 2
    state.ledgers[index].deleting(below: before)
    let topic = DeleteRecordsRequest.DeleteRecordsTopic(
      name: CleanupPlan.topic, partitions: [.init(partitionIndex: Int32(index), offset: before)])
    channel?.send(DeleteRecordsRequest(topics: [topic], timeoutMilliseconds: 1000), version: 1) { [self] response in
      guard let answer = response.topics.first?.partitions.first else { return }
      switch answer.errorCode {
      case .none:
        scenario.count("records deleted by request")
        state.ledgers[index].deleted(below: before)
        if answer.lowWatermark < before {
          scenario.ledger.violate(
            "deleting below \(before) was answered with the start \(answer.lowWatermark)", .cleanupKeeps)
        }
      // Nothing was changed.
      case .offsetOutOfRange, .kafkaStorageError, .notLeaderOrFollower: break
      case let code: scenario.ledger.violate("deleting records failed: \(code)")
      }
    }
  }
}
