// JSONTests: writing and reading JSON, and base 64.

import Foundation
import MillraceBase
import Testing

@Test("objects, arrays and values are written with their commas and escapes")
func writesJSON() {
  var json = JSONWriter()
  json.object { json in
    json.name("a\"b")
    json.array { json in
      json.number(-1)
      json.number(0.5)
      json.number(Double.nan)
      json.array { _ in }
      json.object { _ in }
    }
    json.name("text")
    json.string("\u{0}\u{1f}\"\\\n\r\t\u{7f}ü😀")
    json.name("b")
    json.bool(true)
    json.name("n")
    json.null()
  }
  #expect(
    json.text
      == #"{"a\"b":[-1,0.5,null,[],{}],"text":"\u0000\u001f\"\\\n\r\t\u007fü😀","b":true,"n":null}"#)
}

@Test("what is written is read back, by this reader and by another one")
func agreesWithFoundation() throws {
  for scalar in (0..<0x300).compactMap({ Unicode.Scalar($0) }) + ["\u{2028}", "\u{ffff}", "\u{1f600}"] {
    var json = JSONWriter()
    let text = "a\(scalar)b"
    json.array { $0.string(text) }
    #expect(try JSONValue(json.text).array?.first?.string == text)
    let other = try JSONSerialization.jsonObject(with: Data(json.bytes)) as? [String]
    #expect(other == [text])
  }
}

@Test("every kind of value is read")
func readsJSON() throws {
  let value = try JSONValue(
    " {\"a\" : [1, -0, 1.5, 1e3, 9223372036854775808, true, false, null, \"\\u00fc\\ud83d\\ude00\\/\"] ,\"b\":{}} \n")
  #expect(
    value["a"]?.array == [
      .integer(1), .integer(0), .number(1.5), .number(1000), .number(9.223372036854775808e18), .bool(true),
      .bool(false), .null, .string("ü😀/"),
    ])
  #expect(value["b"] == .object([]))
  #expect(value["c"] == nil)
}

@Test(
  "what is no JSON is refused",
  arguments: [
    "", " ", "{", "[", "[1,]", "[1 2]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{\"a\":1,\"a\":2}", "01", "-",
    "1.",
    "1e", ".5", "+1", "1e999", "nul", "nullx", "\"", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"",
    "\"\\ud800\\u0041\"",
    "\"\\udc00\"", "\"\u{1}\"", "\"\n\"", "[] []", "'a'", "NaN",
  ])
func refusesOtherText(_ text: String) {
  #expect(throws: DecodingError.self) { try JSONValue(text) }
}

@Test("bytes that are not UTF-8 are refused inside a string")
func refusesInvalidUTF8() {
  #expect(throws: DecodingError.self) { try Bytes([0x22, 0xff, 0x22]).withBuffer { try JSONValue($0) } }
}

@Test("nesting is read up to 64 and refused beyond")
func boundsDepth() throws {
  func nested(_ depth: Int) -> String {
    String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
  }
  _ = try JSONValue(nested(64))
  #expect(throws: DecodingError.self) { try JSONValue(nested(65)) }
  #expect(throws: DecodingError.self) { try JSONValue(String(repeating: "[", count: 1_000_000)) }
}

@Test("base 64 agrees with another implementation at every length, and refuses what is none")
func agreesOnBase64() {
  for length in 0..<50 {
    let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 97 &+ length) }
    let text = Data(bytes).base64EncodedString()
    #expect(Bytes(bytes).withBuffer { Base64.encode($0) } == text)
    #expect(Base64.decode(text)?.array == bytes)
  }
  for wrong in ["a", "ab", "abc", "a===", "====", "ab=c", "a-b=", "ab c"] {
    #expect(Base64.decode(wrong) == nil, "\(wrong)")
  }
}
