// Broker+Fetch: record batches to readers, now or when enough have come.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceModel

/// What a reader wants of one partition.
public struct FetchTarget {
  /// The partition; nil when it does not exist.
  public var partition: PartitionLog?
  /// Offset of the first record wanted.
  public var offset: Offset
  /// Most bytes of this partition, save that the first batch always comes whole.
  public var limit: Int
  /// The leader epoch the reader believes in, −1 to skip the check.
  public var currentLeaderEpoch: Int32
  /// Leader epoch of the last record the reader has, −1 to skip the check.
  public var lastFetchedEpoch: Int32
  /// Only what is committed is wanted: reading ends at the last stable offset, and aborted transactions are told.
  public var isCommittedOnly: Bool

  /// A wish for one partition.
  public init(
    partition: PartitionLog?, offset: Offset, limit: Int, currentLeaderEpoch: Int32 = -1,
    lastFetchedEpoch: Int32 = -1, isCommittedOnly: Bool = false
  ) {
    self.partition = partition
    self.offset = offset
    self.limit = limit
    self.currentLeaderEpoch = currentLeaderEpoch
    self.lastFetchedEpoch = lastFetchedEpoch
    self.isCommittedOnly = isCommittedOnly
  }
}

/// What a reader gets of one partition.
public struct FetchedPartition {
  /// Why nothing was read.
  public var error: BrokerError?
  /// Offset after the last durable record, −1 when unknown.
  public var highWatermark: Offset = -1
  /// End of what transactions in progress let be seen.
  public var lastStableOffset: Offset = -1
  /// Offset of the oldest record.
  public var startOffset: Offset = -1
  /// Set when the reader's last record is of an epoch that ended earlier: that epoch and its end.
  public var diverging: (epoch: Int32, endOffset: Offset)?
  /// Whole batches in order; the first may begin before the offset asked for.
  public var batches: [Bytes] = []
  /// Transactions with records among the batches whose records are void, in the order in which they ended. Told to those
  /// who want what is committed.
  public var aborted: [AbortedTransaction] = []

  /// Bytes of all batches.
  public var size: Int { batches.reduce(0) { $0 + $1.count } }
}

extension Array where Element == AbortedTransaction {
  /// Whether a reader is shown the records of a batch: not those of a marker, nor those of the transactions in this list.
  public func letSee(_ header: RecordBatchHeader) -> Bool {
    if header.isControl { return false }
    guard header.isTransactional, !isEmpty else { return true }
    return !contains {
      $0.producerID == header.producerID && $0.firstOffset <= header.baseOffset && header.baseOffset <= $0.lastOffset
    }
  }
}

/// Readers that wait for more records.
struct FetchWaits {
  var byPartition: [PartitionLogID: [FetchWait]] = [:]
  /// Where readers of committed records have found nothing, although the last stable offset lies further back: what was
  /// there was compacted away, and the segment that holds what comes next was merged with it.
  var gaps: [PartitionLogID: Range<Offset>] = [:]
}

/// One reader that waits.
public final class FetchWait {
  let partitions: [PartitionLogID]
  let isSatisfied: () -> Bool
  private var finish: (() -> Void)?
  var timer: Timer?

  init(partitions: [PartitionLogID], isSatisfied: @escaping () -> Bool, finish: @escaping () -> Void) {
    self.partitions = partitions
    self.isSatisfied = isSatisfied
    self.finish = finish
  }

  var isOver: Bool { finish == nil }

  func end() {
    timer?.cancel()
    let held = finish
    finish = nil
    held?()
  }

  func drop() {
    timer?.cancel()
    finish = nil
  }
}

extension Broker {
  /// Reads from several partitions.
  ///
  /// Answers at once when `minimum` bytes (or any error) are there, else when they have come or `wait` is over.
  /// - Parameters:
  ///   - minimum: bytes that make waiting end; 0 never waits.
  ///   - limit: most bytes in all, save that the first batch of the first partition with data always comes.
  ///   - completion: gets one result for each target, in order; may be called before this returns.
  public func fetch(
    _ targets: [FetchTarget], minimum: Int, limit: Int, wait: Duration,
    completion: @escaping ([FetchedPartition]) -> Void
  ) {
    fetch(targets, minimum: minimum, limit: { limit }, wait: wait, completion: completion)
  }

  /// Reads from several partitions, asking for the limit only when reading begins, since waiting may take long.
  ///
  /// `limit` is called once; all else is as for the other method of this name.
  /// - Parameter isRotating: the reader will ask next for those first that get nothing now.
  /// - Returns: the wait, for ``cancel(_:)``, when there is one.
  @discardableResult
  public func fetch(
    _ targets: [FetchTarget], minimum: Int, limit: @escaping () -> Int, wait: Duration, isRotating: Bool = false,
    completion: @escaping ([FetchedPartition]) -> Void
  ) -> FetchWait? {
    let isEnough = { [unowned self] in self.hasEnough(targets, minimum: minimum) }
    guard minimum > 0, wait > .zero, isOpen, !isEnough() else {
      readAll(targets, minimum: minimum, limit: limit(), isRotating, completion)
      return nil
    }
    let ids = Array(Set(targets.compactMap { $0.partition?.id }))
    let pending = FetchWait(partitions: ids, isSatisfied: isEnough) { [self] in
      readAll(targets, minimum: minimum, limit: limit(), isRotating, completion)
    }
    for id in ids { waits.byPartition[id, default: []].append(pending) }
    pending.timer = reactor.schedule(after: wait) { [self] in end(pending) }
    return pending
  }

