// AsyncMapTests: functions that answer later, over random histories in which answers come in any order, against what a plain map gives.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Synchronization
import Testing

private struct Busy: Error {}

/// Calls whose answers a history decides about: when they come, in which order, and whether they fail.
final class ScriptedCalls: Sendable {
  private struct Open {
    var list: [(number: UInt64, call: OutsideCall)] = []
    var next: UInt64 = 0
    var most = 0
  }

  private let open = Mutex(Open())
  private let answer: @Sendable (OutsideCall) -> any Sendable

  init(_ answer: @escaping @Sendable (OutsideCall) -> any Sendable) { self.answer = answer }

  /// Begins a call.
  func start(_ call: OutsideCall) -> @Sendable () -> Void {
    let number = open.withLock { open in
      open.list.append((open.next, call))
      open.next += 1
      open.most = max(open.most, open.list.count)
      return open.next - 1
    }
    return { [self] in open.withLock { $0.list.removeAll { $0.number == number } } }
  }

  var count: Int { open.withLock { $0.list.count } }
  /// Calls begun so far.
  var begun: UInt64 { open.withLock { $0.next } }
  /// Most that were open at a time.
  var most: Int { open.withLock { $0.most } }

  /// The run is over; nobody waits for its calls.
  func forget() { open.withLock { $0.list = [] } }

  /// Answers some of the calls, in any order, or lets them fail.
  func answerSome(using random: inout SeededRandom) {
    for _ in 0..<Int.random(in: 0...4, using: &random) where count > 0 {
      let index = Int.random(in: 0..<count, using: &random)
      let call = open.withLock { $0.list.remove(at: index).call }
      call.answer(random.oneIn(5) ? .failure(Busy()) : .success(answer(call)))
    }
  }
}

/// Every answer comes in the end; some calls fail before.
private func job(ordered: Bool, keyed: Bool) -> JobDefinition {
  let retry = CallRetry.attempts(1000, delay: .zero)
  let call = { @Sendable (item: Item) async throws -> String in "unused" }
  return keyed
    ? items().keyBy { $0.key }.mapAsync(name: "a", inFlight: 7, ordered: ordered, retry: retry, call)
      .to(topic: "out").job(named: "async")
    : items().mapAsync(name: "a", inFlight: 7, ordered: ordered, retry: retry, call)
      .to(topic: "out").job(named: "async")
}

private func answers() -> ScriptedCalls {
  ScriptedCalls { call in
    guard let item = call.value as? Item else { return "no item" }
    return "\(item.key) \(item.text)"
  }
}

@Test(
  "answers are handed on exactly once over crashes and other numbers of workers, in the order of the values or not",
  arguments: [true, false], [true, false])
