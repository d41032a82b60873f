// Transactions: the state of every transactional id, changed by events alone.
//
//              first partition or group                 end, in one commit with all markers
//   empty ──────────────────────────────▶ ongoing ───────────────────────────────────────────▶ committed, or aborted
//     ▲                                      ▲                                                        │
//     └───── a producer comes with the id ───┼────────────── first partition or group ◀───────────────┤
//     ▲                                                                                               │
//     └───────────────────────────────────────────────────────────────────────────────────────────────┘
//
// There is no state between ongoing and ended: the end and its markers are one commit of the journal.
//
// Invariants:
// 1. Only an ongoing transaction has partitions, groups or offsets.
// 2. A group's pending offsets become its committed ones with the commit, and are dropped with the abort.

import MillraceBase
import MillraceModel

/// What is known of a transactional id.
public struct TransactionalProducer: Equatable, Sendable {
  /// Where its transaction stands.
  public enum Status: UInt8, Sendable, CaseIterable {
    case empty = 0
    case ongoing = 1
    case committed = 2
    case aborted = 3
  }

  /// The id that the client chose.
  public let id: String
  /// The only producer that may write under the id.
  public internal(set) var producer: ProducerIdentity
  /// The identity before the last call that changed it, when a repeat of that call must be recognised.
  public internal(set) var previous = ProducerIdentity.none
  /// A transaction that lasts longer is aborted, in ms.
  public internal(set) var timeoutMilliseconds: Int32
  /// Where its transaction stands.
  public internal(set) var status = Status.empty
  /// Partitions of the ongoing transaction.
  public internal(set) var partitions: Set<TopicPartition> = []
  /// Groups whose offsets the ongoing transaction commits; without any until they come.
  public internal(set) var offsets: [String: [TopicPartition: CommittedOffset]] = [:]
  /// When the newest transaction began.
  public internal(set) var started = Timestamp.none
  /// When anything happened last.
  public internal(set) var updated: Timestamp

  mutating func begin(_ time: Timestamp) {
    updated = time
    guard status != .ongoing else { return }
    status = .ongoing
    started = time
  }

  mutating func finish(_ next: Status, _ time: Timestamp) {
    status = next
    partitions = []
    offsets = [:]
    updated = time
  }
}

/// All transactional ids.
public struct Transactions: Equatable, Sendable {
  /// By transactional id.
  public private(set) var producers: [String: TransactionalProducer] = [:]
  /// Transactional ids with an ongoing transaction that commits offsets of a group, by group.
  private var pending: [String: Set<String>] = [:]

  /// None.
  public init() {}

  /// What is known of a transactional id.
  public subscript(id: String) -> TransactionalProducer? { producers[id] }

  /// Partitions for which an ongoing transaction is about to commit offsets of `group`.
  public func pendingPartitions(ofGroup group: String) -> Set<TopicPartition> {
    var out: Set<TopicPartition> = []
    for id in pending[group] ?? [] { out.formUnion((producers[id]?.offsets[group] ?? [:]).keys) }
    return out
  }

  /// Applies an event.
  /// - Returns: offsets that are committed by it, by group in rising order.
  public mutating func apply(_ event: TransactionEvent) -> [(group: String, offsets: [TopicPartition: CommittedOffset])]
  {
    switch event {
    case .initialised(let id, let producer, let previous, let timeout, let time):
      forgetPending(id)
      var next = TransactionalProducer(
        id: id, producer: producer, timeoutMilliseconds: timeout, updated: time)
      next.previous = previous
      producers[id] = next
    case .partitionsAdded(let id, let partitions, let time):
      producers[id]?.begin(time)
      producers[id]?.partitions.formUnion(partitions)
    case .groupAdded(let id, let group, let time):
      guard producers[id] != nil else { break }
      producers[id]?.begin(time)
      if producers[id]?.offsets[group] == nil { producers[id]?.offsets[group] = [:] }
      pending[group, default: []].insert(id)
    case .offsetsAdded(let id, let group, let offsets, let time):
      guard producers[id] != nil else { break }
      producers[id]?.begin(time)
      for offset in offsets { producers[id]?.offsets[group, default: [:]][offset.partition] = offset.committed }
      pending[group, default: []].insert(id)
    case .ended(let id, let isCommit, let producer, let previous, let time):
      guard var ended = producers[id] else { break }
      forgetPending(id)
      let committed = isCommit ? ended.offsets : [:]
      ended.finish(isCommit ? .committed : .aborted, time)
      ended.producer = producer
      ended.previous = previous
      producers[id] = ended
      return committed.sorted { $0.key < $1.key }.filter { !$0.value.isEmpty }.map { ($0.key, $0.value) }
    case .expired(let id):
      forgetPending(id)
      producers[id] = nil
    }
    return []
  }

