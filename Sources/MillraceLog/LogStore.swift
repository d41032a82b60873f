// LogStore: one data directory's log: partitions, the journal behind them, segments, snapshots.

import MillraceBase
import MillraceIO
import MillraceModel

/// The state machine whose events the log keeps. Called on the log's reactor.
public protocol LogStateMachine: AnyObject {
  /// Starts from a snapshot that ``snapshot()`` made. Partitions are there already.
  func restore(_ snapshot: Bytes, log: LogStore) throws(LogError)
  /// Applies one event: when it enters the journal, and again when the journal is replayed. Must be deterministic.
  /// - Throws: `.corruption` when these are no bytes of an event, or the event contradicts the state, as one that makes a
  ///   partition that is there; then nothing has changed.
  func apply(_ event: Bytes, log: LogStore) throws(LogError)
  /// Sees to it that numbers are not given out again of which no event may be left; called when a damaged directory was
  /// replayed for an export.
  /// - Parameters:
  ///   - usedLeaderEpoch: the highest leader epoch of any record, −1 without any.
  ///   - usedProducerID: the highest producer id of any record, −1 without any.
  ///   - lostCommits: commits that are lost, each of which may have given out more.
  func skipNumbers(usedLeaderEpoch: Int32, usedProducerID: Int64, lostCommits: Int)
  /// All state that events have led to so far.
  func snapshot() -> Bytes
}

/// What one append makes atomic: all of it becomes durable, or nothing.
public struct AppendUnit {
  /// Events for the state machine, applied first.
  public var events: [Bytes] = []
  /// Checked record batches, each for one partition.
  public var batches: [(log: PartitionLog, bytes: Bytes, header: RecordBatchHeader)] = []
  /// New start offsets, applied last; an offset beyond the partition's end means its end.
  public var startOffsets: [(log: PartitionLog, offset: Offset)] = []
  /// What the events do leads to more free space, so that the unit may be appended while the disk is full.
  public var givesSpaceBack = false
  /// Batches that are written with an earlier one: their index, and its.
  private(set) var written: [Int: Int] = [:]

  /// Nothing yet.
  public init() {}

  /// One batch for one partition.
  public init(_ log: PartitionLog, _ bytes: Bytes, _ header: RecordBatchHeader) {
    batches = [(log, bytes, header)]
  }

  /// One event.
  public init(event: Bytes) {
    events = [event]
  }

  /// Adds the batch at `index` for one more partition; it is written once for all of them.
  ///
  /// Batches are only added behind it from now on. A partition may have it more than once.
  public mutating func share(_ index: Int, with log: PartitionLog) {
    let (_, bytes, header) = batches[index]
    precondition(
      !header.isIdempotent && !header.isControl,
      "a batch of producer \(header.producerID) is for one partition, which counts its sequences")
    written[batches.count] = written[index] ?? index
    batches.append((log, bytes, header))
  }

  var size: Int {
    var size = startOffsets.count * JournalFormat.entrySize(8)
    for event in events { size += JournalFormat.entrySize(event.count) }
    for batch in batches { size += JournalFormat.entrySize(batch.header.totalSize) }
    for index in written.keys {
      size -= JournalFormat.entrySize(batches[index].header.totalSize)
      size += JournalFormat.entrySize(JournalFormat.sameRecordsSize)
    }
    return size
  }
}

/// What an append gave a batch.
public struct AppendedBatch: Equatable, Sendable {
  /// Offset of the batch's first record.
  public var baseOffset: Offset
  /// The batch had been appended before; nothing was added.
  public var isDuplicate: Bool
}

/// The log of one data directory. Everything belongs to its reactor, except where said otherwise.
public final class LogStore {
  /// Sizes and the data directory.
  public let configuration: LogConfiguration
  let fileSystem: any FileSystem
  let reactor: any Reactor
  let writer: any BlockingExecutor
  let background: any BlockingExecutor
  let jobs: BackgroundJobs
  let logger: Logger
  let stateMachine: any LogStateMachine
  let segments: SegmentReader
  /// For what need not survive a restart.
  public let scratch: ScratchFiles
  private(set) var journal: Journal!
  private var lock: (any FileLock)?
  private(set) var partitions: [PartitionLogID: PartitionLog] = [:]
  private var waiting = Deque<(work: Work, completion: (Result<[AppendedBatch], LogError>) -> Void)>()
  private var isDrainingWaiting = false
  var drain: DrainState
  var cleaning = CleaningState()
  var space = SpaceState()
  var scrubbing = ScrubState()
  var hashSeeds: SeededRandom
  /// What the silence of producers is measured by.
  var steadyClock: SteadyClock
  /// What the age of records is measured by.
  var retentionClock: RetentionClock

