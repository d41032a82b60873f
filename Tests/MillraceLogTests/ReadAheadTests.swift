// ReadAheadTests: what readers of many partitions will want is read in few calls, and nothing else changes for them.

import MillraceBase
import MillraceIO
import MillraceModel
import Testing

@testable import MillraceLog

/// Partitions whose records lie in segments, some kilobytes of each in each segment, and what they hold.
private struct ManyPartitions {
  let log: LogWorld
  var batches: [[Bytes]] = []
  let count: Int

  init(_ count: Int = 30, batches total: Int = 1500, _ configure: (inout LogConfiguration) -> Void = { _ in }) throws {
    log = LogWorld {
      $0.journalFileSize = 1 << 20
      $0.hotTailSize = 256 << 10
      configure(&$0)
    }
    self.count = count
    try log.open()
    let made = try (0..<count).map { try log.create(Int64($0)) }
    var added = [[TestBatch]](repeating: [], count: count)
    for number in 0..<total {
      let batch = TestBatch(
        size: Int.random(in: 1000...3000, using: &log.random), time: log.world.wallClock.milliseconds)
      try log.append(batch, to: made[number % count])
      added[number % count].append(batch)
    }
    batches = try added.map { try $0.stored() }
    log.settle()
    try log.restart()
  }

  func partition(_ number: Int) throws -> PartitionLog { try log.partition(Int64(number)) }

  /// What a reader of all partitions wants that is at the beginning of its `extent`th run.
  func wishes(_ extent: Int) throws -> [ReadAheadWish] {
    try (0..<count).map {
      ReadAheadWish(try partition($0), from: try partition($0).extents[extent].baseOffset, limit: 1 << 20)
    }
  }

  /// Reads a run of each partition, and expects what was written; those in `damaged` may fail.
  func check(_ extent: Int, damaged: Set<Int> = []) throws {
    for number in 0..<count {
      let partition = try partition(number)
      let run = partition.extents[extent]
      guard case .success(let runs) = log.read(partition, from: run.baseOffset) else {
        #expect(damaged.contains(number), "partition \(number)")
        continue
      }
      #expect(!damaged.contains(number), "partition \(number)")
      var next = Int(run.baseOffset)
      for run in runs {
        for (position, header) in try RecordBatchRun.headers(in: run) {
          #expect(run[position..<(position + header.totalSize)] == batches[number][next])
          next += 1
        }
      }
      #expect(next == Int(run.nextOffset), "partition \(number) ends at \(next)")
    }
  }
}

@Test("neighbours in a segment are read in one call for their indexes and one for their batches")
func readTogether() throws {
  let many = try ManyPartitions()
  let reads = readOperations(many.log)
  for extent in 0..<2 {
    let before = reads()
    many.log.store.readAhead(try many.wishes(extent), limit: 8 << 20, isWanted: false)
    many.log.settle()
    #expect(reads() - before == 2, "\(reads() - before) reads of \(many.count) partitions")
    for number in 0..<many.count {
      let partition = try many.partition(number)
      #expect(many.log.store.place(partition, partition.extents[extent].baseOffset) == .window)
    }
    try many.check(extent)
    #expect(reads() - before == 2, "all of it was there")
    many.log.store.readAhead(try many.wishes(extent), limit: 8 << 20, isWanted: true)
    many.log.settle()
    #expect(reads() - before == 2, "it is still there")
  }
}

@Test("a reader waits for what is being read ahead, and no longer")
func waitsForReadAhead() throws {
  let many = try ManyPartitions(6, batches: 600)
  let reads = readOperations(many.log)
  many.log.background.isHeld = true
  many.log.store.readAhead(try many.wishes(0), limit: 8 << 20, isWanted: true)
  let partition = try many.partition(3)
  var result: Result<[Bytes], LogError>?
  many.log.store.read(partition, from: 0, limit: 1 << 20) { result = $0 }
  many.log.world.run(for: .seconds(1))
  #expect(result == nil && many.log.background.heldJobs == 1, "nothing is read twice")
  many.log.background.releaseAll()
  many.log.run { result != nil }
  #expect(try result?.get().isEmpty == false)
  #expect(reads() == 2)
}

@Test("what is damaged fails for those alone who want it, though it was read together with others'")
func damageReadTogether() throws {
  let many = try ManyPartitions()
  let extent = try many.partition(7).extents[0]
  let block = try #require(try many.log.store.segments.index(extent).first)
  let path = try #require(many.log.files(SegmentFormat.name(extent.segment)).first)
  try many.log.damage(path, at: Int(block.position) + 100)
  try many.log.damage(path, at: Int(try many.partition(11).extents[0].indexPosition) + 3)
  many.log.store.readAhead(try many.wishes(0), limit: 8 << 20, isWanted: true)
  many.log.settle()
  try many.check(0, damaged: [7, 11])
  try many.check(1)
}

