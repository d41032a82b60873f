// LogStore+Drain: sealed journal files become segments.
//
// A sealed file waits until its records and those of other sealed files are worth a segment, or until too many files
// wait; a dense one is drained at once. The batches are copied, sorted by partition, into one segment. A snapshot that
// names the segment and holds everything else the files' commits led to is written after several files, or when room is
// short. Only when that snapshot is durable are the files spare again (a journal file is reused only after all that it
// holds is durable elsewhere).

import MillraceBase
import MillraceIO
import MillraceModel

/// A segment file and what of it is still needed.
struct SegmentUse {
  var fileSize: Int64
  /// Bytes of the blocks in it that several partitions may have, each counted once.
  var sharedBytes: Int64 = 0
  /// Extents of partitions that lie in it.
  var extents = 0
  var blocks = 0
  /// Bytes of the extents' own blocks.
  var ownBytes: Int64 = 0
  /// Bytes of the others as often as extents have them.
  private var timesShared: Int64 = 0

  /// Bytes of the blocks that are still needed. Of those that several partitions have it is not known which ones, so this
  /// may be too much by what is not needed of them, though never more than the extents' own bytes together.
  var liveBytes: Int64 { ownBytes + min(sharedBytes, timesShared) }

  init(fileSize: Int64, sharedBytes: Int64) {
    self.fileSize = fileSize
    self.sharedBytes = sharedBytes
  }

  mutating func add(_ extent: SegmentExtent) { count(extent, 1) }
  mutating func remove(_ extent: SegmentExtent) { count(extent, -1) }

  private mutating func count(_ extent: SegmentExtent, _ sign: Int) {
    extents += sign
    blocks += sign * extent.blockCount
    ownBytes += Int64(sign) * (extent.bytes - extent.sharedBytes)
    timesShared += Int64(sign) * extent.sharedBytes
  }
}

/// What draining keeps track of.
struct DrainState {
  /// Files sealed and not drained, oldest first.
  var sealed: [JournalFile] = []
  /// Drained, waiting for a snapshot before they are used again.
  var drained: [JournalFile] = []
  /// Partitions with batches in a file that is not drained, in order of first use.
  var partitions: [UInt64: [PartitionLog]] = [:]
  /// Records of sparse files that wait, held in memory because the hot tail drops them; by file number.
  var packed: [UInt64: PackedFile] = [:]
  var isDraining = false
  /// The newest file of the drain under way.
  var drainingFile: UInt64 = 0
  /// Producers wait for room: what can be drained is drained, however little it is.
  var isUrgent = false
  /// A sealed file's last commits are not durable yet.
  var awaitsDurability = false
  var isSnapshotting = false
  var snapshotWanted: [() -> Void] = []
  /// All commits up to this one are in segments, as far as their records go.
  var drainedSequence: UInt64 = 0
  /// The newest file that was drained; lower numbers were drained before.
  var drainedFile: UInt64 = 0
  var nextSegment: UInt64 = 1
  var segments: [UInt64: SegmentUse] = [:]
  /// Segments whose names may not be durable yet. A long compaction ends with a lower number than drains that were quicker.
  var unsynced: Set<UInt64> = []
  var slots = SnapshotSlots()
  var pages: [Int64: SnapshotPage] = [:]
  /// No drain begins any more; one last snapshot is written.
  var isClosing = false
  var isClosed = false
  var retryTimer: Timer?
  var snapshotTimer: Timer?
  /// The directory has no snapshot yet.
  var wantsFirstSnapshot = false
  var reclaimTimer: Timer?

  /// Bytes of batches in each file that is not drained; the newest one's are counted beside.
  private(set) var recordBytes: [UInt64: Int] = [:]
  /// 0 when there is none.
  private var countedFile: UInt64 = 0
  private var countedBytes = 0

  mutating func touched(_ log: PartitionLog, file: UInt64, length: Int) {
    count(file: file, length: length)
    guard log.lastTouchedFile != file else { return }
    log.lastTouchedFile = file
    partitions[file, default: []].append(log)
  }

  /// Counts a batch in a file.
  mutating func count(file: UInt64, length: Int) {
    if file != countedFile {
      if countedFile != 0 { recordBytes[countedFile] = countedBytes }
      countedFile = file
      countedBytes = recordBytes[file] ?? 0
    }
    countedBytes += length
  }

