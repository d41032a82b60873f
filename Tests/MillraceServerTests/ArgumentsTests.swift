// ArgumentsTests: what the command line accepts, what it refuses and how it says so.

import Foundation
import MillraceBase
import Testing

@testable import MillraceServer

private let sample = Command(
  "sample", "does nothing", operands: [Operand("NAME", "A name.")],
  options: [
    CommandOption("--count", "N", type: .integer(1...10), "A number."),
    CommandOption("--config", "NAME=VALUE", type: .assignment, count: .repeated, "Settings."),
    CommandOption("--input", "FILE", count: .list, "Files."),
    CommandOption("--wait", "SECONDS", type: .seconds, "A time."),
    CommandOption("--from", "POSITION", type: .position, "A position."),
    CommandOption("--server", "HOST:PORT", type: .address, "An address."),
    CommandOption(flag: "--fast", "A flag."),
  ]
) { _ in .done }

private func refusal(_ words: [String]) -> String? {
  do {
    _ = try Arguments(words, for: sample)
    return nil
  } catch {
    #expect(error.exitCode == .usage)
    return error.description
  }
}

@Test("options, their values and operands are read in any order")
func readsOptions() throws {
  let arguments = try Arguments(
    [
      "--count", "3", "name", "--config", "a=1", "--fast", "--config=b=2=3", "--input", "x", "y", "--wait", "0.5",
      "--from", "7",
    ], for: sample)
  #expect(arguments.operands == ["name"])
  #expect(arguments.integer("--count") == 3)
  #expect(arguments.assignments("--config").map { "\($0.name):\($0.value)" } == ["a:1", "b:2=3"])
  #expect(arguments.list("--input") == ["x", "y"])
  #expect(arguments.seconds("--wait") == .milliseconds(500))
  #expect(arguments.has("--fast"))
  #expect(!arguments.has("--server"))
}

@Test("behind two dashes everything is an operand")
func endOfOptions() throws {
  #expect(try Arguments(["--", "--count"], for: sample).operands == ["--count"])
}

@Test(
  "wrong usage names the word that is wrong",
  arguments: [
    ([], "NAME"), (["n", "--unknown"], "--unknown"), (["n", "-x"], "-x"), (["n", "m"], "\"m\""),
    (["n", "--count"], "--count"), (["n", "--count", "many"], "\"many\""), (["n", "--count", "0"], "from 1 to 10"),
    (["n", "--count", "11"], "\"11\""), (["n", "--count", "1", "--count", "2"], "--count"),
    (["n", "--fast=yes"], "--fast"), (["n", "--config", "novalue"], "NAME=VALUE"), (["n", "--config", "=v"], "\"=v\""),
    (["n", "--wait", "-1"], "--wait"), (["n", "--wait", "nan"], "--wait"), (["n", "--from", "middle"], "--from"),
    (["n", "--from", "-1"], "--from"), (["n", "--server", "host"], "HOST:PORT"),
    (["n", "--server", "host:70000"], "HOST:PORT"), (["n", "--server", "::1:9092"], "HOST:PORT"),
    (["n", "--count", "--fast"], "--count"), ([""], "NAME"),
  ] as [([String], String)])
func wrongUsage(_ words: [String], _ part: String) throws {
  let text = try #require(refusal(words), "\(words) was accepted")
  #expect(text.contains(part))
}

@Test("every command and group has a help text that names it and every option")
func everyCommandHasHelp() throws {
  func check(_ command: Command, _ path: [String]) throws {
    guard case .help(let text) = try MillraceCommand.choose(Array(path.dropFirst()) + ["--help"]) else {
      Issue.record("\(path) --help is no help")
      return
    }
    #expect(text.hasPrefix(path.joined(separator: " ") + ":"))
    for option in command.options { #expect(text.contains(option.name)) }
    for operand in command.operands { #expect(text.contains(operand.name)) }
    for line in text.split(separator: "\n") where !line.hasPrefix("Usage:") { #expect(line.count <= 100, "\(line)") }
    for subcommand in command.subcommands { try check(subcommand, path + [subcommand.name]) }
  }
  try check(MillraceCommand.program, ["millrace"])
}

@Test(
  "an unknown or missing command is wrong usage",
  arguments: [
    ([], "missing"), (["nonsense"], "nonsense"), (["topic"], "missing"), (["topic", "nonsense"], "nonsense"),
    (["--nonsense"], "--nonsense"), (["topic", "create"], "NAME"), (["consume"], "TOPIC"),
  ] as [([String], String)])
func unknownCommands(_ words: [String], _ part: String) {
  do {
    _ = try MillraceCommand.choose(words)
    Issue.record("\(words) was accepted")
  } catch {
    #expect(error.exitCode == .usage)
    #expect(error.description.contains(part))
    #expect(error.description.contains("--help"))
  }
}

@Test("no two commands of a group, and no two options of a command, have the same name")
func namesAreUnique() {
  func check(_ command: Command) {
    #expect(Set(command.subcommands.map(\.name)).count == command.subcommands.count)
    #expect(Set(command.options.map(\.name)).count == command.options.count)
    for option in command.options { #expect(option.name.hasPrefix("--") && option.name != "--help") }
    for subcommand in command.subcommands { check(subcommand) }
  }
  check(MillraceCommand.program)
}

@Test("the reference page holds the exit codes and help texts that the tables make")
func referenceAgrees() throws {
  let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()
  let page = root.appending(path: "docs/reference/cli.md")
  let begin =
    "<!-- made from the command tables; MILLRACE_WRITE_DOCS=1 swift test --filter referenceAgrees writes it -->\n"
  let text = try String(contentsOf: page, encoding: .utf8)
  let range = try #require(text.range(of: begin), "\(page.path) has no part made from the tables")
  let reference = CommandHelp.reference(MillraceCommand.program)
  if ProcessInfo.processInfo.environment["MILLRACE_WRITE_DOCS"] != nil {
    try (text[..<range.upperBound] + reference).write(to: page, atomically: true, encoding: .utf8)
  } else {
    #expect(String(text[range.upperBound...]) == reference)
  }
}
