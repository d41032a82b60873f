// CleaningTests: cleaning beside everything else: newest runs, readers, closing.

import MillraceBase
import MillraceIO
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceLog

private func compacting() -> CleanupPolicy {
  var policy = CleanupPolicy()
  policy.deletes = false
  policy.compacts = true
  policy.minDirtyRatio = 0
  return policy
}

extension LogWorld {
  /// Segment files that no partition needs and no snapshot will name.
  fileprivate var strayFiles: [String] {
    let named = Set(store.drain.segments.keys.map { "/data/segments/\(SegmentFormat.name($0))" })
    return files(".segment").filter { !named.contains($0) }
  }

  /// Keeps merges and compactions away while `body` runs.
  fileprivate func withoutCleaning(_ body: () throws -> Void) rethrows {
    store.cleaning.isRunning = true
    try body()
    settle()
    store.cleaning.isRunning = false
  }
}

@Test("the newest runs of compacted partitions are merged as runs of their own, and keep no other segment from it")
func newestRunsAreMerged() throws {
  let log = LogWorld {
    $0.cleanerBytesPerSecond = 1 << 30
    // One segment after the other.
    $0.compactedSegmentSize = 1
  }
  try log.open()
  let compacted = try log.create(1)
  let doomed = try log.create(2)
  let kept = try log.create(3)
  var batches: [TestBatch] = []
  try log.withoutCleaning {
    for index in 0..<2 {
      try log.append(try keyedBatch([("a", "\(index)"), ("b", "\(index)")], time: 5), to: compacted)
      _ = try log.fill(doomed, batches: 40, size: 2000...3000)
      // Its own segment, so that the newest run is none of those that go together with others.
      log.settle()
    }
    for _ in 0..<30 {
      _ = try log.fill(doomed, batches: 4, size: 2000...3000)
      batches += try log.fill(kept, batches: 1, size: 500...1000)
    }
    let deletion = log.append(AppendUnit(event: Bytes("delete 2")))
    log.run { deletion.result != nil }
  }
  let runs = compacted.extents
  #expect(runs.count == 2 && log.files(".segment").count > 5)
  var policy = compacting()
  policy.minDirtyRatio = 1.1
  for _ in 0..<20 { log.compact(compacted, policy) }
  #expect(compacted.extents.map(\.baseOffset) == runs.map(\.baseOffset), "each is a run of its own")
  #expect(compacted.extents.allSatisfy { new in !runs.contains { $0.segment == new.segment } })
  let size = log.store.drain.segments.values.reduce(0) { $0 + $1.fileSize }
  let live = log.store.drain.segments.values.reduce(0) { $0 + $1.liveBytes }
  let overhead = Int64(log.store.drain.segments.count * 3 * 4096)
  #expect(size < 3 * live + overhead, "\(size) in files of \(live)")
  #expect(try log.readAll(kept) == batches.stored())
  try log.restart()
  #expect(try records(in: log.readAll(log.partition(1))).map(\.value) == ["0", "0", "1", "1"])
  #expect(try log.readAll(log.partition(3)) == batches.stored())
}

@Test("closing gives up a compaction that pauses while the directory is still its own")
func closesDuringPause() throws {
  let log = LogWorld {
    $0.cleanerBytesPerSecond = 10_000
    $0.cleanerStepSize = 16 << 10
  }
  try log.open()
  let partition = try log.create(1)
  try log.withoutCleaning {
    for index in 0..<120 {
      try log.append(
        try keyedBatch([("key-\(index)", String(repeating: "v", count: 2500))], time: 5), to: partition)
    }
  }
  log.store.compact([(partition, compacting())])
  log.run { !log.strayFiles.isEmpty }
  // The step has ended, and the next one is seconds away.
  log.world.run(for: .seconds(1))
  let begun = try #require(log.strayFiles.first)
  #expect(log.store.cleaning.isRunning && partition.compactedTo == 0)
  #expect(try log.close() == nil)
  #expect(!log.files(".segment").contains(begun))
  // The next owner of the directory may use the number again.
  let other = try log.disk.open(begun, [.write, .create])
  other.close()
  log.world.run(for: .seconds(100))
  #expect(log.files(".segment").contains(begun), "its file was removed by a log that was closed before")
}

