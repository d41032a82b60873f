// JournalRecoveryTests: what is cut off, what is reported, and what survives.

import MillraceBase
import MillraceIO
import MillraceModel
import Testing

@testable import MillraceLog

@Test("recovers after a power loss in every disk operation, with all that was acknowledged", arguments: [false, true])
func recoversFromEveryOperation(isEncrypted: Bool) throws {
  for operation in 1...60 {
    for seed: UInt64 in 1...3 {
      let log = LogWorld(seed: seed * 1000 + UInt64(operation), isEncrypted: isEncrypted)
      log.world.crashAfterOperations(operation)
      var batches: [TestBatch] = []
      do {
        try log.open()
        let created = log.append(AppendUnit(event: Bytes("create 1")))
        log.world.run(atMost: 10_000) { created.result != nil }
        while !log.world.isCrashed {
          let batch = TestBatch(size: Int.random(in: 100...6000, using: &log.random))
          let pending = log.append(AppendUnit(try log.partition(1), batch.bytes, try batch.header()))
          log.world.run(atMost: 100_000) { pending.result != nil }
          if pending.result != nil { batches.append(batch) }
        }
      } catch is LogError {
        #expect(log.world.isCrashed)
      }
      try log.restart()
      guard !batches.isEmpty else { continue }
      let stored = try log.readAll(log.partition(1))
      #expect(stored.count >= batches.count && stored.count <= batches.count + 1)
      #expect(try Array(stored.prefix(batches.count)) == batches.stored())
    }
  }
}

@Test("the name of a new data directory is durable before anything is acknowledged", arguments: [false, true])
func newDirectorySurvives(isEncrypted: Bool) throws {
  for seed: UInt64 in 1...20 {
    let log = LogWorld(seed: seed, isEncrypted: isEncrypted)
    try log.open()
    _ = try log.create(1)
    try log.restart()
    #expect(log.machine.events == ["create 1"])
  }
}

@Test("a torn last commit is cut off, and the log goes on in its place")
func tornTail() throws {
  let log = LogWorld { $0.idleHeaderDelay = 1_000_000 }
  try log.open()
  let partition = try log.create(1)
  let batches = try log.fill(partition, batches: 3)
  log.writer.isHeld = true
  let lost = log.append(AppendUnit(partition, TestBatch().bytes, try TestBatch().header()))
  log.settle()
  #expect(lost.result == nil)
  log.end()
  // As if half of the write had arrived: the header with a payload that does not match.
  let path = try #require(log.files(".journal").first)
  let bytes = try log.contents(path)
  let end = try lastCommit(bytes)
  var torn = CommitHeader(
    sequence: end.header.sequence + 1, durable: end.header.sequence, payloadLength: 500, entryCount: 1,
    previous: 0, payloadCRC: 7, identity: end.header.identity, fileNumber: end.header.fileNumber,
    time: Timestamp(milliseconds: 0))
  torn.previous = Bytes(Array(bytes[end.position...])).withBuffer { CommitHeader.chainValue($0) }
  let block = Chunk(capacity: 4096)
  block.base.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
  _ = torn.write(to: block.base)
  let file = try log.disk.open(path, [.write])
  try file.write(
    UnsafeRawBufferPointer(start: block.base, count: 4096), at: Int64(end.position + end.header.alignedSize(page: 4096))
  )
  try file.flush()
  try log.open()
  #expect(try log.readAll(log.partition(1)) == batches.stored())
  try log.append(TestBatch(), to: log.partition(1))
  try log.restart()
  #expect(try log.readAll(log.partition(1)).count == 4)
}

