// TransactionEvent: the events that change a transactional id's state, and their bytes in the journal.
//
// As MetadataEvent: kind uint8, version uint8 (1), then the fields, big endian, first the transactional id.

import MillraceBase
import MillraceModel

/// A producer's id with one of its epochs.
public struct ProducerIdentity: Hashable, Sendable, CustomStringConvertible {
  /// Id that the broker gave.
  public var id: Int64
  /// Rises when older instances of the producer are shut out.
  public var epoch: Int16

  /// An id with an epoch.
  public init(_ id: Int64, _ epoch: Int16) {
    self.id = id
    self.epoch = epoch
  }

  /// Stands for no producer.
  public static let none = ProducerIdentity(-1, -1)

  /// `id/epoch`.
  public var description: String { "\(id)/\(epoch)" }
}

/// One change of what is known of a transactional id.
public enum TransactionEvent: Equatable, Sendable {
  /// A producer came with the id: it has no transaction, and `producer` is valid alone. `previous` is what the same
  /// instance had before, when a repeat of its call must be recognised.
  case initialised(
    String, producer: ProducerIdentity, previous: ProducerIdentity, timeoutMilliseconds: Int32, time: Timestamp)
  /// Partitions take part in the transaction, which begins with the first of these or of the next kind.
  case partitionsAdded(String, [TopicPartition], time: Timestamp)
  /// The transaction will commit offsets of a group.
  case groupAdded(String, group: String, time: Timestamp)
  /// Offsets that the group will have committed when the transaction commits.
  case offsetsAdded(String, group: String, [PartitionOffset], time: Timestamp)
  /// The transaction is over. In the same commit every partition of it gets its marker. `producer` is valid from now on;
  /// `previous` is what asked for the end, when a repeat of that must be recognised.
  case ended(String, isCommit: Bool, producer: ProducerIdentity, previous: ProducerIdentity, time: Timestamp)
  /// The id was not used for long and is forgotten.
  case expired(String)

  /// The transactional id that is meant.
  public var id: String {
    switch self {
    case .initialised(let id, _, _, _, _), .partitionsAdded(let id, _, _), .groupAdded(let id, _, _),
      .offsetsAdded(let id, _, _, _), .ended(let id, _, _, _, _), .expired(let id):
      id
    }
  }

  /// The same event with those partitions alone that `exists` says to be there.
  func naming(_ exists: (TopicPartition) -> Bool) -> TransactionEvent {
    switch self {
    case .partitionsAdded(let id, let partitions, let time):
      .partitionsAdded(id, partitions.filter(exists), time: time)
    case .offsetsAdded(let id, let group, let offsets, let time):
      .offsetsAdded(id, group: group, offsets.filter { exists($0.partition) }, time: time)
    case .initialised, .groupAdded, .ended, .expired: self
    }
  }

  static let kinds: ClosedRange<UInt8> = 20...25

  func write(to writer: inout ByteWriter) {
    func begin(_ kind: UInt8, _ id: String) {
      writer.uint8(kind)
      writer.uint8(1)
      writer.text(id)
    }
    switch self {
    case .initialised(let id, let producer, let previous, let timeout, let time):
      begin(20, id)
      writer.producer(producer)
      writer.producer(previous)
      writer.int32(timeout)
      writer.int64(time.milliseconds)
    case .partitionsAdded(let id, let partitions, let time):
      begin(21, id)
      writer.uint32(UInt32(partitions.count))
      for partition in partitions { writer.partition(partition) }
      writer.int64(time.milliseconds)
    case .groupAdded(let id, let group, let time):
      begin(22, id)
      writer.text(group)
      writer.int64(time.milliseconds)
    case .offsetsAdded(let id, let group, let offsets, let time):
      begin(23, id)
      writer.text(group)
      writer.uint32(UInt32(offsets.count))
      for offset in offsets { writer.offset(offset) }
      writer.int64(time.milliseconds)
    case .ended(let id, let isCommit, let producer, let previous, let time):
      begin(24, id)
      writer.uint8(isCommit ? 1 : 0)
      writer.producer(producer)
      writer.producer(previous)
      writer.int64(time.milliseconds)
    case .expired(let id): begin(25, id)
    }
  }

  /// Reads what follows kind and version.
  init(_ kind: UInt8, _ reader: inout ByteReader) throws(DecodingError) {
    let id = try reader.text()
    switch kind {
    case 20:
      self = .initialised(
        id, producer: try reader.producer(), previous: try reader.producer(), timeoutMilliseconds: try reader.int32(),
        time: Timestamp(milliseconds: try reader.int64()))
    case 21:
      var partitions: [TopicPartition] = []
      for _ in 0..<(try reader.uint32()) { partitions.append(try reader.partition()) }
      self = .partitionsAdded(id, partitions, time: Timestamp(milliseconds: try reader.int64()))
    case 22:
      self = .groupAdded(id, group: try reader.text(), time: Timestamp(milliseconds: try reader.int64()))
    case 23:
      let group = try reader.text()
      var offsets: [PartitionOffset] = []
      for _ in 0..<(try reader.uint32()) { offsets.append(try reader.offset()) }
      self = .offsetsAdded(id, group: group, offsets, time: Timestamp(milliseconds: try reader.int64()))
    case 24:
      self = .ended(
        id, isCommit: try reader.uint8() != 0, producer: try reader.producer(), previous: try reader.producer(),
        time: Timestamp(milliseconds: try reader.int64()))
    case 25: self = .expired(id)
    default: throw DecodingError("kind \(kind) is no transaction event", at: 0)
    }
  }
}

extension ByteWriter {
  mutating func producer(_ producer: ProducerIdentity) {
    int64(producer.id)
    int16(producer.epoch)
  }

  mutating func partition(_ partition: TopicPartition) {
    text(partition.topic)
    int32(partition.partition)
  }
}

extension ByteReader {
  mutating func producer() throws(DecodingError) -> ProducerIdentity { ProducerIdentity(try int64(), try int16()) }

  mutating func partition() throws(DecodingError) -> TopicPartition { TopicPartition(try text(), try int32()) }
}
