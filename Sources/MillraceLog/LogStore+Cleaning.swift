// LogStore+Cleaning: compaction of partitions, and merging of segments that are mostly dead or small; one at a time.
//
// Crash safety: a pass writes new segments, whose contents are durable when they are finished. Then partitions point to
// them instead of the old ones, in memory. The next snapshot makes the new segments' names durable, names them, and leaves
// out the old ones; only once it is durable are these removed. A crash before leaves the old segments in place, and
// whatever no snapshot names is removed at the start.

import MillraceBase
import MillraceIO
import MillraceModel

/// Figures of compaction and merging since the start.
public struct CleaningFigures: Sendable {
  /// Partitions compacted.
  public var compactions = 0
  /// Records that compaction has removed.
  public var removedRecords: Int64 = 0
  /// Merges of segments.
  public var merges = 0
  /// Bytes read by both.
  public var bytesRead: Int64 = 0
}

/// What cleaning keeps track of.
struct CleaningState {
  var isRunning = false
  var candidates: [PartitionLogID: CleanupPolicy] = [:]
  /// Partitions, and segments, that could not be read: left alone until the next start.
  var damaged: Set<PartitionLogID> = []
  var damagedSegments: Set<UInt64> = []
  var hasher: KeyHasher?
  var figures = CleaningFigures()
}

/// What of a partition may be compacted now.
struct Compactable {
  var extents: [SegmentExtent]
  var dirtyBytes: Int64
  /// Share of bytes that no pass has seen.
  var dirtyRatio: Double
  /// A record has waited for as long as `max.compaction.lag.ms` allows.
  var isOverdue: Bool
}

extension PartitionLog {
  /// The runs that may be compacted, as far as they are committed, old enough, and not the newest, and what of them is dirty.
  func compactable(_ policy: CleanupPolicy, now: Int64) -> Compactable? {
    guard policy.compacts, extents.count > 1 else { return nil }
    var eligible: [SegmentExtent] = []
    var clean: Int64 = 0
    var dirty: Int64 = 0
    var isOverdue = false
    for extent in extents.dropLast() {
      guard extent.nextOffset <= lastStableOffset else { break }
      if policy.minCompactionLag > 0, extent.maxTimestamp > now &- policy.minCompactionLag { break }
      eligible.append(extent)
      if extent.nextOffset <= compactedTo {
        clean += extent.bytes
      } else {
        dirty += extent.bytes
        if policy.maxCompactionLag < .max, extent.maxTimestamp < now &- policy.maxCompactionLag { isOverdue = true }
      }
    }
    guard dirty > 0 else { return nil }
    return Compactable(
      extents: eligible, dirtyBytes: dirty, dirtyRatio: Double(dirty) / Double(clean + dirty), isOverdue: isOverdue)
  }
}

extension LogStore {
  /// Figures of compaction and merging since the start.
  public var cleaningFigures: CleaningFigures { cleaning.figures }

  /// Compacts those of `partitions` that are dirty enough, one after the other in the background.
  public func compact(_ partitions: [(log: PartitionLog, policy: CleanupPolicy)]) {
    cleaning.candidates = [:]
    for (log, policy) in partitions where policy.compacts { cleaning.candidates[log.id] = policy }
    cleanNext()
  }

  private var segmentTarget: SegmentTarget {
    SegmentTarget(
      directory: "\(configuration.directory)/segments", identity: journal.identity,
      blockSize: configuration.segmentBlockSize, fileSystem: fileSystem)
  }

  /// Begins the next piece of work, if there is any.
  func cleanNext() {
    guard !cleaning.isRunning, !drain.isClosing, journal.failure == nil, !space.isLow else { return }
    if let (log, policy, work) = dirtiest() {
      return start(log, policy, work)
    }
    if let runs = runsToMerge() {
      cleaning.isRunning = true
      cleaning.figures.merges += 1
      let pass = MergePass(runs, reader: segments, target: segmentTarget)
      advance(pass) { [self] error in
        if error != nil {
          for run in runs { cleaning.damagedSegments.formUnion(run.extents.map(\.segment)) }
        }
      }
    }
  }

