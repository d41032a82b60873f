// TransactionalClient: a producer that appends unique values to several lists in each transaction, and notes what it knows.
//
// Two of them may share one transactional id: each start fences the other, which goes on without knowing.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation
import TransactionHistory

/// What all transactional clients and readers of a run share: the lists, and the history they write.
final class TransactionLedger {
  static let topic = "lists"
  static let partitions = 3

  var history = TransactionHistory()
  private var time = 0
  private var nextNumber: [String: Int] = [:]
  private var nextValue = 0

  /// A moment later than all before.
  func tick() -> Int {
    time += 1
    return time
  }

  static var lists: [TopicPartition] { (0..<partitions).map { TopicPartition(topic, Int32($0)) } }
  static func list(_ partition: TopicPartition) -> String { "\(partition.partition)" }

  /// Begins a transaction.
  /// - Returns: its place in the history.
  func begin(_ process: String) -> Int {
    nextNumber[process, default: 0] += 1
    history.transactions.append(TransactionEntry(process: process, number: nextNumber[process, default: 0]))
    return history.transactions.count - 1
  }

  /// A value that nobody has appended yet, noted for a transaction.
  func newValue(_ transaction: Int, for partition: TopicPartition) -> Int {
    nextValue += 1
    history.transactions[transaction].appends.append(Append(TransactionLedger.list(partition), nextValue))
    return nextValue
  }
}

/// A transactional producer.
final class TransactionalClient: SimulatedClient {
  /// Stands in the names of records; the number is the value.
  static let producer = 2000

  private let id: String
  private let ledger: TransactionLedger
  private var transactionsLeft: Int
  private var producerID: Int64 = -1
  private var producerEpoch: Int16 = -1
  private var sequences: [TopicPartition: Int32] = [:]
  /// The transaction under way, by its place in the history.
  private var open: Int?
  /// The broker has answered the beginning, and so ended what this id had left open before.
  private var isReady = false
  /// Partitions are added by producing into them, and each end raises the epoch. Source: KIP-890.
  private let usesVersion2: Bool

  init(_ scenario: BrokerScenario, id: String, ledger: TransactionLedger, transactions: Int) {
    self.id = id
    self.ledger = ledger
    transactionsLeft = transactions
    usesVersion2 = scenario.random.oneIn(2) && APIKey.endTxn.supportedVersions.contains(5)
    super.init(scenario)
  }

  /// Whether all transactions have ended.
  var isDone: Bool { transactionsLeft == 0 && open == nil && isReady }

  // Every new connection begins anew, as a producer does that was restarted.
  override func connected() {
    giveUp()
    begin()
  }

  override func disconnected() { giveUp() }

  /// The transaction under way is over as far as this client is concerned.
  private func giveUp() {
    isReady = false
    guard let transaction = open else { return }
    open = nil
    if ledger.history.transactions[transaction].commitAsked == nil {
      ledger.history.transactions[transaction].outcome = .aborted
    }
  }

  private func begin() {
    let request = InitProducerIdRequest(
      transactionalID: id, transactionTimeoutMilliseconds: random.oneIn(3) ? 400 : 60_000)
    channel?.send(request, version: 4) { [self] response in
      guard response.errorCode == .none else { return recover(response.errorCode, "beginning") { [self] in begin() } }
      producerID = response.producerID
      producerEpoch = response.producerEpoch
      sequences = [:]
      isReady = true
      scenario.count("transactional producers begun")
      soon(10) { [self] in transact() }
    }
  }

  private func transact() {
    guard transactionsLeft > 0, channel != nil else { return }
    transactionsLeft -= 1
    let transaction = ledger.begin(id)
    open = transaction
    let count = Int.random(in: 1...TransactionLedger.partitions, using: &random)
    let chosen = Array(TransactionLedger.lists.shuffled(using: &random).prefix(count))
    if usesVersion2 { return append(transaction, chosen, batches: Int.random(in: 1...4, using: &random)) }
    add(transaction, chosen)
  }

