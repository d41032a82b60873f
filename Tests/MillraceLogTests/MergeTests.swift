// MergeTests: segments that are mostly dead or small are merged; scrubbing finds damage; producers stop before the disk is
// full.

import MillraceBase
import MillraceIO
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceLog

@Test("a segment of which less than half is needed is written anew, and its space comes back")
func deadSegmentsAreMerged() throws {
  let log = LogWorld { $0.cleanerBytesPerSecond = 1 << 30 }
  try log.open()
  let doomed = try log.create(1)
  let kept = try log.create(2)
  var batches: [TestBatch] = []
  for _ in 0..<40 {
    _ = try log.fill(doomed, batches: 4, size: 2000...3000)
    batches += try log.fill(kept, batches: 1, size: 500...1000)
  }
  log.settle()
  let before = log.files(".segment").count
  #expect(before > 3)
  let deletion = log.append(AppendUnit(event: Bytes("delete 1")))
  log.run { deletion.result != nil }
  log.settle()
  log.store.compact([])
  log.run { !log.store.cleaning.isRunning }
  log.settle()
  #expect(log.store.cleaningFigures.merges >= 1)
  #expect(log.files(".segment").count < before)
  let size = log.store.drain.segments.values.reduce(0) { $0 + $1.fileSize }
  let live = log.store.drain.segments.values.reduce(0) { $0 + $1.liveBytes }
  #expect(size < 3 * live)
  #expect(try log.readAll(kept) == batches.stored())
  try log.restart()
  #expect(try log.readAll(log.partition(2)) == batches.stored())
}

