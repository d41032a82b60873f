// RetentionTests: what goes by age and size, what stays, and that its space comes back.

import MillraceBase
import MillraceIO
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceLog

private func keeping(time: Int64? = nil, bytes: Int64? = nil) -> CleanupPolicy {
  var policy = CleanupPolicy()
  policy.retentionTime = time
  policy.retentionBytes = bytes
  return policy
}

extension LogWorld {
  fileprivate func expire(_ log: PartitionLog, _ policy: CleanupPolicy) {
    store.expire([(log, policy)])
    settle()
  }
}

/// A stored batch as a test remembers it.
private struct Stored {
  var base: Offset
  var next: Offset
  var time: Int64
  var size: Int64
}

@Test(
  "oracle: retention of random histories removes only what has expired, and nothing that has expired stays in front")
func oracleRetention() throws {
  for seed: UInt64 in 1...40 {
    let log = LogWorld(seed: seed)
    try log.open()
    _ = try log.create(1)
    var history: [Stored] = []
    for round in 0..<4 {
      let now = log.world.wallClock.milliseconds
      for _ in 0..<Int.random(in: 1...40, using: &log.random) {
        // Out of order, and some in the future.
        let time = now + Int64.random(in: -100_000...5000, using: &log.random)
        let batch = TestBatch(
          records: Int.random(in: 1...3, using: &log.random), size: Int.random(in: 10...3000, using: &log.random),
          time: time)
        let base = try log.append(batch, to: log.partition(1))
        let header = try batch.header()
        history.append(
          Stored(
            base: base, next: base + Int64(header.recordCount), time: time, size: Int64(header.totalSize)))
      }
      log.settle()
      let partition = try log.partition(1)
      let time = Bool.random(using: &log.random) ? Int64.random(in: 1000...120_000, using: &log.random) : nil
      let bytes = Bool.random(using: &log.random) ? Int64.random(in: 0...60_000, using: &log.random) : nil
      let before = partition.startOffset
      let sizeBefore = partition.size
      let cutoff = log.world.wallClock.milliseconds - (time ?? 0)
      let pieces =
        partition.extents.map {
          Stored(base: $0.baseOffset, next: $0.nextOffset, time: $0.maxTimestamp, size: $0.bytes)
        }
        + history.filter { stored in stored.base >= partition.extents.last?.nextOffset ?? 0 }
      log.store.expire([(partition, keeping(time: time, bytes: bytes))])
      // It may have to wait for room in the journal.
      log.settle()
      // By hand: piece after piece from the front, as long as it is too old or what follows is enough.
      var start = before
      var left = sizeBefore
      for piece in pieces where piece.next > before {
        let isOld = time != nil && piece.time < cutoff
        let isTooMuch = bytes.map { left - piece.size >= $0 } ?? false
        guard isOld || isTooMuch else { break }
        start = piece.next
        left -= piece.size
      }
      #expect(partition.startOffset == start, "seed \(seed), round \(round)")
      #expect(partition.startOffset <= partition.highWatermark)
      let gone = history.filter { $0.next <= start && $0.next > before }
      if bytes == nil { #expect(gone.allSatisfy { $0.time < cutoff }, "seed \(seed)") }
      if Bool.random(using: &log.random) {
        log.settle()
        try log.restart()
      }
      let again = try log.partition(1)
      #expect(again.startOffset == start && again.nextOffset == history.last?.next, "seed \(seed)")
      let kept = history.filter { $0.next > start }.map(\.base)
      #expect(try log.readAll(again).map { try RecordBatchHeader($0).baseOffset } == kept, "seed \(seed)")
      if start > 0 {
        guard case .failure(let error) = log.read(again, from: start - 1) else {
          Issue.record("seed \(seed): offset \(start - 1) was read")
          return
        }
        #expect(error.code == .offsetOutOfRange)
      }
    }
  }
}

@Test("what has expired gives its segments back without anything else happening, and no snapshot names them")
func expiredSegmentsAreRemoved() throws {
  let log = LogWorld()
  try log.open()
  // Small segments are not merged here.
  log.store.cleaning.isRunning = true
  let partition = try log.create(1)
  _ = try log.fill(partition, batches: 120)
  log.settle()
  let before = log.files(".segment").count
  #expect(before > 2)
  log.world.run(for: .seconds(60))
  log.expire(partition, keeping(time: 30_000))
  #expect(partition.startOffset == partition.highWatermark && partition.size == 0)
  #expect(log.files(".segment").isEmpty)
  try log.restart()
  #expect(try log.partition(1).startOffset == partition.highWatermark)
  #expect(try log.readAll(log.partition(1)).isEmpty)
}

@Test("what is not durable yet does not expire")
func uncommittedStays() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  try log.append(TestBatch(time: 1), to: partition)
  log.writer.isHeld = true
  let pending = log.append(AppendUnit(partition, TestBatch(time: 1).bytes, try TestBatch(time: 1).header()))
  log.world.run(for: .milliseconds(10))
  log.store.expire([(partition, keeping(time: 10))])
  #expect(partition.startOffset == 1 && partition.highWatermark == 1 && partition.nextOffset == 2)
  log.writer.releaseAll()
  log.run { pending.result != nil }
  log.expire(partition, keeping(time: 10))
  #expect(partition.startOffset == 2)
}