  /// What is to be appended, known now or when its turn comes.
  private enum Work {
    case unit(AppendUnit)
    case decision(() -> AppendUnit?)

    var givesSpaceBack: Bool { if case .unit(let unit) = self { unit.givesSpaceBack } else { false } }
  }

  /// The leader epoch that new batches carry; set once the start was recorded.
  public var leaderEpoch: Int32 = 0
  /// Most bytes of one append unit: its batches and events with what the journal keeps with each.
  public var largestUnit: Int { configuration.largestUnit }
  /// Called when a partition's high watermark has risen.
  public var onAdvance: (PartitionLog) -> Void = { _ in }
  /// Called when the disk has become nearly full: what may go should go now.
  public var onLowSpace: () -> Void = {}
  /// Called once when a flush failed. The owner must stop: nothing will be acknowledged any more.
  public var onFailure: (LogError) -> Void = { _ in }

  /// Opens the log in `configuration.directory`, made when missing with the folders above it, and replays it into `stateMachine`.
  ///
  /// Blocks; call it before the reactor serves anything.
  /// - Parameters:
  ///   - writer: makes commits durable; two threads or more keep the device busy.
  ///   - background: drains, snapshots and reads from disk.
  ///   - random: entropy for the identity of a new journal.
  /// - Throws: `.io` when another process holds the directory, `.corruption` when durable bytes cannot be read.
  public init(
    configuration: LogConfiguration, fileSystem: any FileSystem, reactor: any Reactor, writer: any BlockingExecutor,
    background: any BlockingExecutor, stateMachine: any LogStateMachine, logger: Logger,
    random: inout some RandomNumberGenerator
  ) throws(LogError) {
    self.configuration = configuration
    self.fileSystem = fileSystem
    self.reactor = reactor
    self.writer = writer
    self.background = background
    jobs = BackgroundJobs(reactor: reactor, background: background)
    self.stateMachine = stateMachine
    self.logger = logger
    let directory = configuration.directory
    segments = SegmentReader(
      directory: "\(directory)/segments", fileSystem: fileSystem, readAhead: background,
      budget: configuration.readWindowsSize, leavesBaseOffsets: configuration.leavesBaseOffsets)
    scratch = ScratchFiles(directory: "\(directory)/scratch", fileSystem: fileSystem, jobs: jobs, logger: logger)
    drain = DrainState()
    hashSeeds = SeededRandom(seed: random.next())
    steadyClock = SteadyClock(start: reactor.wallClock, now: reactor.now)
    retentionClock = RetentionClock(
      lastSeen: nil, wall: reactor.wallClock, now: reactor.now, hold: configuration.clockHold)
    lock = try LogError.wrapping { () throws(IOError) in
      try fileSystem.createDirectories(directory)
      try fileSystem.createDirectory("\(directory)/journal")
      try fileSystem.createDirectory("\(directory)/segments")
      try LogStore.syncNames(directory, fileSystem: fileSystem, logger: logger)
      return try fileSystem.lock("\(directory)/lock")
    }
    scratch.removeAll()
    try recover(newIdentity: JournalIdentity(high: random.next(), low: random.next()))
  }

