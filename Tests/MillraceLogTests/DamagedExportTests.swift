// DamagedExportTests: the state of an exported log agrees with the records that are left, whatever was lost.

import MillraceBase
import MillraceIO
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceLog

extension LogWorld {
  /// The commits on the disk.
  fileprivate func commits() throws -> [InspectedCommit] {
    var out: [InspectedCommit] = []
    _ = try LogInspection.run(directory: configuration.directory, fileSystem: disk) { out.append($0) }
    return out
  }

  /// Does something that becomes one commit, and damages that once the machine has ended.
  fileprivate func losing(_ body: () throws -> Void) throws -> UInt64 {
    try body()
    return store.journal.lastSequence
  }

  /// Ends the machine, damages commits, exports the rest, and opens the log on it.
  fileprivate func exportAndOpen(without lost: [UInt64] = []) throws -> (export: LogExport, machine: TestStateMachine) {
    settle()
    end()
    let commits = try commits()
    for sequence in lost {
      let commit = try #require(commits.first { $0.sequence == sequence })
      try damage(commit.file, at: commit.position + JournalFormat.commitHeaderSize + 3)
    }
    let machine = TestStateMachine()
    let export = try LogExport.run(
      from: configuration.directory, to: "/new", fileSystem: disk, stateMachine: machine,
      reactor: SimulatedReactor(world: world, name: "export"), logger: .silent, random: &random)
    configuration.directory = "/new"
    try open()
    return (export, machine)
  }

  /// What a consumer of committed records is shown.
  fileprivate func values(_ partition: Int64) throws -> [String] {
    try showAll(self.partition(partition), limit: 1 << 20).compactMap(\.value)
  }
}

private func transactional(_ value: String, _ sequence: Int32, producer: Int64 = 5) throws -> (
  bytes: Bytes, header: RecordBatchHeader
) {
  try keyedBatch([("k", value)], time: 1, producer: producer, sequence: sequence, isTransactional: true)
}

@Test("the size of an exported partition is that of what is left of it")
func sizeOfWhatIsLeft() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  _ = try log.fill(partition, batches: 120)
  log.settle()
  let taken = log.append(AppendUnit(event: Bytes("noted")))
  log.run { taken.result != nil }
  var isTaken = false
  log.store.takeSnapshot { isTaken = true }
  log.run { isTaken }
  try #require(partition.extents.count > 3)
  for extent in partition.extents[..<3] {
    try log.damage("/data/segments/\(SegmentFormat.name(extent.segment))", at: Int(extent.indexPosition) + 5)
  }
  let before = partition.size
  let gone = partition.extents[..<3].reduce(0) { $0 + $1.bytes }
  let (export, _) = try log.exportAndOpen()
  let left = try log.partition(1)
  #expect(export.losses.count == 3 && export.bytes == before - gone)
  #expect(left.size == before - gone && left.size == left.extents.reduce(0) { $0 + $1.bytes })
}

@Test("an event that makes a partition which is there is left out and reported")
func exportsBesideContradiction() throws {
  let world = SimulatedWorld(seed: 1)
  let disk = SimulatedFileSystem(world: world)
  var journal = MadeJournal()
  let one = journal.add(1, after: 0, event: "create 1")
  let two = journal.add(2, after: one, durable: 1, event: "create 1")
  journal.add(3, after: two, durable: 2, event: "create 2")
  try disk.createDirectories("/data/journal")
  try disk.createDirectories("/data/segments")
  try journal.write("/data/journal/00000001.journal", to: disk)
  let machine = TestStateMachine()
  var random = SeededRandom(seed: 1)
  let export = try LogExport.run(
    from: "/data", to: "/new", fileSystem: disk, stateMachine: machine,
    reactor: SimulatedReactor(world: world, name: "export"), logger: .silent, random: &random)
  #expect(export.partitions == 2 && machine.events == ["create 1", "create 2"])
  // Snapshots there are none.
  let told = export.losses.map(\.reason).filter { !$0.contains("snapshot") }
  #expect(told.count == 1 && told[0].contains("commit 2 at byte") && told[0].contains("there already"), "\(told)")
}

