// RoutingJSON: arguments of queues, exchanges and bindings, and headers of messages, between JSON and the broker's values.

import MillraceAMQPProtocol
import MillraceBase
import MillraceRouting

extension RoutingValue {
  /// The value that JSON stands for.
  init(_ json: JSONValue) {
    switch json {
    case .null: self = .null
    case .bool(let value): self = .bool(value)
    case .integer(let value): self = .int64(value)
    case .number(let value): self = .double(value)
    case .string(let value): self = .string(value)
    case .array(let values): self = .array(values.map { RoutingValue($0) })
    case .object: self = .table(RoutingTable(json))
    }
  }

  /// Writes the value; text that is not UTF-8 has what is not replaced.
  func write(to json: inout JSONWriter) {
    switch self {
    case .null: json.null()
    case .bool(let value): json.bool(value)
    case .int64(let value), .timestamp(let value): json.number(value)
    case .double(let value): json.number(value)
    case .string(let bytes): json.string(bytes.text)
    case .array(let values): json.array { json in for value in values { value.write(to: &json) } }
    case .table(let table): table.write(to: &json)
    }
  }
}

extension RoutingTable {
  /// The table that an object of JSON stands for; empty for anything else.
  init(_ json: JSONValue?) {
    guard case .object(let members)? = json else {
      self = .empty
      return
    }
    self.init(members.map { Field($0.name, RoutingValue($0.value)) })
  }

  /// Writes an object; of fields of one name the first.
  func write(to json: inout JSONWriter) {
    var last: String?
    json.object { json in
      for field in fields where field.name != last {
        last = field.name
        json.name(field.name)
        field.value.write(to: &json)
      }
    }
  }
}

extension AMQPValue {
  /// The value that JSON stands for.
  init(_ json: JSONValue) {
    switch json {
    case .null: self = .void
    case .bool(let value): self = .bool(value)
    case .integer(let value): self = Int32(exactly: value).map { .int32($0) } ?? .int64(value)
    case .number(let value): self = .double(value)
    case .string(let value): self = .string(value)
    case .array(let values): self = .array(AMQPFieldArray(values.map { AMQPValue($0) }))
    case .object(let members): self = .table(AMQPFieldTable(members.map { ($0.name, AMQPValue($0.value)) }))
    }
  }

  /// Writes the value; bytes that are not UTF-8 as an object with the member `base64`.
  func write(to json: inout JSONWriter) {
    switch self {
    case .void: json.null()
    case .bool(let value): json.bool(value)
    case .timestamp(let seconds): json.number(seconds)
    case .float, .double, .decimal: json.number(fraction ?? 0)
    case .string(let bytes), .binary(let bytes):
      if let text = bytes.withBuffer({ String(validating: $0, as: UTF8.self) }) { return json.string(text) }
      json.object { json in
        json.name("base64")
        json.string(bytes.withBuffer { Base64.encode($0) })
      }
    case .array(let values): json.array { json in for value in values { value.write(to: &json) } }
    case .table(let table): table.write(to: &json)
    case .int8, .uint8, .int16, .uint16, .int32, .uint32, .int64: json.number(integer ?? 0)
    }
  }
}

extension AMQPFieldTable {
  /// Writes an object; of fields of one name the first.
  func write(to json: inout JSONWriter) {
    var seen: Set<String> = []
    json.object { json in
      for (key, value) in self where seen.insert(key.text).inserted {
        json.name(key.text)
        value.write(to: &json)
      }
    }
  }
}