  /// A store that holds partitions while events and commits are replayed, and nothing else: no file of it is opened, nothing can
  /// be appended or read.
  init(
    replaying stateMachine: any LogStateMachine, configuration: LogConfiguration, fileSystem: any FileSystem,
    reactor: any Reactor, logger: Logger, random: inout some RandomNumberGenerator
  ) {
    let nobody = NoExecutor()
    self.configuration = configuration
    self.fileSystem = fileSystem
    self.reactor = reactor
    writer = nobody
    background = nobody
    jobs = BackgroundJobs(reactor: reactor, background: nobody)
    self.stateMachine = stateMachine
    self.logger = logger
    segments = SegmentReader(directory: "\(configuration.directory)/segments", fileSystem: fileSystem)
    scratch = ScratchFiles(
      directory: "\(configuration.directory)/scratch", fileSystem: fileSystem, jobs: jobs, logger: logger)
    var closing = DrainState()
    // Nothing is planned for later.
    closing.isClosing = true
    drain = closing
    hashSeeds = SeededRandom(seed: random.next())
    steadyClock = SteadyClock(start: reactor.wallClock, now: reactor.now)
    retentionClock = RetentionClock(
      lastSeen: nil, wall: reactor.wallClock, now: reactor.now, hold: configuration.clockHold)
  }

  /// For a store that does nothing in the background.
  private final class NoExecutor: BlockingExecutor {
    func submit(_ job: @escaping @Sendable () -> Void) { preconditionFailure("a store that only replays was used") }
  }

  /// Makes the names durable that a start relies on: the directory's own, and those in it that a process which was
  /// killed may have left in the page cache only.
  private static func syncNames(
    _ directory: String, fileSystem: any FileSystem, logger: Logger
  ) throws(IOError) {
    // Who may not read the directory above can still work in this one.
    if let error = try fileSystem.syncIfAllowed(fileSystem.parentDirectory(of: directory)) {
      logger.log(.warning, "log", "the data directory's name cannot be made durable", ["error": error.description])
    }
    try fileSystem.syncDirectory(directory)
    try fileSystem.syncDirectory("\(directory)/journal")
    try fileSystem.syncDirectory("\(directory)/segments")
  }

  // MARK: Partitions

  /// Makes a partition's log; only the state machine may call, from an event.
  @discardableResult
  public func createPartition(_ id: PartitionLogID) -> PartitionLog {
    precondition(partitions[id] == nil, "partition \(id) exists already")
    let log = PartitionLog(id: id)
    partitions[id] = log
    let number = id.number / SnapshotPage.span
    let page = drain.pages[number] ?? SnapshotPage()
    page.add(log)
    drain.pages[number] = page
    return log
  }

  /// Removes a partition's log; only the state machine may call, from an event. Its space is given back with the next
  /// snapshot.
  public func removePartition(_ id: PartitionLogID) {
    guard let log = partitions.removeValue(forKey: id) else { return }
    log.isDeleted = true
    drain.pages[id.number / SnapshotPage.span]?.remove(log)
    if drain.pages[id.number / SnapshotPage.span]?.logs.isEmpty == true {
      drain.pages[id.number / SnapshotPage.span] = nil
    }
    release(log.extents)
    // A unit that waited meanwhile must not give them back once more.
    log.extents = []
    reclaimSoon()
  }

  /// The log with this number.
  public func partition(_ id: PartitionLogID) -> PartitionLog? { partitions[id] }

  // MARK: Appending

  /// Appends a unit.
  ///
  /// Offsets are given when the unit enters the open commit, in the order of the calls. `completion` follows once the
  /// unit is durable, or with the reason why nothing was appended; it may be called before this returns.
  /// - Errors: `.outOfOrderSequence`, `.invalidProducerEpoch` (idempotent producers), `.invalidTransactionState` (a batch
  ///   outside its producer's open transaction), `.unknownPartition` (deleted meanwhile), `.tooLarge`, `.noSpace`, `.stopped`.
  public func append(_ unit: AppendUnit, completion: @escaping (Result<[AppendedBatch], LogError>) -> Void) {
    append(.unit(unit), completion)
  }

  /// Appends what `decide` makes of the state at the moment the unit enters: after all units appended before it, so that
  /// nothing can come between the decision and its effect.
  ///
  /// `decide` may be called again as long as there is no room in the journal; only the last answer counts. Nil appends
  /// nothing: `completion` follows with no batches once all that was decided upon is durable. Else as
  /// ``append(_:completion:)``.
  public func append(
    deciding decide: @escaping () -> AppendUnit?, completion: @escaping (Result<[AppendedBatch], LogError>) -> Void
  ) {
    append(.decision(decide), completion)
  }

