// FileIdentity: which file a name leads to now, to see cheaply whether that is another one than before.

import CMillraceSystem
import Glibc

/// A file as the file system describes it, without its contents.
///
/// Two that are equal are the same file with the same contents, unless somebody has set its times back on purpose. A file that is
/// replaced by renaming another one has another inode.
public struct FileIdentity: Equatable, Sendable {
  private let device: UInt64
  /// Its number in its file system.
  public let inode: UInt64
  private let modified: Int64
  private let changed: Int64
  /// Bytes.
  public let size: Int64
  private let mode: UInt32
  /// User number of its owner.
  public let owner: UInt32

  /// Looks at a file; symbolic links are followed. May block.
  public init(_ path: String) throws(IOError) {
    var state = mr_file_identity()
    try IOError.check(mr_file_identity(path, &state), "look at", path)
    device = state.device
    inode = state.inode
    modified = state.modified_ns
    changed = state.changed_ns
    size = state.size
    mode = state.mode
    owner = state.owner
  }

  /// Whether it is a directory.
  public var isDirectory: Bool { mode & S_IFMT == S_IFDIR }
  /// The permissions: the lowest nine bits are those of owner, group and others.
  public var permissions: UInt32 { mode & 0o7777 }
}
