// FinalReader: reads everything at the end of a run, from the first offset to the last, and the groups' offsets.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation

/// Reads partition after partition and hands each whole log to the ledger.
final class FinalReader: SimulatedClient {
  private let partitions: [TopicPartition]
  private var index = 0
  private var log: [RecordName] = []
  private var end: Offset = -1
  private(set) var isDone = false

  init(_ scenario: BrokerScenario, partitions: [TopicPartition]) {
    self.partitions = partitions
    super.init(scenario)
  }

  override func connected() {
    guard index < partitions.count else { return groups(scenario.ledger.committedPartitions) }
    log = []
    bounds()
  }

  private func bounds() {
    let partition = partitions[index]
    func ask(_ timestamp: Int64, _ completion: @escaping (Offset) -> Void) {
      let wish = ListOffsetsRequest.ListOffsetsPartition(partitionIndex: partition.partition, timestamp: timestamp)
      let request = ListOffsetsRequest(replicaID: -1, topics: [.init(name: partition.topic, partitions: [wish])])
      channel?.send(request, version: 4) { [self] response in
        guard let answer = response.topics.first?.partitions.first, answer.errorCode == .none else {
          return scenario.ledger.violate("\(partition): its ends cannot be asked for: \(response)")
        }
        completion(answer.offset)
      }
    }
    ask(-2) { [self] start in
      if start != 0 { scenario.ledger.violate("\(partition) starts at \(start); nothing was removed", .stableReads) }
      ask(-1) { [self] end in
        self.end = end
        read()
      }
    }
  }

  private func read() {
    let partition = partitions[index]
    guard Int64(log.count) < end else {
      scenario.sabotage.log(partition, &log)
      scenario.ledger.check(partition, log: log)
      scenario.job?.recount(partition, log)
      index += 1
      return connected()
    }
    let wish = FetchRequest.FetchPartition(
      partition: partition.partition, fetchOffset: Int64(log.count),
      partitionMaxBytes: Int32.random(in: 1...60_000, using: &random))
    let request = FetchRequest(
      maxBytes: 100_000, sessionEpoch: -1, topics: [.init(topic: partition.topic, partitions: [wish])])
    channel?.send(request, version: 11) { [self] response in
      guard let answer = response.responses.first?.partitions.first, answer.errorCode == .none else {
        return scenario.ledger.violate(
          "\(partition): reading at \(log.count) of \(end) failed: "
            + "\(response.responses.first?.partitions.first?.errorCode ?? response.errorCode)")
      }
      let before = log.count
      do throws(RecordProblem) {
        for (offset, name) in try TestRecord.names(answer.records, in: partition) where offset >= Int64(before) {
          guard offset == Int64(log.count) else {
            return scenario.ledger.violate(
              "\(partition): offset \(offset) comes where \(log.count) is next", .acknowledgedRecords)
          }
          log.append(name)
        }
      } catch {
        return scenario.ledger.violate(error.text, .acknowledgedRecords)
      }
      guard log.count > before else {
        return scenario.ledger.violate(
          "\(partition): nothing comes at \(before), although the log ends at \(end)", .acknowledgedRecords)
      }
      read()
    }
  }

  private func groups(_ left: [(group: String, partition: TopicPartition)]) {
    guard let (group, partition) = left.first else {
      return members(
        scenario.group.committedPartitions.map { (\.group, GroupMember.group, $0) }
          + scenario.consumerGroup.committedPartitions.map { (\.consumerGroup, ConsumerMember.group, $0) })
    }
    let request = OffsetFetchRequest(
      groupID: group, topics: [.init(name: partition.topic, partitionIndexes: [partition.partition])])
    channel?.send(request, version: 3) { [self] response in
      let told = response.topics.first?.partitions.first?.committedOffset ?? -1
      scenario.ledger.told(group, partition, committed: scenario.sabotage.loneOffset(told))
      groups(Array(left.dropFirst()))
    }
  }

  private func members(
    _ left: [(history: KeyPath<BrokerScenario, GroupLedger>, group: String, partition: TopicPartition)]
  ) {
    guard let (history, group, partition) = left.first else {
      isDone = true
      return
    }
    let request = OffsetFetchRequest(
      groupID: group, topics: [.init(name: partition.topic, partitionIndexes: [partition.partition])])
    let since = scenario[keyPath: history].lastAcknowledged(partition)
    channel?.send(request, version: 3) { [self] response in
      let told = response.topics.first?.partitions.first?.committedOffset ?? -1
      let seen = scenario.sabotage.committedOffset(told)
      scenario.note(scenario[keyPath: history].told(partition, committed: seen, since: since), .groupOffsets)
      members(Array(left.dropFirst()))
    }
  }
}
