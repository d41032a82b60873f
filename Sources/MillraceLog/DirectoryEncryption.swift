// DirectoryEncryption: whether a data directory is encrypted and with which keys, looked at before anything in it is opened.

import MillraceBase
import MillraceIO

/// How the files of a data directory are encrypted.
public struct DirectoryEncryption: Sendable {
  /// Files by the key that wraps theirs.
  public private(set) var keys: [EncryptionKeyID: Int] = [:]
  /// Files that are not encrypted and hold something.
  public private(set) var plain: [String] = []
  /// Files whose header is damaged in both copies.
  public private(set) var damaged: [String] = []
  /// Files with one damaged copy of the header.
  public private(set) var halfDamaged: [String] = []
  /// One encrypted file with its key, for messages.
  private var example: (path: String, key: EncryptionKeyID)?
  /// All encrypted files.
  private var encrypted: [String] = []

  /// Whether something in it is encrypted.
  public var isEncrypted: Bool { !encrypted.isEmpty || !damaged.isEmpty }

  /// Looks at the files in `directory`; one that is missing has none.
  /// - Parameters:
  ///   - disk: the file system below any encryption.
  ///   - segments: whether to look at segments, of which there may be many. Where there are any, there are files of the journal.
  /// - Throws: `.io`.
  public init(of directory: String, in disk: any FileSystem, segments: Bool = true) throws(LogError) {
    try LogError.wrapping { () throws(IOError) in
      for path in try DirectoryEncryption.paths(directory, disk, segments: segments) {
        guard let state = try DirectoryEncryption.state(of: path, disk) else { continue }
        switch state {
        case .plain: plain.append(path)
        case .unwritten: break
        case .damaged: damaged.append(path)
        case .encrypted(let key, let isWhole):
          keys[key, default: 0] += 1
          encrypted.append(path)
          example = example ?? (path, key)
          if !isWhole { halfDamaged.append(path) }
        }
      }
    }
  }

  /// Nil when the file has gone: a log that is open removes what it does not need.
  private static func state(of path: String, _ disk: any FileSystem) throws(IOError) -> EncryptionState? {
    do throws(IOError) {
      return try KeyRing.state(of: path, in: disk)
    } catch {
      guard error.code == .notFound else { throw error }
      return nil
    }
  }

  /// The files that hold users' data and outlive a start.
  private static func paths(
    _ directory: String, _ disk: any FileSystem, segments: Bool
  ) throws(IOError) -> [String] {
    var out: [String] = []
    guard try disk.exists(directory) else { return [] }
    for slot in 0...1 where try disk.exists(SnapshotSlots.path(directory, slot)) {
      out.append(SnapshotSlots.path(directory, slot))
    }
    for (folder, suffix) in [("journal", ".journal")] + (segments ? [("segments", ".segment")] : []) {
      guard try disk.exists("\(directory)/\(folder)") else { continue }
      for name in try disk.list("\(directory)/\(folder)").sorted() where name.hasSuffix(suffix) {
        out.append("\(directory)/\(folder)/\(name)")
      }
    }
    return out
  }

  /// The file system to open a data directory with, once it is certain that the keys fit: nothing was changed, and no file opened for
  /// writing, when this throws.
  /// - Parameters:
  ///   - keys: nil when there are none: then nothing in the directory may be encrypted.
  ///   - disk: the file system below any encryption.
  /// - Throws: `.io`, which names a file and the key that it needs, or says that the directory is not encrypted; `.corruption` when a file's
  ///   header can be read with no key any more.
  public static func fileSystem(
    for directory: String, keys: KeyRing?, in disk: any FileSystem
  ) throws(LogError) -> any FileSystem {
    let found = try DirectoryEncryption(of: directory, in: disk, segments: keys != nil)
    guard let keys else {
      if let (path, key) = found.example {
        throw LogError(.io, "\(directory) is encrypted: \(path) needs key \(key), and no key file is given")
      }
      if let path = found.damaged.first { throw LogError(.corruption, DirectoryEncryption.damage(path)) }
      return disk
    }
    if let path = found.plain.first {
      throw LogError(
        .io,
        found.isEncrypted
          ? "\(path) is not encrypted, though others in \(directory) are: it does not belong there"
          : "\(directory) is not encrypted (\(path) is not), and a key file is given; what is in it can be written into a new, "
            + "encrypted directory: `millrace inspect \(directory) --export NEWDIR --export-key FILE`")
    }
    try LogError.wrapping { () throws(IOError) in
      for path in found.encrypted { try keys.checkOpens(path, in: disk) }
    }
    return EncryptedFileSystem(disk, keys: keys)
  }

  private static func damage(_ path: String) -> String {
    "\(path) at byte 0: neither copy of the header of an encrypted file can be read"
  }

  /// Wraps what older keys of the ring wrap with the current one. The directory must be locked; its files may be in use, through this
  /// very file system.
  ///
  /// Files that go away meanwhile are left out.
  /// - Returns: files that were wrapped anew, and what was found before that.
  /// - Throws: `.io`, `.noSpace`. What was done until then stays; whatever was interrupted can be read.
  public static func rewrap(
    _ directory: String, in fileSystem: EncryptedFileSystem
  ) throws(LogError) -> (rewrapped: Int, before: DirectoryEncryption) {
    let before = try DirectoryEncryption(of: directory, in: fileSystem.disk)
    let current = fileSystem.keys.current.id
    guard before.keys.keys.contains(where: { $0 != current }) || !before.halfDamaged.isEmpty else { return (0, before) }
    var count = 0
    try LogError.wrapping { () throws(IOError) in
      for path in before.encrypted {
        do throws(IOError) {
          if try fileSystem.rewrap(path) { count += 1 }
        } catch {
          guard error.code == .notFound else { throw error }
        }
      }
    }
    return (count, before)
  }
}
