// LogWorld: a log on a simulated machine, with executors that a test can hold back.

import MillraceBase
import MillraceIO
import MillraceModel
import MillraceSimulation
import Synchronization
import Testing

@testable import MillraceLog

/// Keeps events as text; `create N` and `delete N` make and remove partitions.
final class TestStateMachine: LogStateMachine {
  private(set) var events: [String] = []
  private(set) var skipped: [(leaderEpoch: Int32, producerID: Int64, lostCommits: Int)] = []

  func restore(_ snapshot: Bytes, log: LogStore) throws(LogError) {
    events = snapshot.isEmpty ? [] : snapshot.text.split(separator: "\n").map(String.init)
  }

  func apply(_ event: Bytes, log: LogStore) throws(LogError) {
    let words = event.text.split(separator: " ")
    if words.count == 2, let number = Int64(words[1]) {
      if words[0] == "create" {
        guard log.partition(PartitionLogID(number)) == nil else {
          throw LogError(.corruption, "partition \(number) is there already")
        }
        log.createPartition(PartitionLogID(number))
      }
      if words[0] == "delete" { log.removePartition(PartitionLogID(number)) }
    }
    events.append(event.text)
  }

  func skipNumbers(usedLeaderEpoch: Int32, usedProducerID: Int64, lostCommits: Int) {
    skipped.append((usedLeaderEpoch, usedProducerID, lostCommits))
  }

  func snapshot() -> Bytes { Bytes(events.joined(separator: "\n")) }
}

/// Passes jobs on, or holds them back while told to.
///
/// Safety: as its world, used by one thread.
final class GatedExecutor: BlockingExecutor, @unchecked Sendable {
  private let inner: SimulatedExecutor
  private var jobs: [@Sendable () -> Void] = []
  var isHeld = false
  /// The next job alone is held back; what comes after it goes on.
  var holdsNext = false

  init(_ inner: SimulatedExecutor) { self.inner = inner }

  var heldJobs: Int { jobs.count }

  func submit(_ job: @escaping @Sendable () -> Void) {
    if isHeld || holdsNext { jobs.append(job) } else { inner.submit(job) }
    holdsNext = false
  }

  /// Lets the held job at `index` run.
  func release(_ index: Int = 0) { inner.submit(jobs.remove(at: index)) }

  func releaseAll() {
    isHeld = false
    while !jobs.isEmpty { release() }
  }
}

/// Keeps log lines.
final class LoggedLines: Sendable {
  private let lines = Mutex<[String]>([])
  var all: [String] { lines.withLock { $0 } }
  func add(_ line: String) { lines.withLock { $0.append(line) } }
}

/// A log, its machine, and ways to end both.
final class LogWorld {
  let world: SimulatedWorld
  var disk: SimulatedFileSystem
  var configuration: LogConfiguration
  private(set) var store: LogStore!
  private(set) var machine = TestStateMachine()
  private(set) var reactor: SimulatedReactor!
  private(set) var writer: GatedExecutor!
  private(set) var background: GatedExecutor!
  private(set) var failures: [LogError] = []
  /// What the directory is encrypted with, if it is.
  var keys: KeyRing?
  private let logged = LoggedLines()
  /// Lines that were logged, warnings and worse.
  var lines: [String] { logged.all }
  var random: SeededRandom
  var leaderEpoch: Int32 = 0

  /// A log with small files, so that everything happens soon.
  init(seed: UInt64 = 1, isEncrypted: Bool = false, _ configure: (inout LogConfiguration) -> Void = { _ in }) {
    world = SimulatedWorld(seed: seed)
    keys = isEncrypted ? KeyRing(.random()) : nil
    disk = SimulatedFileSystem(world: world)
    random = SeededRandom(seed: seed)
    configuration = LogConfiguration(directory: "/data")
    configuration.journalFileSize = 64 << 10
    configuration.firstJournalFileSize = 64 << 10
    configuration.journalFileLimit = 3
    configuration.hotTailSize = 256 << 10
    configuration.commitSize = 16 << 10
    configuration.largestUnit = 48 << 10
    configuration.segmentBlockSize = 4 << 10
    // Every segment here is small; only what tests merging wants them merged.
    configuration.mergedRunSize = 0
    configure(&configuration)
  }

