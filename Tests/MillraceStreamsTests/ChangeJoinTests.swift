// ChangeJoinTests: joins of tables, over random histories and crashes, against a model that pairs what is there; and
// that no commit ever shows what no prefix of the input explains.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private enum Shape: CaseIterable { case inner, left, growing }

/// The even numbers are one table and the odd ones the other, each with the last number of a key; a number below 0
/// deletes its key. Those join that are the same when a third of the number is divided by 3.
private func job(_ shape: Shape) -> JobDefinition {
  let events = DataStream.topic("in").map(TimedEvent.init)
  @Sendable func group(_ number: Int64) -> String { "\(number / 3 % 3)" }
  func table(_ isLeft: Bool) -> DataStream<
    FlatMap<
      TableAggregate<Filter<Map<RecordInput, TimedEvent>>, String, Latest<TimedEvent, Int64>>,
      UpdateChanges<String, Int64>
    >
  > {
    events.filter { $0.isLeft == isLeft }.keyBy { $0.key }
      .latest(name: isLeft ? "l" : "r") { $0.number < 0 ? nil : $0.number }.changes()
  }
  let right = table(false).keyBy { group($0.value.value) }
  let output =
    switch shape {
    case .inner:
      table(true).keyBy { group($0.value.value) }.join(right, name: "j").map {
        "\($0.weight)|\($0.value.left.key) \($0.value.left.value) \($0.value.right.key) \($0.value.right.value)"
      }.to(topic: "out")
    case .left:
      table(true).keyBy { group($0.value.value) }.leftJoin(right, name: "j").map {
        let right = $0.value.right
        return "\($0.weight)|\($0.value.left.key) \($0.value.left.value) "
          + (right.map { "\($0.key) \($0.value)" } ?? "-")
      }.to(topic: "out")
    case .growing:
      // All that ever came on the left, with what is there on the right.
      events.filter { $0.isLeft && $0.number >= 0 }.map { Keyed(key: $0.key, value: $0.number) }.asChanges()
        .keyBy { group($0.value.value) }.leftJoin(right, name: "j").map {
          let right = $0.value.right
          return "\($0.weight)|\($0.value.left.key) \($0.value.left.value) "
            + (right.map { "\($0.key) \($0.value)" } ?? "-")
        }.to(topic: "out")
    }
  return output.job(named: "join")
}

/// The rows that are there when the events are through, with how often.
private func expected(_ shape: Shape, _ events: some Sequence<TimedEvent>) -> [String: Int64] {
  var tables: [Bool: [String: Int64]] = [true: [:], false: [:]]
  var all: [(String, Int64)] = []
  for event in events {
    tables[event.isLeft]?[event.key] = event.number < 0 ? nil : event.number
    if event.isLeft, event.number >= 0 { all.append((event.key, event.number)) }
  }
  let left = shape == .growing ? all : (tables[true] ?? [:]).map { ($0.key, $0.value) }
  var rows: [String: Int64] = [:]
  for (key, number) in left {
    let partners = (tables[false] ?? [:]).filter { $0.value / 3 % 3 == number / 3 % 3 }
    for partner in partners { rows["\(key) \(number) \(partner.key) \(partner.value)", default: 0] += 1 }
    if partners.isEmpty, shape != .inner { rows["\(key) \(number) -", default: 0] += 1 }
  }
  return rows
}

@Test("oracle: joins of tables and changes, inner and left, over crashes", arguments: Shape.allCases)
private func changeJoinHistories(_ shape: Shape) throws {
  var failures = 0
  for seed in UInt64(0)..<histories(50) {
    var random = SeededRandom(seed: seed)
    let batches = (0..<30).map { _ in
      (0..<Int.random(in: 1...4, using: &random)).map { _ in
        TimedEvent(
          key: "k\(Int.random(in: 0..<4, using: &random))", number: .random(in: -6...20, using: &random), time: 0)
      }
    }
    let history = try History(
      of: job(shape), over: batches.map { $0.map(\.record) }, using: &random, crashes: seed % 2 == 1)
    failures += history.failures
    // After each step the rows are those of some number of batches, and those rise.
    let models = [[:]] + batches.indices.map { expected(shape, batches[...$0].joined()) }
    var rows: [String: Int64] = [:]
    var (at, begin) = (0, 0)
    for end in history.steps {
      for text in history.out[begin..<end] {
        let parts = text.split(separator: "|")
        let sum = rows[String(parts[1]), default: 0] + (Int64(parts[0]) ?? 0)
        rows[String(parts[1])] = sum == 0 ? nil : sum
      }
      begin = end
      while at < models.count, models[at] != rows { at += 1 }
    }
    #expect(at < models.count, "\(shape) seed \(seed)")
    #expect(rows == models.last, "\(shape) seed \(seed)")
  }
  #expect(failures > histories(20) / 2)
}

