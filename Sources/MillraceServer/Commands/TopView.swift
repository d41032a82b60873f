// TopView: figures of queues and groups as lines that fit a screen.

import MillraceBase
import MillraceIO
import MillraceQueueing

/// What queues are sorted by; the largest comes first, except of names.
enum TopOrder: String, CaseIterable {
  case length, unacked, oldest, arrivals, busy, wait, name
}

/// Makes the lines of `millrace top`. What is missing in the figures is shown as a dash, so that other versions can be read.
struct TopView {
  /// Where the server is.
  let server: String
  let order: TopOrder
  /// Mean wait in seconds for which consumers are counted.
  let target: Double

  /// More consumers than this are not looked for.
  private static let mostNeeded = 10_000

  /// All lines, cut to `columns`.
  func lines(_ figures: JSONValue?, problem: String?, columns: Int?) -> [String] {
    var out = head(figures, problem)
    guard let figures else { return out.map { TopTable.cut($0, to: columns) } }
    let queues = sorted(figures)
    let groups = self.groups(figures)
    out += table(queues.map { row($0) }, TopView.queueTitle, "no queues", columns)
    out.append("")
    out += table(groups, TopView.groupTitle, "no consumer groups", columns)
    return out.map { TopTable.cut($0, to: columns) }
  }

  /// The lines that fit a terminal.
  func lines(_ figures: JSONValue?, problem: String?, size: Terminal.Size) -> [String] {
    var out = head(figures, problem)
    if let figures {
      let queues = sorted(figures)
      let groups = self.groups(figures)
      // Of what is left below the head: two titles and the line between the tables.
      let room = max(0, size.rows - out.count - 3)
      let forGroups = min(groups.count, max(room / 3, room - queues.count))
      let shownGroups = TopView.shown(groups.count, room: forGroups)
      let shownQueues = TopView.shown(queues.count, room: room - forGroups)
      out += table(queues.prefix(shownQueues).map { row($0) }, TopView.queueTitle, "no queues", size.columns)
      if shownQueues < queues.count { out.append("… \(Shown.count(queues.count - shownQueues)) more") }
      out.append("")
      out += table(Array(groups.prefix(shownGroups)), TopView.groupTitle, "no consumer groups", size.columns)
      if shownGroups < groups.count { out.append("… \(Shown.count(groups.count - shownGroups)) more") }
    }
    return out.prefix(size.rows).map { TopTable.cut($0, to: size.columns) }
  }

  /// How many of `count` rows are shown in `room` lines, when a line has to say that there are more.
  private static func shown(_ count: Int, room: Int) -> Int { count <= room ? count : max(0, room - 1) }

  private func table(_ rows: [[String]], _ title: [String], _ none: String, _ columns: Int?) -> [String] {
    rows.isEmpty ? [none] : TopTable.lines([title] + rows, columns: columns)
  }

  private func head(_ figures: JSONValue?, _ problem: String?) -> [String] {
    var out = ["millrace at \(server)"]
    if let figures {
      let journal = figures["journal"]
      out[0] += "  up \(TopView.seconds(figures["uptimeSeconds"]))"
      out[0] += "  connections \(TopView.count(figures["connections"]))"
      out[0] += "  resident \(figures["memory"]?["residentBytes"]?.double.map { Shown.bytes($0) } ?? "-")"
      out[0] += "  commits/s \(TopView.rate(journal?["commitsPerSecond"]))"
    }
    out.append(problem.map { "server away, trying again: \(Shown.safe($0))" } ?? "")
    return out
  }

  // MARK: Queues

  private static let queueTitle = [
    "queue", "length", "unacked", "oldest", "consumers", "in/s", "out/s", "busy", "wait", "wait p99", "process",
    "transfer", "L", "λW", "L = λW", "model's wait", "need",
  ]

  /// Queues with the names that they are shown under.
  private func sorted(_ figures: JSONValue) -> [(name: String, figures: JSONValue)] {
    var queues: [(name: String, figures: JSONValue, weight: Double)] = []
    for host in figures["virtualHosts"]?.array ?? [] {
      let hostName = host["name"]?.string ?? "-"
      for queue in host["queues"]?.array ?? [] {
        let name = Shown.safe(queue["name"]?.string ?? "-")
        queues.append((hostName == "/" ? name : "\(Shown.safe(hostName)): \(name)", queue, weight(queue)))
      }
    }
    queues.sort { ($1.weight, $0.name) < ($0.weight, $1.name) }
    return queues.map { ($0.name, $0.figures) }
  }

