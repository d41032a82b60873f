// JobError: why a job cannot start or go on.

/// What stopped a job.
public struct JobError: Error, Equatable, CustomStringConvertible {
  /// The kinds that callers tell apart.
  public enum Code: Sendable, Equatable {
    /// A newer run of the same job has taken over; this one must stop and commit nothing more.
    case fenced
    /// The commit may or may not have been applied; only a new run, which recovers, can tell.
    case commitFailed
    /// A topic that the job reads or writes is not there.
    case unknownTopic
    /// A message queue that the job reads or writes is not there, or is not durable.
    case unknownQueue
    /// An input batch cannot be decoded.
    case corruptInput
    /// The job's state log cannot be understood.
    case corruptState
    /// A file with state beyond the job's memory cannot be written or read; a new run, which recovers, makes new ones.
    case stateFileFailed
    /// The job contradicts itself: two operators of one name, for example.
    case invalidJob
    /// What a single batch of input led to is more than a commit may hold.
    case stepTooLarge
    /// A source failed.
    case sourceFailed
    /// A sink that is no topic failed.
    case sinkFailed
    /// A function of the job failed for a value, and the job is to end then.
    case functionFailed
    /// The host is shutting down, or the connection to it is gone.
    case closed
    /// An operator has stopped the job; it may run again once it is resumed.
    case stopped
    /// No server is there to be joined.
    case noServer
  }

  /// The kind.
  public let code: Code
  /// What happened, with the values.
  public let reason: String

  /// An error with its explanation.
  public init(_ code: Code, _ reason: String) {
    self.code = code
    self.reason = reason
  }

  /// Kind and explanation.
  public var description: String { "\(code): \(reason)" }
}
