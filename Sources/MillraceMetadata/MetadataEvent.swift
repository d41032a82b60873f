// MetadataEvent: the events that change the broker's durable state, and their bytes in the journal.
//
// An event is: kind uint8, version uint8 (1), then its fields, big endian; strings are uint32 length and UTF-8,
// optional strings have a length of 0xffffffff when absent, lists a uint32 count.
//
// Kinds: 1 started, 2 topic created, 3 topic deleted, 4 offsets committed, 5 producer ids reserved, 6 job started,
// 7 job started by a worker, 8 job stopped or resumed,
// 20 to 25 of transactions, 30 group epochs reserved, 31 consumer group ended, 40 partitions added, 41 topic configured, 42 resource configured, 43 group deleted,
// 44 offsets deleted, 45 quotas changed, 50 to 52 of share groups, 60 to 68 of queues, 70 to 75 of users and rules.

import MillraceBase
import MillraceModel

/// An offset that a consumer group committed.
public struct CommittedOffset: Equatable, Sendable {
  /// The next offset to read.
  public var offset: Offset
  /// Leader epoch of the last record read, −1 when not told.
  public var leaderEpoch: Int32
  /// Free text of the client.
  public var metadata: String?
  /// When it was committed.
  public var time: Timestamp

  /// A committed offset.
  public init(offset: Offset, leaderEpoch: Int32, metadata: String?, time: Timestamp) {
    self.offset = offset
    self.leaderEpoch = leaderEpoch
    self.metadata = metadata
    self.time = time
  }
}

/// A committed offset and the partition it belongs to.
public struct PartitionOffset: Equatable, Sendable {
  /// The partition.
  public var partition: TopicPartition
  /// What was committed.
  public var committed: CommittedOffset

  /// An offset for a partition.
  public init(partition: TopicPartition, committed: CommittedOffset) {
    self.partition = partition
    self.committed = committed
  }
}

/// One change of the broker's durable state.
public enum MetadataEvent: Equatable, Sendable {
  /// The program started: a new leader epoch for all partitions. The first one also names the cluster.
  case started(epoch: Int32, clusterID: String)
  /// A topic with its partitions' log numbers and its settings.
  case topicCreated(name: String, id: TopicID, partitions: [PartitionLogID], configs: [String: String], time: Timestamp)
  /// A topic and its committed offsets are gone.
  case topicDeleted(id: TopicID)
  /// A group's offsets.
  case offsetsCommitted(group: String, offsets: [PartitionOffset])
  /// Producer ids below `next` have been given out, or may have been.
  case producerIDsReserved(next: Int64)
  /// A stream job started with a new epoch; older ones are fenced.
  case jobStarted(name: String, epoch: Int64)
  /// A worker started a job with a new epoch; older ones are fenced. The owner is the worker's number.
  case jobOwned(name: String, epoch: Int64, owner: UInt64)
  /// A job may not run until it is resumed, or it may again.
  case jobStopped(name: String, isStopped: Bool)
  /// A topic has more partitions, behind those it had.
  case partitionsAdded(id: TopicID, partitions: [PartitionLogID])
  /// A topic's settings changed; nil takes one back to its standard.
  case topicConfigured(id: TopicID, changes: [String: String?])
  /// The settings of something other than a topic changed; nil takes one back to its standard.
  case resourceConfigured(ConfigResource, changes: [String: String?])
  /// A group and its committed offsets are gone.
  case groupDeleted(group: String)
  /// Some of a group's committed offsets are gone.
  case offsetsDeleted(group: String, partitions: [TopicPartition])
  /// Limits of an entity, by Kafka's names; nil takes one away.
  case quotasChanged(QuotaEntity, limits: [String: Double?])
  /// A transactional id's state changes.
  case transaction(TransactionEvent)
  /// A group speaks the consumer protocol; its epochs below `next` have been given out, or may have been.
  case groupEpochsReserved(group: String, next: Int32)
  /// A group no longer speaks the consumer protocol, or is gone.
  case consumerGroupEnded(group: String)
  /// Virtual hosts, exchanges, bindings and durable queues change.
  case queue(QueueEvent)
  /// What a share group has done changes.
  case share(ShareEvent)
  /// Users, or what they may do, change.
  case security(SecurityEvent)

