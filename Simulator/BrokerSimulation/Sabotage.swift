// Sabotage: what may be planted into a run, to see that the checks notice.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceModel
import MillraceSimulation
import TransactionHistory

/// What may be done to a run to see that the checks notice.
public struct Sabotage {
  /// Leaves those clients alone, beside a few simple ones, that a rule is about, so that few runs show its breach.
  public var focus: Rule?
  /// Stands between the broker and the simulated disk.
  public var disk: (SimulatedFileSystem) -> any FileSystem = { $0 }
  /// Changes how the log works.
  public var configuration: (inout LogConfiguration) -> Void = { _ in }
  /// Changes what clients were told, at the end.
  public var ledger: (inout Ledger) -> Void = { _ in }
  /// Changes the whole log of a partition as it is read at the end.
  public var log: (TopicPartition, inout [RecordName]) -> Void = { _, _ in }
  /// Changes a member's assignment before it is decoded.
  public var assignment: (Bytes) -> Bytes = { $0 }
  /// Changes what a member of the consumer protocol is told that it may have.
  public var consumerAssignment: (Set<TopicPartition>) -> Set<TopicPartition> = { $0 }
  /// Changes a count of the stream job as it is read at the end.
  public var count: (Int) -> Int = { $0 }
  /// Changes the history of the transactions before it is checked.
  public var history: (inout TransactionHistory) -> Void = { _ in }
  /// Changes an answer before it is decoded.
  public var frame: (Bytes) -> Bytes = { $0 }
  /// Changes the end of a partition as consumers are told it.
  public var highWatermark: (Offset) -> Offset = { $0 }
  /// Changes a committed offset as a consumer alone in its group is told it.
  public var loneOffset: (Offset) -> Offset = { $0 }
  /// Says of a topic that is gone that it is there.
  public var revivesTopics = false
  /// Loses every answer once nothing should fail any more.
  public var losesAllAnswers = false
  /// Events in which everybody must get on then.
  public var patience = 3_000_000
  /// Changes a committed offset as a member is told it.
  public var committedOffset: (Offset) -> Offset = { $0 }
  /// Changes the outputs of the transformers as they are read at the end.
  public var outputs: (inout [[(input: TopicPartition, offset: Offset)]]) -> Void = { _ in }
  /// Changes what a member of the share group is told that it has got.
  public var acquired: (ClosedRange<Offset>) -> ClosedRange<Offset> = { $0 }
  /// Changes how far the share group's records are looked for at the end.
  public var sharedEnd: (Offset) -> Offset = { $0 }
  /// Changes a reading of the topic that is cleaned up.
  public var keyed: (TopicPartition, inout KeyedReading) -> Void = { _, _ in }
  /// Changes what is found in the queues at the end.
  var left: (inout [String: [LeftMessage]], QueueLedger) -> Void = { _, _ in }
  /// Changes the time that a message is asked to wait, in ms.
  var delay: (Int64) -> Int64 = { $0 }
  /// Publishes without the id that a queue recognises a message by.
  var hidesMessageIDs = false
  /// Does not send acknowledgements.
  var losesAcknowledgements = false
  /// Changes a delivery count as a consumer is told it.
  var deliveryCount: (Int) -> Int = { $0 }
  /// Changes the key that a message is published with.
  var key: (Int) -> Int = { $0 }
  /// Says of a queue that it was deleted, and does not delete it.
  var deletesNothing = false

  /// None.
  public init() {}
}
