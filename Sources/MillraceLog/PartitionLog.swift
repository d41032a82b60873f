// PartitionLog: one partition's offsets, epochs, producers, and where its batches are.

import MillraceBase
import MillraceModel

/// Where a batch stands in the journal.
struct BatchReference: Sendable {
  /// Who else has the batch.
  enum Sharing: UInt32, Sendable {
    case none = 0
    /// Other partitions may have the same bytes; they bear this one's base offset.
    case first = 1
    /// The bytes bear another partition's base offset.
    case further = 3
  }

  var baseOffset: Offset
  var maxTimestamp: Int64
  var file: UInt64
  /// The position, a multiple of 8, and in its low bits the sharing: there are as many of these as batches in the journal.
  private var place: UInt32
  var length: UInt32
  var lastOffsetDelta: Int32
  /// The batch's CRC leaves it out, so that it is compared with what is read.
  var leaderEpoch: Int32

  init(
    baseOffset: Offset, maxTimestamp: Int64, file: UInt64, position: UInt32, length: UInt32, lastOffsetDelta: Int32,
    leaderEpoch: Int32, sharing: Sharing = .none
  ) {
    precondition(position % 8 == 0, "a batch at byte \(position) of a journal file")
    self.baseOffset = baseOffset
    self.maxTimestamp = maxTimestamp
    self.file = file
    place = position | sharing.rawValue
    self.length = length
    self.lastOffsetDelta = lastOffsetDelta
    self.leaderEpoch = leaderEpoch
  }

  var nextOffset: Offset { baseOffset + Int64(lastOffsetDelta) + 1 }
  var position: UInt32 { place & ~7 }
  /// Other partitions may have the same bytes.
  var isShared: Bool { place & 1 != 0 }
  /// The bytes bear another partition's base offset.
  var isFurther: Bool { place & 2 != 0 }
}

extension RangeReplaceableCollection where Element == BatchReference {
  /// One reference for each place in a file, in rising order: of several to a shared batch, the one whose base offset it bears.
  func inOrderOfPlaces() -> [BatchReference] {
    let sorted = sorted { ($0.position, $0.isFurther ? 1 : 0) < ($1.position, $1.isFurther ? 1 : 0) }
    var out: [BatchReference] = []
    out.reserveCapacity(sorted.count)
    for reference in sorted where reference.position != out.last?.position { out.append(reference) }
    return out
  }
}

extension Bytes {
  /// A batch with another base offset, in memory of its own.
  func rebased(_ baseOffset: Offset) -> Bytes {
    let copy = Chunk(capacity: count)
    withBuffer { if let base = $0.baseAddress { copy.base.copyMemory(from: base, byteCount: count) } }
    RecordBatchHeader.patch(copy.base, baseOffset: baseOffset)
    return copy.bytes(0..<count)
  }
}

/// The start of a leader epoch in a partition.
public struct LeaderEpochStart: Equatable, Sendable {
  /// The epoch.
  public var epoch: Int32
  /// Offset of the first record written under it.
  public var startOffset: Offset
}

