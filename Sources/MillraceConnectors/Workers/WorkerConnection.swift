// WorkerConnection: one worker or operator: frames in, requests to the broker, answers out as they are ready.

import MillraceBase
import MillraceBroker
import MillraceDataflow
import MillraceIO
import MillraceModel

/// One connection to a ``WorkerServer``.
final class WorkerConnection: ConnectionHandler {
  /// What a worker runs here.
  struct Run {
    var job: String
    var epoch: Int64
  }

  private let server: WorkerServer
  private let connection: any Connection
  /// The worker's process, as it says.
  private(set) var processID: UInt32 = 0
  private(set) var run: Run?
  /// The job that was asked for, whether or not its run has begun.
  private var job: String?
  private(set) var positions = JobPositions()

  private var hasGreeted = false
  private var isOver = false
  private var isReading = true
  /// Requests that have no answer yet, but for a read that waits.
  private var waiting = 0
  private var commitBytes = 0
  /// The read that waits.
  private var read: (number: UInt32, wait: FetchWait?, timer: Timer?)?
  /// Position that the next read begins with, so that all get their turn.
  private var turn = 0

  /// When input came last, and whether some is left over; when output was taken last, and what was unsent then.
  private var inputAt: MonotonicTime
  private var hasInput = false
  private var outputAt: MonotonicTime
  private var unsent = 0

  /// Requests that may wait for their answers before no more are read.
  private static let mostWaiting = 16
  /// The same, in bytes of answers that were not taken.
  private static let mostUnsent = 8 << 20

  init(server: WorkerServer, connection: any Connection) {
    self.server = server
    self.connection = connection
    inputAt = server.broker.reactor.now
    outputAt = inputAt
  }

  private var broker: Broker { server.broker }

  /// Whether the worker has to be told to stop.
  private var isStopping: Bool { run.map { broker.isStopped(job: $0.job) } ?? false }

  // MARK: Life

  /// Whether a frame has not come on, or output was not taken, for so long.
  func standsStill(at now: MonotonicTime, for patience: Duration) -> Bool {
    let pending = connection.pendingWriteBytes
    if pending == 0 || pending < unsent { outputAt = now }
    unsent = pending
    if pending > 0, now - outputAt >= patience { return true }
    return (hasInput || !hasGreeted) && isReading && now - inputAt >= patience
  }

  /// Drops the connection.
  func close() {
    isOver = true
    connection.close()
  }

  /// Closes once what was answered has been sent.
  func finish() {
    guard !isOver else { return }
    endRead()
    isOver = true
    connection.closeAfterWriting()
  }

  func connectionClosed(_ error: IOError?) {
    isOver = true
    if let run { broker.giveBackMessages(job: run.job, epoch: run.epoch) }
    cancelRead()
    server.closed(self)
  }

  func connectionDrained() { pushBack() }

  /// Stops reading while too much waits for answers, or answers for being taken.
  private func pushBack() {
    guard !isOver else { return }
    let isFull =
      waiting >= WorkerConnection.mostWaiting || commitBytes > broker.largestUnit
      || connection.pendingWriteBytes > WorkerConnection.mostUnsent
    guard isFull == isReading else { return }
    isReading = !isFull
    if isReading { inputAt = broker.reactor.now }
    connection.setReading(isReading)
  }

  // MARK: Requests

  /// Most bytes of the next frame.
  private var limit: Int {
    hasGreeted
      ? max(WorkerProtocol.largestRequest, broker.largestUnit + WorkerProtocol.commitOverhead)
      : WorkerProtocol.largestGreeting
  }

  func connectionReceived(_ input: inout InputBuffer) {
    inputAt = broker.reactor.now
    while !isOver, isReading, let announced = input.peekInt32() {
      guard announced >= 5, Int(announced) <= limit else { return refuseAll("a frame of \(announced) bytes") }
      guard input.count >= Int(announced) + 4 else {
        input.expect(Int(announced) + 4)
        break
      }
      _ = input.take(4)
      dispatch(input.take(Int(announced)))
      pushBack()
    }
    hasInput = input.count > 0
  }

  /// The worker speaks another language: there is nobody to be answered.
  private func refuseAll(_ reason: String) {
    server.logger.log(
      .warning, "workers", "a connection is ended, because its peer does not keep to the protocol",
      ["reason": reason, "process": "\(processID)"])
    close()
  }

