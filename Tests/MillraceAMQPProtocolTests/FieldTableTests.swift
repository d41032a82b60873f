// FieldTableTests: values of every type, order, nesting, lengths that lie, and look-ups.

import MillraceAMQPProtocol
import MillraceBase
import Testing

private func refused(_ content: [UInt8]) -> DecodingError? {
  do throws(DecodingError) {
    _ = try AMQPFieldTable(encoded: Bytes(content))
    return nil
  } catch {
    return error
  }
}

private let everyType: [(String, AMQPValue)] = [
  ("t", true), ("b", .int8(-128)), ("B", .uint8(255)), ("s", .int16(-32768)), ("u", .uint16(65535)),
  ("I", .int32(.min)), ("i", .uint32(.max)), ("l", .int64(.min)), ("f", .float(0.5)), ("d", .double(-0.25)),
  ("D", .decimal(scale: 255, value: -1)), ("S", .string("größe")), ("x", .binary(Bytes([0, 255]))),
  ("A", .array(AMQPFieldArray([.void, 1, "x", ["k": [:]]]))), ("T", .timestamp(.max)), ("F", ["a": ["b": .void]]),
  ("V", .void),
]

@Test("each type has RabbitMQ's letter and is read as it was written, in order")
func everyTypeRoundTrip() throws {
  for (letter, value) in everyType {
    let table = AMQPFieldTable([("k", value)])
    #expect(table.encoded[2] == letter.utf8.first)
    #expect(try AMQPFieldTable(encoded: table.encoded)["k"] == value, "\(letter)")
  }
  let all = try AMQPFieldTable(encoded: AMQPFieldTable(everyType).encoded)
  #expect(all.map { $0.key.text } == everyType.map(\.0))
  #expect(all.map(\.value) == everyType.map(\.1))
}

@Test("letters follow RabbitMQ's errata: s is a 16-bit number, l and L are signed, U is none")
func letters() throws {
  let short = try AMQPFieldTable(encoded: Bytes([1, 97, 115, 0xFF, 0xFE]))
  #expect(short["a"] == .int16(-2))
  let minusOne = [UInt8](repeating: 0xFF, count: 8)
  #expect(try AMQPFieldTable(encoded: Bytes([1, 97, 76] + minusOne))["a"] == .int64(-1))
  #expect(try AMQPFieldTable(encoded: Bytes([1, 97, 108] + minusOne))["a"] == .int64(-1))
  #expect(refused([1, 97, 85, 0, 1])?.reason == "unknown type 85 of a field's value")
  // Only these letters are known.
  let known = Set(everyType.compactMap { $0.0.utf8.first } + [76])
  for letter in UInt8.min...UInt8.max where !known.contains(letter) {
    #expect(refused([1, 97, letter] + [UInt8](repeating: 0, count: 16))?.position == 2)
  }
}