/// One partition's log. Everything here belongs to the log's reactor.
///
/// Offsets, in order: `startOffset` ≤ `lastStableOffset` ≤ `highWatermark` ≤ `nextOffset`. Records below the high watermark are durable and
/// may be read; those from there to `nextOffset` are in commits that are not durable yet.
public final class PartitionLog {
  /// The partition's number in this data directory.
  public let id: PartitionLogID
  /// Offset of the oldest record that may be read.
  public internal(set) var startOffset: Offset = 0 { didSet { mark.isStale = true } }
  /// Offset that the next record gets.
  public internal(set) var nextOffset: Offset = 0 { didSet { mark.isStale = true } }
  /// Offset after the last durable record.
  public internal(set) var highWatermark: Offset = 0
  /// Leader epochs in rising order; each entry's records end where the next one's start.
  public internal(set) var epochs: [LeaderEpochStart] = []
  /// Bytes of all runs in segments, whole, and of the batches that are in the journal only.
  public internal(set) var size: Int64 = 0
  var producers: [Int64: ProducerState] = [:] { didSet { mark.isStale = true } }
  /// Transactions that are open, and those that were aborted.
  var transactions = PartitionTransactions() { didSet { mark.isStale = true } }
  /// Batches still addressed in the journal, oldest first.
  var recent = Deque<BatchReference>()
  /// Batches in segments, oldest first; all of them below `recent`, or overlapping it while memory still holds them.
  var extents: [SegmentExtent] = [] { didSet { mark.isStale = true } }
  /// Compaction has seen all keys below this offset.
  var compactedTo: Offset = 0 { didSet { mark.isStale = true } }
  /// Counts compactions that ended. What was read before one must not be judged by the aborted transactions known after it.
  var compactions = 0
  /// Set with every change of what a snapshot holds of the partition; see SnapshotPages.swift.
  var mark = SnapshotMark()
  /// Producers whose first batch was refused for want of room.
  var refusedFirst = RefusedFirstBatches()
  /// Set when the partition was deleted; held references must not be used any further.
  public internal(set) var isDeleted = false

  /// The newest journal file that this partition is known to have batches in.
  var lastTouchedFile: UInt64 = 0

  init(id: PartitionLogID) {
    self.id = id
  }

  /// The leader epoch that `epoch` or the next older one with records ended with, and the offset after its last record.
  ///
  /// Source: Kafka protocol, OffsetForLeaderEpoch.
  public func endOffset(ofEpoch epoch: Int32) -> (epoch: Int32, endOffset: Offset)? {
    guard let index = epochs.lastIndex(where: { $0.epoch <= epoch }) else { return nil }
    let end = index + 1 < epochs.count ? epochs[index + 1].startOffset : highWatermark
    return (epochs[index].epoch, end)
  }

  /// The leader epoch of the record at `offset`, −1 when unknown.
  public func epoch(ofOffset offset: Offset) -> Int32 {
    epochs.last(where: { $0.startOffset <= offset })?.epoch ?? -1
  }

  /// Accounts for a batch that entered the journal.
  /// - Parameter marker: what the batch says when it is a control batch.
  func appended(
    _ header: RecordBatchHeader, at reference: BatchReference, leaderEpoch: Int32, now: Timestamp,
    marker: TransactionMarker? = nil
  ) {
    precondition(
      reference.baseOffset == nextOffset, "partition \(id): batch at \(reference.baseOffset), \(nextOffset) is next")
    if epochs.last?.epoch != leaderEpoch {
      epochs.append(LeaderEpochStart(epoch: leaderEpoch, startOffset: reference.baseOffset))
    }
    if let marker {
      transactions.ended(marker, at: reference.baseOffset)
      producers[marker.producerID]?.ended(marker, now: now)
    } else if header.isIdempotent {
      producers[header.producerID] = ProducerState.appending(
        header, at: reference.baseOffset, to: producers[header.producerID], now: now)
      refusedFirst.forget(header.producerID)
      if header.isTransactional { transactions.wrote(header.producerID, at: reference.baseOffset) }
    }
    nextOffset = reference.nextOffset
    size += Int64(reference.length)
    recent.append(reference)
  }

  /// Newest time of the records in the newest part of the log: of its last batch, or of the last segment when all is drained; `.none`
  /// when it is empty. O(1).
  public var newestTime: Timestamp {
    Timestamp(milliseconds: recent.last?.maxTimestamp ?? extents.last?.maxTimestamp ?? Timestamp.none.milliseconds)
  }

  /// What ``size`` has to be, added up anew; for checks.
  /// - Complexity: O(pieces).
  public var addedUpSize: Int64 { extents.reduce(0) { $0 + $1.bytes } + recentBytes(below: nextOffset) }

