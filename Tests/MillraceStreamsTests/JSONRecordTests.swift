// JSONRecordTests: objects read in place, by rules that can be looked up, and written.

import MillraceBase
import MillraceDataflow
import Testing

@testable import MillraceStreams

struct Strict: TypedRecord {
  var a: Int64 = 0
  static let schema = RecordSchema<Strict>(unknownFields: .refuse, .field("a", \.a))
}

struct WholeNumbers: TypedRecord {
  var i8: Int8 = 0
  var i16: Int16 = 0
  var i32: Int32 = 0
  var i64: Int64 = 0
  var u8: UInt8 = 0
  var u16: UInt16 = 0
  var u32: UInt32 = 0
  var u64: UInt64 = 0
  var time = Timestamp.none
  var odd: UInt16?
  static let schema = RecordSchema<WholeNumbers>(
    .field("i8", \.i8, missing: .useDefault), .field("i16", \.i16, missing: .useDefault),
    .field("i32", \.i32, missing: .useDefault), .field("i64", \.i64, missing: .useDefault),
    .field("u8", \.u8, missing: .useDefault), .field("u16", \.u16, missing: .useDefault),
    .field("u32", \.u32, missing: .useDefault), .field("u64", \.u64, missing: .useDefault),
    .field("time", \.time, missing: .useDefault), .field("odd", \.odd))
}

enum Color: String { case red, green }

struct Painted: TypedRecord {
  var color = Color.red
  var bytes = Bytes()
  var q = 0
  static let schema = RecordSchema<Painted>(
    .text("color", \.color, read: { Color(rawValue: $0.text) }, write: { $0.rawValue }),
    .field("bytes", \.bytes, missing: .useDefault), .field("a\"ä\n", \.q, missing: .useDefault))
}

