// Broker+Jobs: stream jobs: starting them, fencing older runs, and committing each step as one unit of the journal.
//
// Invariants:
// 1. From the call of `startJob` on, no step of an earlier run of the job enters the journal.
// 2. Steps of a run enter in the order of their calls; after one that was refused none enters any more.
// 3. A step enters whole, because it is one append unit: outputs, state and the state log's new start.

import MillraceBase
import MillraceLog
import MillraceMetadata
import MillraceModel

/// A run of a job that has begun.
public struct StartedJob {
  /// The run's number, higher than all before it.
  public var epoch: Int64
  /// Where the job's state is kept: one partition of an internal topic. Everything earlier runs committed is durable.
  public var stateLog: PartitionLog
}

/// What one step of a job makes durable.
public struct JobStep: Sendable {
  /// A record batch for a partition of a topic.
  public struct Output: Sendable {
    /// Topic.
    public var topic: String
    /// Partition of the topic.
    public var partition: Int32
    /// One whole batch, magic 2, with a right CRC.
    public var bytes: Bytes

    /// A batch for `partition` of `topic`.
    public init(topic: String, partition: Int32, bytes: Bytes) {
      self.topic = topic
      self.partition = partition
      self.bytes = bytes
    }
  }

  /// Messages for a durable queue of the virtual host `/`.
  public struct Messages: Sendable {
    /// The queue.
    public var queue: String
    /// One whole batch, magic 2, with a right CRC, not compressed: each record is a message, as AMQP's consumers of a topic see
    /// it, but that a key is not looked at.
    public var bytes: Bytes

    /// Messages for `queue`.
    public init(queue: String, bytes: Bytes) {
      self.queue = queue
      self.bytes = bytes
    }
  }

  /// Batches for topics, in order.
  public var outputs: [Output]
  /// Batches for queues, in order.
  public var messages: [Messages]
  /// Batches for the state log, in order; at least one.
  public var state: [Bytes]
  /// When set, the state log's new first offset.
  public var stateStart: Offset?
  /// Of queues that the run reads: of those messages that it took, the ones behind number `after` up to `through` are done.
  public var settlements: [(queue: String, after: UInt64, through: UInt64)]

  /// A step.
  public init(
    outputs: [Output], messages: [Messages] = [], state: [Bytes], stateStart: Offset?,
    settlements: [(queue: String, after: UInt64, through: UInt64)] = []
  ) {
    self.settlements = settlements
    self.outputs = outputs
    self.messages = messages
    self.state = state
    self.stateStart = stateStart
  }
}

/// The newest run of a job: its steps that are not durable yet.
final class JobRun {
  typealias Step = (step: JobStep, completion: (Result<Offset, BrokerError>) -> Void)

  let epoch: Int64
  /// The number of the worker that runs it; 0 when it runs in this process.
  let owner: UInt64
  var failure: BrokerError?
  /// Steps handed to the log.
  var inFlight = 0
  /// What the run reads of queues, by their names.
  var intakes: [String: QueueIntake] = [:]
  /// Another run has taken over: what was taken of queues goes back once it is known which of it is settled.
  private var isOver = false
  /// Steps held back while the log is full, so that one that is refused keeps the later ones out.
  var held = Deque<Step>()
  /// What it has told of itself last.
  var figures: (any Sendable)?
  /// The oldest of them waits for queues to get room, and is tried again.
  var waitsForQueues = false

  init(epoch: Int64, owner: UInt64) {
    self.epoch = epoch
    self.owner = owner
  }

  /// Nothing more is taken of queues. What is in steps on their way may still be settled; the rest goes back behind them.
  func giveBack() {
    isOver = true
    stepEnded()
  }

  /// A step is durable, or never will be.
  func stepEnded() {
    guard isOver, inFlight == 0 else { return }
    for intake in intakes.values.sorted(by: { $0.queue < $1.queue }) { intake.close() }
    intakes = [:]
  }
}

extension Broker {
  /// The internal topic that holds a job's state.
  public static func stateTopic(ofJob name: String) -> String { "__job-\(name)" }

