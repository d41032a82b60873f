// TransactionCoordinatorTests: transactional producers on a broker in virtual time: time-outs, restarts, expiry, a full journal.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceBroker

/// A broker on a simulated machine with topic `t` of two partitions.
private final class TransactionWorld {
  let world: SimulatedWorld
  private(set) var disk: SimulatedFileSystem
  private let settings: BrokerSettings
  private let configuration: LogConfiguration
  private(set) var broker: Broker!

  init(
    seed: UInt64 = 1, _ values: [String: String] = [:],
    configuration: LogConfiguration = LogConfiguration(directory: "/data")
  ) throws {
    self.configuration = configuration
    world = SimulatedWorld(seed: seed)
    disk = SimulatedFileSystem(world: world)
    var settings = BrokerSettings()
    for (name, value) in values { try settings.set(name, value) }
    self.settings = settings
    try open()
    let made: Result<TopicMetadata, BrokerError>? = ask { self.broker.createTopic("t", partitions: 2, completion: $0) }
    _ = try made?.get()
  }

  deinit { world.tearDown() }

  private func open() throws {
    let reactor = SimulatedReactor(world: world, name: "broker")
    broker = try Broker(
      log: configuration, settings: settings, fileSystem: disk, reactor: reactor,
      writer: SimulatedExecutor(world: world), background: SimulatedExecutor(world: world), logger: .silent, seed: 1)
  }

  func restart(_ crash: SimulatedWorld.Crash = .powerLoss) throws {
    world.crash(crash)
    world.restart()
    disk = disk.reopen()
    broker = nil
    try open()
  }

  func ask<Value>(_ body: (@escaping (Value) -> Void) -> Void) -> Value? {
    var value: Value?
    body { value = $0 }
    _ = world.run(atMost: 200_000) { value != nil }
    return value
  }

  func initialise(_ id: String = "id", timeout: Int32 = 10_000) throws -> ProducerIdentity {
    let result: Result<ProducerIdentity, BrokerError>? = ask {
      broker.transactions.initialise(id, timeoutMilliseconds: timeout, expected: nil, completion: $0)
    }
    return try #require(result).get()
  }

  /// Writes one record into a partition, which is added by it.
  func write(_ partition: Int32, _ producer: ProducerIdentity, sequence: Int32 = 0, id: String = "id") -> BrokerError? {
    var builder = RecordBatchBuilder()
    builder.append(Record(value: Bytes("v"), timestamp: world.wallClock))
    let batch = builder.finish(
      producerID: producer.id, producerEpoch: producer.epoch, baseSequence: sequence, isTransactional: true,
      compress: { $0 })
    guard let topic = broker.topic("t") else { return BrokerError(.unknownTopicOrPartition, "t") }
    let result: Result<AppendedBatch, BrokerError>? = ask {
      broker.produce(
        topic, partition, records: batch, transaction: TransactionalWrite(id: id, addsPartition: true), completion: $0)
    }
    if case .failure(let error) = result { return error }
    return result == nil ? BrokerError(.storage, "no answer") : nil
  }

  /// Writes records without a transaction until the disk is so full that not even a small one has room.
  func fillDisk() throws {
    let topic = try #require(broker.topic("t"))
    for size in [2000, 10] {
      for _ in 0..<10_000 {
        var builder = RecordBatchBuilder()
        builder.append(Record(value: Bytes([UInt8](repeating: 1, count: size)), timestamp: world.wallClock))
        let result: Result<AppendedBatch, BrokerError>? = ask {
          broker.produce(topic, 1, records: builder.finish(), completion: $0)
        }
        if case .failure? = result { break }
      }
    }
  }

  func commit(_ producer: ProducerIdentity) throws -> ProducerIdentity {
    let result: Result<ProducerIdentity, BrokerError>? = ask {
      broker.transactions.end("id", producer, isCommit: true, bumps: true, completion: $0)
    }
    return try #require(result).get()
  }

  func log(_ partition: Int32) throws -> PartitionLog {
    let topic = try #require(broker.topic("t"))
    return try #require(broker.partition(topic, partition))
  }

  var state: String? { broker.transactions.describe("id")?.state }
}

