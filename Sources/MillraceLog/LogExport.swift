// LogExport: what is sound of a damaged data directory, written into a new one that a server can start from.
//
// The damaged directory is read only. State comes from the newest snapshot whose checksum is right and from the commits
// behind it that can be read (JournalSalvage.swift); records from the blocks of segments and the commits that can be read.
// Each record keeps its offset: where some are lost there is a gap, as compaction leaves gaps. Records lost at the end of a
// partition leave none: its next offset is the one behind its last sound record, and clients learn by leader epochs that
// the log was cut.
//
// Invariants:
// 1. No record of an aborted transaction is ever shown as a committed one, though markers are lost: records known to be void
//    are left out (as compaction does), with what is known of the transactions.
// 2. A transaction was open when commits were lost, among which its marker may have been: how it ended is not known, and its
//    records are left out, too, and listed.
// 3. Numbers that lost events gave out (leader epochs, producer ids) are not given out again.
// 4. What was known of idempotent producers is forgotten where it may speak of lost batches: in partitions with losses, and in
//    all once a commit is lost, which may have held batches of any.
//
// This file has the state, LogExport+Records.swift the records.
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
  public internal(set) var records: Int64 = 0
  /// Batches they are in.
  public internal(set) var batches = 0
  /// Bytes of the batches.
  public internal(set) var bytes: Int64 = 0
  /// Partitions in the new directory, empty ones included.
  public internal(set) var partitions = 0
  /// All that was left out.
  public internal(set) var losses: [ExportLoss] = []

  /// Commits that cannot be read, as far as it is known how many there were.
  private(set) var lostCommits = 0
  /// The highest numbers found in records and in what is known of partitions, −1 for none.
  private(set) var highestEpoch: Int32 = -1
  private(set) var highestProducer: Int64 = -1
  /// Partitions with transactions that were open when commits were lost, and no readable batch since.
  private var doubtful: Set<PartitionLogID> = []
  /// Transactions that are left out, by partition.
  var leftOut: [PartitionLogID: [VoidBatches.Transaction]] = [:]

  /// Writes what is sound in `source` into `target`, which must not exist or be empty.
  ///
  /// Blocks. The caller sees to it that no server has either directory open. On return the new directory is durable.
  /// - Parameters:
  ///   - fileSystem: what `source` is read with.
  ///   - targetFileSystem: what `target` is written with; nil for the same.
  ///   - stateMachine: a new one; on return it has the state that the new directory holds.
  ///   - reactor: for its clock.
  /// - Throws: `.io` when `source` is no data directory or `target` is not empty or cannot be written. Damage in `source`
  ///   is no error.
  public static func run(
    from source: String, to target: String, fileSystem: any FileSystem,
    targetFileSystem: (any FileSystem)? = nil, stateMachine: any LogStateMachine,
    reactor: any Reactor, logger: Logger, random: inout some RandomNumberGenerator
  ) throws(LogError) -> LogExport {
    let isThere = try LogError.wrapping { () throws(IOError) in
      guard try fileSystem.exists(source), try fileSystem.exists("\(source)/journal") else { return false }
      return try fileSystem.exists("\(source)/segments")
    }
    guard isThere else { throw LogError(.io, "\(source) is no data directory: there is no journal in it") }
    let output = targetFileSystem ?? fileSystem
    try LogError.wrapping { () throws(IOError) in
      if try output.exists(target), try !output.list(target).isEmpty {
        throw IOError(.alreadyExists, operation: "export to", subject: target, reason: "the directory is not empty")
      }
      try output.createDirectories(target)
      try output.createDirectory("\(target)/journal")
      try output.createDirectory("\(target)/segments")
      try output.syncIfAllowed(output.parentDirectory(of: target))
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
      store, journal, to: target, in: output, identity: identity, sequence: max(sequence, 1),
      lastSeen: contents.snapshot?.lastSeen)
    return export
  }

  mutating func lose(
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
    var lost = journal.lost[...]
    for commit in journal.commits {
      while let next = lost.first, next.sequences.upperBound < commit.header.sequence {
        lostCommit(next.sequences, above: sequence, store)
        lost.removeFirst()
      }
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
        lostCommit(commit.header.sequence...commit.header.sequence, above: sequence, store)
      }
    }
    for rest in lost { lostCommit(rest.sequences, above: sequence, store) }
    // What they held nobody knows.
    for _ in journal.unreadable { lostCommit(.max ... .max, above: sequence, store) }
  }

  /// Notes at this point of the replay that commits are lost.
  /// - Parameter sequence: what happened up to it is known from the snapshot.
  private mutating func lostCommit(_ sequences: ClosedRange<UInt64>, above sequence: UInt64, _ store: LogStore) {
    lostCommits += sequences.count
    guard sequences.upperBound > sequence else { return }
    for log in store.partitions.values where !log.transactions.open.isEmpty { doubtful.insert(log.id) }
  }

  /// Leaves out what transactions have written that are open in a partition: their ends may be among what is lost.
  private mutating func leaveOutOpen(_ log: PartitionLog) {
    for (producer, first) in log.transactions.forgetOpen().sorted(by: { $0.value < $1.value }) {
      let offsets = first...max(first, log.nextOffset - 1)
      leftOut[log.id, default: []].append(VoidBatches.Transaction(producerID: producer, offsets: offsets))
      lose(
        "how the transaction of producer \(producer) ended may be in commits that cannot be read: its records in this range "
          + "are left out", log.id, offsets)
    }
  }

  /// Leaves out those of which nothing more was found.
  mutating func leaveOutDoubtful(_ log: PartitionLog) {
    if doubtful.contains(log.id) { leaveOutOpen(log) }
  }

  /// Remembers numbers that were given out.
  mutating func note(epoch: Int32, producer: Int64) {
    highestEpoch = max(highestEpoch, epoch)
    highestProducer = max(highestProducer, producer)
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
      if start > log.nextOffset {
        leaveOutOpen(log)
        log.nextOffset = start
      }
      _ = log.advanceStart(to: start)
    case .records, .sameRecords: replay(batch: bytes, entry, commit, isNew: isNew, place, store)
    }
  }

  private mutating func replay(
    batch bytes: Bytes, _ entry: JournalEntry, _ commit: SalvagedCommit, isNew: Bool, _ place: String, _ store: LogStore
  ) {
    let id = PartitionLogID(entry.target)
    do throws(RecordBatchError) {
      var header = try RecordBatchHeader.checked(bytes)
      header.baseOffset = entry.baseOffset ?? header.baseOffset
      note(epoch: header.leaderEpoch, producer: header.producerID)
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
        lastOffsetDelta: header.lastOffsetDelta, leaderEpoch: header.leaderEpoch, sharing: entry.sharing)
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
      // A lost marker would have had an offset: without a gap there was none.
      if header.baseOffset > log.nextOffset { leaveOutOpen(log) }
      doubtful.remove(id)
      log.nextOffset = header.baseOffset
      log.appended(
        header, at: reference, leaderEpoch: header.leaderEpoch, now: store.steadyClock.time(at: store.reactor.now),
        marker: marker)
    } catch {
      lose("\(place): batch at byte \(commit.position + entry.position): \(error)", id)
      if isNew { doubtful.insert(id) }
    }
  }
}