  /// Starts a run of a job: fences every earlier one at once; `completion` follows when that is durable.
  ///
  /// - Parameters:
  ///   - name: letters, digits, `.`, `_` and `-`, at most 243 of them.
  ///   - owner: number of the worker that starts it, the same in all its starts; 0 when it runs in this process.
  ///   - mayTakeOver: false when only the worker that made the newest start may start it: one that comes back.
  /// - Errors: `.invalidRequest` for the name, `.fencedJob` when another start came after, or before and may not be
  ///   followed, `.stoppedJob`, `.storage`, `.stopped`.
  public func startJob(
    _ name: String, owner: UInt64 = 0, mayTakeOver: Bool = true,
    completion: @escaping (Result<StartedJob, BrokerError>) -> Void
  ) {
    let topic = Broker.stateTopic(ofJob: name)
    if name.isEmpty || TopicName.problem(topic) != nil {
      return completion(
        .failure(
          BrokerError(
            .invalidRequest,
            "the job name \"\(name)\" must be 1 to 243 letters, digits, '.', '_' and '-'")))
    }
    guard !metadata.stoppedJobs.contains(name) else { return completion(.failure(stopped(name))) }
    guard mayTakeOver || (jobRuns[name]?.owner ?? metadata.jobOwner(name)) == owner else {
      return completion(.failure(BrokerError(.fencedJob, "another worker has taken over job \(name)")))
    }
    let run = JobRun(epoch: max(metadata.jobEpoch(name), jobRuns[name]?.epoch ?? 0) + 1, owner: owner)
    let earlier = jobRuns.updateValue(run, forKey: name)
    while let step = earlier?.held.popFirst() { step.completion(.failure(fenced(name, earlier?.epoch ?? 0))) }
    earlier?.giveBack()
    if metadata.topics[topic] != nil { return begin(name, run, completion) }
    createTopic(topic, partitions: 1, isInternal: true) { [self] result in
      if case .failure(let error) = result, error.code != .topicExists {
        run.failure = error
        return completion(.failure(error))
      }
      begin(name, run, completion)
    }
  }

  private func begin(_ name: String, _ run: JobRun, _ completion: @escaping (Result<StartedJob, BrokerError>) -> Void) {
    guard jobRuns[name] === run else { return completion(.failure(fenced(name, run.epoch))) }
    let event =
      run.owner == 0
      ? MetadataEvent.jobStarted(name: name, epoch: run.epoch)
      : .jobOwned(name: name, epoch: run.epoch, owner: run.owner)
    record(event) { [self] error in
      if let error {
        run.failure = error
        return completion(.failure(error))
      }
      guard jobRuns[name] === run else { return completion(.failure(fenced(name, run.epoch))) }
      guard let topic = topic(Broker.stateTopic(ofJob: name)), let log = partition(topic, 0) else {
        return completion(.failure(BrokerError(.unknownTopicOrPartition, "the state of job \(name) was deleted")))
      }
      logger.log(.info, "jobs", "job started", ["job": name, "epoch": "\(run.epoch)"])
      completion(.success(StartedJob(epoch: run.epoch, stateLog: log)))
    }
  }

  /// Commits a step of a job.
  ///
  /// `completion` gets the offset of the first state record once all of the step is durable, or the reason why nothing of
  /// it was appended; then the run is over, and later steps of it are refused.
  /// - Errors: `.fencedJob`, `.unknownTopicOrPartition` (an output's), `.unknownQueue`, `.queueTaken`, `.corruptBatch`, `.messageTooLarge` (the step
  ///   exceeds the log's largest unit), `.storage`, `.stopped`.
  public func commitStep(
    _ step: JobStep, job: String, epoch: Int64, completion: @escaping (Result<Offset, BrokerError>) -> Void
  ) {
    guard let run = jobRuns[job], run.epoch == epoch else { return completion(.failure(fenced(job, epoch))) }
    run.held.append((step, completion))
    pump(job, run)
  }

  private func stopped(_ job: String) -> BrokerError {
    BrokerError(.stoppedJob, "job \(job) is stopped; `millrace job resume \(job)` lets it run again")
  }

