// DiskFaults: what a simulated disk is told to fail at.

import MillraceIO

/// One call to a simulated disk.
public struct DiskOperation: Sendable {
  /// What is asked for.
  public enum Kind: Sendable, Equatable {
    /// An open that makes or empties a file.
    case create
    case read
    case write
    case flush
    case resize
    case rename
    case remove
    case createDirectory
    case syncDirectory

    /// The name in traces.
    var label: StaticString {
      switch self {
      case .create: "disk create"
      case .read: "disk read"
      case .write: "disk write"
      case .flush: "disk flush"
      case .resize: "disk resize"
      case .rename: "disk rename"
      case .remove: "disk remove"
      case .createDirectory: "disk create directory"
      case .syncDirectory: "disk sync directory"
      }
    }
  }
  /// What is asked for.
  public let kind: Kind
  /// The file or directory; for a rename, the old name.
  public let path: String
  /// Where in the file; 0 when that makes no sense.
  public let position: Int64
  /// Bytes to read or write, or the size to set.
  public let length: Int
}

/// When operations of a simulated disk fail.
///
/// A failed write may have written all, its first sectors of 512 bytes or any of them, each whole: reads see them, and
/// they are not durable. A failed flush leaves reads unchanged but loses some of what it should have made durable for
/// good, as Linux does; a flush after it succeeds and does not bring it back.
public struct DiskFaults {
  /// Chance of a read to fail.
  public var readFailureProbability = 0.0
  /// Chance of a write to fail.
  public var writeFailureProbability = 0.0
  /// Chance of a flush to fail.
  public var flushFailureProbability = 0.0
  /// Asked before every operation: a code makes it fail.
  public var predicate: ((DiskOperation) -> IOError.Code?)?

  /// No faults.
  public init() {}
}
