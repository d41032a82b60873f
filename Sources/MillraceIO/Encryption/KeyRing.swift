// KeyRing: the keys of a data directory, and the file that holds them.
//
// A key file is text. Each line is one key, 32 bytes in base 64; empty lines and those that begin with # are left out. The first key
// is the current one: new files are wrapped with it. The others open what was wrapped with them before. Only its owner may have any
// right to the file.

import CMillraceSystem
import COpenSSL
import MillraceBase

/// Why a key file is of no use. `description` names the file, and shows nothing of what is in it.
public struct KeyFileError: Error, Sendable, CustomStringConvertible {
  /// The file.
  public let path: String
  /// What is wrong.
  public let reason: String
  /// Both.
  public var description: String { "key file \(path): \(reason)" }
}

/// Keys, the current one first.
public struct KeyRing: Sendable {
  /// The current key first; never empty.
  public let keys: [EncryptionKey]

  /// Most bytes of a key file.
  private static let fileLimit = 64 << 10
  private static let comment =
    "# Keys of a Millrace data directory, 32 bytes in base 64 each: the first encrypts, the others only decrypt.\n"

  /// A ring of `current` and older ones.
  public init(_ current: EncryptionKey, older: [EncryptionKey] = []) { keys = [current] + older }

  /// What new files are wrapped with.
  public var current: EncryptionKey { keys[0] }

  /// The key of this name.
  public func key(_ id: EncryptionKeyID) -> EncryptionKey? { keys.first { $0.id == id } }

  /// Reads a key file. Blocks.
  /// - Throws: when it cannot be read, when others than its owner have a right to it, or when a line is no key.
  public init(file path: String) throws(KeyFileError) {
    let mode = mr_file_mode(path)
    guard mode >= 0 else { throw KeyFileError(path: path, reason: IOError.system(-mode, "read", path).reason) }
    guard mode & 0o077 == 0 else {
      throw KeyFileError(
        path: path,
        reason: "others than its owner have a right to it (mode \(String(mode, radix: 8))); `chmod 600` takes it away")
    }
    let text: Bytes
    do throws(IOError) {
      text = try LinuxFileSystem().readAll(path, limit: KeyRing.fileLimit)
    } catch {
      throw KeyFileError(path: path, reason: error.reason)
    }
    try self.init(text: text, path: path)
  }

  /// Reads the text of a key file.
  package init(text: Bytes, path: String) throws(KeyFileError) {
    var keys: [EncryptionKey] = []
    for (index, line) in text.text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      let line = KeyRing.trimmed(line)
      if line.isEmpty || line.hasPrefix("#") { continue }
      guard let bytes = Base64.decode(String(line)), bytes.count == EncryptionKey.size else {
        throw KeyFileError(
          path: path, reason: "line \(index + 1) is no key, which is \(EncryptionKey.size) bytes in base 64")
      }
      let key = bytes.withBuffer { EncryptionKey($0) }
      guard !keys.contains(where: { $0.id == key.id }) else {
        throw KeyFileError(path: path, reason: "line \(index + 1) is a key that is in the file already")
      }
      keys.append(key)
    }
    guard !keys.isEmpty else { throw KeyFileError(path: path, reason: "there is no key in it") }
    self.keys = keys
  }

  private static func trimmed(_ line: Substring) -> Substring {
    var line = line
    while let first = line.first, first.isWhitespace { line.removeFirst() }
    while let last = line.last, last.isWhitespace { line.removeLast() }
    return line
  }

  /// The ring with `key` as the current one.
  public func adding(_ key: EncryptionKey) -> KeyRing { KeyRing(key, older: keys) }

  /// The ring without a key that is not the current one.
  public func removing(_ id: EncryptionKeyID) -> KeyRing {
    KeyRing(current, older: keys.dropFirst().filter { $0.id != id })
  }

  /// Writes a key file for its owner alone, so that after a crash the old or the new one is there. Blocks.
  public func write(_ path: String) throws(KeyFileError) {
    var text = KeyRing.comment
    for key in keys { text += Base64.encode(UnsafeRawBufferPointer(key.bytes)) + "\n" }
    let files = LinuxFileSystem()
    do throws(IOError) {
      let temporary = path + ".new"
      // One that was left by a process that died may have another mode.
      if try files.exists(temporary) { try files.remove(temporary) }
      let file = try files.open(temporary, [.write, .create, .exclusive, .ownerOnly])
      do throws(IOError) {
        defer { file.close() }
        try Bytes(text).withBuffer { buffer throws(IOError) in try file.write(buffer, at: 0) }
        try file.flush()
      } catch {
        // The first failure is the one to tell of.
        do throws(IOError) { try files.remove(temporary) } catch {}
        throw error
      }
      try files.rename(temporary, to: path)
      try files.syncDirectory(files.parentDirectory(of: path))
    } catch {
      throw KeyFileError(path: path, reason: error.description)
    }
  }
}
