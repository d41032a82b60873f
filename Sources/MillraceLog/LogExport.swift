// LogExport: what is sound of a damaged data directory, written into a new one that a server can start from.
//
// The damaged directory is read only. State comes from the newest snapshot whose checksum is right and from the commits
// behind it that can be read (JournalSalvage.swift); records from the blocks of segments and the commits that can be read.
// Each record keeps its offset: where some are lost there is a gap, as compaction leaves gaps. Records lost at the end of a
// partition leave none: its next offset is the one behind its last sound record, and clients learn by leader epochs that
// the log was cut. What partitions with losses knew of idempotent producers is forgotten, since it may speak of lost batches.
//
// The new directory holds segments and one snapshot, and no journal: the next start makes one.

import MillraceBase
import MillraceIO
import MillraceModel

/// Something that an export had to leave out, or that its user should know.
public struct ExportLoss: Sendable {
  /// Where, why and what, in words.
  public let reason: String
  /// The partition concerned, if it is known.
  public let partition: PartitionLogID?
  /// Offsets concerned, some of which may not have been records.
  public let offsets: ClosedRange<Offset>?
}

/// What an export wrote and what it left out.
public struct LogExport: Sendable {
  /// Records written.
  public private(set) var records: Int64 = 0
  /// Batches they are in.
  public private(set) var batches = 0
  /// Bytes of the batches.
  public private(set) var bytes: Int64 = 0
  /// Partitions in the new directory, empty ones included.
  public private(set) var partitions = 0
  /// All that was left out.
  public private(set) var losses: [ExportLoss] = []

  /// New segments become about this large, in bytes.
  private static let segmentSize: Int64 = 1 << 30

  /// Writes what is sound in `source` into `target`, which must not exist or be empty.
  ///
  /// Blocks. The caller sees to it that no server has either directory open. On return the new directory is durable.
  /// - Parameters:
  ///   - stateMachine: a new one; on return it has the state that the new directory holds.
  ///   - reactor: for its clock.
  /// - Throws: `.io` when `source` is no data directory or `target` is not empty or cannot be written. Damage in `source`
  ///   is no error.
  public static func run(
    from source: String, to target: String, fileSystem: any FileSystem, stateMachine: any LogStateMachine,
    reactor: any Reactor, logger: Logger, random: inout some RandomNumberGenerator
  ) throws(LogError) -> LogExport {
    let isThere = try LogError.wrapping { () throws(IOError) in
      guard try fileSystem.exists(source), try fileSystem.exists("\(source)/journal") else { return false }
      return try fileSystem.exists("\(source)/segments")
    }
    guard isThere else { throw LogError(.io, "\(source) is no data directory: there is no journal in it") }
    try LogError.wrapping { () throws(IOError) in
      if try fileSystem.exists(target), try !fileSystem.list(target).isEmpty {
        throw IOError(.alreadyExists, operation: "export to", subject: target, reason: "the directory is not empty")
      }
      try fileSystem.createDirectories(target)
      try fileSystem.createDirectory("\(target)/journal")
      try fileSystem.createDirectory("\(target)/segments")
      try fileSystem.syncIfAllowed(fileSystem.parentDirectory(of: target))
    }
    var export = LogExport()
    let contents = try SnapshotSlots.salvage(source, fileSystem: fileSystem)
    for problem in contents.problems { export.lose(problem) }
    let store = LogStore(
      replaying: stateMachine, configuration: LogConfiguration(directory: source), fileSystem: fileSystem,
      reactor: reactor, logger: logger, random: &random)
    if let snapshot = contents.snapshot { try export.restore(snapshot, store) }
    let drained = contents.snapshot?.drainedSequence ?? 0
    let journal = try JournalSalvage(
      directory: "\(source)/journal", identity: contents.snapshot?.identity, drained: drained,
      durable: contents.snapshot?.sequence ?? 0, fileSystem: fileSystem)
    defer { for file in journal.files { file.close() } }
    export.replay(journal, above: contents.snapshot?.sequence ?? 0, store)
    let identity = JournalIdentity(high: random.next(), low: random.next())
    let sequence = max(journal.commits.last?.header.sequence ?? 0, contents.snapshot?.sequence ?? 0, drained)
    try export.write(
      store, journal, to: target, identity: identity, sequence: max(sequence, 1), lastSeen: contents.snapshot?.lastSeen)
    return export
  }

