// InvariantTests: every invariant of ARCHITECTURE.md has a row of tests in docs/internals/testing.md, and they exist.

import Foundation
import Testing

private let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent()

private func text(_ path: String) throws -> String {
  try String(contentsOf: root.appending(path: path), encoding: .utf8)
}

/// The lines of a page's section.
private func section(_ title: String, of page: String) -> [Substring] {
  Array(
    page.split(separator: "\n").drop { $0 != "## \(title)" }.dropFirst().prefix { !$0.hasPrefix("## ") })
}

/// Every test file's contents by its name without extension.
private func testFiles() throws -> [String: String] {
  var files: [String: String] = [:]
  let folder = root.appending(path: "Tests")
  for case let url as URL in FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil) ?? .init()
  where url.pathExtension == "swift" {
    files[url.deletingPathExtension().lastPathComponent] = try String(contentsOf: url, encoding: .utf8)
  }
  return files
}

@Test("every invariant names tests that exist")
func invariantsHaveTests() throws {
  let numbers = section("Invariants", of: try text("ARCHITECTURE.md")).compactMap { line in
    line.firstIndex(of: ".").flatMap { Int(line[..<$0]) }
  }
  #expect(numbers == Array(1...numbers.count) && numbers.count >= 7)
  let rows = section("Invariants and their tests", of: try text("docs/internals/testing.md"))
    .map { $0.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) } }
    .filter { $0.count == 3 && Int($0[0]) != nil }
  #expect(rows.map { Int($0[0]) } == numbers)
  let files = try testFiles()
  for row in rows {
    // `File`: "name", "name"; `File`: "name" …
    for part in row[1].split(separator: "; `") {
      let words = part.split(separator: "`", maxSplits: 1)
      try #require(words.count == 2, "\(part)")
      let file = String(words[0])
      if file.hasSuffix(".py") { continue }
      let contents = try #require(files[file], "\(file) is no test file")
      let names = words[1].split(separator: "\"").enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
      #expect(!names.isEmpty, "\(file)")
      for name in names {
        #expect(contents.contains("@Test(\"\(name)\"") || contents.contains("\"\(name)\""), "\(name)")
      }
    }
  }
}
