// JobExecutor+Figures: what a run tells of itself and of its operators, put together from what its workers have counted.

import MillraceBase
import MillraceModel

extension JobExecutor {
  /// Brings ``figures`` up to date, those of operators and inputs included, as of the last step. Between steps that happens by itself, ten times a
  /// second. Call between turns.
  /// - Complexity: O(workers · operators).
  public func refreshFigures() {
    let now = options.clock()
    tally.samples.rate(&figures, now: now)
    guard tally.isStale else { return }
    tally.refresh(at: now)
    figures.chains = chainFigures()
    figures.inputs = inputs.figures(workers[0].graph.inputs.map(\.name))
  }

  /// Something may have changed.
  func refreshIfDue() { if tally.change(at: options.clock()) { refreshFigures() } }

  /// Brings up to date what is known without a look at the operators: a step was handed over.
  func noteStep(_ outputs: [OutputBatch]) {
    figures.steps += 1
    figures.bytesOut += outputs.reduce(0) { $0 + UInt64($1.bytes.count) }
    figures.stateKeys = workers.reduce(0) { $0 + $1.keyCount }
    (figures.stateMemory, figures.stateFiles) = workers.reduce((0, 0)) {
      ($0.0 + $1.stateMemory, $0.1 + $1.stateFiles)
    }
    figures.lag = inputs.lag
    // Those of the first worker stand for all.
    figures.watermark = workers[0].graph.clocks.map(\.watermark).min { $0.milliseconds < $1.milliseconds }
    if figures.watermark?.milliseconds == .min { figures.watermark = nil }
    figures.lateRecords = workers.reduce(tally.before.lateRecords) { $0 + $1.graph.lateCount }
    figures.failedRecords = workers.reduce(tally.before.failedRecords) { $0 + $1.graph.failedCount }
    figures.busy = tally.before.busy + .nanoseconds(workers.reduce(0) { $0 + $1.times.whole + $1.times.writing })
    figures.chainCounts = chainCounts()
    refreshIfDue()
    figuresAtCommit = figures
  }

  /// A commit is durable.
  func noteCommit(_ submitted: MonotonicTime, _ arrivals: [Arrival], durableAt: MonotonicTime) {
    figures.commitLatency.record(durableAt - submitted)
    figures.commits += 1
    for arrival in arrivals {
      figures.latency.record(UInt64(max(0, (durableAt - arrival.time).inNanoseconds)), times: arrival.records)
    }
  }

  /// The figures when the last commit was handed over, and what became of commits since: what an executor that makes the step again goes on with.
  var figuresOfCommits: JobFigures {
    var found = figuresAtCommit
    found.commits = figures.commits
    found.commitLatency = figures.commitLatency
    found.latency = figures.latency
    found.waitedForCommits = figures.waitedForCommits
    return found
  }

  /// Says of batches that were read when they came: a topic's, by the newest time in them, others now.
  func noteArrival(_ batches: inout [JobInputs.Batch]) {
    guard !batches.isEmpty else { return }
    let now = options.clock()
    let wall = options.wallClock()
    for index in batches.indices {
      let time = batches[index].header.maxTimestamp
      let age = batches[index].isOfTopic && time.milliseconds > 0 ? wall.milliseconds.subtracting(time.milliseconds) : 0
      // A record from the future has come now.
      batches[index].arrival = now + .milliseconds(-max(0, age))
    }
  }

  /// What was counted of each chain, by this executor and those before it.
  private func chainCounts() -> [ChainCounts] {
    let lists = workers.map { $0.graph.chains.all }
    return lists[0].indices.map { number in
      var counts = number < tally.before.chainCounts.count ? tally.before.chainCounts[number] : ChainCounts()
      if let input = lists[0][number].input {
        counts.recordsRead += inputs.read[input].records
        counts.bytesRead += inputs.read[input].bytes
      }
      for (worker, list) in zip(workers, lists) {
        let chain = list[number]
        counts.valuesOut += chain.valuesOut
        for count in chain.lateCounts { counts.late += count() }
        for count in chain.failedCounts { counts.failed += count() }
        for sink in chain.sinks { counts.bytesWritten += worker.graph.output.written(sink).bytes }
        for (level, index) in chain.stages { counts.busy += worker.times.time(of: index, at: level) }
      }
      return counts
    }
  }

