// CleanupPolicy: how old records of a partition are removed, and what that means for its start.

import MillraceBase
import MillraceModel

/// How old records of a partition are removed. Source: Kafka's topic settings of the same names.
public struct CleanupPolicy: Equatable, Sendable {
  /// Removes records by age and size (`cleanup.policy` has `delete`).
  public var deletes = true
  /// Keeps the newest record of each key (`cleanup.policy` has `compact`).
  public var compacts = false
  /// `retention.ms`; nil for no limit.
  public var retentionTime: Int64?
  /// `retention.bytes`; nil for no limit.
  public var retentionBytes: Int64?
  /// `delete.retention.ms`
  public var deleteRetention: Int64 = 86_400_000
  /// `min.compaction.lag.ms`
  public var minCompactionLag: Int64 = 0
  /// `max.compaction.lag.ms`
  public var maxCompactionLag = Int64.max
  /// `min.cleanable.dirty.ratio`
  public var minDirtyRatio = 0.5

  /// Deletes, without a limit.
  public init() {}
}

extension PartitionLog {
  /// The start that retention asks for; nil when it stays where it is.
  ///
  /// Records go in the pieces they are kept in: runs in segments, and batches as long as they are in the journal. A piece
  /// goes when its newest record is older than `retentionTime`, or when all that is behind it is `retentionBytes` or more.
  /// Never goes what is not committed. Records without a time do not age.
  /// - Complexity: O(pieces that go).
  public func retainedStart(_ policy: CleanupPolicy, now: Timestamp) -> Offset? {
    guard policy.deletes, policy.retentionTime != nil || policy.retentionBytes != nil else { return nil }
    let limit = lastStableOffset
    // A clock that is set far back must not make this overflow.
    let oldest = policy.retentionTime.map { now.milliseconds.subtractingReportingOverflow($0) }
    let cutoff = oldest.map { $0.overflow ? Int64.min : $0.partialValue } ?? .min
    var start = startOffset
    var left = size
    func goes(_ maxTimestamp: Int64, _ bytes: Int64, _ end: Offset) -> Bool {
      guard end <= limit else { return false }
      if maxTimestamp >= 0, maxTimestamp < cutoff { return true }
      return policy.retentionBytes.map { left - bytes >= $0 } ?? false
    }
    var isAllGone = true
    for extent in extents {
      guard goes(extent.maxTimestamp, extent.bytes, extent.nextOffset) else {
        isAllGone = false
        break
      }
      start = extent.nextOffset
      left -= extent.bytes
    }
    var index = recent.partitioningIndex { $0.nextOffset <= start }
    while isAllGone, index < recent.count,
      goes(recent[index].maxTimestamp, Int64(recent[index].length), recent[index].nextOffset)
    {
      start = recent[index].nextOffset
      left -= Int64(recent[index].length)
      index += 1
    }
    return start > startOffset ? start : nil
  }
}

extension LogStore {
  /// Moves the starts of partitions to where retention asks for, durably, in units of bounded size.
  /// - Returns: how many partitions' starts move.
  @discardableResult
  public func expire(_ partitions: [(log: PartitionLog, policy: CleanupPolicy)]) -> Int {
    guard !drain.isClosing else { return 0 }
    let now = cleaningTime()
    var moved = 0
    var unit = AppendUnit()
    for (log, policy) in partitions where !log.isDeleted {
      guard let start = log.retainedStart(policy, now: now) else { continue }
      unit.startOffsets.append((log, start))
      moved += 1
      if unit.startOffsets.count == 1000 {
        append(expiring: unit)
        unit = AppendUnit()
      }
    }
    if !unit.startOffsets.isEmpty { append(expiring: unit) }
    return moved
  }

  private func append(expiring unit: AppendUnit) {
    var unit = unit
    unit.givesSpaceBack = true
    append(unit) { [logger] result in
      if case .failure(let error) = result, error.code != .stopped {
        logger.log(.warning, "log", "expired records could not be removed", ["error": error.description])
      }
    }
  }
}