@Test("numbers that lost commits may have given out are skipped, and no partition remembers producers")
func countersAfterLoss() throws {
  for isDamaged in [false, true] {
    let log = LogWorld()
    log.leaderEpoch = 7
    try log.open()
    let first = try log.create(1)
    let second = try log.create(2)
    try log.append(TestBatch(producer: 70, epoch: 0, sequence: 0), to: second)
    try log.append(TestBatch(producer: 90, epoch: 0, sequence: 0), to: first)
    let lost = try log.losing { try log.append(TestBatch(producer: 70, epoch: 0, sequence: 1), to: first) }
    try log.append(TestBatch(producer: 90, epoch: 0, sequence: 1), to: first)
    let (export, machine) = try log.exportAndOpen(without: isDamaged ? [lost] : [])
    #expect(machine.skipped.count == 1)
    let skipped = try #require(machine.skipped.first)
    #expect(skipped.leaderEpoch == 7 && skipped.producerID == 90 && skipped.lostCommits == (isDamaged ? 1 : 0))
    #expect(export.losses.isEmpty == !isDamaged)
    // The lost batch might have been the second's.
    #expect(try log.partition(2).activeProducers.map(\.id) == (isDamaged ? [] : [70]))
  }
}

@Test("an aborted transaction whose marker is lost in a segment hides no later one of its producer")
func lostMarkerInSegment() throws {
  let log = LogWorld { $0.hotTailSize = 64 << 10 }
  try log.open()
  let partition = try log.create(1)
  func pad() throws { _ = try log.fill(partition, batches: 4, size: 5000...5000) }
  try log.append(try transactional("void", 0), to: partition)
  try pad()
  let marker = partition.nextOffset
  try log.finish(try log.end(5, commit: false, in: [partition]))
  try pad()
  try log.append(try transactional("good", 1), to: partition)
  try log.finish(try log.end(5, commit: true, in: [partition]))
  _ = try log.fill(partition, batches: 120)
  log.settle()
  var isTaken = false
  log.store.takeSnapshot { isTaken = true }
  log.run { isTaken }
  #expect(partition.transactions.aborted.count == 1)
  let extent = try #require(partition.extents.first { $0.nextOffset > marker })
  let block = try #require(try log.store.segments.index(extent).first { $0.lastOffset >= marker })
  try log.damage("/data/segments/\(SegmentFormat.name(extent.segment))", at: Int(block.position) + 30)
  let (export, _) = try log.exportAndOpen()
  #expect(export.losses.count == 1 && export.losses.first?.offsets?.contains(marker) == true)
  let shown = try log.values(1)
  #expect(shown.contains("good") && !shown.contains("void"))
  #expect(try log.partition(1).transactions.aborted.isEmpty)
}

@Test(
  "a transaction whose end is lost joins no later one of its producer: it is left out and reported",
  arguments: [true, false])
func lostMarkerInJournal(wasCommitted: Bool) throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  try log.append(TestBatch(), to: partition)
  try log.append(try transactional("first", 0), to: partition)
  let lost = try log.losing { try log.finish(try log.end(5, commit: wasCommitted, in: [partition])) }
  try log.append(try transactional("second", 1), to: partition)
  try log.finish(try log.end(5, commit: !wasCommitted, in: [partition]))
  try log.append(try transactional("third", 2), to: partition)
  try log.finish(try log.end(5, commit: true, in: [partition]))
  let (export, _) = try log.exportAndOpen(without: [lost])
  let shown = try log.values(1)
  #expect(
    shown.filter { ["first", "second", "third"].contains($0) } == (wasCommitted ? ["third"] : ["second", "third"]))
  #expect(export.losses.contains { $0.reason.contains("the transaction of producer 5") && $0.offsets == 1...1 })
  #expect(try log.partition(1).lastStableOffset == log.partition(1).highWatermark)
}

@Test("a transaction that was open when commits were lost, and of which nothing follows, is left out and reported")
func lostMarkerAtTheEnd() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  let other = try log.create(2)
  try log.append(TestBatch(), to: partition)
  try log.append(try transactional("first", 0), to: partition)
  let lost = try log.losing { try log.finish(try log.end(5, commit: false, in: [partition])) }
  try log.append(TestBatch(), to: other)
  let (export, _) = try log.exportAndOpen(without: [lost])
  let left = try log.partition(1)
  #expect(left.openTransaction(ofProducer: 5) == nil && left.nextOffset == 1)
  #expect(export.losses.contains { $0.reason.contains("the transaction of producer 5") && $0.offsets == 1...1 })
  #expect(try log.values(1).count == 1 && log.values(2).count == 1)
}

@Test("a transaction of which nothing can be lost outlives lost commits of others")
func transactionBesideLoss() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  let other = try log.create(2)
  try log.append(try transactional("one", 0), to: partition)
  try log.append(TestBatch(), to: other)
  let lost = try log.losing { try log.append(TestBatch(), to: other) }
  try log.append(try transactional("two", 1), to: partition)
  try log.finish(try log.end(5, commit: true, in: [partition]))
  try log.append(TestBatch(), to: other)
  let (export, _) = try log.exportAndOpen(without: [lost])
  #expect(try log.values(1) == ["one", "two"])
  #expect(!export.losses.contains { $0.partition == PartitionLogID(1) })
}
