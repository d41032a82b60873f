// EncryptedDirectoryTests: a log whose directory is encrypted: what lies there, whose keys open it, and what is noticed.

import MillraceBase
import MillraceIO
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceLog

/// A log with a snapshot, segments and commits that are not drained, and what is in it.
private func filled(seed: UInt64 = 1, isEncrypted: Bool = true) throws -> (log: LogWorld, batches: [TestBatch]) {
  let log = LogWorld(seed: seed, isEncrypted: isEncrypted)
  try log.open()
  let batches = try log.fill(try log.create(1), batches: 120)
  log.settle()
  #expect(!log.files(".segment").isEmpty && log.files(".journal").count > 1)
  log.end(.processKill)
  return (log, batches)
}

extension LogWorld {
  /// Everything on the disk, by name.
  fileprivate var image: [String: [UInt8]] {
    Dictionary(uniqueKeysWithValues: disk.contents().map { ($0.path, $0.bytes) })
  }

  fileprivate func encrypted(_ keys: KeyRing) -> EncryptedFileSystem { EncryptedFileSystem(disk, keys: keys) }

  fileprivate func checkedFileSystem(_ keys: KeyRing?) throws(LogError) -> any FileSystem {
    try DirectoryEncryption.fileSystem(for: configuration.directory, keys: keys, in: disk)
  }
}

@Test("nothing of records, events and partitions lies in the clear in any file of an encrypted directory")
func nothingLiesInTheClear() throws {
  func places(isEncrypted: Bool) throws -> Set<String> {
    let log = LogWorld(isEncrypted: isEncrypted)
    try log.open()
    let partition = try log.create(1)
    let word = Array("a-secret-word".utf8)
    for _ in 0..<150 {
      var builder = RecordBatchBuilder()
      builder.append(Record(value: Bytes((0..<200).flatMap { _ in word }), timestamp: Timestamp(milliseconds: 1)))
      let bytes = builder.finish(compress: { $0 })
      let pending = log.append(AppendUnit(partition, bytes, try RecordBatchHeader.checked(bytes)))
      log.run { pending.result != nil }
    }
    let named = log.append(AppendUnit(event: Bytes("a-secret-word was said")))
    log.run { named.result != nil }
    #expect(try log.close() == nil)
    var found: Set<String> = []
    for (path, bytes) in log.image {
      let isThere = (0..<max(0, bytes.count - word.count)).contains { start in
        bytes[start] == word[0] && bytes[start..<(start + word.count)].elementsEqual(word)
      }
      if isThere { found.insert(String(path.split(separator: ".").last ?? "")) }
    }
    return found
  }
  // The search finds it where it is.
  let plain = try places(isEncrypted: false)
  #expect(plain.isSuperset(of: ["journal", "segment"]) && plain.count >= 3, "\(plain)")
  #expect(try places(isEncrypted: true).isEmpty)
}

@Test("a wrong key, a missing one and one too many are refused by file and key, before anything is changed")
func keysThatDoNotFit() throws {
  let (log, _) = try filled()
  let before = log.image
  let right = try #require(log.keys)
  let wrong = KeyRing(.random())
  let error = #expect(throws: LogError.self) { try log.checkedFileSystem(wrong) }
  #expect(error?.code == .io)
  #expect(error?.reason.contains("/data/snapshot.0") == true, "\(error?.reason ?? "")")
  #expect(error?.reason.contains("\(right.current.id)") == true)
  let missing = #expect(throws: LogError.self) { try log.checkedFileSystem(nil) }
  #expect(missing?.code == .io)
  #expect(missing?.reason.contains("/data is encrypted: /data/snapshot.0 needs key \(right.current.id)") == true)
  #expect(log.image == before)
  _ = try log.checkedFileSystem(KeyRing(.random(), older: right.keys))

  let (plain, _) = try filled(isEncrypted: false)
  let untouched = plain.image
  let refused = #expect(throws: LogError.self) { try plain.checkedFileSystem(right) }
  #expect(refused?.code == .io)
  #expect(refused?.reason.contains("/data is not encrypted") == true)
  #expect(refused?.reason.contains("--export-key") == true)
  #expect(try plain.checkedFileSystem(nil) === plain.disk)
  #expect(plain.image == untouched)
}

@Test("one file with another key, or none, among encrypted ones is refused by its name")
func oneStrangeFile() throws {
  for isPlain in [false, true] {
    let (log, _) = try filled()
    let stranger = KeyRing(.random())
    let system: any FileSystem = isPlain ? log.disk : EncryptedFileSystem(log.disk, keys: stranger)
    let path = "/data/segments/000000009999.segment"
    let file = try system.open(path, [.read, .write, .create])
    try [UInt8](repeating: 7, count: 4064).withUnsafeBytes { try file.write($0, at: 0) }
    let error = #expect(throws: LogError.self) { try log.checkedFileSystem(log.keys) }
    #expect(error?.reason.contains(path) == true, "\(error?.reason ?? "")")
    #expect(isPlain || error?.reason.contains("\(stranger.current.id)") == true)
  }
}