  /// Bytes of all batches in a file.
  func recordBytes(of file: UInt64) -> Int { file == countedFile ? countedBytes : recordBytes[file] ?? 0 }

  /// Bytes of all batches in files that are not drained.
  var undrainedBytes: Int {
    recordBytes.reduce(countedBytes) { $1.key == countedFile ? $0 : $0 + $1.value }
  }

  mutating func forget(file: UInt64) -> [PartitionLog] {
    recordBytes[file] = nil
    if file == countedFile {
      countedFile = 0
      countedBytes = 0
    }
    packed[file] = nil
    return partitions.removeValue(forKey: file) ?? []
  }
}

extension LogStore {
  func sealed(_ file: JournalFile) {
    drain.sealed.append(file)
    drainNext()
    pack(file)
    // The next file should be there before it is needed.
    journal.files.provide(size: 0)
  }

  /// Bytes of records that are worth a segment of their own.
  private var drainSize: Int { max(1, min(configuration.drainSize, configuration.journalFileSize / 2)) }

  /// Keeps a sparse file's records in memory while it waits.
  private func pack(_ file: JournalFile) {
    let size = drain.recordBytes(of: file.number)
    let held = drain.packed.values.reduce(0) { $0 + $1.size }
    // A dense file is drained next, most of it from the hot tail; copying it first would only cost.
    guard file.number > max(drain.drainedFile, drain.drainingFile), size > 0, size < drainSize,
      held + size <= 2 * drainSize
    else { return }
    let batches = runs(of: [file]).flatMap(\.batches)
    let regions = journal.hotTail.regions(file: file.number)
    jobs.run {
      PackedFile(batches, from: regions)
    } completion: { [self] packed in
      if drain.sealed.contains(where: { $0 === file }) { drain.packed[file.number] = packed }
    }
  }

  /// The batches of sealed files by partition, leaving out what nobody may read any more.
  private func runs(of files: [JournalFile]) -> [DrainRun] {
    guard let first = files.first?.number, let last = files.last?.number else { return [] }
    var logs: [PartitionLogID: PartitionLog] = [:]
    for file in files {
      for log in drain.partitions[file.number] ?? [] where !log.isDeleted { logs[log.id] = log }
    }
    return logs.values.sorted { $0.id < $1.id }.compactMap { log in
      var batches: [BatchReference] = []
      var index = log.recent.partitioningIndex { $0.file < first }
      while index < log.recent.count, log.recent[index].file <= last {
        if log.recent[index].nextOffset > log.startOffset { batches.append(log.recent[index]) }
        index += 1
      }
      return batches.isEmpty ? nil : DrainRun(partition: log.id, batches: batches)
    }
  }

  /// The sealed files that are to be drained now; empty when more of them are awaited.
  private func nextGroup() -> [JournalFile] {
    var group: [JournalFile] = []
    var bytes = 0
    drain.awaitsDurability = false
    for file in drain.sealed {
      guard let last = file.lastSequence, last <= journal.durableSequence else {
        drain.awaitsDurability = true
        break
      }
      group.append(file)
      bytes += drain.recordBytes(of: file.number)
      if bytes >= drainSize { return group }
    }
    let isDue = drain.isUrgent || drain.sealed.count >= max(1, configuration.journalFileLimit / 2)
    return isDue ? group : []
  }

