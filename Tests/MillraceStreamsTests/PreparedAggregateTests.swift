// Sums, counts and extremes of several workers, each of which prepares what it decodes.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

@Suite struct PreparedAggregateTests {
  /// Key and number of a record: `key number`.
  private static func parts(_ record: InputRecord) -> (key: String, number: Int64) {
    let parts = record.value.text.split(separator: " ")
    return (String(parts[0]), Int64(parts[1]) ?? 0)
  }

  /// Batches of which some have few keys and some have only new ones, so that workers prepare, pause and prepare again.
  private static func batches() -> [[Record]] {
    var random = SeededRandom(seed: 11)
    var next = 0
    return (0..<24).map { number in
      (0..<2500).map { _ in
        next += 1
        let key = number % 8 < 5 ? "n\(next)" : "k\(Int.random(in: 0..<300, using: &random))"
        return Record(
          key: nil, value: Bytes("\(key) \(Int64.random(in: -500...500, using: &random))"),
          timestamp: Timestamp(milliseconds: Int64(next)))
      }
    }
  }

  @Test("sum, lowest and average of 1, 2 and 5 workers are those of all values", arguments: [1, 2, 5])
  func oracle(workers: Int) throws {
    let batches = Self.batches()
    var numbers: [String: [Int64]] = [:]
    for record in batches.joined() {
      let parts = record.value?.text.split(separator: " ") ?? []
      numbers[String(parts[0]), default: []].append(Int64(parts[1]) ?? 0)
    }
    let keyed = DataStream.topic("in").keyBy { Self.parts($0).key }
    let job = StreamOutput.job(
      named: "prepared",
      [
        keyed.sum(name: "sum") { Self.parts($0).number }.to(topic: "sums"),
        keyed.aggregate(Minimum { Self.parts($0).number }, name: "low").to(topic: "lows"),
        keyed.average(name: "average") { Self.parts($0).number }
          .map { Keyed(key: $0.key, value: "\($0.value.sum) of \($0.value.count)") }.to(topic: "averages"),
      ])
    var options = JobOptions()
    options.workers = workers
    options.wakeBytes = 0
    let driver = TestDriver(job, partitions: 4, options: options)
    for (number, batch) in batches.enumerated() { try driver.send("in", batch, partition: Int32(number % 4)) }
    try driver.run()
    for (topic, expected) in [
      ("sums", numbers.mapValues { "\($0.reduce(0, +))" }),
      ("lows", numbers.mapValues { "\($0.min() ?? 0)" }),
      ("averages", numbers.mapValues { "\($0.reduce(0, +)) of \($0.count)" }),
    ] {
      var last: [String: String] = [:]
      for record in try driver.output(topic) { last[record.key?.text ?? ""] = record.value?.text }
      #expect(last == expected, "\(topic)")
    }
  }

  @Test("windows of several workers hold and leave out what those of one do")
  func windows() throws {
    var random = SeededRandom(seed: 12)
    // One partition, so that what is late does not depend on which batch is read first.
    let batches = Self.batches().prefix(10).map { batch in
      batch.map { record in
        var record = record
        let delay = Int64.random(in: 0..<50, using: &random) == 0 ? Int64.random(in: 0...9000, using: &random) : 0
        record.timestamp = Timestamp(milliseconds: record.timestamp.milliseconds - delay)
        return record
      }
    }
    let keyed = DataStream.topic("in").keyBy { Self.parts($0).key }
    let job = StreamOutput.job(
      named: "prepared",
      [
        keyed.window(.tumbling(.milliseconds(2000))).allowedLateness(.milliseconds(1500)).count(name: "counts")
          .keyBy { _ in "all" }.window(.tumbling(.milliseconds(4000))).sum(name: "all") { $0.value }
          .to(topic: "out"),
        keyed.window(.hopping(.milliseconds(3000), every: .milliseconds(1000)))
          .average(name: "averages") { Self.parts($0).number }
          .map { Windowed(key: $0.key, window: $0.window, value: "\($0.value.sum) of \($0.value.count)") }
          .to(topic: "out"),
      ])
    func run(_ workers: Int) throws -> (out: [String], late: UInt64) {
      var options = JobOptions()
      options.workers = workers
      options.wakeBytes = 0
      let driver = TestDriver(job, options: options)
      for batch in batches { try driver.send("in", batch, partition: 0) }
      try driver.run()
      let out = try driver.output("out").map {
        "\($0.timestamp.milliseconds) \($0.key?.text ?? "-") \($0.value?.text ?? "-")"
      }
      return (out.sorted(), driver.figures.lateRecords)
    }
    let one = try run(1)
    #expect(one.out.count > 10_000 && one.late > 50)
    for workers in [3] {
      let several = try run(workers)
      #expect(several.out == one.out, "\(workers) workers")
      #expect(several.late == one.late, "\(workers) workers")
    }
  }
}