  /// Bytes of the batches that are addressed in the journal only and end at or below `end`.
  func recentBytes(below end: Offset) -> Int64 {
    var index = recent.partitioningIndex { $0.nextOffset <= extents.last?.nextOffset ?? 0 }
    var bytes: Int64 = 0
    while index < recent.count, recent[index].nextOffset <= end {
      bytes += Int64(recent[index].length)
      index += 1
    }
    return bytes
  }

  /// All up to `end` was compacted: no records of aborted transactions that ended below it are left.
  func compacted(to end: Offset) {
    compactedTo = max(compactedTo, end)
    compactions += 1
    transactions.forgetAborted(endedBelow: end)
  }

  /// Moves the start; what lies wholly below it is no longer addressed.
  /// - Returns: the extents that are not needed any more.
  func advanceStart(to offset: Offset) -> [SegmentExtent] {
    guard offset > startOffset else { return [] }
    startOffset = min(offset, nextOffset)
    // What memory still holds of segments is counted with them.
    let drainedEnd = extents.last?.nextOffset ?? 0
    while let first = recent.first, first.nextOffset <= startOffset {
      recent.removeFirst()
      if first.baseOffset >= drainedEnd { size -= Int64(first.length) }
    }
    let kept = extents.partitioningIndex { $0.nextOffset <= startOffset }
    let dropped = Array(extents[..<kept])
    if kept > 0 { extents.removeFirst(kept) }
    size = max(0, size - dropped.reduce(0) { $0 + $1.bytes })
    transactions.forgetAborted(endedBelow: startOffset)
    // The newest epoch that began at or below the start covers it; older ones have no records left.
    while epochs.count > 1, epochs[1].startOffset <= startOffset { epochs.removeFirst() }
    if let first = epochs.first, first.startOffset < startOffset { epochs[0].startOffset = startOffset }
    return dropped
  }
}

/// A producer that a partition remembers.
public struct ActiveProducer: Sendable {
  /// Its id.
  public var id: Int64
  /// Its newest epoch.
  public var epoch: Int16
  /// Sequence number of its last record under the epoch, −1 when it has none.
  public var lastSequence: Int32
  /// When it wrote last.
  public var lastAppend: Timestamp
  /// First offset of its open transaction; nil without one.
  public var transactionStart: Offset?
}

extension PartitionLog {
  /// Idempotent and transactional producers that are remembered, by id.
  public var activeProducers: [ActiveProducer] {
    producers.sorted { $0.key < $1.key }.map { id, state in
      ActiveProducer(
        id: id, epoch: state.epoch, lastSequence: state.batches.last?.lastSequence ?? -1,
        lastAppend: state.lastAppend, transactionStart: transactions.open[id])
    }
  }

  /// Bytes of whole batches between `offset` and the high watermark, or the last stable offset when `isCommittedOnly`,
  /// counted no further than `limit`.
  ///
  /// Exact for recent batches; for those that only segments hold, the rest of the segment's run is taken.
  /// - Complexity: O(log batches + batches counted).
  public func availableBytes(from offset: Offset, atMost limit: Int64, isCommittedOnly: Bool = false) -> Int64 {
    let end = isCommittedOnly ? lastStableOffset : highWatermark
    guard offset < end else { return 0 }
    var bytes: Int64 = 0
    let run = extents.partitioningIndex { $0.nextOffset <= offset }
    if let first = recent.first, offset >= first.baseOffset || run == extents.count {
      var index = recent.partitioningIndex { $0.nextOffset <= offset }
      while index < recent.count, bytes < limit, recent[index].nextOffset <= end {
        bytes += Int64(recent[index].length)
        index += 1
      }
      return bytes
    }
    var index = run
    while index < extents.count, bytes < limit, extents[index].baseOffset < end {
      bytes += extents[index].bytes
      index += 1
    }
    return bytes
  }
}
