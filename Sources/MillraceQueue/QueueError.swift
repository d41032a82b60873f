// QueueError: why a queue did not take or give a message.

/// A message was not sent or not received.
public struct QueueError: Error, Equatable, CustomStringConvertible {
  /// The kinds that callers tell apart.
  public enum Code: Sendable, Equatable {
    /// The queue was closed: it takes no more messages.
    case closed
    /// The time allowed for the operation passed.
    case timedOut
    /// The task that waited was cancelled.
    case cancelled
  }

  /// The kind.
  public let code: Code
  /// How many messages of a batch the queue had taken before; always 0 for a single message.
  public let accepted: Int

  /// An error of kind `code`, after `accepted` messages of the batch were taken.
  public init(_ code: Code, accepted: Int = 0) {
    self.code = code
    self.accepted = accepted
  }

  /// The kind in words, and what was taken before.
  public var description: String {
    let reason =
      switch code {
      case .closed: "the queue is closed"
      case .timedOut: "the time allowed passed"
      case .cancelled: "the waiting task was cancelled"
      }
    return accepted == 0 ? reason : "\(reason) after \(accepted) messages were accepted"
  }
}