  private mutating func lose(
    _ reason: String, _ partition: PartitionLogID? = nil, _ offsets: ClosedRange<Offset>? = nil
  ) {
    losses.append(ExportLoss(reason: reason, partition: partition, offsets: offsets))
  }

  // MARK: State

  private mutating func restore(_ snapshot: Snapshot, _ store: LogStore) throws(LogError) {
    for partition in snapshot.partitions { store.restorePartition(partition) }
    // Its checksum is right: this program cannot read it, and nothing that follows would mean anything.
    try store.stateMachine.restore(snapshot.application, log: store)
  }

  private mutating func replay(_ journal: JournalSalvage, above sequence: UInt64, _ store: LogStore) {
    for place in journal.unreadable { lose(place) }
    for lost in journal.lost {
      let range = lost.sequences
      lose(
        range.count == 1
          ? "commit \(range.lowerBound) cannot be read (\(lost.place))"
          : "commits \(range.lowerBound) to \(range.upperBound) cannot be read (\(lost.place))")
    }
    for commit in journal.commits {
      let place = "\(journal.files[commit.file].path), commit \(commit.header.sequence) at byte \(commit.position)"
      do throws(LogError) {
        let bytes = try journal.read(commit)
        try bytes.withBuffer { buffer throws(LogError) in
          try JournalEntry.forEach(in: buffer, header: commit.header) { entry throws(LogError) in
            replay(
              entry, bytes[entry.position..<(entry.position + entry.length)], commit,
              isNew: commit.header.sequence > sequence, place, store)
          }
        }
      } catch {
        lose("\(place): \(error.reason)")
      }
    }
  }

  private mutating func replay(
    _ entry: JournalEntry, _ bytes: Bytes, _ commit: SalvagedCommit, isNew: Bool, _ place: String, _ store: LogStore
  ) {
    switch entry.kind {
    case .event:
      guard isNew else { return }
      do throws(LogError) {
        try store.stateMachine.apply(bytes.withBuffer { Bytes(copying: $0) }, log: store)
      } catch {
        lose("\(place): an event cannot be applied: \(error.reason)")
      }
    case .startOffset:
      guard isNew, entry.length == 8, let log = store.partition(PartitionLogID(entry.target)) else { return }
      let start = bytes.withBuffer { $0.number(0, Int64.self) }
      // The records before it may be among those that are lost.
      if start > log.nextOffset { log.nextOffset = start }
      _ = log.advanceStart(to: start)
    case .records: replay(batch: bytes, entry, commit, isNew: isNew, place, store)
    }
  }

  private mutating func replay(
    batch bytes: Bytes, _ entry: JournalEntry, _ commit: SalvagedCommit, isNew: Bool, _ place: String, _ store: LogStore
  ) {
    let id = PartitionLogID(entry.target)
    do throws(RecordBatchError) {
      let header = try RecordBatchHeader.checked(bytes)
      guard let log = store.partition(id) else {
        // Of a partition that was deleted by then; or its topic was made by a commit that is lost.
        if isNew {
          lose(
            "\(place): records of a partition that no topic is known to have", id, header.baseOffset...header.lastOffset
          )
        }
        return
      }
      let reference = BatchReference(
        baseOffset: header.baseOffset, maxTimestamp: header.maxTimestamp.milliseconds, file: UInt64(commit.file),
        position: UInt32(commit.position + entry.position), length: UInt32(entry.length),
        lastOffsetDelta: header.lastOffsetDelta, leaderEpoch: header.leaderEpoch)
      let drained = max(log.extents.last?.nextOffset ?? 0, log.startOffset)
      let end = log.recent.last?.nextOffset ?? drained
      guard header.baseOffset >= log.nextOffset || !isNew else {
        return lose("\(place): offsets that other records have already", id, header.baseOffset...header.lastOffset)
      }
      if header.baseOffset > end, header.baseOffset > log.startOffset {
        lose("in commits that cannot be read", id, max(end, log.startOffset)...(header.baseOffset - 1))
      }
      guard isNew else {
        if reference.nextOffset > log.startOffset { log.recent.append(reference) }
        return
      }
      let marker = try header.isControl ? TransactionMarker(bytes, header: header) : nil
      log.nextOffset = header.baseOffset
      log.appended(
        header, at: reference, leaderEpoch: header.leaderEpoch, now: store.steadyClock.time(at: store.reactor.now),
        marker: marker)
    } catch {
      lose("\(place): batch at byte \(commit.position + entry.position): \(error)", id)
    }
  }

