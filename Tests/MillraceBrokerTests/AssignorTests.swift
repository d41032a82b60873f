// AssignorTests: both assignors over random groups: everything is given once, evenly, and little of it moves.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceBroker

private typealias Assignment = [String: Set<TopicIDPartition>]

private func topic(_ number: Int) -> TopicID { TopicID(high: 1, low: UInt64(number)) }

private func partitions(_ topic: TopicID, _ numbers: Range<Int32>) -> Set<TopicIDPartition> {
  Set(numbers.map { TopicIDPartition(topic, $0) })
}

private func input(
  _ topics: [Int: Int32], _ members: [(id: String, topics: [Int])], current: Assignment = [:]
) -> AssignorInput {
  AssignorInput(
    members: members.map { member in
      AssignorMember(
        id: member.id, topics: Set(member.topics.map { topic($0) }), current: current[member.id] ?? [])
    }, topics: Dictionary(uniqueKeysWithValues: topics.map { (topic($0.key), $0.value) }))
}

/// A random group; with `equal`, all members subscribe to the same.
private func randomInput(_ random: inout SeededRandom, equal: Bool, topics: Int = 5, members: Int = 7) -> AssignorInput
{
  let numbers = Array(1...Int.random(in: 1...topics, using: &random))
  let counts = Dictionary(uniqueKeysWithValues: numbers.map { ($0, Int32.random(in: 0...9, using: &random)) })
  let shared = numbers.filter { _ in !random.oneIn(4) }
  let names = (0..<Int.random(in: 1...members, using: &random)).map { "m\($0)" }
  return input(counts, names.map { ($0, equal ? shared : numbers.filter { _ in random.oneIn(2) }) })
}

/// The same group after something happened to it: members went and came, topics grew, went, came.
private func changed(_ input: AssignorInput, _ last: Assignment, _ random: inout SeededRandom) -> AssignorInput {
  var next = input
  for index in next.members.indices { next.members[index].current = last[next.members[index].id] ?? [] }
  switch Int.random(in: 0..<4, using: &random) {
  case 0 where next.members.count > 1: next.members.remove(at: Int.random(in: 0..<next.members.count, using: &random))
  case 1:
    var newcomer = next.members[0]
    newcomer.id = "n\(UInt16.random(in: 0...(.max), using: &random))"
    newcomer.current = []
    next.members.append(newcomer)
  case 2:
    for (id, count) in next.topics where random.oneIn(2) { next.topics[id] = count + 2 }
  default:
    for id in next.topics.keys where random.oneIn(3) { next.topics[id] = nil }
  }
  return next
}

/// Every partition of every subscribed topic is with exactly one of its subscribers, and nothing else is given.
private func problem(_ input: AssignorInput, _ result: Assignment) -> String? {
  var owners: [TopicIDPartition: String] = [:]
  for member in input.members {
    guard let given = result[member.id] else { return "\(member.id) is missing" }
    for one in given {
      guard member.topics.contains(one.topic), let count = input.topics[one.topic], (0..<count).contains(one.partition)
      else { return "\(member.id) must not have \(one)" }
      if let other = owners.updateValue(member.id, forKey: one) { return "\(one) is with \(other) and \(member.id)" }
    }
  }
  if result.count != input.members.count { return "\(result.count) results for \(input.members.count) members" }
  let wanted = input.sortedTopics.reduce(0) { $0 + Int(input.topics[$1] ?? 0) }
  return owners.count == wanted ? nil : "\(owners.count) of \(wanted) partitions are given"
}

/// Partitions that somebody had, who is still there and may have them, and that are now with another one.
private func moved(_ input: AssignorInput, _ result: Assignment) -> Int {
  input.members.reduce(0) { sum, member in
    let kept = member.current.filter { one in
      member.topics.contains(one.topic) && one.partition < input.topics[one.topic] ?? 0
    }
    return sum + kept.subtracting(result[member.id] ?? []).count
  }
}

@Test(
  "both assignors give everything once, and nothing moves while nothing changes", arguments: ServerAssignor.allCases)
func everythingOnce(_ assignor: ServerAssignor) {
  for seed: UInt64 in 1...500 {
    var random = SeededRandom(seed: seed)
    var input = randomInput(&random, equal: random.oneIn(2))
    var result = assignor.assign(input)
    for step in 0..<6 {
      #expect(problem(input, result) == nil, "seed \(seed), step \(step)")
      for index in input.members.indices { input.members[index].current = result[input.members[index].id] ?? [] }
      let again = assignor.assign(input)
      #expect(again == result, "seed \(seed), step \(step): an unchanged group moved \(moved(input, again)) partitions")
      input = changed(input, result, &random)
      result = assignor.assign(input)
    }
  }
}

