// SimulationTests: runs of the whole broker through crashes. `Simulator plants` shows that they notice what is planted.

import BrokerSimulation
import Testing

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
    "offsets committed by consumers", "clean hand-overs of consumers", "partitions revoked from consumers",
    "consumers that were put out", "keyed records acknowledged", "records compacted away", "records expired",
    "records deleted by request", "keyed transactions ended", "transformations committed", "outputs checked",
  ] {
    #expect(counts[what, default: 0] > 0, "no \(what)")
  }
}

@Test("the same seed gives the same run")
func sameSeedSameRun() {
  for seed: UInt64 in [3, 94] {
    let first = BrokerScenario(seed: seed).run()
    let second = BrokerScenario(seed: seed).run()
    #expect(first.traceHash == second.traceHash)
    #expect(first.counts == second.counts)
  }
  #expect(BrokerScenario(seed: 5).run().traceHash != BrokerScenario(seed: 6).run().traceHash)
}

@Test("a run that is over is given back")
func runIsFreed() {
  for seed: UInt64 in 1...2 {
    weak var scenario: BrokerScenario?
    do {
      let made = BrokerScenario(seed: seed)
      scenario = made
      _ = made.run()
    }
    #expect(scenario == nil, "seed \(seed)")
  }
}
