// ProducingClient: a producer that pipelines batches and sends unanswered ones again, in order, after a reconnect.

import MillraceBase
import MillraceCompression
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation

/// A producer, idempotent or not.
final class ProducingClient: SimulatedClient {
  struct Batch {
    let number: Int
    let count: Int
    let bytes: Bytes
  }

  struct Lane {
    let partition: TopicPartition
    var nextNumber = 0
    var unanswered: [Batch] = []
    /// How many of `unanswered`, from the first on, were sent over the present connection.
    var sent = 0
    /// The number that has sequence 0 in the present epoch.
    var epochStart = 0
    /// The sequence that would have come next in the epoch before.
    var oldEpochEnd = 0
    /// The old epoch's instance begins once the new epoch has reached the partition.
    var awaitsZombie = false
  }

  let id: Int
  let isIdempotent: Bool
  private let window: Int
  var lanes: [Lane]
  private var batchesLeft: Int
  private(set) var producerID: Int64 = -1
  var producerEpoch: Int16 = -1
  var zombieRecords = 0
  private var isReady = false
  private var isProducing = false
  private let version: Int16
  private let mostBytes: Int

  init(_ scenario: BrokerScenario, id: Int, partitions: [TopicPartition], batches: Int) {
    self.id = id
    lanes = partitions.map { Lane(partition: $0) }
    batchesLeft = batches
    isIdempotent = scenario.random.oneIn(3) ? false : true
    // Five is what the broker remembers of an idempotent producer, and librdkafka's default.
    window = scenario.random.oneIn(3) ? 1 : 5
    version = [3, 7, 8, 9, 12][Int.random(in: 0..<5, using: &scenario.random)]
    mostBytes = scenario.random.oneIn(3) ? 6000 : 700
    super.init(scenario)
    let order: ProducerOrder = isIdempotent ? .exactlyOnce : window == 1 ? .ordered : .anyOrder
    scenario.ledger.producer(id, order)
    scenario.ledger.producer(Zombie.id(of: id), .never)
  }

  override var leavesConnections: Bool { true }

  /// Whether everything was acknowledged.
  var isDone: Bool { batchesLeft == 0 && lanes.allSatisfy { $0.unanswered.isEmpty } }

  override func connected() {
    isReady = false
    guard isIdempotent, producerID < 0 else {
      isReady = true
      return pump()
    }
    channel?.send(InitProducerIdRequest(transactionalID: nil), version: 2) { [self] response in
      guard response.errorCode == .none else { return reconnect() }
      scenario.gave(producerID: response.producerID)
      producerID = response.producerID
      producerEpoch = response.producerEpoch
      isReady = true
      pump()
    }
  }

  override func disconnected() {
    isReady = false
    for index in lanes.indices { lanes[index].sent = 0 }
  }

  /// Makes new batches now and then, and sends what may be sent.
  private func pump() {
    guard !isProducing else { return send() }
    isProducing = true
    produce()
  }

  private func produce() {
    guard batchesLeft > 0 else { return }
    maybeBeginEpoch()
    if leavesConnections, scenario.plan.leavesConnections, isReady, random.oneIn(15) { reconnect() }
    for _ in 0..<Int.random(in: 1...4, using: &random) where batchesLeft > 0 {
      let index = Int.random(in: lanes.indices, using: &random)
      if lanes[index].unanswered.count < 2 * window { makeBatch(index) }
    }
    send()
    later(8) { [self] in produce() }
  }

  private func makeBatch(_ index: Int) {
    batchesLeft -= 1
    let count = Int.random(in: 1...6, using: &random)
    var builder = RecordBatchBuilder()
    let first = lanes[index].nextNumber
    for number in first..<(first + count) {
      let name = RecordName(producer: id, number: number)
      let size = Int.random(in: 0...mostBytes, using: &random)
      builder.append(
        Record(value: TestRecord.value(name, lanes[index].partition, size: size), timestamp: world.wallClock))
    }
    let sequence = isIdempotent ? Int32(first - lanes[index].epochStart) : -1
    let bytes = finish(&builder, sequence)
    lanes[index].nextNumber += count
    lanes[index].unanswered.append(Batch(number: first, count: count, bytes: bytes))
  }

  private func finish(_ builder: inout RecordBatchBuilder, _ sequence: Int32) -> Bytes {
    var format = scenario.plan.codecs[Int.random(in: scenario.plan.codecs.indices, using: &random)]
    // Before version 7 zstd is refused.
    if format == .zstd, version < 7 { format = .lz4 }
    let codec = format.flatMap { CompressionCodec(rawValue: $0.rawValue) } ?? CompressionCodec.none
    do throws(CompressionError) {
      return try builder.finish(
        producerID: producerID, producerEpoch: producerEpoch, baseSequence: sequence, codec: codec
      ) { bytes throws(CompressionError) in
        guard let format else { return bytes }
        scenario.count("batches compressed")
        return try Compression.compress(bytes, format: format)
      }
    } catch {
      preconditionFailure("records cannot be compressed: \(error)")
    }
  }

  private func send() {
    guard let channel else { return }
    // Sending may be what shows that the connection is lost.
    while isReady, self.channel === channel {
      let ready = lanes.indices.filter { lanes[$0].sent < min(window, lanes[$0].unanswered.count) }
      guard !ready.isEmpty else { return }
      let chosen = random.oneIn(2) ? ready : [ready[Int.random(in: ready.indices, using: &random)]]
      var request = ProduceRequest(acks: random.oneIn(2) ? -1 : 1, timeoutMilliseconds: 30_000)
      for index in chosen {
        let lane = lanes[index]
        let data = ProduceRequest.PartitionProduceData(
          index: lane.partition.partition, records: lane.unanswered[lane.sent].bytes)
        request.topicData.append(.init(name: lane.partition.topic, partitionData: [data]))
        lanes[index].sent += 1
      }
      channel.send(request, version: version) { [self] response in answered(response, chosen) }
    }
  }

  private func answered(_ response: ProduceResponse, _ chosen: [Int]) {
    guard response.responses.count == chosen.count else {
      return scenario.ledger.violate("a produce answer names \(response.responses.count) of \(chosen.count) topics")
    }
    var failed = false
    for (index, topic) in zip(chosen, response.responses) {
      guard let answer = topic.partitionResponses.first, answer.index == lanes[index].partition.partition else {
        return scenario.ledger.violate("a produce answer names other partitions than the request")
      }
      switch answer.errorCode {
      case .none where !failed || lanes[index].sent > 0:
        let batch = lanes[index].unanswered.removeFirst()
        lanes[index].sent -= 1
        scenario.ledger.acknowledged(
          lanes[index].partition, producer: id, number: batch.number, count: batch.count, at: answer.baseOffset)
        wakeZombie(index)
      case .kafkaStorageError, .notLeaderOrFollower, .leaderNotAvailable:
        // The machine has no room or is about to stop: everything from this batch on has to come again.
        failed = true
      default:
        scenario.ledger.violate(
          "producer \(id): record \(lanes[index].unanswered[0].number) for \(lanes[index].partition) was refused: "
            + "\(answer.errorCode) \(answer.errorMessage ?? "")")
        return
      }
    }
    if failed { return reconnect() }
    send()
  }
}
