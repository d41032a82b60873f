// NexmarkCommand: `millrace nexmark`: the queries of the Nexmark benchmark.

import Glibc
import MillraceBase
import MillraceConnectors
import MillraceDataflow
import MillraceIO
import MillraceNexmark
import MillraceNexmarkQueries

extension Command {
  /// `millrace nexmark`
  static let nexmark = Command(
    "nexmark", "runs a query of the Nexmark benchmark of stream processors",
    discussion: """
      Nexmark is an auction site: persons, auctions and bids. docs/reference/nexmark.md says what its events and queries \
      are. The query runs in memory, as a job whose state and results are committed step by step; no server is needed. Its \
      final result is written as lines of JSON, sorted; standard error tells what it took of the processor.
      """,
    operand: Operand(
      "QUERY", type: .word(NexmarkQuery.all.map(\.name)),
      "One of \(NexmarkQuery.all.map(\.name).joined(separator: ", "))."),
    options: [
      CommandOption(
        "--events", "N", type: .integer(1...NexmarkGenerator.eventLimit), "How many events are made."),
      CommandOption(
        "--input", "FILE", count: .list,
        "Files of events as lines of JSON, as `generate` writes them, read one after the other; instead of --events."),
      CommandOption(
        "--rate", "R", type: .integer(NexmarkGenerator.rates), "Events in a second of event time (default 10000)."),
      CommandOption(
        "--from", "N", type: .integer(0...NexmarkGenerator.eventLimit), "The number of the first event (default 0)."),
      CommandOption(flag: "--float-times", "Times in 32-bit floating point, as nexmark-rs computes them."),
      CommandOption(flag: "--prepared", "Encodes all events into memory before the clock starts."),
      CommandOption("--workers", "W", type: .integer(1...256), "Threads that run the job (default 1)."),
      CommandOption(
        "--state-memory", "BYTES", type: .integer(1...(1 << 50)),
        "Memory for the job's state; what is beyond lies in files without names in $TMPDIR, or /var/tmp. No limit without it."
      ),
      CommandOption(
        "--crash-at", "N", type: .integer(1...NexmarkGenerator.eventLimit),
        "Drops the job once it has read N events; it is started again from what was committed."),
      CommandOption(
        "--output", "FILE",
        "Where to write the result; - is standard output. Without it the rows are only counted."),
    ],
    subcommands: [nexmarkGenerate]
  ) { (arguments) throws(CommandFailure) in
    let files = arguments.list("--input")
    let count = arguments.integer("--events") ?? 0
    let from = arguments.integer("--from") ?? 0
    guard (count > 0) != !files.isEmpty else {
      throw CommandFailure(.usage, "one of --events and --input is needed")
    }
    if !files.isEmpty, let made = ["--from", "--rate", "--crash-at"].first(where: arguments.has) {
      throw CommandFailure(.usage, "\(made) is for events that are made, not for those of --input")
    }
    guard count <= NexmarkGenerator.eventLimit - from else {
      throw CommandFailure(.usage, "--from and --events go beyond event \(NexmarkGenerator.eventLimit)")
    }
    let crash = arguments.integer("--crash-at")
    if let crash, crash > count { throw CommandFailure(.usage, "--crash-at \(crash) is beyond \(count) events") }
    guard let query = NexmarkQuery.all.first(where: { $0.name == arguments.operands[0] }) else {
      throw CommandFailure(.usage, "unknown query \(arguments.operands[0])")
    }
    let generator = NexmarkGenerator(
      rate: arguments.integer("--rate") ?? 10_000, times: arguments.has("--float-times") ? .float32 : .exact)
    var run = NexmarkRun(query, generator, events: from..<(from + count))
    if !files.isEmpty {
      let found: [String]
      do throws(IOError) {
        found = try FileSource.files(under: files, in: LinuxFileSystem())
      } catch {
        throw CommandFailure(.failed, error.description)
      }
      run.lines = { FileSource(files: found, in: LinuxFileSystem(), textOnly: false) }
    }
    run.isPrepared = arguments.has("--prepared")
    run.crashAt = crash
    run.options.workers = Int(arguments.integer("--workers") ?? 1)
    if let memory = arguments.integer("--state-memory") {
      run.options.stateMemory = Int(memory)
      let directory = getenv("TMPDIR").map { String(cString: $0) } ?? "/var/tmp"
      run.stateFiles = { () throws(JobError) in try ScratchStateFile(in: directory) }
    }
    run.keepsRows = arguments.has("--output")
    let outcome: NexmarkOutcome
    do throws(JobError) { outcome = try run.run() } catch { throw CommandFailure(.failed, error.description) }
    try OutputStream.standardError.print("\(query.name): \(told(outcome, isRead: !files.isEmpty))\n")
    guard let path = arguments.text("--output") else { return .done }
    let lines: ResultLines
    do throws(DecodingError) {
      lines = try ResultLines(outcome.outputs, columns: query.columns)
    } catch {
      throw CommandFailure(.failed, "a row of the result cannot be read: \(error)")
    }
    do throws(IOError) {
      try write(lines, to: path)
    } catch {
      // Whoever reads has enough.
      if path != "-" || !error.isBrokenPipe { throw CommandFailure(.failed, error.description) }
    }
    return .done
  }

  /// What a run took, in one line.
  private static func told(_ outcome: NexmarkOutcome, isRead: Bool) -> String {
    func seconds(_ time: Duration) -> Double { Double(time.inNanoseconds) / 1e9 }
    func processor(_ time: Duration) -> String {
      let taken = seconds(time)
      let rate = taken > 0 ? Double(outcome.events) / taken / 1e6 : 0
      return "\(thousandths(taken)) s (\(thousandths(rate)) million events/s)"
    }
    var line = "\(Shown.count(outcome.events)) events in \(thousandths(seconds(outcome.elapsed))) s, "
    line += "\(Shown.count(outcome.outputRecords)) rows handed on; "
    line += "processor time \(processor(outcome.processor)), "
    line += "with \(isRead ? "reading" : "making") the events \(processor(outcome.processor + outcome.source))"
    if outcome.stateFiles > 0 { line += "; state in files at most \(Shown.count(Int64(outcome.stateFiles))) bytes" }
    if let position = outcome.recoveredAt { line += "; after the crash from event \(Shown.count(position)) on" }
    return line
  }

  private static func thousandths(_ value: Double) -> String {
    let (whole, rest) = Int64((value * 1000).rounded()).quotientAndRemainder(dividingBy: 1000)
    return "\(whole).\(String(repeating: "0", count: 3 - String(rest).count))\(rest)"
  }

  private static func write(_ lines: ResultLines, to path: String) throws(IOError) {
    if path == "-" {
      let output = OutputStream.standardOutput
      return try lines.write { (portion: UnsafeRawBufferPointer) throws(IOError) in try output.write(portion) }
    }
    let file = try LinuxFileSystem().open(path, [.write, .create, .truncate])
    defer { file.close() }
    var written: Int64 = 0
    try lines.write { (portion: UnsafeRawBufferPointer) throws(IOError) in
      try file.write(portion, at: written)
      written += Int64(portion.count)
    }
  }
}