  /// The event's bytes.
  public func encoded() -> Bytes {
    var writer = ByteWriter(capacity: 256)
    func begin(_ kind: UInt8) {
      writer.uint8(kind)
      writer.uint8(1)
    }
    switch self {
    case .started(let epoch, let clusterID):
      begin(1)
      writer.int32(epoch)
      writer.text(clusterID)
    case .topicCreated(let name, let id, let partitions, let configs, let time):
      begin(2)
      writer.text(name)
      writer.uint64(id.high)
      writer.uint64(id.low)
      writer.uint32(UInt32(partitions.count))
      for partition in partitions { writer.int64(partition.number) }
      writer.uint32(UInt32(configs.count))
      for (key, value) in configs.sorted(by: { $0.key < $1.key }) {
        writer.text(key)
        writer.text(value)
      }
      writer.int64(time.milliseconds)
    case .topicDeleted(let id):
      begin(3)
      writer.uint64(id.high)
      writer.uint64(id.low)
    case .offsetsCommitted(let group, let offsets):
      begin(4)
      writer.text(group)
      writer.uint32(UInt32(offsets.count))
      for offset in offsets { writer.offset(offset) }
    case .producerIDsReserved(let next):
      begin(5)
      writer.int64(next)
    case .jobStarted(let name, let epoch):
      begin(6)
      writer.text(name)
      writer.int64(epoch)
    case .jobOwned(let name, let epoch, let owner):
      begin(7)
      writer.text(name)
      writer.int64(epoch)
      writer.uint64(owner)
    case .jobStopped(let name, let isStopped):
      begin(8)
      writer.text(name)
      writer.bool(isStopped)
    case .partitionsAdded(let id, let partitions):
      begin(40)
      writer.uint64(id.high)
      writer.uint64(id.low)
      writer.uint32(UInt32(partitions.count))
      for partition in partitions { writer.int64(partition.number) }
    case .topicConfigured(let id, let changes):
      begin(41)
      writer.uint64(id.high)
      writer.uint64(id.low)
      writer.changes(changes)
    case .resourceConfigured(let resource, let changes):
      begin(42)
      writer.resource(resource)
      writer.changes(changes)
    case .groupDeleted(let group):
      begin(43)
      writer.text(group)
    case .offsetsDeleted(let group, let partitions):
      begin(44)
      writer.text(group)
      writer.uint32(UInt32(partitions.count))
      for partition in partitions {
        writer.text(partition.topic)
        writer.int32(partition.partition)
      }
    case .quotasChanged(let entity, let limits):
      begin(45)
      writer.entity(entity)
      writer.uint32(UInt32(limits.count))
      for (name, limit) in limits.sorted(by: { $0.key < $1.key }) {
        writer.text(name)
        writer.bool(limit != nil)
        if let limit { writer.float64(limit) }
      }
    case .transaction(let event): event.write(to: &writer)
    case .groupEpochsReserved(let group, let next):
      begin(30)
      writer.text(group)
      writer.int32(next)
    case .consumerGroupEnded(let group):
      begin(31)
      writer.text(group)
    case .queue(let event): event.write(to: &writer)
    case .share(let event): event.write(to: &writer)
    case .security(let event): event.write(to: &writer)
    }
    return writer.finishJoined()
  }

