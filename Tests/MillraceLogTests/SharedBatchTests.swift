// SharedBatchTests: a batch that several partitions have is written once, and each of them reads it at its own offsets,
// wherever it lies and whatever becomes of the others.

import MillraceBase
import MillraceIO
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceLog

extension LogWorld {
  /// Appends a unit in which `numbers` have the same batch.
  func share(_ batch: TestBatch, among numbers: [Int64]) throws -> Pending {
    var unit = AppendUnit(try partition(numbers[0]), batch.bytes, try batch.header())
    for number in numbers.dropFirst() { unit.share(0, with: try partition(number)) }
    return append(unit)
  }

  /// The same, once that is durable, noted among what each of them has.
  fileprivate func share(_ batch: TestBatch, among numbers: [Int64], into all: inout [Int64: [TestBatch]]) throws {
    let pending = try share(batch, among: numbers)
    run { pending.result != nil }
    #expect(try pending.value().count == numbers.count)
    for number in numbers { all[number, default: []].append(batch) }
  }

  fileprivate func check(_ all: [Int64: [TestBatch]], limits: [Int] = [1, 5000, 1 << 20], _ place: String = "") throws {
    for (number, batches) in all.sorted(by: { $0.key < $1.key }) {
      let expected = try batches.stored(epoch: leaderEpoch)
      for limit in limits {
        #expect(
          try readAll(try partition(number), limit: limit) == expected, "partition \(number), limit \(limit) \(place)")
      }
      #expect(try partition(number).size == Int64(expected.reduce(0) { $0 + $1.count }), "size of \(number) \(place)")
      #expect(try partition(number).addedUpSize == partition(number).size)
    }
  }

  /// Appends to a partition of its own until all that was there before is in segments.
  fileprivate func drainAll(_ filler: Int64) throws {
    let log = try store.partition(PartitionLogID(filler)) ?? create(filler)
    let before = store.partitions.values.filter { $0.id.number != filler }
    func isDrained() -> Bool { before.allSatisfy { $0.extents.last?.nextOffset ?? $0.startOffset == $0.nextOffset } }
    while !isDrained() { _ = try fill(log, batches: 4, size: 9000...9000) }
    settle()
  }

  fileprivate func close(andRestart: Void) throws {
    #expect(try close() == nil)
    try restart()
  }
}

private func roomy(_ configuration: inout LogConfiguration) {
  configuration.hotTailSize = 1 << 20
  configuration.journalFileSize = 256 << 10
  configuration.firstJournalFileSize = 256 << 10
  configuration.largestUnit = 200 << 10
}

@Test("a reference to a batch takes 40 bytes, shared or not")
func referencesAreSmall() {
  #expect(MemoryLayout<BatchReference>.stride == 40)
  for sharing in [BatchReference.Sharing.none, .first, .further] {
    let reference = BatchReference(
      baseOffset: 1, maxTimestamp: 2, file: 3, position: 4096 + 96, length: 5, lastOffsetDelta: 0, leaderEpoch: 6,
      sharing: sharing)
    #expect(reference.position == 4096 + 96 && reference.isShared == (sharing != .none))
    #expect(reference.isFurther == (sharing == .further))
  }
}

@Test("a shared batch is written once, and read at each partition's offsets from memory, journal and segments")
func sharedFromEverywhere() throws {
  let log = LogWorld(seed: 3, roomy)
  log.leaderEpoch = 4
  try log.open()
  var all: [Int64: [TestBatch]] = [:]
  for number: Int64 in 1...3 {
    all[number] = try log.fill(try log.create(number), batches: Int(number), size: 100...200)
  }
  let before = log.store.journalFigures.bytesWritten
  // Below and above the size from which a segment takes a batch with its pages.
  for size in [9000, 70_000] {
    try log.share(TestBatch(records: 3, size: size), among: [2, 1, 3], into: &all)
    all[2]! += try log.fill(try log.partition(2), batches: 1, size: 100...200)
  }
  let written = log.store.journalFigures.bytesWritten - before
  #expect(written < 79_000 + 8 * 4096, "\(written) bytes written")
  let reads = readOperations(log)
  try log.check(all, "in memory")
  #expect(reads() == 0, "all of it is in memory")
  try log.restart()
  #expect(try log.partition(1).extents.isEmpty)
  try log.check(all, "in the journal")
  try log.drainAll(9)
  #expect(try (1...3).allSatisfy { try log.partition($0).extents.contains { $0.sharedBytes > 70_000 } })
  try log.close(andRestart: ())
  try log.check(all, "in a segment")
  let uses = log.store.drain.segments.values.filter { $0.sharedBytes > 0 }
  #expect(uses.reduce(0) { $0 + $1.sharedBytes } < 80_000, "each stands once")
  #expect(uses.allSatisfy { $0.liveBytes <= $0.fileSize })
}

