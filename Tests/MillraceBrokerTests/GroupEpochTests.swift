// GroupEpochTests: no epoch leaves before it is reserved durably, also when the log has no room or refuses.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceBroker

/// Passes jobs on, or holds them back while told to.
///
/// Safety: as its world, used by one thread.
private final class Gate: BlockingExecutor, @unchecked Sendable {
  private let inner: SimulatedExecutor
  private var jobs: [@Sendable () -> Void] = []
  var isHeld = false {
    didSet {
      guard !isHeld else { return }
      for job in jobs { inner.submit(job) }
      jobs = []
    }
  }

  init(_ inner: SimulatedExecutor) { self.inner = inner }

  func submit(_ job: @escaping @Sendable () -> Void) {
    if isHeld { jobs.append(job) } else { inner.submit(job) }
  }
}

/// Classic consumers that all say the same.
private struct PlainCodec: ClassicConsumerCodec {
  func subscription(_ metadata: Bytes) -> ClassicSubscription? {
    ClassicSubscription(topics: ["t"], owned: [], version: 1)
  }
  func assignment(_ bytes: Bytes) -> [TopicPartition]? { [] }
  func encode(_ partitions: [TopicPartition], version: Int16) -> Bytes { Bytes() }
}

/// A broker with so small a journal that it soon has no room.
private final class EpochWorld {
  typealias Outcome = Result<ConsumerHeartbeatAnswer, BrokerError>

  let world = SimulatedWorld(seed: 5)
  var disk: SimulatedFileSystem
  private(set) var broker: Broker!
  private(set) var background: Gate!
  private(set) var outcomes: [String: Outcome] = [:]
  /// Answers to classic members' calls.
  private(set) var joins: [String: Result<GroupJoined, BrokerError>] = [:]

  init() throws {
    disk = SimulatedFileSystem(world: world)
    try open()
    var isMade = false
    broker.createTopic("t", partitions: 4) { _ in isMade = true }
    try #require(world.run { isMade })
  }

  deinit { world.tearDown() }

  private func open() throws {
    var log = LogConfiguration(directory: "/data")
    log.journalFileSize = 64 << 10
    log.firstJournalFileSize = 64 << 10
    log.journalFileLimit = 3
    log.hotTailSize = 256 << 10
    log.commitSize = 16 << 10
    log.largestUnit = 48 << 10
    background = Gate(SimulatedExecutor(world: world))
    broker = try Broker(
      log: log, fileSystem: disk, reactor: SimulatedReactor(world: world, name: "broker"),
      writer: SimulatedExecutor(world: world), background: background, logger: .silent, seed: 1)
  }

  func restart() throws {
    world.crash()
    world.restart()
    disk = disk.reopen()
    broker = nil
    try open()
  }

  /// Sends a heartbeat whose answer is kept under the member's id, or another name.
  func beat(_ member: String, _ epoch: Int32, as name: String? = nil) {
    var beat = ConsumerHeartbeat(group: "g", memberID: member, epoch: epoch, clientID: "c", clientHost: "/h")
    if epoch == 0 {
      beat.rebalanceTimeout = .seconds(30)
      beat.topics = ["t"]
      beat.owned = []
    }
    outcomes[name ?? member] = nil
    broker.groups.heartbeat(beat) { self.outcomes[name ?? member] = $0 }
  }

  /// A classic member joins, or joins again.
  func join(_ member: String) {
    joins[member] = nil
    broker.groups.join(
      GroupJoinRequest(
        group: "g", memberID: member, instanceID: nil, clientID: "c", clientHost: "/h", sessionTimeout: .seconds(10),
        rebalanceTimeout: .seconds(30), protocolType: "consumer", protocols: [("range", Bytes())],
        requiresKnownID: true)
    ) { self.joins[member] = $0 }
  }

  /// Members join until their answers wait for room.
  func joinUntilWaiting() throws {
    _ = try useUp()
    try congest()
    for member in ["a", "b", "c", "d"] { beat(member, 0) }
    world.run(for: .seconds(1))
    try #require(outcomes["d"] == nil && broker.isCongested)
  }

