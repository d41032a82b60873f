// JSONOracleTests: the reader in place beside the tree, over random documents and damaged ones.

import MillraceBase
import MillraceDataflow
import MillraceStreams
import Testing

struct JSONOracleTests {
  /// Writes random JSON.
  private struct Writer {
    var random: SeededRandom
    var text = ""

    mutating func space() { for _ in 0..<(random.oneIn(8) ? 2 : 0) { text += [" ", "\n", "\t", "\r"][number(4)] } }

    mutating func number(_ limit: Int) -> Int { Int.random(in: 0..<limit, using: &random) }

    mutating func string() {
      text += "\""
      for _ in 0..<number(random.oneIn(6) ? 40 : 12) {
        text +=
          ["a", "b c", "ü", "😀", "€", "\\n", "\\\"", "\\\\", "\\u00e9", "\\ud83d\\ude00", "{", "]", ",", "0123456789"][
            number(14)]
      }
      text += "\""
    }

    mutating func value(_ depth: Int) {
      space()
      switch number(depth > 3 ? 6 : 8) {
      case 0: string()
      case 1: text += "\(Int64(bitPattern: random.next()) >> Int64(number(64)))"
      case 2: text += ["1.5", "-0.25e3", "1E-2", "12345678901234567890", "0", "-0"][number(6)]
      case 3: text += ["true", "false"][number(2)]
      case 4: text += "null"
      case 5: text += "\(number(300))"
      case 6:
        text += "["
        let count = number(4)
        for index in 0..<count {
          if index > 0 { text += "," }
          value(depth + 1)
        }
        space()
        text += "]"
      default: object(depth + 1, ["x", "label", "q", "id"])
      }
      space()
    }

    mutating func object(_ depth: Int, _ names: [String]) {
      text += "{"
      var left = names.shuffled(using: &random)
      if random.oneIn(2) { left = names }
      var isFirst = true
      while let name = left.popLast() {
        if random.oneIn(5) { continue }
        if !isFirst { text += "," }
        isFirst = false
        space()
        text += "\"\(name)\""
        space()
        text += ":"
        // Mostly what the field takes.
        switch random.oneIn(12) ? "" : name {
        case "id", "count", "x": text += "\(Int64(bitPattern: random.next()) >> Int64(number(64)))"
        case "level": text += "\(number(40_000) - 1000)"
        case "ratio": text += ["1.5", "2", "-1e-5", "0.1", "123456.789"][number(5)]
        case "isOn": text += ["true", "false"][number(2)]
        case "name", "note", "raw", "label": string()
        case "place": object(depth + 1, ["x", "label", "extra"])
        default: value(depth)
        }
      }
      space()
      text += "}"
    }
  }

  /// What the schema makes of a tree; nil when it refuses it.
  private func model(_ tree: JSONValue) -> String? {
    func member(_ name: String, of value: JSONValue) -> JSONValue? { value[name] == .null ? nil : value[name] }
    guard case .object = tree else { return nil }
    guard let id = member("id", of: tree)?.integer, let ratio = member("ratio", of: tree)?.double,
      case .bool(let isOn) = member("isOn", of: tree), let name = member("name", of: tree)?.string
    else { return nil }
    var (level, note, count, raw, place): (Int64, String?, Int64?, String, Place) = (7, nil, nil, "", Place())
    if let value = member("level", of: tree) {
      guard let number = value.integer, Int16(exactly: number) != nil else { return nil }
      level = number
    }
    if let value = member("note", of: tree) {
      guard let text = value.string else { return nil }
      note = text
    }
    if let value = member("count", of: tree) {
      guard let number = value.integer else { return nil }
      count = number
    }
    if let value = member("raw", of: tree) {
      guard let text = value.string else { return nil }
      raw = text
    }
    if let value = member("place", of: tree) {
      guard case .object = value, let x = member("x", of: value)?.integer else { return nil }
      place.x = x
      if let label = member("label", of: value) {
        guard let text = label.string else { return nil }
        place.label = text
      }
    }
    return
      "\(id) \(level) \(ratio) \(isOn) \(name) \(note ?? "nil") \(count.map { "\($0)" } ?? "nil") \(raw) \(place.x) \(place.label)"
  }

  @Test("agrees with the tree on random documents, whole and damaged", arguments: 1...8 as ClosedRange<UInt64>)
  func agreesWithTheTree(seed: UInt64) throws {
    let decoder = try RecordDecoder<Reading>(.json)
    var (taken, refused) = (0, 0)
    var writer = Writer(random: SeededRandom(seed: seed))
    for _ in 0..<600 {
      writer.text = ""
      writer.space()
      writer.object(0, ["id", "level", "ratio", "isOn", "name", "note", "count", "raw", "place", "more", "x"])
      writer.space()
      var bytes = Array(writer.text.utf8)
      if writer.random.oneIn(2) { damage(&bytes, &writer.random) }
      let tree: JSONValue
      do throws(DecodingError) {
        tree = try bytes.withUnsafeBytes { Bytes(copying: $0) }.withBuffer { text throws(DecodingError) in
          try JSONValue(text)
        }
      } catch {
        // The tree refuses a name that comes twice, and numbers that nobody wants and that are too large.
        let isStricter = error.reason.contains("twice") || error.reason.contains("too large")
        guard !isStricter else { continue }
        let result = decoder.read(bytes, \.summary)
        #expect(!result.reason.isEmpty, "\(String(decoding: bytes, as: UTF8.self)), refused by the tree: \(error)")
        refused += 1
        continue
      }
      let result = decoder.read(bytes, \.summary)
      let seen: String? = if case .success(let summary) = result { summary } else { nil }
      #expect(seen == model(tree), "\(String(decoding: bytes, as: UTF8.self)): \(result.reason)")
      if seen != nil { taken += 1 } else { refused += 1 }
    }
    #expect(taken > 20 && refused > 100, "\(taken) taken, \(refused) refused")
  }

  private func damage(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
    for _ in 0...Int.random(in: 0...1, using: &random) where !bytes.isEmpty {
      let at = Int.random(in: 0..<bytes.count, using: &random)
      switch Int.random(in: 0..<4, using: &random) {
      case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
      case 1: bytes.remove(at: at)
      case 2: bytes.insert(Array("{}[],:\"\\0 e.-n".utf8).randomElement(using: &random) ?? 0, at: at)
      default: bytes.removeSubrange(at...)
      }
    }
  }
}
