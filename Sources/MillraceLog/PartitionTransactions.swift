// PartitionTransactions: which transactions are open in a partition, and which were aborted, derived from its batches.
//
//   first transactional batch        marker enters the journal          marker is durable
//   ───────────────────────▶ open ─────────────────────────────▶ ending ───────────────▶ committed, or aborted
//
// Invariants:
// 1. The same batches lead to the same state, whether they are appended or replayed.
// 2. `aborted` rises by last offset, and no two entries of one producer overlap.
// 3. What is open or ending holds the last stable offset back: a marker that a crash may still undo decides nothing.

import MillraceBase
import MillraceModel

/// A transaction whose records are void.
public struct AbortedTransaction: Equatable, Sendable {
  /// Its producer.
  public var producerID: Int64
  /// Offset of its first record in the partition.
  public var firstOffset: Offset
  /// Offset of the marker that ended it.
  public var lastOffset: Offset
  /// The partition's last stable offset once it had ended: no transaction that ended later began below it.
  public var lastStableOffset: Offset
}

/// What became of the transaction that a batch belongs to.
public enum TransactionOutcome: Equatable, Sendable {
  /// The transaction has not ended, or not durably.
  case open
  case committed
  case aborted
}

/// The transactions of one partition. Belongs to the log's reactor.
public struct PartitionTransactions: Equatable, Sendable {
  /// A transaction that has ended, by a marker that may not be durable yet.
  private struct Ending: Equatable, Sendable {
    let producerID: Int64
    let firstOffset: Offset
    let markerOffset: Offset
  }

  /// First offset of each producer's open transaction.
  private(set) var open: [Int64: Offset] = [:]
  /// In order of their markers.
  private var ending: [Ending] = []
  /// In order of their markers.
  private(set) var aborted: [AbortedTransaction] = []
  /// The lowest offset of all that is open or ending; readers of committed records go no further.
  private(set) var firstUnstableOffset = Offset.max

  init() {}

  /// As a snapshot holds it: all that had ended is durable.
  init(open: [Int64: Offset], aborted: [AbortedTransaction]) {
    self.open = open
    self.aborted = aborted
    firstUnstableOffset = open.values.min() ?? .max
  }

  /// Whether a producer has a transaction open here.
  func isOpen(_ producerID: Int64) -> Bool { !open.isEmpty && open[producerID] != nil }

  /// A transactional batch of records was appended at `offset`.
  mutating func wrote(_ producerID: Int64, at offset: Offset) {
    guard open[producerID] == nil else { return }
    open[producerID] = offset
    firstUnstableOffset = min(firstUnstableOffset, offset)
  }

  /// A marker was appended at `offset`. One for a producer that wrote nothing changes nothing.
  mutating func ended(_ marker: TransactionMarker, at offset: Offset) {
    guard let first = open.removeValue(forKey: marker.producerID) else { return }
    ending.append(Ending(producerID: marker.producerID, firstOffset: first, markerOffset: offset))
    guard !marker.isCommit else { return }
    aborted.append(
      AbortedTransaction(
        producerID: marker.producerID, firstOffset: first, lastOffset: offset,
        lastStableOffset: min(open.values.min() ?? .max, offset + 1)))
  }

  /// Nothing is known any more of the transactions that are open.
  /// - Returns: the first offset of each, by producer.
  mutating func forgetOpen() -> [Int64: Offset] {
    let gone = open
    open = [:]
    firstUnstableOffset = ending.map(\.firstOffset).min() ?? .max
    return gone
  }

  /// Everything below `offset` is durable, markers included.
  mutating func becameDurable(below offset: Offset) {
    guard let next = ending.first, next.markerOffset < offset else { return }
    ending.removeAll { $0.markerOffset < offset }
    firstUnstableOffset = min(open.values.min() ?? .max, ending.map(\.firstOffset).min() ?? .max)
  }

  /// Aborted transactions that ended below `offset` have no records left: the partition begins there now, or compaction has
  /// taken them out.
  mutating func forgetAborted(endedBelow offset: Offset) {
    let gone = aborted.partitioningIndex { $0.lastOffset < offset }
    if gone > 0 { aborted.removeFirst(gone) }
  }

  /// The partition ends at `offset` now, and all below is durable.
  mutating func cut(at offset: Offset) {
    ending = []
    open = open.filter { $0.value < offset }
    aborted = aborted.filter { $0.firstOffset < offset }
    for index in aborted.indices {
      aborted[index].lastOffset = min(aborted[index].lastOffset, offset - 1)
      aborted[index].lastStableOffset = min(aborted[index].lastStableOffset, offset)
    }
    firstUnstableOffset = open.values.min() ?? .max
  }

  /// The aborted transactions with records in `start..<end`, in the order in which they ended.
  /// - Complexity: O(log aborted + those looked at).
  func aborted(from start: Offset, to end: Offset) -> [AbortedTransaction] {
    var out: [AbortedTransaction] = []
    var index = aborted.partitioningIndex { $0.lastOffset < start }
    while index < aborted.count {
      let one = aborted[index]
      if one.firstOffset < end { out.append(one) }
      if one.lastStableOffset >= end { break }
      index += 1
    }
    return out
  }

  /// What became of the transaction of `producerID` that has a record at `offset`.
  func outcome(of producerID: Int64, at offset: Offset) -> TransactionOutcome {
    if let first = open[producerID], first <= offset { return .open }
    if ending.contains(where: {
      $0.producerID == producerID && $0.firstOffset <= offset && offset <= $0.markerOffset
    }) {
      return .open
    }
    return aborted(from: offset, to: offset + 1).contains { $0.producerID == producerID } ? .aborted : .committed
  }
}

extension PartitionLog {
  /// Offset of the first record of a producer's open transaction, nil when it has none here.
  public func openTransaction(ofProducer producerID: Int64) -> Offset? { transactions.open[producerID] }

  /// Where readers of committed records stop: the first record of the oldest transaction that is open, or whose end is not
  /// durable; the high watermark when there is none.
  public var lastStableOffset: Offset {
    max(startOffset, min(highWatermark, transactions.firstUnstableOffset))
  }

  /// The aborted transactions with records in `start..<end`, in the order in which they ended.
  ///
  /// Right for what lies below the last stable offset. Source: Kafka protocol, Fetch, `AbortedTransactions`.
  public func abortedTransactions(from start: Offset, to end: Offset) -> [AbortedTransaction] {
    transactions.aborted(from: start, to: end)
  }

  /// The aborted transactions with records in batches that were read from `start` on.
  public func abortedTransactions(from start: Offset, in batches: [Bytes]) -> [AbortedTransaction] {
    guard let last = transactions.aborted.last, last.lastOffset >= start, let run = batches.last else { return [] }
    do throws(LogError) {
      guard let end = try RecordBatchRun.headers(in: run).last?.header.nextOffset else { return [] }
      return abortedTransactions(from: start, to: end)
    } catch {
      // Too many are harmless.
      return abortedTransactions(from: start, to: highWatermark)
    }
  }

  /// What became of the transaction of a transactional batch of `producerID` that holds `offset`; a batch that belongs to
  /// none is as good as committed.
  public func transactionOutcome(ofProducer producerID: Int64, at offset: Offset) -> TransactionOutcome {
    transactions.outcome(of: producerID, at: offset)
  }
}
