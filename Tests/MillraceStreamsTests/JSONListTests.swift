// JSONListTests: arrays as fields of structs: read, written, refused, and beside the tree over random documents.

import MillraceBase
import MillraceDataflow
import MillraceStreams
import Testing

private struct BasketItem: TypedRecord, Equatable {
  var name = ""
  var prices: [Double] = []

  static let schema = RecordSchema<BasketItem>(.field("name", \.name), .field("prices", \.prices, missing: .useDefault))
}

private struct Basket: TypedRecord, Equatable {
  var counts: [Int] = []
  var tags: [String] = ["none"]
  var notes: [String?] = []
  var flags: [Bool]?
  var grid: [[Int16]] = []
  var items: [BasketItem] = []

  static let schema = RecordSchema<Basket>(
    .field("counts", \.counts), .field("tags", \.tags, missing: .useDefault),
    .field("notes", \.notes, missing: .useDefault), .field("flags", \.flags),
    .field("grid", \.grid, missing: .useDefault), .objects("items", \.items, missing: .useDefault))
}

private struct LentTexts: TypedRecord {
  var texts: [BorrowedBytes] = []
  static let schema = RecordSchema<LentTexts>(.field("texts", \.texts))
}

private func read(_ text: String) throws -> Result<Basket?, DecodingError> {
  try RecordDecoder<Basket>(.json).read(text) { $0 }
}

