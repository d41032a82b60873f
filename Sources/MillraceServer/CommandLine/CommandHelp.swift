// CommandHelp: the help texts, made from the commands' tables; the reference page holds the same texts.

/// Makes help texts.
enum CommandHelp {
  /// Columns that a text may take.
  private static let width = 100

  /// The help of a command.
  /// - Parameter path: the words that lead to it, the program's name first.
  static func text(_ command: Command, path: [String]) -> String {
    var out = "\(path.joined(separator: " ")): \(command.summary)\n\n"
    out += "Usage: \(usage(command, path: path))\n"
    if !command.subcommands.isEmpty, command.run != nil {
      out += "       \(path.joined(separator: " ")) COMMAND\n"
    }
    if !command.discussion.isEmpty { out += "\n" + wrapped(command.discussion, indent: 0) + "\n" }
    if !command.subcommands.isEmpty {
      out += "\nCommands:\n" + rows(command.subcommands.map { ($0.name, $0.summary) })
    }
    if !command.operands.isEmpty {
      out += "\nArguments:\n" + rows(command.operands.map { ($0.name, $0.summary) })
    }
    out += "\nOptions:\n" + rows(command.options.map { ($0.usage, $0.summary) } + [("--help", "Shows this.")])
    if path.count == 1 {
      out += "\nExit codes:\n" + rows(ExitCode.allCases.map { ("\($0.rawValue)", $0.text) })
    }
    return out
  }

  /// The line that shows how a command is called.
  static func usage(_ command: Command, path: [String]) -> String {
    var parts = path
    if !command.subcommands.isEmpty, command.run == nil { parts.append("COMMAND") }
    parts += command.operands.map(\.usage)
    for option in command.options {
      let dots = option.count == .repeated ? "…" : ""
      parts.append(option.isRequired ? option.usage + dots : "[\(option.usage)]\(dots)")
    }
    return parts.joined(separator: " ")
  }

  /// The part of the reference page that is made from the tables: exit codes, then every command's help.
  static func reference(_ program: Command) -> String {
    var out = "## Exit codes\n\n| Code | Means |\n|---|---|\n"
    for code in ExitCode.allCases { out += "| \(code.rawValue) | \(code.text) |\n" }
    out += "\n## Help texts\n"
    func add(_ command: Command, _ path: [String]) {
      out += "\n### \(path.joined(separator: " "))\n\n```text\n\(text(command, path: path))```\n"
      for subcommand in command.subcommands { add(subcommand, path + [subcommand.name]) }
    }
    for command in program.subcommands { add(command, [program.name, command.name]) }
    return out
  }

  /// Two columns; the second one wraps.
  private static func rows(_ rows: [(String, String)]) -> String {
    let first = min(28, rows.reduce(0) { max($0, $1.0.count) })
    return rows.map { name, text in
      let lines = wrapped(text, indent: first + 4).drop { $0 == " " }
      if name.count > first { return "  \(name)\n\(String(repeating: " ", count: first + 4))\(lines)\n" }
      return "  \(name)\(String(repeating: " ", count: first - name.count + 2))\(lines)\n"
    }.joined()
  }

  /// Lines of at most `width` columns, all indented.
  private static func wrapped(_ text: String, indent: Int) -> String {
    let margin = String(repeating: " ", count: indent)
    var lines: [String] = []
    for paragraph in text.split(separator: "\n", omittingEmptySubsequences: false) {
      var line = margin
      for word in paragraph.split(separator: " ") {
        if line.count > indent, line.count + 1 + word.count > width {
          lines.append(line)
          line = margin
        }
        line += (line.count > indent ? " " : "") + word
      }
      lines.append(line)
    }
    return lines.joined(separator: "\n")
  }
}