  /// Forgets a reader that waits, because it is gone; its completion is never called. Harmless when the wait is over.
  public func cancel(_ wait: FetchWait) {
    remove(wait)
    wait.drop()
  }

  /// The epochs' verdict on a target, before anything is read.
  private func problem(_ target: FetchTarget) -> BrokerError? {
    guard let partition = target.partition, !partition.isDeleted else {
      return BrokerError(.unknownTopicOrPartition, "the topic or partition does not exist")
    }
    if let error = checkLeaderEpoch(target.currentLeaderEpoch) { return error }
    guard target.offset >= partition.startOffset, target.offset <= partition.highWatermark else {
      return BrokerError(
        .offsetOutOfRange,
        "offset \(target.offset) is not within \(partition.startOffset)...\(partition.highWatermark)")
    }
    return nil
  }

  /// What is wrong with the leader epoch a client believes in; −1 is never wrong.
  public func checkLeaderEpoch(_ epoch: Int32) -> BrokerError? {
    if epoch < 0 || epoch == leaderEpoch { return nil }
    return epoch < leaderEpoch
      ? BrokerError(.fencedLeaderEpoch, "leader epoch \(epoch) is over, \(leaderEpoch) is current")
      : BrokerError(.unknownLeaderEpoch, "leader epoch \(epoch) has not begun, \(leaderEpoch) is current")
  }

  private func divergence(_ target: FetchTarget) -> (epoch: Int32, endOffset: Offset)? {
    guard target.lastFetchedEpoch >= 0, let partition = target.partition,
      let end = partition.endOffset(ofEpoch: target.lastFetchedEpoch),
      end.epoch < target.lastFetchedEpoch || end.endOffset < target.offset
    else { return nil }
    return end
  }

  private func hasEnough(_ targets: [FetchTarget], minimum: Int) -> Bool {
    var available: Int64 = 0
    for target in targets {
      if problem(target) != nil || divergence(target) != nil { return true }
      guard let partition = target.partition, !isInGap(target, partition) else { continue }
      available += partition.availableBytes(
        from: target.offset, atMost: Int64(minimum) - available, isCommittedOnly: target.isCommittedOnly)
      if available >= minimum { return true }
    }
    return false
  }

  /// Whether nothing is known to come before the last stable offset moves.
  private func isInGap(_ target: FetchTarget, _ partition: PartitionLog) -> Bool {
    guard target.isCommittedOnly, let gap = waits.gaps[partition.id] else { return false }
    if partition.lastStableOffset > gap.upperBound {
      waits.gaps[partition.id] = nil
      return false
    }
    return gap.contains(target.offset)
  }

  private func readAll(
    _ targets: [FetchTarget], minimum: Int, limit: Int, _ isRotating: Bool,
    _ completion: @escaping ([FetchedPartition]) -> Void
  ) {
    FetchRun(
      broker: self, targets: targets, minimum: minimum, limit: limit, isRotating: isRotating, completion: completion
    ).run()
  }

  func start(_ target: FetchTarget) -> FetchedPartition {
    var result = FetchedPartition()
    if let partition = target.partition, !partition.isDeleted {
      result.highWatermark = partition.highWatermark
      result.lastStableOffset = partition.lastStableOffset
      result.startOffset = partition.startOffset
    }
    result.error = problem(target)
    if result.error == nil { result.diverging = divergence(target) }
    return result
  }

  func finish(
    _ result: inout FetchedPartition, _ outcome: Result<[Bytes], LogError>, _ partition: PartitionLog,
    _ target: FetchTarget
  ) {
    switch outcome {
    case .success(let batches):
      // The start may have moved on while the disk was asked, and what was known of aborted transactions with it.
      if let error = problem(target) {
        result.error = error
        return
      }
      result.batches = batches
      if batches.isEmpty, target.isCommittedOnly, target.offset < result.lastStableOffset {
        waits.gaps[partition.id] = target.offset..<result.lastStableOffset
      }
      if target.isCommittedOnly, !batches.isEmpty {
        result.aborted = partition.abortedTransactions(from: target.offset, in: batches)
      }
      // Reading may have taken a while; no answer may hold records beyond the end that it tells.
      result.highWatermark = partition.highWatermark
      result.lastStableOffset = partition.lastStableOffset
      traffic[partition.id, default: PartitionTraffic()].bytesOut += UInt64(result.size)
    case .failure(let error): result.error = BrokerError(error)
    }
  }

  // MARK: Waiting

  /// A partition has more records, or is gone: whoever waited for it looks again.
  func advanced(_ partition: PartitionLog) {
    shares.advanced(partition)
    guard let held = waits.byPartition[partition.id] else { return }
    for wait in held where !wait.isOver && wait.isSatisfied() { end(wait) }
  }

  /// Ends a reader's wait: it gets what there is. Harmless when the wait is over.
  public func end(_ wait: FetchWait) {
    remove(wait)
    wait.end()
  }

  private func remove(_ wait: FetchWait) {
    for id in wait.partitions {
      waits.byPartition[id]?.removeAll { $0 === wait }
      if waits.byPartition[id]?.isEmpty == true { waits.byPartition[id] = nil }
    }
  }

  func endAllWaits() {
    let all = waits.byPartition.values.flatMap { $0 }
    waits.byPartition = [:]
    for wait in all { wait.end() }
  }
}
