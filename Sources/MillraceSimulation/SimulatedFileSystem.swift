// SimulatedFileSystem: the file system interface over a disk that loses what was not flushed.

import MillraceBase
import MillraceIO

/// A file system in memory, as one machine of the world sees it.
///
/// What a crash leaves: bytes that a flush or a durable write made durable always; other writes and resizes not at all,
/// whole, or torn at 512 bytes, each on its own; names (of files made, renamed or removed) as of the last
/// ``syncDirectory(_:)``, later changes perhaps. A rename is atomic. `.direct` demands alignment to 4 KiB.
///
/// Safety: as its world, used by one thread.
public final class SimulatedFileSystem: FileSystem, @unchecked Sendable {
  private let disk: SimulatedDisk
  private let generation: Int

  /// An empty disk of `capacity` bytes, holding only the root directory.
  public convenience init(world: SimulatedWorld, capacity: Int64 = 1 << 40) {
    self.init(SimulatedDisk(world: world, capacity: capacity))
  }

  private init(_ disk: SimulatedDisk) {
    self.disk = disk
    generation = disk.generation
  }

  /// The disk as the machine after a crash finds it. Handles of this one stay dead.
  public func reopen() -> SimulatedFileSystem { SimulatedFileSystem(disk) }

  /// What fails.
  public var faults: DiskFaults {
    get { disk.faults }
    set { disk.faults = newValue }
  }

  /// Size of the disk; writes beyond it fail with `.noSpace` after what still fits.
  public var capacity: Int64 {
    get { disk.capacity }
    set { disk.capacity = newValue }
  }

  /// Sizes of all files together.
  public var usedBytes: Int64 { disk.usedBytes }

  /// All files with their contents as reads see them, in the order of their paths.
  public func contents() -> [(path: String, bytes: [UInt8])] {
    var out: [(path: String, bytes: [UInt8])] = []
    disk.visit { path, inode in if !inode.isDirectory { out.append((path, inode.current)) } }
    return out
  }

  /// Opens a file. Making or emptying one counts as a mutating operation.
  public func open(_ path: String, _ options: OpenOptions) throws(IOError) -> any File {
    try requireAlive("open", path)
    let (directory, name) = try disk.parent(path, "open")
    var inode = directory.entries[name]
    if inode?.isDirectory == true {
      throw IOError(.failed, operation: "open", subject: path, reason: "is a directory")
    }
    if inode != nil && options.contains(.exclusive) {
      throw IOError(.alreadyExists, operation: "open", subject: path, reason: "exists")
    }
    let found = inode
    if found == nil {
      guard options.contains(.create) else {
        throw IOError(.notFound, operation: "open", subject: path, reason: "no such file")
      }
      inode = try mutate(.create, path) { [disk] _ throws(IOError) in
        let made = disk.makeInode(isDirectory: false)
        disk.change([.init(directory: directory, name: name, target: made)])
        return made
      }
    } else if options.contains(.truncate), let found, found.current.count > 0 {
      try mutate(.create, path) { [disk] _ throws(IOError) in
        let old = found.current.count
        found.resize(0)
        disk.resized(found, from: old)
      }
    }
    guard let inode else { throw IOError(.notFound, operation: "open", subject: path, reason: "no such file") }
    return SimulatedFile(path: path, options: options, inode: inode, system: self)
  }

  /// Names in a directory, in a random order.
  public func list(_ directory: String) throws(IOError) -> [String] {
    let inode = try find(directory, "list")
    return inode.entries.keys.sorted().shuffled(using: &disk.random)
  }

  /// Makes a directory; durable once its own directory is synced.
  public func createDirectory(_ path: String) throws(IOError) {
    try requireAlive("create directory", path)
    if let there = disk.find(path) {
      if there.isDirectory { return }
      throw IOError(.alreadyExists, operation: "create directory", subject: path, reason: "a file of that name exists")
    }
    let (directory, name) = try disk.parent(path, "create directory")
    try mutate(.createDirectory, path) { [disk] _ throws(IOError) in
      disk.change([.init(directory: directory, name: name, target: disk.makeInode(isDirectory: true))])
    }
  }

  /// Whether a file or directory of this name exists.
  public func exists(_ path: String) throws(IOError) -> Bool {
    try requireAlive("look up", path)
    return disk.find(path) != nil
  }

  /// Renames, replacing the target, atomically.
  public func rename(_ from: String, to: String) throws(IOError) {
    let inode = try find(from, "rename")
    let source = try disk.parent(from, "rename")
    let target = try disk.parent(to, "rename")
    if let replaced = target.directory.entries[target.name] {
      if replaced === inode { return }
      if replaced.isDirectory {
        throw IOError(.alreadyExists, operation: "rename", subject: "\(from) to \(to)", reason: "is a directory")
      }
    }
    try mutate(.rename, from) { [disk] _ throws(IOError) in
      disk.change([
        .init(directory: source.directory, name: source.name, target: nil),
        .init(directory: target.directory, name: target.name, target: inode),
      ])
    }
  }

