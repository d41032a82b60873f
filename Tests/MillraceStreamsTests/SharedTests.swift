// SharedTests: streams that several outputs of a job use: run once, and the same as if each output ran them by itself.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Synchronization
import Testing

/// How often an operator was called, or how many things are alive.
private final class Calls: Sendable {
  let count = Atomic<Int>(0)
}

/// Everything that may stand before and behind a shared stream: state, windows, timers, event time, merging, another shared stream.
/// - Parameter withLate: event times that are assigned once more behind the shared stream, which one worker alone can do.
private func job(shared isShared: Bool, withLate: Bool, calls: Calls = Calls()) -> JobDefinition {
  // The operators before the first branching are there twice when nothing is shared, and must have other names then.
  func name(_ name: String, _ copy: Int) -> String { isShared ? name : "\(name)-\(copy)" }
  func first(_ copy: Int) -> DataStream<Deduplicate<AssignTime<Map<RecordInput, Item>>, String>> {
    DataStream.topic("in").map {
      calls.count.add(1, ordering: .relaxed)
      return Item(TimedEvent($0))
    }.eventTime(.monotonic, name: name("times", copy)) { Timestamp(milliseconds: $0.time) }
      .keyBy { "\($0.key) \($0.number)" }.deduplicate(within: .milliseconds(15), name: name("first", copy))
  }
  let firstOnce = first(0).shared()
  func windows<Source: Flow<Item>>(_ stream: DataStream<Source>, _ copy: Int)
    -> DataStream<WindowAggregate<Source, String, Counting<Item>, TimeWindows>>
  {
    stream.keyBy { $0.key }.window(TimeWindows.tumbling(.milliseconds(10))).count(name: name("windows", copy))
  }
  func outputs<A: Flow<Item>, B: Flow<Windowed<String, Int64>>>(
    _ items: (Int) -> DataStream<A>, _ windows: (Int) -> DataStream<B>
  ) -> [StreamOutput] {
    let plain = items(1).filter { $0.number > 0 }.map { "plain \($0.key) \($0.text)" }
    let merged = items(2).filter { $0.number < -2 }.map { "low \($0.key) \($0.text)" }
      .merge(DataStream.topic("in").map { "raw \(Item(TimedEvent($0)).text)" })
      .merge(items(3).filter { $0.number > 3 }.map { "high \($0.key) \($0.text)" })
    let late = items(4).eventTime(.boundedOutOfOrderness(.milliseconds(7)), name: "late times") {
      Timestamp(milliseconds: $0.time)
    }.keyBy { $0.key }.process(state: Int64.self, name: "timers") {
      (item: Item, context: ProcessContext<String, Int64>, emit: (String) -> Void) in
      context.state = (context.state ?? 0) + item.number
      context.setTimer(at: Timestamp(milliseconds: item.time + 3))
    } onTimer: { context, emit in
      emit("timer \(context.key) \(context.time.milliseconds) \(context.state ?? 0)")
    }
    let ends = windows(5).map { "window \($0.key) \($0.window.end.milliseconds) \($0.value)" }
    let sums = windows(6).keyBy { _ in "all" }.window(.tumbling(.milliseconds(40))).sum(name: "sums") { $0.value }
      .map { "sum \($0.window.end.milliseconds) \($0.value)" }
    return [
      plain.to(topic: "out"), merged.to(topic: "out"), ends.to(topic: "out"), sums.to(topic: "out"),
    ] + (withLate ? [late.to(topic: "out")] : [])
  }
  let secondOnce = windows(firstOnce, 0).shared()
  let all =
    isShared
    ? outputs({ _ in firstOnce }, { _ in secondOnce })
    : outputs({ first($0) }, { windows(first($0), $0) })
  return StreamOutput.job(named: "shared", all)
}

@Test("agrees: a job whose outputs share streams hands on what one does whose outputs each run them, over crashes")
func agreesSharedStreams() throws {
  var failures = 0
  for seed in UInt64(0)..<histories(40) {
    var random = SeededRandom(seed: seed)
    let batches = randomBatches(40, keys: 4, disorder: 10, using: &random).map { $0.map(\.record) }
    let withLate = seed % 4 < 2
    let alone = try History(
      of: job(shared: false, withLate: withLate), over: batches, using: &random, crashes: false,
      workers: withLate ? 1...1 : 1...5)
    let calls = Calls()
    let shared = try History(
      of: job(shared: true, withLate: withLate, calls: calls), over: batches, using: &random, crashes: seed % 2 == 1,
      workers: withLate ? 1...1 : 1...5)
    failures += shared.failures
    #expect(shared.out.sorted() == alone.out.sorted(), "seed \(seed)")
    if shared.failures == 0 {
      #expect(calls.count.load(ordering: .relaxed) == batches.reduce(0) { $0 + $1.count })
    }
    #expect(Set(alone.out.map { $0.prefix(4) }).count == (withLate ? 7 : 6))
  }
  #expect(failures > histories(15) / 2)
}

