// InspectCommand: `millrace inspect`: what is in a stopped server's data directory, and whether it is sound.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceMetadata

extension Command {
  /// `millrace inspect`
  static let inspect = Command(
    "inspect", "reads the data directory of a stopped server and checks every checksum in it",
    discussion: """
      Changes nothing. Shows the journal's files and commits, the snapshot and the segments. A torn tail, which a crash \
      leaves behind, is no damage: it was never acknowledged, and the next start cuts it off. What is damaged is named \
      with file and position, and the exit code is 4. A directory that a server has open is refused with the same code.

      With --export, what is sound of a damaged directory is written into a new one that a server can start from: topics, \
      settings, groups, and records at the offsets they had. What had to be left out is listed, with file, position and \
      offsets, and the exit code is 4 then.
      """,
    operands: [Operand("DIR", "The data directory.")],
    options: [
      CommandOption(flag: "--commits", "Lists the commits that are in the journal."),
      CommandOption(flag: "--events", "Lists the commits, and below each what it changes besides records."),
      CommandOption(
        flag: "--ranges",
        "Lists the bytes that mean something: file, first byte, length, use; all others may be anything."),
      CommandOption(
        "--export", "NEWDIR", "Writes what is sound into this directory, which must not exist or be empty."),
      .encryptionKey,
      CommandOption(
        "--export-key", "FILE", "Encrypts NEWDIR with the keys of this file, whatever DIR is encrypted with."),
      CommandOption(flag: "--export-plain", "Writes NEWDIR without encryption, though DIR is encrypted."),
    ]
  ) { (arguments) throws(CommandFailure) in
    let directory = arguments.operands[0]
    let lock = try hold(directory, LinuxFileSystem())
    defer { lock?.release() }
    let fileSystem = try arguments.fileSystem(for: directory)
    let output = OutputStream.standardOutput
    if let target = arguments.text("--export") {
      return try export(directory, to: target, fileSystem, arguments, output)
    }
    for option in ["--export-key", "--export-plain"] where arguments.has(option) {
      throw CommandFailure(.usage, "\(option) needs --export")
    }
    var progress = Progress()
    let listsEvents = arguments.has("--events")
    var commits = arguments.has("--commits") || listsEvents ? CommitList(output: output) : nil
    let inspection: LogInspection
    do throws(LogError) {
      inspection = try LogInspection.run(
        directory: directory, fileSystem: fileSystem, collectingRanges: arguments.has("--ranges"),
        collectingEvents: listsEvents
      ) { commit in
        commits?.add(commit)
        progress.show("commit \(commit.sequence)")
      }
    } catch {
      throw CommandFailure(.failed, error.reason)
    }
    progress.clear()
    try commits?.finish()
    if arguments.has("--ranges") { try output.print(InspectionReport.ranges(inspection)) }
    try output.print(InspectionReport.text(inspection))
    guard let first = inspection.problems.first else { return .done }
    let others = inspection.problems.count - 1
    throw CommandFailure(.data, "\(directory) is damaged: \(first)" + (others > 0 ? " (and \(others) more)" : ""))
  }

  private static func export(
    _ directory: String, to target: String, _ fileSystem: any FileSystem, _ arguments: Arguments, _ output: OutputStream
  ) throws(CommandFailure) -> ExitCode {
    if arguments.has("--export-key"), arguments.has("--export-plain") {
      throw CommandFailure(.usage, "--export-key and --export-plain exclude each other")
    }
    // Unless something else is said, what was encrypted stays so.
    var targetFileSystem = arguments.has("--export-plain") ? LinuxFileSystem() : fileSystem
    if let file = arguments.text("--export-key") {
      targetFileSystem = EncryptedFileSystem(LinuxFileSystem(), keys: try Arguments.keys(file))
    }
    try ExportCommand(
      directory: directory, target: target, fileSystem: fileSystem, targetFileSystem: targetFileSystem, output: output
    ).run()
    return .done
  }

  /// Takes the directory's lock, so that no server starts meanwhile; nil when the directory has none.
  private static func hold(_ directory: String, _ fileSystem: LinuxFileSystem) throws(CommandFailure) -> (any FileLock)?
  {
    do throws(IOError) {
      let path = "\(directory)/lock"
      return try fileSystem.exists(path) ? try fileSystem.lock(path) : nil
    } catch {
      if error.code == .locked {
        throw CommandFailure(.data, "\(directory) is in use: a server has it open; stop it first")
      }
      throw CommandFailure(.failed, error.description)
    }
  }
}

