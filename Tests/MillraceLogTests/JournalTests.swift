// JournalTests: the order of commits, their acknowledgement, and what happens when a write fails.

import MillraceBase
import MillraceIO
import MillraceModel
import Testing

@testable import MillraceLog

@Test("what was appended in one turn becomes durable with one write")
func oneWriteForOneTurn() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  let commits = log.store.journalFigures.commits
  let pending = try (0..<20).map { _ in
    log.append(AppendUnit(partition, TestBatch().bytes, try TestBatch().header()))
  }
  log.run { pending.allSatisfy { $0.result != nil } }
  #expect(log.store.journalFigures.commits == commits + 1)
  #expect(try pending.map { try $0.value()[0].baseOffset } == (0..<20).map { Int64($0) })
}

@Test("nothing is acknowledged, and nothing is visible, before its write has finished")
func nothingBeforeItsWrite() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  log.settle()
  log.writer.isHeld = true
  let pending = log.append(AppendUnit(partition, TestBatch().bytes, try TestBatch().header()))
  log.settle()
  #expect(pending.result == nil)
  #expect(partition.highWatermark == 0 && partition.nextOffset == 1)
  #expect(try log.read(partition, from: 0).get().isEmpty)
  #expect(log.writer.heldJobs == 1)
  log.writer.releaseAll()
  log.run { pending.result != nil }
  #expect(try pending.value()[0].baseOffset == 0)
  #expect(partition.highWatermark == 1)
}

@Test("while one commit is written the next one fills, and both are one write each")
func nextCommitFills() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  log.settle()
  log.writer.isHeld = true
  let first = log.append(AppendUnit(partition, TestBatch().bytes, try TestBatch().header()))
  log.world.run(for: .milliseconds(1))
  var later: [Pending] = []
  for _ in 0..<10 {
    later.append(log.append(AppendUnit(partition, TestBatch().bytes, try TestBatch().header())))
    log.world.run(for: .milliseconds(1))
  }
  #expect(log.writer.heldJobs == 1)
  log.writer.release()
  log.run { first.result != nil }
  log.run { log.writer.heldJobs == 1 }
  #expect(later.allSatisfy { $0.result == nil })
  log.writer.releaseAll()
  log.run { later.allSatisfy { $0.result != nil } }
}

@Test("acknowledgements leave in the order of commits, whatever order the writes end in")
func acknowledgementsInOrder() throws {
  let log = LogWorld { $0.commitSize = 1 }
  try log.open()
  let partition = try log.create(1)
  log.settle()
  log.writer.isHeld = true
  var order: [Int] = []
  for index in 0..<3 {
    log.store.append(AppendUnit(partition, TestBatch().bytes, try TestBatch().header())) { _ in order.append(index) }
    log.world.run(for: .milliseconds(1))
  }
  try #require(log.writer.heldJobs == 3)
  log.writer.release(2)
  log.settle()
  log.writer.release(1)
  log.settle()
  #expect(order.isEmpty && partition.highWatermark == 0)
  log.writer.releaseAll()
  log.run { order.count == 3 }
  #expect(order == [0, 1, 2])
}

@Test("after a failed write nothing is acknowledged any more, and what waits is told so")
func failedWriteStopsEverything() throws {
  let log = LogWorld { $0.writeDepth = 1 }
  try log.open()
  let partition = try log.create(1)
  log.settle()
  log.disk.faults.predicate = { $0.kind == .write && $0.path.hasSuffix(".journal") ? .failed : nil }
  let batch = TestBatch(size: 20_000)
  // The first is written, the second fills the next commit, the others have to wait.
  let pending = try (0..<6).map { _ in log.append(AppendUnit(partition, batch.bytes, try batch.header())) }
  #expect(log.store.waitingUnits > 0)
  log.run { pending.allSatisfy { $0.result != nil } }
  #expect(pending.allSatisfy { $0.error?.code == .stopped })
  #expect(log.failures.count == 1)
  log.disk.faults.predicate = nil
  let after = log.append(AppendUnit(partition, batch.bytes, try batch.header()))
  #expect(after.error?.code == .stopped)
  #expect(partition.highWatermark == 0)
  #expect(try log.close()?.code == .stopped)
}

