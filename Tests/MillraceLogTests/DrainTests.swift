// DrainTests: journal files become segments and are used again, and only when that loses nothing.

import MillraceBase
import MillraceIO
import MillraceModel
import Testing

@testable import MillraceLog

@Test("a journal file is written anew only after its records are in a durable segment and a durable snapshot")
func reuseAfterSnapshot() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  log.background.isHeld = true
  // Three files of 64 KiB: without the background nothing can be given back.
  var pending: [Pending] = []
  let batch = TestBatch(size: 6000)
  for _ in 0..<60 {
    pending.append(log.append(AppendUnit(partition, batch.bytes, try batch.header())))
    log.world.run(for: .milliseconds(20))
    // The second and the third file are made, whatever else has to wait.
    let held = log.background.heldJobs
    if log.files(".journal").count == held, held < 3 { log.background.release(held - 1) }
  }
  log.settle()
  let durable = pending.filter { $0.result != nil }.count
  #expect(durable < 60 && log.store.waitingUnits == 60 - durable, "producers wait when no file is free")
  let snapshot = try SnapshotSlots.read("/data", fileSystem: log.disk).snapshot
  #expect(snapshot?.drainedSequence ?? 0 == 0, "no snapshot of what was drained, so nothing may be given back")
  log.background.releaseAll()
  log.run { pending.allSatisfy { $0.result != nil } }
  log.settle()
  try log.restart()
  #expect(try log.readAll(log.partition(1)).count == 60)
  #expect(log.files(".journal").count <= 3)
}

@Test("power lost at any operation while files are drained and used again loses nothing", arguments: [false, true])
func recoversWhileDraining(isEncrypted: Bool) throws {
  for operation in stride(from: 1, through: 60, by: 1) {
    let log = LogWorld(seed: UInt64(operation), isEncrypted: isEncrypted)
    try log.open()
    let partition = try log.create(1)
    var batches = try log.fill(partition, batches: 40)
    log.world.crashAfterOperations(operation)
    while !log.world.isCrashed {
      let batch = TestBatch(size: 4000)
      let pending = log.append(AppendUnit(partition, batch.bytes, try batch.header()))
      log.world.run(atMost: 100_000) { pending.result != nil }
      if pending.result != nil { batches.append(batch) }
    }
    try log.restart()
    #expect(try Array(log.readAll(log.partition(1)).prefix(batches.count)) == batches.stored())
  }
}

@Test("a partition deleted while its file is drained is gone, and so is its segment in the end")
func deletedWhileDrained() throws {
  let log = LogWorld()
  try log.open()
  let doomed = try log.create(1)
  _ = try log.fillUntilDrainIsHeld(doomed)
  let deletion = log.append(AppendUnit(event: Bytes("delete 1")))
  log.run { deletion.result != nil }
  let late = log.append(AppendUnit(doomed, TestBatch().bytes, try TestBatch().header()))
  #expect(late.error?.code == .unknownPartition)
  log.background.releaseAll()
  log.settle()
  let kept = try log.create(2)
  let batches = try log.fill(kept, batches: 120)
  log.settle()
  try log.restart()
  #expect(log.store.partition(PartitionLogID(1)) == nil)
  #expect(try log.readAll(log.partition(2)) == batches.stored())
  let named = try log.partition(2).extents.map { "/data/segments/\(SegmentFormat.name($0.segment))" }
  #expect(Set(log.files(".segment")) == Set(named))
}

@Test("a full disk refuses or holds what needs room, and everything goes on when there is room again")
func noSpaceThenSpace() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  log.disk.capacity = log.disk.usedBytes
  let batch = TestBatch(size: 6000)
  var taken: [Offset] = []
  var refused = 0
  for _ in 0..<40 {
    let pending = log.append(AppendUnit(partition, batch.bytes, try batch.header()))
    log.world.run(for: .milliseconds(100))
    switch pending.result {
    case .success(let appended): taken.append(appended[0].baseOffset)
    case .failure(let error):
      #expect(error.code == .noSpace)
      refused += 1
    case nil: break
    }
  }
  #expect(refused > 0 && !taken.isEmpty)
  #expect(log.failures.isEmpty, "a full disk is no failed flush")
  log.disk.capacity = 1 << 40
  log.settle()
  var offset: Offset = 0
  for _ in 0..<40 { offset = try log.append(batch, to: partition) }
  try log.restart()
  #expect(try log.readAll(log.partition(1)).count == Int(offset) + 1)
}

@Test("a snapshot that failed is tried again, so that files are given back although nothing is sealed")
func failedSnapshotIsTriedAgain() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  log.disk.faults.predicate = { $0.path.contains("snapshot") ? .noSpace : nil }
  let batch = TestBatch(size: 6000)
  let pending = try (0..<60).map { _ in log.append(AppendUnit(partition, batch.bytes, try batch.header())) }
  log.settle()
  #expect(pending.contains { $0.error?.code == .noSpace } && log.store.waitingUnits == 0)
  log.disk.faults.predicate = nil
  log.settle()
  for _ in 0..<60 { try log.append(batch, to: partition) }
}

