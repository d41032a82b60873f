// MetadataTests: events survive their bytes, and a state its snapshot.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceModel
import MillraceSecurity
import MillraceSimulation
import Testing

@testable import MillraceMetadata

private let topic = TopicID(high: 7, low: 9)

private let administrative: [MetadataEvent] = [
  .partitionsAdded(id: topic, partitions: [PartitionLogID(3), PartitionLogID(4)]),
  .topicConfigured(id: topic, changes: ["retention.ms": "1", "cleanup.policy": nil, "": ""]),
  .resourceConfigured(ConfigResource(.broker, ""), changes: ["num.partitions": "3"]),
  .resourceConfigured(ConfigResource(.group, "Mühle"), changes: ["consumer.session.timeout.ms": nil]),
  .groupDeleted(group: "g"),
  .offsetsDeleted(group: "g", partitions: [TopicPartition("t", 0), TopicPartition("t", 1)]),
  .quotasChanged(
    QuotaEntity(user: .standard, clientID: .named("c")), limits: ["producer_byte_rate": 0.1, "request_percentage": nil]),
  .quotasChanged(QuotaEntity(address: .named("::1")), limits: [:]),
  .jobOwned(name: "j", epoch: 3, owner: .max), .jobStopped(name: "j", isStopped: true),
  .security(.userSet(name: "alice", tags: ["administrator", "monitoring"])), .security(.userRemoved(name: "bob")),
  .security(.credentialSet(user: "alice", credential(.sha512))),
  .security(.credentialRemoved(user: "alice", .sha256)),
  .security(.rulesChanged(added: [ordersRule], removed: [everythingRule, ordersRule])),
  .security(.serverKeySet(Secret([1, 2]))),
]

private func credential(_ mechanism: ScramMechanism) -> ScramCredential {
  .standIn(for: "alice", mechanism: mechanism, key: Secret("sixteen bytes of a key"), iterations: 4096)
}

private let ordersRule = AccessRule(ResourcePattern(.topic, "orders", isPrefix: true), Principal("alice"), .read)
private let everythingRule = AccessRule(
  ResourcePattern(.queue, "*"), .everybody, host: "10.0.0.1", .all, isAllowed: false)

@Test("every administrative event is read as it was written", arguments: administrative)
func goldenRoundTrip(_ event: MetadataEvent) throws {
  #expect(try MetadataEvent(event.encoded()) == event)
}

@Test(
  "an administrative event that is cut off anywhere, or goes on behind its end, is refused", arguments: administrative)
func everyTruncation(_ event: MetadataEvent) throws {
  let bytes = event.encoded()
  for length in 0..<bytes.count {
    #expect(throws: DecodingError.self) { try MetadataEvent(bytes[0..<length]) }
  }
  #expect(throws: DecodingError.self) { try MetadataEvent(Bytes(bytes.withBuffer { Array($0) } + [0])) }
}

@Test("the kinds of administrative events keep their numbers, which lie in journals")
func goldenKinds() {
  #expect(
    administrative.map { $0.encoded().withBuffer { $0[0] } } == [
      40, 41, 42, 42, 43, 44, 45, 45, 7, 8, 70, 71, 72, 73, 74, 75,
    ])
}

/// A log whose only use is that partitions can be made in it.
final class MetadataWorld {
  let world = SimulatedWorld(seed: 1)
  var metadata = Metadata()
  let log: LogStore

  init() throws {
    var random = SeededRandom(seed: 1)
    log = try LogStore(
      configuration: LogConfiguration(directory: "/data"), fileSystem: SimulatedFileSystem(world: world),
      reactor: SimulatedReactor(world: world, name: "log"), writer: SimulatedExecutor(world: world),
      background: SimulatedExecutor(world: world), stateMachine: metadata, logger: .silent, random: &random)
  }

  deinit { world.tearDown() }

  func apply(_ events: MetadataEvent...) throws {
    for event in events { try metadata.apply(event.encoded(), log: log) }
  }
}

private func committed(_ offset: Offset) -> CommittedOffset {
  CommittedOffset(offset: offset, leaderEpoch: 0, metadata: nil, time: Timestamp(milliseconds: 5))
}

