// BroadcastTests: states that a second stream changes for all keys and workers, over random histories, against a model that recomputes.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private func isRule(_ item: Item) -> Bool { item.key == "k0" }

/// Values of the key "k0" are rules: a number has the text of the last rule of that number, and a rule below −4 takes the next one away.
private func keyed() -> JobDefinition {
  let rules = MapState<Int64, String>("rules")
  let list = ListState<Int64>("list")
  let last = ValueState<Int64>("last")
  let total = ValueState<Int64>("total")
  return items().filter { !isRule($0) }.keyBy { $0.key }.connect(
    broadcast: items("times of rules").filter { isRule($0) }, [rules, list, last], states: [total], name: "b"
  ) { (item: Item, key: StatefulContext<String>, emit: (String) -> Void) in
    key[total] = (key[total] ?? 0) + 1
    let shared = key.broadcast
    let text = shared[rules][item.number] ?? "none"
    emit("\(key.key) \(key[total] ?? 0) \(text) \(shared[rules].count) \(shared[list]) \(shared[last] ?? 0)")
  } onBroadcast: { rule, states in
    if rule.number < -4 {
      states[rules][rule.number + 1] = nil
    } else {
      states[rules][rule.number] = rule.text
    }
    states[list].append(rule.number)
    if states[list].count > 2 { states[list].removeFirst() }
    states[last] = rule.time
  }.to(topic: "out").job(named: "broadcast")
}

private func plain() -> JobDefinition {
  let rules = MapState<Int64, String>("rules", timeToLive: .milliseconds(30))
  return items().filter { !isRule($0) }.connect(
    broadcast: items("times of rules").filter { isRule($0) }, [rules], name: "b"
  ) { (item: Item, states: BroadcastValues, emit: (String) -> Void) in
    emit("\(item.text) \(states[rules][item.number] ?? "none") \(states[rules].elements.count)")
  } onBroadcast: { rule, states in
    states[rules][rule.number] = rule.text
  }.to(topic: "out").job(named: "broadcast")
}

@Test("every key and worker sees what a second stream has said by then, over crashes and other numbers of workers")
func oracleBroadcast() throws {
  var failures = 0
  for seed in UInt64(0)..<30 {
    var random = SeededRandom(seed: seed)
    let batches = randomBatches(50, keys: 5, using: &random)
    let history = try History(
      of: keyed(), over: batches.map { $0.map(\.record) }, using: &random, crashes: seed % 2 == 1)
    failures += history.failures
    var (rules, list, last, totals) = ([Int64: String](), [Int64](), Int64(0), [String: Int64]())
    let expected = batches.map { batch in
      // Of one batch, the rules come first.
      for rule in batch where rule.key == "k0" {
        if rule.number < -4 { rules[rule.number + 1] = nil } else { rules[rule.number] = Item(rule).text }
        list = (list + [rule.number]).suffix(2)
        last = rule.time
      }
      return batch.filter { $0.key != "k0" }.map { event in
        totals[event.key, default: 0] += 1
        return "\(event.key) \(totals[event.key] ?? 0) \(rules[event.number] ?? "none") \(rules.count) \(list) \(last)"
      }
    }
    let isRight = history.agrees(history.out, with: expected)
    #expect(isRight, "seed \(seed)")
  }
  #expect(failures > 30)
}

@Test("a stream without keys keeps its order, and shared states their time to live")
func oracleBroadcastMap() throws {
  for seed in UInt64(0)..<20 {
    var random = SeededRandom(seed: 300 + seed)
    let batches = randomBatches(50, keys: 3, using: &random)
    let history = try History(
      of: plain(), over: batches.map { $0.map(\.record) }, using: &random, crashes: seed % 2 == 1)
    var rules: [Int64: TimedEvent] = [:]
    var watermark = Int64.min
    let expected = batches.flatMap { batch in
      for rule in batch where rule.key == "k0" { rules[rule.number] = rule }
      let out = batch.filter { $0.key != "k0" }.map { event in
        "\(Item(event).text) \(rules[event.number].map { Item($0).text } ?? "none") \(rules.count)"
      }
      // The clock follows the values of the first stream and the rules alike: both assign times to what the batch leads to.
      watermark = max(watermark, batch.map(\.time).max() ?? .min)
      rules = rules.filter { $0.value.time + 30 > watermark }
      return out
    }
    let isRight = history.out == expected
    #expect(isRight, "seed \(seed)")
  }
}

@Test("rules that go through keyed operators first reach every worker", arguments: [1, 2, 5])
func broadcastOfCounts(workers: Int) throws {
  let counts = MapState<String, Int64>("counts")
  let job = DataStream.topic("in").map { $0.value.text }.connect(
    broadcast: DataStream.topic("rules").map { $0.value.text }.keyBy { $0 }.count(name: "n"), [counts], name: "b"
  ) { (text: String, states: BroadcastValues, emit: (String) -> Void) in
    emit("\(text) \(states[counts].elements.map { "\($0.name)\($0.value)" })")
  } onBroadcast: { count, states in
    states[counts][count.key] = count.value
  }.to(topic: "out").job(named: "counts")
  let driver = TestDriver(job, partitions: 3)
  driver.workers = workers
  for number in 0..<12 { try driver.send("rules", value: "r\(number % 5)", partition: Int32(number % 3)) }
  try driver.run()
  driver.crash()
  for number in 0..<9 { try driver.send("in", value: "v\(number)", partition: Int32(number % 3)) }
  try driver.run()
  let out = try driver.output("out").map { $0.value?.text ?? "" }.sorted()
  #expect(out == (0..<9).map { #"v\#($0) ["r03", "r13", "r22", "r32", "r42"]"# })
  // Five counts, five shared states, two clocks of three partitions each; no state is counted for each worker.
  let keys = driver.figures.stateKeys
  driver.crash()
  driver.workers = 1
  try driver.send("in", value: "v", partition: 0)
  try driver.run()
  #expect(driver.figures.stateKeys == keys)
  #expect(
    job.explain().nodes.first { $0.kind == "BroadcastMap" }?.upstreams.count == 2
      && job.explain().text.contains("Spread") == false)
}