  private func dispatch(_ frame: Bytes) {
    let number: UInt32
    let request: WorkerRequest
    do throws(DecodingError) {
      var reader = ByteReader(frame)
      number = try reader.uint32()
      request = try WorkerRequest(from: &reader)
    } catch {
      return refuseAll(error.description)
    }
    guard hasGreeted else {
      guard case .hello(let version, let process) = request else { return refuseAll("the greeting is missing") }
      return greet(number, version, process)
    }
    handle(request, number, size: frame.count)
  }

  private func greet(_ number: UInt32, _ version: UInt16, _ process: UInt32) {
    guard version == WorkerProtocol.version else {
      let reason = "this server speaks version \(WorkerProtocol.version) of the workers' protocol, not \(version)"
      answer(number, .refused(JobError(.invalidJob, reason)))
      return finish()
    }
    hasGreeted = true
    processID = process
    answer(number, .hello(version: version, largestCommit: UInt64(broker.largestUnit)))
  }

  private func handle(_ request: WorkerRequest, _ number: UInt32, size: Int) {
    switch request {
    case .hello: refuseAll("a second greeting")
    case .open(let job, let owner, let mayTakeOver): open(number, job, owner, mayTakeOver)
    case .state(let job, let offset): readState(number, job, offset)
    case .partitionCount(let topic):
      let answered = promise(number)
      broker.countPartitions(ofInput: topic) { result in
        answered(WorkerConnection.answer(result) { .partitionCount(UInt32($0)) })
      }
    case .checkQueue(let queue):
      answer(number, WorkerConnection.answer(broker.check(queue: queue)) { .done })
    case .openQueue(let queue): openQueue(number, queue)
    case .takeMessages(let queue, let maxBytes): takeMessages(number, queue, Int(maxBytes))
    case .read(let positions, let maxBytes, let wait): read(number, positions, Int(maxBytes), .milliseconds(wait))
    case .commit(let commit): submit(number, commit, size: size)
    case .report(let report): if let run { broker.setFigures(report, ofJob: run.job, epoch: run.epoch) }
    case .interrupt: endRead()
    case .listJobs(let after): answer(number, server.list(after: after))
    case .showJob(let job): answer(number, server.show(job))
    case .stopJob(let job, let isForced): server.stop(job, isForced: isForced, promise(number))
    case .resumeJob(let job): server.resume(job, promise(number))
    case .endOffsets(let positions):
      answer(number, .endOffsets(positions.map { server.endOffset($0.topic, $0.partition) }))
    }
  }

  private func answer(_ number: UInt32, _ answer: WorkerAnswer) {
    guard !isOver else { return }
    let frame = WorkerFrame(
      number: number, isStopping: isStopping, partitionAdditions: broker.partitionAdditions, answer: answer)
    connection.write(frame.encoded())
  }

  /// Counts a request until it is answered.
  private func promise(_ number: UInt32) -> (WorkerAnswer) -> Void {
    waiting += 1
    return { [self] given in
      waiting -= 1
      answer(number, given)
      pushBack()
    }
  }

  private static func answer<Value>(
    _ result: Result<Value, JobError>, _ body: (Value) -> WorkerAnswer
  ) -> WorkerAnswer {
    switch result {
    case .success(let value): body(value)
    case .failure(let error): .refused(error)
    }
  }

  // MARK: A run

  private func open(_ number: UInt32, _ job: String, _ owner: UInt64, _ mayTakeOver: Bool) {
    guard self.job == nil || self.job == job else {
      return answer(number, .refused(JobError(.invalidJob, "the connection runs job \(self.job ?? "") already")))
    }
    guard owner != 0 else { return answer(number, .refused(JobError(.invalidJob, "a worker's number is not 0"))) }
    self.job = job
    run = nil
    positions = JobPositions()
    let answered = promise(number)
    broker.startJob(job, owner: owner, mayTakeOver: mayTakeOver) { [self] result in
      switch result {
      case .success(let started):
        run = Run(job: job, epoch: started.epoch)
        server.logger.log(
          .info, "workers", "worker joined",
          ["job": job, "epoch": "\(started.epoch)", "process": "\(processID)"])
        answered(
          .opened(
            epoch: started.epoch, start: started.stateLog.startOffset, end: started.stateLog.highWatermark))
      case .failure(let error): answered(.refused(JobError(error, or: .commitFailed)))
      }
    }
  }