@Test("the order in which members are listed changes nothing", arguments: ServerAssignor.allCases)
func orderOfMembers(_ assignor: ServerAssignor) {
  for seed: UInt64 in 1...100 {
    var random = SeededRandom(seed: seed)
    var input = randomInput(&random, equal: false)
    let result = assignor.assign(input)
    input.members.shuffle(using: &random)
    #expect(assignor.assign(input) == result, "seed \(seed)")
  }
}

@Test("uniform, equal subscriptions: at most one partition more than another, and the fewest possible move")
func uniformEqual() {
  var moves = 0
  for seed: UInt64 in 1...500 {
    var random = SeededRandom(seed: seed)
    var input = randomInput(&random, equal: true)
    var result = UniformAssignor.assign(input)
    for _ in 0..<6 {
      input = changed(input, result, &random)
      result = UniformAssignor.assign(input)
      let loads = result.values.map(\.count)
      #expect((loads.max() ?? 0) - (loads.min() ?? 0) <= 1, "seed \(seed): \(loads)")
      // As many members as the remainder says may keep one more than the others; those who had most do.
      let valid = input.members.map { member in
        member.current.count { member.topics.contains($0.topic) && $0.partition < input.topics[$0.topic] ?? 0 }
      }
      let total = loads.reduce(0, +)
      let (share, larger) = total.quotientAndRemainder(dividingBy: input.members.count)
      let rich = min(larger, valid.count { $0 > share })
      let keep = valid.reduce(0) { $0 + min($1, share) } + rich
      let fewest = valid.reduce(0, +) - keep
      #expect(moved(input, result) == fewest, "seed \(seed): had \(valid), have \(loads)")
      moves += fewest
    }
  }
  #expect(moves > 500, "the groups hardly ever had to move anything: \(moves)")
}

/// The least sum of squared loads over all distributions there are.
private func leastSquares(_ input: AssignorInput) -> Int {
  let all = input.sortedTopics.flatMap { topic in (0..<(input.topics[topic] ?? 0)).map { _ in topic } }
  var loads = Array(repeating: 0, count: input.members.count)
  var best = Int.max
  func place(_ at: Int) {
    if at == all.count {
      best = min(best, loads.reduce(0) { $0 + $1 * $1 })
      return
    }
    for member in loads.indices where input.members[member].topics.contains(all[at]) {
      loads[member] += 1
      place(at + 1)
      loads[member] -= 1
    }
  }
  place(0)
  return best
}

@Test("oracle: uniform, any subscriptions: no other distribution is more even")
func oracleUniform() {
  for seed: UInt64 in 1...300 {
    var random = SeededRandom(seed: seed)
    var input = randomInput(&random, equal: false, topics: 3, members: 3)
    for id in input.topics.keys.sorted(by: { $0.low < $1.low }) {
      input.topics[id] = Int32.random(in: 0...3, using: &random)
    }
    // From any earlier distribution, also an uneven one.
    for id in input.sortedTopics {
      for partition in 0..<(input.topics[id] ?? 0) where !random.oneIn(3) {
        let takers = input.members.indices.filter { input.members[$0].topics.contains(id) }
        guard let taker = takers.randomElement(using: &random) else { continue }
        input.members[taker].current.insert(TopicIDPartition(id, partition))
      }
    }
    let result = UniformAssignor.assign(input)
    #expect(problem(input, result) == nil, "seed \(seed)")
    let squares = result.values.reduce(0) { $0 + $1.count * $1.count }
    #expect(squares == leastSquares(input), "seed \(seed): \(result.mapValues(\.count))")
  }
}

@Test("uniform: a chain of three members evens out what no single move can")
func uniformChain() {
  // Only m1 can take from m0, and only m2 from m1.
  let current: Assignment = ["m0": partitions(topic(1), 0..<2), "m1": partitions(topic(2), 0..<1), "m2": []]
  let result = UniformAssignor.assign(
    input([1: 2, 2: 1], [("m0", [1]), ("m1", [1, 2]), ("m2", [2])], current: current))
  #expect(result.mapValues(\.count) == ["m0": 1, "m1": 1, "m2": 1])
}

@Test("uniform: a new group gets every topic spread over its members")
func uniformSpread() {
  let result = UniformAssignor.assign(input([1: 4, 2: 4], [("a", [1, 2]), ("b", [1, 2])]))
  for (_, given) in result {
    #expect(given.count { $0.topic == topic(1) } == 2 && given.count { $0.topic == topic(2) } == 2)
  }
}

