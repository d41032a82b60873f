// LogWordCountBenchmark: words per second that a job counts of a topic in the log, with its outputs and state committed there.
//
// Arguments: runs (default 5), megabytes of text (default 200, more than the log keeps in memory), data directory (a new
// one under the temporary directory), which is removed at the end.

import Foundation
import Millrace

enum LogWordCountBenchmark {
  static let partitions = 4

  static func run() async {
    let arguments = CommandLine.arguments
    let runs = arguments.count > 1 ? max(1, Int(arguments[1]) ?? 5) : 5
    let megabytes = arguments.count > 2 ? max(1, Int(arguments[2]) ?? 200) : 200
    let directory = arguments.count > 3 ? arguments[3] : NSTemporaryDirectory() + "millrace-words-\(UUID().uuidString)"
    do {
      let broker = try await EmbeddedBroker.open(directory: directory)
      try await broker.createTopic("lines", partitions: partitions)
      let bytes = try await load(broker, megabytes << 20)
      var rates: [(core: Double, wall: Double)] = []
      for run in 0..<runs { rates.append(try await measure(broker, run, bytes)) }
      try await broker.close()
      try FileManager.default.removeItem(atPath: directory)
      let core = rates.map(\.core).sorted()[runs / 2], wall = rates.map(\.wall).sorted()[runs / 2]
      print("{\"per_core\": \(core), \"per_second\": \(wall), \"megabytes\": \(megabytes)}")
    } catch {
      print("failed: \(error); the data are in \(directory)")
      exit(1)
    }
  }

  /// Counts all of `lines` with a job of its own.
  /// - Returns: words per second of processor time of the whole process, broker included, and of the clock.
  static func measure(_ broker: EmbeddedBroker, _ run: Int, _ bytes: Int) async throws -> (core: Double, wall: Double) {
    let counts = "counts-\(run)"
    try await broker.createTopic(counts, partitions: partitions)
    let start = ContinuousClock.now
    let used = processorSeconds()
    let job = try await broker.run(WordCount.job(named: "count-\(run)", from: "lines", to: counts))
    let end = try await broker.offsets(of: "lines").reduce(0) { $0 + $1.count }
    while job.figures.recordsIn < UInt64(end) {
      if case .failed(let error) = job.state { throw error }
      try await Task.sleep(for: .milliseconds(1))
    }
    try await job.stop()
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    let processor = processorSeconds() - used
    let words = try await total(broker, counts)
    let figures = job.figures
    print(
      "words \(words), keys \(figures.stateKeys), lines \(figures.recordsIn), steps \(figures.steps), out "
        + "\(figures.recordsOut), state \(figures.stateRecords) | "
        + String(
          format: "%.2f M words/s per core (the whole process), %.2f M/s by the clock, %.0f MB/s of text",
          Double(words) / processor / 1e6, Double(words) / seconds / 1e6, Double(bytes) / seconds / 1e6))
    return (Double(words) / processor, Double(words) / seconds)
  }

  static func processorSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  /// The sum of the last counts.
  static func total(_ broker: EmbeddedBroker, _ topic: String) async throws -> Int {
    var last: [String: Int] = [:]
    var records = broker.consume(topic, until: .currentEnd).makeAsyncIterator()
    while let batch = try await records.nextBatch() {
      for record in batch { if let key = record.key { last[key.text] = Int(record.text) ?? 0 } }
    }
    return last.values.reduce(0, +)
  }

  /// Fills `lines` with the system's licences and documents, over and over.
  /// - Returns: bytes of text.
  static func load(_ broker: EmbeddedBroker, _ target: Int) async throws -> Int {
    var lines: [Bytes] = []
    var size = 0
    for folder in ["/usr/share/common-licenses", "/usr/share/doc"] {
      let names = FileManager.default.enumerator(atPath: folder)?.compactMap { $0 as? String } ?? []
      for name in names.sorted() where size < target {
        guard !name.hasSuffix(".gz"), let data = FileManager.default.contents(atPath: folder + "/" + name),
          !data.prefix(4096).contains(0)
        else { continue }
        for line in data.split(separator: 10) where line.count < 65536 {
          lines.append(Bytes(Array(line)))
          size += line.count
        }
      }
    }
    guard !lines.isEmpty else { throw JobError(.sourceFailed, "there is no text under /usr/share") }
    let producer = try await broker.producer(for: "lines")
    var bytes = 0
    var index = 0
    while bytes < target {
      try await producer.send(Record(value: lines[index]), partition: Int32(index / 4096 % partitions))
      bytes += lines[index].count
      index = (index + 1) % lines.count
    }
    try await producer.close()
    return bytes
  }
}