  private func readState(_ number: UInt32, _ job: String, _ offset: Offset) {
    guard let log = broker.stateLog(ofJob: job) else { return answer(number, WorkerServer.unknown(job)) }
    guard offset >= log.startOffset else {
      return answer(number, .state([], start: log.startOffset, end: log.highWatermark))
    }
    let answered = promise(number)
    let target = FetchTarget(partition: log, offset: offset, limit: WorkerProtocol.readBytes)
    broker.fetch([target], minimum: 0, limit: WorkerProtocol.readBytes, wait: .zero) { results in
      if let error = results[0].error { return answered(.refused(JobError(error, or: .corruptState))) }
      answered(.state(results[0].batches, start: log.startOffset, end: log.highWatermark))
    }
  }

  private func read(_ number: UInt32, _ wanted: [InputPosition], _ maxBytes: Int, _ wait: Duration) {
    endRead()
    guard broker.isOpen else { return answer(number, .refused(.brokerClosed)) }
    // A worker without input would not notice otherwise that another one has taken over.
    if let run, let error = broker.fence(ofJob: run.job, epoch: run.epoch) {
      return answer(number, .refused(JobError(error, or: .commitFailed)))
    }
    // A read of a run's beginning says where its state has left off.
    positions.begin(wanted)
    let mayWait = !isStopping && !(run.map { broker.hasMessages(job: $0.job, epoch: $0.epoch) } ?? false)
    let bounded = mayWait ? min(wait, WorkerProtocol.longestWait) : .zero
    read = (number, nil, nil)
    guard !wanted.isEmpty else {
      read?.timer = broker.reactor.schedule(after: bounded) { [weak self] in self?.endRead() }
      return
    }
    turn = (turn + 1) % wanted.count
    let limit = max(1, min(maxBytes, WorkerProtocol.readBytes))
    let pending = broker.readInputs(wanted, first: turn, maxBytes: limit, wait: bounded) { [weak self] result in
      guard let self, read?.number == number else { return }
      read = nil
      answer(number, WorkerConnection.answer(result) { .batches($0) })
      pushBack()
    }
    if read?.number == number { read?.wait = pending }
  }

  private func openQueue(_ number: UInt32, _ queue: String) {
    guard let run else { return answer(number, .refused(JobError(.fenced, "this connection runs no job"))) }
    let result = broker.jobAnswer { (broker) throws(BrokerError) in
      try broker.openQueue(queue, job: run.job, epoch: run.epoch) { [weak self] in self?.endRead() }
    }
    answer(number, WorkerConnection.answer(result) { .done })
  }

  private func takeMessages(_ number: UInt32, _ queue: String, _ maxBytes: Int) {
    guard broker.isOpen else { return answer(number, .refused(.brokerClosed)) }
    guard let run else { return answer(number, .refused(JobError(.fenced, "this connection runs no job"))) }
    let limit = max(1, min(maxBytes, WorkerProtocol.readBytes))
    let result = broker.jobAnswer { (broker) throws(BrokerError) in
      try broker.takeMessages(queue, job: run.job, epoch: run.epoch, maxBytes: limit)
    }
    answer(number, WorkerConnection.answer(result) { $0.map { .messages($0.bytes, through: $0.through) } ?? .done })
  }

  /// Answers the read that waits with nothing.
  private func endRead() {
    guard let number = read?.number else { return }
    cancelRead()
    answer(number, .batches([]))
  }

  private func cancelRead() {
    if let wait = read?.wait { broker.cancel(wait) }
    read?.timer?.cancel()
    read = nil
  }

  /// The worker is told with the next answer; one that waits comes at once.
  func jobStops() { endRead() }

  private func submit(_ number: UInt32, _ commit: StepCommit, size: Int) {
    guard commit.job == run?.job else {
      return answer(number, .refused(JobError(.fenced, "this connection does not run job \(commit.job)")))
    }
    let step = JobStep(commit)
    commitBytes += size
    let answered = promise(number)
    broker.commitStep(step, job: commit.job, epoch: commit.epoch) { [self] result in
      commitBytes -= size
      switch result {
      case .success(let offset):
        // Positions are a commit's first records.
        if let first = commit.state.first { positions.take(first) }
        answered(.committed(stateLogOffset: offset))
      case .failure(let error): answered(.refused(JobError(error, or: .commitFailed)))
      }
    }
  }
}
