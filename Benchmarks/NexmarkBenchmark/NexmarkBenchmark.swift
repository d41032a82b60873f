// NexmarkBenchmark: what a core does in a second: the Nexmark queries over encoded events in memory, and making events.

import Glibc
import MillraceBase
import MillraceDataflow
import MillraceNexmark
import MillraceNexmarkQueries

/// Arguments: millions of events (default 1), runs of each query (default 5), and queries (default all, and the
/// generator).
@main
enum NexmarkBenchmark {
  static func main() {
    let arguments = CommandLine.arguments
    let events = Int64(max(1, arguments.count > 1 ? Int(arguments[1]) ?? 1 : 1)) * 1_000_000
    let runs = max(1, arguments.count > 2 ? Int(arguments[2]) ?? 5 : 5)
    let names = arguments.dropFirst(3)
    for query in NexmarkQuery.all where names.isEmpty || names.contains(query.name) { measure(query, events, runs) }
    if names.isEmpty { GeneratorBenchmark.run(events) }
  }

  /// Prints the median of what a query took of the processor, decoding of events, state and encoded results included.
  private static func measure(_ query: NexmarkQuery, _ events: Int64, _ runs: Int) {
    var run = NexmarkRun(query, NexmarkGenerator(), events: 0..<events)
    run.isPrepared = true
    run.keepsRows = false
    var seconds: [Double] = []
    var rows: Int64 = 0
    for _ in 0..<runs {
      do throws(JobError) {
        let outcome = try run.run()
        seconds.append(Double(outcome.processor.inNanoseconds) / 1e9 / (Double(events) / 1e6))
        rows = outcome.outputRecords
      } catch {
        fatalError("\(query.name): \(error)")
      }
    }
    seconds.sort()
    let median = seconds[seconds.count / 2]
    print(
      "\(query.name): \(thousandths(median)) CPU-seconds for a million events (\(thousandths(seconds[0])) to "
        + "\(thousandths(seconds[seconds.count - 1]))), \(tenths(1 / median)) M events/s per core, \(rows) rows")
  }

  private static func thousandths(_ value: Double) -> String { "\((value * 1000).rounded() / 1000)" }
  static func tenths(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }
}
