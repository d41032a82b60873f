// FileSystem and File: storage as the log sees it; Linux and the simulated disk implement it.

import MillraceBase

/// How a file is opened.
public struct OpenOptions: OptionSet, Sendable {
  /// The bits.
  public let rawValue: Int32
  /// Options from their bits.
  public init(rawValue: Int32) { self.rawValue = rawValue }
  /// For reading.
  public static let read = OpenOptions(rawValue: 1)
  /// For writing.
  public static let write = OpenOptions(rawValue: 2)
  /// Made when missing.
  public static let create = OpenOptions(rawValue: 4)
  /// Past the page cache where the file system can: offsets, lengths and addresses in multiples of 4 KiB.
  public static let direct = OpenOptions(rawValue: 8)
  /// Every write is durable when it returns.
  public static let durableWrites = OpenOptions(rawValue: 16)
  /// Emptied.
  public static let truncate = OpenOptions(rawValue: 32)
  /// Must not exist yet.
  public static let exclusive = OpenOptions(rawValue: 64)
  /// When it is made, only its owner may read and write it: for secrets.
  public static let ownerOnly = OpenOptions(rawValue: 128)
  /// When it is made, its pages may be larger than usual (``File/pageSize``): for what is written once, in order.
  public static let largePages = OpenOptions(rawValue: 256)
}

/// Files and directories. Every call may block, so reactors leave them to a ``BlockingExecutor`` once running.
///
/// Safe to call from any thread. A new or renamed file is certain to be found after a power loss only once
/// ``syncDirectory(_:)`` has returned.
public protocol FileSystem: AnyObject, Sendable {
  /// Opens a file.
  func open(_ path: String, _ options: OpenOptions) throws(IOError) -> any File
  /// Names in a directory, unsorted.
  func list(_ directory: String) throws(IOError) -> [String]
  /// Makes a directory; one that is there already is no error.
  func createDirectory(_ path: String) throws(IOError)
  /// Whether a file or directory of this name exists.
  func exists(_ path: String) throws(IOError) -> Bool
  /// Renames, replacing the target.
  func rename(_ from: String, to: String) throws(IOError)
  /// Removes a file.
  func remove(_ path: String) throws(IOError)
  /// Makes the names in a directory durable.
  func syncDirectory(_ path: String) throws(IOError)
  /// Takes an exclusive lock on a file (made when missing), held until the result is released or the process ends.
  /// - Throws: `.locked` when another process holds it.
  func lock(_ path: String) throws(IOError) -> any FileLock
  /// Bytes that may still be written to the file system that holds `path`.
  func availableBytes(_ path: String) throws(IOError) -> Int64
  /// Bytes of that file system in all.
  func totalBytes(_ path: String) throws(IOError) -> Int64
  /// What ``File/pageSize`` will be of a file that is made with these options.
  func pageSize(_ options: OpenOptions) -> Int
}

/// An open file. Positioned reads and writes may be called from several threads at once.
public protocol File: AnyObject, Sendable {
  /// The name it was opened by.
  var path: String { get }
  /// Current size in bytes.
  func size() throws(IOError) -> Int64
  /// Reads into `buffer` at `position`; fewer bytes come only at the end of the file.
  func read(into buffer: UnsafeMutableRawBufferPointer, at position: Int64) throws(IOError) -> Int
  /// Writes all of `buffer` at `position`.
  func write(_ buffer: UnsafeRawBufferPointer, at position: Int64) throws(IOError)
  /// Makes what was written durable (data, and the size it needs).
  func flush() throws(IOError)
  /// Cuts or extends.
  func resize(_ size: Int64) throws(IOError)
  /// Closes; the file must not be used afterwards.
  func close()

  /// The unit in which the file is changed: 4,096 bytes, or another number where pages of the disk hold more than the file's bytes.
  ///
  /// A write of whole pages leaves all others alone, also when power is lost in it. One of a part may cost what else is in the page.
  /// What stands in the first 480 bytes of a page of zeros is replaced whole or not at all.
  var pageSize: Int { get }
  /// As ``read(into:at:)``, for who verifies all that it reads: pages that are not what was written come as zeros where the file can
  /// tell, instead of an error.
  func readUnverified(into buffer: UnsafeMutableRawBufferPointer, at position: Int64) throws(IOError) -> Int
  /// Writes whole pages once more that hold `buffer` already, so that they are as durable as a write makes them. Power that is lost in
  /// it leaves them what they are.
  func rewrite(_ buffer: UnsafeRawBufferPointer, at position: Int64) throws(IOError)
}

