// WorkerHost: a server, reached through the socket in its data directory, as the outside of a stream job.
//
// A request is sent and its answer awaited, but for commits: those are answered while later steps are made. Of an answer to
// a read that was interrupted nothing is used, since every read says where it begins.

import MillraceBase
import MillraceDataflow
import MillraceIO
import MillraceModel
import Synchronization

/// Hosts one job on a server in another process, a run at a time.
///
/// ``connect()`` begins a connection; once that is lost every call is `.closed`, until the next ``connect()``. A run that
/// follows on another one of this value takes over from nobody: when another worker has started the job meanwhile it
/// is `.fenced`.
///
/// Safety: `@unchecked Sendable` because everything mutable belongs to the job's worker thread, save `shared`, which locks,
/// and the atomics.
public final class WorkerHost: JobHost, @unchecked Sendable {
  private struct Shared {
    var socket: WorkerSocket?
    var isInterrupted = false
  }

  private let directory: String
  private let savepoint: String?
  /// The worker's number, the same in all its runs.
  private let owner: UInt64
  private let shared = Mutex(Shared())
  private let additions = Atomic<UInt64>(0)
  private let largest = Atomic<Int>(0)
  private let stopped = Atomic<Bool>(false)
  /// Called on the worker thread when the server says that the job is to stop.
  private let onStop: @Sendable () -> Void

  private var hasOpened = false
  private var receipts: [UInt32: Result<CommitReceipt, JobError>] = [:]
  private var commits: Set<UInt32> = []

  /// A host for one job of the server whose data lie in `directory`. Nothing is opened there but the socket,
  /// and files for state that memory has no room for.
  /// - Parameters:
  ///   - savepoint: a file that a job without a state begins with; a job that has one goes on with that.
  ///   - onStop: called on the worker thread once the server says that the job is to stop.
  public init(
    directory: String, savepoint: String? = nil, onStop: @escaping @Sendable () -> Void = {}
  ) {
    self.directory = directory
    self.savepoint = savepoint
    self.onStop = onStop
    var random = SystemRandomNumberGenerator()
    owner = random.next(upperBound: .max) + 1
  }

  /// Connects to the server, in place of an older connection.
  /// - Throws: `.noServer`, `.invalidJob` when it speaks another version, `.closed`.
  public func connect() throws(JobError) {
    disconnect()
    let socket = try WorkerSocket(directory: directory)
    largest.store(socket.largestCommit, ordering: .relaxed)
    shared.withLock { $0.socket = socket }
  }

  /// Ends the connection. Commits that are not answered may or may not be applied.
  public func disconnect() {
    shared.withLock { $0.socket = nil }
    receipts = [:]
    commits = []
    stopped.store(false, ordering: .relaxed)
  }

  /// Whether the server has said that the job is to stop.
  public var isStopped: Bool { stopped.load(ordering: .relaxed) }

  /// As the server says.
  public var largestCommit: Int { largest.load(ordering: .relaxed) }

  /// As of the server's last answer.
  public var partitionAdditions: UInt64 { additions.load(ordering: .relaxed) }

  private func socket() throws(JobError) -> WorkerSocket {
    guard let socket = shared.withLock({ $0.socket }) else {
      throw JobError(.closed, "there is no connection to the server of \(directory)")
    }
    return socket
  }

  /// Runs `body` with the connection, which is lost with an error that says so.
  private func connected<Value>(_ body: (WorkerSocket) throws(JobError) -> Value) throws(JobError) -> Value {
    let socket = try socket()
    do throws(JobError) {
      return try body(socket)
    } catch {
      if error.code == .closed { disconnect() }
      throw error
    }
  }

  // MARK: Answers

