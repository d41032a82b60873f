// TopicClient: creates and deletes topics, so that partitions come and go while the log is drained.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation

/// Creates a topic, writes a little into it, reads it, deletes it, and begins again, twice under each name: a topic that was
/// made anew holds nothing of the one before.
final class TopicClient: SimulatedClient {
  private enum Step {
    case create, write(Int), read, delete
  }

  private let id: Int
  private var rounds: Int
  private var step = Step.create
  private var generation = 0
  private var name: String { "passing-\(generation / 2)" }
  /// The creation was acknowledged, so that nothing older may be in the topic.
  private var isFresh = false
  /// Numbers of records that were acknowledged since the creation.
  private var written: Set<Int> = []
  /// Names for which a creation or deletion was acknowledged.
  private var existing: Set<String> = []
  private var gone: Set<String> = []

  init(_ scenario: BrokerScenario, id: Int, rounds: Int) {
    self.id = id
    self.rounds = rounds
    super.init(scenario)
    scenario.ledger.producer(id, .anyOrder)
  }

  var isDone: Bool { rounds == 0 }

  override func connected() {
    let topics = (existing.sorted() + gone.sorted()).map { MetadataRequest.MetadataRequestTopic(name: $0) }
    let request = MetadataRequest(topics: topics, allowAutoTopicCreation: false)
    channel?.send(request, version: 5) { [self] response in
      for topic in response.topics {
        guard let name = topic.name else { continue }
        if existing.contains(name), topic.errorCode != .none {
          scenario.ledger.violate("topic \(name) was created, and now it is not there: \(topic.errorCode)", .topics)
        }
        let isGone = topic.errorCode == .unknownTopicOrPartition && !scenario.sabotage.revivesTopics
        if gone.contains(name), !isGone {
          scenario.ledger.violate("topic \(name) was deleted, and now it is there: \(topic.errorCode)", .topics)
        }
      }
      act()
    }
  }

  private func act() {
    guard rounds > 0, channel != nil else { return }
    switch step {
    case .create: create()
    case .write(let left): write(left)
    case .read: read(from: 0, [])
    case .delete: delete()
    }
  }

  private func create() {
    gone.remove(name)
    isFresh = false
    written = []
    let partitions = Int32.random(in: 1...4, using: &random)
    let topic = CreateTopicsRequest.CreatableTopic(name: name, numPartitions: partitions, replicationFactor: 1)
    channel?.send(CreateTopicsRequest(topics: [topic], timeoutMilliseconds: 1000), version: 5) { [self] response in
      switch response.topics.first?.errorCode {
      case .some(.none), .topicAlreadyExists:
        // An earlier attempt may have succeeded unheard; then it may not be durable yet, but what follows waits for it.
        isFresh = response.topics.first?.errorCode == KafkaErrorCode.none
        if isFresh { existing.insert(name) }
        step = .write(Int.random(in: 0...6, using: &random))
        soon(20) { [self] in act() }
      case .kafkaStorageError, .notLeaderOrFollower: reconnect()
      case let code: scenario.ledger.violate("creating topic \(name) failed: \(code.map { "\($0)" } ?? "no answer")")
      }
    }
  }

  private func write(_ left: Int) {
    guard left > 0 else {
      step = .read
      return soon(60) { [self] in act() }
    }
    let number = 1000 * generation + left
    let partition = TopicPartition(name, 0)
    var builder = RecordBatchBuilder()
    let size = Int.random(in: 0...4000, using: &random)
    let value = TestRecord.value(RecordName(producer: id, number: number), partition, size: size)
    builder.append(Record(value: value, timestamp: world.wallClock))
    var request = ProduceRequest(acks: -1, timeoutMilliseconds: 1000)
    request.topicData = [.init(name: name, partitionData: [.init(index: 0, records: builder.finish())])]
    channel?.send(request, version: 7) { [self] response in
      switch response.responses.first?.partitionResponses.first?.errorCode {
      case .some(.none):
        existing.insert(name)
        written.insert(number)
        step = .write(left - 1)
        act()
      case .kafkaStorageError, .notLeaderOrFollower: reconnect()
      // A creation that was never acknowledged may be lost.
      case .unknownTopicOrPartition where !existing.contains(name):
        step = .create
        soon(5) { [self] in act() }
      case let code: scenario.ledger.violate("writing into \(name) failed: \(code.map { "\($0)" } ?? "no answer")")
      }
    }
  }

  private func read(from offset: Offset, _ before: [Int]) {
    let partition = TopicPartition(name, 0)
    let wish = FetchRequest.FetchPartition(partition: 0, fetchOffset: offset, partitionMaxBytes: 1 << 20)
    let request = FetchRequest(maxBytes: 1 << 20, sessionEpoch: -1, topics: [.init(topic: name, partitions: [wish])])
    channel?.send(request, version: 11) { [self] response in
      guard let answer = response.responses.first?.partitions.first, answer.errorCode == .none else {
        let code = response.responses.first?.partitions.first?.errorCode ?? response.errorCode
        if code == .unknownTopicOrPartition, !existing.contains(name) {
          step = .create
          return soon(5) { [self] in act() }
        }
        if code == .notLeaderOrFollower || code == .kafkaStorageError && scenario.mayFailReads { return reconnect() }
        return scenario.ledger.violate("reading \(name) failed: \(code)")
      }
      do throws(RecordProblem) {
        let found = try TestRecord.names(answer.records, in: partition).filter { $0.offset >= offset }
        let numbers = before + found.map(\.name.number)
        if let last = found.last, last.offset + 1 < answer.highWatermark {
          return read(from: last.offset + 1, numbers)
        }
        check(numbers)
      } catch {
        scenario.ledger.violate(error.text, .topics)
      }
      step = .delete
      act()
    }
  }

  private func check(_ numbers: [Int]) {
    if isFresh {
      scenario.count("topics made anew and read")
      if let old = numbers.first(where: { $0 / 1000 != generation }) {
        scenario.ledger.violate(
          "\(name) was made for the \(generation). time and holds record \(old) of an earlier one", .topics)
      }
    }
    for number in written.sorted() where !numbers.contains(number) {
      scenario.ledger.violate("\(name): record \(number) was acknowledged and is not there", .topics)
    }
  }

  private func delete() {
    existing.remove(name)
    channel?.send(DeleteTopicsRequest(topicNames: [name], timeoutMilliseconds: 1000), version: 3) { [self] response in
      switch response.responses.first?.errorCode {
      case .some(.none):
        gone.insert(name)
        begin()
      // An earlier attempt may have succeeded unheard, and is not durable perhaps.
      case .unknownTopicOrPartition: begin()
      case .kafkaStorageError, .notLeaderOrFollower: reconnect()
      case let code: scenario.ledger.violate("deleting \(name) failed: \(code.map { "\($0)" } ?? "no answer")")
      }
    }
  }

  private func begin() {
    rounds -= 1
    generation += 1
    step = .create
    soon(30) { [self] in act() }
  }
}
