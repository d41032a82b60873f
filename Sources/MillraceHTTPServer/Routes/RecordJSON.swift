// RecordJSON: records as JSON, in and out.

import MillraceBase
import MillraceModel

enum RecordJSON {
  /// How keys and values are shown.
  enum Format: String, CaseIterable { case text, json, base64 }

  /// A record that is to be appended.
  struct Wish {
    var record: Record
    var partition: Int32?
  }

  private static let headerIn = HTTPSchema.object([
    .required("key", .string), .optional("value", .nullable(.string)),
    .optional("valueBase64", .string, "The value in base 64, instead of `value`."),
  ])
  static let newRecord = HTTPSchema.object([
    .optional("key", .anything, "A string as it is; null for none; other JSON as its text."),
    .optional("keyBase64", .string, "The key in base 64, instead of `key`."),
    .optional("value", .anything, "A string as it is; null for a tombstone; other JSON as its text."),
    .optional("valueBase64", .string, "The value in base 64, instead of `value`."),
    .optional("headers", .array(headerIn)),
    .optional("partition", .integer(0...Int64(Int32.max)), "Chosen by the key, as Kafka's clients do, without it."),
    .optional("timestamp", .count, "Milliseconds since 1970; now without it."),
  ])
  private static let header = HTTPSchema.object([
    .required("key", .string), .optional("value", .nullable(.string)), .optional("valueBase64", .string),
  ])
  static let record = HTTPSchema.object([
    .required("partition", .count), .required("offset", .count), .required("timestamp", .number64),
    .optional("key", .nullable(.string)), .optional("keyBase64", .string),
    .optional("value", .anything, "Text, null, or any JSON with `format=json`."), .optional("valueBase64", .string),
    .required("headers", .array(header)),
  ])

  /// Reads what ``newRecord`` describes.
  static func read(_ value: JSONValue, at pointer: String) throws(HTTPProblem) -> Wish {
    var wish = Wish(record: Record(value: nil), partition: nil)
    wish.record.key = try bytes(value, "key", pointer, takesJSON: true)
    wish.record.value = try bytes(value, "value", pointer, takesJSON: true)
    wish.partition = value["partition"]?.integer.map { Int32(clamping: $0) }
    if let time = value["timestamp"]?.integer { wish.record.timestamp = Timestamp(milliseconds: time) }
    for (index, header) in (value["headers"]?.array ?? []).enumerated() {
      wish.record.headers.append(
        RecordHeader(
          header["key"]?.string ?? "",
          try bytes(header, "value", "\(pointer)/headers/\(index)", takesJSON: false)))
    }
    return wish
  }

  private static func bytes(
    _ value: JSONValue, _ name: String, _ pointer: String, takesJSON: Bool
  ) throws(HTTPProblem) -> Bytes? {
    guard let encoded = value[name + "Base64"] else {
      switch value[name] {
      case nil, .null?: return nil
      case .string(let text)?: return Bytes(text)
      case let other?:
        var json = JSONWriter()
        other.write(to: &json)
        return Bytes(json.bytes)
      }
    }
    guard value[name] == nil else {
      throw HTTPProblem(
        .badRequest, "invalid-value", "\(name) and \(name)Base64 exclude each other", at: "\(pointer)/\(name)Base64")
    }
    guard let bytes = encoded.string.flatMap({ Base64.decode($0) }) else {
      throw HTTPProblem(.badRequest, "invalid-value", "this is no base 64", at: "\(pointer)/\(name)Base64")
    }
    return bytes
  }

  /// Writes a record as an object.
  static func write(_ record: Record, _ partition: Int32, _ format: Format, to json: inout JSONWriter) {
    json.object { json in
      json.name("partition")
      json.number(partition)
      json.name("offset")
      json.number(record.offset)
      json.name("timestamp")
      json.number(record.timestamp.milliseconds)
      write(record.key, "key", format == .base64 ? .base64 : .text, to: &json)
      write(record.value, "value", format, to: &json)
      json.name("headers")
      json.array { json in
        for header in record.headers {
          json.object { json in
            json.name("key")
            json.string(header.key)
            write(header.value, "value", format == .base64 ? .base64 : .text, to: &json)
          }
        }
      }
    }
  }

  private static func write(_ bytes: Bytes?, _ name: String, _ format: Format, to json: inout JSONWriter) {
    guard let bytes else {
      json.name(name)
      return json.null()
    }
    if format == .json {
      let value: JSONValue?
      do throws(DecodingError) {
        value = try bytes.withBuffer { (buffer) throws(DecodingError) in try JSONValue(buffer) }
      } catch {
        value = nil
      }
      if let value {
        json.name(name)
        return value.write(to: &json)
      }
    }
    if format != .base64, let text = bytes.withBuffer({ String(validating: $0, as: UTF8.self) }) {
      json.name(name)
      json.string(text)
    } else {
      json.name(name + "Base64")
      json.string(bytes.withBuffer { Base64.encode($0) })
    }
  }
}

extension JSONValue {
  /// Writes the value.
  func write(to json: inout JSONWriter) {
    switch self {
    case .null: json.null()
    case .bool(let value): json.bool(value)
    case .integer(let value): json.number(value)
    case .number(let value): json.number(value)
    case .string(let value): json.string(value)
    case .array(let values): json.array { json in for value in values { value.write(to: &json) } }
    case .object(let members):
      json.object { json in
        for member in members {
          json.name(member.name)
          member.value.write(to: &json)
        }
      }
    }
  }
}
