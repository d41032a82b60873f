// KeyRing+Files: which key a file of the disk is wrapped with, and whether a ring opens it.

import MillraceBase

/// What a file of the disk is, seen from the outside, without any key.
public enum EncryptionState: Equatable, Sendable {
  /// Not encrypted.
  case plain
  /// Nothing was ever written, or nothing that has remained.
  case unwritten
  /// Encrypted, with a key of its own that this key wraps. `isWhole` is false when one of the two copies of the header is damaged.
  case encrypted(EncryptionKeyID, isWhole: Bool)
  /// Encrypted, but both copies of the header are damaged: nobody can read it any more.
  case damaged
}

extension KeyRing {
  /// Looks at the beginning of a file of the disk, past any decorator. Blocks.
  public static func state(of path: String, in disk: any FileSystem) throws(IOError) -> EncryptionState {
    let file = try disk.open(path, .read)
    defer { file.close() }
    return switch try EncryptedFileStart.read(file) {
    case .plain: .plain
    case .unwritten: .unwritten
    case .header(let header, let isWhole): .encrypted(header.keyID, isWhole: isWhole)
    case .damaged: .damaged
    }
  }

  /// Checks that one of these keys opens an encrypted file. Blocks.
  /// - Throws: `.wrongKey`, naming file and key.
  public func checkOpens(_ path: String, in disk: any FileSystem) throws(IOError) {
    let file = try disk.open(path, .read)
    defer { file.close() }
    guard case .header(let header, _) = try EncryptedFileStart.read(file) else { return }
    _ = try EncryptedFileSystem.fileKey(header, self, path: path)
  }
}
