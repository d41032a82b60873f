// PartitionTests: partitions are added and records deleted, durably; and groups with their offsets.

import MillraceMetadata
import MillraceModel
import Testing

@testable import MillraceBroker

@Test("added partitions stand behind the others, can be written at once and are there after a power loss")
func addedPartitions() throws {
  let world = try AdminWorld()
  let before = try world.createTopic(partitions: 2)
  try world.createTopic("other")
  let after = try world.wait { world.broker.addPartitions(to: before.id, total: 5, completion: $0) }.get()
  #expect(after.partitions.prefix(2) == before.partitions[...] && after.partitions.count == 5)
  #expect(Set(after.partitions).count == 5 && world.broker.partitionAdditions == 1)
  #expect(try world.produce(partition: 4) == 0)
  try world.restart()
  #expect(try world.topic().partitions == after.partitions)
  #expect(try world.produce(partition: 4) == 1)
  for (total, code) in [(5, BrokerError.Code.invalidPartitions), (4, .invalidPartitions), (10_001, .invalidPartitions)]
  {
    let topic = try world.topic()
    #expect(
      refusal { _ = try world.wait { world.broker.addPartitions(to: topic.id, total: total, completion: $0) }.get() }
        == code)
  }
}

@Test("records below an offset are gone for good, others stay, and what is beyond the end is refused")
func deletedRecords() throws {
  let world = try AdminWorld()
  try world.createTopic()
  for _ in 0..<5 { try world.produce() }
  #expect(try world.deleteRecords(before: 3) == 3)
  #expect(try world.deleteRecords(before: 2) == 3, "the start never goes back")
  #expect(refusal { _ = try world.deleteRecords(before: 6) } == .offsetOutOfRange)
  #expect(refusal { _ = try world.deleteRecords(before: -2) } == .offsetOutOfRange)
  try world.restart()
  let log = try #require(world.broker.partition(try world.topic(), 0))
  #expect(log.startOffset == 3 && log.highWatermark == 5)
  #expect(try world.deleteRecords(before: nil) == 5)
  #expect(try world.produce() == 5, "offsets go on")
  try world.configure(("cleanup.policy", .set("compact")))
  #expect(refusal { _ = try world.deleteRecords(before: nil) } == .policyViolation)
}

@Test("a reader that waits below the new start is told so at once")
func deletionWakesReaders() throws {
  let world = try AdminWorld()
  try world.createTopic()
  try world.produce()
  let log = try #require(world.broker.partition(try world.topic(), 0))
  var error: BrokerError?
  world.broker.fetch(
    [FetchTarget(partition: log, offset: 0, limit: 1000)], minimum: 10_000, limit: 1000, wait: .seconds(1_000_000)
  ) { error = $0[0].error }
  #expect(try world.deleteRecords(before: nil) == 1)
  #expect(error?.code == .offsetOutOfRange)
}

@Test("a group without members is deleted with its offsets, one that is not there is refused")
func deletedGroups() throws {
  let world = try AdminWorld()
  try world.createTopic(partitions: 2)
  func commit(_ group: String) throws {
    let offsets = (0..<2).map {
      PartitionOffset(
        partition: TopicPartition("t", $0),
        committed: CommittedOffset(offset: 0, leaderEpoch: -1, metadata: nil, time: world.world.wallClock))
    }
    let error = try world.wait { (done: @escaping (BrokerError??) -> Void) in
      world.broker.groups.commit(group: group, offsets: offsets) { done(.some($0)) }
    }
    try #require(error == .some(nil))
  }
  func delete(_ group: String) throws -> BrokerError.Code? {
    let error = try world.wait { (done: @escaping (BrokerError??) -> Void) in
      world.broker.groups.delete(group) { done(.some($0)) }
    }
    return error??.code
  }
  try commit("g")
  try commit("kept")
  #expect(try delete("g") == nil)
  #expect(try delete("g") == .unknownGroup)
  #expect(try delete("") == .invalidGroupID)
  let error = try world.wait { (done: @escaping (BrokerError??) -> Void) in
    world.broker.groups.deleteOffsets("kept", [TopicPartition("t", 1)]) { done(.some($0)) }
  }
  #expect(error == .some(nil))
  try world.restart()
  #expect(world.broker.groups.names == ["kept"])
  #expect(world.broker.groups.offsets("kept").keys.map(\.partition) == [0])
}
