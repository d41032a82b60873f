// FuzzRegistryTests: every parser has a fuzzer: the table of docs/internals/fuzzing.md against targets and sources.

import Foundation
import Testing

private let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent()

private func text(_ path: String) throws -> String {
  try String(contentsOf: root.appending(path: path), encoding: .utf8)
}

/// Swift files below a folder, by path.
private func files(below folder: String) throws -> [URL] {
  let all = try #require(
    FileManager.default.enumerator(at: root.appending(path: folder), includingPropertiesForKeys: nil))
  return all.compactMap { $0 as? URL }.filter { $0.pathExtension == "swift" }
}

/// The words in back quotes of columns of the table, row by row, and the program that is named above each.
private func table() throws -> [(target: String, program: String, parsers: [String])] {
  func quoted(_ cell: Substring) -> [String] {
    cell.split(separator: "`", omittingEmptySubsequences: false).enumerated().filter { $0.offset % 2 == 1 }
      .map { String($0.element) }
  }
  var program = ""
  var rows: [(target: String, program: String, parsers: [String])] = []
  for line in try text("docs/internals/fuzzing.md").split(separator: "\n") {
    if line.hasPrefix("## ") { program = quoted(line).first ?? "" }
    guard line.hasPrefix("| `") else { continue }
    let cells = line.split(separator: "|", omittingEmptySubsequences: false)
    rows.append((try #require(quoted(cells[1]).first), program, quoted(cells[3])))
  }
  return rows
}

/// The folders of the programs that hold the fuzzers.
private func programs() throws -> [String] {
  try FileManager.default.contentsOfDirectory(atPath: root.appending(path: "Fuzz").path)
    .filter { $0.hasSuffix("Fuzzers") }.sorted()
}

@Test("the table of fuzzers names every target, its program, and only targets that there are")
func tableNamesTargets() throws {
  let all = try programs()
  try #require(all.count > 1)
  var found: [String: String] = [:]
  for program in all {
    var names: [String] = []
    for file in try files(below: "Fuzz/\(program)") {
      let pattern = /FuzzTarget\(\s*name: "([a-z-]+)"/
      names += try String(contentsOf: file, encoding: .utf8).matches(of: pattern).map { String($0.1) }
    }
    // Each is in the program's registry, too: as many variables as names.
    let registry = try text("Fuzz/\(program)/FuzzTargets.swift")
    let list = try #require(registry.firstMatch(of: /let fuzzTargets: \[FuzzTarget\] = \[([^\]]*)\]/)).1
    #expect(list.split(separator: ",").filter { !$0.allSatisfy(\.isWhitespace) }.count == names.count, "\(program)")
    for name in names {
      #expect(found[name] == nil, "\(name) is in two programs")
      found[name] = program
    }
  }
  let rows = try table()
  #expect(rows.count == found.count)
  #expect(Set(rows.map(\.target)) == Set(found.keys))
  for row in rows { #expect(found[row.target] == row.program, "\(row.target)") }
}

@Test("every file that reads bytes from outside has a fuzzer")
func everyParserHasAFuzzer() throws {
  let named = Set(try table().flatMap(\.parsers))
  // What only passes readers on, or defines them.
  let exempt: Set<String> = ["ByteReader.swift", "ByteWriter+Kafka.swift", "BorrowedBytes.swift", "Exports.swift"]
  var found: Set<String> = []
  for file in try files(below: "Sources") where file.deletingLastPathComponent().lastPathComponent != "Messages" {
    let source = try String(contentsOf: file, encoding: .utf8)
    guard source.contains(/ByteReader|init\??\(_ buffer: UnsafeRawBufferPointer/) else { continue }
    found.insert(file.lastPathComponent)
  }
  let missing = found.subtracting(named).subtracting(exempt)
  #expect(missing.isEmpty, "add them to a target of Fuzz and to docs/internals/fuzzing.md: \(missing.sorted())")
  // And the table names only files that there are.
  let all = Set(try files(below: "Sources").map(\.lastPathComponent))
  #expect(named.subtracting(all).subtracting(["Messages/"]).isEmpty)
}