@Test("start offsets outlive restarts, snapshots and drains; what lies below is not read any more")
func startOffsets() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  _ = try log.fill(partition, batches: 60)
  var unit = AppendUnit()
  unit.startOffsets = [(partition, 30)]
  let pending = log.append(unit)
  log.run { pending.result != nil }
  let end = partition.nextOffset
  for step in 0..<3 {
    if step == 2 { #expect(try log.close() == nil) }
    try log.restart()
    let partition = try log.partition(1)
    #expect(partition.startOffset == 30 && partition.nextOffset == end)
    guard case .failure(let error) = log.read(partition, from: 29) else {
      Issue.record("offset 29 was read")
      return
    }
    #expect(error.code == .offsetOutOfRange)
    #expect(try log.readAll(partition).first.map { try RecordBatchHeader($0).nextOffset > 30 } == true)
  }
}

@Test("leader epochs and where they began outlive restarts, snapshots and drains")
func leaderEpochs() throws {
  let log = LogWorld()
  try log.open()
  _ = try log.create(1)
  var starts: [LeaderEpochStart] = []
  for epoch: Int32 in 0..<5 {
    log.leaderEpoch = epoch
    log.store.leaderEpoch = epoch
    starts.append(LeaderEpochStart(epoch: epoch, startOffset: try log.partition(1).nextOffset))
    _ = try log.fill(try log.partition(1), batches: 20)
    #expect(try log.partition(1).epochs == starts)
    if epoch == 2 { #expect(try log.close() == nil) }
    try log.restart()
    #expect(try log.partition(1).epochs == starts)
  }
  let partition = try log.partition(1)
  #expect(partition.endOffset(ofEpoch: 1)?.endOffset == starts[2].startOffset)
  #expect(partition.endOffset(ofEpoch: 9)?.endOffset == partition.highWatermark)
  for batch in try log.readAll(partition) {
    let header = try RecordBatchHeader(batch)
    #expect(header.leaderEpoch == partition.epoch(ofOffset: header.baseOffset))
  }
}

@Test("a partition can be deleted while nothing else has room, and its space comes back")
func deletionOnAFullDisk() throws {
  let log = LogWorld()
  try log.open()
  let doomed = try log.create(1)
  let kept = try log.create(2)
  let batches = try log.fill(kept, batches: 3)
  _ = try log.fill(doomed, batches: 120)
  log.settle()
  log.disk.capacity = log.disk.usedBytes + 8000
  for size in [6000, 50] {
    var isFull = false
    while !isFull {
      let batch = TestBatch(size: size)
      let pending = log.append(AppendUnit(doomed, batch.bytes, try batch.header()))
      log.run { pending.result != nil }
      isFull = pending.error?.code == .noSpace
    }
  }
  let refused = log.append(AppendUnit(event: Bytes("create 3")))
  log.run { refused.result != nil }
  #expect(refused.error?.code == .noSpace)
  var deletion = AppendUnit(event: Bytes("delete 1"))
  deletion.givesSpaceBack = true
  let deleted = log.append(deletion)
  log.run { deleted.result != nil }
  #expect(deleted.error == nil)
  log.settle()
  let after = log.append(AppendUnit(event: Bytes("create 3")))
  log.run { after.result != nil }
  #expect(after.error == nil, "\(after.error?.reason ?? "")")
  try log.restart()
  #expect(log.store.partition(PartitionLogID(1)) == nil)
  #expect(try log.readAll(log.partition(2)) == batches.stored())
}

@Test("a deleted partition's segments are removed although nothing else is written")
func deletionGivesSegmentsBack() throws {
  let log = LogWorld()
  try log.open()
  _ = try log.fill(try log.create(1), batches: 120)
  log.settle()
  #expect(!log.files(".segment").isEmpty)
  var deletion = AppendUnit(event: Bytes("delete 1"))
  deletion.givesSpaceBack = true
  let deleted = log.append(deletion)
  log.run { deleted.result != nil }
  log.settle()
  #expect(log.files(".segment").isEmpty)
}

@Test("producers are refused, not left waiting, when all journal files are full and none can be drained")
func refusedWhenNothingDrains() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  log.disk.faults.predicate = { $0.path.hasSuffix(".segment") ? .noSpace : nil }
  let batch = TestBatch(size: 6000)
  var last: LogError?
  for _ in 0..<80 {
    let pending = log.append(AppendUnit(partition, batch.bytes, try batch.header()))
    log.run { pending.result != nil }
    last = pending.error
  }
  #expect(last?.code == .noSpace)
  #expect(log.store.waitingUnits == 0)
  log.disk.faults.predicate = nil
  log.settle()
  try log.append(batch, to: partition)
}