  func answer(_ member: String, _ epoch: Int32) throws -> Int32 {
    beat(member, epoch)
    try #require(world.run { outcomes[member] != nil })
    return try #require(outcomes[member]).get().epoch
  }

  func code(_ member: String) -> BrokerError.Code? {
    guard case .failure(let error) = outcomes[member] else { return nil }
    return error.code
  }

  func epoch(_ member: String) -> Int32? {
    guard case .success(let answer) = outcomes[member] else { return nil }
    return answer.epoch
  }

  /// A committed offset whose text takes room in the journal.
  func fill(
    _ size: Int = 3000, group: String = "other", _ done: @escaping (BrokerError?) -> Void = { _ in }
  ) {
    let committed = CommittedOffset(
      offset: 1, leaderEpoch: -1, metadata: String(repeating: "x", count: size), time: broker.reactor.wallClock)
    broker.groups.commit(
      group: group, offsets: [PartitionOffset(partition: TopicPartition("t", 0), committed: committed)],
      completion: done)
  }

  /// Fills the journal until units wait for room.
  func congest() throws {
    background.isHeld = true
    var count = 0
    while !broker.isCongested {
      fill()
      world.run(for: .milliseconds(50))
      count += 1
      try #require(count < 1000)
    }
  }

  /// Members join and leave until nothing is reserved any more; the last epoch that was told.
  func useUp() throws -> Int32 {
    _ = try answer("stays", 0)
    var last: Int32 = 0
    while last + 3 < broker.metadata.groupEpochs["g"] ?? 0 {
      last = try answer("passes", 0)
      _ = try answer("passes", -1)
    }
    return last
  }
}

@Test("while the journal has no room a heartbeat waits for its epoch to be reserved, and others are not told it either")
func epochsWaitForRoom() throws {
  let world = try EpochWorld()
  let last = try world.useUp()
  try world.congest()
  for member in ["a", "b", "c", "d"] { world.beat(member, 0) }
  world.world.run(for: .seconds(5))
  let reserved = try #require(world.broker.metadata.groupEpochs["g"])
  let told = ["a", "b", "c", "d"].compactMap { world.epoch($0) }
  #expect(told.allSatisfy { $0 < reserved }, "told \(told), reserved below \(reserved)")
  #expect(world.outcomes["d"] == nil && world.broker.isCongested)
  // A crash now must not lead to any of these epochs again.
  world.background.isHeld = false
  try #require(world.world.run { ["a", "b", "c", "d"].allSatisfy { world.outcomes[$0] != nil } })
  let newest = try #require(world.epoch("d"))
  #expect(newest > last)
  try world.restart()
  #expect(try world.answer("new", 0) > newest)
}

@Test("when the log refuses, a heartbeat is told to try again; the epoch that then comes is durable")
func epochsRefused() throws {
  let world = try EpochWorld()
  _ = try world.useUp()
  world.disk.faults.predicate = { $0.path.hasSuffix(".segment") || $0.path.contains("snapshot") ? .noSpace : nil }
  // Until there is no room for anything, however small.
  for size in [3000, 0] {
    var isRefused = false
    for _ in 0..<2000 where !isRefused {
      var outcome: BrokerError??
      world.fill(size) { outcome = .some($0) }
      try #require(world.world.run { outcome != nil })
      if case .some(.some) = outcome { isRefused = true }
    }
    #expect(isRefused)
  }
  var codes: [BrokerError.Code?] = []
  for member in ["a", "b", "c", "d"] {
    world.beat(member, 0)
    try #require(world.world.run { world.outcomes[member] != nil })
    codes.append(world.code(member))
  }
  let reserved = try #require(world.broker.metadata.groupEpochs["g"])
  #expect(codes.last == .some(.groupUnavailable), "\(codes)")
  #expect(["a", "b", "c", "d"].compactMap { world.epoch($0) }.allSatisfy { $0 < reserved })
  world.disk.faults.predicate = nil
  world.world.run(for: .seconds(5))
  let told = try world.answer("d", 0)
  try world.restart()
  #expect(try world.answer("new", 0) > told)
}

