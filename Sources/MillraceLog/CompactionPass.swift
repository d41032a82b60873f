// CompactionPass: keeps the newest record of each key of one partition, in steps on a background thread.
//
//   mapping: the keys of what was not compacted yet are read into a map, until it is full or the end is reached
//   rewriting: all runs up to that end are copied from the start on, leaving out
//     - records with a newer one of the same key in the map,
//     - records without a key, records of aborted transactions,
//     - tombstones whose time has come, and markers of transactions without records whose time has come
//
// Each finished segment takes the place of the runs it was made from at once: what it leaves out has a newer record further
// back, which no step before the last removes. The order of records and their offsets stay.

import MillraceBase
import MillraceIO
import MillraceModel

/// What a compaction needs to know of its partition.
struct CompactionTask: Sendable {
  var partition: PartitionLogID
  /// All runs that may be compacted, oldest first.
  var extents: [SegmentExtent]
  /// Below this offset every key was seen by an earlier pass.
  var compactedTo: Offset
  var aborted: [AbortedTransaction]
  /// Now, and the time from which tombstones found now may be removed, in ms.
  var now: Int64
  var newHorizon: Int64
  /// Most bytes for the map of keys.
  var mapSize: Int
  /// Input of one new segment, in bytes.
  var groupSize: Int
  /// Bytes read in one step.
  var stepSize: Int
}

/// Safety: used by one background job at a time, handed over through the reactor.
final class CompactionPass: SegmentPass, @unchecked Sendable {
  private let task: CompactionTask
  private let reader: SegmentReader
  private let target: SegmentTarget
  private let hasher: KeyHasher
  private let logger: Logger
  private var map: KeyMap
  private var cursor: ExtentCursor
  private var isMapping = true
  /// Every key below this offset is in the map, or was seen by an earlier pass.
  private(set) var end: Offset
  private var writer: SegmentWriter?
  private var group: [SegmentExtent] = []
  private var groupBytes: Int64 = 0
  private var hasOutput = false
  /// Producers whose transaction in progress has left records so far.
  private var remaining: Set<Int64> = []
  /// Offsets of the markers of aborted transactions that readers are still told of.
  private let abortMarkers: Set<Offset>
  private(set) var removedRecords: Int64 = 0
  private var unreadable = 0

  init(
    _ task: CompactionTask, reader: SegmentReader, target: SegmentTarget, hasher: KeyHasher, logger: Logger
  ) {
    self.task = task
    self.reader = reader
    self.target = target
    self.hasher = hasher
    self.logger = logger
    map = KeyMap(limit: task.mapSize)
    cursor = ExtentCursor(from: task.compactedTo)
    end = task.compactedTo
    abortMarkers = Set(task.aborted.map(\.lastOffset))
  }

  var needsSegment: Bool { !isMapping && writer == nil }

  var largestSegment: Int64 {
    var inputs: [SegmentExtent] = []
    var bytes: Int64 = 0
    for extent in task.extents[cursor.index...] where bytes < Int64(task.groupSize) {
      inputs.append(extent)
      bytes += extent.bytes
    }
    return SegmentWriter.largestSize(of: inputs, page: target.fileSystem.pageSize(.largePages))
  }

  func step(segment: UInt64) throws(LogError) -> PassProgress {
    var progress = PassProgress()
    // The number was reserved only if a segment was wanted before this step, which may also end the mapping.
    let mayBegin = needsSegment
    while progress.bytesRead < task.stepSize, progress.replacement == nil, !progress.isDone {
      if isMapping {
        try mapSome(&progress)
      } else {
        if writer == nil {
          // Without a number nothing can be written: the next step brings one.
          guard mayBegin, progress.bytesRead == 0 else { break }
          writer = try target.begin(segment)
          writer?.begin(task.partition, run: 0)
        }
        try rewriteSome(&progress)
      }
    }
    return progress
  }

  func abandon() {
    writer?.abandon()
    writer = nil
  }

  // MARK: Mapping

  private func mapSome(_ progress: inout PassProgress) throws(LogError) {
    guard let (run, extent) = try cursor.next(task.extents, reader) else { return endMapping() }
    progress.bytesRead += max(run.count, 4096)
    if run.isEmpty {
      end = extent.nextOffset
      return
    }
    for (position, header) in try RecordBatchRun.headers(in: run) {
      guard header.nextOffset > end else { continue }
      guard add(run[position..<(position + header.totalSize)], header) else { return endMapping() }
      end = header.nextOffset
    }
  }

  private func endMapping() {
    isMapping = false
    cursor = ExtentCursor()
  }

  /// Enters a batch's keys into the map.
  /// - Returns: false when they do not all fit.
  private func add(_ batch: Bytes, _ header: RecordBatchHeader) -> Bool {
    guard !header.isControl, !isAborted(header) else { return true }
    // At least one batch has to fit, or nothing would ever be compacted.
    guard map.count == 0 || map.count + Int(header.recordCount) <= map.capacity else { return false }
    do throws(RecordBatchError) {
      let records = try BatchCleaner.records(of: batch, header)
      try records.withBuffer { buffer throws(RecordBatchError) in
        try BatchCleaner.forEach(in: buffer, count: header.recordCount) { record in
          guard let key = record.key else { return }
          let hash = hasher.hash(UnsafeRawBufferPointer(rebasing: buffer[key]))
          _ = map.insert(hash, offset: header.baseOffset + Int64(record.offsetDelta))
        }
      }
    } catch {
      // Its records stay; older ones of its keys do, too.
      report(header, error)
    }
    return true
  }

