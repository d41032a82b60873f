// CompactionTests: the newest record of each key stays, where it was, whatever happens in between.

import MillraceBase
import MillraceIO
import MillraceModel
import Testing

@testable import MillraceLog

private func compacting(_ change: (inout CleanupPolicy) -> Void = { _ in }) -> CleanupPolicy {
  var policy = CleanupPolicy()
  policy.deletes = false
  policy.compacts = true
  policy.minDirtyRatio = 0
  change(&policy)
  return policy
}

/// What was appended to one partition.
private struct History {
  var all: [KeyedRecord] = []

  /// Appends a random batch.
  mutating func append(to log: LogWorld, _ partition: PartitionLog, keys: Int, tombstones: Bool = true) throws {
    let count = Int.random(in: 1...8, using: &log.random)
    let records = (0..<count).map { _ -> (key: String?, value: String?) in
      let isTombstone = tombstones && Int.random(in: 0..<8, using: &log.random) == 0
      let size = Int.random(in: 0...400, using: &log.random)
      return (
        "key-\(Int.random(in: 0..<keys, using: &log.random))",
        isTombstone ? nil : "\(all.count)-" + String(repeating: "v", count: size)
      )
    }
    let time = log.world.wallClock.milliseconds
    let codec = CompressionCodec.allCases[Int.random(in: 0..<5, using: &log.random)]
    let base = try log.append(try keyedBatch(records, time: time, codec: codec), to: partition)
    for (index, record) in records.enumerated() {
      all.append(
        KeyedRecord(
          offset: base + Int64(index), key: record.key, value: record.value, time: time + Int64(index)))
    }
  }

  /// Holds what is read against what was appended.
  func check(
    _ read: [KeyedRecord], compactedTo: Offset, untouchedFrom: Offset, tombstonesFrom time: Int64, _ comment: String,
    _ location: SourceLocation = #_sourceLocation
  ) {
    // Nothing but what was appended, in order, each where it was.
    var byOffset: [Offset: KeyedRecord] = [:]
    for record in all { byOffset[record.offset] = record }
    #expect(read.allSatisfy { byOffset[$0.offset] == $0 }, "\(comment)", sourceLocation: location)
    #expect(zip(read, read.dropFirst()).allSatisfy { $0.offset < $1.offset }, "\(comment)", sourceLocation: location)
    let kept = Set(read.map(\.offset))
    var newest: [String?: KeyedRecord] = [:]
    for record in all { newest[record.key] = record }
    for record in newest.values where record.value != nil || record.time >= time {
      #expect(kept.contains(record.offset), "\(comment): the newest of \(record.key ?? "")", sourceLocation: location)
    }
    // Behind the end of compaction nothing is missing, before it no key stands twice.
    for record in all where record.offset >= untouchedFrom {
      #expect(kept.contains(record.offset), "\(comment): \(record.offset)", sourceLocation: location)
    }
    var seen: Set<String?> = []
    for record in read where record.offset < compactedTo {
      #expect(seen.insert(record.key).inserted, "\(comment): \(record.key ?? "") twice", sourceLocation: location)
    }
  }
}