  /// Waits for the answer with this number, keeping those of commits.
  /// - Parameter patience: nil waits for as long as the connection lasts.
  func answer(
    to number: UInt32, _ socket: WorkerSocket, patience: Duration? = WorkerSocket.patience
  ) throws(JobError) -> WorkerAnswer {
    let deadline = patience.map { MonotonicTime.now + $0 }
    while let frame = try socket.receive(until: deadline) {
      note(frame)
      if commits.remove(frame.number) != nil { receipts[frame.number] = WorkerHost.receipt(frame.answer) }
      if frame.number == number { return frame.answer }
    }
    throw JobError(.closed, "the server of \(directory) does not answer")
  }

  private func note(_ frame: WorkerFrame) {
    additions.store(frame.partitionAdditions, ordering: .relaxed)
    if frame.isStopping, !stopped.exchange(true, ordering: .relaxed) { onStop() }
  }

  private static func receipt(_ answer: WorkerAnswer) -> Result<CommitReceipt, JobError> {
    switch answer {
    case .committed(let offset): .success(CommitReceipt(stateLogOffset: offset, durableAt: .now))
    default: .failure(WorkerSocket.unexpected(answer))
    }
  }

  // MARK: JobHost

  /// A file in the server's data directory that no restart finds.
  public func makeStateFile() throws(JobError) -> any StateFile {
    try ScratchStateFile(
      in: ScratchStateFile.directory(of: directory), isEncrypted: ScratchStateFile.isEncrypted(data: directory))
  }

  /// As the server says; it makes the topic when it may.
  public func partitionCount(topic: String) throws(JobError) -> Int {
    try connected { (socket) throws(JobError) in
      let given = try answer(to: socket.send(.partitionCount(topic: topic)), socket)
      guard case .partitionCount(let count) = given else { throw WorkerSocket.unexpected(given) }
      return Int(count)
    }
  }

  /// As the server says.
  public func checkQueue(_ queue: String) throws(JobError) {
    try connected { (socket) throws(JobError) in
      let given = try answer(to: socket.send(.checkQueue(queue)), socket)
      guard case .done = given else { throw WorkerSocket.unexpected(given) }
    }
  }

  /// Begins to take messages of a queue. The server gives back what is not settled when the connection ends, or another run begins.
  public func openQueue(_ queue: String) throws(JobError) {
    try connected { (socket) throws(JobError) in
      let given = try answer(to: socket.send(.openQueue(queue)), socket)
      guard case .done = given else { throw WorkerSocket.unexpected(given) }
    }
  }

  /// Takes messages of a queue.
  public func takeMessages(_ queue: String, maxBytes: Int) throws(JobError) -> TakenMessages? {
    try connected { (socket) throws(JobError) in
      let given = try answer(to: socket.send(.takeMessages(queue, maxBytes: UInt32(clamping: maxBytes))), socket)
      switch given {
      case .done: return nil
      case .messages(let bytes, let through): return TakenMessages(bytes: bytes, through: through)
      default: throw WorkerSocket.unexpected(given)
      }
    }
  }

  /// Starts a run.
  /// - Throws: `.fenced` when another worker has taken over since this one's last run, `.stopped` when an operator has stopped
  ///   the job, what `body` throws, `.closed`.
  public func open(job: String, _ body: (Bytes) throws(JobError) -> Void) throws(JobError) -> Int64 {
    try connected { (socket) throws(JobError) in
      let request = WorkerRequest.open(job: job, owner: owner, mayTakeOver: !hasOpened)
      // Opening waits for the disk, which may be full.
      let given = try answer(to: socket.send(request), socket, patience: nil)
      guard case .opened(let epoch, let start, let end) = given else { throw WorkerSocket.unexpected(given) }
      hasOpened = true
      let offsets = start..<max(start, end)
      var begins = offsets.isEmpty
      if savepoint != nil, !begins { begins = try isPartial(job, offsets, socket) }
      if let savepoint, begins {
        try begin(with: savepoint, job: job, epoch: epoch, end: end, socket, body)
        return epoch
      }
      try forEachState(job, offsets, socket) { (batch) throws(JobError) in
        try body(batch)
        return true
      }
      return epoch
    }
  }

