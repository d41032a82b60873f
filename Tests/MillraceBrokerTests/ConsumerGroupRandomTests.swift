// ConsumerGroupRandomTests: groups of the consumer protocol through random histories: lost answers, slow and silent
// members, restarts, topics that come and go. The rules of ConsumerGroupWorld hold after each event, and when all is quiet
// the group settles evenly.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceBroker

private struct History {
  let seed: UInt64
  var random: SeededRandom
  let world: ConsumerGroupWorld
  var made = 0
  var counts: [String: Int] = [:]
  /// Static members that left for a while.
  var paused: [String] = []

  init(seed: UInt64) {
    self.seed = seed
    random = SeededRandom(seed: seed)
    var rules = ConsumerGroupRules()
    rules.largestSize = Int.random(in: 2...8, using: &random)
    world = ConsumerGroupWorld(rules, topics: ["a1": 5, "a2": 3, "b1": 4])
  }

  mutating func newMember(instance: String? = nil) -> PlayedMember {
    made += 1
    let names = ["a1", "a2", "a3", "b1"].filter { _ in random.oneIn(2) }
    let pattern = names.isEmpty || random.oneIn(3) ? ["a", "b", ""].randomElement(using: &random) : nil
    let assignor = [nil, nil, "uniform", "range"].randomElement(using: &random) ?? nil
    return PlayedMember(
      "m\(made)", instance: instance, topics: pattern == "" && names.isEmpty ? ["a1"] : names, pattern: pattern,
      assignor: assignor)
  }

  mutating func step() {
    let member = world.members.randomElement(using: &random)
    switch Int.random(in: 0..<24, using: &random) {
    case 0, 1:
      let instance = random.oneIn(3) ? "i\(Int.random(in: 0...1, using: &random))" : nil
      let newcomer = newMember(instance: instance)
      let result = world.beat(world.add(newcomer))
      counts["\(result.map { "\($0)" } ?? "joined")", default: 0] += 1
      if result == .groupTooLarge || result == .unreleasedInstance {
        world.members.removeAll { $0 === newcomer }
      }
    case 2:
      guard let member, random.oneIn(2) else { return }
      let isPausing = member.instance != nil && random.oneIn(2)
      world.leave(member, epoch: isPausing ? ConsumerGroup.pausing : ConsumerGroup.leaving)
      if let instance = member.instance, isPausing { paused.append(instance) }
      counts[isPausing ? "paused" : "left", default: 0] += 1
    case 3:
      guard let instance = paused.popLast() else { return }
      let back = newMember(instance: instance)
      if world.beat(world.add(back)) == .unreleasedInstance { world.members.removeAll { $0 === back } }
    case 4:
      // Dies without a word.
      if random.oneIn(2) { world.members.removeAll { $0 === member } }
    case 5:
      world.change { topics in
        if topics.topics["a3"] == nil { topics.make("a3", 4) } else { topics.topics["a3"] = nil }
      }
    case 6:
      if random.oneIn(3) { world.change { $0.topics["b1"]?.partitions += 1 } }
    case 7, 8: world.pass(.milliseconds(Int.random(in: 0...20_000, using: &random)))
    case 9:
      member?.pattern = ["a", "b", nil].randomElement(using: &random) ?? nil
      if member?.pattern == nil, member?.topics.isEmpty ?? false { member?.topics = ["b1"] }
      member?.saysAll = true
    case 10...12:
      member?.obey()
      world.check()
    default:
      guard let member else { return }
      // Not twice in a row: see `ConsumerGroup`.
      let result = world.beat(member, lost: !member.saysAll && random.oneIn(4), obeys: !random.oneIn(3))
      counts["\(result.map { "\($0)" } ?? "beat")", default: 0] += 1
    }
    counts[world.group.state.rawValue, default: 0] += 1
  }

  /// What is wrong after everybody reported a few times and those who are gone have timed out.
  mutating func quiet() -> [String] {
    for _ in 0..<30 {
      world.pass(.seconds(5))
      for member in world.members {
        member.obey()
        if let refusal = world.beat(member), refusal != .unknownMember, refusal != .fencedMemberEpoch,
          refusal != .groupTooLarge, refusal != .unreleasedInstance,
          refusal != .fencedInstance
        {
          return ["\(member.id) is refused with \(refusal)"]
        }
      }
    }
    // Who found a full group, or its instance taken, after it had been fenced stays outside.
    let inside = world.members.filter { $0.epoch > 0 }
    var problems = world.problems
    if !inside.isEmpty, world.group.state != .stable { problems.append("the group is \(world.group.state)") }
    if inside.map(\.id).sorted() != world.group.members.keys.sorted() {
      problems.append("\(inside.map(\.id)) are there, \(world.group.members.keys.sorted()) are known")
    }
    var loads: [Set<TopicID>: [Int]] = [:]
    for member in inside {
      let known = world.group.members[member.id]
      if member.owned != world.group.target[member.id] { problems.append("\(member.id) has not what it shall have") }
      loads[known?.topics ?? [], default: []].append(member.owned.count)
    }
    if world.group.assignor == .uniform {
      for (_, loads) in loads where (loads.max() ?? 0) - (loads.min() ?? 0) > 1 { problems.append("uneven: \(loads)") }
    }
    let wanted = world.group.topics.values.reduce(0) { $0 + Int($1) }
    let given = inside.reduce(0) { $0 + $1.owned.count }
    if !inside.isEmpty, given != wanted { problems.append("\(given) of \(wanted) partitions are worked on") }
    return problems
  }
}

@Test("whatever happens, no two members work on one partition, and a group that is left in peace settles evenly")
func randomGroupHistories() {
  var counts: [String: Int] = [:]
  for seed: UInt64 in 1...150 {
    var history = History(seed: seed)
    for _ in 0..<150 where history.world.problems.isEmpty { history.step() }
    let problems = history.world.problems.isEmpty ? history.quiet() : history.world.problems
    #expect(problems.isEmpty, "seed \(seed), repeat with History(seed: \(seed)): \(problems.prefix(3))")
    counts.merge(history.counts) { $0 + $1 }
  }
  for what in [
    "joined", "left", "paused", "beat", "Assigning", "Reconciling", "Stable", "unknownMember",
    "groupTooLarge", "unreleasedInstance",
  ] {
    #expect(counts[what, default: 0] > 20, "too few runs reach \(what): \(counts)")
  }
}
