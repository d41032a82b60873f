// ConsumingClient: a consumer that reads, goes back now and then, and commits offsets for its group.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation

/// A consumer of some partitions, alone in its group.
final class ConsumingClient: SimulatedClient {
  private let group: String
  private let partitions: [TopicPartition]
  private var positions: [Offset]
  private var ends: [Offset]
  private var isCommitting = false
  private let version: Int16

  init(_ scenario: BrokerScenario, group: String, partitions: [TopicPartition]) {
    self.group = group
    self.partitions = partitions
    positions = partitions.map { _ in 0 }
    ends = positions
    version = [4, 7, 11, 12][Int.random(in: 0..<4, using: &scenario.random)]
    super.init(scenario)
  }

  override func connected() {
    isCommitting = false
    var byTopic: [OffsetFetchRequest.OffsetFetchRequestTopic] = []
    for partition in partitions {
      byTopic.append(.init(name: partition.topic, partitionIndexes: [partition.partition]))
    }
    channel?.send(OffsetFetchRequest(groupID: group, topics: byTopic), version: 5) { [self] response in
      guard response.errorCode == .none, response.topics.count == partitions.count else { return reconnect() }
      for (index, topic) in response.topics.enumerated() {
        guard let told = topic.partitions.first else { continue }
        let offset = scenario.sabotage.loneOffset(told.committedOffset)
        scenario.ledger.told(group, partitions[index], committed: offset)
        positions[index] = max(0, told.committedOffset)
      }
      fetch()
    }
  }

  private func fetch() {
    guard let channel else { return }
    var request = FetchRequest(
      maxWaitMilliseconds: Int32.random(in: 0...20, using: &random), minBytes: random.oneIn(3) ? 0 : 1,
      maxBytes: Int32.random(in: 1...40_000, using: &random), sessionEpoch: random.oneIn(2) ? -1 : 0)
    var asked: [Int] = []
    for index in partitions.indices where asked.isEmpty || random.oneIn(2) {
      asked.append(index)
      let partition = FetchRequest.FetchPartition(
        partition: partitions[index].partition, fetchOffset: positions[index],
        partitionMaxBytes: Int32.random(in: 1...20_000, using: &random))
      request.topics.append(.init(topic: partitions[index].topic, partitions: [partition]))
    }
    let before = asked.map { scenario.ledger.highWatermark(partitions[$0]) }
    channel.send(request, version: version) { [self] response in answered(response, asked, before) }
  }

  private func answered(_ response: FetchResponse, _ asked: [Int], _ before: [Offset]) {
    // The broker puts partitions of one topic that follow each other together.
    let answers = response.responses.flatMap { topic in topic.partitions.map { (topic.topic, $0) } }
    guard response.errorCode == .none, answers.count == asked.count else {
      return scenario.ledger.violate(
        "a fetch answer of \(response.errorCode) names \(answers.count) of \(asked.count) partitions")
    }
    for (place, (topic, answer)) in answers.enumerated() {
      let index = asked[place]
      guard TopicPartition(topic, answer.partitionIndex) == partitions[index] else {
        return scenario.ledger.violate(
          "a fetch answer names \(topic)-\(answer.partitionIndex) for \(partitions[index])")
      }
      if answer.errorCode == .notLeaderOrFollower { return reconnect() }
      if answer.errorCode == .kafkaStorageError, scenario.mayFailReads {
        scenario.count("reads refused")
        return soon(20) { [self] in fetch() }
      }
      guard answer.errorCode == .none else {
        return scenario.ledger.violate(
          "group \(group): fetching \(partitions[index]) at \(positions[index]) failed: \(answer.errorCode); "
            + "the end was \(before[place])")
      }
      scenario.ledger.told(
        partitions[index], highWatermark: scenario.sabotage.highWatermark(answer.highWatermark), before: before[place])
      take(answer, index)
    }
    if random.oneIn(4) { goBack() }
    if random.oneIn(3) { commit() }
    soon(random.oneIn(4) ? 60 : 6) { [self] in fetch() }
  }

  private func take(_ answer: FetchResponse.PartitionData, _ index: Int) {
    let partition = partitions[index]
    do throws(RecordProblem) {
      for (offset, name) in try TestRecord.names(answer.records, in: partition) {
        if offset >= answer.highWatermark {
          scenario.ledger.violate(
            "\(partition): record at \(offset) was read beyond the end \(answer.highWatermark)", .stableReads)
        }
        scenario.ledger.read(partition, name, at: offset)
        // A batch may begin before the position.
        if offset < positions[index] { continue }
        if offset != positions[index] {
          scenario.ledger.violate(
            "\(partition): offset \(offset) was read where \(positions[index]) was next", .stableReads)
        }
        positions[index] = offset + 1
      }
    } catch {
      scenario.ledger.violate(error.text, .stableReads)
    }
    ends[index] = max(ends[index], positions[index])
  }

  private func goBack() {
    let index = Int.random(in: partitions.indices, using: &random)
    positions[index] = Offset.random(in: 0...positions[index], using: &random)
  }

  private func commit() {
    guard let channel, !isCommitting else { return }
    isCommitting = true
    let index = Int.random(in: partitions.indices, using: &random)
    let partition = partitions[index]
    scenario.ledger.committing(group, partition, positions[index])
    let wish = OffsetCommitRequest.OffsetCommitRequestPartition(
      partitionIndex: partition.partition, committedOffset: positions[index])
    let request = OffsetCommitRequest(groupID: group, topics: [.init(name: partition.topic, partitions: [wish])])
    channel.send(request, version: 7) { [self] response in
      isCommitting = false
      guard let answer = response.topics.first?.partitions.first else {
        return scenario.ledger.violate("group \(group): a commit's answer is empty")
      }
      if answer.errorCode == .none { scenario.ledger.committed(group, partition) }
    }
  }
}
