// FiguresTests: what a job tells of its operators and inputs, with exact numbers.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

private func words() -> JobDefinition {
  DataStream.topic("lines").flatMap(Words()).filter { $0.text != "of" }.keyBy(\.self).count(name: "words")
    .to(topic: "counts").job(named: "words")
}

/// The chain that has an operator.
private func figures(_ driver: TestDriver, _ kind: String, _ name: String = "") throws -> ChainFigures {
  try #require(
    driver.figures.chains.first { $0.operators.contains { $0.kind == kind && $0.name == name } }, "no \(kind) \(name)")
}

private func text(_ chain: ChainFigures) -> String {
  chain.operators.map { "\($0.number): \($0.kind) \($0.name)" }.joined(separator: ", ")
}

@Test("chains count what comes in and goes out, in values and in bytes, and the entries and bytes of their states")
func chainCounts() throws {
  let driver = TestDriver(words())
  try driver.send("lines", value: "a of b")
  try driver.send("lines", value: "b of bb b of")
  try driver.run()
  let chains = driver.figures.chains
  #expect(
    chains.map(text) == [
      "0: RecordInput lines, 1: FlatMap , 2: Filter ", "3: KeyedAggregate words", "4: KeyedTopicSink counts",
    ])
  #expect(chains.map(\.upstreams) == [[], [2], [3]])
  #expect(chains.map(\.isKeyed) == [false, true, false])
  #expect(chains.map(\.recordsIn) == [2, 5, 3])
  #expect(chains.map(\.recordsOut) == [5, 3, 3])
  #expect(chains.map { $0.bytesIn != nil } == [true, false, false])
  #expect(chains[0].bytesIn == driver.figures.bytesIn && driver.figures.bytesIn > 2 * 61)
  #expect(chains.map { $0.bytesOut != nil } == [false, false, true])
  #expect(chains[2].bytesOut == driver.figures.bytesOut && driver.figures.bytesOut > 61)
  // The input's state is its event time, of which nothing is kept where nobody asks. A word has four bytes before it and eight behind.
  let (entries, sizes): ([Int?], [Int?]) = ([0, 3, nil], [0, 3 * 12 + 4, nil])
  #expect(chains.map(\.stateEntries) == entries)
  #expect(chains.map(\.stateBytes) == sizes)
  #expect(driver.figures.recordsOut == 3 && driver.figures.steps == 1 && driver.figures.commits == 1)
  #expect(driver.figures.stateKeys == 3 && driver.figures.lag == 0)
}

@Test("what is filtered behind keyed state does not reach the chain behind it")
func behindKeyedState() throws {
  let job = DataStream.topic("lines").flatMap(Words()).keyBy(\.self).count(name: "words").filter { $0.value > 1 }
    .to(topic: "counts").job(named: "often")
  let driver = TestDriver(job)
  try driver.send("lines", value: "a b a c c")
  try driver.run()
  let chains = driver.figures.chains
  #expect(chains.map(text)[1] == "2: KeyedAggregate words, 3: Filter ")
  #expect(chains.map(\.recordsIn) == [1, 5, 2])
  #expect(chains.map(\.recordsOut) == [5, 2, 2])
}

@Test("a state's bytes follow values that grow and keys that go, and are found again")
func stateBytes() throws {
  let job = DataStream.topic("in").keyBy { $0.key.text }
    .process(state: String.self, name: "notes") {
      (record: InputRecord, context: ProcessContext<String, String>, _: (Int64) -> Void) in
      let text = record.value.text
      context.state = text.isEmpty ? nil : (context.state ?? "") + text
    }.forEach { _ in }.job(named: "notes")
  let driver = TestDriver(job)
  try driver.send("in", key: "k", value: "12345")
  try driver.send("in", key: "l", value: "1")
  try driver.run()
  let before = try #require(try figures(driver, "KeyedProcess", "notes").stateBytes)
  try driver.send("in", key: "k", value: "678")
  try driver.run()
  let grown = try figures(driver, "KeyedProcess", "notes")
  #expect(grown.stateBytes == before + 3 && grown.stateEntries == 2)
  driver.crash()
  try driver.run()
  let found = try figures(driver, "KeyedProcess", "notes")
  #expect(found.stateBytes == before + 3 && found.stateEntries == 2 && found.recordsIn == 0)
  try driver.send("in", key: "k", value: "")
  try driver.send("in", key: "l", value: "")
  try driver.run()
  let gone = try figures(driver, "KeyedProcess", "notes")
  #expect(gone.stateEntries == 0 && gone.stateBytes == 0 && gone.recordsIn == 2)
}