@Test("a branch takes the values of its name, once each; what no branch was made for goes nowhere", arguments: [1, 3])
func branches(workers: Int) throws {
  let split = DataStream.topic("in").map { $0.value.text }.split { $0.count }
  let job = StreamOutput.job(
    named: "split",
    [
      split[1].to(topic: "one"), split[2].merge(split[1]).to(topic: "two"),
      split.others(than: [1, 2, 5]).map { $0 + "!" }.to(topic: "others"),
    ])
  let driver = TestDriver(job)
  driver.workers = workers
  for value in ["a", "bb", "ccc", "d", "eeeee", "ffff"] { try driver.send("in", value: value) }
  try driver.run()
  #expect(try driver.output("one").map { $0.value?.text } == ["a", "d"])
  #expect(try driver.output("two").map { $0.value?.text } == ["a", "bb", "d"])
  #expect(try driver.output("others").map { $0.value?.text } == ["ccc!", "ffff!"])
}

@Test("shared streams of shared streams, and both together in one output, hand each value on once", arguments: [1, 3])
func sharedOfShared(workers: Int) throws {
  let values = DataStream.topic("in").map { $0.value.text }.shared()
  let short = values.filter { $0.count < 3 }.shared()
  let shorter = short.filter { $0.count < 2 }.shared()
  let job = StreamOutput.job(
    named: "nested",
    [
      shorter.merge(short).merge(values).merge(shorter).to(topic: "all"), shorter.to(topic: "shorter"),
      values.merge(short).to(topic: "both"),
    ])
  let driver = TestDriver(job)
  driver.workers = workers
  for value in ["a", "bb", "ccc"] { try driver.send("in", value: value) }
  try driver.run()
  let all = try driver.output("all").map { $0.value?.text ?? "" }
  #expect(all.sorted() == ["a", "a", "a", "a", "bb", "bb", "ccc"])
  #expect(try driver.output("shorter").map { $0.value?.text } == ["a"])
  #expect(try driver.output("both").map { $0.value?.text ?? "" }.sorted() == ["a", "a", "bb", "bb", "ccc"])
}

@Test(
  "records pass through a shared stream with key, value and time, and stateful operators before it are there once",
  arguments: [1, 3])
func sharedRecords(workers: Int) throws {
  let records = DataStream.topic("in").shared()
  let counts = records.keyBy { $0.key }.count(name: "n").shared()
  let job = StreamOutput.job(
    named: "records",
    [records.to(topic: "copy"), counts.to(topic: "counts"), counts.map { "\($0.value)" }.to(topic: "numbers")])
  let driver = TestDriver(job)
  driver.workers = workers
  try driver.send(
    "in", [Record(key: Bytes("k"), value: nil, timestamp: Timestamp(milliseconds: 7)), Record(value: Bytes("v"))])
  try driver.send("in", key: "k", value: "w", at: 9)
  try driver.run()
  let copy = try driver.output("copy")
  #expect(copy.map { $0.key?.text } == ["k", nil, "k"])
  #expect(copy.map { $0.value?.text } == [nil, "v", "w"])
  #expect(copy.first?.timestamp.milliseconds == 7 && copy.last?.timestamp.milliseconds == 9)
  let counted = try driver.output("counts").filter { $0.key?.text == "k" }
  #expect(counted.last?.value?.text == "2")
  #expect(
    try driver.output("numbers").map { $0.value?.text ?? "" }.sorted()
      == driver.output("counts").map { $0.value?.text ?? "" }.sorted())
  // That of records without a key is the other one.
  #expect(driver.figures.stateKeys == 2)
}

@Test("what is made for a run of shared streams is given back")
func sharedGivesBack() throws {
  final class Token: Sendable {
    let calls: Calls
    init(_ calls: Calls) {
      self.calls = calls
      calls.count.add(1, ordering: .relaxed)
    }
    deinit { calls.count.subtract(1, ordering: .relaxed) }
  }
  struct Sink: RecordSink {
    let calls: Calls
    var token: Token?
    func bound(to graph: inout JobGraph) -> Sink { Sink(calls: calls, token: Token(calls)) }
    func receive(_ input: String, _ time: Timestamp) {}
  }
  let calls = Calls()
  let shared = DataStream.topic("in").map { $0.value.text }.shared()
  let twice = shared.filter { $0 != "" }.shared()
  let job = StreamOutput.job(
    named: "back",
    [shared, shared].map { StreamOutput(Pipeline($0.flow, into: Sink(calls: calls))) }
      + [StreamOutput(Pipeline(twice.flow, into: Sink(calls: calls)))])
  let driver = TestDriver(job)
  try driver.send("in", value: "v")
  try driver.run()
  #expect(calls.count.load(ordering: .relaxed) == 3)
  driver.crash()
  #expect(calls.count.load(ordering: .relaxed) == 0)
}
