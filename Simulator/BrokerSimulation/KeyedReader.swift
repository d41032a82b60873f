// KeyedReader: reads the cleaned topic from its start to its end, again and again, and has each reading checked.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation

/// A reader of whole partitions.
final class KeyedReader: SimulatedClient {
  private let state: CleanupState
  private let isFinal: Bool
  private var index = 0
  private var reading = KeyedReading(isCommittedOnly: true, since: 0)
  private var position: Offset = 0
  private(set) var isDone = false

  /// A reader; the final one reads each partition once for each kind of reader.
  init(_ scenario: BrokerScenario, state: CleanupState, isFinal: Bool = false) {
    self.state = state
    self.isFinal = isFinal
    super.init(scenario)
  }

  private var partition: TopicPartition { CleanupState.partition(index % CleanupPlan.partitions) }
  private var place: Int { index % CleanupPlan.partitions }

  override func connected() {
    guard !isDone else { return }
    position = 0
    let isCommittedOnly = isFinal ? index >= CleanupPlan.partitions : random.oneIn(2)
    reading = KeyedReading(isCommittedOnly: isCommittedOnly, since: state.ledgers[place].acknowledgedCount)
    reading.leastStart = state.ledgers[place].deletedBelow
    ask(-1) { [self] end in
      reading.end = end
      begin()
    }
  }

  private func ask(_ timestamp: Int64, _ completion: @escaping (Offset) -> Void) {
    let wish = ListOffsetsRequest.ListOffsetsPartition(partitionIndex: partition.partition, timestamp: timestamp)
    var request = ListOffsetsRequest(replicaID: -1, topics: [.init(name: partition.topic, partitions: [wish])])
    request.isolationLevel = reading.isCommittedOnly ? 1 : 0
    channel?.send(request, version: 4) { [self] response in
      guard let answer = response.topics.first?.partitions.first, answer.errorCode == .none else { return reconnect() }
      completion(answer.offset)
    }
  }

  private func begin() {
    ask(-2) { [self] start in
      reading.start = max(reading.start, start)
      position = max(position, start)
      fetch()
    }
  }

  private func fetch() {
    guard position < reading.end else { return finish() }
    let wish = FetchRequest.FetchPartition(
      partition: partition.partition, fetchOffset: position,
      partitionMaxBytes: Int32.random(in: 1...20_000, using: &random))
    let request = FetchRequest(
      maxWaitMilliseconds: 20, minBytes: 1, maxBytes: 20_000, isolationLevel: reading.isCommittedOnly ? 1 : 0,
      sessionEpoch: -1, topics: [.init(topic: partition.topic, partitions: [wish])])
    channel?.send(request, version: 11) { [self] response in
      guard let answer = response.responses.first?.partitions.first, answer.errorCode == .none else {
        let code = response.responses.first?.partitions.first?.errorCode ?? response.errorCode
        // The start has moved past the position.
        if code == .offsetOutOfRange { return begin() }
        if code == .notLeaderOrFollower || code == .kafkaStorageError && scenario.mayFailReads { return reconnect() }
        return scenario.ledger.violate("reading \(partition) at \(position) failed: \(code)")
      }
      reading.start = max(reading.start, answer.logStartOffset)
      let before = position
      take(answer)
      guard position == before else { return fetch() }
      // Only an open transaction may hold a reader up below the end that it was told; at the end there is none.
      if isFinal {
        return scenario.ledger.violate(
          "nothing comes at \(position) of \(partition), which ends at \(reading.end)", .cleanupKeeps)
      }
      soon(20) { [self] in finish() }
    }
  }

  private func take(_ answer: FetchResponse.PartitionData) {
    var filter = AbortedFilter(reading.isCommittedOnly ? answer.abortedTransactions ?? [] : [])
    do throws(RecordProblem) {
      try TestRecord.forEachBatch(answer.records, in: partition, mayHaveGaps: state.plan.rules.compacts) {
        header, body throws(RecordProblem) in
        let isHidden = reading.isCommittedOnly && filter.hides(header, body)
        guard header.nextOffset > position else { return }
        if !isHidden, !header.isControl {
          for (offset, record) in try TestRecord.keyed(body, header, in: partition) where offset >= position {
            reading.records[offset] = record
          }
        }
        position = header.nextOffset
      }
    } catch {
      scenario.ledger.violate(error.text, .cleanupShows)
    }
  }

  private func finish() {
    // What was not reached was not looked at.
    reading.end = min(reading.end, position)
    reading.latestTime = scenario.latestWallClock
    scenario.sabotage.keyed(partition, &reading)
    for problem in state.ledgers[place].check(reading) { scenario.ledger.violate(problem.text, problem.rule) }
    scenario.count("readings of cleaned partitions")
    index += 1
    if isFinal, index == 2 * CleanupPlan.partitions {
      for ledger in state.ledgers {
        scenario.count("records compacted away", ledger.compactedAway)
        scenario.count("records expired", ledger.expired)
      }
      isDone = true
      return
    }
    if isFinal { return connected() }
    soon(random.oneIn(3) ? 300 : 80) { [self] in connected() }
  }
}
