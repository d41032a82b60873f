// WorkerShare: one worker's copy of a job, and its part of a round.
//
// A round takes some batches through the whole job. Level by level, with a barrier behind each, every worker runs the stages of the
// level over all batches of the round in their order. At level 0 a batch is decoded by the worker whose own it is. Event time goes on
// by the same notes on every worker, so that behind each batch all of them judge by the same watermark, as a single worker would.

import MillraceBase
import MillraceModel

/// A batch of a round, or a place where event time goes on without one.
struct RoundItem: Sendable {
  let batch: JobInputs.Batch?
  /// The worker that decodes it.
  let owner: Int
}

/// One worker of a job. Used by one thread at a time.
///
/// Safety: `@unchecked Sendable` because the team's barriers order the threads that use it.
final class WorkerShare: @unchecked Sendable {
  let index: Int
  let graph: JobGraph
  private let host: any JobHost
  /// Decompressed batches of the round.
  private var held: [Bytes] = []
  /// What the state may take; nil for no limit.
  private var memory: StateMemory?
  /// Where its time goes.
  var times: StageClock
  /// The state records of the step.
  private var writer = StateLogWriter(timestamp: .none)

  /// Binds the job for one of the team's workers.
  init(
    _ job: JobDefinition, worker index: Int, of team: SharedParts, host: any JobHost, outside: OutsideAccess,
    clock: @escaping @Sendable () -> MonotonicTime
  ) throws(JobError) {
    self.index = index
    self.host = host
    var graph = JobGraph(worker: index, of: team, outside: outside) { (topic: String) throws(JobError) in
      try host.partitionCount(topic: topic)
    } checkQueue: { (queue: String) throws(JobError) in
      try host.checkQueue(queue)
    }
    for pipeline in job.pipelines { try graph.addPipeline(pipeline.bind) }
    self.graph = graph
    times = StageClock(graph.stages.map(\.count), clock: clock)
  }

  // MARK: One worker

  /// Runs one batch through the job, all of which this worker is.
  func run(_ batch: JobInputs.Batch) throws(JobError) {
    let records = try records(of: batch)
    let run = InputRun(batch, records: records.buffer)
    times.beginParts(bytes: batch.bytes.count)
    for (number, pipeline) in graph.stages[0].enumerated() {
      try pipeline.process(run)
      times.endPart(number)
    }
    try graph.failure.check()
    extendLifetime(records)
    guard graph.usesEventTime else { return }
    graph.observe(run)
    try advance()
  }

  /// Lets event time take effect.
  func advance() throws(JobError) {
    for (number, pipeline) in graph.stages[0].enumerated() {
      pipeline.advance()
      times.endPart(number)
    }
    try graph.failure.check()
  }

  private func records(of batch: JobInputs.Batch) throws(JobError) -> Bytes {
    batch.header.codec == CompressionCodec.none
      ? batch.bytes[RecordBatchHeader.size..<batch.header.totalSize] : try host.decompress(batch.bytes, batch.header)
  }

  // MARK: One of several

  /// Begins a round for all workers, none of which is at work.
  func beginRound(of count: Int) { for clock in graph.assignedClocks { clock.beginRound(of: count) } }

  /// Runs the stages of a level over a round.
  func run(_ level: Int, of items: [RoundItem]) {
    guard graph.failure.error == nil else { return }
    times.begin(level)
    defer { times.end() }
    let stages = graph.stages[level]
    for stage in stages { stage.begin() }
    if level == 1 { goOn(items) }
    do throws(JobError) {
      for (number, item) in items.enumerated() {
        if let batch = item.batch {
          var run = InputRun(batch, records: UnsafeRawBufferPointer(start: nil, count: 0))
          run.number = number
          run.isOwn = item.owner == index
          if level == 0, run.isOwn {
            let records = try records(of: batch)
            held.append(records)
            run.records = records.buffer
          }
          times.beginParts(bytes: batch.bytes.count)
          for (number, stage) in stages.enumerated() {
            try stage.process(run)
            times.endPart(number)
          }
        }
        guard level > 0, graph.usesEventTime else { continue }
        for (number, stage) in stages.enumerated() {
          stage.advance()
          times.endPart(number)
        }
      }
    } catch {
      graph.failure.note(error)
    }
  }

