// BrokerJobHost: a broker as the outside of a stream job: topics to read and write, and the job's state log.
//
// The worker thread hands closures to the broker's reactor and waits for their answers. A step needs one hop to read and
// one to commit. Reading takes batches as they lie in the broker's memory; nothing is copied.

import MillraceBase
import MillraceBroker
import MillraceDataflow
import MillraceIO
import MillraceModel
import Synchronization

/// Hosts one job on a broker, a run at a time.
///
/// The broker must be closed before its reactor is stopped; jobs see either as `.closed`. Topics that the job names and
/// that do not exist are made with `num.partitions` when `auto.create.topics.enable` allows it.
public final class BrokerJobHost: JobHost {
  private let broker: ReactorBound<Broker>
  private let reactor: any Reactor
  /// Most bytes of a step: what the broker's log takes as one unit.
  public let largestCommit: Int
  private let mailbox: Mailbox
  private let clock: @Sendable () -> MonotonicTime
  private let tickets = Mutex(Tickets())
  /// The broker's count, as of the last read.
  private let additions: Atomic<UInt64>
  /// The run that was opened.
  private let run = Mutex<(job: String, epoch: Int64)?>(nil)

  private struct Tickets {
    var next: UInt64 = 1
    var open: [UInt64: Slot<CommitReceipt>] = [:]
    /// First position that the next read asks for, so that all get their turn.
    var turn = 0
  }

  /// Bytes of state log read in one go.
  static let recoveryBytes = 4 << 20

  private let scratch: String
  private let isEncrypted: Bool

  /// A host for one run. Call on the broker's reactor, or before it runs.
  /// - Parameter waiting: takes the place of blocking, for a job that runs on the reactor's own thread.
  public init(_ broker: Broker, waiting: (any JobWaiting)? = nil) {
    mailbox = Mailbox(waiting: waiting)
    if let waiting { clock = { waiting.now } } else { clock = { MonotonicTime.now } }
    reactor = broker.reactor
    largestCommit = broker.largestUnit
    scratch = ScratchStateFile.directory(of: broker.dataDirectory)
    isEncrypted = broker.isEncrypted
    additions = Atomic(broker.partitionAdditions)
    self.broker = ReactorBound(broker, on: broker.reactor)
  }

  /// Calls `body` on the reactor; its answer arrives in the result.
  private func ask<Value: Sendable>(_ body: @escaping @Sendable (Broker, Reply<Value>) -> Void) -> Slot<Value> {
    let slot = Slot<Value>()
    let reply = Reply(slot, mailbox)
    let broker = broker
    reactor.submit { body(broker.take(), reply) }
    return slot
  }

  /// A file in the broker's data directory that no restart finds.
  public func makeStateFile() throws(JobError) -> any StateFile {
    try ScratchStateFile(in: scratch, isEncrypted: isEncrypted)
  }

  // MARK: Opening

  /// Changes after topics got more partitions, at the latest with the next read.
  public var partitionAdditions: UInt64 { additions.load(ordering: .relaxed) }

  /// The partitions of a topic, which is made first when it is missing and may be made.
  public func partitionCount(topic: String) throws(JobError) -> Int {
    let slot: Slot<Int> = ask { broker, reply in broker.countPartitions(ofInput: topic) { reply.answer($0) } }
    return try mailbox.wait(for: slot)
  }

  /// Checks that the queue is there, and durable.
  public func checkQueue(_ queue: String) throws(JobError) {
    let slot: Slot<Void> = ask { broker, reply in reply.answer(broker.check(queue: queue)) }
    try mailbox.wait(for: slot)
  }