  /// Why a run of a job may go on no more: another one came after it. Nil for the newest.
  public func fence(ofJob job: String, epoch: Int64) -> BrokerError? {
    self.epoch(ofJob: job) == epoch ? nil : fenced(job, epoch)
  }

  func fenced(_ job: String, _ epoch: Int64) -> BrokerError {
    BrokerError(
      .fencedJob,
      "run \(epoch) of job \(job) is over, \(max(metadata.jobEpoch(job), jobRuns[job]?.epoch ?? 0)) is the newest")
  }

  /// Hands held steps to the log as long as it takes them at once.
  private func pump(_ job: String, _ run: JobRun) {
    while !run.held.isEmpty {
      // While units wait, it is not known whether the last step will be taken; only one may be among them.
      if run.failure == nil, run.inFlight > 0, isCongested { return }
      guard let (step, completion) = run.held.first else { return }
      if let failure = run.failure {
        run.held.removeFirst()
        completion(.failure(failure))
        continue
      }
      do throws(BrokerError) {
        let (messages, mustWait) = try self.messages(of: step)
        if mustWait { return waitForQueues(job, run) }
        try checkSettlements(of: step, run)
        let batches = try self.batches(of: step, job)
        run.held.removeFirst()
        enter(batches, messages, step, job, run, completion)
      } catch {
        run.held.removeFirst()
        run.failure = error
        completion(.failure(error))
      }
    }
  }

  /// Queues refuse what the oldest held step puts there, or do not know yet what they have: it is tried again.
  private func waitForQueues(_ job: String, _ run: JobRun) {
    guard !run.waitsForQueues else { return }
    run.waitsForQueues = true
    reactor.schedule(after: Broker.queuesAgainAfter) { [self] in
      run.waitsForQueues = false
      if !isOpen { run.failure = run.failure ?? BrokerError(.stopped, "the broker is closing") }
      pump(job, run)
    }
  }

  private static let queuesAgainAfter = Duration.milliseconds(20)

  private func enter(
    _ batches: [(log: PartitionLog, bytes: Bytes, header: RecordBatchHeader)], _ messages: StagedMessages?,
    _ step: JobStep, _ job: String, _ run: JobRun, _ completion: @escaping (Result<Offset, BrokerError>) -> Void
  ) {
    // The messages stand in front: batches that are written once name others by their index.
    let staged = messages != nil || !step.settlements.isEmpty ? StagedUnit() : nil
    if let staged {
      if let messages { queues.stage(messages, in: staged) }
      for (queue, _, through) in step.settlements { run.intakes[queue]?.settle(through: through, in: staged) }
    }
    var unit = staged?.appendUnit(metadata: metadata, givesSpaceBack: false) ?? AppendUnit()
    let state = unit.batches.count + batches.count - step.state.count
    unit.batches += batches
    if let start = step.stateStart { unit.startOffsets.append((batches[batches.count - 1].log, start)) }
    run.inFlight += 1
    log.append(unit) { [self] result in
      run.inFlight -= 1
      if let staged { queues.stepEnded(staged, result) }
      if case .success = result {
        for (queue, _, through) in step.settlements { run.intakes[queue]?.settled(through: through) }
      }
      run.stepEnded()
      switch result {
      case .success(let appended):
        for batch in batches { count(batch.log, batch.header) }
        completion(.success(appended[state].baseOffset))
      case .failure(let error):
        let failure = run.failure ?? BrokerError(error)
        run.failure = failure
        completion(.failure(failure))
      }
      pump(job, run)
    }
  }