@Test("many small segments become one, with one run for each partition")
func smallSegmentsAreMerged() throws {
  let log = LogWorld {
    $0.cleanerBytesPerSecond = 1 << 30
    $0.compactedSegmentSize = 1 << 20
    $0.mergedRunSize = 1 << 20
  }
  try log.open()
  let partitions = try (1...5).map { try log.create(Int64($0)) }
  var batches: [[TestBatch]] = Array(repeating: [], count: 5)
  // Nothing is merged before all is there.
  log.store.cleaning.isRunning = true
  for index in 0..<300 { batches[index % 5] += try log.fill(partitions[index % 5], batches: 1, size: 2000...3000) }
  log.settle()
  log.store.cleaning.isRunning = false
  #expect(log.files(".segment").count > LogStore.mergedSegments)
  log.store.compact([])
  log.run { !log.store.cleaning.isRunning }
  log.settle()
  #expect(log.files(".segment").count < LogStore.mergedSegments)
  for (index, partition) in partitions.enumerated() {
    #expect(partition.extents.count < LogStore.mergedSegments)
    #expect(try log.readAll(partition, limit: 5000) == batches[index].stored())
  }
  try log.restart()
  for index in 0..<5 { #expect(try log.readAll(log.partition(Int64(index) + 1)) == batches[index].stored()) }
}

@Test("retention and deletion while segments are merged leave nothing behind and lose nothing")
func mergedWhileExpiring() throws {
  for seed: UInt64 in 1...10 {
    let log = LogWorld(seed: seed) {
      $0.cleanerBytesPerSecond = 1 << 30
      $0.mergedRunSize = 1 << 20
    }
    try log.open()
    let partitions = try (1...3).map { try log.create(Int64($0)) }
    var batches: [[TestBatch]] = Array(repeating: [], count: 3)
    log.store.cleaning.isRunning = true
    for index in 0..<300 { batches[index % 3] += try log.fill(partitions[index % 3], batches: 1, size: 2000...3000) }
    log.settle()
    log.store.cleaning.isRunning = false
    log.background.isHeld = true
    log.store.compact([])
    #expect(log.store.cleaning.isRunning)
    // The start moves past some runs that are being merged, and a partition goes.
    var unit = AppendUnit()
    let start = Int64.random(in: 1..<partitions[0].highWatermark, using: &log.random)
    unit.startOffsets = [(partitions[0], start)]
    unit.events = [Bytes("delete 2")]
    let pending = log.append(unit)
    log.run { pending.result != nil }
    log.background.releaseAll()
    log.run { !log.store.cleaning.isRunning }
    log.settle()
    func check() throws {
      let first = try log.readAll(log.partition(1)).map { try RecordBatchHeader($0).nextOffset }
      let all = try batches[0].stored().map { try RecordBatchHeader($0).nextOffset }
      #expect(first == all.filter { $0 > start }, "seed \(seed)")
      #expect(try log.readAll(log.partition(3)) == batches[2].stored(), "seed \(seed)")
    }
    try check()
    try log.restart()
    try check()
  }
}

@Test("scrubbing names damaged blocks and index parts once, counts them, and goes on with the rest")
func scrubbing() throws {
  let log = LogWorld {
    $0.scrubBytesPerSecond = 1 << 20
    $0.scrubInterval = 10_000
  }
  try log.open()
  // No merges, which would read the damage, too.
  log.store.cleaning.isRunning = true
  let partition = try log.create(1)
  _ = try log.fill(partition, batches: 120)
  log.settle()
  log.world.run(for: .seconds(20))
  #expect(log.store.scrubFigures.damaged == 0 && log.store.scrubFigures.rounds > 0)
  let sound = log.store.scrubFigures.soundBytes
  #expect(sound > 100_000)
  let extents = partition.extents
  func path(_ index: Int) -> String { "/data/segments/\(SegmentFormat.name(extents[index].segment))" }
  try log.damage(path(0), at: 4096 + 100)
  try log.damage(path(1), at: Int(extents[1].indexPosition) + 5)
  log.world.run(for: .seconds(40))
  #expect(log.store.scrubFigures.damaged == 2)
  #expect(log.store.scrubFigures.rounds > 2 && log.store.scrubFigures.soundBytes > 2 * sound)
  #expect(log.lines.contains { $0.contains("damage found") && $0.contains("\(path(0)): block") })
  #expect(log.lines.contains { $0.contains("damage found") && $0.contains("\(path(1)): index") })
}

@Test("below the limit of free space records are refused, events and deletions go on, and with space records do")
func lowSpace() throws {
  let log = LogWorld { $0.lowSpace = 1 << 20 }
  try log.open()
  let partition = try log.create(1)
  try log.append(TestBatch(), to: partition)
  // Spare journal files are room, too: at most 192 KiB here.
  log.disk.capacity = log.disk.usedBytes + (1 << 19)
  log.world.run(for: .seconds(2))
  #expect(log.store.isSpaceLow && log.store.availableSpace < 1 << 20)
  let refused = log.append(AppendUnit(partition, TestBatch().bytes, try TestBatch().header()))
  #expect(refused.error?.code == .noSpace)
  #expect(try log.readAll(partition).count == 1)
  _ = try log.create(2)
  var deletion = AppendUnit()
  deletion.startOffsets = [(partition, 1)]
  let deleted = log.append(deletion)
  log.run { deleted.result != nil }
  #expect(deleted.error == nil && partition.startOffset == 1)
  // A few lines, however long it lasts.
  log.world.run(for: .seconds(100))
  #expect((1...4).contains(log.lines.filter { $0.contains("short of space") }.count))
  // A little more than the limit is not enough yet.
  log.disk.capacity = log.disk.usedBytes + (1 << 20) - 100_000
  log.world.run(for: .seconds(2))
  #expect(log.store.isSpaceLow)
  log.disk.capacity = 1 << 40
  log.world.run(for: .seconds(2))
  #expect(!log.store.isSpaceLow)
  #expect(try log.append(TestBatch(), to: partition) == 1)
}

@Test("a batch behind a first one that had no room is not taken for the first")
func pipelinedBehindRefused() throws {
  let log = LogWorld { $0.lowSpace = 1 << 20 }
  try log.open()
  let partition = try log.create(1)
  func send(_ sequence: Int32, producer: Int64 = 7, epoch: Int16 = 0) throws -> Pending {
    let batch = TestBatch(producer: producer, epoch: epoch, sequence: sequence)
    let pending = log.append(AppendUnit(partition, batch.bytes, try batch.header()))
    log.run { pending.result != nil }
    return pending
  }
  log.disk.capacity = log.disk.usedBytes + (1 << 19)
  log.world.run(for: .seconds(2))
  #expect(try send(0).error?.code == .noSpace)
  #expect(try send(1).error?.code == .noSpace)
  log.disk.capacity = 1 << 40
  log.world.run(for: .seconds(2))
  #expect(try send(1).error?.code == .outOfOrderSequence, "its first batch comes again")
  #expect(try send(5, producer: 8).error == nil, "of others any sequence may be the first that is known")
  #expect(try send(0).error == nil && send(1).error == nil && send(2).error == nil)
  #expect(partition.nextOffset == 4)
}