@Test("a job's worker and that it is stopped survive a snapshot, and a start without a worker forgets the worker")
func jobsSnapshot() throws {
  let world = try MetadataWorld()
  try world.apply(.jobOwned(name: "a", epoch: 1, owner: 77))
  try world.apply(.jobOwned(name: "b", epoch: 4, owner: 78))
  try world.apply(.jobStarted(name: "b", epoch: 5))
  try world.apply(.jobStopped(name: "a", isStopped: true))
  try world.apply(.jobStopped(name: "b", isStopped: true))
  try world.apply(.jobStopped(name: "b", isStopped: false))
  let restored = Metadata()
  try restored.restore(world.metadata.snapshot(), log: world.log)
  for metadata in [world.metadata, restored] {
    #expect(metadata.jobNames == ["a", "b"])
    #expect(metadata.jobEpoch("a") == 1 && metadata.jobOwner("a") == 77)
    #expect(metadata.jobEpoch("b") == 5 && metadata.jobOwner("b") == 0)
    #expect(metadata.stoppedJobs == ["a"])
  }
}

@Test("settings, partitions, quotas and deletions change the state, and a snapshot gives the same state again")
func snapshotRoundTrip() throws {
  let world = try MetadataWorld()
  let offsets = (0..<3).map { PartitionOffset(partition: TopicPartition("t", $0), committed: committed(Int64($0))) }
  let client = QuotaEntity(clientID: .named("c"))
  try world.apply(
    .topicCreated(
      name: "t", id: topic, partitions: [PartitionLogID(1)], configs: ["retention.ms": "9"], time: .none),
    .partitionsAdded(id: topic, partitions: [PartitionLogID(2), PartitionLogID(3)]),
    .topicConfigured(id: topic, changes: ["retention.ms": nil, "cleanup.policy": "compact"]),
    .resourceConfigured(ConfigResource(.broker, "0"), changes: ["num.partitions": "3"]),
    .resourceConfigured(ConfigResource(.group, "g"), changes: ["a": "b"]),
    .resourceConfigured(ConfigResource(.group, "g"), changes: ["a": nil]),
    .quotasChanged(client, limits: ["producer_byte_rate": 1, "consumer_byte_rate": 2]),
    .quotasChanged(client, limits: ["producer_byte_rate": nil]),
    .offsetsCommitted(group: "g", offsets: offsets), .offsetsCommitted(group: "gone", offsets: offsets),
    .offsetsCommitted(group: "emptied", offsets: [offsets[0]]),
    .groupDeleted(group: "gone"), .offsetsDeleted(group: "g", partitions: [TopicPartition("t", 1)]),
    .offsetsDeleted(group: "emptied", partitions: [TopicPartition("t", 0)]),
    .groupEpochsReserved(group: "g", next: 101), .groupEpochsReserved(group: "ended", next: 7),
    .groupEpochsReserved(group: "gone", next: 7), .groupEpochsReserved(group: "g", next: 201),
    .consumerGroupEnded(group: "ended"), .groupDeleted(group: "gone"),
    .security(.credentialSet(user: "alice", credential(.sha256))),
    .security(.credentialSet(user: "alice", credential(.sha512))),
    .security(.userSet(name: "alice", tags: ["administrator"])),
    .security(.credentialRemoved(user: "alice", .sha256)),
    .security(.userSet(name: "gone", tags: [])), .security(.userRemoved(name: "gone")),
    .security(.credentialSet(user: "emptied", credential(.sha256))),
    .security(.credentialRemoved(user: "emptied", .sha256)), .security(.serverKeySet(Secret("a key"))),
    .security(.userSet(name: "certified", tags: [])),
    .security(.rulesChanged(added: [ordersRule, everythingRule], removed: [])),
    .security(.rulesChanged(added: [], removed: [ordersRule])))
  func check(_ metadata: Metadata) {
    #expect(metadata.groupEpochs == ["g": 201])
    #expect(metadata.topics["t"]?.partitions.map(\.number) == [1, 2, 3])
    #expect(metadata.topics["t"]?.configs == ["cleanup.policy": "compact"])
    #expect(metadata.resourceConfigs == [ConfigResource(.broker, "0"): ["num.partitions": "3"]])
    #expect(metadata.quotas == [client: ["consumer_byte_rate": 2]])
    #expect(metadata.groupOffsets.keys.sorted() == ["g"])
    #expect(metadata.groupOffsets["g"]?.keys.map(\.partition).sorted() == [0, 2])
    #expect(metadata.newPartitions(1) == [PartitionLogID(4)])
    #expect(metadata.users.byName.keys.sorted() == ["alice", "certified"])
    #expect(metadata.users.byName["alice"]?.credentials == [.sha512: credential(.sha512)])
    #expect(metadata.users.serverKey == Secret("a key"))
    #expect(metadata.users.byName["alice"]?.isAdministrator == true)
    #expect(metadata.users.rules.sorted == [everythingRule])
  }
  check(world.metadata)
  let snapshot = world.metadata.snapshot()
  let restored = Metadata()
  try restored.restore(snapshot, log: world.log)
  check(restored)
  #expect(restored.snapshot() == snapshot)
  #expect(throws: LogError.self) {
    try Metadata().restore(Bytes(snapshot.withBuffer { Array($0) } + [99, 0, 0, 0, 0]), log: world.log)
  }
}