  /// Starts a run and hands on its state log.
  public func open(job: String, _ body: (Bytes) throws(JobError) -> Void) throws(JobError) -> Int64 {
    let slot: Slot<(epoch: Int64, from: Offset, to: Offset)> = ask { broker, reply in
      broker.startJob(job) { result in
        reply.answer(
          result.map { ($0.epoch, $0.stateLog.startOffset, $0.stateLog.highWatermark) }
            .mapError { JobError($0, or: .commitFailed) })
      }
    }
    let (epoch, start, end) = try mailbox.wait(for: slot)
    run.withLock { $0 = (job, epoch) }
    var offset = start
    var reading = offset < end ? readState(job, from: offset) : nil
    while let read = reading {
      var batches: [Bytes] = []
      let before = offset
      for run in try mailbox.wait(for: read) {
        for (batch, header) in try FetchedInput.split(run) where header.nextOffset > offset {
          batches.append(batch)
          offset = header.nextOffset
        }
      }
      guard offset > before else {
        throw JobError(.corruptState, "the state log of \"\(job)\" has nothing at offset \(before), it ends at \(end)")
      }
      // The broker reads on while the job takes over what is here.
      reading = offset < end ? readState(job, from: offset) : nil
      for batch in batches { try body(batch) }
    }
    return epoch
  }

  private func readState(_ job: String, from offset: Offset) -> Slot<[Bytes]> {
    ask { broker, reply in
      let topic = broker.topic(Broker.stateTopic(ofJob: job))
      let target = FetchTarget(
        partition: topic.flatMap { broker.partition($0, 0) }, offset: offset, limit: BrokerJobHost.recoveryBytes)
      broker.fetch([target], minimum: 0, limit: BrokerJobHost.recoveryBytes, wait: .zero) { results in
        if let error = results[0].error { return reply.answer(.failure(JobError(error, or: .corruptState))) }
        reply.answer(.success(results[0].batches))
      }
    }
  }

  // MARK: Queues

  /// Begins to take messages of a queue.
  public func openQueue(_ queue: String) throws(JobError) {
    guard let (job, epoch) = run.withLock({ $0 }) else { throw JobError(.closed, "no run was opened") }
    let slot: Slot<Void> = ask { [self] broker, reply in
      reply.answer(
        broker.jobAnswer { (broker) throws(BrokerError) in
          try broker.openQueue(queue, job: job, epoch: epoch) { [weak self] in self?.interrupt() }
        })
    }
    try mailbox.wait(for: slot)
  }

  /// Takes messages of a queue.
  public func takeMessages(_ queue: String, maxBytes: Int) throws(JobError) -> TakenMessages? {
    guard let (job, epoch) = run.withLock({ $0 }) else { throw JobError(.closed, "no run was opened") }
    let slot: Slot<TakenMessages?> = ask { broker, reply in
      guard broker.isOpen else { return reply.answer(.failure(.brokerClosed)) }
      reply.answer(
        broker.jobAnswer { (broker) throws(BrokerError) in
          try broker.takeMessages(queue, job: job, epoch: epoch, maxBytes: maxBytes)
            .map { TakenMessages(bytes: $0.bytes, through: $0.through) }
        })
    }
    return try mailbox.wait(for: slot)
  }

  /// Has what was taken and not settled go back.
  public func endRun() {
    guard let (job, epoch) = run.withLock({ $0 }) else { return }
    let broker = broker
    reactor.submit { broker.take().giveBackMessages(job: job, epoch: epoch) }
  }

  // MARK: Reading

  /// Reads batches at the positions, waiting for them: those of committed transactions, and those of none.
  public func read(
    _ positions: [InputPosition], maxBytes: Int, wait: Duration
  ) throws(JobError) -> [InputBatch] {
    let deadline = clock() + wait
    // Without anything to wait for, only an interruption ends the wait early.
    let slot: Slot<[FetchedInput]> = positions.isEmpty ? Slot() : fetch(positions, maxBytes, wait)
    let fetched =
      wait > .zero || positions.isEmpty
      ? try mailbox.wait(for: slot, until: deadline + .milliseconds(positions.isEmpty ? 0 : 1000))
      : try mailbox.wait(for: slot)
    var batches: [InputBatch] = []
    for input in fetched ?? [] { batches += try input.batches(from: positions[input.position].offset) }
    return batches
  }

