// Jobs of several workers: the same results as of one, and what cannot be done is said.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

/// Options for so many workers, each on its thread however little there is to do.
private func options(workers: Int) -> JobOptions {
  var options = JobOptions()
  options.workers = workers
  options.wakeBytes = 0
  return options
}

/// What a topic holds, sorted: the order among keys is not part of the result.
private func texts(_ driver: TestDriver, _ topic: String) throws -> [String] {
  try driver.output(topic).map { "\($0.key?.text ?? "-"): \($0.value?.text ?? "-") at \($0.timestamp.milliseconds)" }
    .sorted()
}

/// Feeds `batches` to the job in one run, and gives what it writes to `out`.
private func results(of job: JobDefinition, workers: Int, partitions: Int = 3, over batches: [[Record]]) throws
  -> [String]
{
  let driver = TestDriver(job, partitions: partitions, options: options(workers: workers))
  for (number, batch) in batches.enumerated() {
    try driver.send("in", batch, partition: Int32(number % partitions))
  }
  try driver.run()
  return try texts(driver, "out")
}

/// Brings one batch, which says that it is compressed although nobody can decompress it, or not.
private final class OneBatch: ReplayableSource {
  private let isCorrupt: Bool
  private var isRead = false

  init(isCorrupt: Bool) { self.isCorrupt = isCorrupt }

  func restore(_ position: Bytes?) { isRead = position != nil }

  func next(maxBytes: Int) -> SourceBatch {
    guard !isRead else { return SourceBatch(batch: nil, position: Bytes([1]), isFinished: true) }
    isRead = true
    var builder = RecordBatchBuilder()
    builder.append(Record(value: Bytes("word"), timestamp: Timestamp(milliseconds: 1)))
    var bytes = builder.finish().withBuffer { Array($0) }
    // The codec stands in the lowest bits of the attributes, behind the checksum.
    if isCorrupt { bytes[22] |= 1 }
    return SourceBatch(batch: Bytes(bytes), position: Bytes([1]), isFinished: false)
  }
}

/// An operator of one's own before the keys: holds what comes back until the step's end.
private struct HoldBack<Upstream: Flow>: Flow {
  private final class Held: @unchecked Sendable {
    // Safety: of one worker's copy.
    var values: [(Upstream.Output, Timestamp)] = []
  }

  let upstream: Upstream
  private let held = Held()

  init(_ upstream: Upstream) { self.upstream = upstream }

  func bound(to graph: inout JobGraph) throws(JobError) -> Self { Self(try upstream.bound(to: &graph)) }

  func process(_ run: InputRun, _ body: (Upstream.Output, Timestamp) -> Void) throws(JobError) {
    try upstream.process(run) { held.values.append(($0, $1)) }
  }

  func advance(_ body: (Upstream.Output, Timestamp) -> Void) -> Timestamp { upstream.advance(body) }

  func endStep(_ body: (Upstream.Output, Timestamp) -> Void) {
    for (value, time) in held.values { body(value, time) }
    held.values = []
  }
}

private func randomBatches(_ count: Int, seed: UInt64) -> [[Record]] {
  var random = SeededRandom(seed: seed)
  var time: Int64 = 1000
  return (0..<count).map { _ in
    (0..<Int.random(in: 1...30, using: &random)).map { _ in
      time += Int64.random(in: 0...40, using: &random)
      let word = "w\(Int.random(in: 0..<200, using: &random))"
      return Record(
        key: nil, value: Bytes("\(word) \(time - Int64.random(in: 0...100, using: &random))"),
        timestamp: Timestamp(milliseconds: time))
    }
  }
}

@Suite(.serialized) struct WorkerTests {
  @Test("words counted by 2, 3 and 7 workers, over threads: keys are lent bytes", arguments: [1, 2, 3, 7])
  func words(workers: Int) throws {
    let batches = randomBatches(120, seed: 5)
    var expected: [String: Int] = [:]
    for record in batches.joined() {
      for word in record.value?.text.split(separator: " ") ?? [] { expected[String(word), default: 0] += 1 }
    }
    let job = DataStream.topic("in").flatMap(Words()).keyBy(\.self).count().to(topic: "out").job(named: "words")
    let driver = TestDriver(job, partitions: 4, options: options(workers: workers))
    for (number, batch) in batches.enumerated() { try driver.send("in", batch, partition: Int32(number % 4)) }
    try driver.run()
    var counts: [String: Int] = [:]
    for record in try driver.output("out") {
      counts[record.key?.text ?? ""] = max(counts[record.key?.text ?? ""] ?? 0, Int(record.value?.text ?? "") ?? 0)
    }
    #expect(counts == expected)
    #expect(driver.figures.stateKeys >= expected.count)
  }

