// JobControl: an operator's view of a server's jobs, through the socket in its data directory.

import MillraceBase
import MillraceDataflow
import MillraceModel

/// A connection of an operator. One thread may use it.
public final class JobControl {
  private let socket: WorkerSocket

  /// Connects to the server whose data lie in `directory`.
  /// - Throws: `.noServer`, `.invalidJob` when it speaks another version, `.closed`.
  public init(directory: String) throws(JobError) {
    socket = try WorkerSocket(directory: directory)
  }

  /// All jobs, in the order of their names.
  public func list() throws(JobError) -> [JobEntry] {
    var jobs: [JobEntry] = []
    while true {
      let answer = try socket.ask(.listJobs(after: jobs.last?.name ?? "")).answer
      guard case .jobs(let page, let isMore) = answer else { throw WorkerSocket.unexpected(answer) }
      jobs += page
      if !isMore || page.isEmpty { return jobs }
    }
  }

  /// One job.
  /// - Throws: `.invalidJob` when there is none of the name.
  public func show(_ job: String) throws(JobError) -> JobDetail {
    let answer = try socket.ask(.showJob(job)).answer
    guard case .job(let detail) = answer else { throw WorkerSocket.unexpected(answer) }
    return detail
  }

  /// Stops a job: it may not run until it is resumed, also after a restart of the server. A worker finishes its step.
  /// - Parameters:
  ///   - patience: how long the worker may take; then its run is ended, and what it has not committed is not committed.
  /// - Returns: whether the worker, if any, came to its end by itself.
  /// - Throws: `.invalidJob` when there is none of the name.
  public func stop(_ job: String, patience: Duration) throws(JobError) -> Bool {
    let deadline = MonotonicTime.now + patience
    _ = try socket.ask(.stopJob(job, isForced: false))
    while try show(job).entry.state == .stopping {
      guard MonotonicTime.now < deadline else {
        _ = try socket.ask(.stopJob(job, isForced: true))
        return false
      }
      // What is asked meanwhile costs the server next to nothing.
      _ = try socket.receive(until: .now + .milliseconds(20))
    }
    return true
  }

  /// Lets a job run again.
  /// - Throws: `.invalidJob` when there is none of the name.
  public func resume(_ job: String) throws(JobError) { _ = try socket.ask(.resumeJob(job)) }

  /// Hands on all batches of a job's state log as of one commit, oldest first.
  ///
  /// A log whose beginning is given up meanwhile, because the job runs, is read again from its new beginning: `body` is
  /// called with nil then, and all that it was given before does not count.
  /// - Returns: the number of the job's newest run.
  public func readState(_ job: String, _ body: (Bytes?) throws(JobError) -> Void) throws(JobError) -> Int64 {
    var detail = try show(job)
    var offset = detail.stateStart
    while offset < detail.stateEnd {
      let answer = try socket.ask(.state(job: job, from: offset)).answer
      guard case .state(let runs, let start, _) = answer else { throw WorkerSocket.unexpected(answer) }
      if start > offset {
        try body(nil)
        detail = try show(job)
        offset = detail.stateStart
        continue
      }
      let before = offset
      for run in runs {
        for (batch, header) in try FetchedInput.split(run)
        where header.nextOffset > offset && offset < detail.stateEnd {
          try body(batch)
          offset = header.nextOffset
        }
      }
      guard offset > before else { throw JobError(.corruptState, "the state log of \"\(job)\" ends at \(before)") }
    }
    return detail.entry.epoch
  }

  /// How far a job has come, from its state log: for one that no worker runs.
  /// - Complexity: proportional to the state.
  public func positions(_ job: String) throws(JobError) -> [JobPosition] {
    var positions = JobPositions()
    _ = try readState(job) { batch in
      if let batch { positions.take(batch) } else { positions = JobPositions() }
    }
    let all = positions.all
    let request = WorkerRequest.endOffsets(
      all.map { InputPosition(topic: $0.place.topic, partition: $0.place.partition, offset: $0.offset) })
    let answer = try socket.ask(request).answer
    guard case .endOffsets(let ends) = answer, ends.count == all.count else { throw WorkerSocket.unexpected(answer) }
    return zip(all, ends).map { position, end in
      JobPosition(
        topic: position.place.topic, partition: position.place.partition, offset: position.offset, endOffset: end)
    }
  }
}
