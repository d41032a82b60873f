// Arguments: the words behind a command, checked against its tables.

/// What a command was called with. Every value fits the type in the command's table.
struct Arguments: Equatable, Sendable {
  private(set) var options: [String: [String]] = [:]
  private(set) var operands: [String] = []

  /// Whether an option stands there.
  func has(_ option: String) -> Bool { options[option] != nil }

  /// All values of an option, in order.
  func list(_ option: String) -> [String] { options[option] ?? [] }

  /// The value of an option; nil without it.
  func text(_ option: String) -> String? { options[option]?.last }

  /// The value of an option of type `.integer`; nil without it.
  func integer(_ option: String) -> Int64? { text(option).flatMap { Int64($0) } }

  /// The value of an option of type `.seconds`; nil without it.
  func seconds(_ option: String) -> Duration? { text(option).flatMap { Double($0) }.map { .seconds($0) } }

  /// The values of an option of type `.assignment`, in order.
  func assignments(_ option: String) -> [(name: String, value: String)] { Arguments.assignments(list(option)) }

  /// Texts of type `.assignment`, taken apart.
  static func assignments(_ texts: some Sequence<String>) -> [(name: String, value: String)] {
    texts.map { text in
      let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      return (String(parts[0]), String(parts[1]))
    }
  }

  /// Checks `words` against a command's tables.
  /// - Throws: `.usage`, naming the word that is wrong.
  init(_ words: some Sequence<String>, for command: Command) throws(CommandFailure) {
    var rest = Array(words)[...]
    var onlyOperands = false
    while let word = rest.popFirst() {
      if word == "--", !onlyOperands {
        onlyOperands = true
      } else if word.hasPrefix("--"), !onlyOperands {
        try take(option: word, &rest, command)
      } else if word.hasPrefix("-"), word.count > 1, !onlyOperands, Int64(word) == nil {
        throw CommandFailure(.usage, "unknown option \(word)")
      } else {
        try take(operand: word, command)
      }
    }
    if operands.count < command.operands.count, !command.operands[operands.count].isOptional {
      throw CommandFailure(.usage, "\(command.operands[operands.count].name) is missing")
    }
    for option in command.options where option.isRequired && !has(option.name) {
      throw CommandFailure(.usage, "\(option.usage) is missing")
    }
  }

  private mutating func take(operand word: String, _ command: Command) throws(CommandFailure) {
    guard let last = command.operands.last, operands.count < command.operands.count || last.isList else {
      throw CommandFailure(.usage, "unexpected argument \"\(word)\"")
    }
    let operand = operands.count < command.operands.count ? command.operands[operands.count] : last
    if let problem = operand.type.problem(with: word) {
      throw CommandFailure(.usage, "\(operand.name) \(problem), not \"\(word)\"")
    }
    operands.append(word)
  }

  private mutating func take(
    option word: String, _ rest: inout ArraySlice<String>, _ command: Command
  ) throws(CommandFailure) {
    let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    guard let option = command.options.first(where: { $0.name == parts[0] }) else {
      throw CommandFailure(.usage, "unknown option \(parts[0])")
    }
    guard option.count != .once || !has(option.name) else {
      throw CommandFailure(.usage, "\(option.name) stands there twice")
    }
    guard option.placeholder != nil else {
      guard parts.count == 1 else { throw CommandFailure(.usage, "\(option.name) takes no value") }
      options[option.name] = []
      return
    }
    var values: [String] = []
    if parts.count == 2 {
      values = [parts[1]]
    } else {
      repeat {
        guard let next = rest.first, !next.hasPrefix("--") else { break }
        values.append(rest.removeFirst())
      } while option.count == .list
    }
    guard !values.isEmpty else { throw CommandFailure(.usage, "\(option.usage): the value is missing") }
    for value in values {
      if let problem = option.type.problem(with: value) {
        throw CommandFailure(.usage, "\(option.name) \(problem), not \"\(value)\"")
      }
    }
    options[option.name, default: []] += values
  }
}