  private func append(_ work: Work, _ completion: @escaping (Result<[AppendedBatch], LogError>) -> Void) {
    guard !drain.isClosing else { return completion(.failure(LogStore.closed)) }
    // What gives space back must not wait behind those who wait for space.
    if waiting.isEmpty || work.givesSpaceBack, enter(work, completion) { return }
    waiting.append((work, completion))
  }

  private func enter(_ work: Work, _ completion: @escaping (Result<[AppendedBatch], LogError>) -> Void) -> Bool {
    switch work {
    case .unit(let unit): return enter(unit, completion)
    case .decision(let decide):
      if let unit = decide() { return enter(unit, completion) }
      journal.whenDurable { error in completion(error.map { .failure($0) } ?? .success([])) }
      return true
    }
  }

  /// Units that wait for room in the journal; a server reads less while there are any.
  public var waitingUnits: Int { waiting.count }

  /// Calls `body` when all that holds now is durable (nil) or never will be: what has entered the journal.
  ///
  /// Units that wait for room do not hold yet, and are not waited for.
  public func whenDurable(_ body: @escaping (LogError?) -> Void) {
    journal.whenDurable(body)
  }

  /// Calls `body` when everything that was appended so far is durable or never will be, units that wait for room included;
  /// of those that were refused their own completions have told.
  public func whenAllDurable(_ body: @escaping (LogError?) -> Void) {
    guard !waiting.isEmpty else { return journal.whenDurable(body) }
    append(deciding: { nil }) { result in
      if case .failure(let error) = result { body(error) } else { body(nil) }
    }
  }

  private func drainWaiting() {
    // What a unit's entry leads to may call this again, with the same unit still in front.
    guard !isDrainingWaiting else { return }
    isDrainingWaiting = true
    defer { isDrainingWaiting = false }
    while let (work, completion) = waiting.first {
      guard enter(work, completion) else { return }
      waiting.removeFirst()
    }
  }

  /// Enters a unit into the open commit, or says that it has to wait.
  private func enter(_ unit: AppendUnit, _ completion: @escaping (Result<[AppendedBatch], LogError>) -> Void) -> Bool {
    let size = unit.size
    guard size <= configuration.largestUnit else {
      completion(.failure(LogError(.tooLarge, "\(size) bytes in one unit, \(configuration.largestUnit) are allowed")))
      return true
    }
    var results: [AppendedBatch]?
    do throws(LogError) {
      results = try check(unit)
    } catch {
      if error.code == .noSpace { rememberRefusal(of: unit) }
      completion(.failure(error))
      return true
    }
    if let results {
      // Nothing but repeats: they are acknowledged when the first copy is durable.
      journal.whenDurable { error in completion(error.map { .failure($0) } ?? .success(results)) }
      return true
    }
    switch journal.reserve(size, givesSpaceBack: unit.givesSpaceBack) {
    case .wait:
      roomIsShort()
      return false
    case .refused(let error):
      roomIsShort()
      rememberRefusal(of: unit)
      completion(.failure(error))
      return true
    case .ready: break
    }
    let appended = write(unit)
    if unit.givesSpaceBack { drainAgain() }
    journal.whenDurable { error in completion(error.map { .failure($0) } ?? .success(appended)) }
    journal.submitIfLarge()
    return true
  }

  /// Notes which producers' first batches had no room: what they sent behind them must not be taken for the first.
  private func rememberRefusal(of unit: AppendUnit) {
    for batch in unit.batches where batch.header.isIdempotent && !batch.header.isControl {
      batch.log.refusedFirst.note(batch.header, isKnown: batch.log.producers[batch.header.producerID] != nil)
    }
  }