@Test("a partition may have a shared batch twice, and blocks that stand before those in front of them")
func sharedTwiceAndBackwards() throws {
  let log = LogWorld(seed: 5, roomy)
  try log.open()
  var all: [Int64: [TestBatch]] = [:]
  for number: Int64 in 1...4 { all[number] = try log.fill(try log.create(number), batches: 2) }
  for round in 0..<6 {
    let first = TestBatch(records: 2, size: 5000 + 10 * round)
    let second = TestBatch(size: 6000 + 10 * round)
    var unit = AppendUnit()
    func add(_ batch: TestBatch, _ number: Int64, as index: Int? = nil) throws {
      if let index {
        unit.share(index, with: try log.partition(number))
      } else {
        unit.batches.append((try log.partition(number), batch.bytes, try batch.header()))
      }
      all[number]!.append(batch)
    }
    try add(first, 1)
    try add(second, 4)
    try add(second, 2, as: 1)
    try add(first, 2, as: 0)
    try add(TestBatch(size: 100), 2)
    try add(first, 2, as: 3)
    try add(first, 3, as: 0)
    try add(second, 3, as: 2)
    let size = unit.size
    #expect(size < 12_500, "\(size)")
    let pending = log.append(unit)
    log.run { pending.result != nil }
    _ = try pending.value()
  }
  try log.check(all, "in memory")
  try log.restart()
  try log.check(all, "in the journal")
  try log.drainAll(9)
  try log.close(andRestart: ())
  try log.check(all, limits: [1, 3000, 12_000, 20_000, 1 << 20], "in segments")
}

@Test("what is left of a shared batch's partitions reads it when the others are deleted or have moved on")
func othersGo() throws {
  for (seed, stage) in ["memory", "journal", "segment"].enumerated() {
    for doomed: Int64 in 1...3 {
      let log = LogWorld(seed: UInt64(seed), roomy)
      try log.open()
      var all: [Int64: [TestBatch]] = [:]
      for number: Int64 in 1...4 { all[number] = try log.fill(try log.create(number), batches: Int(number)) }
      for size in [5000, 9000] { try log.share(TestBatch(size: size), among: [1, 2, 3, 4], into: &all) }
      if stage == "segment" { try log.drainAll(9) }
      var unit = AppendUnit(event: Bytes("delete \(doomed)"))
      unit.startOffsets = [(try log.partition(4), try log.partition(4).highWatermark)]
      let pending = log.append(unit)
      log.run { pending.result != nil }
      _ = try pending.value()
      all[doomed] = nil
      all[4] = nil
      if stage != "memory" { try log.restart() }
      try log.check(all, "\(stage), without \(doomed)")
      #expect(try log.readAll(log.partition(4)).isEmpty)
      try log.drainAll(9)
      try log.close(andRestart: ())
      try log.check(all, "\(stage), without \(doomed), drained")
    }
  }
}