  private func add(_ transaction: Int, _ chosen: [TopicPartition]) {
    let topic = AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(
      name: TransactionLedger.topic, partitions: chosen.map(\.partition))
    var request = AddPartitionsToTxnRequest()
    request.v3AndBelowTransactionalID = id
    request.v3AndBelowProducerID = producerID
    request.v3AndBelowProducerEpoch = producerEpoch
    request.v3AndBelowTopics = [topic]
    channel?.send(request, version: 3) { [self] response in
      guard open == transaction else { return }
      let codes = response.resultsByTopicV3AndBelow.flatMap { $0.resultsByPartition.map(\.partitionErrorCode) }
      if let code = codes.first(where: { $0 != .none }) {
        return recover(code, "adding partitions") { [self] in add(transaction, chosen) }
      }
      guard codes.count == chosen.count else {
        return scenario.ledger.violate("adding \(chosen.count) partitions was answered for \(codes.count)")
      }
      append(transaction, chosen, batches: Int.random(in: 1...4, using: &random))
    }
  }

  private func append(_ transaction: Int, _ chosen: [TopicPartition], batches: Int) {
    guard open == transaction else { return }
    guard batches > 0 else { return soon(random.oneIn(10) ? 500 : 10) { [self] in end(transaction) } }
    let partition = chosen[Int.random(in: chosen.indices, using: &random)]
    var builder = RecordBatchBuilder()
    let count = Int32.random(in: 1...3, using: &random)
    for _ in 0..<count {
      let value = ledger.newValue(transaction, for: partition)
      let name = RecordName(producer: TransactionalClient.producer, number: value)
      let size = Int.random(in: 0...600, using: &random)
      builder.append(Record(value: TestRecord.value(name, partition, size: size), timestamp: world.wallClock))
    }
    let sequence = sequences[partition, default: 0]
    sequences[partition] = sequence + count
    let bytes = builder.finish(
      producerID: producerID, producerEpoch: producerEpoch, baseSequence: sequence, isTransactional: true,
      compress: { $0 })
    var request = ProduceRequest(acks: -1, timeoutMilliseconds: 30_000)
    request.transactionalID = id
    request.topicData = [
      .init(name: partition.topic, partitionData: [.init(index: partition.partition, records: bytes)])
    ]
    channel?.send(request, version: usesVersion2 ? 12 : 8) { [self] response in
      guard open == transaction else { return }
      let code = response.responses.first?.partitionResponses.first?.errorCode
      guard code == KafkaErrorCode.none else {
        // What was not acknowledged must not be committed: a gap in the sequence would follow.
        return recover(code ?? .unknownServerError, "producing") { [self] in reconnect() }
      }
      append(transaction, chosen, batches: batches - 1)
    }
  }

  private func end(_ transaction: Int) {
    guard open == transaction else { return }
    let commits = !random.oneIn(4)
    if commits { ledger.history.transactions[transaction].commitAsked = ledger.tick() }
    finish(transaction, commits: commits)
  }

  private func finish(_ transaction: Int, commits: Bool) {
    guard open == transaction else { return }
    let request = EndTxnRequest(
      transactionalID: id, producerID: producerID, producerEpoch: producerEpoch, committed: commits)
    channel?.send(request, version: usesVersion2 ? 5 : 3) { [self] response in
      guard open == transaction else { return }
      switch response.errorCode {
      case .none:
        open = nil
        ledger.history.transactions[transaction].outcome = commits ? .committed : .aborted
        scenario.count(commits ? "transactions committed" : "transactions aborted")
        if usesVersion2 {
          if response.producerID != producerID || response.producerEpoch != producerEpoch { sequences = [:] }
          producerID = response.producerID
          producerEpoch = response.producerEpoch
        }
        soon(15) { [self] in transact() }
      case .invalidProducerEpoch, .producerFenced, .invalidProducerIDMapping, .invalidTxnState:
        // Its one request to end was refused.
        ledger.history.transactions[transaction].outcome = .aborted
        recover(response.errorCode, "ending") {}
      case let code: recover(code, "ending") { [self] in finish(transaction, commits: commits) }
      }
    }
  }

  /// What a producer does about a refusal; `again` for those that pass.
  private func recover(_ code: KafkaErrorCode, _ what: String, _ again: @escaping () -> Void) {
    switch code {
    case .concurrentTransactions:
      soon(8, again)
    case .invalidProducerEpoch, .producerFenced, .invalidProducerIDMapping, .invalidTxnState, .transactionAbortable:
      scenario.count("transactional producers fenced")
      giveUp()
      reconnect()
    case .kafkaStorageError, .notLeaderOrFollower, .coordinatorNotAvailable, .notCoordinator,
      .coordinatorLoadInProgress:
      reconnect()
    default:
      scenario.ledger.violate("transactional producer \(id): \(what) failed: \(code)")
    }
  }
}
