// ConsumedRecord and StartPosition: what a consumer gets, and where it begins.

import MillraceBase
import MillraceModel

/// A record with its place.
public struct ConsumedRecord: Equatable, Sendable {
  /// Topic.
  public let topic: String
  /// Partition.
  public let partition: Int32
  /// The record. Its key and value share the memory of the batch it came in: copy what is kept for long.
  public let record: Record

  /// A record at its place.
  public init(topic: String, partition: Int32, record: Record) {
    self.topic = topic
    self.partition = partition
    self.record = record
  }

  /// Offset in the partition.
  public var offset: Offset { record.offset }
  /// Key; nil is distinct from empty.
  public var key: Bytes? { record.key }
  /// Value; nil is a tombstone.
  public var value: Bytes? { record.value }
  /// Headers in order.
  public var headers: [RecordHeader] { record.headers }
  /// Time in ms.
  public var timestamp: Timestamp { record.timestamp }
  /// The value as text; invalid UTF-8 is replaced by U+FFFD, a missing value is empty.
  public var text: String { record.value?.text ?? "" }
}

/// Where a consumer begins in a partition.
public enum StartPosition: Hashable, Sendable {
  /// At the oldest record.
  case earliest
  /// Behind the newest record of the moment the consumer first asks.
  case latest
  /// At this offset.
  case offset(Offset)
  /// At the first record of this time or a later one; behind the newest one when there is none.
  case time(Timestamp)
}

/// Who commits for a member of a group.
public enum GroupCommits: Hashable, Sendable {
  /// The consumer itself: a record is done with when the loop asks for the next one. What is done is committed every second,
  /// before the group gives partitions to others, and at the end: every record is handed over at least once, and exactly
  /// once unless a member dies or stays silent. The record that a loop was left with by `break` comes again.
  case automatic
  /// The loop, by ``ConsumedRecords/commit(_:)``. What is not committed comes again after every rebalance.
  case byHand
}

/// Which records of transactions a consumer is shown.
public enum Isolation: Hashable, Sendable {
  /// Those of committed transactions. The consumer gets no further than the first record of a transaction in progress.
  case committed
  /// All of them as soon as they are durable, those of transactions in progress and of aborted ones, too.
  case uncommitted
}

/// When a consumer ends.
public enum ConsumerEnd: Hashable, Sendable {
  /// Never: it waits for more.
  case never
  /// Behind the records that were there when the consumer first asked.
  case currentEnd
}
