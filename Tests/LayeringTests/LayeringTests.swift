// The house rules, held by a test: imports point downwards and only along declared arrows.

import Foundation
import Testing

/// What stands on which floor. A target may import targets on floors below its own, as far as Package.swift declares them.
private let floors: [String: Int] = [
  "CMillraceSystem": 1, "CZstd": 1, "CLZ4": 1, "CSnappy": 1, "CZlib": 1, "CPCRE2": 1, "COpenSSL": 1,
  "MillraceBase": 2, "MillracePattern": 2,
  "MillraceModel": 3, "MillraceCompression": 3, "MillraceIO": 3, "MillraceSecurity": 3,
  "MillraceQueueing": 3,
  "MillraceKafkaProtocol": 4, "MillraceAMQPProtocol": 4, "MillraceLog": 4, "MillraceDataflow": 4, "MillraceQueue": 4,
  "MillraceDelivery": 4, "MillraceHTTPProtocol": 4,
  "MillraceRouting": 4,
  "MillraceMetadata": 5, "MillraceStreams": 5, "MillraceNexmark": 5,
  "MillraceNexmarkQueries": 6,
  "MillraceBroker": 6,
  "MillraceKafkaServer": 7, "MillraceAMQPServer": 7, "MillraceConnectors": 7, "MillraceHTTPServer": 7,
  "Millrace": 8,
  "MillraceServer": 9,
  "millrace": 10,
  "MillraceSimulation": 4,
]

/// Targets that only tests, the simulator and fuzzers may import.
private let testOnly: Set<String> = ["MillraceSimulation"]

/// Modules of the toolchain that product code may import.
private let toolchain: Set<String> = ["Synchronization", "Glibc", "FoundationEssentials", "Dispatch"]

private let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent()

private struct Import: CustomStringConvertible {
  let target: String
  let file: String
  let module: String
  var description: String { "\(file) imports \(module)" }
}

/// The modules a Swift source names in import declarations.
private func imports(in source: String) -> [String] {
  source.split(separator: "\n").compactMap { line in
    var words = line.split(separator: " ").map(String.init)
    while let first = words.first, first.hasPrefix("@") || ["public", "internal", "package", "private"].contains(first)
    {
      words.removeFirst()
    }
    guard words.first == "import", words.count >= 2 else { return nil }
    // `import struct A.B` names the module before the dot.
    let kinds: Set<String> = ["struct", "class", "enum", "protocol", "func", "let", "var", "typealias"]
    let name = kinds.contains(words[1]) && words.count > 2 ? words[2] : words[1]
    return String(name.split(separator: ".")[0])
  }
}

private func sourceImports() throws -> [Import] {
  var found: [Import] = []
  let sources = root.appending(path: "Sources")
  for target in try FileManager.default.contentsOfDirectory(atPath: sources.path) {
    let folder = sources.appending(path: target)
    let files = FileManager.default.enumerator(atPath: folder.path)
    while let file = files?.nextObject() as? String {
      guard file.hasSuffix(".swift") else { continue }
      let text = try String(contentsOf: folder.appending(path: file), encoding: .utf8)
      // Programs that a program writes are no part of it: every other piece between three quotes is text.
      let code = text.split(separator: #/"""/#, omittingEmptySubsequences: false).enumerated()
        .filter { $0.offset % 2 == 0 }.map(\.element).joined(separator: "\n")
      found += imports(in: code).map { Import(target: target, file: "\(target)/\(file)", module: $0) }
    }
  }
  return found
}

/// What Package.swift declares for each target, read from its text.
private func declaredDependencies() throws -> [String: Set<String>] {
  let manifest = try String(contentsOf: root.appending(path: "Package.swift"), encoding: .utf8)
  var declared: [String: Set<String>] = [:]
  let pattern = #/(?:library|program)\(\s*"(\w+)",(?:\s*path: "[^"]*",)?\s*\[([^\]]*)\]/#
  for match in manifest.matches(of: pattern) {
    let names = match.2.matches(of: #/"(\w+)"/#).map { String($0.1) }
    declared[String(match.1)] = Set(names)
  }
  return declared
}

@Test("every target that the sources hold has a floor, and a declaration in Package.swift")
func everyTargetHasAFloor() throws {
  let declared = try declaredDependencies()
  for target in try FileManager.default.contentsOfDirectory(atPath: root.appending(path: "Sources").path) {
    #expect(floors[target] != nil, "\(target) has no floor")
    if !target.hasPrefix("C") { #expect(declared[target] != nil, "\(target) is not declared") }
  }
}

@Test("an import points to a declared target on a lower floor")
func importsPointDownwards() throws {
  let declared = try declaredDependencies()
  let all = try sourceImports()
  #expect(all.count > 10, "the scan found only \(all.count) imports, so it is broken")
  for one in all {
    if toolchain.contains(one.module) { continue }
    guard let floor = floors[one.module], let own = floors[one.target] else {
      Issue.record("\(one): unknown module")
      continue
    }
    #expect(floor < own, "\(one): it stands on floor \(floor), the target on \(own)")
    #expect(declared[one.target]?.contains(one.module) == true, "\(one): not declared in Package.swift")
    if one.target != "MillraceSimulation" {
      #expect(!testOnly.contains(one.module), "\(one): only tests may")
    }
  }
}

@Test("a declared dependency points to a lower floor")
func declarationsPointDownwards() throws {
  for (target, dependencies) in try declaredDependencies() {
    for dependency in dependencies {
      let own = try #require(floors[target], "\(target) has no floor")
      let other = try #require(floors[dependency], "\(dependency) has no floor")
      #expect(other < own, "\(target) (floor \(own)) declares \(dependency) (floor \(other))")
    }
  }
}

@Test("the scanner reads every form of import")
func scannerReadsImports() {
  let source = """
    import A
    @testable import B
    public import struct C.D
    // import E
    let text = "import F"
    """
  #expect(imports(in: source) == ["A", "B", "C"])
}