@Test("a new current key takes over all files at the next start, the records stay, and the old key is not needed")
func rotation() throws {
  let (log, batches) = try filled()
  let old = try #require(log.keys)
  let both = KeyRing(.random(), older: old.keys)
  log.keys = both
  _ = try log.checkedFileSystem(both)
  try log.open()
  let more = try log.fill(log.partition(1), batches: 10)
  let mixed = try DirectoryEncryption(of: "/data", in: log.disk)
  #expect(mixed.keys[old.current.id] ?? 0 > 2)
  let (count, before) = try DirectoryEncryption.rewrap("/data", in: log.encrypted(both))
  #expect(count == mixed.keys[old.current.id] && before.keys == mixed.keys)
  #expect(try DirectoryEncryption.rewrap("/data", in: log.encrypted(both)).rewrapped == 0)
  // Files that are open go on.
  let last = try log.fill(log.partition(1), batches: 30)
  log.settle()
  try log.restart(.powerLoss)
  #expect(try log.readAll(log.partition(1)) == (batches + more + last).stored())
  log.end()
  let after = try DirectoryEncryption(of: "/data", in: log.disk)
  #expect(Set(after.keys.keys) == [both.current.id])
  #expect(throws: LogError.self) { try log.checkedFileSystem(old) }
  log.keys = KeyRing(both.current)
  _ = try log.checkedFileSystem(log.keys)
  try log.open()
  #expect(try log.readAll(log.partition(1)) == (batches + more + last).stored())
}

@Test(
  "recovers: power that is lost while keys are rotated leaves a directory that both keys open, and the next start goes on"
)
func recoversRotation() throws {
  var interrupted = 0
  for operation in 1...40 {
    let (log, batches) = try filled(seed: UInt64(operation))
    let both = KeyRing(.random(), older: try #require(log.keys).keys)
    log.keys = both
    log.world.crashAfterOperations(operation)
    do throws(LogError) {
      _ = try DirectoryEncryption.rewrap("/data", in: log.encrypted(both))
    } catch {
      #expect(log.world.isCrashed)
    }
    if log.world.isCrashed { interrupted += 1 }
    log.end()
    _ = try log.checkedFileSystem(both)
    _ = try DirectoryEncryption.rewrap("/data", in: log.encrypted(both))
    let found = try DirectoryEncryption(of: "/data", in: log.disk)
    #expect(Set(found.keys.keys) == [both.current.id] && found.halfDamaged.isEmpty, "operation \(operation)")
    log.keys = KeyRing(both.current)
    try log.open()
    #expect(try log.readAll(log.partition(1)) == batches.stored(), "operation \(operation)")
  }
  #expect(interrupted > 10)
}

@Test("every part of an encrypted directory that is damaged is found by an inspection, with its file, and never served")
func damagedDirectory() throws {
  let (sound, batches) = try filled()
  let before = try LogInspection.run(directory: "/data", fileSystem: sound.fileSystem, collectingRanges: true)
  #expect(before.problems.isEmpty)
  #expect(Set(before.ranges.map(\.use)).isSuperset(of: [.commit, .snapshot, .segmentHeader, .index, .block]))
  for (number, range) in before.ranges.enumerated() where number % 5 == 0 && range.use != .endMark {
    let (log, _) = try filled()
    try log.damage(range.path, at: Int(range.position) + (range.length - 1) * (number % 3) / 2)
    let found = try LogInspection.run(directory: "/data", fileSystem: log.fileSystem)
    let isOlder = found.harmless.contains { $0.contains(range.path) }
    #expect(
      isOlder || found.problems.contains { $0.contains(range.path) },
      "\(range.use) at \(range.position) of \(range.path)")
    do {
      try log.open()
    } catch let error as LogError {
      #expect(error.code == .corruption, "\(error)")
      continue
    }
    var next: Offset = 0
    let partition = try #require(log.store.partition(PartitionLogID(1)))
    let stored = try batches.stored()
    while next < partition.highWatermark {
      switch log.read(partition, from: next, limit: 1) {
      case .success(let runs):
        for run in runs {
          for (position, header) in try RecordBatchRun.headers(in: run) {
            #expect(stored.contains(run[position..<(position + header.totalSize)]), "offset \(next)")
            next = header.nextOffset
          }
        }
      case .failure(let error):
        #expect(error.code == .corruption)
        next += 1
      }
    }
  }
}

