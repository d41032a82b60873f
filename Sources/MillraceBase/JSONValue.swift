// JSONValue: a JSON text as a value, read strictly (RFC 8259) and with a bound on its depth.

/// A JSON value. For small documents: every part of it is a value of its own.
public enum JSONValue: Equatable, Sendable {
  case null
  case bool(Bool)
  /// A whole number that fits into 64 bits.
  case integer(Int64)
  /// Any other number.
  case number(Double)
  case string(String)
  case array([JSONValue])
  /// Members in the order of the text; names are unique.
  case object([Member])

  /// A member of an object.
  public struct Member: Equatable, Sendable {
    /// Name.
    public let name: String
    /// Value.
    public let value: JSONValue

    /// A member.
    public init(_ name: String, _ value: JSONValue) {
      self.name = name
      self.value = value
    }
  }

  /// Deepest nesting that is read.
  public static let greatestDepth = 64

  /// Reads a whole text.
  /// - Throws: when it is not valid JSON, not valid UTF-8, nested deeper than 64, names a member twice, or goes on
  ///   behind its value.
  public init(_ text: UnsafeRawBufferPointer) throws(DecodingError) {
    var parser = JSONParser(text: text)
    self = try parser.document()
  }

  /// Reads a whole text.
  public init(_ text: String) throws(DecodingError) {
    self = try Bytes(text).withBuffer { buffer throws(DecodingError) in try JSONValue(buffer) }
  }

  /// The member of an object with this name; nil when there is none or this is no object.
  public subscript(name: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.name == name }?.value
  }

  /// The text of a string.
  public var string: String? {
    if case .string(let value) = self { value } else { nil }
  }

  /// A whole number.
  public var integer: Int64? {
    if case .integer(let value) = self { value } else { nil }
  }

  /// Any number.
  public var double: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }

  /// The values of an array.
  public var array: [JSONValue]? {
    if case .array(let values) = self { values } else { nil }
  }
}

private struct JSONParser {
  let text: UnsafeRawBufferPointer
  var at = 0

  mutating func document() throws(DecodingError) -> JSONValue {
    let value = try value(depth: 0)
    skipSpace()
    guard at == text.count else { throw error("something follows the value") }
    return value
  }

  private func error(_ reason: String) -> DecodingError { DecodingError("invalid JSON: \(reason)", at: at) }

  private mutating func skipSpace() {
    while at < text.count, [0x20, 0x09, 0x0a, 0x0d].contains(text[at]) { at += 1 }
  }

  /// The next byte that is no space, not taken.
  private mutating func peek() throws(DecodingError) -> UInt8 {
    skipSpace()
    guard at < text.count else { throw error("the text ends too early") }
    return text[at]
  }

  private mutating func take(_ word: StaticString) throws(DecodingError) {
    let end = at + word.utf8CodeUnitCount
    let matches = word.withUTF8Buffer { end <= text.count && text[at..<end].elementsEqual($0) }
    guard matches else { throw error("unknown word") }
    at = end
  }

  private mutating func value(depth: Int) throws(DecodingError) -> JSONValue {
    guard depth < JSONValue.greatestDepth else { throw error("nested deeper than \(JSONValue.greatestDepth)") }
    switch try peek() {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"):
      try take("true")
      return .bool(true)
    case UInt8(ascii: "f"):
      try take("false")
      return .bool(false)
    case UInt8(ascii: "n"):
      try take("null")
      return .null
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
    default: throw error("no value can start with this")
    }
  }

  private mutating func object(depth: Int) throws(DecodingError) -> JSONValue {
    at += 1
    var members: [JSONValue.Member] = []
    var names: Set<String> = []
    if try peek() == UInt8(ascii: "}") {
      at += 1
      return .object([])
    }
    while true {
      guard try peek() == UInt8(ascii: "\"") else { throw error("a name in quotes is expected") }
      let name = try string()
      guard names.insert(name).inserted else { throw error("the name \"\(name)\" stands there twice") }
      guard try peek() == UInt8(ascii: ":") else { throw error("a colon is expected") }
      at += 1
      members.append(JSONValue.Member(name, try value(depth: depth + 1)))
      if try endOfList(UInt8(ascii: "}")) { return .object(members) }
    }
  }

  private mutating func array(depth: Int) throws(DecodingError) -> JSONValue {
    at += 1
    var values: [JSONValue] = []
    if try peek() == UInt8(ascii: "]") {
      at += 1
      return .array([])
    }
    while true {
      values.append(try value(depth: depth + 1))
      if try endOfList(UInt8(ascii: "]")) { return .array(values) }
    }
  }

  /// Passes over a comma (false) or the closing bracket (true).
  private mutating func endOfList(_ bracket: UInt8) throws(DecodingError) -> Bool {
    let byte = try peek()
    guard byte == bracket || byte == UInt8(ascii: ",") else { throw error("a comma or a bracket is expected") }
    at += 1
    return byte == bracket
  }

  private mutating func digits() throws(DecodingError) {
    let start = at
    while at < text.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(text[at]) { at += 1 }
    guard at > start else { throw error("a digit is expected") }
  }

  private mutating func number() throws(DecodingError) -> JSONValue {
    let start = at
    var isWhole = true
    if text[at] == UInt8(ascii: "-") { at += 1 }
    let first = at
    try digits()
    guard text[first] != UInt8(ascii: "0") || at == first + 1 else { throw error("a number begins with 0") }
    if at < text.count, text[at] == UInt8(ascii: ".") {
      isWhole = false
      at += 1
      try digits()
    }
    if at < text.count, text[at] | 0x20 == UInt8(ascii: "e") {
      isWhole = false
      at += 1
      if at < text.count, text[at] == UInt8(ascii: "+") || text[at] == UInt8(ascii: "-") { at += 1 }
      try digits()
    }
    let digits = String(decoding: text[start..<at], as: UTF8.self)
    if isWhole, let integer = Int64(digits) { return .integer(integer) }
    guard let number = Double(digits), number.isFinite else { throw error("the number \(digits) is too large") }
    return .number(number)
  }

  private mutating func string() throws(DecodingError) -> String {
    at += 1
    var bytes: [UInt8] = []
    while at < text.count {
      let byte = text[at]
      switch byte {
      case UInt8(ascii: "\""):
        at += 1
        guard let value = String(validating: bytes, as: UTF8.self) else { throw error("a string is not valid UTF-8") }
        return value
      case UInt8(ascii: "\\"): bytes.append(contentsOf: String(Character(try JSONEscapes.read(text, at: &at))).utf8)
      case 0..<0x20: throw error("a control character inside a string")
      default:
        bytes.append(byte)
        at += 1
      }
    }
    throw error("a string without its end")
  }
}