  /// Reads an event.
  /// - Throws: when the bytes are no event that this version knows.
  public init(_ bytes: Bytes) throws(DecodingError) {
    var reader = ByteReader(bytes)
    let kind = try reader.uint8()
    let version = try reader.uint8()
    guard version == 1 else { throw DecodingError("metadata event of version \(version), this program reads 1", at: 1) }
    switch kind {
    case 1: self = .started(epoch: try reader.int32(), clusterID: try reader.text())
    case 2:
      let name = try reader.text()
      let id = TopicID(high: try reader.uint64(), low: try reader.uint64())
      var partitions: [PartitionLogID] = []
      for _ in 0..<(try reader.uint32()) { partitions.append(PartitionLogID(try reader.int64())) }
      var configs: [String: String] = [:]
      for _ in 0..<(try reader.uint32()) { configs[try reader.text()] = try reader.text() }
      self = .topicCreated(
        name: name, id: id, partitions: partitions, configs: configs,
        time: Timestamp(milliseconds: try reader.int64()))
    case 3: self = .topicDeleted(id: TopicID(high: try reader.uint64(), low: try reader.uint64()))
    case 4:
      let group = try reader.text()
      var offsets: [PartitionOffset] = []
      for _ in 0..<(try reader.uint32()) { offsets.append(try reader.offset()) }
      self = .offsetsCommitted(group: group, offsets: offsets)
    case 5: self = .producerIDsReserved(next: try reader.int64())
    case 6: self = .jobStarted(name: try reader.text(), epoch: try reader.int64())
    case 7: self = .jobOwned(name: try reader.text(), epoch: try reader.int64(), owner: try reader.uint64())
    case 8: self = .jobStopped(name: try reader.text(), isStopped: try reader.bool())
    case 40:
      let id = TopicID(high: try reader.uint64(), low: try reader.uint64())
      var partitions: [PartitionLogID] = []
      for _ in 0..<(try reader.uint32()) { partitions.append(PartitionLogID(try reader.int64())) }
      self = .partitionsAdded(id: id, partitions: partitions)
    case 41:
      self = .topicConfigured(
        id: TopicID(high: try reader.uint64(), low: try reader.uint64()), changes: try reader.changes())
    case 42: self = .resourceConfigured(try reader.resource(), changes: try reader.changes())
    case 43: self = .groupDeleted(group: try reader.text())
    case 44:
      let group = try reader.text()
      var partitions: [TopicPartition] = []
      for _ in 0..<(try reader.uint32()) { partitions.append(TopicPartition(try reader.text(), try reader.int32())) }
      self = .offsetsDeleted(group: group, partitions: partitions)
    case 45:
      let entity = try reader.entity()
      var limits: [String: Double?] = [:]
      for _ in 0..<(try reader.uint32()) {
        let name = try reader.text()
        limits.updateValue(try reader.bool() ? try reader.float64() : nil, forKey: name)
      }
      self = .quotasChanged(entity, limits: limits)
    case TransactionEvent.kinds: self = .transaction(try TransactionEvent(kind, &reader))
    case 30: self = .groupEpochsReserved(group: try reader.text(), next: try reader.int32())
    case 31: self = .consumerGroupEnded(group: try reader.text())
    case ShareEvent.kinds: self = .share(try ShareEvent(kind, &reader))
    case QueueEvent.kinds: self = .queue(try QueueEvent(kind, &reader))
    case SecurityEvent.kinds: self = .security(try SecurityEvent(kind, &reader))
    default: throw DecodingError("metadata event of kind \(kind), which this program does not know", at: 0)
    }
    guard reader.remaining == 0 else {
      throw DecodingError("\(reader.remaining) bytes too many in a metadata event", at: reader.position)
    }
  }
}

extension ByteWriter {
  mutating func text(_ text: String) {
    uint32(UInt32(text.utf8.count))
    utf8(text)
  }

  mutating func optionalText(_ value: String?) {
    guard let value else { return uint32(.max) }
    text(value)
  }

  mutating func offset(_ offset: PartitionOffset) {
    text(offset.partition.topic)
    int32(offset.partition.partition)
    int64(offset.committed.offset)
    int32(offset.committed.leaderEpoch)
    optionalText(offset.committed.metadata)
    int64(offset.committed.time.milliseconds)
  }
}

extension ByteReader {
  mutating func text() throws(DecodingError) -> String { try string(Int(try uint32())) }

  mutating func optionalText() throws(DecodingError) -> String? {
    let length = try uint32()
    return length == .max ? nil : try string(Int(length))
  }

  mutating func offset() throws(DecodingError) -> PartitionOffset {
    PartitionOffset(
      partition: TopicPartition(try text(), try int32()),
      committed: CommittedOffset(
        offset: try int64(), leaderEpoch: try int32(), metadata: try optionalText(),
        time: Timestamp(milliseconds: try int64())))
  }
}
