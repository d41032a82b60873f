// JobCommand: `millrace job`: shows the stream jobs of a running server, stops them and lets them run again.

import MillraceBase
import MillraceConnectors
import MillraceDataflow
import MillraceIO

extension Command {
  /// `millrace job`
  static let job = Command(
    "job", "shows stream jobs of a running server, stops them and lets them run again",
    discussion: "These commands reach the server through the socket in its data directory.",
    subcommands: [.jobList, .jobShow, .jobStop, .jobResume, .jobSavepoint])

  private static let jobOperand = Operand("NAME", "The job's name.")
  private static let directory = CommandOption(
    "--data", "DIR", isRequired: true, "The data directory of the server.")

  private static let jobList = Command(
    "list", "shows all jobs",
    discussion: """
      A job is running when a worker runs it, stopping while that finishes what it has begun, stopped until it is resumed, \
      idle when nobody runs it, and embedded when it was started in the server's own process.
      """,
    options: [.jsonLine, directory]
  ) { (arguments) throws(CommandFailure) in
    let jobs = try CommandFailure.job { () throws(JobError) in try control(arguments).list() }
    let output = OutputStream.standardOutput
    guard !arguments.has("--json") else {
      var json = JSONWriter()
      json.array { json in for job in jobs { json.object { json in job.writeMembers(to: &json) } } }
      try output.print(json.text + "\n")
      return .done
    }
    let rows = jobs.map { job in
      [Shown.safe(job.name), "\(job.state)", "\(job.epoch)", job.processID == 0 ? "-" : "\(job.processID)"]
    }
    try output.print(Shown.table([["job", "state", "epoch", "process"]] + rows))
    return .done
  }

  private static let jobShow = Command(
    "show", "shows a job: state, operators, positions, lag, size of its state, its worker",
    discussion: """
      Positions are those of its newest commit. Of a job that no worker runs they are looked for in its state, which takes \
      as long as reading that. Figures are those of its newest run since the server's start, a second old at most; \
      rates are over the last ten seconds.
      """,
    operands: [jobOperand], options: [.jsonLine, directory]
  ) { (arguments) throws(CommandFailure) in
    let name = arguments.operands[0]
    let detail = try CommandFailure.job { () throws(JobError) in
      let control = try control(arguments)
      var detail = try control.show(name)
      if detail.entry.processID == 0 { detail.positions = try control.positions(name) }
      return detail
    }
    try OutputStream.standardOutput.print(arguments.has("--json") ? JobText.json(detail) : try JobText.text(detail))
    return .done
  }

  private static let jobStop = Command(
    "stop", "stops a job until it is resumed",
    discussion: """
      Its worker makes the step that it has begun durable, and ends. A worker that has not come to its end in time is \
      fenced: what it has not committed is not committed. The server remembers it, and refuses workers of the job, also after a \
      restart. A job that runs in the server's own process ends with its next step.
      """,
    operands: [jobOperand],
    options: [
      CommandOption("--timeout", "SECONDS", type: .seconds, "How long the worker may take (default 30)."), directory,
    ]
  ) { (arguments) throws(CommandFailure) in
    let name = arguments.operands[0]
    let isOrderly = try CommandFailure.job { () throws(JobError) in
      try control(arguments).stop(name, patience: arguments.seconds("--timeout") ?? .seconds(30))
    }
    try OutputStream.standardOutput.print(
      "stopped job \(Shown.safe(name))\(isOrderly ? "" : "; its worker did not end in time and was fenced")\n")
    return .done
  }

  private static let jobResume = Command(
    "resume", "lets a stopped job run again", discussion: "Nothing is started: its worker has to be.",
    operands: [jobOperand], options: [directory]
  ) { (arguments) throws(CommandFailure) in
    let name = arguments.operands[0]
    try CommandFailure.job { () throws(JobError) in try control(arguments).resume(name) }
    try OutputStream.standardOutput.print("job \(Shown.safe(name)) may run\n")
    return .done
  }

  private static let jobSavepoint = Command(
    "savepoint", "writes a job's state and positions as of one commit into a file",
    discussion: """
      The job may run meanwhile. A job that has no state yet can begin with the file, under any name: \
      `JobWorker.Configuration.savepoint`. One of the same name is replaced once the new one is whole and durable.
      """,
    operands: [jobOperand],
    options: [CommandOption("--output", "FILE", isRequired: true, "The file to write."), directory]
  ) { (arguments) throws(CommandFailure) in
    let name = arguments.operands[0]
    let path = arguments.text("--output") ?? ""
    let size = try CommandFailure.job { () throws(JobError) in try control(arguments).savepoint(name, to: path) }
    try OutputStream.standardOutput.print("wrote \(Shown.bytes(Double(size))) of job \(Shown.safe(name)) to \(path)\n")
    return .done
  }

  private static func control(_ arguments: Arguments) throws(JobError) -> JobControl {
    try JobControl(directory: arguments.text("--data") ?? "")
  }
}

extension CommandFailure {
  /// Runs `body`, turning a refusal into the command's failure.
  static func job<Value>(_ body: () throws(JobError) -> Value) throws(CommandFailure) -> Value {
    do throws(JobError) {
      return try body()
    } catch {
      throw CommandFailure(.failed, error.reason)
    }
  }
}

/// Jobs as text and as JSON.
enum JobText {
  static func text(_ job: JobDetail) throws(CommandFailure) -> String {
    var text = "job      \(Shown.safe(job.entry.name))\nstate    \(job.entry.state)\nepoch    \(job.entry.epoch)\n"
    if job.entry.processID != 0 { text += "process  \(job.entry.processID)\n" }
    text += "log      \(Shown.bytes(Double(job.stateBytes))), offsets \(job.stateStart) to \(job.stateEnd)\n"
    if let report = job.report {
      let value = try value(report, of: job.entry)
      text += "\n" + JobTables.summary([value]) + "\n" + JobTables.detail(value)
    }
    if !job.positions.isEmpty {
      let rows = job.positions.map { position in
        [
          Shown.safe(position.topic), "\(position.partition)", "\(position.offset)",
          position.endOffset < 0 ? "-" : "\(position.endOffset)", position.endOffset < 0 ? "-" : "\(position.lag)",
        ]
      }
      text += "\n" + Shown.table([["topic", "partition", "position", "end", "lag"]] + rows)
    }
    return text
  }

  private static func value(_ report: JobReport, of entry: JobEntry) throws(CommandFailure) -> JSONValue {
    var json = JSONWriter()
    json.object { json in
      entry.writeMembers(to: &json)
      report.writeMembers(to: &json)
    }
    do throws(DecodingError) {
      return try JSONValue(json.text)
    } catch {
      throw CommandFailure(.failed, "the job's figures cannot be read: \(error)")
    }
  }

  /// One line.
  static func json(_ job: JobDetail) -> String {
    var json = JSONWriter()
    json.object { json in
      job.entry.writeMembers(to: &json)
      json.name("stateBytes")
      json.number(job.stateBytes)
      json.name("positions")
      json.array { json in
        for position in job.positions {
          json.object { json in
            json.name("topic")
            json.string(position.topic)
            json.name("partition")
            json.number(position.partition)
            json.name("position")
            json.number(position.offset)
            json.name("end")
            json.number(position.endOffset)
            json.name("lag")
            json.number(position.lag)
          }
        }
      }
      job.report?.writeMembers(to: &json)
    }
    return json.text + "\n"
  }
}