  private func weight(_ queue: JSONValue) -> Double {
    switch order {
    case .length: queue["length"]?.double ?? 0
    case .unacked: queue["unacknowledged"]?.double ?? 0
    case .oldest: queue["oldestAgeSeconds"]?.double ?? 0
    case .arrivals: queue["arrivalsPerSecond"]?["10s"]?.double ?? 0
    case .busy: queue["utilisation"]?.double ?? 0
    case .wait: queue["waiting"]?["mean"]?.double ?? 0
    case .name: 0
    }
  }

  private func row(_ queue: (name: String, figures: JSONValue)) -> [String] {
    let figures = queue.figures
    let law = figures["littlesLaw"]
    return [
      queue.name, TopView.count(figures["length"]), TopView.count(figures["unacknowledged"]),
      TopView.seconds(figures["oldestAgeSeconds"]), TopView.count(figures["consumers"]),
      TopView.rate(figures["arrivalsPerSecond"]), TopView.rate(figures["settlementsPerSecond"]),
      figures["utilisation"]?.double.map { "\(Shown.decimal($0 * 100)) %" } ?? "-",
      TopView.time(figures["waiting"], "mean"), TopView.time(figures["waiting"], "p99"),
      TopView.time(figures["processing"], "mean"), TopView.time(figures["transfer"], "mean"),
      law?["meanLength"]?.double.map { Shown.decimal($0) } ?? "-",
      law?["product"]?.double.map { Shown.decimal($0) } ?? "-", TopView.verdict(law),
      TopView.predicted(figures["model"]), needed(figures).map { Shown.count($0) } ?? "-",
    ]
  }

  private static func verdict(_ law: JSONValue?) -> String {
    // Of a queue where nothing happened the law says nothing.
    guard law?["departuresPerSecond"]?.double ?? 0 > 0 || law?["meanLength"]?.double ?? 0 > 0 else { return "-" }
    return switch law?["verdict"]?.string {
    case "endsDiffer": "ends differ"
    case let verdict?: verdict
    case nil: "-"
    }
  }

  private static func predicted(_ model: JSONValue?) -> String {
    if let wait = model?["meanWaitSeconds"]?.double { return duration(wait) }
    return model?["growthPerSecond"]?.double.map { "+\(Shown.decimal($0))/s" } ?? "-"
  }

  /// The consumers that it takes for the target, by what was measured over the window.
  private func needed(_ figures: JSONValue) -> Int? {
    let window = figures["window"]
    guard let rate = window?["offeredPerSecond"]?.double, let service = window?["serviceSeconds"]?.double,
      rate > 0, service > 0
    else { return nil }
    do throws(QueueingError) {
      let model = try QueueingModel(
        arrivalRate: rate, serviceRate: 1 / service, consumers: 1,
        arrivalVariability: window?["arrivalVariability"]?.double ?? 1,
        serviceVariability: window?["serviceVariability"]?.double ?? 1)
      return model.consumersNeeded(for: .mean(seconds: target), limit: TopView.mostNeeded)
    } catch {
      return nil
    }
  }

  // MARK: Groups

  private static let groupTitle = ["group", "topic", "state", "members", "lag", "in/s", "out/s"]

  private func groups(_ figures: JSONValue) -> [[String]] {
    var arrivals: [String: JSONValue] = [:]
    for topic in figures["topics"]?.array ?? [] {
      if let name = topic["name"]?.string { arrivals[name] = topic["recordsInPerSecond"] }
    }
    var rows: [(lag: Int64, cells: [String])] = []
    for group in figures["groups"]?.array ?? [] {
      let name = Shown.safe(group["name"]?.string ?? "-")
      let state = group["state"]?.string ?? "-"
      let topics = group["topics"]?.array ?? []
      for topic in topics {
        let topicName = topic["name"]?.string ?? "-"
        // What a group reads per second is known of all its topics together.
        let rate = topics.count == 1 ? TopView.rate(group["recordsPerSecond"]) : "-"
        rows.append(
          (
            topic["lag"]?.integer ?? 0,
            [
              name, Shown.safe(topicName), state, TopView.count(group["members"]), TopView.count(topic["lag"]),
              TopView.rate(arrivals[topicName]), rate,
            ]
          ))
      }
      if topics.isEmpty {
        rows.append((0, [name, "-", state, TopView.count(group["members"]), "-", "-", "-"]))
      }
    }
    // Equal ones stay in the order of their names, in which they came.
    return rows.enumerated().sorted { ($1.element.lag, $0.offset) < ($0.element.lag, $1.offset) }.map(\.element.cells)
  }