  /// The chains' figures; those without operators are left out, and what they count is that of the chain before.
  private func chainFigures() -> [ChainFigures] {
    let chains = workers[0].graph.chains.all
    let nodes = tally.explanation.nodes
    let parts = tally.explanation.chains
    precondition(
      parts.count == chains.count, "\(chains.count) chains were bound, and \(parts.count) are known of the job")
    let counts = figures.chainCounts.isEmpty ? chainCounts() : figures.chainCounts
    let sharedSinks = sharedSinks(chains)
    return chains.compactMap { chain in
      guard let first = parts[chain.number].first else { return nil }
      var found = ChainFigures(
        parts[chain.number].map { OperatorLabel(number: $0, kind: nodes[$0].kind, name: nodes[$0].name) })
      found.upstreams = nodes[first].upstreams
      found.isKeyed = nodes[first].isKeyed
      let own = counts[chain.number]
      found.recordsIn = chain.upstreams.reduce(own.recordsRead) { $0 + counts[$1].valuesOut }
      // A sink hands nothing on within the job.
      found.recordsOut = nodes[first].output.isEmpty ? found.recordsIn : own.valuesOut
      if chain.input != nil { found.bytesIn = own.bytesRead }
      if !chain.sinks.isEmpty, sharedSinks.isDisjoint(with: chain.sinks) { found.bytesOut = own.bytesWritten }
      (found.lateRecords, found.failedRecords) = (own.late, own.failed)
      addState(of: chain.number, to: &found)
      addTime(of: chain, own, to: &found)
      if let clock = clock(behind: chain, chains) { addWatermark(clock, to: &found) }
      return found
    }
  }

  private func addState(of number: Int, to found: inout ChainFigures) {
    for worker in workers {
      for state in worker.graph.chains.all[number].states where !(state.isShared && worker.index > 0) {
        found.stateEntries = (found.stateEntries ?? 0) + state.count
        found.stateBytes = (found.stateBytes ?? 0) + state.stateBytes
      }
    }
  }

  private func addTime(of chain: ChainMeter, _ counts: ChainCounts, to found: inout ChainFigures) {
    guard chain.stages.isEmpty else {
      found.busy = .nanoseconds(counts.busy)
      return
    }
    var timed: ChainMeter? = chain
    while let next = timed, next.stages.isEmpty { timed = next.behind }
    found.timedWith = timed.flatMap { tally.explanation.chains[$0.number].last }
  }

  /// What says how far event time has come behind a chain: of several clocks before it, the slowest.
  private func clock(behind chain: ChainMeter, _ chains: [ChainMeter]) -> EventClock? {
    guard workers[0].graph.usesEventTime else { return nil }
    if let clock = chain.clock { return clock }
    return chain.upstreams.compactMap { clock(behind: chains[$0], chains) }
      .min { $0.watermark.milliseconds < $1.watermark.milliseconds }
  }

  private func addWatermark(_ clock: EventClock, to found: inout ChainFigures) {
    guard clock.watermark.milliseconds < .max else { return }
    found.watermarkHolder = clock.holder.map {
      InputPlace(input: workers[0].graph.inputs[$0.input].name, partition: $0.partition)
    }
    if clock.watermark.milliseconds > .min { found.watermark = clock.watermark }
  }

  /// Topics that several chains write.
  private func sharedSinks(_ chains: [ChainMeter]) -> Set<Int> {
    var seen: Set<Int> = []
    return Set(chains.flatMap(\.sinks).filter { !seen.insert($0).inserted })
  }
}