  /// Checks a unit against producers' sequences.
  /// - Returns: the earlier offsets when the unit is one batch that was appended before, nil when it is to be appended.
  private func check(_ unit: AppendUnit) throws(LogError) -> [AppendedBatch]? {
    for batch in unit.batches {
      // Transactions may end, and everything without records goes on: that is what makes room.
      guard !space.isLow || batch.header.isControl else {
        throw LogError(.noSpace, "\(space.available) bytes are free, \(configuration.lowSpace) are to stay so")
      }
      guard !batch.log.isDeleted else { throw LogError(.unknownPartition, "partition \(batch.log.id) was deleted") }
      // What ends a transaction has no sequence.
      guard batch.header.isIdempotent, !batch.header.isControl else { continue }
      if !batch.header.isTransactional, batch.log.transactions.isOpen(batch.header.producerID) {
        throw LogError(
          .invalidTransactionState,
          "producer \(batch.header.producerID) wrote a batch that is not part of its open transaction")
      }
      let state = batch.log.producers[batch.header.producerID]
      if state == nil, batch.log.refusedFirst.isBehindOne(batch.header) {
        throw LogError(
          .outOfOrderSequence,
          "producer \(batch.header.producerID) sent sequence \(batch.header.baseSequence), its first batch was refused")
      }
      let verdict = try ProducerState.judge(state, batch.header)
      if case .duplicate(let earlier) = verdict, unit.batches.count == 1 {
        return [AppendedBatch(baseOffset: earlier.baseOffset, isDuplicate: true)]
      }
    }
    return nil
  }

