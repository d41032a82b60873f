// HTTPSchema: what JSON must look like: one description for checking requests, for OpenAPI and for the reference.

import MillraceBase
import MillraceHTTPProtocol

/// A shape of JSON. The members of an object are all that it may have.
public indirect enum HTTPSchema: Sendable {
  /// Text of any length.
  case string
  /// Text of so many bytes of UTF-8 at least and at most.
  case text(ClosedRange<Int>)
  /// A whole number.
  case integer(ClosedRange<Int64>)
  /// A number.
  case number
  /// True or false.
  case boolean
  /// One of these words.
  case words([String])
  /// A list.
  case array(HTTPSchema)
  /// A list of so many at most.
  case list(HTTPSchema, ClosedRange<Int>)
  /// Members by name.
  case object([HTTPMember])
  /// Members of any name, all of this shape.
  case map(HTTPSchema)
  /// An object with these members, if they are there, and any others.
  case open([HTTPMember])
  /// This, or null.
  case nullable(HTTPSchema)
  /// Anything.
  case anything

  /// A whole number from 0.
  public static let count = HTTPSchema.integer(0...Int64.max)
  /// A number in 64 bits.
  public static let number64 = HTTPSchema.integer(Int64.min...Int64.max)
  /// A name of a topic, a queue, an exchange or their like.
  public static let name = HTTPSchema.text(1...255)
}

/// A member of an object.
public struct HTTPMember: Sendable {
  /// Name.
  public let name: String
  /// Shape.
  public let schema: HTTPSchema
  /// It must be there.
  public let isRequired: Bool
  /// What it means; empty where the name says it.
  public let text: String

  /// A member that must be there.
  public static func required(_ name: String, _ schema: HTTPSchema, _ text: String = "") -> HTTPMember {
    HTTPMember(name: name, schema: schema, isRequired: true, text: text)
  }

  /// A member that may be left out.
  public static func optional(_ name: String, _ schema: HTTPSchema, _ text: String = "") -> HTTPMember {
    HTTPMember(name: name, schema: schema, isRequired: false, text: text)
  }
}

extension HTTPSchema {
  /// Checks a value of a request.
  /// - Parameter pointer: where the value stands, as a JSON pointer (RFC 6901).
  /// - Throws: 400 that names the place and what was expected there.
  public func check(_ value: JSONValue, at pointer: String = "") throws(HTTPProblem) {
    func wrong(_ expected: String) -> HTTPProblem {
      HTTPProblem(
        .badRequest, "invalid-value", "\(expected) is expected, not \(HTTPSchema.word(value))",
        at: pointer.isEmpty ? "/" : pointer)
    }
    switch self {
    case .anything: return
    case .nullable(let schema): if value != .null { try schema.check(value, at: pointer) }
    case .string: guard value.string != nil else { throw wrong("a string") }
    case .text(let range):
      guard let text = value.string else { throw wrong("a string") }
      guard range.contains(text.utf8.count) else {
        throw wrong("a string of \(range.lowerBound) to \(range.upperBound) bytes")
      }
      guard text.utf8.allSatisfy({ $0 >= 32 && $0 != 127 }) else { throw wrong("a string without control characters") }
    case .integer(let range):
      guard let number = value.integer, range.contains(number) else { throw wrong(HTTPSchema.word(range)) }
    case .number: guard value.double != nil else { throw wrong("a number") }
    case .boolean: guard case .bool = value else { throw wrong("true or false") }
    case .words(let words):
      guard let word = value.string, words.contains(word) else {
        throw wrong("one of \(words.joined(separator: ", "))")
      }
    case .array(let schema): try HTTPSchema.checkAll(value, schema, 0...Int.max, pointer, wrong)
    case .list(let schema, let range): try HTTPSchema.checkAll(value, schema, range, pointer, wrong)
    case .map(let schema):
      guard case .object(let members) = value else { throw wrong("an object") }
      for member in members { try schema.check(member.value, at: HTTPSchema.pointer(pointer, member.name)) }
    case .object(let known), .open(let known):
      guard case .object(let members) = value else { throw wrong("an object") }
      for member in members {
        let place = HTTPSchema.pointer(pointer, member.name)
        guard let schema = known.first(where: { $0.name == member.name })?.schema else {
          if case .open = self { continue }
          let names = known.map(\.name).joined(separator: ", ")
          throw HTTPProblem(
            .badRequest, "unknown-member", "there is no member \"\(member.name)\" here, only \(names)", at: place)
        }
        try schema.check(member.value, at: place)
      }
      for one in known where one.isRequired && !members.contains(where: { $0.name == one.name }) {
        throw HTTPProblem(
          .badRequest, "missing-member", "the member \"\(one.name)\" is missing",
          at: HTTPSchema.pointer(pointer, one.name))
      }
    }
  }

  private static func checkAll(
    _ value: JSONValue, _ schema: HTTPSchema, _ range: ClosedRange<Int>, _ pointer: String,
    _ wrong: (String) -> HTTPProblem
  ) throws(HTTPProblem) {
    guard let values = value.array else { throw wrong("an array") }
    guard range.contains(values.count) else {
      throw HTTPProblem(
        .badRequest, "invalid-value",
        "\(range.lowerBound) to \(range.upperBound) values are expected here, not \(values.count)",
        at: pointer.isEmpty ? "/" : pointer)
    }
    for (index, one) in values.enumerated() { try schema.check(one, at: "\(pointer)/\(index)") }
  }