  /// Those for topics, then those for the state log.
  private func batches(
    of step: JobStep, _ job: String
  ) throws(BrokerError) -> [(log: PartitionLog, bytes: Bytes, header: RecordBatchHeader)] {
    guard !step.state.isEmpty else { throw BrokerError(.invalidRequest, "a step of job \(job) has no state") }
    var batches: [(log: PartitionLog, bytes: Bytes, header: RecordBatchHeader)] = []
    batches.reserveCapacity(step.outputs.count + step.state.count)
    for output in step.outputs {
      guard let topic = metadata.topics[output.topic], !topic.isInternal, let log = partition(topic, output.partition)
      else {
        throw BrokerError(
          .unknownTopicOrPartition, "job \(job) writes to \(output.topic)-\(output.partition), which is not there")
      }
      var bytes = output.bytes
      var header = try Broker.ownHeader(bytes)
      if topic.configs["message.timestamp.type"] == "LogAppendTime" {
        (bytes, header) = Broker.stamped(bytes, header, with: reactor.wallClock)
      }
      batches.append((log, bytes, header))
    }
    guard let topic = topic(Broker.stateTopic(ofJob: job)), let log = partition(topic, 0) else {
      throw BrokerError(.unknownTopicOrPartition, "the state of job \(job) was deleted")
    }
    for batch in step.state { batches.append((log, batch, try Broker.ownHeader(batch))) }
    return batches
  }

  /// The header of a batch that a job built. Its CRC is checked, because the journal's own builds on it.
  static func ownHeader(_ bytes: Bytes) throws(BrokerError) -> RecordBatchHeader {
    do throws(RecordBatchError) {
      let header = try RecordBatchHeader.checked(bytes)
      guard header.totalSize == bytes.count,
        !header.isControl, !header.isTransactional, !header.isIdempotent
      else {
        throw RecordBatchError(
          .malformed, "\(header.recordCount) records, \(header.totalSize) of \(bytes.count) bytes, in a job's batch")
      }
      return header
    } catch {
      throw BrokerError(.corruptBatch, error.description)
    }
  }
}

// Jobs as operators see them.
extension Broker {
  /// The jobs that have a state, in order.
  public var jobNames: [String] { metadata.jobNames.filter { topic(Broker.stateTopic(ofJob: $0)) != nil } }

  /// Whether a job may not run until it is resumed.
  public func isStopped(job: String) -> Bool { metadata.stoppedJobs.contains(job) }

  /// The number of a job's newest run, 0 when it never ran.
  public func epoch(ofJob job: String) -> Int64 { max(metadata.jobEpoch(job), jobRuns[job]?.epoch ?? 0) }

  /// The log of a job's state; nil when it has none.
  public func stateLog(ofJob job: String) -> PartitionLog? {
    topic(Broker.stateTopic(ofJob: job)).flatMap { partition($0, 0) }
  }

  /// Whether a run of the job was started in this process since it began, and no worker has taken over nor a step failed.
  public func runsHere(job: String) -> Bool {
    jobRuns[job].map { $0.owner == 0 && $0.failure == nil } ?? false
  }

  /// Keeps what a job tells of itself while that run is the newest; in what form, those know who host jobs.
  public func setFigures(_ figures: any Sendable, ofJob job: String, epoch: Int64) {
    guard let run = jobRuns[job], run.epoch == epoch else { return }
    run.figures = figures
  }

  /// What the newest run of a job, in this process's life, has told of itself last; nil before that.
  public func figures(ofJob job: String) -> (any Sendable)? { jobRuns[job]?.figures }

  /// Forbids a job to start, or allows it again; `completion` follows when that is durable. A run that goes on may go on
  /// committing until ``endRun(ofJob:)``.
  /// - Errors: `.unknownJob`, `.storage`, `.stopped`.
  public func setStopped(_ isStopped: Bool, job: String, completion: @escaping (BrokerError?) -> Void) {
    guard stateLog(ofJob: job) != nil else {
      return completion(BrokerError(.unknownJob, "there is no job \(job)"))
    }
    guard isStopped != metadata.stoppedJobs.contains(job) else { return completion(nil) }
    record(.jobStopped(name: job, isStopped: isStopped)) { [logger] error in
      if error == nil { logger.log(.info, "jobs", isStopped ? "job stopped" : "job resumed", ["job": job]) }
      completion(error)
    }
  }

  /// Ends the newest run of a stopped job: no step of it enters the journal any more.
  public func endRun(ofJob job: String) {
    guard let run = jobRuns[job], run.failure == nil else { return }
    run.failure = stopped(job)
    run.giveBack()
    pump(job, run)
  }
}
