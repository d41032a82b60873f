// StatsCommand: `millrace stats`: a running server's live figures as tables.

import MillraceBase
import MillraceIO

extension Command {
  /// `millrace stats`
  static let stats = Command(
    "stats", "shows the live figures of a running server",
    discussion: """
      Rates are per second, over the last second and the last ten. Latencies are since the server's start: a commit's \
      from its first record, a flush's from handing it to the device, both until it is durable. A topic's length is the \
      number of its records; a group's lag is how many of them it has not committed. Of a stream job, rates are over the last \
      ten seconds; what its figures mean, docs/reference/job-figures.md says.
      """,
    options: [
      CommandOption(flag: "--json", "Writes the figures as JSON, one line."),
      CommandOption("--watch", "SECONDS", type: .seconds, "Shows them again and again, until Ctrl-C."),
      .bootstrap,
    ]
  ) { (arguments) throws(CommandFailure) in
    let interruption = try Interruption.begin()
    let client = try arguments.client(interruption)
    let interval = arguments.seconds("--watch")
    let output = OutputStream.standardOutput
    repeat {
      let figures: String
      do throws(ClientError) {
        figures = try client.figures()
      } catch {
        if error.code == .interrupted { return .done }
        throw CommandFailure(error)
      }
      var text = figures + "\n"
      if !arguments.has("--json") {
        do throws(DecodingError) {
          text = FigureTables.text(try JSONValue(figures))
        } catch {
          throw CommandFailure(.failed, "the server's figures cannot be read: \(error)")
        }
        // Clears the terminal. Source: ECMA-48, cursor position and erase in display.
        if interval != nil { text = output.isTerminal ? "\u{1b}[H\u{1b}[2J" + text : text + "\n" }
      }
      do throws(IOError) {
        try output.write(text)
      } catch {
        if error.isBrokenPipe { return .done }
        throw CommandFailure(.failed, error.description)
      }
      let next = MonotonicTime.now + (interval ?? .zero)
      while MonotonicTime.now < next, !interruption.isRequested {
        SystemClock.sleep(min(.milliseconds(50), next - .now))
      }
    } while interval != nil && !interruption.isRequested
    return .done
  }
}

/// Figures for people. What is missing in the JSON is shown as a dash, so that other versions can be read.
enum FigureTables {
  /// All tables.
  static func text(_ figures: JSONValue) -> String {
    let memory = figures["memory"]
    let journal = figures["journal"]
    var out = "up \(duration(figures["uptimeSeconds"])), \(count(figures["connections"])) connections\n"
    out += "memory  \(bytes(memory?["residentBytes"])) resident, \(bytes(memory?["hotTailBytes"])) of recent batches\n"
    out += "journal  \(count(journal?["commits"])) commits, \(bytes(journal?["bytes"]))"
    out += ", \(rate(journal?["commitsPerSecond"], decimal)) commits/s"
    out += ", \(rate(journal?["bytesPerSecond"], bytes))/s\n\n"
    out += Shown.table(
      [["latency", "p50", "p99", "max"]]
        + ["commit", "flush"].map { name in
          [name] + ["p50", "p99", "max"].map { microseconds(journal?[name]?[$0]) }
        })
    out += "\n" + topics(figures["topics"]?.array ?? [])
    let groups = figures["groups"]?.array ?? []
    if !groups.isEmpty { out += "\n" + self.groups(groups) }
    let jobs = figures["jobs"]?.array ?? []
    if !jobs.isEmpty { out += "\n" + JobTables.summary(jobs) }
    for job in jobs {
      let detail = JobTables.detail(job)
      if !detail.isEmpty { out += "\njob \(job["name"]?.string.map { Shown.safe($0) } ?? "-")\n" + detail }
    }
    return out + "\nrates: last second / last ten seconds\n"
  }

  private static func topics(_ topics: [JSONValue]) -> String {
    Shown.table(
      [["topic", "partitions", "length", "size", "records in/s", "bytes in/s", "bytes out/s"]]
        + topics.map { topic in
          [
            name(topic), count(topic["partitions"]), count(topic["length"]), bytes(topic["sizeBytes"]),
            rate(topic["recordsInPerSecond"], decimal), rate(topic["bytesInPerSecond"], bytes),
            rate(topic["bytesOutPerSecond"], bytes),
          ]
        })
  }

  private static func groups(_ groups: [JSONValue]) -> String {
    var rows = [["group", "state", "members", "topic", "committed", "end", "lag", "records/s"]]
    for group in groups {
      let head = [name(group), group["state"]?.string ?? "-", count(group["members"])]
      let speed = rate(group["recordsPerSecond"], decimal)
      let topics = group["topics"]?.array ?? []
      if topics.isEmpty { rows.append(head + ["-", "-", "-", count(group["lag"]), speed]) }
      for (index, topic) in topics.enumerated() {
        rows.append(
          (index == 0 ? head : ["", "", ""])
            + [name(topic), count(topic["committed"]), count(topic["end"]), count(topic["lag"])]
            + [index == 0 ? speed : ""])
      }
    }
    return Shown.table(rows)
  }

  // MARK: Values

  private static func name(_ value: JSONValue) -> String { value["name"]?.string ?? "-" }

  private static func count(_ value: JSONValue?) -> String { value?.integer.map { Shown.count($0) } ?? "-" }

  private static func decimal(_ value: JSONValue?) -> String { value?.double.map { Shown.decimal($0) } ?? "-" }

  private static func bytes(_ value: JSONValue?) -> String { value?.double.map { Shown.bytes($0) } ?? "-" }

  private static func microseconds(_ value: JSONValue?) -> String {
    value?.double.map { Shown.microseconds($0) } ?? "-"
  }

  private static func rate(_ value: JSONValue?, _ show: (JSONValue?) -> String) -> String {
    "\(show(value?["1s"])) / \(show(value?["10s"]))"
  }

  private static func duration(_ value: JSONValue?) -> String {
    guard let seconds = value?.double.map({ Int64($0) }) else { return "-" }
    if seconds < 60 { return "\(seconds) s" }
    if seconds < 3600 { return "\(seconds / 60) min \(seconds % 60) s" }
    if seconds < 86_400 { return "\(seconds / 3600) h \(seconds / 60 % 60) min" }
    return "\(seconds / 86_400) d \(seconds / 3600 % 24) h"
  }
}