struct JSONRecordTests {
  @Test("fields are read in any order, with spaces, escapes and members that nobody asked for")
  func reads() throws {
    let decoder = try RecordDecoder<Reading>(.json)
    let text = """
       { "unknown" : [ {"id": 1}, "]}", -1.5e-7 , null,true,false,{} ],"name":"caf\\u00e9 \\ud83d\\ude00 \\"\\\\\\/\\b\\f\\n\\r\\t",
        "ratio":-0.125,"isOn": true ,"raw":"plain", "i\\u0064":-42, "count": 3,"place":{"x": 5}, "note":"ü" }
      """
    let seen = try decoder.read(text, \.summary).get()
    #expect(seen == "-42 7 -0.125 true café 😀 \"\\/\u{8}\u{c}\n\r\t ü 3 plain 5 none")
    let escaped = decoder.read(#"{"id":1,"ratio":2,"isOn":false,"name":"","raw":"a\u0000b\nc"}"#) { $0.raw.copy.array }
    #expect(try escaped.get() == [97, 0, 98, 10, 99])
  }

  @Test("a missing field refuses the record, keeps its default or is nil, as declared; null is the same")
  func missing() throws {
    let decoder = try RecordDecoder<Reading>(.json)
    // What an earlier record brought is not there any more.
    let full =
      #"{"id":9,"level":8,"ratio":2,"isOn":true,"name":"n","note":"o","count":4,"raw":"r","place":{"x":1,"label":"l"}}"#
    #expect(try decoder.read(full, \.summary).get() == "9 8 2.0 true n o 4 r 1 l")
    let short = #"{"id":1,"ratio":2,"isOn":false,"name":"n"}"#
    #expect(try decoder.read(short, \.summary).get() == "1 7 2.0 false n nil nil  0 none")
    let nulls = #"{"id":1,"level":null,"ratio":2,"isOn":false,"name":"n","note":null,"place":null,"raw":null}"#
    #expect(try decoder.read(nulls, \.summary).get() == "1 7 2.0 false n nil nil  0 none")
    #expect(
      decoder.read(#" {"id":null,"ratio":2,"isOn":false,"name":"n"}"#, \.id).reason
        == #"the field "id" is missing at byte 0"#)
    #expect(
      decoder.read(#"{"id":1,"ratio":2,"isOn":false,"name":"n","place":{}}"#, \.id).reason
        == #"the field "x" is missing at byte 50"#)
  }

  @Test("of a name that comes twice the last value counts, null and whole records included")
  func duplicates() throws {
    let decoder = try RecordDecoder<Reading>(.json)
    let head = #"{"ratio":2,"isOn":false,"name":"n","#
    #expect(try decoder.read(head + #""id":1,"id":2}"#, \.id).get() == 2)
    #expect(try decoder.read(head + #""id":1,"level":3,"level":null}"#, \.level).get() == 7)
    #expect(decoder.read(head + #""id":1,"id":null}"#, \.id).reason.contains("is missing"))
    #expect(
      try decoder.read(head + #""id":1,"place":{"x":1,"label":"a"},"place":{"x":2}}"#, \.place).get()
        == Place(x: 2, label: "none"))
  }

  @Test("a field that the schema does not name is passed over or refuses the record, as declared")
  func unknown() throws {
    let decoder = try RecordDecoder<Strict>(.json)
    #expect(try decoder.read(#"{"a":1}"#, \.a).get() == 1)
    #expect(decoder.read(#"{"a":1,"b":2}"#, \.a).reason == #"the field "b" is unknown at byte 7"#)
    #expect(decoder.read(#"{"a":1,"aa":2}"#, \.a).reason == #"the field "aa" is unknown at byte 7"#)
    #expect(decoder.read(#"{"a":1,"":2}"#, \.a).reason == #"the field "" is unknown at byte 7"#)
  }

  @Test("numbers are refused beyond the bounds of their field, and only there")
  func bounds() throws {
    let decoder = try RecordDecoder<WholeNumbers>(.json)
    func value<Number: FixedWidthInteger>(_ name: String, _ text: String, _ path: KeyPath<WholeNumbers, Number>)
      -> Number?
    {
      guard case .success(let found) = decoder.read("{\"\(name)\":\(text)}", { $0[keyPath: path] }) else { return nil }
      return found
    }
    func check<Number: FixedWidthInteger>(_ name: String, _ path: KeyPath<WholeNumbers, Number>) {
      #expect(value(name, "\(Number.max)", path) == .max)
      #expect(value(name, "\(Number.min)", path) == .min)
      #expect(value(name, "-0", path) == 0)
      // One more in the last digit, and one digit more.
      let above = "\(Number.max)".dropLast() + "\(Number.max % 10 + 1)"
      #expect(value(name, String(above), path) == nil)
      #expect(value(name, "\(Number.max)0", path) == nil)
      let below = Number.isSigned ? "\(Number.min)".dropLast() + "\(0 - Number.min % 10 + 1)" : "-1"
      #expect(value(name, String(below), path) == nil)
      for text in ["1.0", "1e2", "01", "-", "+1", "--1", "1x", "\"1\"", "true", "", "[1]", "00", "-00"] {
        #expect(value(name, text, path) == nil, "\(name) \(text)")
      }
    }
    check("i8", \.i8)
    check("i16", \.i16)
    check("i32", \.i32)
    check("i64", \.i64)
    check("u8", \.u8)
    check("u16", \.u16)
    check("u32", \.u32)
    check("u64", \.u64)
    #expect(value("odd", "65535", \.odd!) == 65535)
    #expect(try decoder.read(#"{"time":1700000000123}"#, \.time).get() == Timestamp(milliseconds: 1_700_000_000_123))
    let long = "{\"i64\":" + String(repeating: "9", count: 400) + "}"
    #expect(decoder.read(long, \.i64).reason.contains("64 bits"))
  }

  @Test("numbers with fractions are the nearest there are, however they are written")
  func doubles() throws {
    let decoder = try RecordDecoder<Reading>(.json)
    var random = SeededRandom(seed: 7)
    func read(_ text: String) -> Double? {
      guard case .success(let value) = decoder.read("{\"id\":1,\"isOn\":true,\"name\":\"\",\"ratio\":\(text)}", \.ratio)
      else { return nil }
      return value
    }
    for text in [
      "0", "-0.0", "1e22", "1e23", "9007199254740993", "0.1", "123456789012345678", "1E-7", "5e-324", "1e+300",
    ] {
      #expect(read(text)?.bitPattern == Double(text)?.bitPattern, "\(text)")
    }
    for _ in 0..<3000 {
      let whole = random.next() >> UInt64.random(in: 0..<64, using: &random)
      let fraction = random.next() >> UInt64.random(in: 0..<64, using: &random)
      let text = random.oneIn(2) ? "\(whole).\(fraction)" : "\(Double(bitPattern: random.next()))"
      guard let right = Double(text), right.isFinite else { continue }
      #expect(read(text)?.bitPattern == right.bitPattern, "\(text)")
    }
    for text in ["1e400", "-1e400", "1.", ".5", "1e", "1e+", "01.5", "NaN", "1.5.5"] { #expect(read(text) == nil) }
  }

  @Test("values are nested 64 deep and no deeper, as in a tree")
  func depth() throws {
    let decoder = try RecordDecoder<Strict>(.json)
    let lenient = try RecordDecoder<Place>(.json)
    for depth in 60..<68 {
      for (open, close) in [("[", "]"), (#"{"k":"#, "}")] {
        let inner = open == "[" ? "" : "1"
        let value = String(repeating: open, count: depth) + inner + String(repeating: close, count: depth)
        let text = #"{"x":1,"other":"# + value + "}"
        var isTree = true
        do throws(DecodingError) { _ = try JSONValue(text) } catch { isTree = false }
        #expect(lenient.read(text, \.x).reason.isEmpty == isTree, "\(depth) of \(open)")
        #expect(decoder.read(text, \.a).reason.contains("unknown"))
      }
    }
  }

  @Test("text that is no JSON is refused, with the place")
  func malformed() throws {
    let decoder = try RecordDecoder<Place>(.json)
    let cases: [(String, Int)] = [
      ("", 0), ("  ", 2), ("[]", 0), ("{", 1), ("{\"x\":1", 6), ("{\"x\":1}}", 7), ("{\"x\" 1}", 5), ("{x:1}", 1),
      ("{\"x\":1,}", 7), ("{\"x\":1 \"y\":2}", 7), ("{\"x\":nul}", 5), ("{\"x\":\"1\"}", 5),
      ("{\"x\":1,\"label\":\"a\nb\"}", 17),
      ("{\"x\":1,\"label\":\"a", 17), ("{\"x\":1,\"label\":\"\\", 17), ("{\"x\":1,\"label\":\"\\x\"}", 16),
      ("{\"x\":1,\"label\":\"\\ud800\"}", 16), ("{\"x\":1,\"label\":\"\\udc00\"}", 16),
      ("{\"x\":1,\"label\":\"\\ud800\\u0041\"}", 16),
      ("{\"x\":1,\"o\":\"\\u12g4\"}", 14), ("{\"x\":1,\"o\":[1,2}", 15), ("{\"x\":1,\"o\":tru}", 11),
    ]
    for (text, position) in cases {
      guard case .failure(let error) = decoder.read(text, \.x) else {
        Issue.record("\(text) was taken")
        continue
      }
      #expect(error.position == position, "\(text): \(error)")
    }
    for bytes: [UInt8] in [
      [0x80], [0xc3], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82],
    ] {
      for field in ["label", "other"] {
        let text = Array("{\"x\":1,\"\(field)\":\"0123456789".utf8) + bytes + Array("\"}".utf8)
        #expect(decoder.read(text, \.x).reason.contains("not valid UTF-8"))
      }
    }
  }

  @Test("what is valid UTF-8 is what the standard library says")
  func utf8() {
    func agrees(_ bytes: [UInt8]) -> Bool {
      bytes.withUnsafeBytes(UTF8Check.isValid) == (String(validating: bytes, as: UTF8.self) != nil)
    }
    for first in UInt8.min...UInt8.max {
      for second in UInt8.min...UInt8.max { #expect(agrees([first, second])) }
    }
    var random = SeededRandom(seed: 3)
    let edges: [UInt8] = [
      0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5,
    ]
    for _ in 0..<20_000 {
      #expect(
        agrees((0..<Int.random(in: 1...6, using: &random)).map { _ in edges[Int.random(in: 0..<16, using: &random)] }))
    }
  }

  @Test("a record is written in the order of its schema, and read again as it was")
  func writes() throws {
    let encoder = try RecordEncoder<Reading>(.json)
    let decoder = try RecordDecoder<Reading>(.json)
    var record = Reading()
    #expect(
      encoder.text(of: record)
        == #"{"id":0,"level":7,"ratio":1.5,"isOn":false,"name":"","note":null,"count":null,"raw":"","place":{"x":0,"label":"none"}}"#
    )
    (record.id, record.level, record.ratio, record.isOn) = (.min, -1, 1e300, true)
    (record.name, record.note, record.count) = ("\"\\\n\u{1}\u{7f} ü😀", "n", .max)
    record.place = Place(x: 10, label: "l")
    #expect(try decoder.read(encoder.text(of: record), \.summary).get() == record.summary)
    record.ratio = .infinity
    #expect(encoder.text(of: record).contains(#""ratio":null"#))
    [0x61, 0xff, 0x22].withUnsafeBytes { bytes in
      record.raw = BorrowedBytes(UnsafeRawBufferPointer(rebasing: bytes.prefix(0)))
    }
    let broken: [UInt8] = [0x61, 0xff, 0x22]
    broken.withUnsafeBytes { bytes in
      record.raw = BorrowedBytes(bytes)
      #expect(encoder.text(of: record).contains(#""raw":"a\#u{fffd}\"""#))
    }
    let numbers = try RecordEncoder<WholeNumbers>(.json)
    var limits = WholeNumbers()
    (limits.i8, limits.i16, limits.i32, limits.i64) = (.min, .min, .min, .min)
    (limits.u8, limits.u16, limits.u32, limits.u64, limits.odd) = (.max, .max, .max, .max, 10)
    #expect(
      numbers.text(of: limits)
        == "{\"i8\":-128,\"i16\":-32768,\"i32\":-2147483648,\"i64\":\(Int64.min),\"u8\":255,\"u16\":65535,\"u32\":4294967295,\"u64\":\(UInt64.max),\"time\":-1,\"odd\":10}"
    )
  }

  @Test("whole numbers of every length are written with all their digits")
  func digits() throws {
    let encoder = try RecordEncoder<Strict>(.json)
    var power: Int64 = 1
    while true {
      for value in [power - 1, power, -power, power + 1] {
        #expect(encoder.text(of: Strict(a: value)) == "{\"a\":\(value)}")
      }
      let (next, overflow) = power.multipliedReportingOverflow(by: 10)
      if overflow { break }
      power = next
    }
  }

  @Test("types of the user's stand as text; names may need escapes")
  func text() throws {
    let decoder = try RecordDecoder<Painted>(.json)
    let encoder = try RecordEncoder<Painted>(.json)
    #expect(try decoder.read(#"{"color":"green","a\"ä\n":3}"#) { "\($0.color) \($0.q)" }.get() == "green 3")
    #expect(try decoder.read(#"{"color":"green","a\u0022ä\u000a":4}"#, \.q).get() == 4)
    #expect(
      decoder.read(#"{"color":"blue"}"#, \.color).reason == #"the field "color": another text is expected at byte 9"#)
    #expect(
      encoder.text(of: Painted(color: .green, bytes: Bytes("x"), q: 1)) == #"{"color":"green","bytes":"x","a\"ä\n":1}"#)
  }
}
