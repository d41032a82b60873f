// SimulationTests: runs of the whole broker through crashes, and proof that they notice what is planted.

import BrokerSimulation
import MillraceBase
import MillraceSimulation
import Testing

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
  for seed: UInt64 in 1...15 {
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
    "segments at the end", "records acknowledged", "records read", "offsets committed",
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