extension File {
  /// Those of the disk.
  public var pageSize: Int { 4096 }
  /// There is nothing that the file could tell.
  public func readUnverified(into buffer: UnsafeMutableRawBufferPointer, at position: Int64) throws(IOError) -> Int {
    try read(into: buffer, at: position)
  }
  /// The same bytes once more.
  public func rewrite(_ buffer: UnsafeRawBufferPointer, at position: Int64) throws(IOError) {
    try write(buffer, at: position)
  }
}

/// A held lock.
public protocol FileLock: AnyObject, Sendable {
  /// Gives the lock up.
  func release()
}

extension FileSystem {
  /// Pages of the disk.
  public func pageSize(_ options: OpenOptions) -> Int { 4096 }

  /// Makes a directory and every folder above it that is missing. On return those above are durable; the directory's own name
  /// is so once the directory above is synced.
  ///
  /// A folder is made only once the one above it is durable. So of the folders that are there already only the lowest may be
  /// in the page cache alone: a process that was killed may have made it just before.
  public func createDirectories(_ path: String) throws(IOError) {
    var missing: [String] = []
    var there = path
    while try !exists(there) {
      missing.append(there)
      let above = parentDirectory(of: there)
      if above == there || above == "." { break }
      there = above
    }
    guard !missing.isEmpty else { return try createDirectory(path) }
    if missing.last != there, there != "/" { try syncIfAllowed(parentDirectory(of: there)) }
    for folder in missing.reversed() {
      try createDirectory(folder)
      if folder != path { try syncIfAllowed(parentDirectory(of: folder)) }
    }
  }

  /// Makes the names in a directory durable, unless this user may not read it.
  /// - Returns: why it could not be; nil when it is done.
  @discardableResult
  public func syncIfAllowed(_ directory: String) throws(IOError) -> IOError? {
    do throws(IOError) {
      try syncDirectory(directory)
      return nil
    } catch {
      guard error.code == .accessDenied else { throw error }
      return error
    }
  }

  /// The directory that holds the last name of `path`: `.` for a relative path of one name, `/` for the root itself.
  public func parentDirectory(of path: String) -> String {
    func trimmed(_ text: Substring) -> Substring {
      var text = text
      while text.count > 1, text.last == "/" { text.removeLast() }
      return text
    }
    let name = trimmed(path[...])
    guard let slash = name.lastIndex(of: "/") else { return "." }
    return String(trimmed(name[...slash]))
  }

  /// The whole contents of a file of at most `limit` bytes.
  /// - Throws: `.failed` when it is larger.
  public func readAll(_ path: String, limit: Int) throws(IOError) -> Bytes {
    let file = try open(path, .read)
    defer { file.close() }
    let size = Int(try file.size())
    guard size <= limit else {
      throw IOError(.failed, operation: "read", subject: path, reason: "\(size) bytes exceed the limit of \(limit)")
    }
    guard size > 0 else { return Bytes() }
    let chunk = Chunk(capacity: size)
    let got = try file.read(into: UnsafeMutableRawBufferPointer(start: chunk.base, count: size), at: 0)
    return chunk.bytes(0..<got)
  }

  /// Replaces `path` by `contents` so that after a crash either the old or the new contents are there.
  public func replace(_ path: String, in directory: String, with contents: Bytes) throws(IOError) {
    let temporary = path + ".new"
    let file = try open(temporary, [.write, .create, .truncate])
    do throws(IOError) {
      try contents.withBuffer { buffer throws(IOError) in try file.write(buffer, at: 0) }
      try file.flush()
      file.close()
    } catch {
      file.close()
      throw error
    }
    try rename(temporary, to: path)
    try syncDirectory(directory)
  }
}