  private static func pointer(_ pointer: String, _ name: String) -> String {
    var escaped = ""
    for character in name {
      switch character {
      case "~": escaped += "~0"
      case "/": escaped += "~1"
      default: escaped.append(character)
      }
    }
    return "\(pointer)/\(escaped)"
  }

  static func word(_ range: ClosedRange<Int64>) -> String {
    range.upperBound == .max
      ? range.lowerBound == .min ? "a whole number" : "a whole number from \(range.lowerBound)"
      : "a whole number from \(range.lowerBound) to \(range.upperBound)"
  }

  private static func word(_ value: JSONValue) -> String {
    switch value {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .integer(let value): "\(value)"
    case .number(let value): "\(value)"
    case .string(let value): value.utf8.count <= 64 ? "\"\(value)\"" : "a string of \(value.utf8.count) bytes"
    case .array(let values): "an array of \(values.count)"
    case .object: "an object"
    }
  }

  /// Reads a word of a query or a path as this shape.
  /// - Throws: 400.
  func read(_ text: String, at place: String) throws(HTTPProblem) -> JSONValue {
    func problem(_ expected: String) -> HTTPProblem {
      HTTPProblem(.badRequest, "invalid-value", "\(expected) is expected, not \"\(text.prefix(64))\"", at: place)
    }
    switch self {
    case .integer(let range):
      // Int64 would take a plus sign as well.
      guard let number = Int64(text), !text.hasPrefix("+"), range.contains(number) else {
        throw problem(HTTPSchema.word(range))
      }
      return .integer(number)
    case .boolean:
      guard text == "true" || text == "false" else { throw problem("true or false") }
      return .bool(text == "true")
    default:
      let value = JSONValue.string(text)
      do throws(HTTPProblem) {
        try check(value)
      } catch {
        var error = error
        error.place = place
        throw error
      }
      return value
    }
  }
}

extension HTTPSchema {
  /// Writes the shape as OpenAPI 3.1 (JSON Schema 2020-12) has it.
  func write(to json: inout JSONWriter, text: String = "") {
    json.object { json in
      switch self {
      case .anything: break
      case .string: HTTPSchema.type("string", to: &json)
      case .text(let range):
        HTTPSchema.type("string", to: &json)
        json.name("minLength")
        json.number(range.lowerBound)
        json.name("maxLength")
        json.number(range.upperBound)
      case .integer(let range):
        HTTPSchema.type("integer", to: &json)
        json.name("minimum")
        json.number(range.lowerBound)
        json.name("maximum")
        json.number(range.upperBound)
      case .number: HTTPSchema.type("number", to: &json)
      case .boolean: HTTPSchema.type("boolean", to: &json)
      case .words(let words):
        HTTPSchema.type("string", to: &json)
        json.name("enum")
        json.array { json in for word in words { json.string(word) } }
      case .array(let schema):
        HTTPSchema.type("array", to: &json)
        json.name("items")
        schema.write(to: &json)
      case .list(let schema, let range):
        HTTPSchema.type("array", to: &json)
        json.name("items")
        schema.write(to: &json)
        json.name("minItems")
        json.number(range.lowerBound)
        json.name("maxItems")
        json.number(range.upperBound)
      case .map(let schema):
        HTTPSchema.type("object", to: &json)
        json.name("additionalProperties")
        schema.write(to: &json)
      case .object(let members): HTTPSchema.write(members, isOpen: false, to: &json)
      case .open(let members): HTTPSchema.write(members, isOpen: true, to: &json)
      case .nullable(let schema):
        json.name("anyOf")
        json.array { json in
          schema.write(to: &json)
          json.object { json in HTTPSchema.type("null", to: &json) }
        }
      }
      if !text.isEmpty {
        json.name("description")
        json.string(text)
      }
    }
  }

  private static func type(_ type: String, to json: inout JSONWriter) {
    json.name("type")
    json.string(type)
  }

  private static func write(_ members: [HTTPMember], isOpen: Bool, to json: inout JSONWriter) {
    type("object", to: &json)
    json.name("properties")
    json.object { json in
      for member in members {
        json.name(member.name)
        member.schema.write(to: &json, text: member.text)
      }
    }
    let required = members.filter(\.isRequired)
    if !required.isEmpty {
      json.name("required")
      json.array { json in for member in required { json.string(member.name) } }
    }
    json.name("additionalProperties")
    json.bool(isOpen)
  }

  /// The shape in a few words, for people.
  var words: String {
    switch self {
    case .anything: "any JSON"
    case .string: "string"
    case .text(let range): "string of \(range.lowerBound) to \(range.upperBound) bytes"
    case .integer(let range): range == Int64.min...Int64.max ? "integer" : HTTPSchema.word(range)
    case .number: "number"
    case .boolean: "boolean"
    case .words(let words): words.map { "`\($0)`" }.joined(separator: " or ")
    case .array(let schema), .list(let schema, _): "array of \(schema.words)"
    case .object(let members):
      "{" + members.map { "\($0.name)\($0.isRequired ? "" : "?"): \($0.schema.words)" }.joined(separator: ", ") + "}"
    case .open(let members):
      "{" + (members.map { "\($0.name)?: \($0.schema.words)" } + ["…"]).joined(separator: ", ") + "}"
    case .map(let schema): "{NAME: \(schema.words)}"
    case .nullable(let schema): "\(schema.words) or null"
    }
  }
}
