// Recording: reads what a RecordingFileSystem wrote, and rebuilds the directory as a power loss may have left it.

import MillraceBase
import MillraceIO

/// A recorded sequence of file operations.
public struct Recording: Sendable {
  /// What becomes of writes, resizes and names that were not durable at the moment of the power loss.
  public enum Unflushed: Sendable, Equatable {
    /// All are kept, as when only the process is killed.
    case keep
    /// All are lost.
    case lose
    /// Each is kept, lost or torn at 512 bytes, as the seed decides.
    case mixed(seed: UInt64)
  }

  /// A file of a recording is not larger.
  private static let largestFile: Int64 = 1 << 32

  /// The operations in the order of their completion.
  public let operations: [RecordedOperation]
  /// Bytes of an unfinished entry at the end, which a killed process leaves.
  public let tornBytes: Int

  /// Reads a recording of at most 4 GiB.
  /// - Throws: `.failed` when the file is no recording, or one of its entries is damaged.
  public init(_ path: String, from system: any FileSystem) throws(IOError) {
    let bytes = try system.readAll(path, limit: 1 << 32)
    var reader = ByteReader(bytes)
    var operations: [RecordedOperation] = []
    do throws(MillraceBase.DecodingError) {
      guard try reader.slice(min(RecordedOperation.head.count, reader.remaining)) == RecordedOperation.head else {
        throw DecodingError("the head is not a recording's", at: 0)
      }
      while let operation = try RecordedOperation.decode(&reader) {
        guard operation.sequence == UInt64(operations.count) + 1 else {
          throw DecodingError("entry \(operations.count + 1) has sequence \(operation.sequence)", at: reader.position)
        }
        operations.append(operation)
      }
    } catch {
      throw IOError(.failed, operation: "read recording", subject: path, reason: error.description)
    }
    self.operations = operations
    tornBytes = reader.remaining
  }

  /// Writes the directory as it may have been after the first `count` operations and a power loss.
  ///
  /// The recorded directory must have been empty when the recording began. `directory` is made when missing and should be
  /// empty. The operation that follows, when it is a write, counts as under way when power failed: not flushed, even if
  /// it would have been durable once it had returned.
  /// - Throws: when the recording contradicts itself, or writing fails.
  public func replay(
    prefix count: Int, into directory: String, of system: any FileSystem, unflushed: Unflushed
  ) throws(IOError) {
    precondition(count >= 0 && count <= operations.count, "prefix \(count) of \(operations.count) operations")
    let disk = try rebuild(count, unflushed)
    try system.createDirectory(directory)
    var failure: IOError?
    disk.visit { path, inode in
      guard failure == nil else { return }
      do throws(IOError) {
        if inode.isDirectory {
          try system.createDirectory(directory + path)
        } else {
          let file = try system.open(directory + path, [.write, .create, .truncate])
          defer { file.close() }
          try Bytes(inode.current).withBuffer { buffer throws(IOError) in try file.write(buffer, at: 0) }
        }
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  private func rebuild(_ count: Int, _ unflushed: Unflushed) throws(IOError) -> SimulatedDisk {
    var seed: UInt64 = 0
    if case .mixed(let given) = unflushed { seed = given }
    let disk = SimulatedDisk(world: SimulatedWorld(seed: seed), capacity: .max)
    var files: [UInt32: (inode: SimulatedInode, options: OpenOptions)] = [:]
    for operation in operations[..<count] { try apply(operation, to: disk, &files) }
    if count < operations.count, operations[count].kind == .write, unflushed != .keep {
      files[operations[count].file]?.options.subtract(.durableWrites)
      try apply(operations[count], to: disk, &files)
    }
    switch unflushed {
    case .keep: break
    case .lose: disk.crash(.powerLoss, .loseAll)
    case .mixed: disk.crash(.powerLoss, .mixed)
    }
    return disk
  }

  private func apply(
    _ operation: RecordedOperation, to disk: SimulatedDisk,
    _ files: inout [UInt32: (inode: SimulatedInode, options: OpenOptions)]
  ) throws(IOError) {
    func contradiction(_ reason: String) -> IOError {
      IOError(.failed, operation: "replay", subject: "operation \(operation.sequence)", reason: reason)
    }
    func named(_ path: String) throws(IOError) -> SimulatedInode {
      guard let inode = disk.find(path) else { throw contradiction("\(path) does not exist") }
      return inode
    }
    func opened() throws(IOError) -> (inode: SimulatedInode, options: OpenOptions) {
      guard let file = files[operation.file] else { throw contradiction("file \(operation.file) was never opened") }
      return file
    }
    // Where a flush says what it covers, any number means something; elsewhere it is a place or a size in a file.
    let isPlace = operation.kind == .write || operation.kind == .resize
    let places = 0...Recording.largestFile
    if isPlace, !places.contains(operation.position) || !places.contains(operation.length) {
      throw contradiction("\(operation.length) bytes at \(operation.position)")
    }
    disk.order = operation.sequence
    switch operation.kind {
    case .open:
      let inode: SimulatedInode
      if let there = disk.find(operation.path) {
        guard !there.isDirectory else { throw contradiction("\(operation.path) is a directory") }
        inode = there
        if operation.options.contains(.truncate) && there.current.count > 0 { there.resize(0, order: disk.order) }
      } else {
        let (directory, name) = try disk.parent(operation.path, "replay")
        inode = disk.makeInode(isDirectory: false)
        disk.change([.init(directory: directory, name: name, target: inode)])
      }
      files[operation.file] = (inode, operation.options)
    case .write:
      let (inode, options) = try opened()
      let bytes =
        operation.bytes.isEmpty ? [UInt8](repeating: 0, count: Int(operation.length)) : operation.bytes.array
      inode.write(
        bytes, at: Int(operation.position), durably: options.contains(.durableWrites), order: disk.order)
    case .resize: try opened().inode.resize(Int(operation.length), order: disk.order)
    case .flush: try opened().inode.flush(through: UInt64(bitPattern: operation.position))
    case .rename:
      let inode = try named(operation.path)
      // Only files are renamed, so that no directory gets into itself.
      guard !inode.isDirectory, disk.find(operation.target)?.isDirectory != true else {
        throw contradiction("\(operation.path) to \(operation.target) renames a directory")
      }
      let source = try disk.parent(operation.path, "replay")
      let target = try disk.parent(operation.target, "replay")
      disk.change([
        .init(directory: source.directory, name: source.name, target: nil),
        .init(directory: target.directory, name: target.name, target: inode),
      ])
    case .remove:
      let (directory, name) = try disk.parent(operation.path, "replay")
      disk.change([.init(directory: directory, name: name, target: nil)])
    case .createDirectory:
      if disk.find(operation.path) == nil {
        let (directory, name) = try disk.parent(operation.path, "replay")
        disk.change([.init(directory: directory, name: name, target: disk.makeInode(isDirectory: true))])
      }
    case .syncDirectory: disk.syncNames(try named(operation.path), through: UInt64(bitPattern: operation.position))
    }
  }
}