@Test("oracle: compaction of random histories keeps the newest record of each key, through restarts and several passes")
func oracleCompaction() throws {
  for seed: UInt64 in 1...12 {
    let log = LogWorld(seed: seed) {
      $0.hotTailSize = 64 << 10
      // A map of 48 keys, so that some histories take several passes.
      $0.keyMapSize = seed % 3 == 0 ? 64 * KeyMap.bytesPerSlot : 1 << 20
      $0.compactedSegmentSize = seed % 2 == 0 ? 16 << 10 : 1 << 20
      $0.cleanerBytesPerSecond = 1 << 30
    }
    try log.open()
    let keys = Int.random(in: 2...150, using: &log.random)
    var history = History()
    _ = try log.create(1)
    let began = log.world.wallClock.milliseconds
    for round in 0..<5 {
      for _ in 0..<Int.random(in: 10...120, using: &log.random) {
        try history.append(to: log, log.partition(1), keys: keys)
      }
      log.compact(try log.partition(1), compacting())
      if Int.random(in: 0..<2, using: &log.random) == 0 { try log.restart() }
      let partition = try log.partition(1)
      let batches = try log.readWithGaps(partition, limit: Int.random(in: 100...100_000, using: &log.random))
      // Tombstones are kept for a day, and all of this takes less.
      history.check(
        try records(in: batches), compactedTo: partition.compactedTo, untouchedFrom: partition.compactedTo,
        tombstonesFrom: began, "seed \(seed), round \(round)")
      #expect(partition.size == batches.reduce(0) { $0 + Int64($1.count) }, "seed \(seed)")
      #expect(partition.highWatermark == Int64(history.all.count))
      // Whatever offset a reader asks for, it gets the next batch that is there.
      for _ in 0..<20 {
        let offset = Int64.random(in: partition.startOffset..<partition.highWatermark, using: &log.random)
        let first = try RecordBatchHeader(try #require(log.read(partition, from: offset).get().first))
        let expected = try batches.map { try RecordBatchHeader($0) }.first { $0.lastOffset >= offset }
        #expect(first.baseOffset == expected?.baseOffset, "seed \(seed), offset \(offset)")
      }
    }
    #expect(try log.partition(1).compactedTo > 0, "seed \(seed): nothing was compacted")
  }
}

@Test("a topic of many updates stays below three times its live size")
func compactedSizeIsBounded() throws {
  let log = LogWorld(seed: 3) {
    $0.cleanerBytesPerSecond = 1 << 30
    $0.compactedSegmentSize = 64 << 10
  }
  try log.open()
  let partition = try log.create(1)
  var policy = compacting()
  policy.minDirtyRatio = 0.5
  let value = String(repeating: "x", count: 200)
  func update(_ key: Int) throws {
    try log.append(
      try keyedBatch((0..<10).map { ("key-\(key * 10 + $0)", value) }, time: log.world.wallClock.milliseconds),
      to: partition)
  }
  for key in 0..<100 { try update(key) }
  let live = partition.size
  var largest: Int64 = 0
  for step in 0..<1500 {
    try update(Int.random(in: 0..<100, using: &log.random))
    if step % 20 == 0 { log.store.compact([(partition, policy)]) }
    largest = max(largest, log.store.drain.segments.values.reduce(0) { $0 + $1.fileSize })
  }
  #expect(partition.size < 3 * live, "\(partition.size) of \(live)")
  // Files have headers and padding, and old ones stay beside new ones until the next snapshot.
  #expect(largest < 5 * live, "\(largest) in files of \(live)")
  #expect(log.store.cleaningFigures.compactions > 3)
}

@Test("tombstones stay for delete.retention.ms after they were compacted first, and go with the next compaction")
func tombstones() throws {
  let log = LogWorld { $0.cleanerBytesPerSecond = 1 << 30 }
  try log.open()
  let partition = try log.create(1)
  let policy = compacting { $0.deleteRetention = 60_000 }
  func filler() throws {
    let end = log.store.drain.drainedFile + 3
    while log.store.drain.drainedFile < end {
      try log.append(
        try keyedBatch([("filler", String(repeating: "f", count: 3000))], time: log.world.wallClock.milliseconds),
        to: partition)
    }
  }
  func tombstone() throws -> KeyedRecord? { try records(in: log.readWithGaps(partition)).first { $0.key == "gone" } }
  try log.append(try keyedBatch([("gone", "value")], time: 1000), to: partition)
  let deleted = try log.append(try keyedBatch([("gone", nil), ("stays", "1")], time: 2000), to: partition)
  try filler()
  log.compact(partition, policy)
  #expect(try tombstone() == KeyedRecord(offset: deleted, key: "gone", value: nil, time: 2000))
  // The time counts from the first compaction, not from the record's own.
  log.world.run(for: .seconds(30))
  try filler()
  log.compact(partition, policy)
  #expect(try tombstone()?.time == 2000)
  log.world.run(for: .seconds(60))
  try filler()
  log.compact(partition, policy)
  #expect(try tombstone() == nil)
  #expect(try records(in: log.readWithGaps(partition)).first { $0.key == "stays" }?.time == 2001)
}

@Test("batches of which nothing is removed are copied byte for byte, and sequences go on after compaction")
func untouchedBatches() throws {
  let log = LogWorld { $0.cleanerBytesPerSecond = 1 << 30 }
  try log.open()
  let partition = try log.create(1)
  var stored: [Bytes] = []
  for index in 0..<60 {
    let batch = try keyedBatch(
      [("unique-\(index)", String(repeating: "u", count: 2500))], time: 5, codec: .zstd, producer: 7,
      sequence: Int32(index))
    let offset = try log.append(batch, to: partition)
    stored.append(try #require(log.read(partition, from: offset, limit: 1).get().first))
  }
  log.compact(partition, compacting())
  #expect(partition.compactedTo > 0)
  #expect(try log.readWithGaps(partition) == stored)
  try log.restart()
  let again = try log.partition(1)
  let repeated = log.append(
    AppendUnit(again, stored[59], try keyedBatch([("unique-59", "u")], time: 5, producer: 7, sequence: 59).header))
  log.run { repeated.result != nil }
  #expect(try repeated.value().first?.isDuplicate == true)
  let next = try keyedBatch([("unique-60", "u")], time: 5, producer: 7, sequence: 60)
  #expect(try log.append(next, to: again) == 60)
}

@Test("the newest run, and what is younger than min.compaction.lag.ms, is left as it is")
func recentRecordsStay() throws {
  let log = LogWorld { $0.cleanerBytesPerSecond = 1 << 30 }
  try log.open()
  let partition = try log.create(1)
  log.store.cleaning.isRunning = true
  for _ in 0..<120 {
    try log.append(
      try keyedBatch([("same", String(repeating: "s", count: 2500))], time: log.world.wallClock.milliseconds),
      to: partition)
  }
  log.settle()
  log.store.cleaning.isRunning = false
  let newest = try #require(partition.extents.last)
  log.compact(partition, compacting { $0.minCompactionLag = 86_400_000 })
  #expect(partition.compactedTo == 0)
  log.compact(partition, compacting { $0.minDirtyRatio = 1.1 })
  #expect(partition.compactedTo == 0)
  log.compact(partition, compacting())
  #expect(partition.compactedTo == newest.baseOffset && partition.extents.last == newest)
  let kept = try records(in: log.readWithGaps(partition)).map(\.offset)
  #expect(kept == Array((newest.baseOffset - 1)..<120))
  // What has waited for too long is compacted, however little it is.
  log.store.cleaning.isRunning = true
  for _ in 0..<60 {
    try log.append(
      try keyedBatch([("other", String(repeating: "s", count: 2500))], time: log.world.wallClock.milliseconds),
      to: partition)
  }
  log.world.run(for: .seconds(100))
  #expect(partition.compactedTo == newest.baseOffset)
  log.store.cleaning.isRunning = false
  log.compact(
    partition,
    compacting {
      $0.minDirtyRatio = 1.1
      $0.maxCompactionLag = 50_000
    })
  #expect(partition.compactedTo > newest.baseOffset)
}

@Test(
  "recovers after a power loss in every operation of compaction and merging, with the newest record of each key",
  arguments: [false, true])
func recoversWhileCompacting(isEncrypted: Bool) throws {
  var compactions = 0
  for operation in 1...80 {
    let log = LogWorld(seed: UInt64(operation), isEncrypted: isEncrypted) {
      $0.hotTailSize = 64 << 10
      $0.cleanerBytesPerSecond = 1 << 30
      $0.compactedSegmentSize = 8 << 10
    }
    try log.open()
    var history = History()
    let partition = try log.create(1)
    for _ in 0..<100 { try history.append(to: log, partition, keys: 6, tombstones: false) }
    log.settle()
    log.store.compact([(partition, compacting())])
    log.world.crashAfterOperations(operation)
    log.world.run(for: .seconds(20))
    compactions += log.store.cleaningFigures.compactions
    if !log.world.isCrashed { log.world.crash(.powerLoss) }
    try log.restart()
    for step in 0..<2 {
      let partition = try log.partition(1)
      history.check(
        try records(in: log.readWithGaps(partition)), compactedTo: partition.compactedTo,
        // A pass that was interrupted has taken out some records already.
        untouchedFrom: max(partition.compactedTo, partition.extents.last?.baseOffset ?? 0), tombstonesFrom: 0,
        "operation \(operation), step \(step)")
      log.compact(partition, compacting())
    }
    let named = Set(try log.partition(1).extents.map { "/data/segments/\(SegmentFormat.name($0.segment))" })
    log.settle()
    #expect(Set(log.files(".segment")) == named, "operation \(operation): only what is needed is left")
  }
  #expect(compactions > 0)
}

@Test("a map of keys grows to its bound, knows the highest offset of each key, and takes no more")
func keyMap() {
  var random = SeededRandom(seed: 1)
  let hasher = KeyHasher(using: &random)
  func hash(_ key: Int) -> (UInt64, UInt64) { Bytes("key \(key)").withBuffer { hasher.hash($0) } }
  var map = KeyMap(limit: 4096 * KeyMap.bytesPerSlot)
  #expect(map.capacity == 3072)
  for key in 0..<3072 {
    let isTaken = map.insert(hash(key), offset: Int64(key))
    #expect(isTaken)
  }
  let isTaken = [(5000, 1), (7, 9000), (7, 8)].map { map.insert(hash($0.0), offset: Int64($0.1)) }
  #expect(isTaken == [false, true, true])
  #expect(map.newest(hash(7)) == 9000 && map.newest(hash(3071)) == 3071 && map.newest(hash(0)) == 0)
  #expect(map.newest(hash(5000)) == nil && map.count == 3072)
  // Keys that differ in length alone, or in one byte anywhere, are told apart.
  var seen: Set<[UInt64]> = []
  for length in 0..<40 {
    let hash = Bytes([UInt8](repeating: 0, count: length)).withBuffer { hasher.hash($0) }
    #expect(seen.insert([hash.0, hash.1]).inserted)
    for at in 0..<length {
      var key = [UInt8](repeating: 0, count: length)
      key[at] = 1
      let hash = Bytes(key).withBuffer { hasher.hash($0) }
      #expect(seen.insert([hash.0, hash.1]).inserted)
    }
  }
}

@Test(
  "records of aborted transactions go, and what is known of them; markers stay as long as their transaction has records"
)
func compactedTransactions() throws {
  let log = LogWorld { $0.cleanerBytesPerSecond = 1 << 30 }
  try log.open()
  let partition = try log.create(1)
  let policy = compacting { $0.deleteRetention = 60_000 }
  var sequence: [Int64: Int32] = [:]
  func write(_ producer: Int64, _ key: String, _ value: String) throws -> Offset {
    let batch = try keyedBatch(
      [(key, value)], time: log.world.wallClock.milliseconds, producer: producer, sequence: sequence[producer] ?? 0,
      isTransactional: true)
    sequence[producer, default: 0] += 1
    return try log.append(batch, to: partition)
  }
  func filler() throws {
    let end = log.store.drain.drainedFile + 3
    while log.store.drain.drainedFile < end {
      try log.append(
        try keyedBatch([("filler", String(repeating: "f", count: 3000))], time: log.world.wallClock.milliseconds),
        to: partition)
    }
  }
  func left() throws -> (records: Set<Offset>, markers: Set<Offset>) {
    var found: (records: Set<Offset>, markers: Set<Offset>) = ([], [])
    for batch in try log.readWithGaps(partition) {
      let header = try RecordBatchHeader(batch)
      if header.isControl {
        #expect(batch[21..<header.totalSize].crc32c == header.crc)
        found.markers.insert(header.baseOffset)
      } else if header.isTransactional {
        found.records.formUnion(try records(in: [batch]).map(\.offset))
      }
    }
    return found
  }
  try log.append(try keyedBatch([("a", "before")], time: 1), to: partition)
  let aborted = try write(5, "a", "void")
  let committed = try write(6, "b", "good")
  try log.finish(try log.end(5, commit: false, in: [partition]))
  let abortMarker = partition.nextOffset - 1
  try log.finish(try log.end(6, commit: true, in: [partition]))
  let commitMarker = partition.nextOffset - 1
  // What is open holds compaction back.
  let open = try write(7, "c", "open")
  try filler()
  log.compact(partition, policy)
  #expect(partition.compactedTo <= open)
  #expect(try left().records == [aborted, committed, open])
  try log.finish(try log.end(7, commit: true, in: [partition]))
  try filler()
  log.compact(partition, policy)
  #expect(partition.compactedTo > open)
  #expect(try left().records == [committed, open])
  #expect(try left().markers.isSuperset(of: [abortMarker, commitMarker]))
  #expect(partition.transactions.aborted.isEmpty, "nobody needs to be told of it any more")
  // The record that the aborted one would have replaced is still the newest of its key.
  #expect(try records(in: log.readWithGaps(partition).prefix(1).map { $0 }).first?.value == "before")
  log.world.run(for: .seconds(70))
  try filler()
  log.compact(partition, policy)
  #expect(try !left().markers.contains(abortMarker))
  #expect(try left().markers.contains(commitMarker))
  #expect(try log.readCommitted(partition).contains(committed))
}

@Test(
  "recovers: the segment of a compaction that ends after quicker drains, whose numbers are higher, has a durable name")
func recoversSlowCompaction() throws {
  for seed: UInt64 in 1...12 {
    let log = LogWorld(seed: seed) { $0.cleanerBytesPerSecond = 20_000 }
    try log.open()
    let partition = try log.create(1)
    func fill(_ count: Int) throws {
      for index in 0..<count {
        try log.append(
          try keyedBatch([("key-\(index % 7)", String(repeating: "v", count: 2500))], time: 5), to: partition)
      }
      log.settle()
    }
    func snapshot() {
      var isDone = false
      log.store.takeSnapshot { isDone = true }
      log.run { isDone }
    }
    try fill(80)
    log.store.compact([(partition, compacting())])
    log.world.run(for: .milliseconds(50))
    #expect(log.store.cleaning.isRunning && log.store.cleaningFigures.compactions == 0, "it takes its time")
    let before = log.store.drain.nextSegment
    try fill(40)
    #expect(log.store.drain.nextSegment > before, "drains went on meanwhile")
    snapshot()
    log.run { !log.store.cleaning.isRunning }
    #expect(log.store.cleaningFigures.compactions >= 1)
    snapshot()
    let expected = try records(in: log.readWithGaps(partition))
    try log.restart(.powerLoss)
    #expect(try records(in: log.readWithGaps(log.partition(1))) == expected, "seed \(seed)")
  }
}