@Test("an answer that waited for a group that has ended is not given for the next group of its name")
func epochsOfAnEarlierLife() throws {
  let world = try EpochWorld()
  try world.congest()
  world.beat("early", 0)
  // The group ends with its last member, and another one begins.
  world.beat("early-leaves", 0)
  world.broker.groups.consumers["g"] = nil
  world.beat("late", 0)
  #expect(world.outcomes.isEmpty)
  world.background.isHeld = false
  try #require(world.world.run { world.outcomes.count == 3 })
  #expect(world.code("early") == .unknownMember && world.code("early-leaves") == .unknownMember)
  let told = try #require(world.epoch("late"))
  try world.restart()
  #expect(try world.answer("new", 0) > told)
}

@Test("a group that ends and begins anew while the journal has no room keeps its reservation")
func endWhileCongested() throws {
  let world = try EpochWorld()
  _ = try world.answer("m", 0)
  try world.congest()
  _ = try world.answer("m", -1)
  world.beat("n", 0)
  world.background.isHeld = false
  try #require(world.world.run { world.outcomes["n"] != nil })
  let told = try #require(world.epoch("n"))
  world.world.run(for: .seconds(5))
  try world.restart()
  #expect(try world.answer("new", 0) > told)
}

@Test("a group whose last member leaves while a commit of its offsets waits for room keeps its epochs")
func leaveBehindWaitingCommit() throws {
  let world = try EpochWorld()
  let told = try world.answer("m", 0)
  try world.congest()
  var isCommitted = false
  world.fill(group: "g") { isCommitted = $0 == nil }
  world.beat("m", -1)
  #expect(world.epoch("m") == -1 && !isCommitted && world.broker.isCongested)
  world.background.isHeld = false
  try #require(world.world.run { isCommitted })
  world.world.run(for: .seconds(5))
  #expect(world.broker.metadata.groupOffsets["g"] != nil)
  #expect(try world.answer("n", 0) > told)
}

@Test("a member whose answer waits is not late, however long that takes, and has its whole session when it is told")
func waitingIsNotSilence() throws {
  let world = try EpochWorld()
  try world.joinUntilWaiting()
  world.world.run(for: .seconds(60))
  #expect(world.outcomes["d"] == nil && world.broker.isCongested)
  world.background.isHeld = false
  try #require(world.world.run { world.outcomes["d"] != nil })
  let told = try #require(world.epoch("d"))
  world.world.run(for: .seconds(40))
  #expect(try world.answer("d", told) >= told, "its session is 45 s")
  world.world.run(for: .seconds(46))
  world.beat("d", told)
  #expect(world.code("d") == .unknownMember)
}

@Test("a member that went while its answer waited is not told that it has joined")
func goneWhileWaiting() throws {
  let world = try EpochWorld()
  try world.joinUntilWaiting()
  world.beat("d", -1, as: "leaves")
  #expect(world.epoch("leaves") == -1)
  world.background.isHeld = false
  try #require(world.world.run { world.outcomes["d"] != nil })
  #expect(world.code("d") == .unknownMember)
}

@Test("a classic member whose answer waits while its group goes back to the classic protocol keeps its id")
func classicWhileWaiting() throws {
  let world = try EpochWorld()
  world.broker.groups.classicCodec = PlainCodec()
  _ = try world.useUp()
  try world.congest()
  for member in ["a", "b", "c", "d"] { world.join(member) }
  world.world.run(for: .seconds(5))
  #expect(world.joins["d"] == nil && world.broker.isCongested)
  world.beat("stays", -1)
  #expect(world.broker.groups.kind("g") == .classic)
  world.background.isHeld = false
  try #require(world.world.run { world.joins["d"] != nil })
  guard case .failure(let error) = world.joins["d"] else { Issue.record("it was told an epoch"); return }
  #expect(error.code == .rebalanceInProgress)
  for member in ["a", "b", "c", "d"] { world.join(member) }
  try #require(world.world.run { world.joins["d"] != nil })
  #expect(try world.joins["d"]?.get().memberID == "d")
}