  deinit { world.tearDown() }

  /// The disk as the log sees it.
  var fileSystem: any FileSystem { keys.map { EncryptedFileSystem(disk, keys: $0) } ?? disk }
  /// Bytes of a page of the journal's files.
  var page: Int { fileSystem.pageSize([]) }

  var journalDirectory: String { "\(configuration.directory)/journal" }

  func open() throws {
    machine = TestStateMachine()
    reactor = SimulatedReactor(world: world, name: "log")
    let plain = { [world] in GatedExecutor(SimulatedExecutor(world: world)) }
    writer = plain()
    background = plain()
    store = try LogStore(
      configuration: configuration, fileSystem: fileSystem, reactor: reactor, writer: writer, background: background,
      stateMachine: machine, logger: Logger(minimum: .warning) { [logged] _, line in logged.add(line) },
      random: &random)
    store.onFailure = { [unowned self] in failures.append($0) }
    store.leaderEpoch = leaderEpoch
  }

  /// Ends the machine and opens the log on the next one.
  func restart(_ crash: SimulatedWorld.Crash = .powerLoss) throws {
    end(crash)
    try open()
  }

  func end(_ crash: SimulatedWorld.Crash = .powerLoss) {
    if !world.isCrashed { world.crash(crash) }
    world.restart()
    disk = disk.reopen()
    store = nil
  }

  func close() throws -> LogError? {
    var outcome: LogError??
    store.close { outcome = .some($0) }
    run { outcome != nil }
    return try #require(outcome)
  }

  /// Runs until `condition` holds, which is expected.
  func run(_ condition: () -> Bool, _ location: SourceLocation = #_sourceLocation) {
    let isReached = world.run(atMost: 500_000, until: condition)
    #expect(isReached, sourceLocation: location)
  }

  /// Runs until nothing is in flight any more, idle headers included.
  func settle() { world.run(for: .seconds(3)) }

  // MARK: Appending

  func append(_ unit: AppendUnit) -> Pending {
    let pending = Pending()
    store.append(unit) { result in
      #expect(pending.result == nil)
      pending.result = result
    }
    return pending
  }

  func create(_ number: Int64) throws -> PartitionLog {
    let pending = append(AppendUnit(event: Bytes("create \(number)")))
    run { pending.result != nil }
    _ = try pending.value()
    return try #require(store.partition(PartitionLogID(number)))
  }

