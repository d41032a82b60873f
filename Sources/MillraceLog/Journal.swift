// Journal: the sequencer and group commit. What enters the open commit is ordered by that; one write makes it durable.
//
//   reserve ── append ── append … ── (end of turn, or commit full) ── seal ── write in flight ── durable
//
// While a commit is being written the next one fills. An acknowledgement leaves when its commit and all before it are
// durable. Everything here runs on the journal's reactor; only the write itself happens on the writing executor.

import MillraceBase
import MillraceIO
import MillraceModel

/// One commit from its first entry until it is durable.
final class Commit {
  let sequence: UInt64
  let started: MonotonicTime
  /// Where the commit starts in its file.
  let position: Int
  /// Bytes of entries so far.
  var payloadLength = 0
  var entryCount = 0
  /// CRC-32C of the first `checkedLength` bytes of the payload.
  var payloadCRC: UInt32 = 0
  var checkedLength = 0
  /// Partitions that got records, with their next offsets after this commit.
  var touched: [(log: PartitionLog, next: Int64)] = []
  /// Called in order once the commit is durable (nil) or never will be.
  var waiters: [(LogError?) -> Void] = []
  var isWritten = false
  var submitted = MonotonicTime(nanoseconds: 0)

  init(sequence: UInt64, position: Int, started: MonotonicTime) {
    self.sequence = sequence
    self.position = position
    self.started = started
  }
}

/// Figures of a journal.
public struct JournalFigures: Sendable {
  /// Time from handing a write to the device until it is durable.
  public var flushLatency = Histogram()
  /// Time from a commit's first entry until it is durable.
  public var commitLatency = Histogram()
  /// Commits that became durable.
  public var commits: UInt64 = 0
  /// Bytes written to journal files, padding included.
  public var bytesWritten: UInt64 = 0
}

/// Whether a unit can enter the open commit.
enum Reservation {
  case ready
  /// No journal file is free yet; try again after `onRoom`.
  case wait
  case refused(LogError)
}

final class Journal {
  private let reactor: any Reactor
  private let writer: any FileWriter
  private let configuration: LogConfiguration
  let identity: JournalIdentity
  let files: JournalFiles
  private(set) var hotTail: HotTail

  private(set) var active: JournalFile?
  private var nextFileNumber: UInt64
  /// Where the next commit starts in the active file.
  private var position: Int
  /// Bytes of a page of its files.
  private let page: Int
  /// Memory that commits are built in, taken at a time; a huge page, or nearly.
  private var usualChunk: Int { Journal.hugePage.roundedDown(to: page) }
  private static let hugePage = 2 << 20
  /// Bytes of recent commits that an idle journal keeps in memory, and how long it has to be idle before it keeps no more.
  private static let mostHeldIdle = 2 * hugePage
  static let shrinkDelay = Duration.seconds(5)
  private var chunk: Chunk?
  /// The file position that the chunk's first byte mirrors.
  private var chunkPosition = 0
  /// Bytes of the chunk that may be used; memory comes in classes and may be larger than the file's rest.
  private var chunkSize = 0
  /// Start of the write that carries the next commit: the commit's own start, or 0 when the file header goes with it.
  private var writeStart: Int
  private var chain: UInt64

  private var open: Commit?
  private var inFlight = Deque<Commit>()
  private(set) var nextSequence: UInt64
  private(set) var durableSequence: UInt64
  private var claimedDurable: UInt64
  private var endOfTurnRegistered = false
  private var idleTimer: Timer?
  private var shrinkTimer: Timer?
  private(set) var failure: LogError?
  private(set) var figures = JournalFigures()

  /// Called when a commit has become durable, before its waiters.
  var onDurable: (Commit) -> Void = { _ in }
  /// Called when a file was sealed: nothing more will be written to it.
  var onSealed: (JournalFile) -> Void = { _ in }
  /// Called once when a write failed; nothing will be acknowledged any more.
  var onFailure: (LogError) -> Void = { _ in }
  /// Called when a refused or waiting reservation may succeed now.
  var onRoom: () -> Void = {}

