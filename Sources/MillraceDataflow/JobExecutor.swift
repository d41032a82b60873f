// JobExecutor: one run of a job: recovers its state, then makes steps of its input, each ended by one atomic commit.
//
// Invariants:
// 1. Everything a step changed (outputs, state, positions) is in that step's commit and in no other.
// 2. Commits are submitted in the order of their steps; after an error the executor is not used any more, because its
//    memory is ahead of what is durable.
// 3. What an operator sees depends only on the state and the records read, so that a run that recovers at a commit goes
//    on as if it had never stopped.
// 4. A step ends at the border of a batch, before its commit becomes larger than the host allows, as far as that can be
//    foreseen; what one batch leads to is not known before it has been run. A step of several batches that turns out too
//    large is made again, batch by batch, by an executor that recovers (JobRunner).

import MillraceBase
import MillraceModel

/// Runs a job's steps on the caller's thread. One owner.
public final class JobExecutor {
  /// What a call of ``turn()`` did.
  public enum Turn: Sendable {
    /// A step was handed over, or a commit became durable.
    case progress
    /// There was nothing to read within the time.
    case idle
    /// All inputs have ended and everything is durable.
    case finished
  }

  private struct InFlight {
    let ticket: CommitTicket
    let number: UInt64
    let submitted: MonotonicTime
  }

  private let name: String
  private let host: any JobHost
  private let options: JobOptions
  private let pipelines: [BoundPipeline]
  private let graph: JobGraph
  private var inputs: JobInputs
  private var epoch: Int64 = -1
  private var rounds = SweepRounds()
  private var inFlight: [InFlight] = []
  private var commitNumber: UInt64 = 0
  /// Late values of the executors before this one.
  private let lateBefore: UInt64
  /// Read, and not run yet.
  private var pending = Deque<JobInputs.Batch>()
  /// Batches of the step that is being made.
  public private(set) var batchesInStep = 0
  /// Steps that still have to be made of one batch each.
  private var singleBatchSteps: Int
  /// The run's figures so far.
  public private(set) var figures: JobFigures
  /// The figures when the last commit was handed over.
  public private(set) var figuresAtCommit: JobFigures

  /// Binds the job to `host` and recovers its state: fences every other run of it.
  /// - Parameters:
  ///   - figures: of the executor before this one, to go on counting.
  ///   - singleBatchSteps: how many steps are made of one batch each before steps are as large as `options` say.
  /// - Throws: `.invalidJob`, `.unknownTopic`, `.corruptState`, and what the host throws.
  public init(
    _ job: JobDefinition, host: any JobHost, options: JobOptions = JobOptions(), figures: JobFigures = JobFigures(),
    singleBatchSteps: Int = 0
  ) throws(JobError) {
    self.figures = figures
    figuresAtCommit = figures
    lateBefore = figures.lateRecords
    self.singleBatchSteps = singleBatchSteps
    name = job.name
    self.host = host
    self.options = options
    var graph = JobGraph { (topic: String) throws(JobError) in try host.partitionCount(topic: topic) }
    var pipelines: [BoundPipeline] = []
    for pipeline in job.pipelines { pipelines.append(try pipeline.bind(&graph)) }
    guard !graph.inputs.isEmpty else { throw JobError(.invalidJob, "the job \"\(job.name)\" reads nothing") }
    self.pipelines = pipelines
    self.graph = graph
    let recovered = try StateRecovery.recover(job: job.name, host: host, states: graph.states)
    epoch = recovered.epoch
    inputs = try JobInputs(graph.inputs, host: host, positions: recovered.positions)
    for state in graph.states { state.recovered() }
    for clock in graph.clocks { clock.recover() }
    self.figures.stateKeys = graph.states.reduce(0) { $0 + $1.count }
  }

  /// Reads what is there, makes one step of it and hands its commit over; or waits until an older commit is durable.
  public func turn() throws(JobError) -> Turn {
    if pending.isEmpty { try read(wait: waitForInput()) }
    let hasMoved = graph.usesEventTime && lookAtTime()
    guard !pending.isEmpty else {
      if hasMoved {
        for pipeline in pipelines { pipeline.advance() }
        try commit()
        return .progress
      }
      if !inFlight.isEmpty {
        try settle()
        return .progress
      }
      return inputs.areFinished ? .finished : .idle
    }
    let begun = options.clock()
    var took = try runPending()
    var bytes = took
    while pending.isEmpty, !isFull, took * 2 >= options.readBytes, bytes < options.stepBytes,
      options.clock() - begun < options.commitInterval
    {
      try read(wait: .zero)
      took = try runPending()
      bytes += took
    }
    try commit()
    return .progress
  }