@Suite("lists in records")
struct JSONListTests {
  @Test("every kind of list is read, and written as it was")
  func readsAndWrites() throws {
    let text =
      #"{"counts":[1,-2,3],"tags":["a","é\n"],"notes":[null,"x"],"flags":[true,false],"grid":[[1],[],[2,-3]],"#
      + #""items":[{"name":"pen","prices":[1.5,2.0]},{"name":"ink","prices":[]}]}"#
    let basket = try #require(try read(text).get())
    #expect(
      basket
        == Basket(
          counts: [1, -2, 3], tags: ["a", "é\n"], notes: [nil, "x"], flags: [true, false], grid: [[1], [], [2, -3]],
          items: [BasketItem(name: "pen", prices: [1.5, 2]), BasketItem(name: "ink")]))
    #expect(try RecordEncoder<Basket>(.json).text(of: basket) == text)
  }

  @Test("a list that is missing has its default, an optional one is nil, and an empty one is empty")
  func missing() throws {
    #expect(try read(#"{"counts":[]}"#).get() == Basket())
    #expect(try read(#"{"counts":[ ],"flags":[],"tags":null}"#).get() == Basket(flags: []))
    #expect(
      try RecordEncoder<Basket>(.json).text(of: Basket())
        == #"{"counts":[],"tags":["none"],"notes":[],"flags":null,"grid":[],"items":[]}"#)
    #expect(try read("{}").reason == "the field \"counts\" is missing at byte 0")
  }

  @Test(
    "what is no list, or no list of that, is refused with its place",
    arguments: [
      (#"{"counts":1}"#, #"the field "counts": a list is expected at byte 10"#),
      (#"{"counts":[1,"2"]}"#, #"the field "counts[]": a whole number is expected at byte 13"#),
      (#"{"counts":[1,null]}"#, #"the field "counts[]": a value is expected at byte 13"#),
      (#"{"counts":[1,2.5]}"#, "invalid JSON: a whole number is expected at byte 13"),
      (#"{"counts":[1,]}"#, #"the field "counts[]": a whole number is expected at byte 13"#),
      (#"{"counts":[1 2]}"#, "invalid JSON: a comma or a bracket is expected at byte 13"),
      (#"{"counts":[1"#, "invalid JSON: a comma or a bracket is expected at byte 12"),
      (#"{"counts":[],"grid":[[1],2]}"#, #"the field "grid[]": a list is expected at byte 25"#),
      (
        #"{"counts":[],"grid":[[40000]]}"#,
        #"the field "grid[][]": a whole number within the bounds of int16 is expected at byte 22"#
      ),
      (#"{"counts":[],"items":[{"name":"a"},{}]}"#, #"the field "name" is missing at byte 35"#),
      (#"{"counts":[],"items":[null]}"#, "invalid JSON: an object is expected at byte 22"),
    ])
  func refuses(text: String, reason: String) throws {
    #expect(try read(text).reason == reason)
  }

  @Test("a decoder goes on behind lists that it refused, and lists that were handed out do not change")
  func goesOn() throws {
    let decoder = try RecordDecoder<Basket>(.json)
    var kept: [Basket] = []
    for round in 0..<50 {
      let names = (0..<round).map { #"{"name":"a name that is longer than fifteen bytes \#($0)"}"# }.joined(
        separator: ",")
      #expect(
        !decoder.read(#"{"counts":[],"items":[\#(names)\#(round > 0 ? "," : ""){"name":1}]}"#) { $0 }.reason.isEmpty)
      let result = decoder.read(#"{"counts":[\#(round)],"items":[\#(names)]}"#) { $0 }
      kept.append(try #require(try result.get()))
    }
    for (round, basket) in kept.enumerated() {
      #expect(basket.counts == [round])
      #expect(basket.items == (0..<round).map { BasketItem(name: "a name that is longer than fifteen bytes \($0)") })
    }
  }

  @Test("lists of any length are read, also such as take more room than a reader begins with")
  func longLists() throws {
    let numbers = (0..<5000).map { "\($0)" }.joined(separator: ",")
    let names = (0..<3000).map { #"{"name":"\#($0)","prices":[\#($0)]}"# }.joined(separator: ",")
    let basket = try #require(try read(#"{"counts":[\#(numbers)],"items":[\#(names)]}"#).get())
    #expect(basket.counts == Array(0..<5000))
    #expect(basket.items == (0..<3000).map { BasketItem(name: "\($0)", prices: [Double($0)]) })
  }

  @Test("texts are lent in lists, with and without escapes")
  func lends() throws {
    let decoder = try RecordDecoder<LentTexts>(.json)
    let texts = decoder.read(#"{"texts":["plain","a\tb","\u00e9"]}"#) { $0.texts.map(\.text) }
    #expect(try texts.get() == ["plain", "a\tb", "é"])
  }

  @Test("lists count for the depth of values")
  func depth() throws {
    struct Deep: TypedRecord {
      var list: [[[Int]]] = []
      static let schema = RecordSchema<Deep>(.field("list", \.list))
    }
    let decoder = try RecordDecoder<Deep>(.json)
    #expect(try decoder.read(#"{"list":[[[1]]]}"#) { $0.list }.get() == [[[1]]])
    let deep = String(repeating: "[", count: 70)
    #expect(decoder.read(#"{"list":[[[\#(deep)"#) { $0.list }.reason.contains("a whole number is expected"))
    #expect(decoder.read(#"{"unknown":\#(deep)"#) { $0.list }.reason.contains("nested deeper"))
  }

  @Test("CSV has no lists")
  func noCells() throws {
    let error = #expect(throws: JobError.self) { _ = try RecordDecoder<BasketItem>(.csv) }
    #expect(error?.reason == #"the field "prices" is a list, which CSV does not have"#)
    #expect(throws: JobError.self) { _ = try RecordEncoder<BasketItem>(.csv) }
  }

  @Test("agrees with the tree on random lists, whole and damaged", arguments: 1...6 as ClosedRange<UInt64>)
  func oracleTree(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    let decoder = try RecordDecoder<Basket>(.json)
    var (taken, refused) = (0, 0)
    for _ in 0..<800 {
      var bytes = Array(document(&random).utf8)
      if random.oneIn(2), !bytes.isEmpty {
        let at = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[at] = Array("[]{},:\"1n ".utf8).randomElement(using: &random) ?? 0
        case 1: bytes.remove(at: at)
        default: bytes.insert(Array("[]{},:\"1n ".utf8).randomElement(using: &random) ?? 0, at: at)
        }
      }
      let tree: JSONValue
      do throws(DecodingError) {
        tree = try Bytes(bytes).withBuffer { text throws(DecodingError) in try JSONValue(text) }
      } catch {
        if error.reason.contains("twice") || error.reason.contains("too large") { continue }
        #expect(!decoder.read(bytes) { $0 }.reason.isEmpty, "\(String(decoding: bytes, as: UTF8.self))")
        refused += 1
        continue
      }
      let result = decoder.read(bytes) { $0 }
      let seen: Basket? = if case .success(let basket) = result { basket } else { nil }
      #expect(seen == model(tree), "\(String(decoding: bytes, as: UTF8.self)): \(result.reason)")
      if seen != nil { taken += 1 } else { refused += 1 }
    }
    #expect(taken > 100 && refused > 100, "\(taken) taken, \(refused) refused")
  }

  private func document(_ random: inout SeededRandom) -> String {
    func list(_ random: inout SeededRandom, _ element: (inout SeededRandom) -> String) -> String {
      let count = Int.random(in: 0..<4, using: &random)
      var elements: [String] = []
      for _ in 0..<count {
        elements.append(
          random.oneIn(30) ? ["null", "true", "{}", "[]"].randomElement(using: &random) ?? "" : element(&random))
      }
      return "[" + elements.joined(separator: random.oneIn(4) ? " , " : ",") + "]"
    }
    func number(_ random: inout SeededRandom) -> String { "\(Int.random(in: -50...40_000, using: &random))" }
    func text(_ random: inout SeededRandom) -> String {
      ["\"\"", "\"a\"", "\"\\u00e9,]\"", "\"longer than fifteen bytes\""][Int.random(in: 0..<4, using: &random)]
    }
    var members = [
      "\"counts\":" + list(&random, number), "\"tags\":" + list(&random, text), "\"notes\":" + list(&random, text),
      "\"flags\":" + list(&random) { $0.oneIn(2) ? "true" : "false" },
      "\"grid\":" + list(&random) { list(&$0) { "\(Int.random(in: -40...40, using: &$0))" } },
      "\"items\":" + list(&random) { "{\"name\":\(text(&$0)),\"prices\":\(list(&$0) { _ in "1.5" })}" },
      "\"other\":[[],{}]",
    ]
    members.shuffle(using: &random)
    if random.oneIn(2) { members.removeLast() }
    return "{" + members.joined(separator: ",") + "}"
  }

  /// What the schema makes of a tree; nil when it refuses it.
  private func model(_ tree: JSONValue) -> Basket? {
    func list<Element>(_ value: JSONValue?, _ element: (JSONValue) -> Element?) -> [Element]? {
      guard case .array(let values) = value else { return nil }
      let elements = values.map(element)
      return elements.contains { $0 == nil } ? nil : elements.compactMap { $0 }
    }
    func member(_ name: String, of value: JSONValue) -> JSONValue? { value[name] == .null ? nil : value[name] }
    guard case .object = tree, let counts = list(member("counts", of: tree), { $0.integer.map { Int($0) } }) else {
      return nil
    }
    var basket = Basket(counts: counts)
    if let value = member("tags", of: tree) {
      guard let tags = list(value, \.string) else { return nil }
      basket.tags = tags
    }
    if let value = member("notes", of: tree) {
      guard let notes = list(value, { $0 == .null ? .some(nil) : $0.string.map { .some($0) } }) as [String?]? else {
        return nil
      }
      basket.notes = notes
    }
    if let value = member("flags", of: tree) {
      guard let flags = list(value, { if case .bool(let flag) = $0 { flag } else { nil } }) else { return nil }
      basket.flags = flags
    }
    if let value = member("grid", of: tree) {
      guard let grid = list(value, { list($0) { $0.integer.flatMap { Int16(exactly: $0) } } }) else { return nil }
      basket.grid = grid
    }
    if let value = member("items", of: tree) {
      let items = list(value) { value -> BasketItem? in
        guard case .object = value, let name = member("name", of: value)?.string else { return nil }
        guard let prices = member("prices", of: value) else { return BasketItem(name: name) }
        return list(prices, \.double).map { BasketItem(name: name, prices: $0) }
      }
      guard let items else { return nil }
      basket.items = items
    }
    return basket
  }
}

@Suite("decoding with an answer to errors")
struct DecodeErrorTests {
  private func run(_ policy: ErrorPolicy) throws -> TestDriver {
    let driver = TestDriver(
      DataStream.topic("in").decode(Row.self, from: .json, onError: policy).to(topic: "out", as: .json)
        .job(named: "decode"))
    try driver.send("in", key: "a", value: #"{"number":1,"text":"one"}"#, at: 1)
    try driver.send("in", key: "b", value: #"{"number":2,"text":two}"#, at: 2)
    try driver.send("in", key: "c", value: #"{"number":3,"text":"three"}"#, at: 3)
    return driver
  }

  @Test("a record that is refused is left out and counted, or goes to a topic with what was wrong, or ends the job")
  func policies() throws {
    let rest = [#"{"number":1,"text":"one","note":null}"#, #"{"number":3,"text":"three","note":null}"#]
    let skipping = try run(.skip)
    try skipping.run()
    #expect(try skipping.output("out").map { $0.value?.text } == rest)
    #expect(skipping.figures.failedRecords == 1)

    let lettering = try run(.deadLetter(topic: "bad"))
    lettering.next(.lost)
    #expect(throws: JobError.self) { try lettering.run() }
    try lettering.run()
    #expect(try lettering.output("out").map { $0.value?.text } == rest)
    let letters = try lettering.output("bad")
    #expect(letters.map { $0.key?.text } == ["b"])
    let headers = Dictionary(letters[0].headers.map { ($0.key, $0.value?.text ?? "") }) { $1 }
    #expect(headers[DeadLetter.error] == #"the field "text": a string is expected at byte 19"#)
    #expect(headers[DeadLetter.topic] == "in")
    #expect(headers[DeadLetter.offset] == "1")

    let failing = try run(.fail)
    let error = #expect(throws: JobError.self) { try failing.run() }
    #expect(error?.code == .functionFailed)
    #expect(error?.reason.contains("in-0 at offset 1") == true)
    #expect(try failing.output("out").isEmpty)
  }
}