@Test("a merge copies a shared block once, and counts it once")
func sharedBlocksAreMerged() throws {
  let log = LogWorld(seed: 7) {
    roomy(&$0)
    $0.cleanerBytesPerSecond = 1 << 30
    $0.compactedSegmentSize = 4 << 20
    $0.mergedRunSize = 1 << 20
    $0.cleanerStepSize = 20_000
  }
  try log.open()
  var all: [Int64: [TestBatch]] = [:]
  for number: Int64 in 1...3 { all[number] = try log.fill(try log.create(number), batches: 1) }
  log.store.cleaning.isRunning = true
  while log.files(".segment").count < 10 {
    try log.share(TestBatch(size: Int.random(in: 5000...80_000, using: &log.random)), among: [3, 1, 2], into: &all)
    for number: Int64 in 1...3 { all[number]! += try log.fill(try log.partition(number), batches: 2) }
  }
  log.settle()
  let stored = log.store.drain.segments.values.reduce(0) { $0 + $1.sharedBytes }
  log.store.cleaning.isRunning = false
  log.store.compact([])
  log.run { !log.store.cleaning.isRunning }
  log.settle()
  #expect(log.store.cleaningFigures.merges > 0 && log.files(".segment").count < 8)
  #expect(log.store.drain.segments.values.reduce(0) { $0 + $1.sharedBytes } == stored)
  let size = log.store.drain.segments.values.reduce(0) { $0 + $1.fileSize }
  #expect(size < 2 * stored, "\(size) bytes of files for \(stored)")
  try log.check(all, "merged")
  try log.close(andRestart: ())
  try log.check(all, "after a restart")
}

@Test("a segment is mostly dead when few of its bytes are needed by anyone, not when few of its partitions need it")
func sharedBytesThatAreNeeded() throws {
  let log = LogWorld(seed: 9) {
    roomy(&$0)
    $0.cleanerBytesPerSecond = 1 << 30
  }
  try log.open()
  var all: [Int64: [TestBatch]] = [:]
  for number: Int64 in 1...10 { all[number] = try log.fill(try log.create(number), batches: 1) }
  for _ in 0..<8 { try log.share(TestBatch(size: 15_000), among: Array(1...10), into: &all) }
  try log.drainAll(20)
  for number: Int64 in 1...8 {
    let deletion = log.append(AppendUnit(event: Bytes("delete \(number)")))
    log.run { deletion.result != nil }
    all[number] = nil
  }
  log.settle()
  log.store.compact([])
  log.settle()
  for use in log.store.drain.segments.values where use.sharedBytes > 0 {
    #expect(use.liveBytes >= use.sharedBytes && use.liveBytes <= use.fileSize)
  }
  #expect(log.store.cleaningFigures.merges == 0, "what two of ten need is needed")
  // Nearly all of it is done with: few bytes are needed, if by two.
  var unit = AppendUnit()
  for number: Int64 in 9...10 {
    unit.startOffsets.append((try log.partition(number), try log.partition(number).highWatermark))
  }
  let pending = log.append(unit)
  log.run { pending.result != nil }
  log.store.compact([])
  log.run { !log.store.cleaning.isRunning }
  log.settle()
  #expect(log.store.cleaningFigures.merges > 0)
  #expect(log.store.drain.segments.values.allSatisfy { $0.sharedBytes == 0 }, "what nobody needs goes")
}

@Test(
  "recovers: power lost at any operation loses nothing of what is shared, and gives nobody another's offsets",
  arguments: [false, true])
func recoversShared(isEncrypted: Bool) throws {
  for operation in stride(from: 1, through: 80, by: 1) {
    let log = LogWorld(seed: UInt64(operation), isEncrypted: isEncrypted) {
      $0.cleanerBytesPerSecond = 1 << 30
      $0.mergedRunSize = 1 << 20
    }
    try log.open()
    var all: [Int64: [TestBatch]] = [:]
    for number: Int64 in 1...3 { all[number] = try log.fill(try log.create(number), batches: Int(number)) }
    for _ in 0..<20 { try log.share(TestBatch(records: 2, size: 4000), among: [2, 3, 1], into: &all) }
    log.store.compact([])
    log.world.crashAfterOperations(operation)
    while !log.world.isCrashed {
      let batch = TestBatch(size: Int.random(in: 1000...9000, using: &log.random))
      let pending = try log.share(batch, among: [1, 2, 3])
      log.world.run(atMost: 100_000) { pending.result != nil }
      if pending.result != nil { for number: Int64 in 1...3 { all[number]!.append(batch) } }
    }
    try log.restart()
    var counts: Set<Int> = []
    for number: Int64 in 1...3 {
      let found = try log.readAll(log.partition(number))
      #expect(try Array(found.prefix(all[number]!.count)) == all[number]!.stored(), "operation \(operation)")
      counts.insert(found.count - all[number]!.count)
    }
    #expect(counts.count == 1, "all of a unit or nothing")
  }
}

