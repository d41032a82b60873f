// LogStore+Drain: sealed journal files become segments, snapshots are written, and the files are used again.
//
// A sealed file is drained once all its commits are durable: its batches are copied, sorted by partition, into one
// segment. Then a snapshot is written that names the segment and holds everything else the file's commits led to. Only
// when that snapshot is durable is the file spare again (a journal file is reused only after all that it holds is
// durable elsewhere).

import MillraceBase
import MillraceIO
import MillraceModel

/// What draining keeps track of.
struct DrainState {
  /// Files sealed and not drained, oldest first.
  var sealed: [JournalFile] = []
  /// Drained, waiting for a snapshot before they are used again.
  var drained: [JournalFile] = []
  /// Partitions with batches in a file that is not drained, in order of first use.
  var partitions: [UInt64: [PartitionLog]] = [:]
  var isDraining = false
  var isSnapshotting = false
  var snapshotWanted: [() -> Void] = []
  /// All commits up to this one are in segments, as far as their records go.
  var drainedSequence: UInt64 = 0
  /// The newest file that was drained; lower numbers were drained before.
  var drainedFile: UInt64 = 0
  var nextSegment: UInt64 = 1
  var segments: [SnapshotSegment] = []
  /// No drain begins any more; one last snapshot is written.
  var isClosing = false
  var isClosed = false
  var retryTimer: Timer?
  var snapshotTimer: Timer?

  mutating func touched(_ log: PartitionLog, file: UInt64) {
    guard log.lastTouchedFile != file else { return }
    log.lastTouchedFile = file
    partitions[file, default: []].append(log)
  }
}

extension LogStore {
  func sealed(_ file: JournalFile) {
    drain.sealed.append(file)
    drainNext()
  }

  /// Starts draining the oldest sealed file if that can be done now.
  func drainNext() {
    guard !drain.isDraining, !drain.isClosing, drain.retryTimer == nil, let file = drain.sealed.first,
      let last = file.lastSequence, last <= journal.durableSequence
    else { return }
    let logs = (drain.partitions[file.number] ?? []).filter { !$0.isDeleted }.sorted { $0.id < $1.id }
    let runs = logs.compactMap { log -> DrainRun? in
      let first = log.recent.partitioningIndex { $0.file < file.number }
      var batches: [BatchReference] = []
      var index = first
      while index < log.recent.count, log.recent[index].file == file.number {
        if log.recent[index].nextOffset > log.startOffset { batches.append(log.recent[index]) }
        index += 1
      }
      return batches.isEmpty ? nil : DrainRun(partition: log.id, batches: batches)
    }
    drain.isDraining = true
    guard !runs.isEmpty else { return drained(file, segment: nil) }
    let number = drain.nextSegment
    drain.nextSegment += 1
    let directory = "\(configuration.directory)/segments"
    let regions = journal.hotTail.regions(file: file.number)
    let journalFile = file.slot.file
    let identity = journal.identity
    let sequences = file.firstSequence...last
    let blockSize = configuration.segmentBlockSize
    let fileSystem = fileSystem
    jobs.run { () -> Result<DrainedSegment, LogError> in
      do throws(LogError) {
        return .success(
          try SegmentWriter.write(
            path: "\(directory)/\(SegmentFormat.name(number))", directory: directory, number: number,
            identity: identity, sequences: sequences, runs: runs, blockSize: blockSize, fileSystem: fileSystem
          ) { reference throws(LogError) in
            if let held = HotTail.bytes(regions, position: Int(reference.position), length: Int(reference.length)) {
              return held
            }
            return try JournalReader.batch(reference, in: journalFile)
          })
      } catch {
        return .failure(error)
      }
    } completion: { [self] result in
      switch result {
      case .success(let segment): drained(file, segment: segment)
      case .failure(let error): drainFailed(file, error)
      }
    }
  }