  /// A journal that goes on where recovery found the end.
  init(
    recovered: RecoveredJournal, files: JournalFiles, reactor: any Reactor, writer: any FileWriter,
    configuration: LogConfiguration
  ) {
    self.reactor = reactor
    self.writer = writer
    self.configuration = configuration
    self.files = files
    page = files.page
    identity = recovered.identity
    hotTail = HotTail(budget: configuration.hotTailSize)
    active = recovered.active
    nextFileNumber = recovered.nextFileNumber
    position = recovered.position
    writeStart = recovered.position
    chain = recovered.chain
    nextSequence = recovered.nextSequence
    durableSequence = recovered.nextSequence - 1
    claimedDurable = recovered.nextSequence - 1
    files.onChange = { [unowned self] in self.onRoom() }
  }

  /// Sequence of the newest commit that has entries, open or not.
  var lastSequence: UInt64 { open?.sequence ?? (nextSequence - 1) }

  /// Makes room for entries of `size` bytes in all (each with its header and padding) in one commit.
  /// - Parameter givesSpaceBack: the entries may stand in the part of a file that is kept for them.
  func reserve(_ size: Int, givesSpaceBack: Bool = false) -> Reservation {
    if let failure { return .refused(failure) }
    let needed = JournalFormat.commitHeaderSize + size
    if let open {
      let end = open.position - chunkPosition + JournalFormat.commitHeaderSize + open.payloadLength + size
      if end <= chunkSize { return .ready }
      // A slow device must push back instead of filling memory with sealed commits.
      if inFlight.count >= configuration.writeDepth { return .wait }
      seal()
    }
    if chunk != nil, position - chunkPosition + needed.roundedUp(to: page) <= chunkSize {
      return .ready
    }
    return newChunk(for: needed.roundedUp(to: page), givesSpaceBack: givesSpaceBack)
  }

  private func newChunk(for needed: Int, givesSpaceBack: Bool) -> Reservation {
    if let active {
      let room = active.slot.size - JournalFormat.keptBack(ofFile: active.slot.size, page: page) - position
      if needed <= room {
        place(size: min(max(needed, usualChunk), room), at: position, in: active)
        return .ready
      }
      if givesSpaceBack, files.isExhausted, position + needed <= active.slot.size {
        place(size: needed, at: position, in: active)
        return .ready
      }
    }
    guard let slot = files.take(size: needed) else {
      files.provide(size: needed)
      // While another attempt is under way its outcome decides, not the last one's.
      if let failure = files.failure ?? files.drainFailure, !files.isPreparing { return .refused(failure) }
      return .wait
    }
    if let sealed = active {
      sealed.lastSequence = nextSequence - 1
      onSealed(sealed)
    }
    let file = JournalFile(slot: slot, number: nextFileNumber, firstSequence: nextSequence)
    nextFileNumber += 1
    active = file
    let mostUsed = slot.size - JournalFormat.keptBack(ofFile: slot.size, page: page)
    place(size: max(needed + page, min(usualChunk, mostUsed)), at: 0, in: file)
    guard let chunk else { preconditionFailure("a chunk was just placed") }
    JournalFileHeader(
      identity: identity, fileNumber: file.number, fileSize: slot.size, firstSequence: file.firstSequence
    ).write(to: chunk.base)
    // Memory is used again: what stood there before must not reach the disk.
    (chunk.base + JournalFileHeader.size).initializeMemory(
      as: UInt8.self, repeating: 0, count: page - JournalFileHeader.size)
    position = page
    writeStart = 0
    return .ready
  }

  private func place(size: Int, at start: Int, in file: JournalFile) {
    let fresh = Chunk(capacity: size)
    chunk = fresh
    chunkSize = size
    chunkPosition = start
    writeStart = start
    hotTail.add(file: file.number, position: start, chunk: fresh)
  }

  /// Adds an entry of `length` bytes; room must have been reserved.
  /// - Returns: where to copy the entry's bytes to, before the current turn ends, and their position in the file.
  func append(
    _ kind: JournalEntryKind, flags: UInt8 = 0, target: Int64, length: Int
  ) -> (memory: UnsafeMutableRawPointer, position: Int) {
    guard let chunk else { preconditionFailure("append without a reservation") }
    let commit = openCommit()
    let at = commit.position + JournalFormat.commitHeaderSize + commit.payloadLength
    let memory = chunk.base + (at - chunkPosition)
    precondition(
      at - chunkPosition + JournalFormat.entrySize(length) <= chunkSize,
      "entry of \(length) bytes was not reserved")
    memory.storeBytes(of: (UInt32(kind.rawValue) << 24 | UInt32(flags) << 16).bigEndian, as: UInt32.self)
    memory.storeBytes(of: UInt32(length).bigEndian, toByteOffset: 4, as: UInt32.self)
    memory.storeBytes(of: target.bigEndian, toByteOffset: 8, as: Int64.self)
    // Memory is used again: what stood there before must not reach the disk as padding.
    let padding = JournalFormat.entrySize(length) - JournalFormat.entryHeaderSize - length
    (memory + JournalFormat.entryHeaderSize + length).initializeMemory(as: UInt8.self, repeating: 0, count: padding)
    commit.payloadLength += JournalFormat.entrySize(length)
    commit.entryCount += 1
    return (memory + JournalFormat.entryHeaderSize, at + JournalFormat.entryHeaderSize)
  }

