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
    let arrivals: [Arrival]
  }

  private let name: String
  private let host: any JobHost
  let options: JobOptions
  let workers: [WorkerShare]
  /// Of several workers.
  private let team: WorkerTeam?
  /// Batches are decoded by a worker that their partition decides, because some go into a sink as they come.
  private let keepsPartitions: Bool
  private(set) var inputs: JobInputs
  private var epoch: Int64 = -1
  private var rounds = SweepRounds()
  private var inFlight: [InFlight] = []
  private var commitNumber: UInt64 = 0
  /// What figures need beside what workers count.
  var tally: JobTally
  /// Read, and not run yet.
  private var pending = Deque<JobInputs.Batch>()
  /// What operators wait for outside of the job.
  private let outsideWork: [any OutsideWork]
  private var outside = OutsideNews()
  /// Batches of the step that is being made.
  public private(set) var batchesInStep = 0
  /// Steps that still have to be made of one batch each.
  private var singleBatchSteps: Int
  /// The run's figures so far.
  public internal(set) var figures: JobFigures
  /// The figures when the last commit was handed over.
  public internal(set) var figuresAtCommit: JobFigures

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
    tally = JobTally(job, before: figures)
    self.singleBatchSteps = singleBatchSteps
    name = job.name
    self.host = host
    self.options = options
    guard 1...KeyGroup.count ~= options.workers else {
      throw JobError(.invalidJob, "\(options.workers) workers; 1 to \(KeyGroup.count) share the key groups")
    }
    let shared = SharedParts(workers: options.workers, largeTable: options.largeTable)
    let outside = OutsideAccess(
      wake: { host.interrupt() }, clock: options.clock, startCall: options.startCall)
    var workers: [WorkerShare] = []
    for index in 0..<options.workers {
      workers.append(
        try WorkerShare(job, worker: index, of: shared, host: host, outside: outside, clock: options.clock))
    }
    if let limit = options.stateMemory {
      guard limit > 0 else { throw JobError(.invalidJob, "\(limit) bytes of memory for state") }
      for worker in workers { worker.limitMemory(limit / workers.count) }
    }
    let first = workers[0].graph
    guard !first.inputs.isEmpty else { throw JobError(.invalidJob, "the job \"\(job.name)\" reads nothing") }
    self.workers = workers
    outsideWork = workers.flatMap(\.graph.outsideWork)
    team = workers.count > 1 ? WorkerTeam(count: workers.count) : nil
    keepsPartitions = first.hasHeadSinks
    let recovered = try StateRecovery.recover(job: job.name, host: host, states: workers.map(\.graph.states)) {
      () throws(JobError) in for worker in workers { try worker.relieveMemory() }
    }
    epoch = recovered.epoch
    inputs = try JobInputs(first.inputs, host: host, positions: recovered.positions)
    for worker in workers {
      for state in worker.graph.states { state.recovered() }
      for clock in worker.graph.clocks { clock.recover() }
    }
    for participant in participants { try participant.recover(epoch: epoch) }
    self.figures.stateKeys = workers.reduce(0) { $0 + $1.keyCount }
  }

  /// Reads what is there, makes one step of it and hands its commit over; or waits until an older commit is durable.
  public func turn() throws(JobError) -> Turn {
    lookOutside()
    let isHeld = outsideIsFull
    if isHeld {
      // Without positions, only the arrival of an answer ends the wait early.
      if !outside.hasArrived { _ = try host.read([], maxBytes: 0, wait: waitForInput()) }
    } else if pending.isEmpty {
      try read(wait: waitForInput())
    }
    lookOutside()
    let isIdle = isHeld || pending.isEmpty
    let hasMoved = workers[0].graph.usesEventTime && lookAtTime(isHeld: isHeld, isIdle: isIdle)
    guard !isIdle else {
      if hasMoved || outside.hasArrived {
        if workers.count == 1 { try workers[0].advance() } else { try run([RoundItem(batch: nil, owner: 0)], bytes: 0) }
        try commit()
        return .progress
      }
      if try commitForParticipants() { return .progress }
      if !inFlight.isEmpty {
        try settle()
        return .progress
      }
      refreshIfDue()
      return isFinished ? .finished : .idle
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

  /// Whether nothing can come any more, neither from inputs nor as the answer to a call.
  var isFinished: Bool { inputs.areFinished && !outside.isOpen }

  /// Whether so much is waited for that no more input is to be run.
  private var outsideIsFull: Bool { outsideWork.contains(where: \.isFull) }

  /// Has operators that wait for something outside of the job see what there is.
  private func lookOutside() {
    guard !outsideWork.isEmpty else { return }
    let now = options.clock()
    outside = OutsideNews()
    // First all, because one worker's answer lets another one begin a call.
    for work in outsideWork { work.collect(at: now) }
    for work in outsideWork { outside.add(work.look(at: now)) }
  }

  /// What takes part in commits; the first worker has it for all.
  private var participants: [ParticipantState] { workers[0].graph.participants }

  /// Makes a step without input when a participant asks for one.
  private func commitForParticipants() throws(JobError) -> Bool {
    let isFinished = isFinished
    guard participants.contains(where: { $0.wantsStep(isFinished: isFinished) }) else { return false }
    try commit()
    return true
  }

  /// Waits until everything handed over is durable.
  public func settle() throws(JobError) {
    while !inFlight.isEmpty { try settleOldest() }
  }

  private func waitForInput() -> Duration {
    if isFinished || outside.hasArrived { return .zero }
    if !inFlight.isEmpty || inputs.haveSources { return options.briefWait }
    let wait =
      workers[0].graph.usesProcessingTime ? min(options.idleWait, options.commitInterval) : options.idleWait
    return outside.due.map { max(.zero, min(wait, $0 - options.clock())) } ?? wait
  }

  private func read(wait: Duration) throws(JobError) {
    var batches = try inputs.read(host: host, maxBytes: options.readBytes, batches: workers.count, wait: wait)
    noteArrival(&batches)
    for batch in batches { pending.append(batch) }
  }

  /// Runs the batches that were read through the operators, until the step is full.
  /// - Returns: their bytes.
  private func runPending() throws(JobError) -> Int {
    var bytes = 0
    if workers.count == 1 { workers[0].times.begin(0) }
    while !isFull, !pending.isEmpty { bytes += try workers.count == 1 ? runBatch() : runRound() }
    if workers.count == 1 { workers[0].times.end() }
    figures.bytesIn += UInt64(bytes)
    return bytes
  }

  /// Runs the next batch on the one worker.
  private func runBatch() throws(JobError) -> Int {
    guard let batch = pending.popFirst() else { return 0 }
    batchesInStep += 1
    if !batch.header.isControl {
      try workers[0].run(batch)
      figures.recordsIn += UInt64(batch.header.recordCount)
      tally.take(batch)
    }
    inputs.pass(batch)
    return batch.bytes.count
  }

  /// Runs the next batches on all workers.
  private func runRound() throws(JobError) -> Int {
    var items: [RoundItem] = []
    var passed: [JobInputs.Batch] = []
    var bytes = 0
    var loads = [Int](repeating: 0, count: workers.count)
    while let batch = pending.popFirst() {
      passed.append(batch)
      bytes += batch.bytes.count
      if !batch.header.isControl {
        let owner = owner(of: batch, loads)
        loads[owner] += batch.bytes.count
        items.append(RoundItem(batch: batch, owner: owner))
        figures.recordsIn += UInt64(batch.header.recordCount)
        tally.take(batch)
      }
      // What it leads to may be as much as can be waited for.
      if singleBatchSteps > 0 || bytes >= options.readBytes * workers.count || !outsideWork.isEmpty { break }
    }
    batchesInStep += passed.count
    try run(items, bytes: bytes)
    for batch in passed { inputs.pass(batch) }
    return bytes
  }

  private func owner(of batch: JobInputs.Batch, _ loads: [Int]) -> Int {
    if keepsPartitions { return (batch.input &* 31 &+ Int(batch.partition)) % workers.count }
    return loads.indices.min { loads[$0] < loads[$1] } ?? 0
  }

  /// Takes batches through all levels of the job.
  private func run(_ items: [RoundItem], bytes: Int) throws(JobError) {
    let workers = workers
    let levels = workers[0].graph.stages.count
    workers[0].beginRound(of: items.count)
    for level in 0..<levels {
      phase(isLarge: bytes >= options.wakeBytes) { workers[$0].run(level, of: items) }
      // What one that failed has not sent, the others must not look for.
      for worker in workers { try worker.check() }
    }
    if levels == 1 { phase(isLarge: false) { workers[$0].goOn(items) } }
    for worker in workers {
      worker.endRound()
      try worker.check()
    }
  }

  /// Has all workers do a piece of work; small ones are done by the caller's thread.
  private func phase(isLarge: Bool, _ body: @escaping @Sendable (Int) -> Void) {
    if isLarge, let team { return team.run(body) }
    for index in workers.indices { body(index) }
  }

  /// Whether the step has to end before another batch. A quarter of what a commit may hold leaves room for the sweep, for
  /// what operators hand on at the step's end, and for a batch that leads to much more than those before it.
  private var isFull: Bool {
    guard batchesInStep > 0 else { return false }
    return singleBatchSteps > 0 || outsideIsFull
      || workers.reduce(0) { $0 + $1.changedSize } >= host.largestCommit / 4
  }

  /// Ends the step: emits, writes the changes, sweeps, and hands the commit over.
  private func commit() throws(JobError) {
    let now = options.wallClock()
    let outputs = try endStep(at: now)
    if inFlight.count >= max(1, options.commitsInFlight) {
      let begun = options.clock()
      while inFlight.count >= max(1, options.commitsInFlight) { try settleOldest() }
      figures.waitedForCommits += options.clock() - begun
    }
    commitNumber += 1
    for participant in participants { try participant.prepare(commit: commitNumber) }
    let (state, start) = try writeState(at: now)
    let submitted = options.clock()
    let commit = StepCommit(
      job: name, epoch: epoch, outputs: outputs, state: state, stateLogStart: start,
      settlements: inputs.takeSettlements())
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
    inFlight.append(
      InFlight(ticket: ticket, number: commitNumber, submitted: submitted, arrivals: tally.takeArrivals()))
    noteStep(outputs)
  }

  /// Has the operators hand on what they held back.
  /// - Returns: what goes to topics.
  private func endStep(at now: Timestamp) throws(JobError) -> [OutputBatch] {
    let workers = workers
    for worker in workers { worker.graph.output.stepTime = now }
    let isLarge = batchesInStep > 0 && workers.contains { $0.changedSize >= options.wakeBytes }
    for level in workers[0].graph.stages.indices {
      // At level 0 nothing is held back but what was prepared.
      phase(isLarge: isLarge && (level > 0 || workers[0].hasPrepared(at: 0))) { workers[$0].endStep(level) }
      for worker in workers { try worker.check() }
    }
    figures.recordsOut += workers.reduce(0) { $0 + UInt64($1.graph.output.recordCount) }
    return workers.flatMap { $0.graph.output.take() }
  }

  /// - Returns: the step's state records, and where the state log may start.
  private func writeState(at now: Timestamp) throws(JobError) -> (batches: [Bytes], start: Offset?) {
    let start = rounds.takeStart()
    let begins = rounds.needsRound
    if begins { rounds.begin(commit: commitNumber) }
    var first = StateLogWriter(timestamp: now)
    inputs.writePositions(all: begins, into: &first)
    workers[0].begin(writing: first)
    for worker in workers.dropFirst() { worker.begin(writing: StateLogWriter(timestamp: now)) }
    let workers = workers
    let limit = host.largestCommit / 2 / workers.count
    phase(isLarge: workers.contains { $0.changedSize >= options.wakeBytes }) {
      workers[$0].writeState(beginsRound: begins, quota: SweepRounds.minimumQuota, upTo: limit)
    }
    var batches: [Bytes] = []
    for worker in workers {
      try worker.check()
      let written = worker.takeWritten()
      figures.stateRecords += UInt64(written.count)
      batches += written.batches
    }
    if workers.allSatisfy(\.roundIsDone) { rounds.complete() }
    return (batches, start)
  }

  private func settleOldest() throws(JobError) {
    let oldest = inFlight.removeFirst()
    let receipt = try host.wait(oldest.ticket)
    noteCommit(oldest.submitted, oldest.arrivals, durableAt: receipt.durableAt)
    for participant in participants { try participant.committed(oldest.number) }
    rounds.acknowledged(commit: oldest.number, offset: receipt.stateLogOffset)
  }
}