  /// Lets event time go on over the round at level 0, where nothing is held back, once all know what the others decoded.
  func goOn(_ items: [RoundItem]) {
    guard graph.usesEventTime else { return }
    for (number, item) in items.enumerated() {
      if let batch = item.batch {
        var run = InputRun(batch, records: UnsafeRawBufferPointer(start: nil, count: 0))
        run.number = number
        graph.observe(run)
      }
      for stage in graph.stages[0] { stage.advance() }
    }
  }

  /// Hands on what the stages of a level held back until the step's end.
  func endStep(_ level: Int) {
    guard graph.failure.error == nil else { return }
    times.begin(level)
    times.beginParts(bytes: nil)
    for (number, stage) in graph.stages[level].enumerated() {
      stage.begin()
      stage.endStep()
      times.endPart(number)
    }
    times.end()
  }

  /// Throws what broke the round or the step.
  func check() throws(JobError) { try graph.failure.check() }

  /// The round is over, and nobody looks at its batches any more.
  func endRound() { held.removeAll(keepingCapacity: true) }

  // MARK: State

  /// Has state beyond `limit` bytes of memory go into files.
  func limitMemory(_ limit: Int) {
    let (host, failure) = (host, graph.failure)
    let memory = StateMemory(
      limit: limit, makeFile: { () throws(JobError) in try host.makeStateFile() }, failed: { failure.note($0) })
    for state in graph.states { state.allowSpilling(into: memory) }
    self.memory = memory
  }

  /// About the bytes of memory that state takes which may go into files; 0 without a limit.
  var stateMemory: Int { memory == nil ? 0 : graph.states.reduce(0) { $0 + $1.memorySize } }
  /// Bytes of files with state.
  var stateFiles: Int { memory == nil ? 0 : graph.states.reduce(0) { $0 + $1.fileSize } }

  /// Puts state into files that memory has no room for.
  /// - Throws: `.stateFileFailed`.
  func relieveMemory() throws(JobError) {
    guard let memory else { return }
    memory.relieve(graph.states)
    try check()
  }

  /// Begins the state records of a step with what is in `writer`.
  func begin(writing writer: StateLogWriter) { self.writer = writer }

  /// Writes what changed and sweeps.
  func writeState(beginsRound: Bool, quota: Int, upTo size: Int) {
    times.beginWriting()
    defer { times.endWriting() }
    // What all workers have is written by one of them.
    var unwritten = StateLogWriter(timestamp: .none)
    if beginsRound { for state in graph.states { state.beginRound() } }
    var quota = quota
    for state in graph.states {
      if state.isShared, index > 0 {
        state.writeChanges(into: &unwritten)
      } else {
        quota += state.changedCount
        state.writeChanges(into: &writer)
      }
    }
    for state in graph.states where quota > 0 && !(state.isShared && index > 0) {
      quota -= state.sweep(quota, upTo: size, into: &writer)
    }
    writer.close()
    memory?.relieve(graph.states)
  }

  /// - Returns: the batches with the step's state records, and how many records they have.
  func takeWritten() -> (batches: [Bytes], count: Int) {
    defer { writer = StateLogWriter(timestamp: .none) }
    return (writer.finish(), writer.count)
  }

  /// About the bytes of what the step has led to so far.
  var changedSize: Int {
    graph.output.size + graph.states.reduce(0) { $0 + $1.changedSize }
      + graph.preparations.reduce(0) { $0 + $1.changedSize() }
  }

  /// Whether something was prepared at a level that goes to other workers when the step ends.
  func hasPrepared(at level: Int) -> Bool { graph.preparations.contains { $0.level == level } }

  /// Whether every key was written in this sweep round.
  var roundIsDone: Bool { graph.states.allSatisfy { $0.roundIsDone || ($0.isShared && index > 0) } }

  /// Keys in the states that are this worker's.
  var keyCount: Int { graph.states.reduce(0) { $0 + ($1.isShared && index > 0 ? 0 : $1.count) } }
}

extension InputRun {
  fileprivate init(_ batch: JobInputs.Batch, records: UnsafeRawBufferPointer) {
    self.init(
      input: batch.input, partition: batch.partition, records: records, header: batch.header,
      firstOffset: batch.firstOffset)
  }
}
