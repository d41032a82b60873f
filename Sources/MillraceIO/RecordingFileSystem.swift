// RecordingFileSystem: passes every call on and records those that change something, in the order of their completion.

import MillraceBase
import Synchronization

/// A decorator for tests of what a power loss leaves: replaying a prefix of the recording rebuilds the directory as it may
/// have been at that moment. Format: see ``RecordedOperation``.
///
/// Failed operations are not recorded. Names outside the recorded directory pass through unrecorded.
public final class RecordingFileSystem: FileSystem {
  fileprivate struct Tape {
    let file: any File
    var position: Int64
    var sequence: UInt64 = 0
    var files: UInt32 = 0
  }

  private let inner: any FileSystem
  private let directory: String
  private let tape: Mutex<Tape>

  /// Records what happens in `directory`, which should be empty or missing now, into a new file `recording` outside it.
  public init(_ inner: any FileSystem, directory: String, recording: String) throws(IOError) {
    self.inner = inner
    self.directory = directory.hasSuffix("/") ? directory : directory + "/"
    let file = try inner.open(recording, [.write, .create, .truncate])
    try RecordedOperation.head.withBuffer { head throws(IOError) in try file.write(head, at: 0) }
    tape = Mutex(Tape(file: file, position: Int64(RecordedOperation.head.count)))
  }

  /// Opens a file; recorded when it may be written through.
  public func open(_ path: String, _ options: OpenOptions) throws(IOError) -> any File {
    let file = try inner.open(path, options)
    guard options.contains(.write), let name = recordedName(path) else { return file }
    let number = tape.withLock { tape in
      tape.files += 1
      return tape.files
    }
    var operation = RecordedOperation(.open)
    operation.file = number
    operation.options = options
    operation.path = name
    try record(operation)
    return RecordingFile(file, number: number, system: self)
  }

  /// Passed on.
  public func list(_ directory: String) throws(IOError) -> [String] { try inner.list(directory) }
  /// Passed on.
  public func exists(_ path: String) throws(IOError) -> Bool { try inner.exists(path) }
  /// Passed on.
  public func lock(_ path: String) throws(IOError) -> any FileLock { try inner.lock(path) }
  /// Passed on.
  public func availableBytes(_ path: String) throws(IOError) -> Int64 { try inner.availableBytes(path) }
  /// Passed on.
  public func totalBytes(_ path: String) throws(IOError) -> Int64 { try inner.totalBytes(path) }

  /// Makes a directory, and records it.
  public func createDirectory(_ path: String) throws(IOError) {
    try inner.createDirectory(path)
    try record(.createDirectory, path)
  }

  /// Renames, and records it.
  public func rename(_ from: String, to: String) throws(IOError) {
    try inner.rename(from, to: to)
    guard let name = recordedName(from), let target = recordedName(to) else { return }
    var operation = RecordedOperation(.rename)
    operation.path = name
    operation.target = target
    try record(operation)
  }

  /// Removes a file, and records it.
  public func remove(_ path: String) throws(IOError) {
    try inner.remove(path)
    try record(.remove, path)
  }

  /// Makes the names in a directory durable, and records it.
  public func syncDirectory(_ path: String) throws(IOError) {
    let before = lastSequence
    try inner.syncDirectory(path)
    try record(.syncDirectory, path, position: Int64(before))
  }

  /// Sequence of the last recorded operation.
  public var lastSequence: UInt64 { tape.withLock { $0.sequence } }

  private func recordedName(_ path: String) -> String? {
    if path + "/" == directory { return "" }
    return path.hasPrefix(directory) ? String(path.dropFirst(directory.count)) : nil
  }

  private func record(_ kind: RecordedOperation.Kind, _ path: String, position: Int64 = 0) throws(IOError) {
    guard let name = recordedName(path) else { return }
    var operation = RecordedOperation(kind)
    operation.path = name
    operation.position = position
    try record(operation)
  }

  fileprivate func record(_ operation: RecordedOperation) throws(IOError) {
    try tape.withLock { tape throws(IOError) in
      var numbered = operation
      numbered.sequence = tape.sequence + 1
      let entry = numbered.encoded()
      try entry.withBuffer { buffer throws(IOError) in try tape.file.write(buffer, at: tape.position) }
      tape.sequence += 1
      tape.position += Int64(entry.count)
    }
  }
}

/// A file whose changes are recorded.
private final class RecordingFile: File {
  private let inner: any File
  private let number: UInt32
  private let system: RecordingFileSystem

  init(_ inner: any File, number: UInt32, system: RecordingFileSystem) {
    self.inner = inner
    self.number = number
    self.system = system
  }

  var path: String { inner.path }
  func size() throws(IOError) -> Int64 { try inner.size() }
  func read(into buffer: UnsafeMutableRawBufferPointer, at position: Int64) throws(IOError) -> Int {
    try inner.read(into: buffer, at: position)
  }

  func write(_ buffer: UnsafeRawBufferPointer, at position: Int64) throws(IOError) {
    try inner.write(buffer, at: position)
    var operation = RecordedOperation(.write)
    operation.position = position
    operation.length = Int64(buffer.count)
    operation.bytes = Bytes(copying: buffer)
    try record(operation)
  }

  func flush() throws(IOError) {
    let before = system.lastSequence
    try inner.flush()
    var operation = RecordedOperation(.flush)
    operation.position = Int64(before)
    try record(operation)
  }

  func resize(_ size: Int64) throws(IOError) {
    try inner.resize(size)
    var operation = RecordedOperation(.resize)
    operation.length = size
    try record(operation)
  }

  func close() { inner.close() }

  private func record(_ operation: RecordedOperation) throws(IOError) {
    var operation = operation
    operation.file = number
    try system.record(operation)
  }
}