  @Test("the key groups fall to the workers side by side, as evenly as can be")
  func groups() {
    for workers in [1, 2, 3, 5, 7, 255, 256] {
      let owners = (0...255).map { KeyGroup.worker(of: UInt8($0), among: workers) }
      #expect(owners == owners.sorted())
      let sizes = (0..<workers).map { worker in owners.count { $0 == worker } }
      #expect(sizes.allSatisfy { $0 == 256 / workers || $0 == 256 / workers + 1 }, "\(workers): \(sizes)")
    }
  }

  @Test("two keyed operators behind each other, windows of windows, and a merge of streams of different depth")
  func deep() throws {
    struct Word: ExchangeValue {
      var word: String
      var time: Int64
    }
    func timedWords(_ name: String) -> DataStream<AssignTime<Map<RecordInput, Word>>> {
      DataStream.topic("in").map { record in
        let parts = record.value.text.split(separator: " ")
        return Word(word: String(parts[0]), time: Int64(parts[1]) ?? 0)
      }.eventTime(.boundedOutOfOrderness(.milliseconds(100)), name: name) { Timestamp(milliseconds: $0.time) }
    }
    let words = timedWords("times")
    let perWord = words.keyBy(\.word).window(.tumbling(.milliseconds(200))).count(name: "first")
    let sums = perWord.keyBy { "n\($0.value)" }.window(.hopping(.milliseconds(1000), every: .milliseconds(400)))
      .sum(name: "second", \.value)
    let merged = perWord.map { Word(word: "\($0.key)*\($0.value)", time: $0.window.end.milliseconds - 1) }.merge(
      timedWords("more times")
    )
    .keyBy { String($0.word.prefix(2)) }.window(.tumbling(.milliseconds(500))).count(name: "third")
    func job(_ output: StreamOutput) -> JobDefinition { output.job(named: "deep") }
    for job in [
      job(sums.map { Keyed(key: $0.key, value: $0.value) }.to(topic: "out")),
      job(merged.map { Keyed(key: $0.key, value: $0.value) }.to(topic: "out")),
    ] {
      let batches = randomBatches(150, seed: 9)
      let one = try results(of: job, workers: 1, over: batches)
      #expect(one.count > 30)
      for workers in 2...4 { #expect(try results(of: job, workers: workers, over: batches) == one) }
    }
  }

  @Test("what breaks on one worker ends the job with its error, wherever it breaks", arguments: [1, 2, 5])
  func failures(workers: Int) throws {
    struct Refusal: Error {}
    let words = DataStream.topic("in").map { $0.value.text }
    func refused<Source: Flow<String>>(_ stream: DataStream<Source>) -> DataStream<some Flow<String>> {
      stream.map(onError: .fail) { word in
        if word.hasPrefix("bad") { throw Refusal() }
        return word
      }
    }
    // Before the keys, behind them as values come, and at the end of the step.
    let jobs = [
      refused(words).keyBy { $0 }.count().to(topic: "out").job(named: "before"),
      refused(
        words.keyBy { $0 }.process(state: Int64.self) { word, _, emit in emit(word) }
      ).keyBy { $0 }.count().to(topic: "out").job(named: "behind"),
      refused(words.keyBy { $0 }.count().map { $0.key }).keyBy { $0 }.count().to(topic: "out").job(named: "end"),
    ]
    for job in jobs {
      let driver = TestDriver(job, partitions: 3, options: options(workers: workers))
      for number in 0..<30 {
        try driver.send("in", value: number == 17 ? "bad" : "w\(number)", partition: Int32(number % 3))
      }
      let error = #expect(throws: JobError.self) { try driver.run() }
      #expect(error?.code == .functionFailed, "\(job.name)")
      #expect(try driver.output("out").isEmpty, "\(job.name)")
    }
  }

  @Test("a batch that cannot be read ends the job, while others of the round wait to be taken", arguments: [1, 3])
  func corruptBatch(workers: Int) throws {
    let job = StreamOutput.job(
      named: "corrupt",
      [
        DataStream.source("bad") { OneBatch(isCorrupt: true) }.merge(
          DataStream.source("good") { OneBatch(isCorrupt: false) }
        )
        .map { $0.value.text }.keyBy { $0 }.count().to(topic: "out")
      ])
    let driver = TestDriver(job, options: options(workers: workers))
    let error = #expect(throws: JobError.self) { try driver.run() }
    #expect(error?.code == .corruptInput)
    #expect(try driver.output("out").isEmpty)
  }

  @Test(
    "what an operator of one's own holds back until the step's end goes to the worker that has the key",
    arguments: [1, 3])
  func heldBack(workers: Int) throws {
    let stream = DataStream(HoldBack(DataStream.topic("in").map { $0.value.text }.flow))
    let job = stream.keyBy { $0 }.count().to(topic: "out").job(named: "held")
    let driver = TestDriver(job, partitions: 3, options: options(workers: workers))
    for number in 0..<30 { try driver.send("in", value: "w\(number % 10)", partition: Int32(number % 3)) }
    try driver.run()
    var last: [String: String] = [:]
    for record in try driver.output("out") { last[record.key?.text ?? ""] = record.value?.text }
    #expect(last == Dictionary(uniqueKeysWithValues: (0..<10).map { ("w\($0)", "3") }))
  }

  @Test("what has no keys keeps the order of its partition")
  func order() throws {
    let job = DataStream.topic("in").map { $0.value.copy }.to(topic: "out").job(named: "copy")
    let driver = TestDriver(job, partitions: 3, options: options(workers: 3))
    for number in 0..<60 { try driver.send("in", value: "\(number % 3) \(number)", partition: Int32(number % 3)) }
    try driver.run()
    let values = try driver.output("out").map { $0.value?.text ?? "" }
    #expect(values.count == 60)
    for partition in 0..<3 {
      let numbers = values.filter { $0.hasPrefix("\(partition) ") }.compactMap { Int($0.dropFirst(2)) }
      #expect(numbers == numbers.sorted() && numbers.count == 20)
    }
  }

  @Test("after a crash, workers of another number find the state of their keys, and know what is late")
  func rescale() throws {
    let job = DataStream.topic("in").keyBy { $0.value.copy }.window(.tumbling(.milliseconds(100)))
      .count(name: "counts").map { Keyed(key: $0.key, value: $0.value) }.to(topic: "out").job(named: "late")
    let driver = TestDriver(job, options: options(workers: 2))
    let keys = (0..<40).map { "key \($0)" }
    func send(_ time: Int64) throws {
      for key in keys { try driver.send("in", value: key, at: time) }
    }
    try send(10)
    try send(20)
    try driver.run()
    driver.crash()
    driver.workers = 5
    try send(30)
    try driver.send("in", value: "end", at: 150)
    try driver.run()
    #expect(try texts(driver, "out") == keys.map { "\($0): 3 at 99" }.sorted())
    driver.crash()
    driver.workers = 3
    try send(40)
    try driver.run()
    #expect(try driver.output("out").count == keys.count)
    #expect(driver.figures.lateRecords == 40)
  }

  @Test("values that cannot be handed over, and times behind keys, are refused, by several workers only")
  func refusals() throws {
    let pairs = DataStream.topic("in").map { (word: $0.value.text, number: 1) }.keyBy(\.word).count()
      .to(topic: "out").job(named: "pairs")
    let times = DataStream.topic("in").keyBy { $0.value.copy }.count().eventTime { _ in Timestamp(milliseconds: 1) }
      .to(topic: "out").job(named: "times")
    for (job, reason) in [(pairs, "that takes an ExchangeValue"), (times, "such a job runs on one worker")] {
      let several = TestDriver(job, options: options(workers: 2))
      try several.send("in", value: "a")
      let error = #expect(throws: JobError.self) { try several.run() }
      #expect(error?.code == .invalidJob && error?.reason.contains(reason) == true)
      let one = TestDriver(job, options: options(workers: 1))
      try one.send("in", value: "a")
      try one.run()
      #expect(try one.output("out").count == 1)
    }
    for workers in [0, 257] {
      let driver = TestDriver(pairs, options: options(workers: workers))
      try driver.send("in", value: "a")
      #expect(throws: JobError.self) { try driver.run() }
    }
  }
}
