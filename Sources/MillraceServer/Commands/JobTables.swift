// JobTables: figures of stream jobs for people: as `millrace stats` shows all jobs, and `millrace job show` one.

import MillraceBase

/// Figures of jobs, from their JSON. What is missing there is shown as a dash.
enum JobTables {
  /// A line for each job.
  static func summary(_ jobs: [JSONValue]) -> String {
    let titles = [
      "job", "state", "in/s", "out/s", "bytes in/s", "steps/s", "commits/s", "records/step", "busy", "lag", "state",
      "latency p50", "p99",
    ]
    return Shown.table(
      [titles]
        + jobs.map { job in
          [
            safe(job["name"]), safe(job["state"]), rate(job["recordsInPerSecond"]), rate(job["recordsOutPerSecond"]),
            job["bytesInPerSecond"]?["10s"]?.double.map { Shown.bytes($0) } ?? "-", rate(job["stepsPerSecond"]),
            rate(job["commitsPerSecond"]), recordsInStep(job), busy(job), count(job["lag"]), count(job["stateKeys"]),
            microseconds(job["latency"]?["p50"]), microseconds(job["latency"]?["p99"]),
          ]
        })
  }

  /// What a job has told beyond its summary: figures since its start, operators, inputs. Empty when it has told nothing.
  static func detail(_ job: JSONValue) -> String {
    guard let chains = job["chains"]?.array else { return "" }
    var text = Shown.table(
      [["since the start", ""]] + totals(job).map { [$0.0, $0.1] })
    text += "\n" + self.chains(chains)
    let inputs = job["inputs"]?.array ?? []
    if !inputs.isEmpty {
      text += "\n"
      text += Shown.table(
        [["input", "partition", "lag", "time lag"]]
          + inputs.map {
            [safe($0["input"]), count($0["partition"]), count($0["lag"]), seconds($0["timeLagSeconds"])]
          })
    }
    return text
  }

  private static func totals(_ job: JSONValue) -> [(String, String)] {
    [
      ("records in", count(job["recordsIn"])), ("records out", count(job["recordsOut"])),
      ("bytes in", bytes(job["bytesIn"])), ("bytes out", bytes(job["bytesOut"])),
      ("late records", count(job["lateRecords"])), ("failed records", count(job["failedRecords"])),
      ("steps", count(job["steps"])), ("watermark", time(job["watermark"])),
      ("busy", seconds(job["busySeconds"])), ("waited for commits", seconds(job["waitedForCommitsSeconds"])),
      (
        "commit p50 / p99",
        microseconds(job["commit"]?["p50"]) + " / " + microseconds(job["commit"]?["p99"])
      ),
    ]
  }

  /// A line for each operator, with the figures of its chain where that begins.
  private static func chains(_ chains: [JSONValue]) -> String {
    let whole = chains.reduce(0.0) { $0 + ($1["busySeconds"]?.double ?? 0) }
    let titles = [
      "operator", "in", "out", "bytes in", "bytes out", "late", "failed", "entries", "state size", "busy", "watermark",
      "held back by",
    ]
    var rows: [[String]] = []
    for chain in chains {
      let operators = chain["operators"]?.array ?? []
      rows.append([
        operators.first.map(label) ?? "-", count(chain["recordsIn"]), count(chain["recordsOut"]),
        bytes(chain["bytesIn"]), bytes(chain["bytesOut"]), some(chain["lateRecords"]), some(chain["failedRecords"]),
        count(chain["stateEntries"]), bytes(chain["stateBytes"]), share(chain, of: whole), time(chain["watermark"]),
        place(chain["watermarkHolder"]),
      ])
      for one in operators.dropFirst() {
        rows.append(["+ " + label(one)] + [String](repeating: "", count: titles.count - 1))
      }
    }
    return Shown.table([titles] + rows)
  }

  /// As `explain()` says it.
  private static func label(_ one: JSONValue) -> String {
    let name = safe(one["name"])
    return "\(count(one["number"])): \(safe(one["kind"]))" + (name.isEmpty || name == "-" ? "" : " \(name)")
  }

  /// The chain's share of the time of all, or who has it among its own.
  private static func share(_ chain: JSONValue, of whole: Double) -> String {
    if let other = chain["timedWith"]?.integer { return "with \(other)" }
    return chain["busySeconds"]?.double.map { whole > 0 ? "\(Shown.decimal($0 / whole * 100)) %" : "-" } ?? "-"
  }

  private static func place(_ value: JSONValue?) -> String {
    guard let value, value["input"]?.string != nil else { return "-" }
    return "\(safe(value["input"]))-\(count(value["partition"]))"
  }

  private static func recordsInStep(_ job: JSONValue) -> String {
    guard let records = job["recordsInPerSecond"]?["10s"]?.double, let steps = job["stepsPerSecond"]?["10s"]?.double,
      steps > 0
    else { return "-" }
    return Shown.decimal(records / steps)
  }

  private static func busy(_ job: JSONValue) -> String {
    job["busyThreads"]?["10s"]?.double.map { "\(Shown.decimal($0 * 100)) %" } ?? "-"
  }

  private static func safe(_ value: JSONValue?) -> String { value?.string.map { Shown.safe($0) } ?? "-" }

  private static func count(_ value: JSONValue?) -> String { value?.integer.map { Shown.count($0) } ?? "-" }

  /// Nothing for 0.
  private static func some(_ value: JSONValue?) -> String {
    value?.integer.map { $0 == 0 ? "" : Shown.count($0) } ?? "-"
  }

  private static func bytes(_ value: JSONValue?) -> String { value?.double.map { Shown.bytes($0) } ?? "-" }

  private static func rate(_ value: JSONValue?) -> String { value?["10s"]?.double.map { Shown.decimal($0) } ?? "-" }

  private static func microseconds(_ value: JSONValue?) -> String {
    value?.double.map { Shown.microseconds($0) } ?? "-"
  }

  private static func seconds(_ value: JSONValue?) -> String {
    value?.double.map { Shown.microseconds($0 * 1e6) } ?? "-"
  }

  private static func time(_ value: JSONValue?) -> String {
    value?.integer.map { Shown.time(Timestamp(milliseconds: Int64($0))) } ?? "-"
  }
}