  /// Adds an entry that gives `target` the batch at `position` of the file, which an entry of the open commit holds.
  func appendSame(position: Int, length: Int, target: Int64, baseOffset: Offset) {
    let (memory, _) = append(.sameRecords, target: target, length: JournalFormat.sameRecordsSize)
    guard let open else { preconditionFailure("no commit is open behind an append") }
    precondition(position > open.position, "the batch at byte \(position) is not in the open commit")
    memory.storeBytes(of: UInt32(position - open.position).bigEndian, as: UInt32.self)
    memory.storeBytes(of: UInt32(length).bigEndian, toByteOffset: 4, as: UInt32.self)
    memory.storeBytes(of: baseOffset.bigEndian, toByteOffset: 8, as: Int64.self)
  }

  private func openCommit() -> Commit {
    if let open { return open }
    let commit = Commit(sequence: nextSequence, position: position, started: reactor.now)
    nextSequence += 1
    open = commit
    if !endOfTurnRegistered {
      endOfTurnRegistered = true
      // Held strongly: weak references to an object make all its retains slower, and this one ends with the turn.
      reactor.atEndOfTurn { [self] in
        endOfTurnRegistered = false
        submitIfUseful()
      }
    }
    return commit
  }

  /// Says that the entry appended last is a whole record batch whose own CRC is right and that has been copied in, so that
  /// the commit's CRC need not read all of it again.
  func appendedVerifiedBatch(length: Int) {
    guard let open, let chunk else { preconditionFailure("no batch was appended") }
    let payload = chunk.base + (open.position - chunkPosition + JournalFormat.commitHeaderSize)
    let start = open.payloadLength - JournalFormat.entrySize(length) + JournalFormat.entryHeaderSize
    let before = UnsafeRawBufferPointer(start: payload + open.checkedLength, count: start - open.checkedLength)
    open.payloadCRC = RecordBatchHeader.checksum(
      ofVerified: UnsafeRawBufferPointer(start: payload + start, count: length),
      continuing: CRC32C.checksum(before, continuing: open.payloadCRC))
    open.checkedLength = start + length
  }

  /// Records which partition got records in the open commit.
  func touch(_ log: PartitionLog, next: Int64) {
    guard let open else { preconditionFailure("touch without an open commit") }
    if let last = open.touched.indices.last, open.touched[last].log === log {
      open.touched[last].next = next
    } else {
      open.touched.append((log, next))
    }
  }

  /// Calls `waiter` when everything appended so far is durable: at once when it is already.
  func whenDurable(_ waiter: @escaping (LogError?) -> Void) {
    if let failure { return waiter(failure) }
    if let open {
      open.waiters.append(waiter)
    } else if let last = inFlight.last {
      last.waiters.append(waiter)
    } else {
      waiter(nil)
    }
  }

  /// Submits the open commit early when it is large, so that the device works while more arrives.
  func submitIfLarge() {
    guard let open, open.payloadLength >= configuration.commitSize else { return }
    submitIfUseful()
  }

  private func submitIfUseful() {
    guard let open, failure == nil else { return }
    if inFlight.isEmpty { return seal() }
    if open.payloadLength >= configuration.commitSize, inFlight.count < configuration.writeDepth { seal() }
  }

  /// Closes the open commit, if there is one, whatever is in flight.
  func sealOpen() { seal() }