  private func drainFailed(_ file: JournalFile, _ error: LogError) {
    drain.isDraining = false
    logger.log(
      error.code == .noSpace ? .warning : .error, "log", "draining a journal file failed",
      ["file": file.slot.path, "error": error.description])
    // Nothing is lost: the journal file keeps what it holds. Producers wait when no file is left.
    drain.retryTimer = reactor.schedule(after: .seconds(1)) { [weak self] in
      self?.drain.retryTimer = nil
      self?.drainNext()
    }
  }

  private func drained(_ file: JournalFile, segment: DrainedSegment?) {
    drain.isDraining = false
    drain.sealed.removeFirst()
    drain.drained.append(file)
    drain.drainedSequence = file.lastSequence ?? drain.drainedSequence
    drain.drainedFile = file.number
    if let segment {
      drain.segments.append(SnapshotSegment(number: segment.number, fileSize: segment.fileSize))
      for (id, extent) in segment.extents {
        guard let log = partitions[id], extent.nextOffset > log.startOffset else { continue }
        log.extents.append(extent)
      }
    }
    for log in drain.partitions.removeValue(forKey: file.number) ?? [] where !log.isDeleted { trim(log) }
    takeSnapshot {}
    drainNext()
  }

  /// Drops references whose batches are in a segment and no longer in memory.
  func trim(_ log: PartitionLog) {
    while let first = log.recent.first, first.file <= drain.drainedFile,
      journal.hotTail.bytes(file: first.file, position: Int(first.position), length: Int(first.length)) == nil
    {
      log.recent.removeFirst()
    }
  }

  // MARK: Snapshots

  /// Writes a snapshot of the state as of now once that is durable; `done` follows when it is on disk (or failed to get
  /// there, which is logged and leaves the previous one valid).
  func takeSnapshot(_ done: @escaping () -> Void) {
    guard !drain.isClosed else { return done() }
    guard !drain.isSnapshotting else {
      drain.snapshotWanted.append(done)
      return
    }
    drain.isSnapshotting = true
    // What is in memory now is the state as of the last commit that has begun, so that commit is closed here.
    journal.sealOpen()
    let released = drain.drained
    drain.drained = []
    let (live, dead) = liveSegments()
    let snapshot = capture(segments: live)
    journal.whenDurable { [self] error in
      guard error == nil else { return finishSnapshot(.failure(error!), released: released, dead: [], done) }
      write(snapshot, released: released, dead: dead, done)
    }
  }

  private func liveSegments() -> (live: [SnapshotSegment], dead: [SnapshotSegment]) {
    var used: Set<UInt64> = []
    for log in partitions.values {
      for extent in log.extents { used.insert(extent.segment) }
    }
    return (drain.segments.filter { used.contains($0.number) }, drain.segments.filter { !used.contains($0.number) })
  }

  private func capture(segments: [SnapshotSegment]) -> Snapshot {
    let expired = reactor.wallClock.milliseconds - configuration.producerExpiration
    let captured = partitions.values.sorted { $0.id < $1.id }.map { log in
      for (id, state) in log.producers
      where state.lastAppend.milliseconds < expired && log.transactions.open[id] == nil { log.producers[id] = nil }
      return SnapshotPartition(
        id: log.id, startOffset: log.startOffset, nextOffset: log.nextOffset, size: log.size, epochs: log.epochs,
        producers: log.producers.sorted { $0.key < $1.key }.map { (id: $0.key, state: $0.value) },
        transactions: log.transactions, extents: log.extents)
    }
    return Snapshot(
      identity: journal.identity, sequence: journal.lastSequence, drainedSequence: drain.drainedSequence,
      nextFileNumber: (journal.active?.number ?? 0) + 1, nextSegmentNumber: drain.nextSegment, segments: segments,
      partitions: captured, application: stateMachine.snapshot())
  }

