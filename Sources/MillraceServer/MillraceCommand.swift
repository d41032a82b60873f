// MillraceCommand: the program's commands in one place, and the way from its arguments to one of them.

import Glibc
import MillraceIO

/// The program `millrace`.
public enum MillraceCommand {
  /// All commands.
  static let program = Command(
    "millrace", "a durable message broker and stream processor",
    discussion: "`millrace COMMAND --help` says more about each command.",
    subcommands: [
      .demo, .serve, .topic, .group, .produce, .consume, .queue, .exchange, .bind, .unbind, .job, .user, .acl,
      .stats, .top, .inspect, .checkConfig, .doctor, .certs, .keys, .nexmark, .new,
    ])

  /// Runs the program with the process's arguments; never returns.
  public static func main() -> Never {
    let output = OutputStream.standardOutput
    let code = run(Array(CommandLine.arguments.dropFirst()), output: output, errors: .standardError)
    exit(code.rawValue)
  }

  /// Runs the command that `words` name.
  static func run(_ words: [String], output: OutputStream, errors: OutputStream) -> ExitCode {
    do throws(CommandFailure) {
      switch try choose(words) {
      case .help(let text):
        try output.print(text)
        return .done
      case .run(let body, let arguments): return try body(arguments)
      }
    } catch {
      // Nobody can be told when standard error itself is gone.
      do throws(IOError) {
        try errors.write("millrace: \(error.description)\n")
      } catch {
        return .failed
      }
      return error.exitCode
    }
  }

  /// What a call of the program asks for.
  enum Choice {
    case help(String)
    case run(Command.Body, Arguments)
  }

  /// Finds the command and checks its arguments.
  /// - Throws: `.usage`, naming the word that is wrong and how to get help.
  static func choose(_ words: [String], in program: Command = program) throws(CommandFailure) -> Choice {
    var command = program
    var path = [program.name]
    var rest = words[...]
    while !command.subcommands.isEmpty, let word = rest.first, !word.hasPrefix("-") {
      guard let next = command.subcommands.first(where: { $0.name == word }) else {
        if command.run != nil { break }
        throw usage("unknown command \"\(word)\"", path)
      }
      rest.removeFirst()
      command = next
      path.append(word)
    }
    if rest.prefix(while: { $0 != "--" }).contains("--help") {
      return .help(CommandHelp.text(command, path: path))
    }
    guard let body = command.run else {
      if let word = rest.first { throw usage("unknown option \(word)", path) }
      throw usage("a command is missing: \(command.subcommands.map(\.name).joined(separator: ", "))", path)
    }
    do throws(CommandFailure) {
      return .run(body, try Arguments(rest, for: command))
    } catch {
      throw usage(error.description, path)
    }
  }

  private static func usage(_ reason: String, _ path: [String]) -> CommandFailure {
    CommandFailure(.usage, "\(reason)\nTry `\(path.joined(separator: " ")) --help`.")
  }
}

extension OutputStream {
  /// Writes a text; a reader that has gone away is no failure.
  func print(_ text: String) throws(CommandFailure) {
    do throws(IOError) {
      try write(text)
    } catch {
      if !error.isBrokenPipe { throw CommandFailure(.failed, error.description) }
    }
  }
}
