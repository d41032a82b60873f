// FailedCleaningTests: what cannot be cleaned keeps nothing else from it, and is tried again.

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

private func path(_ segment: UInt64) -> String { "/data/segments/\(SegmentFormat.name(segment))" }

@Test("a partition that the device does not give keeps no other from being compacted, and is when it does")
func compactsBesideUnreadable() throws {
  let log = LogWorld { $0.cleanerBytesPerSecond = 1 << 30 }
  try log.open()
  let partitions = [try log.create(1), try log.create(2)]
  log.store.cleaning.isRunning = true
  for partition in partitions {
    for index in 0..<80 {
      let value = String(repeating: "v", count: 3000)
      try log.append(try keyedBatch([("key-\(index % 3)", value)], time: 5), to: partition)
    }
    log.settle()
  }
  log.store.cleaning.isRunning = false
  let bad = try #require(partitions[0].extents.first).segment
  try #require(!partitions[1].extents.contains { $0.segment == bad })
  log.disk.faults.predicate = { $0.kind == .read && $0.path == path(bad) ? .failed : nil }
  func compact() {
    log.store.compact(partitions.map { ($0, compacting()) })
    log.run { !log.store.cleaning.isRunning }
    log.settle()
  }
  compact()
  #expect(partitions[0].compactedTo == 0 && partitions[1].compactedTo > 0)
  #expect(log.lines.contains { $0.contains("cleaning segments failed") })
  // Not over and over.
  var reads = 0
  log.disk.faults.predicate = { operation in
    guard operation.kind == .read, operation.path == path(bad) else { return nil }
    reads += 1
    return .failed
  }
  compact()
  #expect(reads == 0)
  log.disk.faults.predicate = nil
  log.world.run(for: .seconds(60))
  compact()
  #expect(partitions[0].compactedTo > 0)
  let kept = try records(in: log.readWithGaps(partitions[0]))
  #expect(Set(kept.map(\.key)) == ["key-0", "key-1", "key-2"])
}

/// Segments of which little is needed.
private func mostlyDead(_ log: LogWorld) throws -> (kept: PartitionLog, batches: [TestBatch]) {
  try log.open()
  let doomed = try log.create(1)
  let kept = try log.create(2)
  log.store.cleaning.isRunning = true
  var batches: [TestBatch] = []
  for _ in 0..<40 {
    _ = try log.fill(doomed, batches: 4, size: 2000...3000)
    batches += try log.fill(kept, batches: 1, size: 500...1000)
  }
  log.settle()
  let deletion = log.append(AppendUnit(event: Bytes("delete 1")))
  log.run { deletion.result != nil }
  log.settle()
  log.store.cleaning.isRunning = false
  return (kept, batches)
}

@Test("a segment that the device does not give is left out of merges, and of no other, until it does")
func mergesBesideUnreadable() throws {
  let log = LogWorld { $0.cleanerBytesPerSecond = 1 << 30 }
  let (kept, batches) = try mostlyDead(log)
  let before = log.store.drain.segments.keys.sorted()
  try #require(before.count > 3)
  let bad = before[1]
  log.disk.faults.predicate = { $0.kind == .read && $0.path == path(bad) ? .failed : nil }
  func merge() {
    log.store.compact([])
    log.run { !log.store.cleaning.isRunning }
    log.settle()
  }
  merge()
  let after = Set(log.store.drain.segments.keys)
  #expect(after.contains(bad), "it is needed still")
  #expect(!after.contains(before[0]) && !after.contains(before[2]), "\(after) of \(before)")
  log.disk.faults.predicate = nil
  log.world.run(for: .seconds(60))
  merge()
  #expect(log.store.drain.segments[bad] == nil)
  #expect(try log.readAll(kept) == batches.stored())
}

@Test("a merge for which there was no room keeps no smaller one from being tried at once")
func mergesWhatFitsAfterRefusal() throws {
  let log = LogWorld { $0.cleanerBytesPerSecond = 1 << 30 }
  let (kept, batches) = try mostlyDead(log)
  let before = log.store.drain.segments.count
  // The one of all segments has no room, and the one of the deadest alone neither.
  var refused = 0
  log.disk.faults.predicate = { operation in
    guard operation.kind == .create, operation.path.hasSuffix(".segment"), refused < 2 else { return nil }
    refused += 1
    return .noSpace
  }
  log.store.compact([])
  log.run { !log.store.cleaning.isRunning }
  log.settle()
  #expect(refused == 2 && log.store.drain.segments.count < before - 2)
  #expect(try log.readAll(kept) == batches.stored())
}