  private func fetch(_ positions: [InputPosition], _ maxBytes: Int, _ wait: Duration) -> Slot<[FetchedInput]> {
    let first = tickets.withLock { tickets in
      tickets.turn = (tickets.turn + 1) % positions.count
      return tickets.turn
    }
    return ask { [self] broker, reply in
      guard broker.isOpen else { return reply.answer(.failure(.brokerClosed)) }
      // A run without input would not notice otherwise that another one has begun.
      if let run = run.withLock({ $0 }), let error = broker.fence(ofJob: run.job, epoch: run.epoch) {
        return reply.answer(.failure(JobError(error, or: .commitFailed)))
      }
      additions.store(broker.partitionAdditions, ordering: .relaxed)
      broker.readInputs(positions, first: first, maxBytes: maxBytes, wait: wait) { result in
        self.additions.store(broker.partitionAdditions, ordering: .relaxed)
        reply.answer(result)
      }
    }
  }

  /// The records part of a batch, decompressed: at most 64 MiB.
  public func decompress(_ batch: Bytes, _ header: RecordBatchHeader) throws(JobError) -> Bytes {
    try FetchedInput.plainRecords(of: batch, header)
  }

  // MARK: Committing

  /// Hands a step over; what becomes of it ``wait(_:)`` tells.
  public func submit(_ commit: StepCommit) throws(JobError) -> CommitTicket {
    let step = JobStep(commit)
    let job = commit.job
    let epoch = commit.epoch
    let clock = clock
    let slot: Slot<CommitReceipt> = ask { broker, reply in
      broker.commitStep(step, job: job, epoch: epoch) { result in
        reply.answer(
          result.map { CommitReceipt(stateLogOffset: $0, durableAt: clock()) }
            .mapError { JobError($0, or: .commitFailed) })
      }
    }
    return tickets.withLock { tickets in
      let ticket = CommitTicket(number: tickets.next)
      tickets.next += 1
      tickets.open[ticket.number] = slot
      return ticket
    }
  }

  /// Blocks until the step is durable.
  public func wait(_ ticket: CommitTicket) throws(JobError) -> CommitReceipt {
    guard let slot = tickets.withLock({ $0.open.removeValue(forKey: ticket.number) }) else {
      throw JobError(.commitFailed, "no commit \(ticket.number) is open")
    }
    return try mailbox.wait(for: slot)
  }

  /// Keeps the figures with the run, for `millrace stats` and `millrace job show`.
  public func report(_ figures: JobFigures) {
    guard let run = run.withLock({ $0 }) else { return }
    let report = JobReport(figures)
    reactor.submit { [broker] in broker.take().setFigures(report, ofJob: run.job, epoch: run.epoch) }
  }

  /// Makes a read that waits, or the next one, return at once.
  public func interrupt() { mailbox.interrupt() }
}

extension JobStep {
  /// What a commit says, in the broker's terms.
  init(_ commit: StepCommit) {
    self.init(
      outputs: [], state: commit.state, stateStart: commit.stateLogStart,
      settlements: commit.settlements.map { ($0.queue, $0.after, $0.through) })
    for output in commit.outputs {
      switch output.target {
      case .topic(let topic, let partition):
        outputs.append(Output(topic: topic, partition: partition, bytes: output.bytes))
      case .queue(let queue): messages.append(Messages(queue: queue, bytes: output.bytes))
      }
    }
  }
}

extension Broker {
  /// What `body` answers, with the broker's refusal as the job's.
  func jobAnswer<Value>(_ body: (Broker) throws(BrokerError) -> Value) -> Result<Value, JobError> {
    do throws(BrokerError) {
      return .success(try body(self))
    } catch {
      return .failure(JobError(error, or: .sourceFailed))
    }
  }

  /// Whether a job may write a queue.
  func check(queue: String) -> Result<Void, JobError> {
    jobAnswer { (broker) throws(BrokerError) in try broker.checkQueue(ofJob: queue) }
  }
}

extension JobError {
  static let brokerClosed = JobError(.closed, "the broker is closing")

  /// The broker's refusal as the job's; `code` for those that have no meaning of their own to a job.
  init(_ error: BrokerError, or code: Code) {
    let own: Code =
      switch error.code {
      case .fencedJob: .fenced
      case .stoppedJob: .stopped
      case .stopped: .closed
      case .unknownTopicOrPartition, .unknownTopicID, .invalidTopic: .unknownTopic
      case .unknownQueue: .unknownQueue
      case .invalidRequest: .invalidJob
      default: code
      }
    self.init(own, error.reason)
  }
}
