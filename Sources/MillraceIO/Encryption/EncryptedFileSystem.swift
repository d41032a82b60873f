// EncryptedFileSystem: every file of a file system encrypted, as those above see it no different from others but for the size of pages.

import MillraceBase
import Synchronization

/// A decorator: what is written through it lies encrypted on the file system below (EncryptedFileHeader.swift, PageCipher.swift).
///
/// Names of files, their sizes in pages and the times of writes are not hidden. Whoever can write to the disk can put an older state of a
/// page or of a file back, which nothing here notices. Files that were made without encryption are refused.
public final class EncryptedFileSystem: FileSystem {
  private let inner: any FileSystem
  /// Held while the header of an existing file is written.
  private let headers = Mutex(())
  /// The keys that files' keys are wrapped with.
  public let keys: KeyRing

  /// Encrypts the files of `inner`.
  public init(_ inner: any FileSystem, keys: KeyRing) {
    self.inner = inner
    self.keys = keys
  }

  /// Opens a file; a new one gets a key of its own, which the current key wraps.
  /// - Throws: `.wrongKey`, naming file and key, when none of the keys opens it; `.corrupt` when its header is damaged, or when it is not
  ///   encrypted.
  public func open(_ path: String, _ options: OpenOptions) throws(IOError) -> any File {
    var below = options.union(.read)
    below.subtract(.largePages)
    let file = try inner.open(path, below)
    do throws(IOError) {
      return try EncryptedFile(
        file, options: options, keys: keys, newPageSize: EncryptedFileSystem.diskPage(options), headers: headers)
    } catch {
      file.close()
      throw error
    }
  }

  /// The file's bytes in a page.
  public func pageSize(_ options: OpenOptions) -> Int { EncryptedFileSystem.diskPage(options) - PageCipher.overhead }

  private static func diskPage(_ options: OpenOptions) -> Int { options.contains(.largePages) ? 16384 : 4096 }

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
  /// Passed on; a lock's file stays empty.
  public func lock(_ path: String) throws(IOError) -> any FileLock { try inner.lock(path) }
  /// Passed on: of the disk, of which a page takes a little more than the file's bytes in it.
  public func availableBytes(_ path: String) throws(IOError) -> Int64 { try inner.availableBytes(path) }
  /// Passed on.
  public func totalBytes(_ path: String) throws(IOError) -> Int64 { try inner.totalBytes(path) }

  /// Wraps the key of a file with the current key, and makes both copies of its header whole. Blocks.
  ///
  /// The file may be open and in use: its pages are not touched, and its own key stays the same. On return the header is durable;
  /// whenever this is interrupted, one of its copies can be read.
  /// - Returns: whether anything was to be done.
  /// - Throws: `.wrongKey` when none of the keys opens it.
  public func rewrap(_ path: String) throws(IOError) -> Bool {
    let file = try inner.open(path, [.read, .write])
    defer { file.close() }
    return try headers.withLock { _ throws(IOError) in
      guard case .header(let header, let isWhole) = try EncryptedFileStart.read(file) else { return false }
      guard header.keyID != keys.current.id || !isWhole else { return false }
      let own = try EncryptedFileSystem.fileKey(header, keys, path: path)
      let new = EncryptedFileHeader(own, with: keys.current, identity: header.identity, pageSize: header.pageSize)
      // The copy that is in order is the last to be replaced.
      let first = Chunk(capacity: EncryptedFileHeader.size)
      let room = UnsafeMutableRawBufferPointer(start: first.base, count: EncryptedFileHeader.size)
      let got = try file.read(into: room, at: 0)
      let isFirstSound = got == room.count && EncryptedFileHeader(UnsafeRawBufferPointer(room)) != nil
      let places = isFirstSound ? [EncryptedFileHeader.copyDistance, 0] : [0, EncryptedFileHeader.copyDistance]
      for place in places {
        let copy = Bytes(new.encoded())
        try copy.withBuffer { buffer throws(IOError) in try file.write(buffer, at: Int64(place)) }
        try file.flush()
      }
      return true
    }
  }

  /// The file system below.
  public var disk: any FileSystem { inner }

  /// Unwraps the key of a file.
  static func fileKey(_ header: EncryptedFileHeader, _ keys: KeyRing, path: String) throws(IOError) -> EncryptionKey {
    guard let key = keys.key(header.keyID) else {
      throw IOError(
        .wrongKey, operation: "open", subject: path,
        reason: "it is encrypted with key \(header.keyID), which is not among those given ("
          + keys.keys.map(\.id.description).joined(separator: ", ") + ")")
    }
    guard let own = header.unwrap(with: key) else {
      throw IOError(
        .wrongKey, operation: "open", subject: path,
        reason: "it names key \(header.keyID), but that key does not open it: its header was changed")
    }
    return own
  }
}