/// Moves money between accounts; what an account has is what it got less what it gave, by a join of two tables.
private func accounts() -> JobDefinition {
  let transfers = DataStream.topic("in").map(TimedEvent.init)
  // The key says from where to where: "3>5".
  let credits = transfers.keyBy { String($0.key.split(separator: ">")[1]) }.table.sum(name: "credits") { $0.number }
  let debits = transfers.keyBy { String($0.key.split(separator: ">")[0]) }.table.sum(name: "debits") { $0.number }
  let balances = credits.changes().keyBy { $0.value.key }.join(debits.changes().keyBy { $0.value.key }, name: "b")
    .map { $0.map { Keyed(key: $0.left.key, value: $0.left.value - $0.right.value) } }
  return StreamOutput.job(
    named: "accounts",
    [balances.keyBy { _ in "total" }.sum(name: "total") { $0.value }.to(topic: "out")])
}

@Test("internal consistency: over transfers between accounts, the total is 0 in every output of every commit")
func transfersAddUpToNothing() throws {
  for seed in UInt64(0)..<histories(40) {
    var random = SeededRandom(seed: seed)
    // The first batch sees to it that every account has both given and got.
    var batches = [(0..<8).map { TimedEvent(key: "\($0)>\(($0 + 1) % 8)", number: 100, time: 0) }]
    for _ in 0..<40 {
      batches.append(
        (0..<Int.random(in: 1...6, using: &random)).map { _ in
          TimedEvent(
            key: "\(Int.random(in: 0..<8, using: &random))>\(Int.random(in: 0..<8, using: &random))",
            number: .random(in: 1...50, using: &random), time: 0)
        })
    }
    let history = try History(
      of: accounts(), over: batches.map { $0.map(\.record) }, using: &random, crashes: seed % 2 == 1)
    #expect(history.out == ["0"], "seed \(seed)")
  }
}

@Test(
  "a left join takes the row without a partner back when the first partner comes, and brings it again after the last")
func leftJoinRetracts() throws {
  let events = DataStream.topic("in").map(TimedEvent.init)
  let left = events.filter(\.isLeft).map(\.number).asChanges().keyBy { _ in "x" }
  let right = events.filter { !$0.isLeft }.map { Change($0.number, weight: $0.time) }.keyBy { _ in "x" }
  let job = left.leftJoin(right).map { "\($0.weight) \($0.value.left) \($0.value.right.map { "\($0)" } ?? "-")" }
    .to(topic: "out").job(named: "left")
  let driver = TestDriver(job)
  func step(_ number: Int64, _ weight: Int64 = 1) throws -> [String] {
    driver.crash()
    try driver.send("in", [TimedEvent(key: "x", number: number, time: weight).record])
    try driver.run()
    return try driver.newOutput("out").map { $0.value?.text ?? "" }
  }
  #expect(try step(2) == ["1 2 -"])
  #expect(try step(2) == ["1 2 -"])
  #expect(try step(1) == ["-2 2 -", "2 2 1"])
  #expect(try step(3, 2) == ["4 2 3"])
  #expect(try Set(step(4)) == ["1 4 1", "2 4 3"])
  #expect(try step(1, 0) == [])
  #expect(try Set(step(1, -1)) == ["-2 2 1", "-1 4 1"])
  #expect(try Set(step(3, -1)) == ["-2 2 3", "-1 4 3"])
  #expect(try step(3, -1).sorted() == ["-1 4 3", "-2 2 3", "1 4 -", "2 2 -"])
}

@Test("oracle: distinct values of changes, over crashes")
func distinctHistories() throws {
  let job = DataStream.topic("in").map(TimedEvent.init).map { Change($0.key, weight: $0.number) }.distinct(name: "d")
    .map { "\($0.weight) \($0.value)" }.to(topic: "out").job(named: "distinct")
  var failures = 0
  for seed in UInt64(0)..<histories(40) {
    var random = SeededRandom(seed: seed)
    let batches = (0..<40).map { _ in
      (0..<Int.random(in: 1...4, using: &random)).map { _ in
        TimedEvent(
          key: "k\(Int.random(in: 0..<5, using: &random))", number: .random(in: -2...2, using: &random), time: 0)
      }
    }
    let history = try History(
      of: job, over: batches.map { $0.map(\.record) }, using: &random, crashes: seed % 2 == 1)
    failures += history.failures
    let models: [Set<String>] =
      [[]]
      + batches.indices.map { last in
        var counts: [String: Int64] = [:]
        for event in batches[...last].joined() { counts[event.key, default: 0] += event.number }
        return Set(counts.filter { $0.value > 0 }.keys)
      }
    var present: Set<String> = []
    var (at, begin) = (0, 0)
    for end in history.steps {
      for text in history.out[begin..<end] {
        let parts = text.split(separator: " ")
        let isRight =
          parts[0] == "1" ? present.insert(String(parts[1])).inserted : present.remove(String(parts[1])) != nil
        #expect(isRight, "seed \(seed): \(text)")
      }
      begin = end
      while at < models.count, models[at] != present { at += 1 }
    }
    #expect(at < models.count, "seed \(seed)")
    #expect(present == models.last, "seed \(seed)")
  }
  #expect(failures > histories(20) / 2)
}