@Test("a file whose header is damaged in both copies is damage, in one copy it is mended at the next start")
func damagedHeaders() throws {
  let (log, batches) = try filled()
  let path = try #require(log.files(".segment").first)
  func flip(_ position: Int64) throws {
    let file = try log.disk.open(path, [.read, .write])
    var byte: [UInt8] = [0]
    _ = try byte.withUnsafeMutableBytes { try file.read(into: $0, at: position) }
    byte[0] ^= 1
    try byte.withUnsafeBytes { try file.write($0, at: position) }
    try file.flush()
  }
  try flip(60)
  #expect(try DirectoryEncryption(of: "/data", in: log.disk).halfDamaged == [path])
  #expect(
    try DirectoryEncryption.rewrap("/data", in: log.encrypted(try #require(log.keys))).before.halfDamaged == [path])
  #expect(try DirectoryEncryption(of: "/data", in: log.disk).halfDamaged.isEmpty)
  try log.open()
  #expect(try log.readAll(log.partition(1)) == batches.stored())
  log.end()
  try flip(60)
  try flip(4096 + 60)
  #expect(try DirectoryEncryption(of: "/data", in: log.disk).damaged == [path])
  let error = #expect(throws: LogError.self) { try log.checkedFileSystem(nil) }
  #expect(error?.reason.contains("is encrypted") == true)
  let found = try LogInspection.run(directory: "/data", fileSystem: try log.checkedFileSystem(log.keys))
  #expect(found.problems.contains { $0.contains("\(path) at byte 0") }, "\(found.problems)")
}

@Test("an export turns encryption on, off, or to other keys, with all records", arguments: [true, false], [0, 1, 2])
func exportsBetweenKeys(wasEncrypted: Bool, target: Int) throws {
  let (log, batches) = try filled(isEncrypted: wasEncrypted)
  let keys: KeyRing? = target == 0 ? nil : target == 1 ? log.keys : KeyRing(.random())
  let output = keys.map { EncryptedFileSystem(log.disk, keys: $0) as any FileSystem } ?? log.disk
  let machine = TestStateMachine()
  let export = try LogExport.run(
    from: "/data", to: "/new", fileSystem: log.fileSystem, targetFileSystem: output, stateMachine: machine,
    reactor: SimulatedReactor(world: log.world, name: "export"), logger: .silent, random: &log.random)
  #expect(export.losses.isEmpty)
  let state = try DirectoryEncryption(of: "/new", in: log.disk)
  #expect(state.isEncrypted == (keys != nil) && state.plain.isEmpty == (keys != nil))
  #expect(Set(state.keys.keys) == Set(keys.map { [$0.current.id] } ?? []))
  log.keys = keys
  log.configuration.directory = "/new"
  try log.open()
  #expect(try log.readAll(log.partition(1)) == batches.stored())
}

/// Removes a file when it is about to be opened, as a log does that is open while the directory is looked at.
private final class VanishingFile: FileSystem {
  private let inner: any FileSystem
  private let vanishing: String
  init(_ inner: any FileSystem, _ vanishing: String) {
    self.inner = inner
    self.vanishing = vanishing
  }
  func open(_ path: String, _ options: OpenOptions) throws(IOError) -> any File {
    if path == vanishing, try inner.exists(path) { try inner.remove(path) }
    return try inner.open(path, options)
  }
  func list(_ directory: String) throws(IOError) -> [String] { try inner.list(directory) }
  func createDirectory(_ path: String) throws(IOError) { try inner.createDirectory(path) }
  func exists(_ path: String) throws(IOError) -> Bool { try inner.exists(path) }
  func rename(_ from: String, to: String) throws(IOError) { try inner.rename(from, to: to) }
  func remove(_ path: String) throws(IOError) { try inner.remove(path) }
  func syncDirectory(_ path: String) throws(IOError) { try inner.syncDirectory(path) }
  func lock(_ path: String) throws(IOError) -> any FileLock { try inner.lock(path) }
  func availableBytes(_ path: String) throws(IOError) -> Int64 { try inner.availableBytes(path) }
  func totalBytes(_ path: String) throws(IOError) -> Int64 { try inner.totalBytes(path) }
}

@Test("a file that is removed while keys are looked at or rotated is left out")
func filesThatGo() throws {
  let (log, _) = try filled()
  let keys = try #require(log.keys)
  let path = try #require(log.files(".journal").first)
  let disk = VanishingFile(log.disk, path)
  let all = try DirectoryEncryption(of: "/data", in: log.disk).keys[keys.current.id]
  #expect(try DirectoryEncryption(of: "/data", in: disk).keys[keys.current.id] == all.map { $0 - 1 })
  let segment = try #require(log.files(".segment").first)
  let rotating = EncryptedFileSystem(VanishingFile(log.disk, segment), keys: KeyRing(.random(), older: keys.keys))
  #expect(try DirectoryEncryption.rewrap("/data", in: rotating).rewrapped == all.map { $0 - 2 })
}