@Test("reading ahead that fails is nobody's error: whoever wants the records has them read again")
func failedReadAhead() throws {
  for failing in 0..<2 {
    let many = try ManyPartitions(6, batches: 600)
    var reads = 0
    many.log.disk.faults.predicate = { operation in
      guard operation.kind == .read else { return nil }
      reads += 1
      return reads == failing + 1 ? .failed : nil
    }
    many.log.store.readAhead(try many.wishes(0), limit: 8 << 20, isWanted: true)
    // Some come while it is being read, others later.
    try many.check(0)
    #expect(reads > 2)
  }
}

@Test("reading ahead takes no more memory than windows may, and leaves alone what was not used yet")
func boundedReadAhead() throws {
  let many = try ManyPartitions(3, batches: 4000) {
    $0.readWindowsSize = 4 << 20
    $0.journalFileSize = 4 << 20
    $0.hotTailSize = 1 << 20
  }
  let reads = readOperations(many.log)
  many.log.background.isHeld = true
  for extent in 0..<2 { many.log.store.readAhead(try many.wishes(extent), limit: 8 << 20, isWanted: false) }
  #expect(many.log.background.heldJobs > 0)
  many.log.background.releaseAll()
  many.log.settle()
  #expect(reads() > 0 && many.log.store.segments.heldBytes <= 2 << 20, "half of the memory")
  let before = reads()
  for extent in 0..<2 { many.log.store.readAhead(try many.wishes(extent), limit: 8 << 20, isWanted: false) }
  many.log.settle()
  #expect(reads() == before)
  try many.check(0)
  #expect(many.log.store.segments.heldBytes <= 4 << 20)
}

@Test("reading ahead wants nothing of the journal, of what is deleted, or of what is not there")
func readAheadOfNothing() throws {
  let many = try ManyPartitions(2, batches: 300)
  let partition = try many.partition(0)
  let deleted = try many.partition(1)
  try many.log.append(TestBatch(), to: partition)
  let pending = many.log.append(AppendUnit(event: Bytes("delete 1")))
  many.log.run { pending.result != nil }
  let reads = readOperations(many.log)
  #expect(many.log.store.place(partition, partition.highWatermark - 1) == .journal)
  many.log.store.readAhead(
    [
      ReadAheadWish(partition, from: partition.highWatermark - 1, limit: 1000),
      ReadAheadWish(partition, from: partition.highWatermark, limit: 1000),
      ReadAheadWish(partition, from: partition.highWatermark + 10, limit: 1000),
      ReadAheadWish(partition, from: -1, limit: 1000), ReadAheadWish(deleted, from: 0, limit: 1000),
    ], limit: 8 << 20, isWanted: true)
  many.log.settle()
  #expect(reads() == 0)
}

@Test("what is read ahead of a segment that is being removed is not kept")
func removedWhileReadAhead() throws {
  let many = try ManyPartitions(6, batches: 600)
  many.log.background.isHeld = true
  many.log.store.readAhead(try many.wishes(0), limit: 8 << 20, isWanted: true)
  let segment = try many.partition(0).extents[0].segment
  many.log.disk.faults.predicate = { [segments = many.log.store.segments] operation in
    // While the batches themselves are being read.
    if operation.kind == .read { segments.forget(segment) }
    return nil
  }
  many.log.background.releaseAll()
  many.log.settle()
  many.log.disk.faults.predicate = nil
  #expect(many.log.store.segments.heldBytes == 0)
  try many.check(0)
}

@Test("index parts are held up to a number of blocks, the newest")
func heldIndexes() {
  var held = HeldIndexes()
  let block = SegmentBlock(baseOffset: 0, lastOffset: 0, position: 0, length: 1, crc: 0, maxTimestamp: 0)
  let many = [SegmentBlock](repeating: block, count: HeldIndexes.limit / 4)
  for number in 0..<10 { held.add(IndexKey(segment: UInt64(number % 2), position: Int64(number)), many) }
  #expect(held.count == 3)
  #expect(held[IndexKey(segment: 1, position: 9)] != nil && held[IndexKey(segment: 0, position: 6)] == nil)
  held.forget(1)
  #expect(held.count == 1 && held[IndexKey(segment: 0, position: 8)] != nil)
  for number in 10..<12 { held.add(IndexKey(segment: 5, position: Int64(number)), many) }
  #expect(held.count == 3)
}
