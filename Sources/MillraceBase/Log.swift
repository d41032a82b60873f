// Log: structured log lines with levels, as text or JSON, written to standard error.

import CMillraceSystem
import Synchronization

/// How much a log line matters.
public enum LogLevel: Int, Comparable, Sendable, CaseIterable {
  case debug, info, warning, error

  /// Order of severity.
  public static func < (left: LogLevel, right: LogLevel) -> Bool { left.rawValue < right.rawValue }

  /// The word that stands in the line.
  public var name: String {
    switch self {
    case .debug: "debug"
    case .info: "info"
    case .warning: "warning"
    case .error: "error"
    }
  }
}

/// How a log line is written.
public enum LogFormat: Int, Sendable, CaseIterable {
  /// `2026-11-20T16:31:00.123Z level component: message key=value …`
  case text
  /// `{"time":"…","level":"…","component":"…","message":"…","fields":{"key":"value"}}`, with `"suppressed":N` behind lines
  /// of which N were held back.
  case json

  /// The word for it in settings.
  public var name: String { self == .text ? "text" : "json" }
}

/// Lines since the start. Lines below the level are not among them.
public struct LogCounts: Equatable, Sendable {
  /// Lines that were written, by ``LogLevel``'s raw value.
  public var written: [Int]
  /// Lines that were held back, because there were too many of their kind.
  public var suppressed: Int
}

/// Writes lines of the form `2026-11-20T16:31:00.123Z level component: message key=value …`, or the same as JSON.
///
/// The one way to the log. What comes from outside goes into fields or the detail of a line: its control characters are escaped,
/// so that it cannot forge lines, and fields whose name says that they hold a secret (``LogRedaction``) are left out. What users
/// store, such as records and messages, is not logged at all, which is the callers' business.
///
/// May be called from any thread; each line is one write.
public struct Logger: Sendable {
  /// Receives a finished line, without the line end.
  public typealias Sink = @Sendable (LogLevel, String) -> Void

  private final class State: Sendable {
    let level: Atomic<Int>
    let format: Atomic<Int>
    let suppressed = Atomic<Int>(0)
    // One for each level.
    let debug = Atomic<Int>(0), info = Atomic<Int>(0), warning = Atomic<Int>(0), error = Atomic<Int>(0)
    init(_ level: LogLevel, _ format: LogFormat) {
      self.level = Atomic(level.rawValue)
      self.format = Atomic(format.rawValue)
    }
    func count(_ level: LogLevel) {
      switch level {
      case .debug: debug.add(1, ordering: .relaxed)
      case .info: info.add(1, ordering: .relaxed)
      case .warning: warning.add(1, ordering: .relaxed)
      case .error: error.add(1, ordering: .relaxed)
      }
    }
  }

  private let state: State
  private let sink: Sink
  private let repeated = RepeatedLines()

  /// A logger that drops lines below `minimum` and hands the others to `sink`.
  public init(minimum: LogLevel, format: LogFormat = .text, sink: @escaping Sink = Logger.standardError) {
    state = State(minimum, format)
    self.sink = sink
  }

  /// The least important lines to write; a change counts for all copies of this logger. Any thread may change it.
  public var minimum: LogLevel {
    get { LogLevel(rawValue: state.level.load(ordering: .relaxed)) ?? .debug }
    nonmutating set { state.level.store(newValue.rawValue, ordering: .relaxed) }
  }

  /// How lines are written; a change counts for all copies of this logger. Any thread may change it.
  public var format: LogFormat {
    get { LogFormat(rawValue: state.format.load(ordering: .relaxed)) ?? .text }
    nonmutating set { state.format.store(newValue.rawValue, ordering: .relaxed) }
  }

  /// Lines so far, of all copies of this logger.
  public var counts: LogCounts {
    LogCounts(
      written: [
        state.debug.load(ordering: .relaxed), state.info.load(ordering: .relaxed),
        state.warning.load(ordering: .relaxed), state.error.load(ordering: .relaxed),
      ], suppressed: state.suppressed.load(ordering: .relaxed))
  }

  /// Drops everything: for tests and embedded use.
  public static var silent: Logger { Logger(minimum: .error, sink: { _, _ in }) }

  /// Writes the line to standard error.
  public static let standardError: Sink = { _, line in
    var text = line + "\n"
    text.withUTF8 { _ = mr_write(2, $0.baseAddress, $0.count) }
  }

