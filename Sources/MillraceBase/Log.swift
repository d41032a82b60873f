// Log: structured log lines with levels, written to standard error.

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

/// Writes lines of the form `2026-11-20T16:31:00.123Z level area: message key=value …`.
///
/// May be called from any thread; each line is one write.
public struct Logger: Sendable {
  /// Receives a finished line, without the line end.
  public typealias Sink = @Sendable (LogLevel, String) -> Void

  private final class Threshold: Sendable {
    let level: Atomic<Int>
    init(_ level: LogLevel) { self.level = Atomic(level.rawValue) }
  }

  private let threshold: Threshold
  private let sink: Sink
  private let repeated = RepeatedLines()

  /// A logger that drops lines below `minimum` and hands the others to `sink`.
  public init(minimum: LogLevel, sink: @escaping Sink = Logger.standardError) {
    threshold = Threshold(minimum)
    self.sink = sink
  }

  /// The least important lines to write; a change counts for all copies of this logger. Any thread may change it.
  public var minimum: LogLevel {
    get { LogLevel(rawValue: threshold.level.load(ordering: .relaxed)) ?? .debug }
    nonmutating set { threshold.level.store(newValue.rawValue, ordering: .relaxed) }
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
    guard level.rawValue >= threshold.level.load(ordering: .relaxed) else { return }
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
    guard level.rawValue >= threshold.level.load(ordering: .relaxed),
      let heldBack = repeated.pass("\(area): \(kind)", key: key, now: now)
    else { return }
    let detail = detail()
    write(level, area, detail.isEmpty ? "\(kind)" : "\(kind): \(detail)", fields(), heldBack: heldBack)
  }

  private func write(
    _ level: LogLevel, _ area: StaticString, _ message: String, _ fields: KeyValuePairs<String, String>, heldBack: Int
  ) {
    var line = "\(Logger.iso8601(Timestamp.now)) \(level.name) \(area): \(Logger.printable(message))"
    for (key, value) in fields { line += " \(key)=\(Logger.quoted(value))" }
    if heldBack > 0 { line += " suppressed=\(heldBack)" }
    sink(level, line)
  }

  /// Control characters escaped, so that a value from a client cannot forge a line.
  static func printable(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: { $0.value < 32 || $0.value == 127 }) else { return text }
    var out = ""
    for scalar in text.unicodeScalars {
      if scalar.value < 32 || scalar.value == 127 {
        out += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        out.unicodeScalars.append(scalar)
      }
    }
    return out
  }

  static func quoted(_ value: String) -> String {
    let safe = printable(value)
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
