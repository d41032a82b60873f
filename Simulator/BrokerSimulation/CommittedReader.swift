// CommittedReader: reads lists from their start on with read_committed, as a client library does, and notes what it sees.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation
import TransactionHistory

/// A reader of committed records.
final class CommittedReader: SimulatedClient {
  private struct List {
    let partition: TopicPartition
    var position: Offset = 0
    var values: [Int] = []
    /// Where the list ends for readers of committed records, once that was asked for.
    var end: Offset?
  }

  private let ledger: TransactionLedger
  private let isFinal: Bool
  private var lists = TransactionLedger.lists.map { List(partition: $0) }
  private var sinceObservation = 0
  private(set) var isDone = false

  /// A reader; the final one reads each list to its end and says so.
  init(_ scenario: BrokerScenario, ledger: TransactionLedger, isFinal: Bool = false) {
    self.ledger = ledger
    self.isFinal = isFinal
    super.init(scenario)
  }

  override func connected() {
    if isFinal { return askEnd(0) }
    fetch(0)
  }

  private func askEnd(_ index: Int) {
    guard index < lists.count else { return fetch(0) }
    let partition = lists[index].partition
    let wish = ListOffsetsRequest.ListOffsetsPartition(partitionIndex: partition.partition, timestamp: -1)
    var request = ListOffsetsRequest(replicaID: -1, topics: [.init(name: partition.topic, partitions: [wish])])
    // Without isolation: everything must be readable once all transactions have ended.
    request.isolationLevel = 0
    channel?.send(request, version: 4) { [self] response in
      guard let answer = response.topics.first?.partitions.first, answer.errorCode == .none else { return reconnect() }
      lists[index].end = answer.offset
      askEnd(index + 1)
    }
  }

  private func fetch(_ index: Int) {
    guard index < lists.count else {
      if isFinal {
        for list in lists { ledger.history.final[TransactionLedger.list(list.partition)] = list.values }
        isDone = true
        return
      }
      return soon(random.oneIn(5) ? 80 : 15) { [self] in fetch(0) }
    }
    if let end = lists[index].end, lists[index].position >= end { return fetch(index + 1) }
    let list = lists[index]
    let wish = FetchRequest.FetchPartition(
      partition: list.partition.partition, fetchOffset: list.position,
      partitionMaxBytes: Int32.random(in: 1...6000, using: &random))
    let request = FetchRequest(
      maxWaitMilliseconds: 5, minBytes: 1, maxBytes: 10_000, isolationLevel: 1, sessionEpoch: -1,
      topics: [.init(topic: list.partition.topic, partitions: [wish])])
    channel?.send(request, version: 11) { [self] response in
      guard let answer = response.responses.first?.partitions.first, answer.errorCode == .none else {
        let code = response.responses.first?.partitions.first?.errorCode ?? response.errorCode
        if code == .notLeaderOrFollower || code == .kafkaStorageError && scenario.mayFailReads { return reconnect() }
        return scenario.ledger.violate("reading committed records of \(list.partition) failed: \(code)")
      }
      take(answer, index)
      fetch(isFinal && lists[index].position < lists[index].end ?? 0 ? index : index + 1)
    }
  }

  private func take(_ answer: FetchResponse.PartitionData, _ index: Int) {
    let partition = lists[index].partition
    let before = lists[index].values.count
    var filter = AbortedFilter(answer.abortedTransactions ?? [])
    do throws(RecordProblem) {
      try TestRecord.forEachBatch(answer.records, in: partition) { header, body throws(RecordProblem) in
        let isHidden = filter.hides(header, body)
        guard header.nextOffset > lists[index].position else { return }
        if !isHidden, !header.isControl {
          for (offset, name) in try TestRecord.names(of: body, header, in: partition)
          where offset >= lists[index].position {
            guard name.producer == TransactionalClient.producer else {
              throw RecordProblem(text: "\(partition): record \(name) at \(offset) was never sent there")
            }
            lists[index].values.append(name.number)
          }
        }
        lists[index].position = header.nextOffset
      }
    } catch {
      scenario.ledger.violate(error.text, .transactionHistory)
    }
    guard lists[index].values.count > before else { return }
    scenario.count("committed values read", lists[index].values.count - before)
    sinceObservation += 1
    guard sinceObservation % 3 == 0 else { return }
    ledger.history.observations.append(
      Observation(TransactionLedger.list(partition), lists[index].values, time: ledger.tick()))
  }
}

/// Tells which batches belong to aborted transactions, from what a fetch answer says of them.
///
/// Source: Kafka, `CompletedFetch.consumeAbortedTransactionsUpTo`.
struct AbortedFilter {
  private var coming: [FetchResponse.AbortedTransaction]
  private var active: Set<Int64> = []

  init(_ aborted: [FetchResponse.AbortedTransaction]) { coming = aborted.sorted { $0.firstOffset < $1.firstOffset } }

  mutating func hides(_ header: RecordBatchHeader, _ body: Bytes) -> Bool {
    while let next = coming.first, next.firstOffset <= header.lastOffset {
      active.insert(next.producerID)
      coming.removeFirst()
    }
    guard header.isTransactional else { return false }
    if header.isControl {
      active.remove(header.producerID)
      return true
    }
    return active.contains(header.producerID)
  }
}
