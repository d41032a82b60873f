// LogStore+Snapshot: when snapshots are written, and what is given up once one is durable.

import MillraceBase
import MillraceIO
import MillraceModel

extension LogStore {
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
    let dead = drain.segments.filter { $0.value.extents == 0 }.map(\.key)
    let snapshot = capture()
    journal.whenDurable { [self] error in
      guard error == nil else { return finishSnapshot(.failure(error!), released: released, dead: [], done) }
      write(snapshot, released: released, dead: dead, done)
    }
  }

  private func capture() -> EncodedSnapshot {
    let expired = steadyClock.time(at: reactor.now).milliseconds - configuration.producerExpiration
    let snapshot = Snapshot(
      identity: journal.identity, sequence: journal.lastSequence, drainedSequence: drain.drainedSequence,
      nextFileNumber: (journal.active?.number ?? 0) + 1, nextSegmentNumber: drain.nextSegment,
      lastSeen: cleaningTime(),
      segments: drain.segments.filter { $0.value.extents > 0 }.sorted { $0.key < $1.key }
        .map { SnapshotSegment(number: $0.key, fileSize: $0.value.fileSize, sharedBytes: $0.value.sharedBytes) },
      partitions: [], application: stateMachine.snapshot())
    let pages = drain.pages.sorted { $0.key < $1.key }.map { $0.value.bytes(expired: expired) }
    return EncodedSnapshot(
      identity: journal.identity, pieces: snapshot.pieces(partitionCount: partitions.count, pages))
  }

  private func write(
    _ snapshot: EncodedSnapshot, released: [JournalFile], dead: [UInt64], _ done: @escaping () -> Void
  ) {
    let directory = configuration.directory
    let fileSystem = fileSystem
    let slots = drain.slots
    // What is being made at this moment is not among them, and named by a later snapshot.
    let named = drain.unsynced
    jobs.run { () -> Result<SnapshotSlots, LogError> in
      do throws(LogError) {
        // The segments that it names must be found.
        if !named.isEmpty {
          try LogError.wrapping { () throws(IOError) in try fileSystem.syncDirectory("\(directory)/segments") }
        }
        return .success(try slots.write(snapshot, directory: directory, fileSystem: fileSystem))
      } catch {
        return .failure(error)
      }
    } completion: { [self] outcome in
      if case .success(let slots) = outcome {
        drain.slots = slots
        drain.unsynced.subtract(named)
      }
      finishSnapshot(outcome.map { _ in }, released: released, dead: dead, done)
    }
  }

  private func finishSnapshot(
    _ result: Result<Void, LogError>, released: [JournalFile], dead: [UInt64], _ done: @escaping () -> Void
  ) {
    drain.isSnapshotting = false
    switch result {
    case .success:
      drain.isUrgent = false
      journal.files.drainFailure = nil
      // First, because a released file lets units in, which may ask for the next snapshot at once.
      removeSegments(dead)
      for file in released { journal.files.release(file.slot) }
      cleanNext()
    case .failure(let error):
      drain.drained = released + drain.drained
      logger.logRarely(
        .error, "log", "writing a snapshot failed", "", ["error": error.description], key: "", now: reactor.now)
      journal.files.drainFailure = error
      retrySnapshot()
      if !dead.isEmpty { reclaimSoon() }
      journal.files.onChange()
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

  private func removeSegments(_ dead: [UInt64]) {
    guard !dead.isEmpty else { return }
    for number in dead { drain.segments[number] = nil }
    let directory = "\(configuration.directory)/segments"
    let fileSystem = fileSystem
    let logger = logger
    let segments = segments
    jobs.run {
      for number in dead {
        do throws(IOError) {
          try fileSystem.remove("\(directory)/\(SegmentFormat.name(number))")
        } catch {
          logger.log(.warning, "log", "removing a segment failed", ["error": error.description])
        }
        // Not before: until then a reader with an older plan may open it again, and it would be held for ever.
        segments.forget(number)
      }
    } completion: { _ in
    }
  }

  /// Soon writes a snapshot if that gives segments back: after deletions, when nothing else may ask for one.
  func reclaimSoon() {
    guard drain.reclaimTimer == nil, !drain.isClosing else { return }
    drain.reclaimTimer = reactor.schedule(after: .seconds(1)) { [self] in
      drain.reclaimTimer = nil
      guard !drain.isClosing, drain.segments.values.contains(where: { $0.extents == 0 }) else { return }
      takeSnapshot {}
    }
  }

  // MARK: Starting

  func readSnapshot() throws(LogError) -> Snapshot? {
    let contents = try SnapshotSlots.read(configuration.directory, fileSystem: fileSystem)
    try SnapshotSlots.confirm(contents, fileSystem: fileSystem)
    drain.slots = contents.slots
    return contents.snapshot
  }

  /// Finds segments that no snapshot names: what interrupted drains and removals left behind.
  /// - Returns: their paths, for ``removeLeftOver(_:)``.
  /// - Throws: `.corruption` when a segment that the snapshot names is not there.
  func checkSegments(_ snapshot: Snapshot?) throws(LogError) -> [String] {
    let directory = "\(configuration.directory)/segments"
    var sizes: [String: Int64] = [:]
    for segment in snapshot?.segments ?? [] { sizes[SegmentFormat.name(segment.number)] = segment.fileSize }
    var leftOver: [String] = []
    for name in try LogError.wrapping({ () throws(IOError) in try fileSystem.list(directory) }).sorted() {
      let path = "\(directory)/\(name)"
      guard let expected = sizes.removeValue(forKey: name) else {
        leftOver.append(path)
        continue
      }
      let size = try LogError.wrapping { () throws(IOError) in
        let file = try fileSystem.open(path, .read)
        defer { file.close() }
        return try file.size()
      }
      if size != expected {
        // What is left can be read, and reading what is missing fails with its place.
        logger.log(
          .error, "log", "a segment has another size than it was written with",
          ["file": path, "size": "\(size)", "expected": "\(expected)"])
      }
    }
    if let name = sizes.keys.min() {
      throw LogError(.corruption, "\(directory)/\(name): the segment is missing")
    }
    return leftOver
  }

  /// Removes segments that no snapshot names. Only once the journal was found whole, since a lost snapshot may have named
  /// them; and before any drain begins, since that may use their numbers again.
  func removeLeftOver(_ paths: [String]) throws(LogError) {
    for path in paths { try LogError.wrapping { () throws(IOError) in try fileSystem.remove(path) } }
  }

  func restore(_ snapshot: Snapshot) throws(LogError) {
    drain.drainedSequence = snapshot.drainedSequence
    drain.nextSegment = snapshot.nextSegmentNumber
    retentionClock = RetentionClock(
      lastSeen: snapshot.lastSeen, wall: reactor.wallClock, now: reactor.now, hold: configuration.clockHold)
    for segment in snapshot.segments {
      drain.segments[segment.number] = SegmentUse(fileSize: segment.fileSize, sharedBytes: segment.sharedBytes)
    }
    for partition in snapshot.partitions { restorePartition(partition) }
    try stateMachine.restore(snapshot.application, log: self)
  }
}
