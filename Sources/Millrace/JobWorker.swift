// JobWorker: a program of its own that runs a stream job of a server, through the socket in the server's data directory.

import MillraceBase
import MillraceConnectors
import MillraceDataflow
import MillraceIO
import Synchronization

/// Runs a job in this process, on a server that runs in another one.
///
///     let job = DataStream.topic("lines").flatMap(Words()).keyBy { $0 }.count(name: "words").to(topic: "counts")
///       .job(named: "word-count")
///     try await JobWorker(job, directory: "data").run()
///
/// Each step's outputs, state and positions reach the server as one commit, which it makes durable or not at all. So this
/// process may end at any moment, by a signal or a trap, without harm to the server or to what was counted: started
/// again, the job goes on where its last commit stands. A second worker of the same job takes over from the first, which
/// ends with `.fenced`. The data directory is not opened, only the socket in it, by the server's user.
public final class JobWorker: Sendable {
  /// How a worker behaves towards its server.
  public struct Configuration: Sendable {
    /// How long a server that has gone away may be missing, as while it is started again; nil for ever. It is not waited for when
    /// it is not there to begin with.
    public var reconnectTimeout: Duration?
    /// A file that `millrace job savepoint` has written: a job without a state begins with that one, also one of another name. It
    /// is `.corruptState` when it holds state of an operator that the job does not have. A job that has begun goes on where
    /// it was, so that the name may stay here.
    public var savepoint: String?
    /// Receives what operators should know; nothing is logged unless set.
    public var logger = Logger.silent

    /// The defaults.
    public init() {}
  }

  private struct Shared {
    var runner: JobRunner?
    var stopRequested = false
    var hasBegun = false
  }

  /// The job.
  public let job: JobDefinition
  /// The server's data directory.
  public let directory: String
  private let options: JobOptions
  private let configuration: Configuration
  private let shared = Mutex(Shared())
  /// Wakes whoever waits between two attempts.
  private let wake = ThreadSignal()

  private static let shortestPause = Duration.milliseconds(20)
  private static let longestPause = Duration.seconds(1)

  /// A worker that does not run yet.
  /// - Parameter directory: of the server, as `millrace serve --data` names it.
  public init(
    _ job: JobDefinition, directory: String, options: JobOptions = JobOptions(),
    configuration: Configuration = Configuration()
  ) {
    self.job = job
    self.directory = directory
    self.options = options
    self.configuration = configuration
  }

  /// The figures of the present run, as of its last step.
  public var figures: JobFigures { shared.withLock { $0.runner }?.figures ?? JobFigures() }

  /// Where the job stands; `.recovering` also while the server is away.
  public var state: JobRunner.State { shared.withLock { $0.runner }?.state ?? .recovering }

  /// Asks the job to stop after the step it is in; ``run()`` then returns. Any thread may call.
  public func stop() {
    let runner = shared.withLock { shared in
      shared.stopRequested = true
      return shared.runner
    }
    runner?.stop()
    wake.locked { wake.signal() }
  }

  /// Joins the server and runs the job, until it is stopped, its inputs have ended, or it fails. Called once. Cancelling the
  /// task stops it as ``stop()`` does.
  ///
  /// A server that goes away is waited for. What was handed over and not told to be durable is then found out by
  /// recovering, as after a crash.
  /// - Throws: `.noServer`; `.fenced` once another worker runs the job; `.stopped` when `millrace job stop` has stopped it, also
  ///   earlier; what else the job fails with.
  public func run() async throws(JobError) {
    let isFirst = shared.withLock { shared in
      defer { shared.hasBegun = true }
      return !shared.hasBegun
    }
    precondition(isFirst, "the worker of job \(job.name) was run twice")
    let outcome = await withTaskCancellationHandler {
      await EmbeddedBroker.onThread("millrace-worker") { .success(self.supervise()) }
    } onCancel: {
      stop()
    }
    switch outcome {
    case .success(let result): try result.get()
    case .failure(let error): throw JobError(.sourceFailed, error.reason)
    }
  }

  // MARK: The thread

  /// Runs the job, over and over while its server comes and goes.
  private func supervise() -> Result<Void, JobError> {
    let host = WorkerHost(
      directory: directory, savepoint: configuration.savepoint,
      onStop: { [weak self] in self?.shared.withLock { $0.runner }?.stop() })
    defer { host.disconnect() }
    var lostAt: MonotonicTime?
    var pause = JobWorker.shortestPause
    while !mustStop {
      do throws(JobError) {
        try host.connect()
        try runOnce(host)
        return .success(())
      } catch {
        guard mayRetry(error, lostAt: lostAt) else { return .failure(error) }
        configuration.logger.log(
          .warning, "worker", "the server is away", ["job": job.name, "reason": error.reason])
        if error.code != .noServer {
          lostAt = .now
          pause = JobWorker.shortestPause
        }
      }
      wait(pause)
      pause = min(pause * 2, JobWorker.longestPause)
    }
    return .success(())
  }

  private var mustStop: Bool { shared.withLock { $0.stopRequested } }

  private func mayRetry(_ error: JobError, lostAt: MonotonicTime?) -> Bool {
    switch error.code {
    case .closed: true
    case .noServer:
      lostAt.map { lost in configuration.reconnectTimeout.map { MonotonicTime.now - lost < $0 } ?? true } ?? false
    default: false
    }
  }

  private func runOnce(_ host: WorkerHost) throws(JobError) {
    let runner = JobRunner(job, host: host, options: options)
    let stopRequested = shared.withLock { shared in
      shared.runner = runner
      return shared.stopRequested
    }
    runner.start()
    if stopRequested { runner.stop() }
    runner.join()
    switch runner.state {
    case .failed(let error): throw error
    case .stopped where host.isStopped && !mustStop:
      throw JobError(.stopped, "job \(job.name) was stopped; `millrace job resume \(job.name)` lets it run again")
    case .recovering, .running, .stopped, .finished: return
    }
  }

  private func wait(_ pause: Duration) {
    let deadline = MonotonicTime.now + pause
    wake.locked {
      while !mustStop, wake.wait(until: deadline) {}
    }
  }
}
