// StepSizeTests: steps end before their commit is too large for the host, and no batch is lost or run twice for it.

import MillraceBase
import MillraceDataflow
import MillraceModel
import Testing

/// Hands each number on as that many records of 100 bytes, keyed by it.
private struct Multiply: FlatTransform {
  func apply(_ input: InputRecord, _ emit: (BorrowedBytes) -> Void) {
    let count = Int(input.value.text) ?? 0
    let text = [UInt8](repeating: 120, count: 80)
    text.withUnsafeBytes { bytes in for _ in 0..<count { emit(BorrowedBytes(bytes)) } }
  }
}

private let multiply = JobDefinition(
  name: "multiply",
  [Pipeline(FlatMap(RecordInput(.topic("lines")), Multiply()), into: TopicSink<BorrowedBytes>(topic: "out"))])

/// A host with a batch for each number.
private func loaded(_ counts: [Int], limit: Int) throws -> MemoryHost {
  let host = MemoryHost(largestCommit: limit)
  host.createTopic("lines", partitions: 2)
  host.createTopic("out", partitions: 3)
  for (index, count) in counts.enumerated() {
    try host.append(topic: "lines", partition: Int32(index % 2), batch: batch(["\(count)"]))
  }
  return host
}

private func outputs(_ host: MemoryHost) throws -> Int {
  var found = 0
  for partition in Int32(0)..<3 { found += try host.records(topic: "out", partition: partition).count }
  return found
}

/// Runs until the input is read, without making anything again.
private func drainWhole(_ job: JobDefinition, _ host: MemoryHost) throws -> JobFigures {
  var options = JobOptions()
  options.idleWait = .zero
  options.briefWait = .zero
  let executor = try JobExecutor(job, host: host, options: options)
  while try executor.turn() == .progress {}
  return executor.figures
}

@Test("a step ends at a batch's border once its outputs fill a good part of a commit")
func stepsEndEarly() throws {
  // Each batch leads to 100 kB, all of them to 4 MB; a commit may have 1 MB.
  let host = try loaded([Int](repeating: 1000, count: 40), limit: 1 << 20)
  let figures = try drainWhole(multiply, host)
  #expect(figures.steps > 4 && figures.steps < 40)
  #expect(host.largestCommitSeen <= 1 << 20)
  #expect(try outputs(host) == 40_000)
}

@Test("keyed state counts towards a step's size before it is written")
func stateEndsSteps() throws {
  let host = MemoryHost(largestCommit: 200_000)
  host.createTopic("lines", partitions: 1)
  host.createTopic("counts", partitions: 1)
  // Every batch changes 500 keys of its own.
  for part in 0..<30 {
    let words = (0..<500).map { "word-\(part)-\($0)" }.joined(separator: " ")
    try host.append(topic: "lines", partition: 0, batch: batch([words]))
  }
  let figures = try drainWhole(countJob(), host)
  #expect(figures.steps > 2 && figures.steps <= 30)
  #expect(host.largestCommitSeen <= 200_000)
  #expect(try emitted(host, partitions: 1).values.allSatisfy { $0 == [1] })
  #expect(try emitted(host, partitions: 1).count == 15_000)
}

@Test("a step that turns out too large is made again batch by batch, exactly once", arguments: 0..<6)
func stepsAreMadeAgain(at large: Int) throws {
  // Small batches, then one that fills nearly a whole commit by itself, which no one can foresee.
  var counts = [Int](repeating: 500, count: 12)
  counts[large * 2] = 9000
  let host = try loaded(counts, limit: 1 << 20)
  var options = JobOptions()
  options.idleWait = .milliseconds(1)
  let runner = JobRunner(multiply, host: host, options: options)
  runner.start()
  while try outputs(host) < 11 * 500 + 9000, case .running = state(runner) {}
  runner.stop()
  runner.join()
  #expect(runner.state == .stopped)
  #expect(host.largestCommitSeen <= 1 << 20)
  #expect(try outputs(host) == 11 * 500 + 9000)
  let figures = runner.figures
  #expect(figures.recordsIn == 12 && figures.recordsOut == 11 * 500 + 9000, "\(figures)")
  let whole: UInt64 = 11 * 500 + 9000
  #expect(figures.chains.map(\.recordsIn) == [12, whole])
  #expect(figures.chains.map(\.recordsOut) == [whole, whole])
  #expect(figures.chains[0].bytesIn == figures.bytesIn && figures.chains[1].bytesOut == figures.bytesOut)
  #expect(figures.commits == figures.steps && figures.latency.count == 12)
}

@Test("figures of what was committed before go on when a step is made again")
func figuresGoOn() throws {
  let host = MemoryHost(largestCommit: 1 << 20)
  host.createTopic("lines", partitions: 1)
  host.createTopic("out", partitions: 3)
  // Six batches are a step. The five behind them and the large one would be the next, and are too much together.
  let counts = [Int](repeating: 500, count: 11) + [9900, 500]
  for count in counts { try host.append(topic: "lines", partition: 0, batch: batch(["\(count)"])) }
  var options = JobOptions()
  options.idleWait = .milliseconds(1)
  let runner = JobRunner(multiply, host: host, options: options)
  runner.start()
  while try outputs(host) < 12 * 500 + 9900, case .running = state(runner) {}
  runner.stop()
  runner.join()
  let figures = runner.figures
  let whole: UInt64 = 12 * 500 + 9900
  // One step, then one a batch, and what was left.
  #expect(figures.steps == 8 && figures.commits == 8 && figures.recordsIn == 13)
  #expect(figures.chains.map(\.recordsIn) == [13, whole])
  #expect(figures.chains[0].bytesIn == figures.bytesIn && figures.chains[1].bytesOut == figures.bytesOut)
  #expect(figures.latency.count == 13 && figures.commitLatency.count == 8)
}

private func state(_ runner: JobRunner) -> JobRunner.State {
  runner.state == .recovering ? .running : runner.state
}

@Test("a single batch that leads to more than a commit holds fails the job with the sizes, and commits nothing of it")
func singleBatchFails() throws {
  let host = try loaded([10, 20_000, 10], limit: 1 << 20)
  let runner = JobRunner(multiply, host: host)
  runner.start()
  runner.join()
  guard case .failed(let error) = runner.state else {
    Issue.record("the job is \(runner.state)")
    return
  }
  #expect(error.code == .stepTooLarge)
  #expect(error.reason.contains("one batch") && error.reason.contains("\(1 << 20)"), "\(error)")
  #expect(try outputs(host) < 20_000)
}

@Test("a stop between two batches of one read loses none of them")
func stopsBetweenBatches() throws {
  let host = try loaded([Int](repeating: 1000, count: 40), limit: 1 << 20)
  var options = JobOptions()
  options.idleWait = .zero
  options.briefWait = .zero
  var runs = 0
  // Each run makes one step, and leaves read batches behind.
  while try outputs(host) < 40_000 {
    let executor = try JobExecutor(multiply, host: host, options: options)
    _ = try executor.turn()
    try executor.settle()
    runs += 1
    try #require(runs <= 40)
  }
  #expect(runs > 4)
  #expect(try outputs(host) == 40_000)
}
