// RuleTests: the rules that runs are held against. That each notices what is planted is shown by `Simulator plants`.

import BrokerSimulation
import Foundation
import Testing

@Test("a plant that changes nothing is noticed by nobody, one that a rule is there for is")
func plantsAreNoticedForWhatTheyAre() {
  #expect(!Plants.isNoticed(.stableReads) { _ in })
  #expect(Plants.isNoticed(.stableReads) { $0.highWatermark = { $0 % 7 } })
}

@Test("every rule and every invariant that a disk can break has a plant")
func everyRuleHasPlants() {
  let names = Plants.all.map(\.name)
  for rule in Rule.allCases { #expect(names.contains("\(rule.rawValue), plant 0"), "\(rule)") }
  for invariant in [1, 2, 4, 5, 7] { #expect(names.contains("invariant \(invariant)")) }
}

@Test("every rule is described in docs/internals/testing.md")
func everyRuleIsDescribed() throws {
  let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()
  let text = try String(contentsOf: root.appending(path: "docs/internals/testing.md"), encoding: .utf8)
  for rule in Rule.allCases {
    #expect(text.contains("\n| \(rule.rawValue) |"), "no row of \(rule.rawValue)")
  }
}
