// LogExport+Records: the records of an export, from segments and journal into new segments, and the snapshot that names them.

import MillraceBase
import MillraceIO
import MillraceModel

/// What transactions have written in a partition that nobody is to see.
struct VoidBatches {
  /// A transaction that is left out.
  struct Transaction {
    let producerID: Int64
    /// All its records in the partition lie in here, and none of its producer's other transactions.
    let offsets: ClosedRange<Offset>
  }

  /// By producer, in rising order.
  private var offsets: [Int64: [ClosedRange<Offset>]] = [:]

  init(_ aborted: [AbortedTransaction], _ leftOut: [Transaction]) {
    for one in aborted { offsets[one.producerID, default: []].append(one.firstOffset...one.lastOffset) }
    for one in leftOut { offsets[one.producerID, default: []].append(one.offsets) }
    for producer in offsets.keys { offsets[producer]?.sort { $0.lowerBound < $1.lowerBound } }
  }

  /// Whether a batch holds void records; markers hold none.
  func contains(_ header: RecordBatchHeader) -> Bool {
    guard header.isTransactional, !header.isControl, let void = offsets[header.producerID] else { return false }
    let index = void.partitioningIndex { $0.upperBound < header.baseOffset }
    return index < void.count && void[index].contains(header.baseOffset)
  }
}

extension LogExport {
  mutating func write(
    _ store: LogStore, _ journal: JournalSalvage, to target: String, in fileSystem: any FileSystem,
    identity: JournalIdentity, sequence: UInt64, lastSeen: Timestamp?
  ) throws(LogError) {
    let output = SegmentTarget(
      directory: "\(target)/segments", identity: identity, blockSize: store.configuration.segmentBlockSize,
      fileSystem: fileSystem)
    var writer = ExportWriter(target: output)
    let logs = store.partitions.values.sorted { $0.id < $1.id }
    for log in logs {
      writer.begin(log.id)
      for epoch in log.epochs { note(epoch: epoch.epoch, producer: -1) }
      for producer in log.producers.keys { note(epoch: -1, producer: producer) }
      for producer in log.transactions.open.keys { note(epoch: -1, producer: producer) }
      leaveOutDoubtful(log)
      let void = VoidBatches(log.transactions.aborted, leftOut[log.id] ?? [])
      let known = losses.contains { $0.partition == log.id }
      let before = losses.count
      var end = log.startOffset
      for extent in log.extents { try copy(extent, log, store.segments, void, &end, &writer) }
      for index in 0..<log.recent.count where log.recent[index].baseOffset >= end {
        try copy(log.recent[index], log, journal, void, &end, &writer)
      }
      close(log, at: end, hasLosses: known || losses.count > before)
    }
    let segments = try writer.finish()
    partitions = logs.count
    for log in logs {
      log.extents = writer.extents[log.id] ?? []
      // Retention by size must not take what is left for more than it is.
      log.size = log.extents.reduce(0) { $0 + $1.bytes }
    }
    store.stateMachine.skipNumbers(
      usedLeaderEpoch: highestEpoch, usedProducerID: highestProducer, lostCommits: lostCommits)
    let snapshot = Snapshot(
      identity: identity, sequence: sequence, drainedSequence: sequence, nextFileNumber: 1,
      nextSegmentNumber: (segments.last?.number ?? 0) + 1, lastSeen: lastSeen, segments: segments,
      partitions: logs.map(\.snapshot),
      application: store.stateMachine.snapshot())
    try LogError.wrapping { () throws(IOError) in
      try fileSystem.syncDirectory("\(target)/segments")
      try fileSystem.syncDirectory(target)
    }
    _ = try SnapshotSlots().write(
      EncodedSnapshot(identity: identity, pieces: [snapshot.encoded()]), directory: target, fileSystem: fileSystem
    )
  }

  /// Copies the blocks of a run that are sound.
  private mutating func copy(
    _ extent: SegmentExtent, _ log: PartitionLog, _ reader: SegmentReader, _ void: VoidBatches, _ end: inout Offset,
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
          try put(
            run[position..<(position + header.totalSize)], header, void, &end, &writer,
            sharedFrom: block.isShared ? block.place(in: extent) : nil)
        }
      }
    }
    reader.forget(extent.segment)
  }

  /// Copies a batch of the journal.
  private mutating func copy(
    _ reference: BatchReference, _ log: PartitionLog, _ journal: JournalSalvage, _ void: VoidBatches,
    _ end: inout Offset,
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
    try put(batch, header, void, &end, &writer, sharedFrom: reference.sharedPlace)
  }

  private mutating func put(
    _ batch: Bytes, _ header: RecordBatchHeader, _ void: VoidBatches, _ end: inout Offset, _ writer: inout ExportWriter,
    sharedFrom place: SharedPlace?
  ) throws(LogError) {
    note(epoch: header.leaderEpoch, producer: header.producerID)
    guard !void.contains(header) else { return }
    try writer.add(batch, header, sharedFrom: place)
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
    // Their records are left out. Readers would go by their markers, which may be lost.
    log.transactions.forgetAborted(endedBelow: .max)
    log.compactedTo = min(log.compactedTo, log.nextOffset)
    while log.epochs.count > 1, let last = log.epochs.last, last.startOffset >= log.nextOffset {
      log.epochs.removeLast()
    }
    for (producer, first) in log.transactions.open.sorted(by: { $0.value < $1.value })
    where hasLosses || lostCommits > 0 {
      lose(
        "the transaction of producer \(producer) has no end: readers of committed records wait there until it is ended",
        log.id, first...max(first, log.nextOffset - 1))
    }
    if hasLosses || lostCommits > 0 { log.producers = [:] }
  }
}

/// Writes batches of one partition after the other into segments.
private struct ExportWriter {
  let target: SegmentTarget
  /// New segments become about this large, in bytes.
  private static let segmentSize: Int64 = 1 << 30
  private var writer: SegmentWriter?
  private var partition = PartitionLogID(0)
  private var size: Int64 = 0
  private var number: UInt64 = 0
  private var segments: [SnapshotSegment] = []
  private(set) var extents: [PartitionLogID: [SegmentExtent]] = [:]

  init(target: SegmentTarget) { self.target = target }

  mutating func begin(_ partition: PartitionLogID) {
    self.partition = partition
    writer?.begin(partition, run: 0)
  }

  mutating func add(
    _ batch: Bytes, _ header: RecordBatchHeader, sharedFrom place: SharedPlace?
  ) throws(LogError) {
    if writer == nil {
      number += 1
      writer = try target.begin(number)
      writer?.begin(partition, run: 0)
    }
    if let place, writer?.addAgain(place, baseOffset: header.baseOffset) == true { return }
    try writer?.add(
      batch, baseOffset: header.baseOffset, lastOffset: header.lastOffset,
      maxTimestamp: header.maxTimestamp.milliseconds, sharedFrom: place)
    size += Int64(batch.count)
    if size >= ExportWriter.segmentSize { try close() }
  }

  private mutating func close() throws(LogError) {
    guard let made = try writer?.finish() else { return }
    writer = nil
    size = 0
    segments.append(
      SnapshotSegment(number: made.number, fileSize: made.fileSize, sharedBytes: made.sharedBytes))
    for (partition, extent) in made.extents { extents[partition, default: []].append(extent) }
  }

  mutating func finish() throws(LogError) -> [SnapshotSegment] {
    try close()
    return segments
  }
}