  /// A topic is gone: transactions have nothing to do with it any more.
  mutating func deletedTopic(_ name: String) {
    for (id, one) in producers where one.status == .ongoing {
      producers[id]?.partitions = one.partitions.filter { $0.topic != name }
      for (group, offsets) in one.offsets {
        producers[id]?.offsets[group] = offsets.filter { $0.key.topic != name }
      }
    }
  }

  /// Offsets of a group were deleted, all when `partitions` is nil: those that ongoing transactions hold for it go as well.
  mutating func deletedOffsets(ofGroup group: String, _ partitions: [TopicPartition]? = nil) {
    for id in pending[group] ?? [] {
      guard let partitions else {
        producers[id]?.offsets[group] = [:]
        continue
      }
      for partition in partitions { producers[id]?.offsets[group]?[partition] = nil }
    }
  }

  private mutating func forgetPending(_ id: String) {
    for group in (producers[id]?.offsets ?? [:]).keys {
      pending[group]?.remove(id)
      if pending[group]?.isEmpty == true { pending[group] = nil }
    }
  }

  // MARK: Snapshot

  func write(to writer: inout ByteWriter) {
    writer.uint32(UInt32(producers.count))
    for (id, one) in producers.sorted(by: { $0.key < $1.key }) {
      writer.text(id)
      writer.producer(one.producer)
      writer.producer(one.previous)
      writer.int32(one.timeoutMilliseconds)
      writer.uint8(one.status.rawValue)
      writer.int64(one.started.milliseconds)
      writer.int64(one.updated.milliseconds)
      writer.uint32(UInt32(one.partitions.count))
      for partition in one.partitions.sorted(by: { ($0.topic, $0.partition) < ($1.topic, $1.partition) }) {
        writer.partition(partition)
      }
      writer.uint32(UInt32(one.offsets.count))
      for (group, offsets) in one.offsets.sorted(by: { $0.key < $1.key }) {
        writer.text(group)
        writer.uint32(UInt32(offsets.count))
        for (partition, committed) in offsets.sorted(by: {
          ($0.key.topic, $0.key.partition) < ($1.key.topic, $1.key.partition)
        }) {
          writer.offset(PartitionOffset(partition: partition, committed: committed))
        }
      }
    }
  }

  init(_ reader: inout ByteReader) throws(DecodingError) {
    for _ in 0..<(try reader.uint32()) {
      let id = try reader.text()
      let producer = try reader.producer()
      let previous = try reader.producer()
      let timeout = try reader.int32()
      let code = try reader.uint8()
      guard let status = TransactionalProducer.Status(rawValue: code) else {
        throw DecodingError("transaction status \(code), which this program does not know", at: reader.position)
      }
      let started = Timestamp(milliseconds: try reader.int64())
      var one = TransactionalProducer(
        id: id, producer: producer, timeoutMilliseconds: timeout,
        updated: Timestamp(milliseconds: try reader.int64()))
      one.previous = previous
      one.status = status
      one.started = started
      for _ in 0..<(try reader.uint32()) { one.partitions.insert(try reader.partition()) }
      for _ in 0..<(try reader.uint32()) {
        let group = try reader.text()
        one.offsets[group] = [:]
        pending[group, default: []].insert(id)
        for _ in 0..<(try reader.uint32()) {
          let offset = try reader.offset()
          one.offsets[group]?[offset.partition] = offset.committed
        }
      }
      producers[id] = one
    }
  }
}
