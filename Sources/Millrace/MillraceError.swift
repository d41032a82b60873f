// MillraceError: why the embedded broker refused or could not do something.

import MillraceBroker
import MillraceIO

/// An error of the embedded broker.
public struct MillraceError: Error, Equatable, CustomStringConvertible {
  /// The kinds that callers tell apart.
  public struct Code: Sendable, Hashable, CustomStringConvertible {
    private let name: String
    private init(_ name: String) { self.name = name }

    /// The topic or partition does not exist, and may not be made.
    public static let unknownTopic = Code("unknownTopic")
    /// A topic of this name exists already.
    public static let topicExists = Code("topicExists")
    /// The queue does not exist, or was deleted.
    public static let unknownQueue = Code("unknownQueue")
    /// A queue of this name exists with other options; the reason says which.
    public static let queueExists = Code("queueExists")
    /// The queue refuses messages, because it is as long as it may be.
    public static let queueFull = Code("queueFull")
    /// The delivery was settled before, or was taken back, so that nothing can be said of it any more.
    public static let notInFlight = Code("notInFlight")
    /// A name, number or setting is not allowed; the reason says which and why.
    public static let invalidArgument = Code("invalidArgument")
    /// The batch is larger than the topic's `max.message.bytes`, or what is to be one commit than a commit may be.
    public static let messageTooLarge = Code("messageTooLarge")
    /// The offset was removed already, or does not exist yet.
    public static let offsetOutOfRange = Code("offsetOutOfRange")
    /// Stored or received bytes are not what they should be.
    public static let corrupt = Code("corrupt")
    /// The disk is full or failed, or another process uses the directory.
    public static let storage = Code("storage")
    /// The group has members: only they may commit for it, and it cannot be deleted.
    public static let groupInUse = Code("groupInUse")
    /// The group gave the record's partition to another member; nothing was committed.
    public static let rebalanced = Code("rebalanced")
    /// The group has neither members nor committed offsets.
    public static let unknownGroup = Code("unknownGroup")
    /// The address cannot be listened on.
    public static let network = Code("network")
    /// The broker, producer or queue was closed.
    public static let closed = Code("closed")
    /// The task was cancelled while it waited; nothing was sent.
    public static let cancelled = Code("cancelled")

    /// The kind's name.
    public var description: String { name }
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

  static let closed = MillraceError(.closed, "the broker is closed")

  init(_ error: BrokerError) {
    let code: Code =
      switch error.code {
      case .unknownTopicOrPartition, .unknownTopicID: .unknownTopic
      case .topicExists: .topicExists
      case .messageTooLarge: .messageTooLarge
      case .offsetOutOfRange: .offsetOutOfRange
      case .corruptBatch, .invalidRecord, .unsupportedBatchFormat, .unsupportedCompression: .corrupt
      case .storage: .storage
      case .stopped: .closed
      case .unknownMember, .illegalGeneration, .rebalanceInProgress, .fencedInstance, .groupNotEmpty: .groupInUse
      case .unknownGroup: .unknownGroup
      default: .invalidArgument
      }
    self.init(code, error.reason)
  }

  init(_ error: IOError) {
    self.init(.storage, error.description)
  }

  /// Kind and explanation.
  public var description: String { "\(code): \(reason)" }
}