  /// Closes the open commit and hands it to the writer.
  private func seal() {
    guard let commit = open, let chunk, let active else { return }
    open = nil
    let start = commit.position - chunkPosition
    let memory = chunk.base + start
    let unchecked = UnsafeRawBufferPointer(
      start: memory + JournalFormat.commitHeaderSize + commit.checkedLength,
      count: commit.payloadLength - commit.checkedLength)
    let payloadCRC = CRC32C.checksum(unchecked, continuing: commit.payloadCRC)
    let header = CommitHeader(
      sequence: commit.sequence, durable: durableSequence, payloadLength: commit.payloadLength,
      entryCount: commit.entryCount, previous: chain, payloadCRC: payloadCRC, identity: identity,
      fileNumber: active.number, time: reactor.wallClock)
    claimedDurable = durableSequence
    chain = header.write(to: memory)
    let end = (start + JournalFormat.commitHeaderSize + commit.payloadLength).roundedUp(to: page)
    let used = start + JournalFormat.commitHeaderSize + commit.payloadLength
    (chunk.base + used).initializeMemory(as: UInt8.self, repeating: 0, count: end - used)
    let from = writeStart - chunkPosition
    let at = Int64(writeStart)
    position = chunkPosition + end
    writeStart = position
    inFlight.append(commit)
    commit.submitted = reactor.now
    figures.bytesWritten += UInt64(end - from)
    let sequence = commit.sequence
    writer.write(chunk.bytes(from..<end), to: active.slot.file, at: at) { [self] error in
      written(sequence, error: error.map { LogError(.io, "writing commit \(sequence): \($0)") })
    }
  }

  private func written(_ sequence: UInt64, error: LogError?) {
    guard failure == nil else { return }
    if let error { return fail(error) }
    guard let first = inFlight.first else { preconditionFailure("commit \(sequence) is not in flight") }
    let now = reactor.now
    let finished = inFlight[Int(sequence - first.sequence)]
    finished.isWritten = true
    figures.flushLatency.record(now - finished.submitted)
    while let commit = inFlight.first, commit.isWritten {
      inFlight.removeFirst()
      durableSequence = commit.sequence
      figures.commits += 1
      figures.commitLatency.record(now - commit.started)
      onDurable(commit)
      for waiter in commit.waiters { waiter(nil) }
    }
    onRoom()
    submitIfUseful()
    if open == nil, inFlight.isEmpty {
      scheduleIdleHeader()
      scheduleShrinking()
    }
  }

  private func fail(_ error: LogError) {
    failure = LogError(.stopped, "the journal stopped: \(error.reason)")
    var waiting: [(LogError?) -> Void] = []
    while let commit = inFlight.popFirst() { waiting += commit.waiters }
    waiting += open?.waiters ?? []
    open = nil
    onFailure(error)
    for waiter in waiting { waiter(failure) }
  }

  /// A journal that stays idle gives back the memory of its busy days: what is read from now on comes from its files.
  private func scheduleShrinking() {
    guard hotTail.size > Journal.mostHeldIdle, shrinkTimer == nil else { return }
    let sequence = nextSequence
    shrinkTimer = reactor.schedule(after: Journal.shrinkDelay) { [self] in
      shrinkTimer = nil
      guard failure == nil, open == nil, inFlight.isEmpty else { return }
      // Someone wrote meanwhile; but for the idle header, which is one commit.
      guard nextSequence <= sequence + 1 else { return scheduleShrinking() }
      hotTail.shrink()
      Chunk.dropFree()
    }
  }

  /// An idle journal says once more what is durable, so that losing its end is noticed as corruption.
  private func scheduleIdleHeader() {
    guard claimedDurable < durableSequence, idleTimer == nil else { return }
    idleTimer = reactor.schedule(after: .milliseconds(configuration.idleHeaderDelay)) { [self] in
      idleTimer = nil
      writeIdleHeader()
    }
  }

  private func writeIdleHeader() {
    // A claim that only leaves out the previous claim's own empty commit needs no other.
    guard open == nil, inFlight.isEmpty, failure == nil, claimedDurable < durableSequence else { return }
    guard case .ready = reserve(0, givesSpaceBack: true) else { return }
    let commit = openCommit()
    let sequence = commit.sequence
    commit.waiters.append { [self] _ in
      claimedDurable = max(claimedDurable, sequence)
    }
  }

  /// Writes everything out and says once more what is durable; `done` follows when that is durable too.
  func close(_ done: @escaping (LogError?) -> Void) {
    idleTimer?.cancel()
    idleTimer = nil
    shrinkTimer?.cancel()
    shrinkTimer = nil
    whenDurable { [self] error in
      guard error == nil else { return done(error) }
      writeIdleHeader()
      whenDurable { [self] error in
        failure = failure ?? LogError(.stopped, "the log is closed")
        files.close()
        active?.slot.file.close()
        done(error)
      }
    }
  }
}
