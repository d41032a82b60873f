// LogReadTests: the same bytes from memory, from the journal and from segments, and none that were not checked.

import MillraceBase
import MillraceIO
import MillraceModel
import Testing

@testable import MillraceLog

@Test("memory, journal and segments give the same bytes")
func sameBytesFromEverywhere() throws {
  let log = LogWorld { $0.hotTailSize = 1 << 20 }
  try log.open()
  let partition = try log.create(1)
  let batches = try log.fill(partition, batches: 20)
  let stored = try batches.stored()
  let reads = readOperations(log)
  #expect(try log.readAll(partition) == stored)
  #expect(reads() == 0, "all of it is in memory")
  try log.restart()
  #expect(try log.readAll(log.partition(1)) == stored)
  #expect(reads() > 0, "none of it is in memory")
  let more = try log.fill(try log.partition(1), batches: 60)
  log.settle()
  #expect(!log.files(".segment").isEmpty)
  try log.restart()
  #expect(try !log.partition(1).extents.isEmpty)
  for limit in [1, 700, 5000, 1 << 20] {
    #expect(try log.readAll(log.partition(1), limit: limit) == (batches + more).stored(), "limit \(limit)")
  }
}

@Test("batches large enough to be drained from where they lie are read back among small ones of other partitions")
func largeBatchesDrained() throws {
  let log = LogWorld {
    $0.journalFileSize = 4 << 20
    $0.firstJournalFileSize = 1 << 20
    $0.hotTailSize = 8 << 20
    $0.largestUnit = 1 << 20
  }
  try log.open()
  let first = try log.create(1)
  let second = try log.create(2)
  var expected: [[TestBatch]] = [[], []]
  // Around the size from which a batch is written with the pages it lies in, and far above it.
  let sizes = [200, 65_000, 70_000, 300, 65_536 - 61, 300_000, 100, 100, 66_000]
  while log.files(".segment").count < 2 {
    for (index, size) in sizes.enumerated() {
      let batch = TestBatch(size: size)
      expected[index % 2].append(batch)
      try log.append(batch, to: index % 2 == 0 ? first : second)
    }
  }
  log.settle()
  try log.restart()
  for number in 1...2 {
    let partition = try log.partition(Int64(number))
    #expect(partition.extents.contains { $0.bytes > 500_000 }, "large batches are in segments")
    for limit in [1, 100_000, 1 << 20] {
      #expect(try log.readAll(partition, limit: limit) == expected[number - 1].stored(), "limit \(limit)")
    }
  }
}

/// Counts reads of journal files and segments from now on.
func readOperations(_ log: LogWorld) -> () -> Int {
  final class Counter { var reads = 0 }
  let counter = Counter()
  log.disk.faults.predicate = { operation in
    if operation.kind == .read { counter.reads += 1 }
    return nil
  }
  return { counter.reads }
}

@Test("a read that reaches its limit inside a block stops there, even if the next block's first batch would fit")
func limitInsideBlock() throws {
  let log = LogWorld { $0.segmentBlockSize = 1000 }
  try log.open()
  let partition = try log.create(1)
  // A block of a small and a large batch, then a block that begins with a small one.
  var batches: [TestBatch] = []
  while log.files(".segment").isEmpty {
    for size in [100, 2000, 100, 2000] {
      batches.append(TestBatch(size: size))
      try log.append(batches[batches.count - 1], to: partition)
    }
  }
  log.settle()
  try log.restart()
  let small = batches[0].bytes.count
  let found = try log.read(log.partition(1), from: 0, limit: 2 * small + 10).get()
  #expect(found == [batches[0].stored(at: 0)])
  #expect(try log.readAll(log.partition(1), limit: 2 * small + 10) == batches.stored())
}

@Test("every damaged byte of a batch in the journal is reported when it is read, with file and position")
func damagedJournal() throws {
  let log = LogWorld()
  try log.open()
  let batches = try log.fill(try log.create(1), batches: 8)
  log.settle()
  // After a restart nothing is in memory.
  try log.restart()
  let partition = try log.partition(1)
  let path = try #require(log.files(".journal").first)
  let reference = partition.recent[2]
  let offset = reference.baseOffset
  for field in 0..<Int(reference.length) where field < 70 || field % 97 == 0 {
    try log.damage(path, at: Int(reference.position) + field)
    let result = log.read(partition, from: offset, limit: 1)
    guard case .failure(let error) = result else {
      Issue.record("byte \(field) was served damaged")
      return
    }
    #expect(error.code == .corruption)
    #expect(error.reason.contains("\(path): batch at byte \(reference.position)"), "\(error)")
    try log.damage(path, at: Int(reference.position) + field)
  }
  #expect(try log.read(partition, from: offset, limit: 1).get() == [try batches.stored()[2]])
}

