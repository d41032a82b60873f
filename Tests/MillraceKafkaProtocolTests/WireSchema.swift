// WireSchema: a second, interpreting reading of Scripts/kafka-messages.txt that encodes random values straight to bytes.
//
// It shares no code with the generated messages, so that what they read and write can be compared with it.

import Foundation
import MillraceBase

/// Versions from `low` to `high`.
private struct VersionRange {
  var low = 1
  var high = 0
  init() {}
  init(_ text: Substring) {
    let ends = text.split(separator: "-")
    guard text != "none", let first = Int(ends[0].filter(\.isNumber)) else { return }
    low = first
    high = text.hasSuffix("+") ? Int.max : ends.count > 1 ? Int(ends[1]) ?? first : first
  }
  func contains(_ version: Int) -> Bool { low <= version && version <= high }
}

private final class WireField {
  let type: String
  var versions = VersionRange()
  var null = VersionRange()
  var tag: UInt64?
  var fields: [WireField] = []

  init(_ words: [Substring]) {
    type = String(words[1])
    for word in words.dropFirst(2) {
      if word.hasPrefix("v"), word.dropFirst().first?.isNumber == true { versions = VersionRange(word.dropFirst()) }
      if word.hasPrefix("null:") { null = VersionRange(word.dropFirst(5)) }
      if word.hasPrefix("tag:") { tag = UInt64(word.dropFirst(4).prefix { $0.isNumber }) }
    }
  }
}

/// One message's layout in all its versions.
struct WireSchema {
  let name: String
  let versions: ClosedRange<Int>
  private let flexible: VersionRange
  private let fields: [WireField]
  /// The structures that several fields hold, by name.
  private let shared: [String: [WireField]]

  /// All messages of the schema file.
  static func all() throws -> [WireSchema] {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let text = try String(contentsOf: root.appending(path: "Scripts/kafka-messages.txt"), encoding: .utf8)
    return text.split(separator: "\n\n").compactMap { block in
      let lines = block.split(separator: "\n").filter { !$0.hasPrefix("#") }
      return lines.isEmpty ? nil : WireSchema(lines)
    }
  }

  private init(_ lines: [Substring]) {
    let head = lines[0].split(separator: " ")
    name = String(head[0])
    let valid = VersionRange(head[2].dropFirst("valid=".count))
    versions = valid.low...valid.high
    flexible = VersionRange(head[3].dropFirst("flexible=".count))
    var top: [WireField] = []
    var open: [WireField] = []
    var shared: [String: WireField] = [:]
    for line in lines.dropFirst() {
      let depth = line.prefix { $0 == " " }.count / 2
      let words = line.split(separator: " ")
      let field = WireField(words)
      open.removeLast(open.count - (depth - 1))
      if words[0] == "struct" {
        shared[field.type] = field
      } else if let parent = open.last {
        parent.fields.append(field)
      } else {
        top.append(field)
      }
      open.append(field)
    }
    fields = top
    self.shared = shared.mapValues(\.fields)
  }

  /// A random message; no number is 0, so that a field that gets lost is missed.
  func sample(version: Int, using random: inout SeededRandom) -> [UInt8] {
    structure(fields, version, &random)
  }

  private func structure(_ fields: [WireField], _ version: Int, _ random: inout SeededRandom) -> [UInt8] {
    let compact = flexible.contains(version)
    var out: [UInt8] = []
    var tagged: [(tag: UInt64, value: [UInt8])] = []
    for field in fields where field.versions.contains(version) {
      if let tag = field.tag {
        if random.oneIn(3) { continue }
        tagged.append((tag, value(field, field.type, version, nullable: false, &random)))
      } else {
        out += value(field, field.type, version, nullable: field.null.contains(version), &random)
      }
    }
    if compact {
      out += unsigned(UInt64(tagged.count))
      for (tag, value) in tagged.sorted(by: { $0.tag < $1.tag }) {
        out += unsigned(tag) + unsigned(UInt64(value.count)) + value
      }
    }
    return out
  }

  private func value(
    _ field: WireField, _ type: String, _ version: Int, nullable: Bool, _ random: inout SeededRandom
  ) -> [UInt8] {
    let compact = flexible.contains(version)
    func length(_ count: Int?, bytes: Int) -> [UInt8] {
      compact ? unsigned(UInt64((count ?? -1) + 1)) : bigEndian(count ?? -1, bytes)
    }
    func number(_ bytes: Int) -> [UInt8] {
      // A boolean's byte must be 1 to come back as it was; others only must not be 0.
      (0..<bytes).map { _ in UInt8.random(in: 1...255, using: &random) }
    }
    if type.hasPrefix("[]") {
      if nullable, random.oneIn(4) { return length(nil, bytes: 4) }
      let count = Int.random(in: 1...3, using: &random)
      return (0..<count).reduce(length(count, bytes: 4)) { bytes, _ in
        bytes + value(field, String(type.dropFirst(2)), version, nullable: false, &random)
      }
    }
    switch type {
    case "bool": return [1]
    case "int8": return number(1)
    case "int16": return number(2)
    case "int32": return number(4)
    case "int64", "float64": return number(8)
    case "uuid": return number(16)
    case "string", "bytes", "records":
      let lengthBytes = type == "string" ? 2 : 4
      // A gathered field does not tell null from empty.
      let isGathered = name.hasSuffix("FetchResponse") && type == "records"
      if nullable, !isGathered, random.oneIn(4) { return length(nil, bytes: lengthBytes) }
      let count = random.oneIn(20) ? 9000 : Int.random(in: 1...20, using: &random)
      return length(count, bytes: lengthBytes) + (0..<count).map { _ in UInt8.random(in: 97...122, using: &random) }
    default:
      let fields = field.fields.isEmpty ? shared[type] ?? [] : field.fields
      // Arrays hold no null structures.
      if nullable, random.oneIn(4) { return [0xff] }
      return (nullable ? [1] : []) + structure(fields, version, &random)
    }
  }

  private func bigEndian(_ value: Int, _ bytes: Int) -> [UInt8] {
    (0..<bytes).reversed().map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }

  private func unsigned(_ value: UInt64) -> [UInt8] {
    value < 0x80 ? [UInt8(value)] : [UInt8(value & 0x7f) | 0x80] + unsigned(value >> 7)
  }
}