  /// Removes a file.
  public func remove(_ path: String) throws(IOError) {
    let inode = try find(path, "remove")
    if inode.isDirectory { throw IOError(.failed, operation: "remove", subject: path, reason: "is a directory") }
    let (directory, name) = try disk.parent(path, "remove")
    try mutate(.remove, path) { [disk] _ throws(IOError) in
      disk.change([.init(directory: directory, name: name, target: nil)])
    }
  }

  /// Makes the names in a directory durable.
  public func syncDirectory(_ path: String) throws(IOError) {
    let directory = try find(path, "sync directory")
    try mutate(.syncDirectory, path, durable: { [disk] in disk.syncNames(directory) })
  }

  /// Takes an exclusive lock, which ends with the machine.
  public func lock(_ path: String) throws(IOError) -> any FileLock {
    let file = try open(path, [.read, .write, .create])
    file.close()
    let inode = try find(path, "lock")
    guard disk.lock(inode) else {
      throw IOError(.locked, operation: "lock", subject: path, reason: "held by another process")
    }
    return SimulatedFileLock { [disk, generation] in
      if disk.generation == generation { disk.unlock(inode) }
    }
  }

  /// Bytes that may still be written.
  public func availableBytes(_ path: String) throws(IOError) -> Int64 {
    _ = try find(path, "measure free space of")
    return max(0, disk.capacity - disk.usedBytes)
  }

  /// The disk's size.
  public func totalBytes(_ path: String) throws(IOError) -> Int64 {
    _ = try find(path, "measure the size of")
    return disk.capacity
  }

  private func find(_ path: String, _ operation: String) throws(IOError) -> SimulatedInode {
    try requireAlive(operation, path)
    guard let inode = disk.find(path) else {
      throw IOError(.notFound, operation: operation, subject: path, reason: "no such file or directory")
    }
    return inode
  }
}

// What every operation goes through, files' too.
extension SimulatedFileSystem {
  func requireAlive(_ operation: String, _ path: String) throws(IOError) {
    if disk.generation != generation || disk.world.isCrashed { throw IOError.powerLoss(operation, path) }
  }

  var random: SeededRandom {
    get { disk.random }
    set { disk.random = newValue }
  }

  func resized(_ inode: SimulatedInode, from old: Int) { disk.resized(inode, from: old) }

  /// Asks the faults about an operation.
  func fault(_ kind: DiskOperation.Kind, _ path: String, at position: Int64 = 0, _ length: Int = 0) -> IOError? {
    let operation = DiskOperation(kind: kind, path: path, position: position, length: length)
    var code = disk.faults.predicate?(operation)
    let probability =
      switch kind {
      case .read: disk.faults.readFailureProbability
      case .write: disk.faults.writeFailureProbability
      case .flush: disk.faults.flushFailureProbability
      default: 0.0
      }
    if code == nil && probability > 0 && Double.random(in: 0..<1, using: &disk.random) < probability { code = .failed }
    guard let code else { return nil }
    disk.world.note("disk fault", UInt64(length))
    return IOError(code, operation: "\(kind)", subject: path, reason: "simulated fault")
  }

  /// Runs a mutating operation: checks, counts, applies, and loses power when it is the one to do so in.
  /// - Parameters:
  ///   - durable: applied only when power holds.
  ///   - apply: applied in any case, not durable yet.
  func mutate<Result>(
    _ kind: DiskOperation.Kind, _ path: String, at position: Int64 = 0, length: Int = 0,
    durable: () -> Void = {}, failed: () -> Void = {}, apply: (_ losesPower: Bool) throws(IOError) -> Result
  ) throws(IOError) -> Result {
    try requireAlive("\(kind)", path)
    let losesPower = disk.world.countDiskOperation()
    disk.world.note(kind.label, UInt64(bitPattern: position) ^ UInt64(length) << 32)
    if !losesPower, let fault = fault(kind, path, at: position, length) {
      failed()
      throw fault
    }
    let result = try apply(losesPower)
    if losesPower {
      disk.world.crash(.powerLoss)
      throw IOError.powerLoss("\(kind)", path)
    }
    durable()
    return result
  }

  func mutate(
    _ kind: DiskOperation.Kind, _ path: String, durable: () -> Void, failed: () -> Void = {}
  ) throws(IOError) {
    try mutate(kind, path, durable: durable, failed: failed) { _ throws(IOError) in }
  }

  /// How many of `count` more bytes fit.
  func roomFor(_ count: Int) -> Int { Int(min(Int64(count), max(0, disk.capacity - disk.usedBytes))) }
}

/// A lock on a simulated disk.
private final class SimulatedFileLock: FileLock, @unchecked Sendable {
  // Safety: as its world, used by one thread.
  private var unlock: (() -> Void)?
  init(_ unlock: @escaping () -> Void) { self.unlock = unlock }
  func release() {
    unlock?()
    unlock = nil
  }
  deinit { release() }
}
