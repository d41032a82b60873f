// SimulationTests: runs of the whole broker through crashes, and proof that they notice what is planted.

import BrokerSimulation
import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation
import Testing
import TransactionHistory

/// Runs seeds until one breaks a rule, and returns the rules it broke.
private func firstViolations(_ seeds: ClosedRange<UInt64>, _ sabotage: Sabotage) -> [String] {
  for seed in seeds {
    let violations = BrokerScenario(seed: seed, sabotage: sabotage).run().violations
    if !violations.isEmpty { return violations }
  }
  return []
}

@Test("recovers: what a broker promised holds through crashes")
func recoversThroughCrashes() {
  var counts: [String: Int] = [:]
  for seed: UInt64 in 1...20 {
    let outcome = BrokerScenario(seed: seed).run()
    #expect(
      outcome.violations.isEmpty, "seed \(seed), repeat with: Simulator --from \(seed) --seeds 1: \(outcome.violations)"
    )
    counts.merge(outcome.counts, uniquingKeysWith: +)
  }
  // The runs reach what they are meant to reach.
  for what in [
    "power losses", "power losses in a disk operation", "kills", "orderly stops", "crashes while starting",
    "torn tails",
    "segments at the end", "records acknowledged", "records read", "offsets committed", "answers lost",
    "connections left open", "clock jumps", "batches compressed", "zombies refused", "epochs begun",
    "members that were put out", "late heartbeats", "offsets committed by members", "clean hand-overs",
    "fenced job runs", "words counted", "transactions committed", "transactions aborted", "committed values read",
  ] {
    #expect(counts[what, default: 0] > 0, "no \(what)")
  }
}

@Test("the same seed gives the same run")
func sameSeedSameRun() {
  for seed: UInt64 in [3, 17, 94] {
    let first = BrokerScenario(seed: seed).run()
    let second = BrokerScenario(seed: seed).run()
    #expect(first.traceHash == second.traceHash)
    #expect(first.counts == second.counts)
  }
  #expect(BrokerScenario(seed: 5).run().traceHash != BrokerScenario(seed: 6).run().traceHash)
}

@Test("a disk that says writes are durable and loses them is noticed")
func unflushedWritesAreNoticed() {
  var sabotage = Sabotage()
  sabotage.disk = { UnflushedFileSystem($0) }
  #expect(!firstViolations(1...30, sabotage).isEmpty)
}

@Test("an acknowledgement of a record that was never written is noticed")
func phantomRecordIsNoticed() throws {
  var sabotage = Sabotage()
  sabotage.ledger = { ledger in
    ledger.acknowledged(.init("steady-0", 0), producer: 0, number: 1_000_000, count: 1, at: 1_000_000)
  }
  let violations = firstViolations(1...1, sabotage)
  #expect(
    violations.first?.contains("record 0/1000000 was acknowledged at offset 1000000, but the log ends at") == true)
}

/// Plants a change of what is read at the end, and expects a rule to be broken that says so in these words.
private func expectNoticed(
  _ words: String, seeds: ClosedRange<UInt64> = 1...30, _ plant: (inout Sabotage) -> Void
) {
  var sabotage = Sabotage()
  plant(&sabotage)
  let violations = firstViolations(seeds, sabotage)
  #expect(violations.contains { $0.contains(words) }, "\(violations)")
}

@Test("a record that is lost, appended twice, or out of order at the end is noticed")
func changedLogsAreNoticed() {
  expectNoticed("but the log ends at") { $0.log = { _, log in if !log.isEmpty { log.removeLast() } } }
  expectNoticed("which holds") { $0.log = { _, log in if log.count > 1 { log.swapAt(0, log.count - 1) } } }
  expectNoticed("which holds") { $0.log = { _, log in if let last = log.first { log.insert(last, at: 0) } } }
  expectNoticed("idempotent producer's record") { sabotage in
    sabotage.log = { _, log in if let last = log.last { log.append(last) } }
  }
}

@Test("a record of a fenced producer at the end is noticed")
func fencedRecordIsNoticed() {
  expectNoticed("of a fenced producer") { sabotage in
    sabotage.log = { _, log in log.append(RecordName(producer: 1000, number: 1)) }
  }
}

@Test("a committed offset that is forgotten, or behind what was processed, is noticed")
func changedOffsetsAreNoticed() {
  expectNoticed("is told offset") { $0.committedOffset = { $0 > 0 ? $0 - 1 : $0 } }
  expectNoticed("is told offset") { $0.committedOffset = { $0 > 0 ? $0 + 1 : $0 } }
  expectNoticed("is told offset") { $0.committedOffset = { _ in -1 } }
}

@Test("an assignment that gives everything to everybody is noticed")
func doubleAssignmentIsNoticed() {
  expectNoticed("was given to") { sabotage in
    sabotage.assignment = { _ in
      ConsumerProtocolAssignment([ConsumerTopicPartitions(topic: "steady-0", partitions: [0, 1])]).encoded(version: 0)
    }
  }
}

@Test("a word that a job counts twice, or not at all, is noticed")
func wrongCountsAreNoticed() {
  expectNoticed("after it had counted it as") { $0.count = { $0 / 2 } }
  expectNoticed("times, it stands there") { $0.count = { $0 + 1 } }
}

@Test("anomalies of transactions that are planted into a run's history are noticed")
func changedHistoriesAreNoticed() {
  expectNoticed("transactions: lost") { sabotage in
    sabotage.history = { history in
      for index in history.transactions.indices where history.transactions[index].outcome == .committed {
        for append in history.transactions[index].appends {
          history.final[append.list]?.removeAll { $0 == append.value }
        }
      }
      history.observations = []
    }
  }
  expectNoticed("transactions: G1a") { sabotage in
    sabotage.history = { history in
      for transaction in history.transactions where transaction.outcome == .aborted {
        for append in transaction.appends { history.final[append.list]?.append(append.value) }
      }
    }
  }
  expectNoticed("transactions: duplicate") { sabotage in
    sabotage.history = { history in
      for (list, values) in history.final { history.final[list] = values + values }
    }
  }
}

@Test("a run that is over is given back")
func runIsFreed() {
  for seed: UInt64 in 1...4 {
    weak var scenario: BrokerScenario?
    do {
      let made = BrokerScenario(seed: seed)
      scenario = made
      _ = made.run()
    }
    #expect(scenario == nil, "seed \(seed)")
  }
}