@Test("damage to a shared batch in the journal is reported to each of its partitions")
func damagedSharedJournal() throws {
  let log = LogWorld(seed: 2, roomy)
  try log.open()
  var all: [Int64: [TestBatch]] = [:]
  for number: Int64 in 1...3 { all[number] = try log.fill(try log.create(number), batches: Int(number)) }
  try log.share(TestBatch(size: 6000), among: [1, 2, 3], into: &all)
  log.settle()
  try log.restart()
  let path = try #require(log.files(".journal").first)
  let place = try #require(try log.partition(1).recent.last)
  for field in 0..<Int(place.length) where field < 70 || field % 397 == 0 {
    try log.damage(path, at: Int(place.position) + field)
    for number: Int64 in 1...3 {
      let reference = try #require(try log.partition(number).recent.last)
      #expect(reference.position == place.position)
      let result = log.read(try log.partition(number), from: reference.baseOffset, limit: 1)
      if field < 8, number != 1 {
        // Another partition's offset, which this one's readers never see.
        #expect(try result.get() == [try #require(try all[number]!.stored().last)])
        continue
      }
      guard case .failure(let error) = result else {
        Issue.record("byte \(field) was served damaged")
        return
      }
      #expect(error.code == .corruption && error.reason.contains("\(path): batch at byte \(place.position)"))
    }
    try log.damage(path, at: Int(place.position) + field)
  }
  try log.check(all)
}