  // MARK: Records

  private mutating func write(
    _ store: LogStore, _ journal: JournalSalvage, to target: String, identity: JournalIdentity, sequence: UInt64,
    lastSeen: Timestamp?
  ) throws(LogError) {
    let output = SegmentTarget(
      directory: "\(target)/segments", identity: identity, blockSize: store.configuration.segmentBlockSize,
      fileSystem: store.fileSystem)
    var writer = ExportWriter(target: output, segmentSize: LogExport.segmentSize)
    let logs = store.partitions.values.sorted { $0.id < $1.id }
    for log in logs {
      writer.begin(log.id)
      let known = losses.contains { $0.partition == log.id }
      let before = losses.count
      var end = log.startOffset
      for extent in log.extents { try copy(extent, log, store.segments, &end, &writer) }
      for index in 0..<log.recent.count where log.recent[index].baseOffset >= end {
        try copy(log.recent[index], log, journal, &end, &writer)
      }
      close(log, at: end, hasLosses: known || losses.count > before)
    }
    let segments = try writer.finish()
    partitions = logs.count
    for log in logs { log.extents = writer.extents[log.id] ?? [] }
    let snapshot = Snapshot(
      identity: identity, sequence: sequence, drainedSequence: sequence, nextFileNumber: 1,
      nextSegmentNumber: (segments.last?.number ?? 0) + 1, lastSeen: lastSeen, segments: segments,
      partitions: logs.map(\.snapshot),
      application: store.stateMachine.snapshot())
    try LogError.wrapping { () throws(IOError) in
      try store.fileSystem.syncDirectory("\(target)/segments")
      try store.fileSystem.syncDirectory(target)
    }
    _ = try SnapshotSlots().write(
      EncodedSnapshot(identity: identity, pieces: [snapshot.encoded()]), directory: target, fileSystem: store.fileSystem
    )
  }

  /// Copies the blocks of a run that are sound.
  private mutating func copy(
    _ extent: SegmentExtent, _ log: PartitionLog, _ reader: SegmentReader, _ end: inout Offset,
    _ writer: inout ExportWriter
  ) throws(LogError) {
    let blocks: [SegmentBlock]
    do throws(LogError) {
      blocks = try reader.index(extent)
    } catch {
      let first = max(extent.baseOffset, log.startOffset)
      return lose(error.reason, log.id, first...max(first, extent.nextOffset - 1))
    }
    for block in blocks where block.lastOffset >= log.startOffset {
      var runs: [Bytes] = []
      do throws(LogError) {
        runs = try reader.batches(in: extent, from: max(block.baseOffset, log.startOffset), limit: block.length)
      } catch {
        lose(error.reason, log.id, max(block.baseOffset, log.startOffset)...block.lastOffset)
      }
      for run in runs {
        for (position, header) in try RecordBatchRun.headers(in: run) where header.lastOffset <= block.lastOffset {
          try put(run[position..<(position + header.totalSize)], header, &end, &writer)
        }
      }
    }
    reader.forget(extent.segment)
  }

