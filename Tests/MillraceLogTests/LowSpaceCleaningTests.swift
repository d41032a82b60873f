// LowSpaceCleaningTests: while the disk is nearly full, what gives space back goes on, and begins nothing that may not fit.

import MillraceBase
import MillraceIO
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceLog

/// Segments of which most belonged to a partition that is gone; nothing was merged yet, and `left` bytes are free.
private func nearlyFull(_ log: LogWorld, left: Int64) throws -> (kept: PartitionLog, batches: [TestBatch]) {
  try log.open()
  let doomed = try log.create(1)
  let kept = try log.create(2)
  log.store.cleaning.isRunning = true
  var batches: [TestBatch] = []
  for _ in 0..<40 {
    _ = try log.fill(doomed, batches: 4, size: 2000...3000)
    batches += try log.fill(kept, batches: 1, size: 500...1000)
  }
  let deletion = log.append(AppendUnit(event: Bytes("delete 1")))
  log.run { deletion.result != nil }
  log.settle()
  log.disk.capacity = log.disk.usedBytes + left
  log.world.run(for: .seconds(2))
  #expect(log.store.isSpaceLow)
  log.store.cleaning.isRunning = false
  return (kept, batches)
}

@Test("with little space left, segments that are mostly dead are merged, and their space comes back")
func mergesWhileSpaceIsLow() throws {
  let log = LogWorld {
    $0.cleanerBytesPerSecond = 1 << 30
    $0.lowSpace = 4 << 20
  }
  let (kept, batches) = try nearlyFull(log, left: 1 << 20)
  let before = log.disk.usedBytes
  log.world.run(for: .seconds(10))
  #expect(log.store.isSpaceLow)
  #expect(log.store.cleaningFigures.merges > 0)
  let size = log.store.drain.segments.values.reduce(0) { $0 + $1.fileSize }
  let live = log.store.drain.segments.values.reduce(0) { $0 + $1.liveBytes }
  #expect(size < 3 * live && log.disk.usedBytes < before)
  #expect(try log.readAll(kept) == batches.stored())
  try log.restart()
  #expect(try log.readAll(log.partition(2)) == batches.stored())
}

@Test("a merge is not begun when its segment may not fit, and is as soon as it does")
func mergesOnlyWhatFits() throws {
  let log = LogWorld {
    $0.cleanerBytesPerSecond = 1 << 30
    $0.lowSpace = 4 << 20
  }
  let (kept, batches) = try nearlyFull(log, left: 8 << 10)
  var begun = 0
  log.disk.faults.predicate = { operation in
    if operation.kind == .create, operation.path.hasSuffix(".segment") { begun += 1 }
    return nil
  }
  log.world.run(for: .seconds(10))
  #expect(begun == 0 && log.store.cleaningFigures.merges == 0)
  #expect(!log.lines.contains { $0.contains("cleaning segments failed") })
  log.disk.capacity += 1 << 20
  log.world.run(for: .seconds(10))
  #expect(begun > 0 && log.store.cleaningFigures.merges > 0 && log.store.isSpaceLow)
  #expect(try log.readAll(kept) == batches.stored())
}

@Test("the deadest segment does not keep others from being merged when what it holds does not fit")
func mergesBesideWhatDoesNotFit() throws {
  let log = LogWorld {
    $0.cleanerBytesPerSecond = 1 << 30
    $0.lowSpace = 4 << 20
  }
  let (kept, batches) = try nearlyFull(log, left: 1 << 20)
  log.store.cleaning.isRunning = true
  let use = try #require(log.store.drain.segments.filter { $0.value.extents > 0 }.min { $0.key < $1.key })
  // As if it were a thousand times as large as what is free, and nearly all of that dead.
  log.store.drain.segments[use.key]?.fileSize = 1 << 40
  log.store.drain.segments[use.key]?.ownBytes = 1 << 30
  log.store.cleaning.isRunning = false
  log.world.run(for: .seconds(10))
  #expect(log.store.isSpaceLow && log.store.cleaningFigures.merges > 0)
  let others = log.store.drain.segments.filter { $0.key != use.key && $0.value.extents > 0 }.map(\.value)
  #expect(others.reduce(0) { $0 + $1.fileSize } < 3 * others.reduce(0) { $0 + $1.liveBytes })
  #expect(log.store.drain.segments[use.key] != nil)
  #expect(try log.readAll(kept) == batches.stored())
}

@Test("with little space left, a partition is compacted when all that comes out of it fits")
func compactsWhileSpaceIsLow() throws {
  let log = LogWorld {
    $0.cleanerBytesPerSecond = 1 << 30
    $0.lowSpace = 4 << 20
  }
  try log.open()
  let partition = try log.create(1)
  log.store.cleaning.isRunning = true
  for index in 0..<120 {
    try log.append(
      try keyedBatch([("key-\(index % 3)", String(repeating: "v", count: 2500))], time: 5), to: partition)
  }
  log.settle()
  log.store.cleaning.isRunning = false
  var policy = CleanupPolicy()
  policy.deletes = false
  policy.compacts = true
  log.disk.capacity = log.disk.usedBytes + (16 << 10)
  log.world.run(for: .seconds(2))
  log.compact(partition, policy)
  #expect(log.store.isSpaceLow && log.store.cleaningFigures.compactions == 0 && partition.compactedTo == 0)
  log.disk.capacity += 1 << 20
  let before = log.disk.usedBytes
  log.world.run(for: .seconds(10))
  #expect(log.store.isSpaceLow && log.store.cleaningFigures.compactions > 0)
  #expect(log.disk.usedBytes < before - 200_000)
  #expect(try Set(records(in: log.readWithGaps(partition)).map(\.key)) == ["key-0", "key-1", "key-2"])
}

@Test("records expire although the journal has no room for anything else, and that makes room")
func expiresOnAFullDisk() throws {
  let log = LogWorld()
  try log.open()
  let doomed = try log.create(1)
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
  var policy = CleanupPolicy()
  policy.retentionBytes = 0
  let end = doomed.highWatermark
  #expect(log.store.expire([(doomed, policy)]) == 1)
  log.settle()
  #expect(doomed.startOffset == end)
  let after = log.append(AppendUnit(event: Bytes("create 3")))
  log.run { after.result != nil }
  #expect(after.error == nil, "\(after.error?.reason ?? "")")
}