  /// Hands on the batches of a part of the state log, until `body` says false.
  func forEachState(
    _ job: String, _ offsets: Range<Offset>, _ socket: WorkerSocket, _ body: (Bytes) throws(JobError) -> Bool
  ) throws(JobError) {
    var offset = offsets.lowerBound
    while offset < offsets.upperBound {
      let given = try answer(to: socket.send(.state(job: job, from: offset)), socket)
      guard case .state(let runs, _, _) = given else { throw WorkerSocket.unexpected(given) }
      let before = offset
      for run in runs {
        for (batch, header) in try FetchedInput.split(run) where header.nextOffset > offset {
          guard try body(batch) else { return }
          offset = header.nextOffset
        }
      }
      guard offset > before else {
        throw JobError(
          .corruptState,
          "the state log of \"\(job)\" has nothing at offset \(before), it ends at \(offsets.upperBound)")
      }
    }
  }

  /// Reads batches at the positions, waiting for them.
  public func read(
    _ positions: [InputPosition], maxBytes: Int, wait: Duration
  ) throws(JobError) -> [InputBatch] {
    let isInterrupted = shared.withLock { shared in
      defer { shared.isInterrupted = false }
      return shared.isInterrupted
    }
    if isInterrupted { return [] }
    return try connected { (socket) throws(JobError) in
      let milliseconds = UInt32(clamping: wait.inMilliseconds)
      let number = try socket.send(
        .read(positions, maxBytes: UInt32(clamping: maxBytes), waitMilliseconds: milliseconds))
      let given = try answer(to: number, socket, patience: wait + WorkerSocket.patience)
      guard case .batches(let inputs) = given else { throw WorkerSocket.unexpected(given) }
      var batches: [InputBatch] = []
      for input in inputs {
        guard positions.indices.contains(input.position) else {
          throw JobError(.corruptInput, "the server answered for position \(input.position) of \(positions.count)")
        }
        batches += try input.batches(from: positions[input.position].offset)
      }
      return batches
    }
  }

  /// The records part of a batch, decompressed: at most 64 MiB.
  public func decompress(_ batch: Bytes, _ header: RecordBatchHeader) throws(JobError) -> Bytes {
    try FetchedInput.plainRecords(of: batch, header)
  }

  /// Sends a step; what becomes of it ``wait(_:)`` tells.
  public func submit(_ commit: StepCommit) throws(JobError) -> CommitTicket {
    try connected { (socket) throws(JobError) in
      let number = try socket.send(.commit(commit))
      commits.insert(number)
      return CommitTicket(number: UInt64(number))
    }
  }

  /// Blocks until the server says that the step is durable, or the connection is lost.
  public func wait(_ ticket: CommitTicket) throws(JobError) -> CommitReceipt {
    let number = UInt32(truncatingIfNeeded: ticket.number)
    return try connected { (socket) throws(JobError) in
      if receipts[number] == nil {
        guard commits.contains(number) else { throw JobError(.commitFailed, "no commit \(ticket.number) is open") }
        _ = try answer(to: number, socket, patience: nil)
      }
      guard let receipt = receipts.removeValue(forKey: number) else {
        throw JobError(.commitFailed, "no commit \(ticket.number) is open")
      }
      return try receipt.get()
    }
  }

  /// Sends the figures, for `millrace stats` and `millrace job show`.
  public func report(_ figures: JobFigures) {
    guard let socket = shared.withLock({ $0.socket }) else { return }
    // That the connection is gone, the next read or step says.
    do throws(JobError) { _ = try socket.send(.report(JobReport(figures))) } catch {}
  }

  /// Makes a read that waits, or the next one, return soon.
  public func interrupt() {
    let socket = shared.withLock { shared in
      shared.isInterrupted = true
      return shared.socket
    }
    socket?.sendIfQuiet(.interrupt)
  }
}