  /// Starts draining if enough can be drained now.
  func drainNext() {
    guard !drain.isDraining, !drain.isClosing, drain.retryTimer == nil, !drain.sealed.isEmpty else { return }
    let group = nextGroup()
    guard let first = group.first, let last = group.last?.lastSequence else { return }
    let runs = runs(of: group)
    drain.isDraining = true
    drain.drainingFile = group.last?.number ?? 0
    guard !runs.isEmpty else { return drained(group, segment: nil) }
    let number = drain.nextSegment
    drain.nextSegment += 1
    let directory = "\(configuration.directory)/segments"
    let sources = group.map { file in
      DrainSource(
        number: file.number, file: file.slot.file, regions: journal.hotTail.regions(file: file.number),
        packed: drain.packed[file.number])
    }
    let identity = journal.identity
    let sequences = first.firstSequence...last
    let blockSize = configuration.segmentBlockSize
    let fileSystem = fileSystem
    jobs.run { () -> Result<DrainedSegment, LogError> in
      do throws(LogError) {
        var sources = sources
        for index in sources.indices {
          let number = sources[index].number
          try sources[index].prepare(runs.flatMap { $0.batches.filter { $0.file == number } })
        }
        let prepared = sources
        return .success(
          try SegmentWriter.write(
            path: "\(directory)/\(SegmentFormat.name(number))", number: number, identity: identity,
            sequences: sequences, runs: runs, blockSize: blockSize, fileSystem: fileSystem
          ) { reference throws(LogError) in
            guard let source = prepared.first(where: { $0.number == reference.file }) else {
              preconditionFailure("a batch of journal file \(reference.file), which is not drained here")
            }
            return try source.bytes(reference)
          })
      } catch {
        return .failure(error)
      }
    } completion: { [self] result in
      switch result {
      case .success(let segment): drained(group, segment: segment)
      case .failure(let error): drainFailed(group, error)
      }
    }
  }

  private func drainFailed(_ group: [JournalFile], _ error: LogError) {
    drain.isDraining = false
    drain.drainingFile = 0
    logger.logRarely(
      error.code == .noSpace ? .warning : .error, "log", "draining journal files failed", "",
      ["first-file": group[0].slot.path, "files": "\(group.count)", "error": error.description], key: "",
      now: reactor.now)
    // Nothing is lost: the journal files keep what they hold. Producers are refused when no file is left.
    journal.files.drainFailure = error
    journal.files.onChange()
    drain.retryTimer = reactor.schedule(after: .seconds(1)) { [weak self] in
      self?.drain.retryTimer = nil
      self?.drainNext()
    }
  }

  /// After a deletion there is less to drain, and so perhaps room for it: what failed is tried again at once.
  func drainAgain() {
    guard let timer = drain.retryTimer else { return }
    timer.cancel()
    drain.retryTimer = nil
    drainNext()
  }

  private func drained(_ group: [JournalFile], segment: DrainedSegment?) {
    drain.isDraining = false
    journal.files.drainFailure = nil
    drain.sealed.removeFirst(group.count)
    drain.drained += group
    drain.drainedSequence = group.last?.lastSequence ?? drain.drainedSequence
    drain.drainedFile = group.last?.number ?? drain.drainedFile
    if let segment {
      drain.segments[segment.number] = SegmentUse(fileSize: segment.fileSize, sharedBytes: segment.sharedBytes)
      drain.unsynced.insert(segment.number)
      for (id, extent) in segment.extents {
        guard let log = partitions[id], extent.nextOffset > log.startOffset else { continue }
        // Batches that the start has passed meanwhile are in the run, and counted with it until it goes.
        log.size += extent.bytes - log.recentBytes(below: extent.nextOffset)
        log.extents.append(extent)
        use(extent)
      }
    }
    for file in group {
      for log in drain.forget(file: file.number) where !log.isDeleted { trim(log) }
    }
    if drain.isUrgent || drain.drained.count >= max(1, configuration.journalFileLimit / 4) { takeSnapshot {} }
    drainNext()
  }

  /// Called when a unit found no journal file free: nothing waits for company any more.
  func roomIsShort() {
    guard journal.files.isShort, !drain.isUrgent, !(drain.sealed.isEmpty && drain.drained.isEmpty) else { return }
    drain.isUrgent = true
    drainNext()
    if !drain.drained.isEmpty { takeSnapshot {} }
  }

  /// Drops references whose batches are in a segment and no longer in memory.
  func trim(_ log: PartitionLog) {
    while let first = log.recent.first, first.file <= drain.drainedFile,
      journal.hotTail.bytes(file: first.file, position: Int(first.position), length: Int(first.length)) == nil
    {
      log.recent.removeFirst()
    }
  }

  /// Counts an extent as needed.
  func use(_ extent: SegmentExtent) {
    drain.segments[extent.segment]?.add(extent)
  }

  /// Counts extents as not needed any more; a segment without needed ones goes with the next snapshot.
  func release(_ extents: [SegmentExtent]) {
    for extent in extents { drain.segments[extent.segment]?.remove(extent) }
  }
}
