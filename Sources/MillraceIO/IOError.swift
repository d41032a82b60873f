// IOError: what the operating system (or the simulated one) refused, and for which file or address.

/// A failed system operation.
public struct IOError: Error, Equatable, CustomStringConvertible {
  /// The kinds that callers tell apart.
  public enum Code: Sendable, Equatable {
    case noSpace
    case notFound
    case alreadyExists
    case locked
    case addressInUse
    case accessDenied
    case tooManyFiles
    case unsupported
    /// Bytes on disk are not what was written.
    case corrupt
    /// Nothing was written where an encrypted file is read, or it has been lost: there are zeros on the disk.
    case unwritten
    /// The file is encrypted, and its key is not among those given.
    case wrongKey
    case failed
  }

  /// The kind.
  public let code: Code
  /// What was tried, for example `write`.
  public let operation: String
  /// The file or address.
  public let subject: String
  /// The system's error number, 0 when there is none.
  public let number: Int32
  /// The system's words.
  public let reason: String

  /// An error with its parts.
  public init(_ code: Code, operation: String, subject: String, number: Int32 = 0, reason: String) {
    self.code = code
    self.operation = operation
    self.subject = subject
    self.number = number
    self.reason = reason
  }

  /// Operation, subject and reason.
  public var description: String { "\(operation) \(subject): \(reason)" }
}
