// LogError: why the log refused or could not do something.

import MillraceIO

/// An operating error of the log. Bugs trap instead; answers to clients are made from the code above.
public struct LogError: Error, Equatable, CustomStringConvertible {
  /// The kinds that callers tell apart.
  public enum Code: Sendable, Equatable {
    /// The partition does not exist (any more).
    case unknownPartition
    /// The offset lies before the start or behind the end of what may be read.
    case offsetOutOfRange
    /// A sequence number does not follow the last one of this producer.
    case outOfOrderSequence
    /// A newer epoch of this producer has written already.
    case invalidProducerEpoch
    /// A producer wrote outside its open transaction.
    case invalidTransactionState
    /// The unit is larger than a commit may be.
    case tooLarge
    /// The disk has no room; nothing was appended.
    case noSpace
    /// Bytes on disk are not what was written. `reason` names file and position.
    case corruption
    /// The operating system refused.
    case io
    /// The log has stopped, because it was closed or because a flush failed.
    case stopped
  }

  /// The kind.
  public let code: Code
  /// The values, in words.
  public let reason: String

  /// An error with its explanation.
  public init(_ code: Code, _ reason: String) {
    self.code = code
    self.reason = reason
  }

  /// An operating system's error as the log's.
  public init(_ error: IOError) {
    switch error.code {
    case .noSpace: self.init(.noSpace, error.description)
    case .corrupt, .unwritten: self.init(.corruption, "\(error.subject): \(error.reason)")
    default: self.init(.io, error.description)
    }
  }

  /// Runs `body`, turning the operating system's error into the log's.
  static func wrapping<Value>(_ body: () throws(IOError) -> Value) throws(LogError) -> Value {
    do throws(IOError) {
      return try body()
    } catch {
      throw LogError(error)
    }
  }

  /// Kind and explanation.
  public var description: String { "\(code): \(reason)" }
}
