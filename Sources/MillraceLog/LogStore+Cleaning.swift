// LogStore+Cleaning: compaction of partitions, and merging of segments (see LogStore+Merging.swift); one at a time.
//
// Crash safety: a pass writes new segments, whose contents are durable when they are finished. Then partitions point to
// them instead of the old ones, in memory. The next snapshot makes the new segments' names durable, names them, and leaves
// out the old ones; only once it is durable are these removed. A crash before leaves the old segments in place, and
// whatever no snapshot names is removed at the start.
//
// Low space is when space must be given back, so both go on then: first merging, which is sure to free more than it takes,
// then the compaction of partitions that fit whole. No segment is begun that may not fit beside what draining will take.
//
// What cannot be cleaned keeps nothing else from it: what is damaged is left alone until the next start, what the device
// did not give, or had no room for, for a while.

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
  /// Those that failed otherwise, and until when they are left alone.
  private(set) var postponed: [PartitionLogID: MonotonicTime] = [:]
  private(set) var postponedSegments: [UInt64: MonotonicTime] = [:]
  /// The last work found no room for its segment.
  var lacksRoom = false
  var hasher: KeyHasher?
  /// The pass that pauses between two steps, and the timer of its next one.
  var paused: (pass: any SegmentPass, timer: Timer)?
  var figures = CleaningFigures()

  func isPostponed(_ partition: PartitionLogID) -> Bool { postponed[partition] != nil }
  func isPostponed(_ segment: UInt64) -> Bool { postponedSegments[segment] != nil }

  mutating func postpone(_ partition: PartitionLogID, until time: MonotonicTime) { postponed[partition] = time }
  mutating func postpone(_ segments: [UInt64], until time: MonotonicTime) {
    for segment in segments { postponedSegments[segment] = time }
  }

  /// Lets those be tried again whose time has come.
  mutating func forgetPostponed(now: MonotonicTime) {
    if !postponed.isEmpty { postponed = postponed.filter { $0.value > now } }
    if !postponedSegments.isEmpty { postponedSegments = postponedSegments.filter { $0.value > now } }
  }
}