@Test("the size of a partition whose start moves while its records are drained is what its runs and batches add up to")
func sizeWhileDraining() throws {
  for seed: UInt64 in 1...6 {
    let log = LogWorld(seed: seed)
    try log.open()
    let partition = try log.create(1)
    func added() -> Int64 {
      let drained = partition.extents.last?.nextOffset ?? 0
      var sum = partition.extents.reduce(0) { $0 + $1.bytes }
      for index in 0..<partition.recent.count where partition.recent[index].baseOffset >= drained {
        sum += Int64(partition.recent[index].length)
      }
      return sum
    }
    let batches = try log.fillUntilDrainIsHeld(partition)
    #expect(partition.extents.isEmpty)
    var unit = AppendUnit()
    unit.startOffsets = [(partition, Int64.random(in: 1...Int64(batches.count / 2), using: &log.random))]
    let moved = log.append(unit)
    log.run { moved.result != nil }
    log.background.releaseAll()
    log.settle()
    #expect(!partition.extents.isEmpty && partition.size == added(), "seed \(seed)")
    _ = try log.fill(partition, batches: 100)
    log.settle()
    #expect(partition.size == added(), "seed \(seed)")
    try log.restart()
    let again = try log.partition(1)
    #expect(again.size >= again.extents.reduce(0) { $0 + $1.bytes }, "seed \(seed)")
    unit.startOffsets = [(again, again.highWatermark)]
    let emptied = log.append(unit)
    log.run { emptied.result != nil }
    #expect(again.size == 0, "seed \(seed)")
  }
}

@Test("a segment that is read while it is being removed is not held open afterwards")
func readWhileRemoved() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  try log.withoutCleaning { _ = try log.fill(partition, batches: 120) }
  log.store.cleaning.isRunning = true
  let extents = partition.extents
  let reader = log.store.segments
  var removals = 0
  log.disk.faults.predicate = { operation in
    guard operation.kind == .remove,
      let extent = extents.first(where: { operation.path.hasSuffix(SegmentFormat.name($0.segment)) })
    else { return nil }
    removals += 1
    do throws(LogError) { _ = try reader.batches(in: extent, from: extent.baseOffset, limit: 1) } catch {
      Issue.record("\(error)")
    }
    return nil
  }
  var unit = AppendUnit()
  unit.startOffsets = [(partition, partition.highWatermark)]
  let moved = log.append(unit)
  log.run { moved.result != nil }
  log.settle()
  #expect(removals == extents.count && log.files(".segment").isEmpty)
  #expect(reader.heldSegments.isEmpty && reader.heldBytes == 0)
}

/// Merges away the segments that `kept` lies in, whose larger part is of partition 1.
private func mergeAll(_ log: LogWorld, _ kept: PartitionLog) throws {
  let before = Set(kept.extents.map(\.segment))
  let deletion = log.append(AppendUnit(event: Bytes("delete 1")))
  log.run { deletion.result != nil }
  log.store.compact([])
  log.run { before.isDisjoint(with: log.store.drain.segments.keys) }
  log.settle()
  #expect(before.isDisjoint(with: log.files(".segment").map { UInt64($0.dropLast(8).suffix(12)) ?? 0 }))
}

/// Segments in which partition 2 has every fifth batch, with times that rise from 1,000.
private func mixed(_ log: LogWorld) throws -> PartitionLog {
  try log.open()
  let doomed = try log.create(1)
  let kept = try log.create(2)
  try log.withoutCleaning {
    for index in 0..<40 {
      _ = try log.fill(doomed, batches: 4, size: 2000...3000)
      try log.append(TestBatch(size: 700, time: index == 0 ? 9000 : 1000 + Int64(index)), to: kept)
    }
  }
  #expect(kept.extents.count > 3)
  return kept
}

@Test("looking for a time goes on when the segments that it looks into are merged meanwhile")
func timesWhileMerging() throws {
  let log = LogWorld { $0.cleanerBytesPerSecond = 1 << 30 }
  let kept = try mixed(log)
  var unit = AppendUnit()
  unit.startOffsets = [(kept, 1)]
  let moved = log.append(unit)
  log.run { moved.result != nil }
  var found: Result<Bytes?, LogError>?
  log.background.holdsNext = true
  log.store.firstBatch(kept, notBefore: Timestamp(milliseconds: 1010)) { found = $0 }
  #expect(log.background.heldJobs == 1)
  try mergeAll(log, kept)
  log.background.releaseAll()
  log.run { found != nil }
  #expect(try #require(found).get().map { try RecordBatchHeader($0).baseOffset } == 10)
}

@Test("the newest batch is found although the segments looked into are merged meanwhile")
func newestWhileMerging() throws {
  let log = LogWorld { $0.cleanerBytesPerSecond = 1 << 30 }
  let kept = try mixed(log)
  var unit = AppendUnit()
  // The newest time of the first run lies below the start now, so that the run is asked for its next one.
  unit.startOffsets = [(kept, 1)]
  let moved = log.append(unit)
  log.run { moved.result != nil }
  var found: Result<Bytes?, LogError>?
  log.background.holdsNext = true
  log.store.newestBatch(kept) { found = $0 }
  #expect(log.background.heldJobs == 1)
  log.background.holdsNext = true
  log.background.release()
  log.run { log.background.heldJobs == 1 }
  try mergeAll(log, kept)
  log.background.releaseAll()
  log.run { found != nil }
  #expect(try #require(found).get().map { try RecordBatchHeader($0).baseOffset } == 39)
}