  /// The dirtiest partition that is dirty enough.
  private func dirtiest() -> (PartitionLog, CleanupPolicy, Compactable)? {
    var best: (PartitionLog, CleanupPolicy, Compactable)?
    let now = reactor.wallClock.milliseconds
    for (id, policy) in cleaning.candidates.sorted(by: { $0.key < $1.key }) {
      guard let log = partitions[id], !cleaning.damaged.contains(id),
        let work = log.compactable(policy, now: now),
        work.isOverdue || work.dirtyRatio >= policy.minDirtyRatio
      else { continue }
      if best == nil || work.dirtyRatio > best!.2.dirtyRatio { best = (log, policy, work) }
    }
    return best
  }

  private func start(_ log: PartitionLog, _ policy: CleanupPolicy, _ work: Compactable) {
    cleaning.isRunning = true
    let hasher = cleaning.hasher ?? KeyHasher(using: &hashSeeds)
    cleaning.hasher = hasher
    let now = reactor.wallClock.milliseconds
    let end = work.extents.last?.nextOffset ?? 0
    let task = CompactionTask(
      partition: log.id, extents: work.extents, compactedTo: log.compactedTo,
      aborted: log.abortedTransactions(from: log.startOffset, to: end), now: now,
      newHorizon: now + min(max(policy.deleteRetention, 0), Int64.max - max(now, 0)),
      mapSize: configuration.keyMapSize, groupSize: configuration.compactedSegmentSize)
    let pass = CompactionPass(task, reader: segments, target: segmentTarget, hasher: hasher, logger: logger)
    advance(pass) { [self] error in
      if error != nil {
        cleaning.damaged.insert(log.id)
      } else {
        if !log.isDeleted { log.compactedTo = max(log.compactedTo, pass.end) }
        cleaning.figures.compactions += 1
        cleaning.figures.removedRecords += pass.removedRecords
      }
    }
  }

  /// Runs a pass step by step, with pauses, until it is done or fails.
  private func advance(_ pass: any SegmentPass, _ ended: @escaping (LogError?) -> Void) {
    guard !drain.isClosing else {
      pass.abandon()
      return
    }
    let number = drain.nextSegment
    if pass.needsSegment { drain.nextSegment += 1 }
    jobs.run { () -> Result<PassProgress, LogError> in
      do throws(LogError) { return .success(try pass.step(segment: number)) } catch { return .failure(error) }
    } completion: { [self] result in
      switch result {
      case .failure(let error):
        pass.abandon()
        logger.log(.error, "log", "cleaning segments failed", ["error": error.description])
        // What is not damaged is tried again with the next check.
        finishCleaning(error.code == .corruption ? error : nil, ended, goesOn: error.code == .corruption)
      case .success(let progress):
        cleaning.figures.bytesRead += Int64(progress.bytesRead)
        if let replacement = progress.replacement { apply(replacement) }
        if progress.isDone { return finishCleaning(nil, ended, goesOn: true, isComplete: true) }
        let pause = Int64(progress.bytesRead) * 1000 / Int64(max(configuration.cleanerBytesPerSecond, 1))
        reactor.schedule(after: .milliseconds(pause)) { [self] in advance(pass, ended) }
      }
    }
  }

  private func finishCleaning(
    _ error: LogError?, _ ended: (LogError?) -> Void, goesOn: Bool, isComplete: Bool = false
  ) {
    cleaning.isRunning = false
    if isComplete || error != nil { ended(error) }
    if goesOn { cleanNext() }
  }

  /// Makes partitions point to a new segment instead of the runs that it was made from.
  private func apply(_ replacement: SegmentReplacement) {
    if let segment = replacement.segment {
      drain.segments[segment.number] = SegmentUse(fileSize: segment.fileSize)
      drain.unsynced.insert(segment.number)
    }
    var new = replacement.segment?.extents[...] ?? []
    for (id, old) in replacement.old {
      var mine: [SegmentExtent] = []
      // A run's extents come out as one, none if nothing of it was left.
      if let next = new.first, next.partition == id, let first = old.first, let last = old.last,
        next.extent.baseOffset >= first.baseOffset, next.extent.nextOffset <= last.nextOffset
      {
        mine.append(next.extent)
        new.removeFirst()
      }
      guard let log = partitions[id], !log.isDeleted else { continue }
      replace(old, by: mine, in: log)
    }
    reclaimSoon()
  }