@Test("damage to a shared block is reported to each of its partitions, by scrubbing once, and by an inspection once")
func damagedSharedBlock() throws {
  let log = LogWorld(seed: 4) {
    roomy(&$0)
    $0.hotTailSize = 1
    $0.scrubBytesPerSecond = 1 << 20
    $0.scrubInterval = 10_000
  }
  try log.open()
  var all: [Int64: [TestBatch]] = [:]
  for number: Int64 in 1...3 { all[number] = try log.fill(try log.create(number), batches: Int(number)) }
  try log.share(TestBatch(size: 16_000), among: [1, 2, 3], into: &all)
  try log.drainAll(9)
  log.store.cleaning.isRunning = true
  let extent = try #require(try log.partition(1).extents.first { $0.sharedBytes > 0 })
  let path = "/data/segments/\(SegmentFormat.name(extent.segment))"
  let block = try #require(try log.store.segments.index(extent).first { $0.isShared })
  log.world.run(for: .seconds(30))
  #expect(log.store.scrubFigures.damaged == 0 && log.store.scrubFigures.rounds > 0)
  for field in [0, 3, 9, 13, 40, 9000, block.length - 1] {
    try log.damage(path, at: Int(block.position) + field)
    for number: Int64 in 1...3 {
      let offset = try RecordBatchHeader(#require(all[number]?.stored().last)).baseOffset
      guard case .failure(let error) = log.read(try log.partition(number), from: offset) else {
        Issue.record("byte \(field) was served damaged")
        return
      }
      #expect(error.code == .corruption && error.reason.contains("\(path): block of \(block.length) bytes"))
    }
    let damaged = log.store.scrubFigures.damaged
    log.world.run(for: .seconds(40))
    #expect(log.store.scrubFigures.damaged == max(damaged, 1), "the same place is told once")
    let problems = try LogInspection.run(directory: "/data", fileSystem: log.disk).problems
    #expect(problems.count == 1 && problems[0].contains("block of \(block.length) bytes at byte \(block.position)"))
    try log.damage(path, at: Int(block.position) + field)
  }
  try log.check(all)
}

@Test("an inspection and an export have what is shared for each partition, and the new directory has it once")
func sharedIsExported() throws {
  for isDrained in [false, true] {
    let log = LogWorld(seed: 6, roomy)
    try log.open()
    var all: [Int64: [TestBatch]] = [:]
    for number: Int64 in 1...3 { all[number] = try log.fill(try log.create(number), batches: Int(number)) }
    for size in [5000, 70_000] { try log.share(TestBatch(records: 2, size: size), among: [3, 1, 2], into: &all) }
    if isDrained { try log.drainAll(9) } else { log.settle() }
    log.end()
    var records = 0
    let found = try LogInspection.run(directory: "/data", fileSystem: log.disk) { records += $0.records }
    #expect(found.problems.isEmpty && found.records == records)
    if !isDrained { #expect(found.batches == 6 + 6 && records >= 12 + 6) }
    let machine = TestStateMachine()
    let export = try LogExport.run(
      from: "/data", to: "/new", fileSystem: log.disk, stateMachine: machine,
      reactor: SimulatedReactor(world: log.world, name: "export"), logger: .silent, random: &log.random)
    #expect(export.losses.isEmpty, "\(export.losses)")
    let size = log.disk.contents().filter { $0.path.hasPrefix("/new/segments") }.reduce(0) { $0 + $1.bytes.count }
    #expect(isDrained || size < 75_000 + 40_000, "\(size) bytes")
    log.configuration.directory = "/new"
    try log.open()
    try log.check(all, "exported")
    #expect(log.store.drain.segments.values.reduce(0) { $0 + $1.sharedBytes } < 76_000)
  }
}

@Test("an entry that speaks of records which are not there is refused, naming commit and entry")
func entriesOfRecordsThatAreNotThere() throws {
  // A records entry of eight bytes, shared or not, and one that speaks of it.
  func read(
    flags: UInt8 = 1, position: UInt32 = 96, length: UInt32 = 8, size: Int = 16, isFirst: Bool = false
  ) throws -> [(kind: JournalEntryKind, target: Int64, position: Int, length: Int, base: Offset?)] {
    var records = ByteWriter(capacity: 64)
    records.uint8(1)
    records.uint8(flags)
    records.uint16(0)
    records.uint32(8)
    records.int64(5)
    records.int64(0x4142)
    var same = ByteWriter(capacity: 64)
    same.uint8(4)
    same.uint8(0)
    same.uint16(0)
    same.uint32(UInt32(size))
    same.int64(6)
    same.uint32(position)
    same.uint32(length)
    for _ in 0..<(size - 8) / 8 { same.int64(77) }
    let parts = [records.finishJoined().array, same.finishJoined().array]
    let payload = isFirst ? parts[1] + parts[0] : parts[0] + parts[1]
    let header = CommitHeader(
      sequence: 31, durable: 0, payloadLength: payload.count, entryCount: 2, previous: 0, payloadCRC: 0,
      identity: MadeJournal.identity, fileNumber: 1, time: Timestamp(milliseconds: 1))
    var out: [(kind: JournalEntryKind, target: Int64, position: Int, length: Int, base: Offset?)] = []
    try Bytes([UInt8](repeating: 0, count: JournalFormat.commitHeaderSize) + payload)
      .withBuffer { buffer throws(LogError) in
        try JournalEntry.forEach(in: buffer, header: header) { entry throws(LogError) in
          out.append((entry.kind, entry.target, entry.position, entry.length, entry.baseOffset))
        }
      }
    return out
  }
  let sound = try read()
  #expect(sound.count == 2 && sound[0].position == 96 && sound[0].base == nil)
  #expect(sound[1].position == 96 && sound[1].length == 8 && sound[1].target == 6 && sound[1].base == 77)
  for attempt: () throws -> Any in [
    { try read(flags: 0) }, { try read(position: 88) }, { try read(position: 104) }, { try read(position: .max) },
    { try read(length: 7) }, { try read(length: 16) }, { try read(size: 8) }, { try read(size: 24) },
    { try read(position: 128, isFirst: true) },
  ] {
    let error = #expect(throws: LogError.self) { try attempt() }
    #expect(error?.code == .corruption && error?.reason.contains("commit 31: entry") == true)
  }
}

@Test("a unit counts what is shared once against the most that it may be")
func sizeOfASharedUnit() throws {
  let log = LogWorld(seed: 1)
  try log.open()
  for number: Int64 in 1...40 { _ = try log.create(number) }
  let batch = TestBatch(size: 40_000)
  let pending = try log.share(batch, among: Array(1...40))
  log.run { pending.result != nil }
  #expect(try pending.value().count == 40)
  let tooLarge = try log.share(TestBatch(size: 49_200), among: [1, 2])
  #expect(tooLarge.error?.code == .tooLarge)
}

@Test("oracle: shared and other batches, deletions, starts that move, drains, merges and restarts against a model")
func oracleShared() throws {
  for seed: UInt64 in 1...12 {
    let log = LogWorld(seed: seed) {
      $0.cleanerBytesPerSecond = 1 << 30
      $0.mergedRunSize = 1 << 20
      $0.compactedSegmentSize = 128 << 10
      $0.hotTailSize = [1, 64 << 10, 256 << 10][Int(seed % 3)]
    }
    try log.open()
    var all: [Int64: [TestBatch]] = [:]
    // Batches that the start has passed.
    var passed: [Int64: Int] = [:]
    var next: Int64 = 1
    func make() throws {
      _ = try log.create(next)
      all[next] = []
      next += 1
    }
    func check(_ limits: [Int], _ place: String) throws {
      for (number, batches) in all.sorted(by: { $0.key < $1.key }) {
        let expected = try batches.stored().dropFirst(passed[number] ?? 0)
        for limit in limits {
          #expect(
            try log.readAll(try log.partition(number), limit: limit) == Array(expected),
            "partition \(number), limit \(limit), seed \(seed), \(place)")
        }
        #expect(try log.partition(number).addedUpSize == log.partition(number).size)
      }
    }
    for _ in 0..<4 { try make() }
    for step in 0..<150 {
      switch Int.random(in: 0..<40, using: &log.random) {
      case 0:
        let doomed = all.keys.sorted()[Int.random(in: 0..<all.count, using: &log.random)]
        let deletion = log.append(AppendUnit(event: Bytes("delete \(doomed)")))
        log.run { deletion.result != nil }
        all[doomed] = nil
        try make()
      case 1:
        log.settle()
        try log.restart(Bool.random(using: &log.random) ? .powerLoss : .processKill)
      case 2: try check([4000], "step \(step)")
      case 4:
        let number = all.keys.sorted()[Int.random(in: 0..<all.count, using: &log.random)]
        let count = Int.random(in: (passed[number] ?? 0)...all[number]!.count, using: &log.random)
        passed[number] = count
        var unit = AppendUnit()
        let start = try all[number]!.prefix(count).reduce(0) { $0 + Int64(try $1.header().recordCount) }
        unit.startOffsets = [(try log.partition(number), start)]
        let pending = log.append(unit)
        log.run { pending.result != nil }
      case 3:
        log.settle()
        log.store.compact([])
      default:
        var unit = AppendUnit()
        var added: [(Int64, TestBatch)] = []
        for _ in 0..<Int.random(in: 1...3, using: &log.random) {
          let batch = TestBatch(
            records: Int.random(in: 1...3, using: &log.random), size: Int.random(in: 100...6000, using: &log.random))
          let numbers = all.keys.sorted().filter { _ in Bool.random(using: &log.random) }.shuffled(using: &log.random)
          for (index, number) in numbers.enumerated() {
            if index == 0 {
              unit.batches.append((try log.partition(number), batch.bytes, try batch.header()))
            } else {
              unit.share(unit.batches.count - 1, with: try log.partition(number))
            }
            added.append((number, batch))
          }
        }
        guard !unit.batches.isEmpty else { continue }
        let pending = log.append(unit)
        log.run { pending.result != nil }
        let appended = try pending.value()
        for (index, (number, batch)) in added.enumerated() {
          let offset = try all[number]!.reduce(0) { $0 + Int64(try $1.header().recordCount) }
          #expect(appended[index].baseOffset == offset)
          all[number]!.append(batch)
        }
      }
    }
    try check([1, 5000, 1 << 20], "at the end")
    log.settle()
    for use in log.store.drain.segments.values { #expect(use.liveBytes <= use.fileSize && use.liveBytes >= 0) }
    try log.restart()
    try check([1, 5000, 1 << 20], "restarted")
  }
}