/// Writes commits as they are found, a table with fixed columns.
private struct CommitList {
  let output: OutputStream
  private var text =
    "  commit  time                      entries   batches   records    events       bytes  file at byte\n"
  private var failure: CommandFailure?

  init(output: OutputStream) {
    self.output = output
  }

  mutating func add(_ commit: InspectedCommit) {
    func right(_ value: some BinaryInteger, _ width: Int) -> String {
      let digits = String(value)
      return String(repeating: " ", count: max(0, width - digits.count)) + digits
    }
    text += right(commit.sequence, 8) + "  " + Logger.iso8601(commit.time)
    text += right(commit.entries, 9) + right(commit.batches, 10) + right(commit.records, 10)
    text += right(commit.events, 10) + right(commit.bytes, 12)
    text += "  \(commit.file.split(separator: "/").last ?? "") at \(commit.position)\n"
    for event in commit.eventBytes { text += "          \(CommitList.words(event))\n" }
    if text.utf8.count > 64 << 10 { write() }
  }

  /// The event, or why this program cannot read it: an inspection of a newer program's directory goes on.
  private static func words(_ event: Bytes) -> String {
    do throws(DecodingError) {
      return try MetadataEvent(event).description
    } catch {
      return "an event that cannot be read: \(error)"
    }
  }

  private mutating func write() {
    guard failure == nil else { return }
    do throws(CommandFailure) {
      try output.print(text)
    } catch {
      failure = error
    }
    text = ""
  }

  mutating func finish() throws(CommandFailure) {
    text += "\n"
    write()
    if let failure { throw failure }
  }
}

/// What an inspection found, for people.
enum InspectionReport {
  /// The ranges, one a line, their fields separated by tabs; then an empty line.
  static func ranges(_ found: LogInspection) -> String {
    found.ranges.map { "\($0.path)\t\($0.position)\t\($0.length)\t\($0.use.rawValue)\n" }.joined() + "\n"
  }

  /// The whole report.
  static func text(_ found: LogInspection) -> String {
    var out = "data directory \(found.directory)\n\njournal\n"
    out += Shown.table(found.files.map { ["  \($0.path)  \($0.use)", Shown.bytes(Double($0.size))] })
    if let first = found.firstSequence, let last = found.lastSequence {
      out += "  \(Shown.count(found.commits)) commits, \(first) to \(last)"
      out += ", the last one made at \(Logger.iso8601(found.lastTime ?? .none))\n"
      out += "  \(Shown.count(found.records)) records in \(Shown.count(found.batches)) batches, "
      out += "\(Shown.count(found.events)) events, \(Shown.bytes(Double(found.commitBytes)))\n"
    } else if found.problems.isEmpty {
      out += "  no commits that are not in segments already\n"
    }
    if let torn = found.tornTail { out += "  torn tail, which the next start cuts off: \(torn)\n" }
    if let snapshot = found.snapshot {
      out += "\nsnapshot\n  stands for commit \(snapshot.sequence); records up to commit \(snapshot.drainedSequence) "
      out += "are in segments\n  \(Shown.count(snapshot.partitions)) partitions, "
      out += "\(Shown.count(snapshot.segments)) segments, \(Shown.bytes(Double(snapshot.bytes)))\n"
    } else if found.problems.isEmpty {
      out += "\nsnapshot\n  none yet\n"
    }
    if !found.segments.isEmpty || !found.orphans.isEmpty {
      out += "\nsegments\n"
      out += Shown.table(
        found.segments.map {
          [
            "  \($0.path)", "\(Shown.count($0.partitions)) partitions", "\(Shown.count($0.blocks)) blocks sound",
            Shown.bytes(Double($0.bytes)),
          ]
        })
      for name in found.orphans { out += "  \(name): left over, the next start removes it\n" }
    }
    out += "\n"
    for damage in found.harmless { out += "damaged, but not needed: \(damage)\n" }
    for problem in found.problems { out += "damaged: \(problem)\n" }
    if found.problems.isEmpty, found.harmless.isEmpty { out += "sound: every checksum is right\n" }
    return out
  }
}