@Test("a damaged batch in the journal is not drained into a segment as if it were whole")
func damagedBeforeDrain() throws {
  let log = LogWorld()
  try log.open()
  try log.append(TestBatch(size: 500), to: try log.create(1))
  log.settle()
  try log.restart()
  let partition = try log.partition(1)
  let reference = partition.recent[0]
  // The leader epoch, which the batch's own checksum leaves out.
  try log.damage(try #require(log.files(".journal").first), at: Int(reference.position) + 15)
  let batch = TestBatch(size: 3000)
  for _ in 0..<30 { try log.append(batch, to: partition) }
  log.settle()
  #expect(log.files(".segment").isEmpty)
  guard case .failure(let error) = log.read(partition, from: 0, limit: 1) else {
    Issue.record("a damaged batch was served")
    return
  }
  #expect(error.code == .corruption)
}

@Test("every damaged byte of a segment's blocks and index is reported when it is read")
func damagedSegment() throws {
  let log = LogWorld { $0.hotTailSize = 1 }
  try log.open()
  let partition = try log.create(1)
  while log.files(".segment").isEmpty { _ = try log.fill(partition, batches: 1) }
  log.settle()
  try log.restart()
  let path = try #require(log.files(".segment").first)
  let recovered = try log.partition(1)
  let extent = try #require(recovered.extents.first)
  let first = 4096
  for position in [first, first + 9, first + 13, first + 40, Int(extent.indexPosition), Int(extent.indexPosition) + 39]
  {
    try log.damage(path, at: position)
    guard case .failure(let error) = log.read(try log.partition(1), from: 0) else {
      Issue.record("byte \(position) was served damaged")
      return
    }
    #expect(error.code == .corruption && error.reason.contains(path) && error.reason.contains("at byte"))
    try log.damage(path, at: position)
    // Nothing verified before may hide the damage of the next round.
    try log.restart()
  }
  #expect(try log.read(log.partition(1), from: 0).get().isEmpty == false)
}

@Test("offsets outside the log are refused with its bounds")
func outOfRange() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  try log.append(TestBatch(records: 5), to: partition)
  for offset: Offset in [-1, 6] {
    guard case .failure(let error) = log.read(partition, from: offset) else {
      Issue.record("offset \(offset) was read")
      return
    }
    #expect(error.code == .offsetOutOfRange && error.reason.contains("0...5"))
  }
  #expect(try log.read(partition, from: 5).get().isEmpty)
}

@Test("oracle: the first batch not before a time, and the newest one, wherever they are")
func oracleTimes() throws {
  for seed: UInt64 in 1...6 {
    let log = LogWorld(seed: seed) { $0.hotTailSize = seed % 2 == 0 ? 1 : 256 << 10 }
    try log.open()
    let partition = try log.create(1)
    var times: [Int64] = []
    for _ in 0..<90 {
      times.append(Int64.random(in: 1000...2000, using: &log.random))
      try log.append(TestBatch(size: 1500, time: times[times.count - 1]), to: partition)
    }
    log.settle()
    for restarted in [false, true] {
      if restarted { try log.restart() }
      let partition = try log.partition(1)
      for time in stride(from: Int64(990), through: 2010, by: 17) {
        let expected = times.firstIndex { $0 >= time }.map { Int64($0) }
        var found: Result<Bytes?, LogError>?
        log.store.firstBatch(partition, notBefore: Timestamp(milliseconds: time)) { found = $0 }
        log.run { found != nil }
        let batch = try #require(found).get()
        #expect(try batch.map { try RecordBatchHeader($0).baseOffset } == expected, "seed \(seed) time \(time)")
      }
      var newest: Result<Bytes?, LogError>?
      log.store.newestBatch(partition) { newest = $0 }
      log.run { newest != nil }
      let found = try #require(newest).get()
      let header = try RecordBatchHeader(try #require(found))
      #expect(header.maxTimestamp.milliseconds == times.max())
    }
  }
}