  private func replace(_ old: [SegmentExtent], by new: [SegmentExtent], in log: PartitionLog) {
    // Retention may have moved the start past some of them meanwhile.
    guard let oldest = old.first, let newest = old.last else { return }
    let first = log.extents.partitioningIndex { $0.nextOffset <= oldest.baseOffset }
    let end = log.extents.partitioningIndex { $0.nextOffset <= newest.baseOffset } + 1
    guard first < end, end <= log.extents.count, log.extents[end - 1] == newest else { return }
    // What memory still holds of these runs is what they were before.
    while let held = log.recent.first, held.nextOffset <= newest.nextOffset { log.recent.removeFirst() }
    let gone = Array(log.extents[first..<end])
    let kept = new.filter { $0.nextOffset > log.startOffset }
    log.extents.replaceSubrange(first..<end, with: kept)
    release(gone)
    for extent in kept { use(extent) }
    log.size = max(0, log.size + kept.reduce(0) { $0 + $1.bytes } - gone.reduce(0) { $0 + $1.bytes })
  }

  // MARK: Merging

  /// Segments of which less than half is needed, or many small ones with small runs; nil when nothing is worth a merge.
  private func segmentsToMerge() -> Set<UInt64>? {
    var dead: [(UInt64, SegmentUse)] = []
    var tiers: [Int: [(UInt64, SegmentUse)]] = [:]
    for (number, use) in drain.segments.sorted(by: { $0.key < $1.key })
    where use.extents > 0 && !cleaning.damagedSegments.contains(number) {
      // Header, index and padding are not counted as dead.
      let overhead = Int64(SegmentFormat.headerSize) * 2 + Int64(use.extents * 2 * SegmentFormat.indexEntrySize)
      if use.liveBytes * 2 < use.fileSize - overhead { dead.append((number, use)) }
      let average = use.liveBytes / Int64(use.extents)
      if average < configuration.mergedRunSize, use.liveBytes < Int64(configuration.compactedSegmentSize) {
        let tier = max(0, (Int64.bitWidth - use.liveBytes.leadingZeroBitCount) / 2)
        tiers[tier, default: []].append((number, use))
      }
    }
    func bounded(_ list: [(UInt64, SegmentUse)]) -> Set<UInt64> {
      var bytes: Int64 = 0
      var out: Set<UInt64> = []
      for (number, use) in list where out.count < 64 {
        bytes += use.liveBytes
        if !out.isEmpty, bytes > Int64(2 * configuration.compactedSegmentSize) { break }
        out.insert(number)
      }
      return out
    }
    if !dead.isEmpty { return bounded(dead) }
    guard let tier = tiers.filter({ $0.value.count >= LogStore.mergedSegments }).min(by: { $0.key < $1.key }) else {
      return nil
    }
    return bounded(tier.value)
  }

  /// So many small segments of like size are merged.
  static let mergedSegments = 8

  /// The runs in segments that are to be merged, by partition; neighbours together.
  private func runsToMerge() -> [(partition: PartitionLogID, extents: [SegmentExtent])]? {
    guard let chosen = segmentsToMerge() else { return nil }
    var runs: [(partition: PartitionLogID, extents: [SegmentExtent])] = []
    for log in partitions.values.sorted(by: { $0.id < $1.id }) {
      var run: [SegmentExtent] = []
      // The newest run of a compacted partition stays by itself: compaction leaves it out, and must have the others.
      for extent in cleaning.candidates[log.id] == nil ? log.extents[...] : log.extents.dropLast() {
        if chosen.contains(extent.segment) {
          run.append(extent)
        } else if !run.isEmpty {
          runs.append((log.id, run))
          run = []
        }
      }
      if !run.isEmpty { runs.append((log.id, run)) }
    }
    return runs.isEmpty ? nil : runs
  }
}
