// SimulatorCommand: the command line of the simulator.

import BrokerSimulation
import Dispatch
import Glibc
import MillraceBase
import Synchronization

/// `Simulator [--seeds N] [--from SEED] [--jobs N] [--trace]`, and `Simulator replay …` (see ``ReplayCommand``).
enum SimulatorCommand {
  private static let usage = """
    usage: Simulator [--seeds N] [--from SEED] [--jobs N] [--trace]
      --seeds N     how many seeds to run (default 2000)
      --from SEED   the first of them (default 1)
      --jobs N      seeds run at the same time (default 2)
      --trace       print each seed's trace hash, and a failing seed's last events
           Simulator replay RECORDING PREFIX SEED DIRECTORY
      writes into DIRECTORY what a power loss after the first PREFIX recorded operations may leave, as SEED decides
           Simulator plants
      breaks on purpose what each rule and invariant is there for; exit status 1 when one of them does not notice
    Exit status: 0 when no rule was broken, 1 when one was, 2 for a wrong command line.
    """

  private struct Options {
    var seeds: UInt64 = 2000
    var from: UInt64 = 1
    var jobs = 2
    var showsTrace = false
  }

  static func main() {
    runWithFixedHashing()
    if CommandLine.arguments.count == 6, CommandLine.arguments[1] == "replay" {
      exit(ReplayCommand.run(Array(CommandLine.arguments.dropFirst(2))))
    }
    if CommandLine.arguments.dropFirst() == ["plants"] { exit(PlantsCommand.run() ? 0 : 1) }
    guard let options = parse(Array(CommandLine.arguments.dropFirst())) else {
      Logger.standardError(.error, usage)
      exit(2)
    }
    exit(run(options) ? 0 : 1)
  }

  /// Begins again with hash seeds fixed, since the order of a dictionary would make runs of one seed differ.
  private static func runWithFixedHashing() {
    let name = "SWIFT_DETERMINISTIC_HASHING"
    guard getenv(name) == nil else { return }
    setenv(name, "1", 1)
    var arguments = CommandLine.arguments.map { strdup($0) }
    arguments.append(nil)
    execv("/proc/self/exe", arguments)
    Logger.standardError(.error, "cannot start with fixed hashing")
    exit(2)
  }

  private static func parse(_ arguments: [String]) -> Options? {
    var options = Options()
    var rest = arguments[...]
    while let word = rest.popFirst() {
      if word == "--trace" {
        options.showsTrace = true
        continue
      }
      guard let text = rest.popFirst(), let number = UInt64(text) else { return nil }
      switch word {
      case "--seeds": options.seeds = number
      case "--from": options.from = number
      case "--jobs": options.jobs = max(1, min(64, Int(number)))
      default: return nil
      }
    }
    return options
  }

  private struct Progress {
    var next: UInt64
    var failed: [Outcome] = []
    var counts: [String: Int] = [:]
  }

  private static func run(_ options: Options) -> Bool {
    let begin = MonotonicTime.now
    if options.seeds > SeedParts.size {
      var parts = SeedParts(arguments: ["--jobs", String(options.jobs)] + (options.showsTrace ? ["--trace"] : []))
      var isRight = true
      var next = options.from
      let end = options.from + options.seeds
      while isRight, next < end {
        let count = min(SeedParts.size, end - next)
        isRight = parts.run(from: next, count: count)
        next += count
      }
      summarize(parts.done, parts.counts, took: MonotonicTime.now - begin)
      return isRight
    }
    let end = options.from + options.seeds
    let progress = Mutex(Progress(next: options.from))
    DispatchQueue.concurrentPerform(iterations: options.jobs) { _ in
      while true {
        let seed = progress.withLock { state -> UInt64? in
          guard state.next < end, state.failed.isEmpty else { return nil }
          defer { state.next += 1 }
          return state.next
        }
        guard let seed else { return }
        let outcome = BrokerScenario(seed: seed).run()
        progress.withLock { state in
          for (what, count) in outcome.counts { state.counts[what, default: 0] += count }
          if !outcome.violations.isEmpty { state.failed.append(outcome) }
          if options.showsTrace { print("seed \(seed) trace \(String(outcome.traceHash, radix: 16))") }
        }
      }
    }
    return progress.withLock { report($0, options, took: MonotonicTime.now - begin) }
  }

  private static func report(_ progress: Progress, _ options: Options, took: Duration) -> Bool {
    for outcome in progress.failed {
      print("seed \(outcome.seed): \(outcome.violations[0])")
      for warning in outcome.warnings.suffix(5) { print("  log: \(warning)") }
      for violation in outcome.violations.dropFirst().prefix(4) { print("  then: \(violation)") }
      if options.showsTrace { for note in outcome.notes { print("  \(note)") } }
      print("repeat with: Simulator --from \(outcome.seed) --seeds 1 --trace")
    }
    summarize(progress.next - options.from, progress.counts, took: took)
    return progress.failed.isEmpty
  }

  private static func summarize(_ done: UInt64, _ counts: [String: Int], took: Duration) {
    let milliseconds = max(1, took.inMilliseconds)
    print("\(done) seeds in \(milliseconds) ms, \(Int64(done) * 1000 / milliseconds) a second")
    for (what, count) in counts.sorted(by: { $0.key < $1.key }) { print("  \(count) \(what)") }
  }
}
