// UnflushedFileSystem: a file system that says writes are durable and does not make them so, to test the tests.

import MillraceIO

/// Passes everything on except what makes bytes durable.
public final class UnflushedFileSystem: FileSystem {
  private let inner: any FileSystem

  /// Over a file system that loses what is not flushed.
  public init(_ inner: any FileSystem) { self.inner = inner }

  /// Opens without durable writes.
  public func open(_ path: String, _ options: OpenOptions) throws(IOError) -> any File {
    UnflushedFile(try inner.open(path, options.subtracting(.durableWrites)))
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

private final class UnflushedFile: File {
  private let inner: any File
  init(_ inner: any File) { self.inner = inner }
  var path: String { inner.path }
  func size() throws(IOError) -> Int64 { try inner.size() }
  func read(into buffer: UnsafeMutableRawBufferPointer, at position: Int64) throws(IOError) -> Int {
    try inner.read(into: buffer, at: position)
  }
  func write(_ buffer: UnsafeRawBufferPointer, at position: Int64) throws(IOError) {
    try inner.write(buffer, at: position)
  }
  func flush() throws(IOError) {}
  func resize(_ size: Int64) throws(IOError) { try inner.resize(size) }
  func close() { inner.close() }
}