@Test("a unit larger than the limit is refused with its size")
func tooLarge() throws {
  let log = LogWorld { $0.largestUnit = 1000 }
  try log.open()
  let partition = try log.create(1)
  let batch = TestBatch(size: 2000)
  let pending = log.append(AppendUnit(partition, batch.bytes, try batch.header()))
  #expect(pending.error?.code == .tooLarge)
  #expect(partition.nextOffset == 0)
}

@Test("a unit's events, batches and start offsets become durable together")
func unitsAreAtomic() throws {
  for operation in 1...4 {
    let log = LogWorld(seed: UInt64(operation))
    try log.open()
    _ = try log.create(1)
    let second = try log.create(2)
    try log.append(TestBatch(records: 3), to: second)
    log.settle()
    var unit = AppendUnit(event: Bytes("marker"))
    for number: Int64 in [1, 2] {
      unit.batches.append((try log.partition(number), TestBatch(size: 9000).bytes, try TestBatch(size: 9000).header()))
    }
    unit.startOffsets = [(second, 2)]
    log.world.crashAfterOperations(operation)
    let pending = log.append(unit)
    log.world.run(for: .seconds(1))
    let wasAcknowledged = pending.result != nil
    log.world.crashAfterOperations(nil)
    try log.restart()
    let marker = log.machine.events.contains("marker")
    #expect(!wasAcknowledged || marker)
    #expect(try log.partition(1).nextOffset == (marker ? 1 : 0))
    #expect(try log.partition(2).nextOffset == (marker ? 4 : 3))
    #expect(try log.partition(2).startOffset == (marker ? 2 : 0))
  }
}

@Test("closing refuses what waits and what comes, gives the directory up last, and opening goes on where it ended")
func closeAndReopen() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  let batches = try log.fill(partition, batches: 60)
  #expect(try log.close() == nil)
  let late = log.append(AppendUnit(partition, TestBatch().bytes, try TestBatch().header()))
  #expect(late.error?.code == .stopped)
  try log.open()
  #expect(try log.readAll(log.partition(1)) == batches.stored())
  #expect(
    try log.append(TestBatch(), to: log.partition(1)) == batches.reduce(0) { $0 + Int64(try $1.header().recordCount) })
}

@Test("closing waits for a drain under way, whose segment the last snapshot names")
func closeWaitsForDrain() throws {
  let log = LogWorld { $0.hotTailSize = 1 << 20 }
  try log.open()
  let partition = try log.create(1)
  let batches = try log.fillUntilDrainIsHeld(partition)
  var isClosed = false
  log.store.close { _ in isClosed = true }
  log.settle()
  #expect(!isClosed, "the drain is still under way")
  log.background.releaseAll()
  log.run { isClosed }
  let operations = log.world.diskOperations
  log.settle()
  #expect(log.world.diskOperations == operations, "nothing is written after the directory was given up")
  try log.restart(.processKill)
  #expect(try log.readAll(log.partition(1)) == batches.stored())
}

@Test("a second log cannot open the directory while the first one has it")
func directoryIsLocked() throws {
  let log = LogWorld()
  try log.open()
  let first = log.store
  #expect(throws: LogError.self) { try log.open() }
  _ = first
}

@Test("a journal that stays idle gives its memory back, and is read from its files then")
func idleGivesBack() throws {
  let log = LogWorld {
    $0.hotTailSize = 16 << 20
    $0.journalFileSize = 4 << 20
    $0.firstJournalFileSize = 4 << 20
    $0.commitSize = 1 << 20
  }
  try log.open()
  let partition = try log.create(1)
  var batches: [TestBatch] = []
  for _ in 0..<400 where log.store.hotTailSize <= 6 << 20 {
    batches += try log.fill(partition, batches: 1, size: 30_000...40_000)
  }
  let held = log.store.hotTailSize
  try #require(held > 6 << 20)
  log.world.run(for: Journal.shrinkDelay / 2)
  #expect(log.store.hotTailSize == held)
  // Whoever writes now and then is not idle.
  batches += try log.fill(partition, batches: 1)
  log.world.run(for: Journal.shrinkDelay / 2 + .milliseconds(500))
  #expect(log.store.hotTailSize == held)
  log.world.run(for: Journal.shrinkDelay * 2)
  #expect(log.store.hotTailSize <= 2 << 20)
  #expect(try log.readAll(partition) == batches.stored())
}