/// What of a partition may be compacted now.
struct Compactable {
  var extents: [SegmentExtent]
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
      extents: eligible, dirtyRatio: Double(dirty) / Double(clean + dirty), isOverdue: isOverdue)
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
    guard !cleaning.isRunning, !drain.isClosing, journal.failure == nil else { return }
    cleaning.forgetPostponed(now: reactor.now)
    // Merging what is dead is sure to give space back.
    if isRoomShort, startMerge() { return }
    if let (log, policy, work) = dirtiest() { return start(log, policy, work) }
    if !isRoomShort { startMerge() }
  }

  /// Only what is sure to give more space back than it takes should be done.
  var isRoomShort: Bool { space.isLow || cleaning.lacksRoom }

  /// Begins a merge; false when nothing is worth one.
  @discardableResult
  private func startMerge() -> Bool {
    guard let runs = runsToMerge() else { return false }
    cleaning.isRunning = true
    cleaning.figures.merges += 1
    // With room enough so many are merged that fewer of them may fit.
    let isSmallest = isRoomShort
    let pass = MergePass(
      runs, reader: segments, target: segmentTarget, largestSegment: largestSize(of: runs.flatMap(\.extents)),
      stepSize: configuration.cleanerStepSize)
    advance(pass) { [self] error in
      guard let error else { return }
      let concerned = pass.unreadable.map { [$0] } ?? runs.flatMap { $0.extents.map(\.segment) }
      switch error.code {
      case .corruption: cleaning.damagedSegments.formUnion(concerned)
      case .noSpace where !isSmallest: break
      default: cleaning.postpone(concerned, until: reactor.now + LogStore.pause(after: error))
      }
    }
    return true
  }

  /// How long what failed is left alone. Room may be there at any time; a device that cannot read seldom changes its mind.
  private static func pause(after error: LogError) -> Duration { error.code == .noSpace ? .seconds(5) : .seconds(60) }

  /// Bytes that must stay free beside what cleaning takes: what is not drained becomes segments, and the next snapshot may
  /// grow.
  private var spaceKeptBack: Int64 { Int64(drain.undrainedBytes) + Int64(drain.slots.largestGrowth) }

  /// Bytes that cleaning may take, by the free space when last looked at.
  var cleaningRoom: Int64 { space.free == .max ? .max : space.free - spaceKeptBack }

  /// The dirtiest partition that is dirty enough.
  private func dirtiest() -> (PartitionLog, CleanupPolicy, Compactable)? {
    var best: (PartitionLog, CleanupPolicy, Compactable)?
    let now = cleaningTime().milliseconds
    for (id, policy) in cleaning.candidates.sorted(by: { $0.key < $1.key }) {
      guard let log = partitions[id], !cleaning.damaged.contains(id), !cleaning.isPostponed(id),
        let work = log.compactable(policy, now: now),
        work.isOverdue || work.dirtyRatio >= policy.minDirtyRatio,
        // Else a snapshot after each new segment makes room for the next.
        !space.isLow || SegmentWriter.largestSize(of: work.extents, page: segmentPage) <= cleaningRoom
      else { continue }
      if best == nil || work.dirtyRatio > best!.2.dirtyRatio { best = (log, policy, work) }
    }
    return best
  }

  private func start(_ log: PartitionLog, _ policy: CleanupPolicy, _ work: Compactable) {
    cleaning.isRunning = true
    let hasher = cleaning.hasher ?? KeyHasher(using: &hashSeeds)
    cleaning.hasher = hasher
    let now = cleaningTime().milliseconds
    let end = work.extents.last?.nextOffset ?? 0
    let task = CompactionTask(
      partition: log.id, extents: work.extents, compactedTo: log.compactedTo,
      aborted: log.abortedTransactions(from: log.startOffset, to: end), now: now,
      newHorizon: now + min(max(policy.deleteRetention, 0), Int64.max - max(now, 0)),
      mapSize: configuration.keyMapSize, groupSize: configuration.compactedSegmentSize,
      stepSize: configuration.cleanerStepSize)
    let pass = CompactionPass(task, reader: segments, target: segmentTarget, hasher: hasher, logger: logger)
    advance(pass) { [self] error in
      if let error {
        if error.code == .corruption {
          cleaning.damaged.insert(log.id)
        } else {
          cleaning.postpone(log.id, until: reactor.now + LogStore.pause(after: error))
        }
      } else {
        if !log.isDeleted { log.compacted(to: pass.end) }
        cleaning.figures.compactions += 1
        cleaning.figures.removedRecords += pass.removedRecords
      }
    }
  }

  /// Runs a pass step by step, with pauses, until it is done or fails.
  private func advance(_ pass: any SegmentPass, _ ended: @escaping (LogError?) -> Void) {
    let number = drain.nextSegment
    let needed = pass.needsSegment ? pass.largestSegment + spaceKeptBack : 0
    if pass.needsSegment { drain.nextSegment += 1 }
    let fileSystem = fileSystem
    let directory = configuration.directory
    jobs.run { () -> Result<PassProgress, LogError> in
      do throws(LogError) {
        if needed > 0 {
          let free = try LogError.wrapping { () throws(IOError) in try fileSystem.availableBytes(directory) }
          guard free >= needed else { throw LogError(.noSpace, "\(free) bytes are free, \(needed) may be needed") }
        }
        return .success(try pass.step(segment: number))
      } catch {
        return .failure(error)
      }
    } completion: { [self] result in
      switch result {
      case .failure(let error):
        logger.logRarely(
          error.code == .noSpace ? .warning : .error, "log", "cleaning segments failed", "",
          ["error": error.description], key: "", now: reactor.now)
        cleaning.lacksRoom = error.code == .noSpace
        abandon(pass) { [self] in finishCleaning(error, ended) }
      case .success(let progress):
        cleaning.figures.bytesRead += Int64(progress.bytesRead)
        if let replacement = progress.replacement { apply(replacement) }
        cleaning.lacksRoom = false
        if progress.isDone { return finishCleaning(nil, ended) }
        guard !drain.isClosing else { return abandon(pass) }
        let pause = Int64(progress.bytesRead) * 1000 / Int64(max(configuration.cleanerBytesPerSecond, 1))
        let timer = reactor.schedule(after: .milliseconds(pause)) { [self] in
          cleaning.paused = nil
          advance(pass, ended)
        }
        cleaning.paused = (pass, timer)
      }
    }
  }

  /// Gives a pass and its unfinished segment up, in the background; closing waits for it.
  private func abandon(_ pass: any SegmentPass, _ done: @escaping () -> Void = {}) {
    jobs.run {
      pass.abandon()
    } completion: { _ in
      done()
    }
  }

  /// Gives up the pass that pauses: once the directory is let go of, the number of its segment may be somebody else's.
  func stopCleaning() {
    guard let (pass, timer) = cleaning.paused else { return }
    cleaning.paused = nil
    timer.cancel()
    abandon(pass)
  }

  private func finishCleaning(_ error: LogError?, _ ended: (LogError?) -> Void) {
    cleaning.isRunning = false
    ended(error)
    cleanNext()
  }

  /// Makes partitions point to a new segment instead of the runs that it was made from.
  private func apply(_ replacement: SegmentReplacement) {
    if let segment = replacement.segment {
      drain.segments[segment.number] = SegmentUse(fileSize: segment.fileSize, sharedBytes: segment.sharedBytes)
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
}
