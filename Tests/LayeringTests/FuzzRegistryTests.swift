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

/// The words in back quotes of a column of the table, row by row.
private func table() throws -> [(target: String, parsers: [String])] {
  try text("docs/internals/fuzzing.md").split(separator: "\n").filter { $0.hasPrefix("| `") }.map { row in
    let cells = row.split(separator: "|", omittingEmptySubsequences: false).map(String.init)
    func quoted(_ cell: String) -> [String] {
      cell.split(separator: "`", omittingEmptySubsequences: false).enumerated().filter { $0.offset % 2 == 1 }
        .map { String($0.element) }
    }
    return (try #require(quoted(cells[1]).first), quoted(cells[3]))
  }
}

@Test("the table of fuzzers names every target, and only targets that there are")
func tableNamesTargets() throws {
  var names: Set<String> = []
  for file in try files(below: "Fuzz/Fuzzers") {
    let pattern = /FuzzTarget\(\s*name: "([a-z-]+)"/
    for match in try String(contentsOf: file, encoding: .utf8).matches(of: pattern) { names.insert(String(match.1)) }
  }
  let rows = try table().map(\.target)
  #expect(Set(rows) == names)
  #expect(rows.count == names.count)
  // Each is in the registry, too: as many variables as names.
  let registry = try text("Fuzz/Fuzzers/FuzzTarget.swift")
  let list = try #require(registry.firstMatch(of: /let fuzzTargets: \[FuzzTarget\] = \[([^\]]*)\]/)).1
  #expect(list.split(separator: ",").filter { !$0.allSatisfy(\.isWhitespace) }.count == names.count)
}

@Test("every file that reads bytes from outside has a fuzzer")
func everyParserHasAFuzzer() throws {
  let named = Set(try table().flatMap(\.parsers))
  // What only passes readers on, or defines them.
  let exempt: Set<String> = ["ByteReader.swift", "ByteWriter+Kafka.swift", "BorrowedBytes.swift"]
  var found: Set<String> = []
  for file in try files(below: "Sources") where file.deletingLastPathComponent().lastPathComponent != "Messages" {
    let source = try String(contentsOf: file, encoding: .utf8)
    guard source.contains(/ByteReader|init\??\(_ buffer: UnsafeRawBufferPointer/) else { continue }
    found.insert(file.lastPathComponent)
  }
  let missing = found.subtracting(named).subtracting(exempt)
  #expect(missing.isEmpty, "add them to a target of Fuzz/Fuzzers and to docs/internals/fuzzing.md: \(missing.sorted())")
  // And the table names only files that there are.
  let all = Set(try files(below: "Sources").map(\.lastPathComponent))
  #expect(named.subtracting(all).subtracting(["Messages/"]).isEmpty)
}