@Test("sparse files are drained together, in fewer segments than files, from memory or in large reads")
func sparseFilesShareSegments() throws {
  for seed: UInt64 in 1...6 {
    let log = LogWorld(seed: seed) {
      $0.journalFileLimit = 12
      // With the smaller one, memory has dropped what waits, and packed copies serve.
      $0.hotTailSize = seed % 2 == 0 ? 64 << 10 : 1 << 20
    }
    try log.open()
    let partitions = try (1...3).map { try log.create(Int64($0)) }
    var expected: [[TestBatch]] = [[], [], []]
    for index in 0..<150 {
      let batch = TestBatch(size: Int.random(in: 1...300, using: &log.random))
      try log.append(batch, to: partitions[index % 3])
      expected[index % 3].append(batch)
      // Whoever is behind reads what waits.
      if index % 40 == 39 { #expect(try log.readAll(partitions[0], limit: 2000) == expected[0].stored()) }
    }
    log.settle()
    // 150 commits of a block each, fifteen to a file.
    #expect(partitions[0].extents.count == 1, "seed \(seed)")
    #expect(log.files(".segment").count == 1)
    #expect(log.store.drain.sealed.count < 6)
    for (index, partition) in partitions.enumerated() {
      #expect(try log.readAll(partition) == expected[index].stored())
    }
    try log.restart()
    // What is not drained yet is read back from the files.
    for index in 0..<150 {
      let batch = TestBatch(size: Int.random(in: 1...300, using: &log.random))
      try log.append(batch, to: log.partition(Int64(index % 3) + 1))
      expected[index % 3].append(batch)
    }
    try log.restart()
    for index in 0..<3 { #expect(try log.readAll(log.partition(Int64(index) + 1)) == expected[index].stored()) }
  }
}

@Test("a snapshot is not written for every drained file when room is plenty, and is when it is short")
func snapshotsAreRare() throws {
  let log = LogWorld { $0.journalFileLimit = 12 }
  try log.open()
  // Merging would ask for snapshots, too.
  log.store.cleaning.isRunning = true
  let partition = try log.create(1)
  _ = try log.fill(partition, batches: 160, size: 2900...3000)
  log.settle()
  let drained = log.store.drain.drainedFile
  #expect(drained >= 6)
  #expect(log.store.drain.slots.number >= 1 && log.store.drain.slots.number <= drained / 3 + 1)
}

@Test(
  "recovers: a segment that was begun, but not made, when names became durable is made durable before it is named",
  arguments: [false, true])
func recoversSegmentBegunDuringSnapshot(isEncrypted: Bool) throws {
  for seed: UInt64 in 1...12 {
    let log = LogWorld(seed: seed, isEncrypted: isEncrypted)
    try log.open()
    let partition = try log.create(1)
    let batches = try log.fillUntilDrainIsHeld(partition)
    let held = log.background.heldJobs
    var snapshots = 0
    log.store.takeSnapshot { snapshots += 1 }
    log.run { log.background.heldJobs > held }
    log.background.release(log.background.heldJobs - 1)
    log.run { snapshots == 1 }
    // Now the segment is made, and the next snapshot names it.
    log.background.releaseAll()
    log.settle()
    log.store.takeSnapshot { snapshots += 1 }
    log.run { snapshots == 2 }
    #expect(!log.files(".segment").isEmpty)
    try log.restart(.powerLoss)
    #expect(try log.readAll(try log.partition(1)).count == batches.count, "seed \(seed)")
  }
}

@Test("a start that moves after its partition was deleted gives nothing back again: segments shared with others stay")
func startOfADeletedPartition() throws {
  let log = LogWorld()
  try log.open()
  let doomed = try log.create(1)
  let kept = try log.create(2)
  var batches: [TestBatch] = []
  for _ in 0..<60 {
    _ = try log.fill(doomed, batches: 1, size: 1000...3000)
    batches += try log.fill(kept, batches: 1, size: 1000...3000)
  }
  log.settle()
  #expect(!kept.extents.isEmpty && !doomed.extents.isEmpty)
  let deletion = log.append(AppendUnit(event: Bytes("delete 1")))
  log.run { deletion.result != nil }
  // As retention's unit does that had to wait for room while the deletion went ahead of it.
  var late = AppendUnit()
  late.startOffsets = [(doomed, doomed.highWatermark)]
  let moved = log.append(late)
  log.run { moved.result != nil }
  var isDone = false
  log.store.takeSnapshot { isDone = true }
  log.run { isDone }
  log.settle()
  #expect(try log.readAll(kept) == batches.stored())
  try log.restart()
  #expect(try log.readAll(log.partition(2)) == batches.stored())
}

@Test("nothing is kept of a journal file that was drained")
func drainedFilesAreForgotten() throws {
  var drain = DrainState()
  let partition = PartitionLog(id: PartitionLogID(1))
  for file: UInt64 in 1...100 {
    drain.touched(partition, file: file, length: 10)
    #expect(drain.recordBytes(of: file) == 10)
    #expect(drain.forget(file: file).count == 1)
    #expect(drain.recordBytes(of: file) == 0 && drain.undrainedBytes == 0)
  }
  #expect(drain.recordBytes.isEmpty)
  // A file that is not the newest keeps its count until it goes.
  drain.touched(partition, file: 101, length: 10)
  drain.touched(partition, file: 102, length: 20)
  #expect(drain.undrainedBytes == 30 && drain.recordBytes(of: 101) == 10)
  _ = drain.forget(file: 101)
  #expect(drain.undrainedBytes == 20 && drain.recordBytes.isEmpty)
}
