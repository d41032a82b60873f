// RunningJob: a stream job on the embedded broker: its state, its figures, its end.

import MillraceBroker
import MillraceConnectors
import MillraceDataflow
import MillraceIO
import Synchronization

/// A stream job that runs on a worker thread of its own.
///
/// It goes on until it is stopped, its inputs end, it fails, or the broker is closed. Started again under the same name,
/// also in another process, it goes on where its last commit stands; a second start while it runs fences the first.
public final class RunningJob: Sendable {
  private struct Shared {
    var runner: JobRunner?
    var stopRequested = false
    var outcome: Result<Void, JobError>?
    var waiting: [CheckedContinuation<Result<Void, JobError>, Never>] = []
  }

  /// The job's name.
  public let name: String
  private let shared = Mutex(Shared())
  private let broker: EmbeddedBroker

  init(_ job: JobDefinition, on broker: EmbeddedBroker) {
    name = job.name
    self.broker = broker
  }

  func start(_ job: JobDefinition, host: BrokerJobHost, options: JobOptions) {
    let runner = JobRunner(job, host: host, options: options) { [self] state in
      switch state {
      case .recovering, .running: break
      case .stopped, .finished: ended(.success(()))
      case .failed(let error): ended(.failure(error))
      }
    }
    let stopRequested = shared.withLock { shared in
      shared.runner = runner
      return shared.stopRequested
    }
    runner.start()
    if stopRequested { runner.stop() }
  }

  /// On the worker thread, which has nothing left to do.
  private func ended(_ outcome: Result<Void, JobError>) {
    // The thread has to be joined by another one. Handed over first, because the broker may stop its threads as soon as
    // the outcome is known.
    broker.parts.background.submit { [self] in
      shared.withLock { $0.runner }?.join()
      broker.forget(self)
    }
    let waiting = shared.withLock { shared in
      shared.outcome = outcome
      defer { shared.waiting = [] }
      return shared.waiting
    }
    for continuation in waiting { continuation.resume(returning: outcome) }
  }

  /// Where the job stands.
  public var state: JobRunner.State { shared.withLock { $0.runner }?.state ?? .recovering }

  /// Its figures as of the last step.
  public var figures: JobFigures { shared.withLock { $0.runner }?.figures ?? JobFigures() }

  /// Asks the job to stop and suspends until everything it handed over is durable.
  /// - Throws: what the job failed with, when it did.
  public func stop() async throws(JobError) {
    let runner = shared.withLock { shared in
      shared.stopRequested = true
      return shared.runner
    }
    runner?.stop()
    try await wait()
  }

  /// Suspends until the job has ended.
  /// - Throws: what the job failed with, when it did.
  public func wait() async throws(JobError) {
    let outcome = await withCheckedContinuation { continuation in
      let known = shared.withLock { shared in
        if shared.outcome == nil { shared.waiting.append(continuation) }
        return shared.outcome
      }
      if let known { continuation.resume(returning: known) }
    }
    try outcome.get()
  }

  /// Stops the job, whatever comes of it.
  func end() async {
    do throws(JobError) { try await stop() } catch {
      // It is told to whoever asks the job.
      return
    }
  }
}

extension EmbeddedBroker {
  /// Starts a stream job on this broker.
  ///
  /// Results, state and positions of each step are committed together, so that the outputs are exactly those of every
  /// input taken once, whatever happens to the process. Topics that are missing are made when
  /// `auto.create.topics.enable` allows it.
  /// - Throws: `.closed`. What the job itself cannot do, ``RunningJob/wait()`` tells.
  @discardableResult
  public func run(_ job: JobDefinition, options: JobOptions = JobOptions()) async throws(MillraceError) -> RunningJob {
    let host: BrokerJobHost = try await ask { broker, answer in answer.give(.success(BrokerJobHost(broker))) }
    let running = RunningJob(job, on: self)
    guard keep(running) else { throw .closed }
    running.start(job, host: host, options: options)
    return running
  }
}
