// WordCountBenchmark: feeds real text through the word count on a host in memory and prints words/s per core.

import Foundation
import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams

/// Arguments: `--workers=N` (default 1), megabytes of text (default 200), runs (default 3), then directories to read (default the
/// system's licences and documents).
enum WordCountBenchmark {
  static func main() {
    var arguments = CommandLine.arguments
    var workers = 1
    if arguments.count > 1, arguments[1].hasPrefix("--workers=") {
      workers = Int(arguments.remove(at: 1).dropFirst("--workers=".count)) ?? 1
    }
    let megabytes = arguments.count > 1 ? Int(arguments[1]) ?? 200 : 200
    let runs = arguments.count > 2 ? max(1, Int(arguments[2]) ?? 3) : 3
    let folders = arguments.count > 3 ? Array(arguments[3...]) : ["/usr/share/common-licenses", "/usr/share/doc"]
    do {
      let host = MemoryHost()
      host.createTopic("lines", partitions: 4)
      host.createTopic("counts", partitions: 4)
      let bytes = try load(host, folders: folders, target: megabytes << 20)
      let rates = try (0..<runs).map { _ in try measure(host, bytes: bytes, workers: workers) }
      print("{\"per_core\": \(rates.sorted()[runs / 2]), \"megabytes\": \(megabytes)}")
    } catch {
      print("failed: \(error)")
      exit(1)
    }
  }

  /// - Returns: words per second of the workers' processor time.
  private static func measure(_ host: MemoryHost, bytes: Int, workers: Int) throws -> Double {
    let name = "word-count-\(UInt64.random(in: 0...UInt64.max))"
    var options = JobOptions()
    options.workers = workers
    let executor = try JobExecutor(WordCount.job(named: name), host: host, options: options)
    let clock = MonotonicTime.now
    let processor = processorTime()
    while executor.figures.lag > 0 || executor.figures.steps == 0 { _ = try executor.turn() }
    try executor.settle()
    let used = processorTime() - processor
    let passed = Double((MonotonicTime.now - clock).inNanoseconds) / 1e9
    let figures = executor.figures
    let words = try total(host)
    print(
      "words \(words), keys \(figures.stateKeys), lines \(figures.recordsIn), steps \(figures.steps), "
        + "out \(figures.recordsOut), state \(figures.stateRecords) | "
        + String(
          format: "%.1f M words/s per core, %.0f MB/s text, %.2f CPU s, %.2f s", Double(words) / used / 1e6,
          Double(bytes) / used / 1e6, used, passed))
    host.createTopic("counts", partitions: 4)
    return Double(words) / used
  }

  /// Seconds of processor time of all threads so far.
  private static func processorTime() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  /// The sum of the last counts.
  private static func total(_ host: MemoryHost) throws -> Int {
    var last: [String: Int] = [:]
    for partition in 0..<Int32(4) {
      for record in try host.records(topic: "counts", partition: partition) {
        last[record.key?.text ?? ""] = Int(record.value?.text ?? "") ?? 0
      }
    }
    return last.values.reduce(0, +)
  }

  /// Fills topic `lines` with the lines of the folders' text files, over and over up to `target` bytes.
  private static func load(_ host: MemoryHost, folders: [String], target: Int) throws -> Int {
    var lines: [[UInt8]] = []
    var size = 0
    for folder in folders {
      for case let name as String in FileManager.default.enumerator(atPath: folder) ?? .init() where size < target {
        guard !name.hasSuffix(".gz"), let data = FileManager.default.contents(atPath: folder + "/" + name) else {
          continue
        }
        guard !data.prefix(4096).contains(0) else { continue }
        for line in data.split(separator: 10) where line.count < 65536 {
          lines.append(Array(line))
          size += line.count
        }
      }
    }
    guard size > 0 else { throw JobError(.sourceFailed, "no text under \(folders)") }
    print("\(lines.count) lines, \(size >> 20) MiB of text")
    var bytes = 0
    var partition: Int32 = 0
    var builder = RecordBatchBuilder()
    var index = 0
    while bytes < target {
      lines[index].withUnsafeBytes { builder.append(key: nil, value: $0, timestamp: Timestamp(milliseconds: 0)) }
      bytes += lines[index].count
      index = (index + 1) % lines.count
      if builder.size > 500_000 || bytes >= target {
        try host.append(topic: "lines", partition: partition, batch: builder.finish())
        partition = (partition + 1) % 4
      }
    }
    return bytes
  }
}