@Test("a file that was begun behind the cut-off tail is emptied, whatever memory held before")
func futureFileIsForgotten() throws {
  let log = LogWorld { $0.idleHeaderDelay = 1_000_000 }
  try log.open()
  let batches = try log.fill(log.create(1), batches: 3)
  log.end()
  let first = try #require(log.files(".journal").first)
  let bytes = try log.contents(first)
  let end = try lastCommit(bytes)
  // As if a later file's first write had become durable, and what goes before it had not.
  // Recovery reads all of it, and writes with memory that has held what it read.
  let contents = Chunk(capacity: bytes.count)
  contents.base.initializeMemory(as: UInt8.self, repeating: 0xaa, count: bytes.count)
  JournalFileHeader(
    identity: end.header.identity, fileNumber: 9, fileSize: bytes.count, firstSequence: end.header.sequence + 5
  ).write(to: contents.base)
  let path = String(first.prefix { $0 != "." }.dropLast(2)) + "77.journal"
  let file = try log.disk.open(path, [.read, .write, .create])
  try file.write(UnsafeRawBufferPointer(start: contents.base, count: bytes.count), at: 0)
  try file.flush()
  try log.disk.syncDirectory(String(path.prefix(upTo: try #require(path.lastIndex(of: "/")))))
  try log.open()
  #expect(try log.contents(path).prefix(4096).allSatisfy { $0 == 0 })
  #expect(try log.readAll(log.partition(1)) == batches.stored())
}

/// The last whole commit of a journal file.
private func lastCommit(_ bytes: [UInt8]) throws -> (header: CommitHeader, position: Int) {
  var at = 4096
  var last: (CommitHeader, Int)?
  while at < bytes.count, let header = Bytes(Array(bytes[at...])).withBuffer({ CommitHeader($0) }),
    last == nil || header.sequence == last!.0.sequence + 1
  {
    last = (header, at)
    at += header.alignedSize(page: 4096)
  }
  return try #require(last)
}

@Test(
  "every damaged byte of a durable commit is reported with file and position, and never cut off",
  arguments: [false, true])
func everyDamagedByte(isEncrypted: Bool) throws {
  // Positions in the second commit: each field of the header, entry headers, and a batch.
  let fields = [0, 3, 4, 8, 15, 16, 24, 28, 32, 40, 44, 48, 64, 72, 79, 80, 83, 84, 88, 96, 108, 113, 140, 160]
  for field in fields {
    let log = LogWorld(isEncrypted: isEncrypted)
    try log.open()
    let partition = try log.create(1)
    let first = try log.fill(partition, batches: 4)
    log.settle()
    #expect(first.count == 4)
    log.end()
    let path = try #require(log.files(".journal").first)
    try log.damage(path, at: 2 * log.page + field)
    let error = #expect(throws: LogError.self, "byte \(field)") { try log.open() }
    #expect(error?.code == .corruption, "byte \(field)")
    #expect(error?.reason.contains("\(path) at byte \(2 * log.page)") == true, "byte \(field): \(error?.reason ?? "")")
  }
}

@Test(
  "a damaged header of the only journal file is reported instead of taken for an empty log", arguments: [false, true])
func damagedOnlyHeader(isEncrypted: Bool) throws {
  for field in [0, 4, 8, 16, 31, 39, 47, 55, 63] {
    let log = LogWorld(isEncrypted: isEncrypted)
    try log.open()
    _ = try log.fill(try log.create(1), batches: 3)
    log.settle()
    log.end()
    try log.damage(try #require(log.files(".journal").first), at: field)
    let error = #expect(throws: LogError.self, "byte \(field)") { try log.open() }
    #expect(error?.code == .corruption)
    #expect(error?.reason.contains(".journal at byte") == true)
  }
}

/// A log with several journal files, none of them drained.
private func withSeveralFiles() throws -> LogWorld {
  let log = LogWorld { $0.journalFileLimit = 5 }
  try log.open()
  let partition = try log.create(1)
  log.disk.faults.predicate = { $0.path.hasSuffix(".segment") ? .failed : nil }
  while log.files(".journal").count < 4 { _ = try log.fill(partition, batches: 1, size: 2000...3000) }
  _ = try log.fill(partition, batches: 5)
  log.settle()
  log.disk.faults.predicate = nil
  log.end()
  return log
}

@Test("a missing journal file is reported, whichever it is of those that others follow")
func missingFile() throws {
  for index in 0..<2 {
    let log = try withSeveralFiles()
    try log.disk.remove(log.files(".journal")[index])
    let error = #expect(throws: LogError.self) { try log.open() }
    #expect(error?.code == .corruption)
  }
}

@Test("a damaged file header is reported when other files are whole")
func damagedHeaderAmongOthers() throws {
  for index in 0..<3 {
    let log = try withSeveralFiles()
    try log.damage(log.files(".journal")[index], at: 20)
    let error = #expect(throws: LogError.self) { try log.open() }
    #expect(error?.code == .corruption)
  }
}

@Test("a file of another data directory is refused by name")
func foreignFile() throws {
  let log = try withSeveralFiles()
  let other = LogWorld(seed: 99)
  try other.open()
  _ = try other.create(7)
  let bytes = try other.contents(try #require(other.files(".journal").first))
  let file = try log.disk.open("\(log.journalDirectory)/00000042.journal", [.write, .create])
  try bytes.withUnsafeBytes { try file.write($0, at: 0) }
  let error = #expect(throws: LogError.self) { try log.open() }
  #expect(error?.reason.contains("00000042.journal: this journal file belongs to another") == true)
}

@Test(
  "a commit that a failed write left in the cache alone is durable once the log has started with it",
  arguments: [false, true])
func doubtfulCommitsAreWrittenAgain(isEncrypted: Bool) throws {
  var hadDoubtful = 0
  for seed: UInt64 in 1...40 {
    let log = LogWorld(seed: seed, isEncrypted: isEncrypted)
    try log.open()
    let partition = try log.create(1)
    log.disk.faults.predicate = { $0.kind == .write && $0.path.hasSuffix(".journal") ? .failed : nil }
    let failed = log.append(AppendUnit(partition, TestBatch().bytes, try TestBatch().header()))
    log.run { failed.result != nil }
    log.disk.faults.predicate = nil
    try log.restart(.processKill)
    let seen = try log.partition(1).highWatermark
    hadDoubtful += Int(seen)
    try log.restart(.powerLoss)
    #expect(try log.partition(1).highWatermark == seen, "seed \(seed)")
  }
  #expect(hadDoubtful > 0, "the fault never left a whole commit in the cache")
}

@Test("a segment that the snapshot names and that is missing is reported at the start")
func missingSegment() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  while log.files(".segment").isEmpty { _ = try log.fill(partition, batches: 1) }
  log.settle()
  log.end()
  let path = try #require(log.files(".segment").first)
  try log.disk.remove(path)
  let error = #expect(throws: LogError.self) { try log.open() }
  #expect(error?.reason == "\(path): the segment is missing")
}

@Test("a journal file that was cut off is reported, wherever it was cut")
func cutJournalFile() throws {
  for kept in [0, 63, 64, 100, 4096, 5000, 8192, 12_288, 61_440, 65_535] {
    let log = LogWorld()
    try log.open()
    _ = try log.fill(try log.create(1), batches: 3)
    log.settle()
    log.end()
    let path = try #require(log.files(".journal").first)
    let file = try log.disk.open(path, [.read, .write])
    try file.resize(Int64(kept))
    try file.flush()
    file.close()
    let error = #expect(throws: LogError.self, "\(kept) bytes") { try log.open() }
    #expect(error?.code == .corruption, "\(kept) bytes: \(error?.reason ?? "")")
    if kept >= 64 {
      #expect(error?.reason == "\(path): the file ends at byte \(kept), it was 65536 bytes long")
    }
    // Nothing is removed that somebody could still learn from.
    #expect(log.files(".journal") == [path])
  }
}

@Test("a journal file that holds nothing needed may be cut off")
func cutSpareFile() throws {
  let log = LogWorld()
  try log.open()
  let batches = try log.fill(try log.create(1), batches: 120)
  log.settle()
  #expect(try log.close() == nil)
  log.end()
  let snapshot = try #require(try SnapshotSlots.read("/data", fileSystem: log.disk).snapshot)
  var cut = 0
  for path in log.files(".journal") {
    let header = try log.contents(path).withUnsafeBytes { JournalFileHeader($0) }
    guard let header, header.firstSequence <= snapshot.drainedSequence else { continue }
    let file = try log.disk.open(path, [.read, .write])
    try file.resize(5000)
    try file.flush()
    file.close()
    cut += 1
  }
  #expect(cut > 0)
  try log.open()
  #expect(try log.readAll(log.partition(1)) == batches.stored())
}

@Test("a journal of which no file is left is no new journal")
func lostJournal() throws {
  let log = LogWorld()
  try log.open()
  _ = try log.create(1)
  log.settle()
  log.end()
  for path in log.files(".journal") { try log.disk.remove(path) }
  let error = #expect(throws: LogError.self) { try log.open() }
  #expect(error?.code == .corruption && error?.reason.contains("/data/journal") == true)
}

@Test("segments stay where they are when the snapshot that named them is lost and the journal cannot do without it")
func lostSnapshot() throws {
  let log = LogWorld()
  try log.open()
  log.store.cleaning.isRunning = true
  _ = try log.fill(try log.create(1), batches: 120)
  log.settle()
  log.end()
  let segments = log.files(".segment")
  #expect(segments.count > 1)
  for slot in 0...1 { try log.disk.remove(SnapshotSlots.path("/data", slot)) }
  let error = #expect(throws: LogError.self) { try log.open() }
  #expect(error?.code == .corruption)
  #expect(log.files(".segment") == segments)
}

@Test("a damaged header of the file that goes on is named")
func damagedHeaderIsNamed() throws {
  let log = try withSeveralFiles()
  let path = log.files(".journal")[2]
  try log.damage(path, at: 20)
  let error = #expect(throws: LogError.self) { try log.open() }
  #expect(error?.reason.contains("\(path) at byte 0: the file's header cannot be read") == true)
}

@Test("a file header that was wiped, and comes back with a power failure, is not taken for that of the file in use")
func headerThatComesBack() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  var batches = try log.fillUntilDrainIsHeld(partition)
  batches += try log.fill(partition, batches: 2)
  log.end()
  // A start whose tail was cut off wiped this header and was killed; the next one gave sequence and number again.
  let used = try #require(log.files(".journal").max())
  let file = try log.disk.open(used, [.read, .write])
  let size = Int(try file.size())
  let header = Chunk(capacity: 64 * 1024)
  let block = UnsafeMutableRawBufferPointer(start: header.base, count: 4096)
  _ = try file.read(into: block, at: 0)
  let back = try log.disk.open("\(log.journalDirectory)/00000000.journal", [.write, .create])
  try back.resize(Int64(size))
  try back.write(UnsafeRawBufferPointer(block), at: 0)
  try back.flush()
  try log.disk.syncDirectory(log.journalDirectory)
  try log.open()
  let found = try log.partition(1)
  #expect(try log.readAll(found) == batches.stored())
  // All of it reaches segments, and what is appended later as well.
  batches += try log.fill(found, batches: 60, size: 2000...3000)
  log.settle()
  #expect(try log.readAll(found) == batches.stored())
  try log.restart()
  #expect(try log.readAll(log.partition(1)) == batches.stored())
}