@Test("a transaction is aborted in all its partitions when its time is over, and not before")
func timeoutInTime() throws {
  let world = try TransactionWorld()
  let producer = try world.initialise()
  for partition: Int32 in 0..<2 { #expect(world.write(partition, producer) == nil) }
  world.world.run(for: .milliseconds(9500))
  #expect(world.state == "Ongoing")
  #expect(try world.log(0).lastStableOffset == 0)
  world.world.run(for: .milliseconds(800))
  #expect(world.state == "CompleteAbort")
  for partition: Int32 in 0..<2 {
    let log = try world.log(partition)
    #expect(log.lastStableOffset == 2 && log.abortedTransactions(from: 0, to: 2).map(\.producerID) == [producer.id])
  }
  #expect(world.write(0, producer, sequence: 1)?.code == .invalidProducerEpoch)
}

@Test("a time-out belongs to its transaction: the next one of the same producer has all of its time")
func timeoutOfTheNext() throws {
  let world = try TransactionWorld()
  var producer = try world.initialise()
  #expect(world.write(0, producer) == nil)
  world.world.run(for: .seconds(9))
  producer = try world.commit(producer)
  #expect(world.write(0, producer) == nil)
  world.world.run(for: .seconds(9))
  #expect(world.state == "Ongoing")
  world.world.run(for: .seconds(2))
  #expect(world.state == "CompleteAbort")
}

@Test("a clock that is set ends no transaction early, and keeps none for longer")
func clockJumps() throws {
  for jump in [Duration.seconds(1_000_000), .seconds(-1_000_000)] {
    let world = try TransactionWorld()
    let producer = try world.initialise()
    #expect(world.write(0, producer) == nil)
    world.world.jumpWallClock(by: jump)
    world.world.run(for: .seconds(9))
    #expect(world.state == "Ongoing")
    world.world.run(for: .seconds(2))
    #expect(world.state == "CompleteAbort")
  }
}

@Test("after a restart an open transaction has what was left of its time, and never more than all of it")
func timeoutOverRestart() throws {
  let world = try TransactionWorld()
  var producer = try world.initialise()
  #expect(world.write(0, producer) == nil)
  world.world.run(for: .seconds(6))
  try world.restart()
  world.world.run(for: .seconds(3))
  #expect(world.state == "Ongoing" && world.write(1, producer) == nil)
  world.world.run(for: .seconds(2))
  #expect(world.state == "CompleteAbort")
  #expect(try world.log(1).lastStableOffset == 2)
  producer = try world.initialise()
  #expect(world.write(0, producer) == nil)
  world.world.jumpWallClock(by: .seconds(-1_000_000))
  try world.restart()
  world.world.run(for: .seconds(9))
  #expect(world.state == "Ongoing")
  world.world.run(for: .seconds(2))
  #expect(world.state == "CompleteAbort")
}

@Test("ids that were not used for long are forgotten, those with an open transaction never")
func expiredIDs() throws {
  let world = try TransactionWorld(["transactional.id.expiration.ms": "60000", "transaction.max.timeout.ms": "900000"])
  let idle = try world.initialise("idle")
  let busy = try world.initialise(timeout: 900_000)
  #expect(world.write(0, busy) == nil)
  world.world.run(for: .seconds(130))
  #expect(world.broker.transactions.describe("idle") == nil && world.state == "Ongoing")
  try world.restart()
  #expect(world.broker.transactions.describe("idle") == nil && world.state == "Ongoing")
  #expect(try world.initialise("idle").id != idle.id)
  world.world.run(for: .seconds(130))
  #expect(world.broker.transactions.describe("idle") == nil)
}

@Test(
  "recovers: a commit that was acknowledged stands, one that was not is whole or not there, whenever the power fails")
func recoversCommits() throws {
  var outcomes: Set<String> = []
  for events in 0..<25 {
    let world = try TransactionWorld(seed: UInt64(events))
    let producer = try world.initialise()
    for partition: Int32 in 0..<2 { #expect(world.write(partition, producer) == nil) }
    var acknowledged = false
    world.broker.transactions.end("id", producer, isCommit: true, bumps: true) { result in
      if case .success = result { acknowledged = true }
    }
    _ = world.world.run(atMost: events) { false }
    try world.restart()
    let ends = try (0..<2).map { try world.log($0).nextOffset }
    let state = try #require(world.state)
    #expect(ends == (state == "Ongoing" ? [1, 1] : [2, 2]), "after \(events) events: \(state)")
    #expect(!acknowledged || state == "CompleteCommit")
    // Whatever became of it, the producer finds out by asking again, and readers see all or nothing.
    let again = try world.commit(producer)
    #expect(again == ProducerIdentity(producer.id, 1) && world.state == "CompleteCommit")
    for partition: Int32 in 0..<2 {
      let log = try world.log(partition)
      #expect(log.nextOffset == 2 && log.lastStableOffset == 2)
    }
    outcomes.insert(state)
  }
  #expect(outcomes == ["Ongoing", "CompleteCommit"])
}

@Test("a topic that is deleted takes no transaction along: the rest of it commits")
func deletedTopic() throws {
  let world = try TransactionWorld()
  let made: Result<TopicMetadata, BrokerError>? = world.ask { world.broker.createTopic("u", completion: $0) }
  let topic = try #require(made).get()
  let producer = try world.initialise()
  #expect(world.write(0, producer) == nil)
  let added: BrokerError?? = world.ask {
    world.broker.transactions.add([TopicPartition("u", 0)], to: "id", producer, completion: $0)
  }
  #expect(added == .some(nil))
  let deleted: BrokerError?? = world.ask { world.broker.deleteTopic(topic, completion: $0) }
  #expect(deleted == .some(nil))
  #expect(world.broker.transactions.describe("id")?.partitions == [TopicPartition("t", 0)])
  #expect(try world.commit(producer).epoch == 1)
  #expect(try world.log(0).lastStableOffset == 2)
}

@Test("of any number of ids that were not used for long none is kept after one round")
func expiredCrowd() throws {
  let world = try TransactionWorld(["transactional.id.expiration.ms": "60000"])
  for index in 0..<3500 { _ = try world.initialise("idle-\(index)") }
  #expect(world.broker.transactions.descriptions.count == 3500)
  world.world.run(for: .seconds(125))
  #expect(world.broker.transactions.descriptions.isEmpty)
  // And it goes on with those that come later.
  _ = try world.initialise("later")
  world.world.run(for: .seconds(125))
  #expect(world.broker.transactions.descriptions.isEmpty)
}

private func smallDisk() -> LogConfiguration {
  var configuration = LogConfiguration(directory: "/data")
  configuration.journalFileSize = 32 << 10
  configuration.firstJournalFileSize = 16 << 10
  configuration.journalFileLimit = 3
  return configuration
}

@Test("a commit that a full disk refuses leaves the transaction as it is: asked again when there is room, it commits")
func commitOnFullDisk() throws {
  let world = try TransactionWorld(configuration: smallDisk())
  world.disk.capacity = 300_000
  let producer = try world.initialise(timeout: 30_000)
  #expect(world.write(0, producer) == nil)
  try world.fillDisk()
  #expect(throws: BrokerError.self) { try world.commit(producer) }
  world.world.run(for: .seconds(8))
  world.disk.capacity = 1 << 40
  world.world.run(for: .seconds(8))
  #expect(world.state == "Ongoing")
  #expect(try world.commit(producer).epoch == 1)
  #expect(world.state == "CompleteCommit")
  let log = try world.log(0)
  #expect(log.abortedTransactions(from: 0, to: log.nextOffset).isEmpty && log.lastStableOffset == log.nextOffset)
}

@Test("a transaction whose commit was refused is aborted when its time is over, also when the disk is full until later")
func timeoutOnFullDisk() throws {
  let world = try TransactionWorld(configuration: smallDisk())
  world.disk.capacity = 300_000
  let producer = try world.initialise(timeout: 10_000)
  #expect(world.write(0, producer) == nil)
  try world.fillDisk()
  #expect(throws: BrokerError.self) { try world.commit(producer) }
  world.world.run(for: .seconds(15))
  #expect(world.state == "Ongoing")
  world.disk.capacity = 1 << 40
  world.world.run(for: .seconds(2))
  #expect(world.state == "CompleteAbort")
  #expect(throws: BrokerError.self) { try world.commit(producer) }
}

@Test("a group that is deleted while a transaction holds offsets for it does not come back with the commit")
func deletedGroup() throws {
  let world = try TransactionWorld()
  let producer = try world.initialise()
  let offset = PartitionOffset(
    partition: TopicPartition("t", 0),
    committed: CommittedOffset(offset: 5, leaderEpoch: 0, metadata: nil, time: world.world.wallClock))
  func add() -> BrokerError?? {
    world.ask {
      world.broker.transactions.commit(
        [offset], of: "g", memberID: "", instanceID: nil, generation: -1, in: "id", producer, isImplicit: true,
        completion: $0)
    }
  }
  #expect(add() == .some(nil))
  #expect(world.broker.groups.pendingPartitions("g") == [offset.partition])
  let deleted: BrokerError?? = world.ask { world.broker.record(.groupDeleted(group: "g"), completion: $0) }
  #expect(deleted == .some(nil))
  #expect(world.broker.groups.pendingPartitions("g").isEmpty)
  _ = try world.commit(producer)
  #expect(world.broker.groups.offsets("g").isEmpty)
}

@Test(
  "no epoch of a consumer group is told before its reservation is durable, also when that waits for room in the log")
func epochsAreReservedFirst() throws {
  let world = try TransactionWorld(configuration: smallDisk())
  let topic = try #require(world.broker.topic("t"))
  var isAnswered = 0
  for _ in 0..<200 {
    var builder = RecordBatchBuilder()
    builder.append(Record(value: Bytes([UInt8](repeating: 1, count: 2000)), timestamp: world.world.wallClock))
    world.broker.produce(topic, 0, records: builder.finish()) { _ in isAnswered += 1 }
  }
  #expect(world.broker.isCongested)
  var beat = ConsumerHeartbeat(group: "g", memberID: "m", epoch: 0, clientID: "c", clientHost: "/h")
  beat.rebalanceTimeout = .seconds(1)
  beat.topics = ["t"]
  beat.owned = []
  let answer: Result<ConsumerHeartbeatAnswer, BrokerError>? = world.ask {
    world.broker.groups.heartbeat(beat, completion: $0)
  }
  let told = try #require(answer).get().epoch
  try world.restart()
  #expect(world.broker.metadata.groupEpochs["g"] ?? 0 > told)
}