@Test("records without a time, and those of the future, do not age; a policy that only compacts removes nothing")
func ageless() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  try log.append(TestBatch(time: -1), to: partition)
  log.expire(partition, keeping(time: 0))
  #expect(partition.startOffset == 0)
  log.expire(partition, keeping(time: .max))
  #expect(partition.startOffset == 0)
  var policy = keeping(time: 0, bytes: 0)
  policy.deletes = false
  log.expire(partition, policy)
  #expect(partition.startOffset == 0)
  log.expire(partition, keeping(bytes: 0))
  #expect(partition.startOffset == 1)
}

@Test("oracle: the first batch at or after a time, with times out of order, over segments, memory and a moved start")
func oracleTimesOfMovingStarts() throws {
  for seed: UInt64 in 1...15 {
    let log = LogWorld(seed: seed) { $0.hotTailSize = 128 << 10 }
    try log.open()
    let partition = try log.create(1)
    var history: [Stored] = []
    for _ in 0..<150 {
      let time = Int64.random(in: 1000...5000, using: &log.random)
      let batch = TestBatch(size: Int.random(in: 10...4000, using: &log.random), time: time)
      let base = try log.append(batch, to: partition)
      history.append(Stored(base: base, next: base + 1, time: time, size: 0))
    }
    log.settle()
    for round in 0..<30 {
      if round % 10 == 9 {
        var unit = AppendUnit()
        unit.startOffsets = [
          (partition, Int64.random(in: partition.startOffset..<partition.highWatermark, using: &log.random))
        ]
        let pending = log.append(unit)
        log.run { pending.result != nil }
      }
      let time = Int64.random(in: 900...5100, using: &log.random)
      var found: Result<Bytes?, LogError>?
      log.store.firstBatch(partition, notBefore: Timestamp(milliseconds: time)) { found = $0 }
      log.run { found != nil }
      let expected = history.first { $0.base >= partition.startOffset && $0.time >= time }?.base
      #expect(
        try #require(found).get().map { try RecordBatchHeader($0).baseOffset } == expected,
        "seed \(seed), time \(time)")
      var newest: Result<Bytes?, LogError>?
      log.store.newestBatch(partition) { newest = $0 }
      log.run { newest != nil }
      let largest = history.filter { $0.base >= partition.startOffset }.map(\.time).max()
      #expect(
        try #require(newest).get().map { try RecordBatchHeader($0).maxTimestamp.milliseconds } == largest,
        "seed \(seed)")
    }
  }
}
