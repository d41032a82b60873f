// Command: what the program can be asked to do, as tables: names, operands, options with the type of their values.

import MillraceDelivery

/// The type of an option's or operand's value; the parser refuses what does not fit.
enum ValueType: Sendable {
  case text
  /// Any text, also none.
  case anything
  case integer(ClosedRange<Int64>)
  /// A number of seconds, whole or decimal, above 0.
  case seconds
  /// `HOST:PORT`; brackets around IPv6.
  case address
  /// `NAME=VALUE`.
  case assignment
  /// `earliest`, `latest` or a number from 0.
  case position
  /// As ``position``, or a point in time.
  case reset
  /// `LANE:OFFSET`, a message's place in a queue.
  case queuePosition
  /// One of these words.
  case word([String])

  /// What is wrong with `value`; nil when it fits.
  func problem(with value: String) -> String? {
    switch self {
    case .text: return value.isEmpty ? "must not be empty" : nil
    case .anything: return nil
    case .integer(let range):
      if let number = Int64(value), range.contains(number) { return nil }
      let bounds =
        range.upperBound == .max ? "from \(range.lowerBound)" : "from \(range.lowerBound) to \(range.upperBound)"
      return "must be a whole number \(bounds)"
    case .seconds:
      if let number = Double(value), number > 0, number <= 1e9 { return nil }
      return "must be a number of seconds above 0"
    case .address: return ServerAddress(value) == nil ? "must be HOST:PORT" : nil
    case .assignment: return value.contains("=") && !value.hasPrefix("=") ? nil : "must be NAME=VALUE"
    case .reset:
      return ResetPosition(value) == nil
        ? "must be earliest, latest, an offset from 0 or a time such as 2026-11-20T16:31:00Z" : nil
    case .queuePosition: return Position(typed: value) == nil ? "must be LANE:OFFSET, such as 0:12" : nil
    case .word(let words): return words.contains(value) ? nil : "must be \(words.joined(separator: " or "))"
    case .position: return StartPosition(value) == nil ? "must be earliest, latest or an offset from 0" : nil
    }
  }
}

/// An option: `--name`, or `--name VALUE`.
struct CommandOption: Sendable {
  /// How often it may stand, and how many values it takes.
  enum Count: Sendable {
    case once
    /// Any number of times.
    case repeated
    /// Any number of values behind each, up to the next option.
    case list
  }

  /// With its two dashes.
  let name: String
  /// What stands for the value in the help; nil for an option without one.
  let placeholder: String?
  let type: ValueType
  let count: Count
  let isRequired: Bool
  /// One sentence.
  let summary: String

  /// An option with a value.
  init(
    _ name: String, _ placeholder: String, type: ValueType = .text, count: Count = .once, isRequired: Bool = false,
    _ summary: String
  ) {
    self.name = name
    self.placeholder = placeholder
    self.type = type
    self.count = count
    self.isRequired = isRequired
    self.summary = summary
  }

  /// An option that is there or not.
  init(flag name: String, _ summary: String) {
    self.name = name
    placeholder = nil
    type = .text
    count = .once
    isRequired = false
    self.summary = summary
  }

  /// As the first column of the help shows it.
  var usage: String {
    guard let placeholder else { return name }
    return "\(name) \(placeholder)\(count == .list ? "…" : "")"
  }
}

/// A value without a name, such as a topic; every command takes each of its operands exactly once, save that the last ones
/// may be left out, and the last one may be a list.
struct Operand: Sendable {
  /// As the help shows it, in capitals.
  let name: String
  let type: ValueType
  /// May be left out, or stand any number of times.
  let isList: Bool
  /// May be left out.
  let isOptional: Bool
  /// One sentence.
  let summary: String

  init(
    _ name: String, type: ValueType = .text, isList: Bool = false, isOptional: Bool = false, _ summary: String
  ) {
    self.name = name
    self.type = type
    self.isList = isList
    self.isOptional = isList || isOptional
    self.summary = summary
  }

  /// As the line that shows how a command is called has it.
  var usage: String { isList ? "[\(name)]…" : isOptional ? "[\(name)]" : name }
}

/// Something the program can be asked to do, or a group of such.
struct Command: Sendable {
  /// What it does with its arguments; nil for a group.
  typealias Body = @Sendable (Arguments) throws(CommandFailure) -> ExitCode

  let name: String
  /// One sentence, without the full stop.
  let summary: String
  /// What else there is to know, in whole sentences.
  let discussion: String
  let operands: [Operand]
  let options: [CommandOption]
  let subcommands: [Command]
  let run: Body?

  /// A command that does something.
  init(
    _ name: String, _ summary: String, discussion: String = "", operands: [Operand] = [],
    options: [CommandOption] = [], run: @escaping Body
  ) {
    self.name = name
    self.summary = summary
    self.discussion = discussion
    self.operands = operands
    self.options = options.flatMap { $0.name == CommandOption.bootstrap.name ? [$0] + CommandOption.security : [$0] }
    subcommands = []
    self.run = run
  }

  /// A group of commands.
  init(_ name: String, _ summary: String, discussion: String = "", subcommands: [Command]) {
    self.name = name
    self.summary = summary
    self.discussion = discussion
    operands = []
    options = []
    self.subcommands = subcommands
    run = nil
  }

  /// A command that does something with its operand, unless that is the name of one of `subcommands`.
  init(
    _ name: String, _ summary: String, discussion: String = "", operand: Operand, options: [CommandOption],
    subcommands: [Command], run: @escaping Body
  ) {
    self.name = name
    self.summary = summary
    self.discussion = discussion
    operands = [operand]
    self.options = options
    self.subcommands = subcommands
    self.run = run
  }
}