  func partition(_ number: Int64) throws -> PartitionLog { try #require(store.partition(PartitionLogID(number))) }

  /// Appends one batch and waits until it is durable.
  @discardableResult
  func append(_ batch: TestBatch, to log: PartitionLog) throws -> Offset {
    let pending = append(AppendUnit(log, batch.bytes, try batch.header()))
    run { pending.result != nil }
    return try #require(try pending.value().first).baseOffset
  }

  /// Appends batches of random sizes until `count` are durable; returns their bytes as they are stored.
  func fill(_ log: PartitionLog, batches count: Int, size: ClosedRange<Int> = 100...3000) throws -> [TestBatch] {
    var out: [TestBatch] = []
    for _ in 0..<count {
      let number = Int.random(in: 1...4, using: &random)
      let batch = TestBatch(
        records: number, size: Int.random(in: size, using: &random), time: world.wallClock.milliseconds)
      try append(batch, to: log)
      out.append(batch)
    }
    return out
  }

  /// Holds the background back, except for making a second file, and appends until the first one's drain waits there.
  func fillUntilDrainIsHeld(_ log: PartitionLog) throws -> [TestBatch] {
    background.isHeld = true
    var out: [TestBatch] = []
    while files(".journal").count == 1 || background.heldJobs == 0 {
      let batch = TestBatch(size: 3000)
      let pending = append(AppendUnit(log, batch.bytes, try batch.header()))
      world.run(for: .milliseconds(200))
      if pending.result == nil, files(".journal").count == 1 { background.release() }
      run { pending.result != nil }
      out.append(batch)
    }
    return out
  }

  // MARK: Reading

  func read(_ log: PartitionLog, from offset: Offset, limit: Int = 1 << 20) -> Result<[Bytes], LogError> {
    var result: Result<[Bytes], LogError>?
    store.read(log, from: offset, limit: limit) { result = $0 }
    run { result != nil }
    return result ?? .failure(LogError(.io, "no answer"))
  }

  /// All batches of a partition, one by one, read with `limit` bytes at a time.
  func readAll(_ log: PartitionLog, limit: Int = 1 << 20) throws -> [Bytes] {
    var out: [Bytes] = []
    var next = log.startOffset
    while next < log.highWatermark {
      let runs = try read(log, from: next, limit: limit).get()
      try #require(!runs.isEmpty)
      for run in runs {
        for (position, header) in try RecordBatchRun.headers(in: run) {
          #expect(header.baseOffset <= next && header.nextOffset > next, "a gap before \(header.baseOffset)")
          out.append(run[position..<(position + header.totalSize)])
          next = header.nextOffset
        }
      }
    }
    return out
  }

  // MARK: Disk

  func files(_ suffix: String) -> [String] { disk.contents().map(\.path).filter { $0.hasSuffix(suffix) } }

  func contents(_ path: String) throws -> [UInt8] {
    try #require(disk.contents().first { $0.path == path }).bytes
  }

  /// Flips bits of a byte of a file on the disk, for good.
  func damage(_ path: String, at place: Int, by mask: UInt8 = 0x10) throws {
    var position = place
    if keys != nil {
      let page = fileSystem.pageSize(path.hasSuffix(".segment") ? .largePages : [])
      position = 8192 + place / page * (page + 32) + 32 + place % page
    }
    let file = try disk.open(path, [.read, .write])
    var byte = [UInt8](repeating: 0, count: 1)
    _ = try byte.withUnsafeMutableBytes { try file.read(into: $0, at: Int64(position)) }
    byte[0] ^= mask
    try byte.withUnsafeBytes { try file.write($0, at: Int64(position)) }
    try file.flush()
    file.close()
  }
}

/// An append under way.
final class Pending {
  var result: Result<[AppendedBatch], LogError>?
  func value() throws -> [AppendedBatch] { try #require(result).get() }
  var error: LogError? { if case .failure(let error) = result { error } else { nil } }
}

/// A record batch for tests.
struct TestBatch {
  let bytes: Bytes

  init(
    records: Int = 1, size: Int = 50, time: Int64 = 1_000_000, producer: Int64 = -1, epoch: Int16 = -1,
    sequence: Int32 = -1, isTransactional: Bool = false
  ) {
    var builder = RecordBatchBuilder()
    for index in 0..<records {
      let value = Bytes([UInt8](repeating: UInt8(truncatingIfNeeded: index + size), count: size / records))
      builder.append(Record(value: value, timestamp: Timestamp(milliseconds: time)))
    }
    bytes = builder.finish(
      producerID: producer, producerEpoch: epoch, baseSequence: sequence, isTransactional: isTransactional,
      compress: { $0 })
  }

  func header() throws -> RecordBatchHeader { try RecordBatchHeader.checked(bytes) }

  /// The batch as it is stored.
  func stored(at offset: Offset, epoch: Int32 = 0) -> Bytes {
    let copy = Chunk(capacity: bytes.count)
    bytes.withBuffer { copy.base.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    RecordBatchHeader.patch(copy.base, baseOffset: offset, leaderEpoch: epoch)
    return copy.bytes(0..<bytes.count)
  }
}

extension Array where Element == TestBatch {
  /// All of them as they are stored, from offset 0 on.
  func stored(epoch: Int32 = 0) throws -> [Bytes] {
    var offset: Offset = 0
    return try map { batch in
      let bytes = batch.stored(at: offset, epoch: epoch)
      offset += Int64(try batch.header().recordCount)
      return bytes
    }
  }
}

func hex(_ bytes: Bytes) -> String {
  bytes.array.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
}
