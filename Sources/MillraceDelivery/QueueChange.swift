// QueueChange: what a queue wants to be made durable, as values.

import MillraceBase
import MillraceModel

/// A change of a queue's durable state. Absolute, so that applying one twice does no harm, except to `bytes`.
public enum QueueChange: Hashable, Sendable {
  /// These messages are done with. `bytes` is the sum of their sizes, as far as they were known.
  case done(lane: UInt8, ranges: [Range<Offset>], bytes: Int64)
  /// The message's deliveries that failed.
  case counted(lane: UInt8, offset: Offset, count: Int32)
  /// The message is not delivered again before `until`.
  case delayed(lane: UInt8, offset: Offset, until: Timestamp)
}

/// Why a message left the queue without being acknowledged.
public enum DeadLetterReason: String, Sendable {
  /// A consumer discarded it.
  case rejected
  /// Its time was over.
  case expired
  /// The queue was too long.
  case maxlen
  /// It failed too often.
  case deliveryLimit = "delivery_limit"
}

/// The intent to pass a message on to the dead-letter exchange.
public struct DeadLetter: Sendable {
  /// Where it was.
  public var position: Position
  /// The message; nil when it is no longer in memory and must be read from the log.
  public var message: Message?
  /// Why it left.
  public var reason: DeadLetterReason
  /// Deliveries that failed.
  public var deliveryCount: Int32
}

/// What belongs into one commit: the changes, and the dead letters that leave with them.
///
/// The queue has applied all of it. When the commit does not become durable, a restart from what is durable undoes it
/// as a whole: the messages are delivered again, and nothing was dead-lettered.
public struct QueueCommit: Sendable {
  /// In the order in which they are to be applied.
  public var changes: [QueueChange] = []
  /// To be published in the same commit, or dropped when the queue has no dead-letter exchange.
  public var deadLetters: [DeadLetter] = []

  /// A part of what a queue gave, by a host that makes it durable in parts.
  public init(changes: [QueueChange] = [], deadLetters: [DeadLetter] = []) {
    self.changes = changes
    self.deadLetters = deadLetters
  }
}

/// A wish for messages that are not in memory.
public struct Load: Hashable, Sendable {
  /// What it is for.
  public enum Kind: Sendable {
    /// The window ahead of the cursor.
    case window
    /// Returned messages, scattered behind it, whose content was let go of.
    case returned
  }

  /// Lane to read.
  public var lane: UInt8
  /// First offset wanted.
  public var offset: Offset
  /// How many offsets at most.
  public var count: Int
  /// Bytes after which the host should stop reading, behind the first message.
  public var bytes: Int
  /// What it is for.
  public var kind: Kind
}