  private func write(_ unit: AppendUnit) -> [AppendedBatch] {
    for event in unit.events {
      let (memory, _) = journal.append(.event, target: 0, length: event.count)
      event.withBuffer { memory.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(memory), byteCount: $0.count) }
      do throws(LogError) {
        try stateMachine.apply(event, log: self)
      } catch {
        preconditionFailure("an event that this program made cannot be applied: \(error)")
      }
    }
    var appended: [AppendedBatch] = []
    appended.reserveCapacity(unit.batches.count)
    let now = steadyClock.time(at: reactor.now)
    // Batches that others are written with, and where they stand.
    var places = unit.written.isEmpty ? [:] : Dictionary(unit.written.values.map { ($0, 0) }) { first, _ in first }
    for (index, batch) in unit.batches.enumerated() {
      let length = batch.header.totalSize
      let log = batch.log
      let position: Int
      let sharing: BatchReference.Sharing
      if let place = unit.written[index].flatMap({ places[$0] }) {
        position = place
        sharing = .further
        journal.appendSame(position: place, length: length, target: log.id.number, baseOffset: log.nextOffset)
      } else {
        sharing = places[index] == nil ? .none : .first
        position = append(batch.bytes, length: length, to: log, isShared: sharing == .first)
        if sharing == .first { places[index] = position }
      }
      appended.append(AppendedBatch(baseOffset: log.nextOffset, isDuplicate: false))
      guard let file = journal.active?.number else { preconditionFailure("no active file after an append") }
      log.appended(
        batch.header,
        at: BatchReference(
          baseOffset: log.nextOffset, maxTimestamp: batch.header.maxTimestamp.milliseconds, file: file,
          position: UInt32(position), length: UInt32(length), lastOffsetDelta: batch.header.lastOffsetDelta,
          leaderEpoch: leaderEpoch, sharing: sharing),
        leaderEpoch: leaderEpoch, now: now, marker: batch.header.isControl ? LogStore.ownMarker(batch.bytes) : nil)
      drain.touched(log, file: file, length: sharing == .further ? 0 : length)
      journal.touch(log, next: log.nextOffset)
    }
    for (log, offset) in unit.startOffsets where !log.isDeleted {
      let target = min(offset, log.nextOffset)
      let (memory, _) = journal.append(.startOffset, target: log.id.number, length: 8)
      memory.storeBytes(of: target.bigEndian, as: Int64.self)
      let dropped = log.advanceStart(to: target)
      release(dropped)
      if !dropped.isEmpty { reclaimSoon() }
    }
    return appended
  }

  /// Copies a batch into the open commit; its place in the file.
  private func append(_ bytes: Bytes, length: Int, to log: PartitionLog, isShared: Bool) -> Int {
    let (memory, position) = journal.append(
      .records, flags: isShared ? JournalFormat.sharedFlag : 0, target: log.id.number, length: length)
    bytes.withBuffer { memory.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(memory), byteCount: length) }
    RecordBatchHeader.patch(memory, baseOffset: log.nextOffset, leaderEpoch: leaderEpoch)
    journal.appendedVerifiedBatch(length: length)
    return position
  }

  private static func ownMarker(_ batch: Bytes) -> TransactionMarker {
    do throws(RecordBatchError) {
      return try TransactionMarker(batch, header: RecordBatchHeader(batch))
    } catch {
      preconditionFailure("a control batch that this program made cannot be read: \(error)")
    }
  }

  private func becameDurable(_ commit: Commit) {
    for (log, next) in commit.touched where next > log.highWatermark {
      log.highWatermark = next
      log.transactions.becameDurable(below: next)
      if !log.isDeleted { onAdvance(log) }
    }
    if drain.wantsFirstSnapshot {
      drain.wantsFirstSnapshot = false
      takeSnapshot {}
    }
    if drain.awaitsDurability { drainNext() }
  }

  // MARK: Opening and closing

  private func recover(newIdentity: JournalIdentity) throws(LogError) {
    let snapshot = try readSnapshot()
    let leftOver = try checkSegments(snapshot)
    // A journal that lost all its files must not look like one that never had any.
    drain.wantsFirstSnapshot = snapshot == nil
    if let snapshot { try restore(snapshot) }
    // Producers have been silent only for as long as this program ran: how long it did not, a clock that may have been set
    // meanwhile cannot tell.
    let newest = partitions.values.lazy.flatMap { $0.producers.values.lazy.map(\.lastAppend) }.max()
    if let newest { steadyClock = SteadyClock(start: newest, now: reactor.now) }
    let recovery = JournalRecovery(directory: "\(configuration.directory)/journal", fileSystem: fileSystem)
    var replayed = 0
    var recovered = try recovery.run(snapshot: snapshot, newIdentity: newIdentity) { commit throws(LogError) in
      try replay(commit, above: snapshot?.sequence ?? 0)
      replayed += 1
    }
    try removeLeftOver(leftOver)
    for cut in recovered.cutSpares {
      logger.log(.warning, "log", "removed a journal file that was cut off; it held nothing needed", ["file": cut])
    }
    if let torn = recovered.tornTail {
      logger.log(.info, "log", "cut off a torn tail", ["reason": torn])
    }
    for log in partitions.values {
      log.highWatermark = log.nextOffset
      log.transactions.becameDurable(below: log.nextOffset)
    }
    if recovered.active == nil, recovered.spares.isEmpty {
      recovered.spares = [
        try JournalFiles.make(
          "\(configuration.directory)/journal/\(JournalFiles.name(recovered.nextName))",
          size: configuration.firstJournalFileSize, directory: "\(configuration.directory)/journal",
          fileSystem: fileSystem)
      ]
      recovered.nextName += 1
      recovered.largestFile = configuration.firstJournalFileSize
    }
    let files = JournalFiles(
      directory: "\(configuration.directory)/journal", fileSystem: fileSystem, reactor: reactor,
      jobs: jobs, configuration: configuration,
      existing: recovered.spares.count + recovered.sealed.count + (recovered.active == nil ? 0 : 1),
      nextName: recovered.nextName, largest: recovered.largestFile)
    journal = Journal(
      recovered: recovered, files: files, reactor: reactor, writer: reactor.fileWriter(writer),
      configuration: configuration)
    for spare in recovered.spares { files.release(spare) }
    journal.onDurable = { [unowned self] in self.becameDurable($0) }
    journal.onRoom = { [unowned self] in self.drainWaiting() }
    journal.onSealed = { [unowned self] in self.sealed($0) }
    journal.onFailure = { [unowned self] in
      self.onFailure($0)
      // Units that wait for room learn that there will be none.
      self.drainWaiting()
    }
    drain.sealed = recovered.sealed
    logger.log(
      .info, "log", "opened",
      [
        "directory": configuration.directory, "partitions": "\(partitions.count)",
        "commits-replayed": "\(replayed)", "next-commit": "\(recovered.nextSequence)",
      ])
    drainNext()
    watchSpace()
    planScrub()
  }

  private func replay(_ commit: ReadCommit, above snapshotSequence: UInt64) throws(LogError) {
    let isNew = commit.header.sequence > snapshotSequence
    try commit.bytes.withBuffer { buffer throws(LogError) in
      try JournalEntry.forEach(in: buffer, header: commit.header) { entry throws(LogError) in
        let bytes = commit.bytes[entry.position..<(entry.position + entry.length)]
        switch entry.kind {
        case .event:
          // A copy, because what the state machine keeps must not hold the whole file's memory.
          if isNew { try stateMachine.apply(bytes.withBuffer { Bytes(copying: $0) }, log: self) }
        case .startOffset:
          guard isNew, entry.length == 8, let log = partitions[PartitionLogID(entry.target)] else { return }
          release(log.advanceStart(to: bytes.withBuffer { $0.number(0, Int64.self) }))
        case .records, .sameRecords:
          try replay(batch: bytes, entry: entry, commit: commit, isNew: isNew)
        }
      }
    }
  }

  private func replay(
    batch bytes: Bytes, entry: JournalEntry, commit: ReadCommit, isNew: Bool
  ) throws(LogError) {
    // The partition may have been deleted by the time of the snapshot.
    guard let log = partitions[PartitionLogID(entry.target)] else {
      // Others may still have its batch.
      if entry.isShared, entry.baseOffset == nil { drain.count(file: commit.fileNumber, length: entry.length) }
      return
    }
    var header: RecordBatchHeader
    var marker: TransactionMarker?
    do throws(RecordBatchError) {
      header = try RecordBatchHeader(bytes)
      header.baseOffset = entry.baseOffset ?? header.baseOffset
      if header.isControl { marker = try TransactionMarker(bytes, header: header) }
    } catch {
      throw LogError(.corruption, "commit \(commit.header.sequence), entry at byte \(entry.position): \(error)")
    }
    let reference = BatchReference(
      baseOffset: header.baseOffset, maxTimestamp: header.maxTimestamp.milliseconds, file: commit.fileNumber,
      position: UInt32(commit.position + entry.position), length: UInt32(entry.length),
      lastOffsetDelta: header.lastOffsetDelta, leaderEpoch: header.leaderEpoch, sharing: entry.sharing)
    if isNew {
      guard header.baseOffset == log.nextOffset else {
        throw LogError(
          .corruption,
          "commit \(commit.header.sequence): partition \(log.id) goes on at \(header.baseOffset), not \(log.nextOffset)"
        )
      }
      log.appended(
        header, at: reference, leaderEpoch: header.leaderEpoch, now: steadyClock.time(at: reactor.now), marker: marker)
    } else if reference.nextOffset > log.startOffset {
      log.recent.append(reference)
    }
    drain.touched(log, file: commit.fileNumber, length: entry.baseOffset == nil ? entry.length : 0)
  }

  /// Puts a partition back as a snapshot describes it.
  func restorePartition(_ partition: SnapshotPartition) {
    let log = createPartition(partition.id)
    log.startOffset = partition.startOffset
    log.nextOffset = partition.nextOffset
    log.size = partition.size
    log.compactedTo = partition.compactedTo
    log.epochs = partition.epochs
    log.extents = partition.extents
    for extent in partition.extents { use(extent) }
    for (id, state) in partition.producers { log.producers[id] = state }
    log.transactions = partition.transactions
  }

  private static let closed = LogError(.stopped, "the log is closed")

  /// Writes everything out and lets go of the directory. `done` follows with what went wrong, if anything.
  ///
  /// What waits for room in the journal is refused, as is everything appended from now on.
  public func close(_ done: @escaping (LogError?) -> Void) {
    drain.isClosing = true
    drain.retryTimer?.cancel()
    drain.snapshotTimer?.cancel()
    drain.reclaimTimer?.cancel()
    scrubbing.timer?.cancel()
    stopCleaning()
    let refused = waiting
    waiting = Deque()
    for index in 0..<refused.count { refused[index].completion(.failure(LogStore.closed)) }
    // A drain under way ends first, so that the snapshot names its segment.
    jobs.whenIdle { [self] in
      if let failure = journal.failure { return letGo(failure, done) }
      takeSnapshot { [self] in
        journal.close { [self] error in
          jobs.whenIdle { [self] in letGo(error, done) }
        }
      }
    }
  }

  private func letGo(_ error: LogError?, _ done: (LogError?) -> Void) {
    drain.isClosed = true
    scratch.close()
    lock?.release()
    lock = nil
    done(error)
  }

  /// Whether what is written is encrypted.
  public var isEncrypted: Bool { fileSystem is EncryptedFileSystem }
  /// Figures of the journal so far.
  public var journalFigures: JournalFigures { journal.figures }
  /// Bytes of recent batches held in memory.
  public var hotTailSize: Int { journal.hotTail.size }
}