  /// Logs one line; `fields` follow the message as `key=value`, quoted where they contain spaces, quotes or controls.
  public func log(
    _ level: LogLevel, _ area: StaticString, _ message: String, _ fields: KeyValuePairs<String, String> = [:]
  ) {
    guard level.rawValue >= state.level.load(ordering: .relaxed) else { return }
    write(level, area, message, fields, heldBack: 0)
  }

  /// Logs a line that clients, or a disk, can provoke as often as they like: of each area and kind ten lines pass in ten
  /// seconds, one for each key. The next one that passes says `suppressed=N`. The line reads `kind: detail`, or `kind` alone.
  /// - Parameters:
  ///   - kind: what happened, the same for all lines that count together.
  ///   - detail: what differs; made only when the line passes.
  ///   - key: what makes lines of the kind equal, so that one of them in ten seconds is enough; nil when each may differ.
  public func logRarely(
    _ level: LogLevel, _ area: StaticString, _ kind: StaticString, _ detail: @autoclosure () -> String = "",
    _ fields: @autoclosure () -> KeyValuePairs<String, String> = [:], key: String? = nil, now: MonotonicTime = .now
  ) {
    guard level.rawValue >= state.level.load(ordering: .relaxed) else { return }
    guard let heldBack = repeated.pass("\(area): \(kind)", key: key, now: now) else {
      state.suppressed.add(1, ordering: .relaxed)
      return
    }
    let detail = detail()
    write(level, area, detail.isEmpty ? "\(kind)" : "\(kind): \(detail)", fields(), heldBack: heldBack)
  }

  private func write(
    _ level: LogLevel, _ area: StaticString, _ message: String, _ fields: KeyValuePairs<String, String>, heldBack: Int
  ) {
    state.count(level)
    switch format {
    case .text:
      var line = "\(Logger.iso8601(Timestamp.now)) \(level.name) \(area): \(LogRedaction.printable(message))"
      for (key, value) in fields { line += " \(key)=\(Logger.quoted(printable: Logger.shown(key, value)))" }
      if heldBack > 0 { line += " suppressed=\(heldBack)" }
      sink(level, line)
    case .json:
      sink(level, Logger.json(level, area, message, fields, heldBack: heldBack))
    }
  }

  private static func json(
    _ level: LogLevel, _ area: StaticString, _ message: String, _ fields: KeyValuePairs<String, String>, heldBack: Int
  ) -> String {
    var json = JSONWriter()
    json.object { json in
      json.name("time")
      json.string(iso8601(Timestamp.now))
      json.name("level")
      json.string(level.name)
      json.name("component")
      json.string("\(area)")
      json.name("message")
      json.string(LogRedaction.printable(message))
      json.name("fields")
      json.object { json in
        for (key, value) in fields {
          json.name(key)
          json.string(shown(key, value))
        }
      }
      if heldBack > 0 {
        json.name("suppressed")
        json.number(heldBack)
      }
    }
    return json.text
  }

  /// A field's value as it may be shown.
  private static func shown(_ key: String, _ value: String) -> String {
    LogRedaction.isSecret(key) ? LogRedaction.mark : LogRedaction.printable(value)
  }

  static func quoted(_ value: String) -> String { quoted(printable: LogRedaction.printable(value)) }

  private static func quoted(printable safe: String) -> String {
    guard safe.isEmpty || safe.contains(where: { $0 == " " || $0 == "\"" || $0 == "=" }) else { return safe }
    return "\"" + safe.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\\\"") + "\""
  }

  /// UTC, with milliseconds. Source of the calendar rule: Howard Hinnant, "chrono-compatible low-level date algorithms".
  public static func iso8601(_ time: Timestamp) -> String {
    func padded(_ value: Int64, _ width: Int) -> String {
      let digits = String(value)
      return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
    let milliseconds = ((time.milliseconds % 86_400_000) + 86_400_000) % 86_400_000
    let days = (time.milliseconds - milliseconds) / 86_400_000 + 719_468
    let era = (days >= 0 ? days : days - 146_096) / 146_097
    let dayOfEra = days - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthShifted = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * monthShifted + 2) / 5 + 1
    let month = monthShifted < 10 ? monthShifted + 3 : monthShifted - 9
    let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    let seconds = milliseconds / 1000
    return "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))T\(padded(seconds / 3600, 2)):"
      + "\(padded(seconds / 60 % 60, 2)):\(padded(seconds % 60, 2)).\(padded(milliseconds % 1000, 3))Z"
  }
}