@Test("what is shared is counted once before it, and comes to each that reads it", arguments: [1, 3])
func sharedCounts(workers: Int) throws {
  let words = DataStream.topic("lines").flatMap(Words()).shared()
  let counts = words.keyBy(\.self).count(name: "words").to(topic: "counts")
  let some = words.filter { $0.text == "a" }.map { $0.text }.to(topic: "some")
  let job = StreamOutput.job(named: "twice", [counts, words.merge(words).map { $0.text }.to(topic: "all"), some])
  let driver = TestDriver(job)
  driver.workers = workers
  try driver.send("lines", value: "a b a")
  try driver.run()
  let shared = try figures(driver, "Shared")
  #expect(text(shared) == "0: RecordInput lines, 1: FlatMap , 2: Shared ")
  #expect(shared.recordsIn == 1 && shared.recordsOut == 3)
  let count = try figures(driver, "KeyedAggregate", "words")
  #expect(count.recordsIn == 3 && count.recordsOut == 2 && count.upstreams == [2])
  let merge = try figures(driver, "Merge")
  #expect(merge.recordsIn == 6 && merge.recordsOut == 6 && merge.upstreams == [2, 2])
  #expect(text(merge) == "5: Merge , 6: Map ")
  #expect(try figures(driver, "TopicSink", "all").recordsOut == 6)
  let filter = try figures(driver, "Filter")
  #expect(filter.recordsIn == 3 && filter.recordsOut == 2 && filter.upstreams == [2])
}

/// A job with most operators there are.
private func manyOperators() -> JobDefinition {
  let lines = DataStream.topic("lines").map { $0.value.text }.shared()
  let timed = DataStream.topic("timed").eventTime(.boundedOutOfOrderness(.milliseconds(10))) { $0.timestamp }
    .map { $0.value.text }.keyBy { $0 }
  let left = lines.keyBy { $0 }
  let table = lines.keyBy { $0 }.latest(name: "latest")
  return StreamOutput.job(
    named: "many",
    [
      lines.filter { !$0.isEmpty }.compactMap { $0.isEmpty ? nil : $0 }.to(topic: "out"),
      left.count(name: "counts").forEach { _ in },
      left.distinctCount(name: "different") { $0 }.forEach { _ in },
      left.deduplicate(name: "once").forEach { _ in },
      left.top(2, name: "top") { Int64($0.utf8.count) }.forEach { _ in },
      timed.window(.tumbling(.seconds(1))).count(name: "windows").forEach { _ in },
      timed.window(.hopping(.seconds(2), every: .seconds(1))).count(name: "hops").forEach { _ in },
      timed.sessions(gap: .seconds(1)).count(name: "sessions").forEach { _ in },
      timed.window(.count(2)).count(name: "panes").forEach { _ in },
      timed.sortedByTime(name: "sorted").forEach { _ in },
      left.join(left, name: "pairs").forEach { _ in },
      left.join(table).forEach { _ in },
      lines.map(onError: .skip) { $0 }.forEach { _ in },
      lines.merge(lines).forEach { _ in },
    ])
}

@Test("operators have the numbers and names that a job's explanation says, each in one chain", arguments: [1, 2])
func sameOperators(workers: Int) throws {
  let job = manyOperators()
  let driver = TestDriver(job)
  driver.workers = workers
  try driver.run()
  let explained = job.explain().nodes
  let chains = driver.figures.chains
  #expect(explained.count > 30)
  let operators = chains.flatMap(\.operators).sorted { $0.number < $1.number }
  let told = operators.map { "\($0.number) \($0.kind) \($0.name)" }
  let known = explained.enumerated().map { "\($0) \($1.kind) \($1.name)" }
  #expect(told == known)
  for chain in chains {
    let first = explained[chain.operators[0].number]
    #expect(chain.upstreams == first.upstreams && chain.isKeyed == first.isKeyed)
    // Chains are what was bound: who has state is where the explanation says that it is.
    let keeps = chain.operators.contains { stateful.contains($0.kind) }
    #expect((chain.stateEntries != nil) == keeps, "\(text(chain))")
    for (before, behind) in zip(chain.operators, chain.operators.dropFirst()) {
      #expect(explained[behind.number].upstreams == [before.number], "\(text(chain))")
    }
  }
}

private let stateful: Set<String> = [
  "RecordInput", "AssignTime", "KeyedAggregate", "DistinctCount", "Deduplicate", "WindowAggregate", "SortByTime",
  "StreamJoin", "StreamTableJoin", "KeyedSelect", "ChangeJoin", "BroadcastProcess", "KeyedProcess",
]