  private func write(
    _ snapshot: Snapshot, released: [JournalFile], dead: [SnapshotSegment], _ done: @escaping () -> Void
  ) {
    let directory = configuration.directory
    let fileSystem = fileSystem
    jobs.run { () -> Result<Void, LogError> in
      do throws(IOError) {
        try fileSystem.replace("\(directory)/\(Snapshot.fileName)", in: directory, with: snapshot.encoded())
        return .success(())
      } catch {
        return .failure(LogError(error))
      }
    } completion: { [self] outcome in
      finishSnapshot(outcome, released: released, dead: dead, done)
    }
  }

  /// Removes segments that no snapshot names: what interrupted drains and removals left behind. Before any drain begins,
  /// since that may use their numbers again.
  /// - Throws: `.corruption` when a segment that the snapshot names is not there.
  func checkSegments(_ snapshot: Snapshot?) throws(LogError) {
    let directory = "\(configuration.directory)/segments"
    var missing = Set((snapshot?.segments ?? []).map { SegmentFormat.name($0.number) })
    for name in try LogError.wrapping({ () throws(IOError) in try fileSystem.list(directory) }).sorted() {
      guard missing.remove(name) == nil else { continue }
      try LogError.wrapping { () throws(IOError) in try fileSystem.remove("\(directory)/\(name)") }
    }
    if let name = missing.min() {
      throw LogError(.corruption, "\(directory)/\(name): the segment is missing")
    }
  }

  private func finishSnapshot(
    _ result: Result<Void, LogError>, released: [JournalFile], dead: [SnapshotSegment], _ done: @escaping () -> Void
  ) {
    drain.isSnapshotting = false
    switch result {
    case .success:
      for file in released { journal.files.release(file.slot) }
      removeSegments(dead)
    case .failure(let error):
      drain.drained = released + drain.drained
      logger.log(.error, "log", "writing a snapshot failed", ["error": error.description])
      retrySnapshot()
    }
    done()
    let wanted = drain.snapshotWanted
    drain.snapshotWanted = []
    if !wanted.isEmpty { takeSnapshot { for next in wanted { next() } } }
  }

  /// Files that are drained stay taken until a snapshot succeeds, and perhaps nothing else will ask for one.
  private func retrySnapshot() {
    guard journal.failure == nil, !drain.isClosing, drain.snapshotTimer == nil else { return }
    drain.snapshotTimer = reactor.schedule(after: .seconds(1)) { [weak self] in
      guard let self else { return }
      self.drain.snapshotTimer = nil
      if !self.drain.drained.isEmpty { self.takeSnapshot {} }
    }
  }

  private func removeSegments(_ dead: [SnapshotSegment]) {
    guard !dead.isEmpty else { return }
    let numbers = Set(dead.map(\.number))
    drain.segments.removeAll { numbers.contains($0.number) }
    let paths = dead.map { "\(configuration.directory)/segments/\(SegmentFormat.name($0.number))" }
    for segment in dead { segments.forget(segment.number) }
    let fileSystem = fileSystem
    let logger = logger
    jobs.run {
      for path in paths {
        do throws(IOError) {
          try fileSystem.remove(path)
        } catch {
          logger.log(.warning, "log", "removing a segment failed", ["error": error.description])
        }
      }
    } completion: { _ in
    }
  }

  func readSnapshot() throws(LogError) -> Snapshot? {
    let path = "\(configuration.directory)/\(Snapshot.fileName)"
    let bytes = try LogError.wrapping { () throws(IOError) -> Bytes? in
      guard try fileSystem.exists(path) else { return nil }
      return try fileSystem.readAll(path, limit: 1 << 31)
    }
    return try bytes.map { bytes throws(LogError) in try Snapshot(bytes, path: path) }
  }

  func restore(_ snapshot: Snapshot) throws(LogError) {
    drain.drainedSequence = snapshot.drainedSequence
    drain.nextSegment = snapshot.nextSegmentNumber
    drain.segments = snapshot.segments
    for partition in snapshot.partitions { restorePartition(partition) }
    try stateMachine.restore(snapshot.application, log: self)
  }
}