@Test("a time is found in records that are drained while the segments before them are asked")
func timesWhileDraining() throws {
  let log = LogWorld { $0.hotTailSize = 64 << 10 }
  try log.open()
  let partition = try log.create(1)
  try log.withoutCleaning {
    // The newest time lies below the start: its run has to be asked, and has nothing to say.
    try log.append(TestBatch(size: 100, time: 9000), to: partition)
    for _ in 0..<60 { try log.append(TestBatch(size: 2500, time: 1000), to: partition) }
    log.settle()
  }
  log.store.cleaning.isRunning = true
  var unit = AppendUnit()
  unit.startOffsets = [(partition, 1)]
  let moved = log.append(unit)
  log.run { moved.result != nil }
  let expected = try log.append(TestBatch(size: 100, time: 5000), to: partition)
  #expect(expected >= partition.extents.last?.nextOffset ?? 0)
  var found: Result<Bytes?, LogError>?
  log.background.holdsNext = true
  log.store.firstBatch(partition, notBefore: Timestamp(milliseconds: 5000)) { found = $0 }
  #expect(log.background.heldJobs == 1)
  for _ in 0..<120 { try log.append(TestBatch(size: 2500, time: 6000), to: partition) }
  log.settle()
  log.store.trim(partition)
  #expect(partition.recent.first?.baseOffset ?? .max > expected)
  log.background.releaseAll()
  log.run { found != nil }
  #expect(try #require(found).get().map { try RecordBatchHeader($0).baseOffset } == expected)
}

@Test("a compaction writes only into segments whose numbers were reserved for it, wherever its mapping ends")
func reservedSegmentNumbers() throws {
  for stepSize in [1, 50_000, 120_000, 4 << 20] {
    let log = LogWorld {
      $0.cleanerStepSize = stepSize
      $0.cleanerBytesPerSecond = 100_000
      $0.compactedSegmentSize = 64 << 10
    }
    try log.open()
    let partition = try log.create(1)
    func fill(_ count: Int) throws {
      for index in 0..<count {
        try log.append(
          try keyedBatch([("key-\(index % 40)", String(repeating: "v", count: 2500))], time: 5), to: partition)
      }
    }
    try log.withoutCleaning { try fill(120) }
    var made: [String: Int] = [:]
    log.disk.faults.predicate = { operation in
      if operation.kind == .create, operation.path.hasSuffix(".segment") { made[operation.path, default: 0] += 1 }
      return nil
    }
    log.store.compact([(partition, compacting())])
    // Drains take numbers meanwhile.
    while log.store.cleaning.isRunning && partition.compactedTo == 0 { try fill(4) }
    log.settle()
    #expect(made.count > 2 && made.values.allSatisfy { $0 == 1 }, "step \(stepSize): \(made)")
    #expect(try Set(records(in: log.readWithGaps(partition)).map(\.key)).count == 40)
  }
}

@Test("segments that are dead when one snapshot leads to the next are removed once")
func removedOnce() throws {
  for seed: UInt64 in 1...8 {
    let log = LogWorld(seed: seed)
    try log.open()
    log.store.cleaning.isRunning = true
    var removed: [String: Int] = [:]
    log.disk.faults.predicate = { operation in
      if operation.kind == .remove, operation.path.hasSuffix(".segment") { removed[operation.path, default: 0] += 1 }
      return nil
    }
    // Many producers wait for room all the time, so that files given back are taken, and the next snapshot wanted, at once.
    for round: Int64 in 1...12 {
      let partition = try log.create(round)
      var pending: [Pending] = []
      for _ in 0..<60 {
        let batch = TestBatch(size: Int.random(in: 1000...12_000, using: &log.random))
        pending.append(log.append(AppendUnit(partition, batch.bytes, try batch.header())))
      }
      if round > 1 { pending.append(log.append(AppendUnit(event: Bytes("delete \(round - 1)")))) }
      log.run { pending.allSatisfy { $0.result != nil } }
    }
    log.settle()
    #expect(removed.count > 3 && removed.values.allSatisfy { $0 == 1 }, "seed \(seed): \(removed)")
    #expect(!log.lines.contains { $0.contains("removing a segment failed") })
  }
}
