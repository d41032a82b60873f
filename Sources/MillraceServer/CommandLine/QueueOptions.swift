// QueueOptions: options and words that the commands for queues, exchanges and bindings share.

import MillraceBase
import MillraceKafkaServer

extension CommandOption {
  /// Where queues and exchanges are.
  static let virtualHost = CommandOption("--vhost", "NAME", "The virtual host (default /).")
  static let durable = CommandOption(flag: "--durable", "It survives a restart; so it is without this, too.")
  static let transient = CommandOption(flag: "--transient", "It is gone after a restart.")
  static let argument = CommandOption(
    "--argument", "NAME=VALUE", type: .assignment, count: .repeated,
    "An argument: true, false, a number, or else a text; in double quotes always a text.")
  static let jsonLine = CommandOption(flag: "--json", "Writes it as JSON, one line.")
}

extension Arguments {
  var virtualHost: String { text("--vhost") ?? "/" }

  /// `--durable`, or neither, but not `--transient`.
  func isDurable() throws(CommandFailure) -> Bool {
    if has("--durable"), has("--transient") {
      throw CommandFailure(.usage, "--durable and --transient contradict each other")
    }
    return !has("--transient")
  }

  /// Asks in the virtual host that `--vhost` names.
  func ask(
    _ request: QueueRequest, _ client: KafkaClient, extra: Duration = .zero
  ) throws(CommandFailure) -> QueueAnswer {
    let call = QueueCall(request, in: virtualHost)
    // What was written is acknowledged also when a signal has come meanwhile: otherwise it would be written again.
    var isInterruptible = true
    if case .settle = request { isInterruptible = false }
    return try CommandFailure.wrapping { () throws(ClientError) in
      try client.queues(call, extra: extra, isInterruptible: isInterruptible)
    }
  }

  /// Asks for something that is answered with a number.
  func count(
    _ request: QueueRequest, _ client: KafkaClient, extra: Duration = .zero
  ) throws(CommandFailure) -> Int64 {
    let answer = try ask(request, client, extra: extra)
    guard case .count(let count) = answer else { throw CommandFailure.unexpected(answer) }
    return count
  }
}

extension CommandFailure {
  /// An answer of another kind than what was asked.
  static func unexpected(_ answer: QueueAnswer) -> CommandFailure {
    CommandFailure(.failed, "the server's answer makes no sense: \(String("\(answer)".prefix(80)))")
  }
}

extension Shown {
  /// `1 message`, `2 messages`.
  static func messages(_ count: Int64, _ noun: String = "message") -> String {
    "\(self.count(count)) \(noun)\(count == 1 ? "" : "s")"
  }

  /// A text as it may stand in a table on a terminal: control characters as `\u{1b}`, so that they do nothing.
  static func safe(_ text: some StringProtocol) -> String {
    guard text.unicodeScalars.contains(where: isUnsafe) else { return String(text) }
    var out = ""
    for scalar in text.unicodeScalars {
      if isUnsafe(scalar) {
        out += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        out.unicodeScalars.append(scalar)
      }
    }
    return out
  }

  private static func isUnsafe(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    // Format characters can turn the direction of what follows.
    case .control, .format, .lineSeparator, .paragraphSeparator: true
    default: false
    }
  }

  /// A time of the wall clock to the millisecond, as 2026-11-20T16:31:00.000Z. Source of the calendar: Howard Hinnant,
  /// "chrono-compatible low-level date algorithms".
  static func time(_ time: Timestamp) -> String {
    func floored(_ value: Int64, _ divisor: Int64) -> (Int64, Int64) {
      let rest = ((value % divisor) + divisor) % divisor
      return ((value - rest) / divisor, rest)
    }
    func padded(_ value: Int64, _ digits: Int) -> String {
      let text = String(value)
      return String(repeating: "0", count: max(0, digits - text.count)) + text
    }
    let (seconds, milliseconds) = floored(time.milliseconds, 1000)
    let (days, second) = floored(seconds, 86_400)
    let (era, dayOfEra) = floored(days + 719_468, 146_097)
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * shifted + 2) / 5 + 1
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    return "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))T\(padded(second / 3600, 2)):"
      + "\(padded(second / 60 % 60, 2)):\(padded(second % 60, 2)).\(padded(milliseconds, 3))Z"
  }
}