  /// Sees which partitions are idle, which have ended, and which are new.
  /// - Returns: whether event time has moved without a batch.
  private func lookAtTime() -> Bool {
    let now = options.clock()
    var hasMoved = false
    for clock in graph.clocks {
      clock.now = now
      let before = clock.watermark
      inputs.forEachProgress { clock.look($0) }
      clock.moveOn()
      if clock.watermark > before { hasMoved = true }
    }
    return hasMoved
  }

  /// Waits until everything handed over is durable.
  public func settle() throws(JobError) {
    while !inFlight.isEmpty { try settleOldest() }
  }

  private func waitForInput() -> Duration {
    if inputs.areFinished { return .zero }
    return inFlight.isEmpty && !inputs.haveSources ? options.idleWait : options.briefWait
  }

  private func read(wait: Duration) throws(JobError) {
    for batch in try inputs.read(host: host, maxBytes: options.readBytes, wait: wait) { pending.append(batch) }
  }

  /// Runs the batches that were read through the operators, until the step is full.
  /// - Returns: their bytes.
  private func runPending() throws(JobError) -> Int {
    var bytes = 0
    while !isFull, let batch = pending.popFirst() {
      batchesInStep += 1
      bytes += batch.bytes.count
      try run(batch)
      inputs.pass(batch)
    }
    figures.bytesIn += UInt64(bytes)
    return bytes
  }

  /// Whether the step has to end before another batch. A quarter of what a commit may hold leaves room for the sweep, for
  /// what operators hand on at the step's end, and for a batch that leads to much more than those before it.
  private var isFull: Bool {
    guard batchesInStep > 0 else { return false }
    return singleBatchSteps > 0
      || graph.output.size + graph.states.reduce(0) { $0 + $1.changedSize } >= host.largestCommit / 4
  }

  private func run(_ batch: JobInputs.Batch) throws(JobError) {
    let header = batch.header
    guard !header.isControl else { return }
    let records =
      header.codec == CompressionCodec.none
      ? batch.bytes[RecordBatchHeader.size..<header.totalSize] : try host.decompress(batch.bytes, header)
    let run = InputRun(
      input: batch.input, partition: batch.partition, records: records.buffer, header: header,
      firstOffset: batch.firstOffset)
    for pipeline in pipelines { try pipeline.process(run) }
    extendLifetime(records)
    if graph.usesEventTime {
      graph.observe(run)
      for pipeline in pipelines { pipeline.advance() }
    }
    figures.recordsIn += UInt64(header.recordCount)
  }

  /// Ends the step: emits, writes the changes, sweeps, and hands the commit over.
  private func commit() throws(JobError) {
    let now = options.wallClock()
    graph.output.stepTime = now
    for pipeline in pipelines { pipeline.endStep() }
    figures.recordsOut += UInt64(graph.output.recordCount)
    let outputs = graph.output.take()
    while inFlight.count >= max(1, options.commitsInFlight) { try settleOldest() }
    commitNumber += 1
    var writer = StateLogWriter(timestamp: now)
    let start = writeState(into: &writer)
    figures.stateRecords += UInt64(writer.count)
    let submitted = options.clock()
    let commit = StepCommit(job: name, epoch: epoch, outputs: outputs, state: writer.finish(), stateLogStart: start)
    let size = commit.size
    guard size <= host.largestCommit else {
      throw JobError(
        .stepTooLarge,
        "\(batchesInStep == 1 ? "one batch" : "\(batchesInStep) batches") of input led to \(size) bytes of outputs and state; a commit may have "
          + "\(host.largestCommit)")
    }
    let ticket = try host.submit(commit)
    batchesInStep = 0
    singleBatchSteps = max(0, singleBatchSteps - 1)
    inFlight.append(InFlight(ticket: ticket, number: commitNumber, submitted: submitted))
    figures.steps += 1
    figures.stateKeys = graph.states.reduce(0) { $0 + $1.count }
    figures.lag = inputs.lag
    figures.lateRecords = lateBefore + graph.lateCount
    figuresAtCommit = figures
  }

  /// - Returns: where the state log may start.
  private func writeState(into writer: inout StateLogWriter) -> Offset? {
    let start = rounds.takeStart()
    let begins = rounds.needsRound
    if begins {
      rounds.begin(commit: commitNumber)
      for table in graph.states { table.beginRound() }
    }
    inputs.writePositions(all: begins, into: &writer)
    var quota = SweepRounds.minimumQuota
    for table in graph.states {
      quota += table.changedCount
      table.writeChanges(into: &writer)
    }
    for table in graph.states where quota > 0 {
      quota -= table.sweep(quota, upTo: host.largestCommit / 2, into: &writer)
    }
    if graph.states.allSatisfy(\.roundIsDone) { rounds.complete() }
    return start
  }

  private func settleOldest() throws(JobError) {
    let oldest = inFlight.removeFirst()
    let receipt = try host.wait(oldest.ticket)
    figures.commitLatency.record(receipt.durableAt - oldest.submitted)
    rounds.acknowledged(commit: oldest.number, offset: receipt.stateLogOffset)
  }
}