@Test("who holds a copy is told what changed, once the change is there")
func changesAreTold() throws {
  let world = try MetadataWorld()
  var told: [Metadata.Change] = []
  world.metadata.onChange = { told.append($0) }
  try world.apply(
    .topicCreated(name: "t", id: topic, partitions: [PartitionLogID(1)], configs: [:], time: .none),
    .topicConfigured(id: topic, changes: ["retention.ms": "5"]),
    .partitionsAdded(id: topic, partitions: [PartitionLogID(2)]),
    .resourceConfigured(ConfigResource(.broker, ""), changes: ["num.partitions": "3"]),
    .quotasChanged(QuotaEntity(clientID: .standard), limits: ["producer_byte_rate": 1]),
    .security(.rulesChanged(added: [ordersRule], removed: [])))
  var configured = try #require(world.metadata.topics["t"])
  configured.partitions = [PartitionLogID(1)]
  #expect(
    told == [
      .topic(configured), .topic(try #require(world.metadata.topics["t"])), .resource(ConfigResource(.broker, "")),
      .quotas, .security,
    ])
  #expect(configured.configs == ["retention.ms": "5"] && world.metadata.partitionAdditions == 1)
}

@Test("offsets and markers of topics that are gone by the time of their unit leave nothing behind")
func offsetsOfTopicsThatAreGone() throws {
  let world = try MetadataWorld()
  let gone = PartitionOffset(partition: TopicPartition("gone", 0), committed: committed(4))
  let kept = PartitionOffset(partition: TopicPartition("t", 0), committed: committed(5))
  let beyond = PartitionOffset(partition: TopicPartition("t", 1), committed: committed(6))
  let producer = ProducerIdentity(1, 0)
  try world.apply(
    .topicCreated(name: "t", id: topic, partitions: [PartitionLogID(1)], configs: [:], time: .none),
    .offsetsCommitted(group: "only", offsets: [gone]), .offsetsCommitted(group: "g", offsets: [gone, kept, beyond]),
    .transaction(
      .initialised("id", producer: producer, previous: .none, timeoutMilliseconds: 1000, time: .none)),
    .transaction(.partitionsAdded("id", [gone.partition, kept.partition], time: .none)),
    .transaction(.offsetsAdded("id", group: "h", [gone, kept], time: .none)),
    .transaction(.offsetsAdded("id", group: "none", [gone], time: .none)))
  #expect(world.metadata.transactions["id"]?.partitions == [kept.partition])
  #expect(world.metadata.transactions.pendingPartitions(ofGroup: "h") == [kept.partition])
  try world.apply(.transaction(.ended("id", isCommit: true, producer: producer, previous: .none, time: .none)))
  #expect(world.metadata.groupOffsets.mapValues { Set($0.keys) } == ["g": [kept.partition], "h": [kept.partition]])
}