@Test("range: each member gets one run of each topic, sizes differ by one, and equal topics are co-located")
func rangeRuns() {
  for seed: UInt64 in 1...300 {
    var random = SeededRandom(seed: seed)
    var input = randomInput(&random, equal: random.oneIn(2))
    var result = RangeAssignor.assign(input)
    for _ in 0..<4 {
      for id in input.sortedTopics {
        let subscribers = input.members.filter { $0.topics.contains(id) }
        let runs = subscribers.map { member in
          (result[member.id] ?? []).filter { $0.topic == id }.map(\.partition).sorted()
        }
        for run in runs where !run.isEmpty {
          #expect(run == Array(run[0]...run[run.count - 1]), "seed \(seed): \(run)")
        }
        let sizes = runs.map(\.count)
        #expect((sizes.max() ?? 0) - (sizes.min() ?? 0) <= 1, "seed \(seed): \(sizes)")
        for other in input.sortedTopics where input.topics[other] == input.topics[id] {
          guard input.members.allSatisfy({ $0.topics.contains(id) == $0.topics.contains(other) }) else { continue }
          for member in subscribers {
            let given = result[member.id] ?? []
            let here = Set(given.filter { $0.topic == id }.map(\.partition))
            let there = Set(given.filter { $0.topic == other }.map(\.partition))
            #expect(here == there, "seed \(seed): \(member.id) has \(here) and \(there)")
          }
        }
      }
      input = changed(input, result, &random)
      result = RangeAssignor.assign(input)
    }
  }
}

@Test("range: a newcomer takes its run from the end, whatever its name, and one that leaves only shifts the others")
func rangeSticks() {
  let two: Assignment = ["b": partitions(topic(1), 0..<2), "c": partitions(topic(1), 2..<4)]
  let three = RangeAssignor.assign(input([1: 4], [("a", [1]), ("b", [1]), ("c", [1])], current: two))
  #expect(
    three == [
      "b": partitions(topic(1), 0..<2), "c": partitions(topic(1), 2..<3), "a": partitions(topic(1), 3..<4),
    ])
  let left = RangeAssignor.assign(input([1: 4], [("a", [1]), ("c", [1])], current: three))
  #expect(left == ["c": partitions(topic(1), 0..<2), "a": partitions(topic(1), 2..<4)])
}

@Test("a large group is assigned in one go: 200 members, 20,000 partitions")
func largeGroup() {
  let topics = Dictionary(uniqueKeysWithValues: (1...20).map { ($0, Int32(1000)) })
  let members = (0..<200).map { (id: "m\($0)", topics: Array(1...20)) }
  let first = UniformAssignor.assign(input(topics, members))
  #expect(first.values.allSatisfy { $0.count == 100 })
  let second = UniformAssignor.assign(input(topics, members + [(id: "new", topics: Array(1...20))], current: first))
  #expect(problem(input(topics, members + [(id: "new", topics: Array(1...20))]), second) == nil)
  #expect(second["new"]?.count == 99)
}

@Test("agrees with the plain rules: uniform, any subscriptions: the same loads, and hardly more moves")
func agreesUniform() {
  var (moves, plain) = (0, 0)
  for seed: UInt64 in 1...600 {
    var random = SeededRandom(seed: seed)
    var input = randomInput(&random, equal: random.oneIn(3), topics: 8, members: 12)
    var result = UniformAssignor.assign(input)
    for step in 0..<6 {
      input = changed(input, result, &random)
      result = UniformAssignor.assign(input)
      let expected = NaiveUniformAssignor.assign(input)
      #expect(problem(input, result) == nil, "seed \(seed), step \(step)")
      #expect(
        result.values.map(\.count).sorted() == expected.values.map(\.count).sorted(), "seed \(seed), step \(step)")
      moves += moved(input, result)
      plain += moved(input, expected)
    }
  }
  #expect(plain > 2000, "the groups hardly ever had to move anything: \(plain)")
  #expect(moves * 100 <= plain * 102, "\(moves) partitions moved, \(plain) by the plain rules")
}

@Test("uniform: after another assignor, and with a subscription for each member, the result is as even as can be")
func uniformManyClasses() {
  // Member n reads topics n to n + 4: chains along the members are the only way to even things out.
  let topics = Dictionary(uniqueKeysWithValues: (0..<64).map { ($0, Int32($0 < 4 ? 40 : 4)) })
  let members = (0..<60).map { (id: "m\(100 + $0)", topics: Array($0..<($0 + 5))) }
  let first = RangeAssignor.assign(input(topics, members))
  let given = input(topics, members, current: first)
  let result = UniformAssignor.assign(given)
  #expect(problem(given, result) == nil)
  let expected = NaiveUniformAssignor.assign(given)
  #expect(result.values.map(\.count).sorted() == expected.values.map(\.count).sorted())
  var again = given
  for at in again.members.indices { again.members[at].current = result[again.members[at].id] ?? [] }
  #expect(UniformAssignor.assign(again) == result)
}

@Test("uniform: members that are known to subscribe to the same are assigned as if that had to be found out")
func uniformNumberedSubscriptions() {
  for seed: UInt64 in 1...100 {
    var random = SeededRandom(seed: seed)
    var input = randomInput(&random, equal: false)
    let result = ServerAssignor.allCases.map { $0.assign(input) }
    var subscriptions = GroupSubscriptions()
    for at in input.members.indices {
      input.members[at].subscription = subscriptions.enter(input.members[at].topics).number
    }
    #expect(ServerAssignor.allCases.map { $0.assign(input) } == result, "seed \(seed)")
  }
}
