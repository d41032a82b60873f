// WorkerServer: lets workers of stream jobs join a broker, and operators look after jobs, on a socket in the data directory.
//
// Whoever may connect may do everything: the socket belongs to the server's user alone. Everything runs on the broker's
// reactor; what a worker does wrong, or does not do, costs its connection and nothing else:
//
// 1. A connection holds at most two commits and one answer to a read; beyond that nothing is read from it.
// 2. A frame that has begun and does not come on, and an answer that is not taken, end the connection after a time.
// 3. A commit is the broker's once its frame was read whole; a worker that goes away meanwhile does not undo it.

import MillraceBase
import MillraceBroker
import MillraceDataflow
import MillraceIO
import MillraceModel

/// Serves workers and operators for one broker, on the broker's reactor.
public final class WorkerServer {
  let broker: Broker
  let logger: Logger
  private var listeners: [any Listener] = []
  private var connections: [ObjectIdentifier: WorkerConnection] = [:]
  private var isWatching = false
  private var isClosing = false
  /// Connections at a time.
  static let mostConnections = 256
  /// How long a frame or an answer may stand still.
  let patience: Duration

  /// A server that listens nowhere yet.
  /// - Parameter patience: how long a connection may leave a frame unfinished, or an answer untaken.
  public init(broker: Broker, logger: Logger, patience: Duration = .seconds(30)) {
    self.broker = broker
    self.logger = logger
    self.patience = patience
    broker.writesJobs = { [weak self] json in self?.writeJobs(to: &json) ?? json.array { _ in } }
  }

  /// Listens on one more address.
  public func listen(_ address: SocketAddress) throws(IOError) {
    listeners.append(try broker.reactor.listen(address) { [unowned self] in accept($0) })
  }

  /// Open connections.
  public var connectionCount: Int { connections.count }

  private func accept(_ connection: any Connection) -> any ConnectionHandler {
    let handler = WorkerConnection(server: self, connection: connection)
    guard connections.count < WorkerServer.mostConnections, !isClosing else {
      logger.logRarely(
        .warning, "workers", "connection refused", "too many are open", ["connections": "\(connections.count)"],
        now: broker.reactor.now)
      connection.close()
      return handler
    }
    connections[ObjectIdentifier(handler)] = handler
    watch()
    return handler
  }

  func closed(_ connection: WorkerConnection) {
    guard connections.removeValue(forKey: ObjectIdentifier(connection)) != nil, let run = connection.run else { return }
    logger.log(
      .info, "workers", "worker gone",
      ["job": run.job, "epoch": "\(run.epoch)", "process": "\(connection.processID)"])
    // Nothing can follow of a job that was to stop and whose worker is gone.
    if broker.isStopped(job: run.job), broker.epoch(ofJob: run.job) == run.epoch { broker.endRun(ofJob: run.job) }
  }

  /// Ends connections that stand still, a quarter of their time late at most.
  private func watch() {
    guard !isWatching, !connections.isEmpty else { return }
    isWatching = true
    broker.reactor.schedule(after: patience / 4) { [weak self] in
      guard let self else { return }
      isWatching = false
      let now = broker.reactor.now
      for connection in connections.values where connection.standsStill(at: now, for: patience) {
        logger.log(
          .warning, "workers", "a connection that stands still is ended",
          ["job": connection.run?.job ?? "", "process": "\(connection.processID)"])
        connection.close()
      }
      watch()
    }
  }

  /// Stops accepting; connections stay, so that answers under way still leave.
  public func stopAccepting() {
    isClosing = true
    for listener in listeners { listener.close() }
    listeners = []
  }

  /// Closes all connections once what they were answered has been sent.
  public func close() {
    stopAccepting()
    for connection in connections.values { connection.finish() }
  }

  // MARK: Jobs

  /// The connection of the worker that runs a job's newest run.
  private func worker(of job: String) -> WorkerConnection? {
    let epoch = broker.epoch(ofJob: job)
    return connections.values.first { $0.run?.job == job && $0.run?.epoch == epoch }
  }

  private func entry(_ job: String) -> JobEntry {
    let worker = worker(of: job)
    let state: JobEntry.State =
      switch (broker.isStopped(job: job), worker != nil) {
      case (true, let runs): runs ? .stopping : .stopped
      case (false, true): .running
      case (false, false): broker.runsHere(job: job) ? .embedded : .idle
      }
    return JobEntry(
      name: job, state: state, epoch: broker.epoch(ofJob: job), processID: worker?.processID ?? 0)
  }

  func list(after name: String) -> WorkerAnswer {
    let rest = broker.jobNames.drop { $0 <= name }
    return .jobs(
      rest.prefix(WorkerProtocol.jobsInAnswer).map { entry($0) }, isMore: rest.count > WorkerProtocol.jobsInAnswer)
  }

  func show(_ job: String) -> WorkerAnswer {
    guard let log = broker.stateLog(ofJob: job) else { return WorkerServer.unknown(job) }
    let worker = worker(of: job)
    var positions: [JobPosition] = []
    for (place, offset) in worker?.positions.all ?? [] {
      positions.append(
        JobPosition(
          topic: place.topic, partition: place.partition, offset: offset,
          endOffset: endOffset(place.topic, place.partition)))
    }
    return .job(
      JobDetail(
        entry: entry(job), stateStart: log.startOffset, stateEnd: log.highWatermark, stateBytes: log.size,
        positions: positions, report: broker.figures(ofJob: job) as? JobReport))
  }

  func endOffset(_ topic: String, _ partition: Int32) -> Offset {
    broker.topic(topic).flatMap { broker.partition($0, partition) }?.lastStableOffset ?? -1
  }

  /// Writes all jobs with their figures.
  private func writeJobs(to json: inout JSONWriter) {
    json.array { json in
      for job in broker.jobNames {
        json.object { json in
          entry(job).writeMembers(to: &json)
          json.name("stateLogBytes")
          json.number(broker.stateLog(ofJob: job)?.size ?? 0)
          (broker.figures(ofJob: job) as? JobReport)?.writeMembers(to: &json)
        }
      }
    }
  }

  static func unknown(_ job: String) -> WorkerAnswer {
    .refused(JobError(.invalidJob, "there is no job \(job)"))
  }

  func stop(_ job: String, isForced: Bool, _ completion: @escaping (WorkerAnswer) -> Void) {
    broker.setStopped(true, job: job) { [self] error in
      if let error { return completion(.refused(JobError(error, or: .commitFailed))) }
      if let worker = worker(of: job), !isForced {
        worker.jobStops()
      } else {
        broker.endRun(ofJob: job)
        worker(of: job)?.close()
      }
      completion(.done)
    }
  }

  /// Has the newest run of a job that was stopped end: its worker finishes its step; a run in this process ends at once.
  public func endRun(ofStoppedJob job: String) {
    if let worker = worker(of: job) { worker.jobStops() } else { broker.endRun(ofJob: job) }
  }

  func resume(_ job: String, _ completion: @escaping (WorkerAnswer) -> Void) {
    broker.setStopped(false, job: job) { error in
      completion(error.map { .refused(JobError($0, or: .commitFailed)) } ?? .done)
    }
  }
}