@Test("a table of every type cut at every byte is refused or ends between two entries")
func everyTableCut() throws {
  let encoded = AMQPFieldTable(everyType).encoded
  var ends: Set<Int> = [0]
  var at = 0
  for entry in everyType {
    at += AMQPFieldTable([entry]).encoded.count
    ends.insert(at)
  }
  for cut in 0...encoded.count {
    let error = refused(encoded[0..<cut].array)
    #expect((error == nil) == ends.contains(cut), "cut at \(cut)")
    if let error { #expect(error.position <= cut) }
  }
}

@Test("a length that goes beyond its table is refused, at every level, whatever it says")
func overlongLengths() {
  for letter in "SxAF".utf8 {
    for length in [5, 255, 1 << 16, Int(UInt32.max)] {
      let bytes = withUnsafeBytes(of: UInt32(length).bigEndian) { Array($0) }
      #expect(refused([1, 97, letter] + bytes + [0, 0, 0, 0]) != nil, "\(letter) \(length)")
      // Inside a table whose own length is right.
      let inner: [UInt8] = [1, 98, letter] + bytes
      #expect(refused([1, 97, 70, 0, 0, 0, UInt8(inner.count)] + inner) != nil, "\(letter) \(length)")
    }
  }
  // An inner value may not reach into what follows its table, though the bytes are there.
  let reaching: [UInt8] = [1, 97, 70, 0, 0, 0, 7, 1, 98, 83, 0, 0, 0, 2, 1, 99, 86]
  #expect(refused(reaching)?.reason == "a value ends 2 bytes behind its table or array")
}

@Test("tables and arrays nest 64 deep and no deeper")
func nesting() throws {
  func nested(_ depth: Int, arrays: Bool) -> AMQPFieldTable {
    var value: AMQPValue = arrays ? .array(AMQPFieldArray([])) : [:]
    for _ in 2..<depth { value = arrays ? .array(AMQPFieldArray([value])) : .table(AMQPFieldTable([("k", value)])) }
    return AMQPFieldTable([("k", value)])
  }
  #expect(AMQPFieldTable.deepest == 64)
  for arrays in [false, true] {
    #expect(refused(nested(64, arrays: arrays).encoded.array) == nil)
    let error = try #require(refused(nested(65, arrays: arrays).encoded.array))
    #expect(error.reason == "tables and arrays nest deeper than 64")
    // Far too deep costs no stack.
    #expect(refused(nested(5_000, arrays: arrays).encoded.array) == error)
  }
}

@Test("the first of several values with a key is found; numbers of any width are whole numbers")
func lookups() throws {
  let table = AMQPFieldTable([("a", 1), ("b", "x"), ("a", 2), ("", .void)])
  #expect(table["a"] == 1 && table["b"]?.text == "x" && table[""] == .void && table["c"] == nil)
  #expect(table["a"]?.text == nil && table["b"]?.integer == nil && table["a"]?.bool == nil)
  let whole: [AMQPValue] = [.int8(7), .uint8(7), .int16(7), .uint16(7), .int32(7), .uint32(7), .int64(7)]
  for value in whole { #expect(value.integer == 7) }
  for value: AMQPValue in [.timestamp(7), .double(7), true, "7", .void] { #expect(value.integer == nil) }
  #expect(AMQPValue.string(Bytes([0xC3, 0x28])).text == nil)
  #expect((1_099_511_627_776 as AMQPValue) == .int64(1 << 40) && (5 as AMQPValue) == .int32(5))
  #expect("\(table)" == "{a: 1, b: x, a: 2, : void}")
}

@Test("setting a value keeps the others' bytes and its place; nil takes it away")
func setting() throws {
  // The letter L would be written as l: it stays, because the entry is not touched.
  let received = try AMQPFieldTable(encoded: Bytes([1, 97, 86, 1, 98, 76, 0, 0, 0, 0, 0, 0, 0, 9, 1, 97, 86]))
  #expect(received.setting("a", to: true).encoded.array == [1, 97, 116, 1, 1, 98, 76, 0, 0, 0, 0, 0, 0, 0, 9])
  #expect(received.setting("a", to: nil).encoded.array == [1, 98, 76, 0, 0, 0, 0, 0, 0, 0, 9])
  #expect(received.setting("c", to: 3).map { $0.key.text } == ["a", "b", "a", "c"])
  #expect(AMQPFieldTable().setting("c", to: 3) == ["c": 3])
  #expect(AMQPFieldTable().setting("c", to: nil).isEmpty)
}

@Test("values share the memory that they were received in")
func sharedValues() throws {
  let content = AMQPFieldTable([("k", .string("abc"))]).encoded
  let table = try AMQPFieldTable(encoded: content)
  guard case .string(let text)? = table["k"] else {
    Issue.record("no string")
    return
  }
  #expect(text.start == content.start + 7)
}

@Test("a short string has at most 255 bytes; equality and hash are those of its bytes")
func shortStrings() throws {
  #expect(ShortString(String(repeating: "x", count: 255))?.count == 255)
  #expect(ShortString(String(repeating: "x", count: 256)) == nil)
  #expect(ShortString(Bytes([UInt8](repeating: 1, count: 256))) == nil)
  let made = try #require(ShortString(String("orders")))
  #expect(made == "orders" as ShortString && made.hashValue == ("orders" as ShortString).hashValue)
  #expect(made == String("orders") && !(made == String("order")) && made.copied == made)
  #expect(made.copied.bytes.start != made.bytes.start)
  #expect(("" as ShortString).isEmpty && ShortString().isEmpty && "\(made)" == "orders")
  #expect(Set([made, "orders", "x"]).count == 2)
}
