// ModelTests: random histories of a queue against a naive model, and the proof that the model notices lies.

import Testing

@testable import MillraceDelivery

@Test("oracle: random histories agree with a model that searches an array", arguments: 0..<8)
func oracleHistories(part: Int) throws {
  var deliveries = 0
  for seed in 0..<20 {
    deliveries += try runHistory(seed: UInt64(part * 1000 + seed)).get().deliveries
  }
  #expect(deliveries > 1000)
}

@Test("the model notices every planted lie", arguments: Fault.allCases)
func modelNoticesFaults(fault: Fault) {
  var planted = 0
  for seed in 0..<200 {
    switch runHistory(seed: UInt64(seed), fault: fault) {
    case .failure: return
    case .success(let world): planted += world.faults
    }
  }
  Issue.record("\(fault) was planted \(planted) times and never noticed")
}

/// Many more histories: `MILLRACE_SEEDS=10000 swift test --filter oracleManyHistories`.
@Test("oracle: as many histories as asked for", .enabled(if: manySeeds > 0))
func oracleManyHistories() throws {
  for seed in 0..<manySeeds { _ = try runHistory(seed: UInt64(1_000_000 + seed)).get() }
}