@Test("the figures of several workers add up to those of one, also after a crash", arguments: [2, 3])
func figuresOfWorkers(workers: Int) throws {
  var told: [[ChainFigures]] = []
  var states: [Int] = []
  for count in [1, workers] {
    let driver = TestDriver(manyOperators(), partitions: 2)
    driver.workers = count
    for round in 0..<3 {
      for number in 0..<40 as Range<Int64> {
        let value = "v\(number % 7)"
        try driver.send("lines", value: value, partition: Int32(number % 2))
        try driver.send("timed", value: value, at: number * 100 + Int64(round) * 4_000, partition: Int32(number % 2))
      }
      try driver.run()
      if round == 1 { driver.crash() }
    }
    // How time is shared is not the same twice, nor how many batches a sink wrote.
    told.append(
      driver.figures.chains.map { one in
        var one = one
        (one.busy, one.timedWith, one.bytesOut) = (nil, nil, nil)
        return one
      })
    states.append(driver.figures.stateKeys)
    #expect(told[told.count - 1].reduce(0) { $0 + ($1.stateEntries ?? 0) } == driver.figures.stateKeys)
  }
  #expect(states[0] == states[1] && told[0].count == told[1].count)
  for (one, several) in zip(told[0], told[1]) { #expect(one == several) }
  #expect(told[0].contains { $0.operators[0].kind == "StreamJoin" && $0.recordsOut > 100 })
  #expect(told[0].allSatisfy { $0.lateRecords == 0 })
}

@Test("chains say how far event time is behind them, which partition holds it back, and their late and failed values")
func watermarkHolder() throws {
  let job = DataStream.topic("in").eventTime(.boundedOutOfOrderness(.milliseconds(50)), name: "times") { $0.timestamp }
    .map(onError: .skip) { (record: InputRecord) throws in
      if record.value.text == "bad" { throw JobError(.corruptInput, "bad") }
      return record.value.text
    }.keyBy { $0 }.window(.tumbling(.milliseconds(100))).count(name: "windows").forEach { _ in }.job(named: "held")
  let driver = TestDriver(job, partitions: 3)
  try driver.run()
  #expect(try figures(driver, "AssignTime", "times").watermark == nil)
  for (partition, time) in [(0, 900), (1, 300), (2, 700)] as [(Int32, Int64)] {
    try driver.send("in", value: "a", at: time, partition: partition)
  }
  try driver.run()
  let held = try figures(driver, "AssignTime", "times")
  #expect(held.watermark == Timestamp(milliseconds: 250))
  #expect(held.watermarkHolder == InputPlace(input: "in", partition: 1))
  try driver.send("in", value: "a", at: 1_500, partition: 1)
  try driver.send("in", value: "bad", at: 1_500, partition: 1)
  try driver.run()
  let next = try figures(driver, "AssignTime", "times")
  #expect(next.watermark == Timestamp(milliseconds: 650))
  #expect(next.watermarkHolder == InputPlace(input: "in", partition: 2))
  #expect(driver.figures.watermark == next.watermark)
  try driver.send("in", value: "a", at: 1, partition: 0)
  try driver.run()
  #expect(try figures(driver, "WindowAggregate", "windows").lateRecords == 1)
  #expect(try figures(driver, "Attempt").failedRecords == 1)
  let windows = try figures(driver, "WindowAggregate", "windows")
  #expect(windows.watermark == next.watermark && windows.watermarkHolder == next.watermarkHolder)
  driver.crash()
  try driver.run()
  #expect(try figures(driver, "AssignTime", "times").watermarkHolder == InputPlace(input: "in", partition: 2))
}

@Test("inputs say how many records they lag behind, and for how long those have come")
func lagOfInputs() throws {
  var options = JobOptions()
  options.readBytes = 1
  options.stepBytes = 1
  let driver = TestDriver(words(), options: options)
  for time in [1_000, 1_200, 4_000] as [Int64] { try driver.send("lines", value: "a", at: time) }
  func lag() throws -> InputFigures {
    let inputs = driver.figures.inputs
    #expect(inputs.count == 1 && inputs[0].place == InputPlace(input: "lines", partition: 0))
    return inputs[0]
  }
  try driver.step()
  #expect(try lag().lag == 2)
  #expect(try lag().timeLag == .seconds(3))
  try driver.step()
  #expect(try lag().lag == 1)
  #expect(try lag().timeLag == .milliseconds(2_800))
  try driver.run()
  #expect(try lag().lag == 0)
  #expect(try lag().timeLag == .zero)
  #expect(driver.figures.steps == 3)
}

@Test("rates are over the last second and the last ten")
func rates() throws {
  let driver = TestDriver(words())
  try driver.run()
  for _ in 0..<20 {
    for _ in 0..<30 { try driver.send("lines", value: "a") }
    driver.pass(.seconds(1))
    try driver.run()
    _ = driver.figures
  }
  for rates in [driver.figures.lastSecond, driver.figures.lastTenSeconds] {
    #expect(rates.recordsIn == 30 && rates.steps == 1 && rates.recordsOut == 1)
    // A commit is durable when the step's sample was taken already.
    #expect(rates.commits >= 1)
  }
  driver.pass(.seconds(1))
  try driver.run()
  #expect(driver.figures.lastSecond.recordsIn == 0)
  #expect(driver.figures.lastTenSeconds.recordsIn == 27)
}
