// LinuxFileSystem: files and directories through the kernel's calls.

import CMillraceSystem
import Glibc
import MillraceBase
import Synchronization

/// The machine's file system. Files it makes are readable by owner and group only.
public final class LinuxFileSystem: FileSystem {
  /// A file system; it has no state of its own.
  public init() {}

  /// Opens a file. `.direct` is dropped where the file system refuses it.
  public func open(_ path: String, _ options: OpenOptions) throws(IOError) -> any File {
    let mode: Int32 = options.contains(.ownerOnly) ? 0o600 : 0o640
    var descriptor = mr_open(path, options.rawValue, mode)
    if descriptor == -EINVAL && options.contains(.direct) {
      descriptor = mr_open(path, options.subtracting(.direct).rawValue, mode)
    }
    return LinuxFile(path: path, descriptor: try IOError.check(descriptor, "open", path))
  }

  /// Names in a directory, unsorted.
  public func list(_ directory: String) throws(IOError) -> [String] {
    var memory: UnsafeMutablePointer<CChar>?
    let length = try IOError.check(mr_list_directory(directory, &memory), "list", directory)
    guard let memory else { return [] }
    defer { free(memory) }
    let bytes = UnsafeRawBufferPointer(start: memory, count: length)
    return bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
  }

  /// Makes a directory; one that is there already is no error.
  public func createDirectory(_ path: String) throws(IOError) {
    let result = mr_mkdir(path, 0o750)
    if result == -EEXIST && mr_path_kind(path) == 2 { return }
    try IOError.check(result, "create directory", path)
  }

  /// Whether a file or directory of this name exists.
  public func exists(_ path: String) throws(IOError) -> Bool {
    try IOError.check(mr_path_kind(path), "look up", path) != 0
  }

  /// Renames, replacing the target.
  public func rename(_ from: String, to: String) throws(IOError) {
    try IOError.check(mr_rename(from, to), "rename", "\(from) to \(to)")
  }

  /// Removes a file.
  public func remove(_ path: String) throws(IOError) {
    try IOError.check(mr_unlink(path), "remove", path)
  }

  /// Makes the names in a directory durable.
  public func syncDirectory(_ path: String) throws(IOError) {
    try IOError.check(mr_sync_directory(path), "sync directory", path)
  }

  /// Takes an exclusive lock, which the kernel gives up when the process ends.
  public func lock(_ path: String) throws(IOError) -> any FileLock {
    let options: OpenOptions = [.read, .write, .create]
    let descriptor = try IOError.check(mr_open(path, options.rawValue, 0o640), "open lock", path)
    let result = mr_lock_exclusive(descriptor)
    if result < 0 {
      mr_close(descriptor)
      if result == -EWOULDBLOCK {
        throw IOError(.locked, operation: "lock", subject: path, number: -result, reason: "held by another process")
      }
      throw IOError.system(-result, "lock", path)
    }
    return LinuxFileLock(descriptor)
  }

  /// Bytes of the file system that holds `path` in all.
  public func totalBytes(_ path: String) throws(IOError) -> Int64 {
    try IOError.check(mr_total_bytes(path), "measure the size of the file system of", path)
  }

  /// Bytes that may still be written to the file system that holds `path`.
  public func availableBytes(_ path: String) throws(IOError) -> Int64 {
    try IOError.check(mr_available_bytes(path), "measure free space of", path)
  }
}

/// An open file descriptor. Positioned calls need no lock: the kernel serialises what must be.
final class LinuxFile: File {
  let path: String
  private let descriptor: Atomic<Int32>

  init(path: String, descriptor: Int32) {
    self.path = path
    self.descriptor = Atomic(descriptor)
  }

  // A call after close meets −1, which the kernel answers with EBADF.
  private var open: Int32 { descriptor.load(ordering: .relaxed) }

  /// The descriptor, for calls of the system that are made elsewhere; −1 once closed.
  var number: Int32 { open }

  func size() throws(IOError) -> Int64 {
    try IOError.check(mr_file_size(open), "measure", path)
  }

  func read(into buffer: UnsafeMutableRawBufferPointer, at position: Int64) throws(IOError) -> Int {
    try IOError.check(mr_pread(open, buffer.baseAddress, buffer.count, position), "read", "\(path) at byte \(position)")
  }

  func write(_ buffer: UnsafeRawBufferPointer, at position: Int64) throws(IOError) {
    try IOError.check(
      mr_pwrite(open, buffer.baseAddress, buffer.count, position), "write", "\(path) at byte \(position)")
  }

  func flush() throws(IOError) {
    try IOError.check(mr_fdatasync(open), "flush", path)
  }

  func resize(_ size: Int64) throws(IOError) {
    try IOError.check(mr_truncate(open, size), "resize", path)
  }

  func close() {
    let held = descriptor.exchange(-1, ordering: .relaxed)
    if held >= 0 { mr_close(held) }
  }

  deinit { close() }
}

/// A descriptor under flock.
final class LinuxFileLock: FileLock {
  private let descriptor: Atomic<Int32>

  init(_ descriptor: Int32) { self.descriptor = Atomic(descriptor) }

  func release() {
    let held = descriptor.exchange(-1, ordering: .relaxed)
    if held >= 0 { mr_close(held) }
  }

  deinit { release() }
}
