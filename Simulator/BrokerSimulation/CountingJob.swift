// CountingJob: a stream job of the real engine on the real host, and the recount that its results are held against.
//
// The job counts words: each record of topic `steady-0` stands for one word, and each change of a count is a record of
// the output topic. The values of a word must grow from record to record, which shows a step that took effect twice, and
// end at what a count over the whole input says, which shows one that got lost.

import MillraceBase
import MillraceBroker
import MillraceConnectors
import MillraceDataflow
import MillraceModel
import MillraceSimulation
import MillraceStreams

/// Lets a job that waits have the world's events run.
///
/// Safety: as its world, used by one thread.
final class JobPump: JobWaiting, @unchecked Sendable {
  private let world: SimulatedWorld
  /// Asked before each event: true when waiting has become pointless.
  var isOver: () -> Bool = { false }

  init(_ world: SimulatedWorld) { self.world = world }

  var now: MonotonicTime { world.now }
  func wait(until isDone: () -> Bool) { world.run(atMost: 200_000) { isDone() || isOver() } }
}

/// The job of a run, through all machines.
final class CountingJob {
  static let input = "steady-0"
  static let output = "job-counts"

  private let scenario: BrokerScenario
  private let pump: JobPump
  private let definition: JobDefinition
  private var executor: JobExecutor?
  private var random: SeededRandom
  private var expected: [String: Int] = [:]

  init(_ scenario: BrokerScenario) {
    self.scenario = scenario
    pump = JobPump(scenario.world)
    random = SeededRandom(seed: scenario.random.next())
    definition = DataStream.topic(CountingJob.input)
      .flatMap { (record: InputRecord, emit: (String) -> Void) in
        if let name = TestRecord.anyName(Bytes(copying: record.valueBuffer)) { emit(CountingJob.word(name)) }
      }
      .keyBy { $0 }.count(name: "words").to(topic: CountingJob.output).job(named: "count")
  }

  private static func word(_ name: RecordName) -> String { "\(name.producer)-\(name.number % 5)" }

  private var options: JobOptions {
    var options = JobOptions()
    options.readBytes = 8 << 10
    options.stepBytes = 16 << 10
    options.idleWait = .milliseconds(3)
    options.briefWait = .milliseconds(1)
    let pump = pump
    let world = scenario.world
    options.clock = { pump.now }
    options.wallClock = { world.wallClock }
    return options
  }

  /// The machine is about to end: the run ends with it.
  func machineStops() { executor = nil }

  /// Makes a step or two, now and then as a new run.
  func turn(_ broker: Broker?) {
    guard let broker, broker.isOpen, random.oneIn(2) else { return }
    do throws(JobError) {
      guard let running = executor else {
        executor = try begin(broker)
        return
      }
      if random.oneIn(12) { return try replace(running, broker) }
      _ = try running.turn()
      scenario.count("job turns")
    } catch {
      ended(by: error)
    }
  }

  private func begin(_ broker: Broker) throws(JobError) -> JobExecutor {
    pump.isOver = { [unowned broker] in !broker.isOpen }
    scenario.count("job runs")
    return try JobExecutor(definition, host: BrokerJobHost(broker, waiting: pump), options: options)
  }

  /// A second run fences the first, which goes on all the same.
  private func replace(_ old: JobExecutor, _ broker: Broker) throws(JobError) {
    executor = nil
    let new = try begin(broker)
    executor = new
    let steps = old.figures.steps
    do throws(JobError) {
      _ = try old.turn()
      try old.settle()
      if old.figures.steps > steps {
        scenario.ledger.violate("a run of the job committed a step after it was fenced", .jobCounts)
      }
    } catch {
      guard error.code == .fenced else { throw error }
      scenario.count("fenced job runs")
    }
  }

  private func ended(by error: JobError) {
    executor = nil
    switch error.code {
    case .closed, .commitFailed: break
    case .sourceFailed,
      .corruptState where scenario.mayFailReads:
      break
    default: scenario.ledger.violate("the job ended: \(error)")
    }
  }

  /// Works until everything is counted; nothing fails any more.
  func finish(_ broker: Broker?) {
    guard let broker else { return }
    for _ in 0..<10_000 {
      do throws(JobError) {
        let running: JobExecutor
        if let executor { running = executor } else { running = try begin(broker) }
        executor = running
        if case .idle = try running.turn() { return }
      } catch {
        return scenario.ledger.violate("the job cannot finish: \(error)")
      }
    }
    scenario.ledger.violate("the job does not come to an end of its input", .progress)
  }

  /// Counts one whole partition again.
  func recount(_ partition: TopicPartition, _ log: [RecordName]) {
    guard partition.topic == CountingJob.input else { return }
    for name in log { expected[CountingJob.word(name), default: 0] += 1 }
  }

  /// Holds the output against the recount.
  func check(_ broker: Broker) {
    var counts: [String: Int] = [:]
    guard let topic = broker.topic(CountingJob.output) else {
      return scenario.ledger.violate("the job's output topic is gone", .jobCounts)
    }
    for index in topic.partitions.indices {
      for record in read(broker, topic, Int32(index)) {
        let word = record.key?.text ?? ""
        let count = scenario.sabotage.count(Int(record.value?.text ?? "") ?? -1)
        if count <= counts[word, default: 0] {
          return scenario.ledger.violate(
            "the job counted \(word) as \(count) after it had counted it as \(counts[word, default: 0])", .jobCounts)
        }
        counts[word] = count
      }
    }
    if counts != expected {
      let wrong = Set(counts.keys).union(expected.keys).sorted().first { counts[$0] != expected[$0] } ?? ""
      scenario.ledger.violate(
        "the job counted \(wrong) \(counts[wrong, default: 0]) times, it stands there \(expected[wrong, default: 0]) times",
        .jobCounts)
    }
    scenario.count("words counted", counts.values.reduce(0, +))
  }

  private func read(_ broker: Broker, _ topic: TopicMetadata, _ index: Int32) -> [Record] {
    guard let partition = broker.partition(topic, index) else { return [] }
    var records: [Record] = []
    while Int64(records.count) < partition.highWatermark {
      var batches: [Bytes]?
      broker.fetch(
        [FetchTarget(partition: partition, offset: Int64(records.count), limit: 1 << 20)], minimum: 0, limit: 1 << 20,
        wait: .zero
      ) { results in
        if let error = results[0].error { self.scenario.ledger.violate("reading the counts failed: \(error)") }
        batches = results[0].batches
      }
      scenario.world.run(atMost: 200_000) { batches != nil }
      let before = records.count
      do throws(BrokerError) {
        for run in batches ?? [] {
          try BatchWalk.forEach(in: run) { batch throws(BrokerError) in
            records += try Broker.records(of: batch).filter { $0.offset >= Int64(records.count) }
          }
        }
      } catch {
        scenario.ledger.violate("the counts cannot be read: \(error)")
      }
      if records.count == before { break }
    }
    return records
  }
}

/// Walks whole batches that stand one behind the other.
private enum BatchWalk {
  static func forEach(in run: Bytes, _ body: (Bytes) throws(BrokerError) -> Void) throws(BrokerError) {
    var at = 0
    while at < run.count {
      let size: Int
      do throws(RecordBatchError) {
        size = try RecordBatchHeader(run[at..<run.count]).totalSize
      } catch {
        throw BrokerError(.corruptBatch, "\(error)")
      }
      try body(run[at..<(at + size)])
      at += size
    }
  }
}