  // MARK: Values

  private static func count(_ value: JSONValue?) -> String { value?.integer.map { Shown.count($0) } ?? "-" }

  private static func rate(_ value: JSONValue?) -> String { value?["10s"]?.double.map { Shown.decimal($0) } ?? "-" }

  private static func seconds(_ value: JSONValue?) -> String { value?.double.map { duration($0) } ?? "-" }

  /// A value of a histogram in microseconds; a dash when it holds none.
  private static func time(_ histogram: JSONValue?, _ name: String) -> String {
    guard histogram?["count"]?.integer ?? 0 > 0, let value = histogram?[name]?.double else { return "-" }
    return duration(value / 1e6)
  }

  /// Seconds in the unit that leaves a number of few digits.
  static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds < 1e12 else { return "-" }
    if seconds < 0.001 { return "\(Int64((seconds * 1e6).rounded())) µs" }
    if seconds < 1 { return "\(Shown.decimal(seconds * 1000)) ms" }
    if seconds < 100 { return "\(Shown.decimal(seconds)) s" }
    let whole = Int64(seconds)
    if whole < 3600 { return "\(whole / 60) min \(whole % 60) s" }
    if whole < 86_400 { return "\(whole / 3600) h \(whole / 60 % 60) min" }
    return "\(whole / 86_400) d \(whole / 3600 % 24) h"
  }
}

/// Tables that leave columns out rather than wrap.
enum TopTable {
  /// Rows with two blanks between columns, the first one to the left, the others to the right.
  ///
  /// With `columns`, the first one takes a third of them at most, and those at the right that do not fit are left out.
  static func lines(_ rows: [[String]], columns: Int?) -> [String] {
    let rows = rows.map { row in
      row.enumerated().map { index, cell in index == 0 ? cut(cell, to: columns.map { max(12, $0 / 3) }) : cell }
    }
    let widths = (0..<(rows.first?.count ?? 0)).map { column in rows.map { width($0[column]) }.max() ?? 0 }
    var shown = 0
    var total = 0
    for (index, columnWidth) in widths.enumerated() {
      total += columnWidth + (index == 0 ? 0 : 2)
      if index > 0, let columns, total > columns { break }
      shown += 1
    }
    return rows.map { row in
      row.prefix(shown).enumerated().map { index, cell in
        let space = String(repeating: " ", count: widths[index] - width(cell))
        return index == 0 ? cell + space : space + cell
      }.joined(separator: "  ")
    }
  }

  /// The text, or as much of it as leaves room for a mark that something is missing.
  static func cut(_ text: String, to columns: Int?) -> String {
    guard let columns, width(text) > columns else { return text }
    var out = ""
    var used = 0
    for character in text {
      used += width(character)
      if used >= columns { break }
      out.append(character)
    }
    return columns > 0 ? out + "…" : ""
  }

  /// Columns of a terminal that a text takes.
  static func width(_ text: String) -> Int { text.reduce(0) { $0 + width($1) } }

  private static func width(_ character: Character) -> Int {
    character.unicodeScalars.reduce(0) { max($0, width($1)) }
  }

  /// Wide are those of East Asian scripts and pictures. Source: Unicode Standard Annex 11, classes W and F, by blocks.
  private static func width(_ scalar: Unicode.Scalar) -> Int {
    switch scalar.value {
    case 0x1100...0x115f, 0x2e80...0x303e, 0x3041...0xa4cf, 0xa960...0xa97c, 0xac00...0xd7a3, 0xf900...0xfaff,
      0xfe30...0xfe6f, 0xff00...0xff60, 0xffe0...0xffe6, 0x1f300...0x1f64f, 0x1f680...0x1f6ff, 0x1f900...0x1f9ff,
      0x20000...0x3fffd:
      return 2
    default:
      switch scalar.properties.generalCategory {
      case .nonspacingMark, .enclosingMark, .format: return 0
      default: return 1
      }
    }
  }
}