func oracleAsyncMap(ordered: Bool, keyed: Bool) throws {
  var failures = 0
  var repeated: UInt64 = 0
  for seed in UInt64(0)..<12 {
    var random = SeededRandom(seed: seed)
    let batches = randomBatches(40, keys: 4, using: &random)
    let calls = answers()
    let history = try History(
      of: job(ordered: ordered, keyed: keyed), over: batches.map { $0.map(\.record) }, using: &random,
      crashes: seed % 2 == 1, calls: calls)
    failures += history.failures
    let expected = batches.joined().map { "\($0.key) \(Item($0).text)" }
    #expect(counts(history.out) == counts(expected), "seed \(seed)")
    #expect(history.records.allSatisfy { $0.value?.text.hasSuffix("@\($0.timestamp.milliseconds)") == true })
    // Each worker begins what it has by itself, but all count together.
    #expect(calls.most <= 7, "seed \(seed)")
    if calls.begun > UInt64(expected.count) { repeated += 1 }
    guard ordered, keyed || !history.isOfSeveral else { continue }
    for key in Set(expected.map { $0.prefix(2) }) where keyed {
      #expect(history.out.filter { $0.hasPrefix(key) } == expected.filter { $0.hasPrefix(key) }, "seed \(seed) \(key)")
    }
    if !keyed { #expect(history.out == expected, "seed \(seed)") }
  }
  #expect(failures > 15 && repeated > 8)
}

@Test("event time stays behind pending values: windows behind an asynchronous map are those behind a plain one")
func oracleAsyncWindows() throws {
  var failures = 0
  for seed in UInt64(0)..<20 {
    var random = SeededRandom(seed: 700 + seed)
    let batches = randomBatches(40, keys: 4, using: &random)
    let ordered = random.oneIn(2)
    let job = items().mapAsync(
      name: "a", inFlight: 5, ordered: ordered, retry: .attempts(1000, delay: .zero)
    ) { (item: Item) async throws -> Item in item }
    .keyBy { $0.key }.window(.tumbling(.milliseconds(20))).sum(name: "sums", \.number)
    .map { "\($0.key) \($0.window.end.milliseconds) \($0.value)" }.to(topic: "out").job(named: "windows")
    let history = try History(
      of: job, over: batches.map { $0.map(\.record) }, using: &random, crashes: seed % 2 == 1,
      calls: ScriptedCalls { $0.value })
    failures += history.failures
    let end = batches.joined().map(\.time).max() ?? 0
    var sums: [String: Int64] = [:]
    for event in batches.joined() where (event.time / 20 + 1) * 20 <= end {
      sums["\(event.key) \((event.time / 20 + 1) * 20)", default: 0] += event.number
    }
    let expected = sums.map { "\($0.key) \($0.value)" }
    #expect(history.late == 0)
    #expect(counts(history.out) == counts(expected), "seed \(seed)")
  }
  #expect(failures > 15)
}

// MARK: By hand

private func texts(_ driver: TestDriver) throws -> [String] { try driver.output("out").map { $0.value?.text ?? "" } }

/// A job whose function makes upper case of texts.
private func upper(
  inFlight: Int = 100, ordered: Bool = true, timeout: Duration? = .seconds(5), retry: CallRetry = .never,
  onError policy: CallErrorPolicy<String, String> = .fail
) -> JobDefinition {
  DataStream.topic("in").map { $0.value.text }.mapAsync(
    name: "upper", inFlight: inFlight, ordered: ordered, timeout: timeout, retry: retry, onError: policy
  ) { $0.uppercased() }.to(topic: "out").job(named: "upper")
}

@Test("a driver answers calls in any order; in order, an answer waits for those before it; functions may be called too")
func asyncByHand() async throws {
  for ordered in [true, false] {
    let driver = TestDriver(upper(ordered: ordered))
    for (number, text) in ["a", "b", "c"].enumerated() { try driver.send("in", value: text, at: Int64(number)) }
    #expect(try !driver.run())
    #expect(driver.calls.map { $0.value as? String } == ["a", "b", "c"] && driver.calls[0].name == "upper")
    driver.answerCall(1, with: "second")
    try driver.run()
    #expect(try texts(driver) == (ordered ? [] : ["second"]))
    driver.crash()
    #expect(driver.calls.isEmpty)
    try driver.run()
    // Not handed on is not answered.
    #expect(driver.calls.count == (ordered ? 3 : 2))
    await driver.runCalls()
    try driver.run()
    #expect(try texts(driver) == (ordered ? ["A", "B", "C"] : ["second", "A", "C"]))
    #expect(driver.calls.isEmpty)
    #expect(try driver.output("out").map(\.timestamp.milliseconds) == (ordered ? [0, 1, 2] : [1, 0, 2]))
    let steps = driver.figures.steps
    try driver.run()
    #expect(driver.figures.steps == steps && driver.figures.stateKeys == 2)
  }
}

@Test("with too many values pending no more input is read, until answers come")
func asyncBackPressure() throws {
  let driver = TestDriver(upper(inFlight: 2))
  for number in 0..<6 { try driver.send("in", value: "\(number)") }
  try driver.run()
  #expect(driver.calls.count == 2 && driver.figures.recordsIn == 2)
  try driver.run()
  #expect(driver.calls.count == 2 && driver.figures.recordsIn == 2)
  driver.answerCall(1, with: "x")
  try driver.run()
  #expect(driver.figures.recordsIn == 2)
  driver.answerCall(0, with: "y")
  try driver.run()
  #expect(try texts(driver) == ["y", "x"])
  #expect(driver.calls.count == 2 && driver.figures.recordsIn == 4)
  // A batch that leads to more than may be called for waits for its turn.
  let batch = TestDriver(upper(inFlight: 2))
  try batch.send("in", (0..<5).map { Record(value: Bytes("\($0)")) })
  try batch.run()
  #expect(batch.calls.count == 2 && batch.figures.recordsIn == 5)
  for expected in [2, 2, 2, 1, 0] {
    batch.answerCall(with: "-")
    try batch.run()
    #expect(batch.calls.count == expected)
  }
  #expect(try texts(batch).count == 5)
}

@Test("a call that fails is made again, with growing pauses, and then its value has failed", arguments: 0..<3)
func asyncFailures(_ kind: Int) throws {
  let policies: [CallErrorPolicy<String, String>] = [.fail, .skip, .fallback { "\($0): \($1)" }]
  let driver = TestDriver(upper(retry: .attempts(3, delay: .milliseconds(100)), onError: policies[kind]))
  try driver.send("in", value: "a", at: 1)
  try driver.send("in", value: "b", at: 2)
  try driver.run()
  driver.answerCall(1, with: "B")
  for pause in [100, 200] {
    driver.failCall(with: Busy())
    try driver.run()
    #expect(driver.calls.isEmpty)
    driver.pass(.milliseconds(pause - 1))
    try driver.run()
    #expect(driver.calls.isEmpty)
    driver.pass(.milliseconds(1))
    try driver.run()
    #expect(driver.calls.count == 1)
  }
  // The third one does not answer in time.
  driver.pass(.seconds(5))
  switch kind {
  case 0:
    let error = #expect(throws: JobError.self) { try driver.run() }
    #expect(error == JobError(.functionFailed, "a call of \"upper\": no answer within 5.0 seconds"))
    #expect(try texts(driver) == [])
  case 1:
    try driver.run()
    #expect(try texts(driver) == ["B"] && driver.figures.failedRecords == 1)
  default:
    try driver.run()
    #expect(try texts(driver) == ["a: no answer within 5.0 seconds", "B"] && driver.figures.failedRecords == 0)
  }
}

@Test("a call that is given up is taken from the driver, and its late answer counts for nothing")
func asyncLateAnswers() throws {
  let driver = TestDriver(upper(retry: .attempts(2, delay: .zero)))
  try driver.send("in", value: "a")
  try driver.run()
  let first = driver.calls[0]
  driver.pass(.seconds(5))
  try driver.run()
  #expect(driver.calls.count == 1)
  first.answer(.success("late"))
  try driver.run()
  #expect(try texts(driver) == [])
  driver.answerCall(with: "in time")
  try driver.run()
  #expect(try texts(driver) == ["in time"])
}

@Test("a late value does not hold event time up, and does not turn it back")
func asyncLateValues() throws {
  let job = DataStream.topic("in").map { $0.value.text }.mapAsync(name: "a", ordered: false) { $0 }
    .keyBy { $0 }.window(.tumbling(.milliseconds(10))).count(name: "w").map { "\($0.key) \($0.value)" }
    .to(topic: "out").job(named: "late")
  let driver = TestDriver(job)
  try driver.send("in", value: "a", at: 25)
  try driver.send("in", value: "late", at: 3)
  try driver.run()
  driver.answerCall(0, with: "a")
  try driver.send("in", value: "b", at: 45)
  try driver.run()
  #expect(try texts(driver) == ["a 1"])
  try driver.send("in", value: "c", at: 65)
  try driver.run()
  driver.answerCall(2, with: "c")
  try driver.run()
  // Event time is at 45, where b is.
  #expect(try texts(driver) == ["a 1"])
  driver.answerCall(1, with: "b")
  try driver.run()
  #expect(try texts(driver) == ["a 1", "b 1"])
  driver.answerCall(0, with: "late")
  try driver.run()
  #expect(driver.figures.lateRecords == 1 && driver.calls.isEmpty)
}

@Test("answers wake a job that waits, on its own thread, and it ends when all have come", arguments: [1, 3])
func asyncOnThreads(workers: Int) async throws {
  let host = MemoryHost(newTopicPartitions: 1)
  let texts = (0..<300).map { Record(value: Bytes("v\($0)")) }
  let lines = DataStream.records(named: "texts", texts).map { $0.value.text }
  // Other tests may keep the functions from their threads for longer than any timeout.
  let job = lines.mapAsync(name: "up", inFlight: 16, timeout: nil) {
    await Task.yield()
    return $0.uppercased()
  }.to(topic: "out").job(named: "threads")
  var options = JobOptions()
  // So long that the test would not end if answers did not wake the job.
  options.idleWait = .seconds(600)
  options.workers = workers
  let (states, changes) = AsyncStream<JobRunner.State>.makeStream()
  let runner = JobRunner(job, host: host, options: options) { state in changes.yield(state) }
  runner.start()
  // Without blocking a thread that the functions need.
  let end = await states.first { $0 != .running }
  #expect(end == .finished)
  runner.join()
  let out = try host.records(topic: "out", partition: 0).map { $0.value?.text ?? "" }
  let isComplete = out.sorted() == (0..<300).map { "V\($0)" }.sorted()
  #expect(isComplete)
}

@Test(
  "a partition of which nothing is read because too much is pending does not become idle", arguments: [Int32(0), 1])
func asyncIdleness(slow: Int32) throws {
  let job = DataStream.topic("in").map { $0.value.text }.mapAsync(name: "a", inFlight: 1) { $0 }
    .keyBy { $0 }.window(.tumbling(.milliseconds(100))).count(name: "w").map { "\($0.key) \($0.value)" }
    .to(topic: "out").job(named: "idleness")
  var options = JobOptions()
  options.readBytes = 1
  let driver = TestDriver(job, partitions: 2, options: options)
  try driver.send("in", value: "slow", at: 10, partition: slow)
  try driver.run()
  for number in 1...4 { try driver.send("in", value: "fast", at: Int64(number) * 1000, partition: 1 - slow) }
  driver.pass(.seconds(10))
  try driver.run()
  try driver.send("in", value: "slow", at: 20, partition: slow)
  while let call = driver.calls.first {
    driver.answerCall(with: call.value as? String ?? "")
    try driver.run()
  }
  driver.pass(.seconds(10))
  try driver.send("in", value: "fast", at: 6000, partition: 1 - slow)
  try driver.run()
  driver.answerCall(with: "fast")
  try driver.run()
  #expect(driver.figures.lateRecords == 0)
  // Both slow values are in their window.
  #expect(try driver.output("out").contains { $0.value?.text == "slow 2" })
}

@Test("one call that takes long holds up event time and its own answer, while hundreds behind it are answered")
func asyncSlowCall() throws {
  let driver = TestDriver(upper(inFlight: 3, ordered: false, timeout: .seconds(1000)))
  try driver.send("in", value: "slow", at: 0)
  for number in 1...400 {
    try driver.send("in", value: "\(number)", at: Int64(number))
    try driver.run()
    driver.answerCall(1, with: "fast")
    try driver.run()
    driver.pass(.seconds(1))
  }
  #expect(try texts(driver).count == 400 && driver.calls.count == 1)
  driver.pass(.seconds(600))
  let error = #expect(throws: JobError.self) { try driver.run() }
  #expect(error?.code == .functionFailed)
}
