// FaultyFileSystem: a file system that breaks its promises in ways the program must not survive unnoticed, to test the tests.

import MillraceIO
import Synchronization

/// Passes everything on, save for what its lies say.
public final class FaultyFileSystem: FileSystem {
  /// A way of breaking a promise.
  public enum Lie: Sendable {
    /// What is written, or flushed, is not durable in files whose names end so.
    case losesUnflushed(String)
    /// Of each write only the first 512 bytes are durable.
    case tearsWrites
    /// Every so many writes fail, and nobody is told.
    case swallowsFailures(every: Int)
    /// One bit of each read of files whose names end so is wrong.
    case flipsBits(String)
  }

  private let inner: any FileSystem
  private let lie: Lie
  private let writes = Atomic(0)

  /// Over a file system that loses what is not flushed.
  public init(_ inner: any FileSystem, _ lie: Lie) {
    self.inner = inner
    self.lie = lie
  }

  fileprivate func fails() -> Bool {
    guard case .swallowsFailures(let every) = lie else { return false }
    return writes.add(1, ordering: .relaxed).newValue % every == 0
  }

  /// Opens a file that lies.
  public func open(_ path: String, _ options: OpenOptions) throws(IOError) -> any File {
    switch lie {
    case .losesUnflushed(let suffix) where path.hasSuffix(suffix):
      return FaultyFile(try inner.open(path, options.subtracting(.durableWrites)), self, isFlushing: false)
    case .tearsWrites:
      return FaultyFile(
        try inner.open(path, options.subtracting(.durableWrites)), self, durable: try inner.open(path, options))
    case .flipsBits(let suffix) where path.hasSuffix(suffix):
      return FaultyFile(try inner.open(path, options), self, isFlipping: true)
    case .losesUnflushed, .flipsBits: return try inner.open(path, options)
    case .swallowsFailures: return FaultyFile(try inner.open(path, options), self)
    }
  }

  /// Passed on.
  public func list(_ directory: String) throws(IOError) -> [String] { try inner.list(directory) }
  /// Passed on.
  public func createDirectory(_ path: String) throws(IOError) { try inner.createDirectory(path) }
  /// Passed on.
  public func exists(_ path: String) throws(IOError) -> Bool { try inner.exists(path) }
  /// Passed on.
  public func rename(_ from: String, to: String) throws(IOError) { try inner.rename(from, to: to) }
  /// Passed on.
  public func remove(_ path: String) throws(IOError) { try inner.remove(path) }
  /// Passed on.
  public func syncDirectory(_ path: String) throws(IOError) { try inner.syncDirectory(path) }
  /// Passed on.
  public func lock(_ path: String) throws(IOError) -> any FileLock { try inner.lock(path) }
  /// Passed on.
  public func totalBytes(_ path: String) throws(IOError) -> Int64 { try inner.totalBytes(path) }
  /// Passed on.
  public func availableBytes(_ path: String) throws(IOError) -> Int64 { try inner.availableBytes(path) }
}

private final class FaultyFile: File {
  private let inner: any File
  private let system: FaultyFileSystem
  /// Takes the part of each write that is to be durable.
  private let durable: (any File)?
  private let isFlushing: Bool
  private let isFlipping: Bool

  init(
    _ inner: any File, _ system: FaultyFileSystem, durable: (any File)? = nil, isFlushing: Bool = true,
    isFlipping: Bool = false
  ) {
    self.inner = inner
    self.system = system
    self.durable = durable
    self.isFlushing = isFlushing
    self.isFlipping = isFlipping
  }

  var path: String { inner.path }
  func size() throws(IOError) -> Int64 { try inner.size() }
  func read(into buffer: UnsafeMutableRawBufferPointer, at position: Int64) throws(IOError) -> Int {
    let count = try inner.read(into: buffer, at: position)
    if isFlipping, count > 0 { buffer[count / 2] ^= 1 }
    return count
  }
  func write(_ buffer: UnsafeRawBufferPointer, at position: Int64) throws(IOError) {
    if system.fails() { return }
    guard let durable else { return try inner.write(buffer, at: position) }
    let first = min(512, buffer.count)
    try durable.write(UnsafeRawBufferPointer(rebasing: buffer[..<first]), at: position)
    guard first < buffer.count else { return }
    try inner.write(UnsafeRawBufferPointer(rebasing: buffer[first...]), at: position + Int64(first))
  }
  func flush() throws(IOError) {
    if isFlushing, durable == nil { try inner.flush() }
  }
  func resize(_ size: Int64) throws(IOError) { try inner.resize(size) }
  func close() {
    inner.close()
    durable?.close()
  }
}
