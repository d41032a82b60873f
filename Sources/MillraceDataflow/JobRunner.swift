// JobRunner: runs a job on a worker thread of its own until it is stopped, fails or has read everything.

import MillraceBase
import Synchronization

/// A running job.
public final class JobRunner: Sendable {
  /// Where a job stands.
  public enum State: Equatable, Sendable {
    /// Reads its state log.
    case recovering
    /// Makes steps.
    case running
    /// Was stopped; everything handed over is durable.
    case stopped
    /// All its inputs ended; everything is durable.
    case finished
    /// Ended by an error; a new run recovers.
    case failed(JobError)
  }

  private struct Shared {
    var state = State.recovering
    var figures = JobFigures()
    var stopRequested = false
    var thread: WorkerThread?
  }

  /// The job.
  public let job: JobDefinition
  private let host: any JobHost
  private let options: JobOptions
  private let onChange: @Sendable (State) -> Void
  private let shared = Mutex(Shared())
  private static let reportInterval = Duration.seconds(1)

  /// A job that is not started yet.
  ///
  /// - Parameter onChange: called on the worker thread with each new state.
  public init(
    _ job: JobDefinition, host: any JobHost, options: JobOptions = JobOptions(),
    onChange: @escaping @Sendable (State) -> Void = { _ in }
  ) {
    self.job = job
    self.host = host
    self.options = options
    self.onChange = onChange
  }

  /// Starts the worker thread. Called once.
  public func start() {
    shared.withLock { shared in
      precondition(shared.thread == nil, "the job \(job.name) was started twice")
      shared.thread = WorkerThread { self.run() }
    }
  }

  /// Asks the job to stop after the step it is in. Any thread may call; ``join()`` waits for it.
  public func stop() {
    shared.withLock { $0.stopRequested = true }
    host.interrupt()
  }

  /// Waits until the worker thread has ended. Called once, by one thread.
  public func join() {
    shared.withLock { $0.thread }?.join()
  }

  /// Where the job stands.
  public var state: State { shared.withLock { $0.state } }

  /// The figures as of the last step.
  public var figures: JobFigures { shared.withLock { $0.figures } }

  private var mustStop: Bool { shared.withLock { $0.stopRequested } }

  private func enter(_ state: State) {
    shared.withLock { $0.state = state }
    onChange(state)
  }

  private func run() {
    defer { host.endRun() }
    do throws(JobError) {
      var executor = try JobExecutor(job, host: host, options: options)
      var reported = options.clock()
      executor.refreshFigures()
      report(executor)
      enter(.running)
      while !mustStop {
        do throws(JobError) {
          let turn = try executor.turn()
          if turn == .finished {
            executor.refreshFigures()
            report(executor)
            return enter(.finished)
          }
          publish(executor)
          let now = options.clock()
          if now - reported >= JobRunner.reportInterval {
            reported = now
            host.report(executor.figures)
          }
        } catch {
          executor = try smaller(executor, after: error)
        }
      }
      try executor.settle()
      executor.refreshFigures()
      report(executor)
      enter(.stopped)
    } catch {
      enter(.failed(error))
    }
  }

  private func report(_ executor: JobExecutor) {
    publish(executor)
    host.report(executor.figures)
  }

  private func publish(_ executor: JobExecutor) {
    let figures = executor.figures
    shared.withLock { $0.figures = figures }
  }

  /// An executor that makes the step again, batch by batch, that was too large for a commit. Nothing of it was committed.
  /// - Throws: `error` when it is another one, or when the step was of a single batch.
  private func smaller(_ failed: JobExecutor, after error: JobError) throws(JobError) -> JobExecutor {
    guard error.code == .stepTooLarge, failed.batchesInStep > 1 else { throw error }
    try failed.settle()
    return try JobExecutor(
      job, host: host, options: options, figures: failed.figuresOfCommits, singleBatchSteps: failed.batchesInStep)
  }
}