@Test("deleting a group, or some of its offsets, takes along what transactions hold for it")
func deletedPendingOffsets() throws {
  let world = try MetadataWorld()
  let offsets = (0..<2).map { PartitionOffset(partition: TopicPartition("t", $0), committed: committed(5)) }
  let producer = ProducerIdentity(1, 0)
  try world.apply(
    .topicCreated(
      name: "t", id: topic, partitions: [PartitionLogID(1), PartitionLogID(2)], configs: [:], time: .none),
    .transaction(
      .initialised("id", producer: producer, previous: .none, timeoutMilliseconds: 1000, time: .none)),
    .transaction(.offsetsAdded("id", group: "deleted", offsets, time: .none)),
    .transaction(.offsetsAdded("id", group: "kept", offsets, time: .none)), .groupDeleted(group: "deleted"),
    .offsetsDeleted(group: "kept", partitions: [offsets[1].partition]))
  #expect(world.metadata.transactions.pendingPartitions(ofGroup: "deleted").isEmpty)
  #expect(world.metadata.transactions.pendingPartitions(ofGroup: "kept") == [offsets[0].partition])
  // A snapshot in between says the same, and what is added later counts.
  let restored = Metadata()
  try restored.restore(world.metadata.snapshot(), log: world.log)
  #expect(restored.transactions == world.metadata.transactions)
  try world.apply(
    .transaction(.offsetsAdded("id", group: "deleted", [offsets[1]], time: .none)),
    .transaction(.ended("id", isCommit: true, producer: producer, previous: .none, time: .none)))
  #expect(
    world.metadata.groupOffsets.mapValues { Set($0.keys) } == [
      "deleted": [offsets[1].partition], "kept": [offsets[0].partition],
    ])
}

@Test("an event that makes partitions which are there is refused, and changes nothing")
func partitionsTwice() throws {
  let world = try MetadataWorld()
  func created(_ name: String, _ id: TopicID, _ partition: Int64) -> MetadataEvent {
    .topicCreated(
      name: name, id: id, partitions: [PartitionLogID(partition)], configs: [:], time: Timestamp(milliseconds: 1))
  }
  try world.apply(created("t", topic, 1))
  let before = world.metadata.snapshot()
  #expect(throws: LogError.self) { try world.apply(created("u", TopicID(high: 1, low: 1), 1)) }
  #expect(throws: LogError.self) { try world.apply(.partitionsAdded(id: topic, partitions: [PartitionLogID(1)])) }
  #expect(world.metadata.snapshot() == before && world.metadata.topics.count == 1)
}

@Test("numbers that were used, or may have been in lost commits, are not given out again")
func skippedNumbers() throws {
  let world = try MetadataWorld()
  try world.apply(.started(epoch: 3, clusterID: "c"), .producerIDsReserved(next: 2000))
  world.metadata.skipNumbers(usedLeaderEpoch: 3, usedProducerID: 1999, lostCommits: 0)
  #expect(world.metadata.leaderEpoch == 3 && world.metadata.reservedProducerIDs == 2000, "nothing is lost")
  world.metadata.skipNumbers(usedLeaderEpoch: 5, usedProducerID: 4321, lostCommits: 0)
  #expect(world.metadata.leaderEpoch == 5 && world.metadata.reservedProducerIDs == 4322)
  world.metadata.skipNumbers(usedLeaderEpoch: 5, usedProducerID: 4321, lostCommits: 2)
  #expect(world.metadata.leaderEpoch == 7)
  #expect(world.metadata.reservedProducerIDs == 4322 + 2 * Metadata.producerIDBlock)
  // A client's own invention.
  world.metadata.skipNumbers(usedLeaderEpoch: -1, usedProducerID: .max, lostCommits: 0)
  #expect(world.metadata.reservedProducerIDs == 4322 + 2 * Metadata.producerIDBlock)
  try world.apply(
    .transaction(
      .initialised(
        "x", producer: ProducerIdentity(90_000, 0), previous: .none, timeoutMilliseconds: 1,
        time: Timestamp(milliseconds: 1))))
  world.metadata.skipNumbers(usedLeaderEpoch: -1, usedProducerID: -1, lostCommits: 0)
  #expect(world.metadata.reservedProducerIDs == 90_001)
}