  /// Copies a batch of the journal.
  private mutating func copy(
    _ reference: BatchReference, _ log: PartitionLog, _ journal: JournalSalvage, _ end: inout Offset,
    _ writer: inout ExportWriter
  ) throws(LogError) {
    let batch: Bytes
    let header: RecordBatchHeader
    do throws(LogError) {
      batch = try JournalReader.batch(reference, in: journal.files[Int(reference.file)])
      header = try RecordBatchRun.headers(in: batch)[0].header
    } catch {
      return lose(error.reason, log.id, reference.baseOffset...(reference.nextOffset - 1))
    }
    try put(batch, header, &end, &writer)
  }

  private mutating func put(
    _ batch: Bytes, _ header: RecordBatchHeader, _ end: inout Offset, _ writer: inout ExportWriter
  ) throws(LogError) {
    try writer.add(batch, header)
    end = header.nextOffset
    batches += 1
    bytes += Int64(batch.count)
    if !header.isControl { records += Int64(header.recordCount) }
  }

  /// Makes a partition's state agree with the records that are left.
  private mutating func close(_ log: PartitionLog, at end: Offset, hasLosses: Bool) {
    let reported = losses.filter { $0.partition == log.id }.compactMap(\.offsets?.upperBound).max() ?? -1
    let untold = max(end, reported + 1)
    if untold < log.nextOffset {
      lose("in commits that cannot be read, or in blocks that are named above", log.id, untold...(log.nextOffset - 1))
    }
    let hasLosses = hasLosses || untold < log.nextOffset
    // With no records at all there is nothing that a reader could miss.
    if end > log.startOffset { log.nextOffset = end } else { log.startOffset = log.nextOffset }
    log.recent = Deque()
    log.highWatermark = log.nextOffset
    log.transactions.cut(at: log.nextOffset)
    log.compactedTo = min(log.compactedTo, log.nextOffset)
    while log.epochs.count > 1, let last = log.epochs.last, last.startOffset >= log.nextOffset {
      log.epochs.removeLast()
    }
    for (producer, first) in log.transactions.open.sorted(by: { $0.value < $1.value }) where hasLosses {
      lose(
        "the transaction of producer \(producer) has no end: readers of committed records wait there until it is ended",
        log.id, first...max(first, log.nextOffset - 1))
    }
    if hasLosses { log.producers = [:] }
  }
}

/// Writes batches of one partition after the other into segments.
private struct ExportWriter {
  let target: SegmentTarget
  let segmentSize: Int64
  private var writer: SegmentWriter?
  private var partition = PartitionLogID(0)
  private var size: Int64 = 0
  private var number: UInt64 = 0
  private var segments: [SnapshotSegment] = []
  private(set) var extents: [PartitionLogID: [SegmentExtent]] = [:]

  init(target: SegmentTarget, segmentSize: Int64) {
    self.target = target
    self.segmentSize = segmentSize
  }

  mutating func begin(_ partition: PartitionLogID) {
    self.partition = partition
    writer?.begin(partition, run: 0)
  }

  mutating func add(_ batch: Bytes, _ header: RecordBatchHeader) throws(LogError) {
    if writer == nil {
      number += 1
      writer = try target.begin(number)
      writer?.begin(partition, run: 0)
    }
    try writer?.add(
      batch, baseOffset: header.baseOffset, lastOffset: header.lastOffset,
      maxTimestamp: header.maxTimestamp.milliseconds)
    size += Int64(batch.count)
    if size >= segmentSize { try close() }
  }

  private mutating func close() throws(LogError) {
    guard let made = try writer?.finish() else { return }
    writer = nil
    size = 0
    segments.append(SnapshotSegment(number: made.number, fileSize: made.fileSize))
    for (partition, extent) in made.extents { extents[partition, default: []].append(extent) }
  }

  mutating func finish() throws(LogError) -> [SnapshotSegment] {
    try close()
    return segments
  }
}
