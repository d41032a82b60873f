// GroupRandomTests: groups through thousands of random events, with the rules of GroupWorld checked after each.

import MillraceBase
import Testing

@testable import MillraceBroker

private func run(_ seed: UInt64, _ counts: inout [String: Int]) -> [String] {
  var random = SeededRandom(seed: seed)
  let delays: [Duration] = [.zero, .milliseconds(500), .seconds(3)]
  let world = GroupWorld(
    initialDelay: delays.randomElement(using: &random) ?? .zero, largestSize: Int.random(in: 1...8, using: &random),
    generation: random.oneIn(4) ? .max - 3 : 0)
  let offers = [["range"], ["range", "sticky"], ["sticky", "range"], ["sticky"]]
  var ids = ["", "nobody"]
  for _ in 0..<120 {
    let members = world.group.members
    // Mostly who is there, at times who was, or nobody.
    let member = random.oneIn(6) ? nil : members.randomElement(using: &random)
    let id = member?.id ?? ids.randomElement(using: &random) ?? ""
    let instance = random.oneIn(8) ? "i\(Int.random(in: 0...2, using: &random))" : member?.instanceID
    let generation = random.oneIn(10) ? world.group.generation &- 1 : world.group.generation
    switch Int.random(in: 0..<12, using: &random) {
    case 0...2:
      let call = world.join(
        random.oneIn(2) ? id : "", instance: instance, type: random.oneIn(30) ? "connect" : "consumer",
        protocols: offers.randomElement(using: &random) ?? [], metadata: random.oneIn(4) ? "x" : "m",
        session: .seconds(Int.random(in: 6...20, using: &random)),
        rebalance: .seconds(Int.random(in: 0...30, using: &random)), known: random.oneIn(2))
      ids.append("m\(call)")
    case 3...4:
      world.join(
        id, instance: instance, protocols: member?.protocols.map(\.name) ?? ["range"], session: .seconds(10),
        rebalance: .seconds(10))
    case 5...7:
      world.sync(
        id, instance: instance, generation, assigning: Dictionary(uniqueKeysWithValues: members.map { ($0.id, "a") }))
    case 8: counts["beats refused", default: 0] += world.beat(id, instance: instance, generation) == nil ? 0 : 1
    case 9: if random.oneIn(3) { world.leave(random.oneIn(3) ? "" : id, instance: instance) }
    default: world.pass(.milliseconds(Int.random(in: 0...4000, using: &random)))
    }
    counts[world.group.state.rawValue, default: 0] += 1
    if !world.problems.isEmpty { return world.problems }
  }
  // Silence answers everybody who waits, and then forgets everybody.
  world.pass(.seconds(600))
  counts["calls", default: 0] += Int(world.calls)
  counts["joined", default: 0] += (1...max(1, world.calls)).count { world.joined($0) != nil }
  counts["assigned", default: 0] += (1...max(1, world.calls)).count { world.assigned($0) != nil }
  if !world.open.isEmpty { return world.problems + ["calls \(world.open) were never answered"] }
  if !world.group.isForgettable { return world.problems + ["\(world.group.members.count) members outlived silence"] }
  return world.problems
}

@Test("every call is answered once, and no rule of a group is ever broken, whatever comes in whatever order")
func randomEvents() {
  var counts: [String: Int] = [:]
  for seed: UInt64 in 1...400 {
    let problems = run(seed, &counts)
    #expect(problems.isEmpty, "seed \(seed), repeat with run(\(seed)): \(problems.prefix(3))")
  }
  for what in ["Stable", "CompletingRebalance", "PreparingRebalance", "Empty", "joined", "assigned", "beats refused"] {
    #expect(counts[what, default: 0] > 500, "too few runs reach \(what): \(counts)")
  }
}