  private func isAborted(_ header: RecordBatchHeader) -> Bool {
    guard header.isTransactional, !task.aborted.isEmpty else { return false }
    let first = task.aborted.partitioningIndex { $0.lastOffset < header.baseOffset }
    return task.aborted[first...].contains {
      $0.producerID == header.producerID && $0.firstOffset <= header.baseOffset
    }
  }

  private func report(_ header: RecordBatchHeader, _ error: RecordBatchError) {
    unreadable += 1
    guard unreadable == 1 else { return }
    logger.log(
      .warning, "log", "a batch cannot be compacted and is kept as it is",
      ["partition": "\(task.partition)", "offset": "\(header.baseOffset)", "error": error.description])
  }

  // MARK: Rewriting

  private func rewriteSome(_ progress: inout PassProgress) throws(LogError) {
    let before = cursor.index
    let next = try cursor.next(task.extents, reader)
    // The extents that were left behind belong to the group; it ends between two extents.
    for index in before..<cursor.index {
      group.append(task.extents[index])
      groupBytes += task.extents[index].bytes
    }
    guard let (run, extent) = next, extent.baseOffset < end else {
      try finishGroup(&progress)
      progress.isDone = true
      return
    }
    for (position, header) in try RecordBatchRun.headers(in: run) {
      try rewrite(run[position..<(position + header.totalSize)], header)
    }
    progress.bytesRead += max(run.count, 4096)
    if try isAtEnd(of: extent, run), groupBytes + extent.bytes >= Int64(task.groupSize) {
      group.append(extent)
      cursor.leave(extent)
      try finishGroup(&progress)
    }
  }

  private func isAtEnd(of extent: SegmentExtent, _ run: Bytes) throws(LogError) -> Bool {
    guard let last = try RecordBatchRun.headers(in: run).last?.header else { return true }
    return last.nextOffset >= extent.nextOffset
  }

  private func finishGroup(_ progress: inout PassProgress) throws(LogError) {
    guard !group.isEmpty else {
      abandon()
      return
    }
    var segment: DrainedSegment?
    if hasOutput {
      segment = try writer?.finish()
    } else {
      writer?.abandon()
    }
    writer = nil
    progress.replacement = SegmentReplacement(old: [(task.partition, group)], segment: segment)
    group = []
    groupBytes = 0
    hasOutput = false
  }

  private func rewrite(_ batch: Bytes, _ header: RecordBatchHeader) throws(LogError) {
    // What the map does not cover stays for the next pass.
    guard header.baseOffset < end else {
      return try put(batch, header, header.maxTimestamp.milliseconds)
    }
    let outcome: CleanedBatch
    do throws(RecordBatchError) {
      outcome = try header.isControl ? cleanedMarker(batch, header) : cleaned(batch, header)
    } catch {
      report(header, error)
      outcome = .unchanged
    }
    switch outcome {
    case .unchanged:
      if header.isTransactional, !header.isControl { remaining.insert(header.producerID) }
      try put(batch, header, header.maxTimestamp.milliseconds)
    case .removed: removedRecords += Int64(header.recordCount)
    case .rewritten(let bytes, let maxTimestamp):
      if header.isTransactional, !header.isControl { remaining.insert(header.producerID) }
      try put(bytes, header, maxTimestamp)
    }
  }

  private func cleaned(_ batch: Bytes, _ header: RecordBatchHeader) throws(RecordBatchError) -> CleanedBatch {
    if isAborted(header) { return .removed }
    let mayForget = BatchCleaner.horizon(header).map { $0 <= task.now } ?? false
    return try BatchCleaner.clean(batch, header, newHorizon: task.newHorizon) { record, key in
      guard let key else { return false }
      let offset = header.baseOffset + Int64(record.offsetDelta)
      if let newest = map.newest(hasher.hash(key)), newest > offset { return false }
      return !(record.isTombstone && mayForget)
    }
  }

  /// A marker stays as long as its transaction has records before it, and then for as long as a tombstone.
  private func cleanedMarker(_ batch: Bytes, _ header: RecordBatchHeader) throws(RecordBatchError) -> CleanedBatch {
    if remaining.remove(header.producerID) != nil { return .unchanged }
    guard let horizon = BatchCleaner.horizon(header) else {
      return try BatchCleaner.withHorizon(batch, header, horizon: task.newHorizon)
    }
    // Readers are told of aborted transactions by their first offsets alone, and go by the marker to know where one ends:
    // it stays as long as they may be told.
    return horizon <= task.now && !abortMarkers.contains(header.baseOffset) ? .removed : .unchanged
  }

  private func put(_ bytes: Bytes, _ header: RecordBatchHeader, _ maxTimestamp: Int64) throws(LogError) {
    hasOutput = true
    try writer?.add(bytes, baseOffset: header.baseOffset, lastOffset: header.lastOffset, maxTimestamp: maxTimestamp)
  }
}
