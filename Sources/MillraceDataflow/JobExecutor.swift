// JobExecutor: one run of a job: recovers its state, then makes steps of its input, each ended by one atomic commit.
//
// Invariants:
// 1. Everything a step changed (outputs, state, positions) is in that step's commit and in no other.
// 2. Commits are submitted in the order of their steps; after an error the executor is not used any more, because its
//    memory is ahead of what is durable.
// 3. What an operator sees depends only on the state and the records read, so that a run that recovers at a commit goes
//    on as if it had never stopped.

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
  /// The run's figures so far.
  public private(set) var figures = JobFigures()

  /// Binds the job to `host` and recovers its state: fences every other run of it.
  /// - Throws: `.invalidJob`, `.unknownTopic`, `.corruptState`, and what the host throws.
  public init(_ job: JobDefinition, host: any JobHost, options: JobOptions = JobOptions()) throws(JobError) {
    name = job.name
    self.host = host
    self.options = options
    var graph = JobGraph { (topic: String) throws(JobError) in try host.partitionCount(topic: topic) }
    var pipelines: [BoundPipeline] = []
    for pipeline in job.pipelines { pipelines.append(try pipeline.bind(&graph)) }
    guard !graph.inputs.isEmpty else { throw JobError(.invalidJob, "the job \"\(job.name)\" reads nothing") }
    self.pipelines = pipelines
    self.graph = graph
    let recovered = try StateRecovery.recover(job: job.name, host: host, tables: graph.tables)
    epoch = recovered.epoch
    inputs = try JobInputs(graph.inputs, host: host, positions: recovered.positions)
    figures.stateKeys = graph.tables.reduce(0) { $0 + $1.count }
  }

  /// Reads what is there, makes one step of it and hands its commit over; or waits until an older commit is durable.
  public func turn() throws(JobError) -> Turn {
    var took = try read(wait: waitForInput())
    guard took > 0 else {
      if !inFlight.isEmpty {
        try settle()
        return .progress
      }
      return inputs.areFinished ? .finished : .idle
    }
    let begun = options.clock()
    var bytes = took
    while took * 2 >= options.readBytes, bytes < options.stepBytes, options.clock() - begun < options.commitInterval {
      took = try read(wait: .zero)
      bytes += took
    }
    try commit()
    return .progress
  }

  /// Waits until everything handed over is durable.
  public func settle() throws(JobError) {
    while !inFlight.isEmpty { try settleOldest() }
  }

  private func waitForInput() -> Duration {
    if inputs.areFinished { return .zero }
    return inFlight.isEmpty && !inputs.haveSources ? options.idleWait : options.briefWait
  }

  /// Reads once and runs the records through the operators.
  /// - Returns: bytes read.
  private func read(wait: Duration) throws(JobError) -> Int {
    let taken = try inputs.read(host: host, maxBytes: options.readBytes, wait: wait)
    var bytes = 0
    for batch in taken {
      bytes += batch.bytes.count
      try run(batch)
    }
    figures.bytesIn += UInt64(bytes)
    return bytes
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
    let ticket = try host.submit(
      StepCommit(job: name, epoch: epoch, outputs: outputs, state: writer.finish(), stateLogStart: start))
    inFlight.append(InFlight(ticket: ticket, number: commitNumber, submitted: submitted))
    figures.steps += 1
    figures.stateKeys = graph.tables.reduce(0) { $0 + $1.count }
    figures.lag = inputs.lag
  }

  /// - Returns: where the state log may start.
  private func writeState(into writer: inout StateLogWriter) -> Offset? {
    let start = rounds.takeStart()
    let begins = rounds.needsRound
    if begins {
      rounds.begin(commit: commitNumber)
      for table in graph.tables { table.beginRound() }
    }
    inputs.writePositions(all: begins, into: &writer)
    var quota = SweepRounds.minimumQuota
    for table in graph.tables {
      quota += table.changedCount
      table.writeChanges(into: &writer)
    }
    for table in graph.tables where quota > 0 { quota -= table.sweep(quota, into: &writer) }
    if graph.tables.allSatisfy(\.roundIsDone) { rounds.complete() }
    return start
  }

  private func settleOldest() throws(JobError) {
    let oldest = inFlight.removeFirst()
    let receipt = try host.wait(oldest.ticket)
    figures.commitLatency.record(receipt.durableAt - oldest.submitted)
    rounds.acknowledged(commit: oldest.number, offset: receipt.stateLogOffset)
  }
}
