// QueueValue: the value of a message's header, as AMQP clients see it, too.

import MillraceAMQPProtocol
import MillraceBase

/// The value of a header. Literals will do: `["kind": "order", "attempt": 3, "isPaid": true]`.
public enum QueueValue: Equatable, Sendable {
  /// Text; AMQP's long string.
  case text(String)
  /// A whole number.
  case int(Int64)
  /// A fraction.
  case double(Double)
  /// True or false.
  case bool(Bool)
  /// Bytes that are no text.
  case bytes(Bytes)
  /// Whole seconds since the epoch.
  case seconds(UInt64)
  /// Values in order.
  case array([QueueValue])
  /// Values by name.
  case table([String: QueueValue])
  /// No value.
  case null

  /// The text of a `.text`; nil for other values.
  public var text: String? {
    guard case .text(let text) = self else { return nil }
    return text
  }

  /// The number of an `.int`; nil for other values.
  public var int: Int64? {
    guard case .int(let number) = self else { return nil }
    return number
  }

  /// The value of a `.bool`; nil for other values.
  public var bool: Bool? {
    guard case .bool(let value) = self else { return nil }
    return value
  }
}

extension QueueValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByFloatLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  /// Text.
  public init(stringLiteral text: String) { self = .text(text) }
  /// A whole number.
  public init(integerLiteral number: Int64) { self = .int(number) }
  /// True or false.
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  /// A fraction.
  public init(floatLiteral number: Double) { self = .double(number) }
  /// Values in order.
  public init(arrayLiteral values: QueueValue...) { self = .array(values) }
  /// Values by name; of a name that is there twice the first counts.
  public init(dictionaryLiteral values: (String, QueueValue)...) {
    self = .table(Dictionary(values) { first, _ in first })
  }
}

extension QueueValue {
  /// Depth to which values may nest, as in AMQP tables.
  static let deepest = AMQPFieldTable.deepest - 1

  /// A header's value as it was received. Numbers lose their width; a decimal becomes a fraction.
  init(_ value: AMQPValue) {
    switch value {
    case .bool(let value): self = .bool(value)
    case .float, .double, .decimal: self = .double(value.fraction ?? 0)
    case .timestamp(let seconds): self = .seconds(seconds)
    case .string(let bytes): self = value.text.map { .text($0) } ?? .bytes(bytes)
    case .binary(let bytes): self = .bytes(bytes)
    case .array(let values): self = .array(values.map { QueueValue($0) })
    case .table(let table): self = .table(QueueValue.fields(table))
    case .void: self = .null
    case .int8, .uint8, .int16, .uint16, .int32, .uint32, .int64: self = .int(value.integer ?? 0)
    }
  }

  /// The fields of a table; of a name that is there twice the first counts.
  static func fields(_ table: AMQPFieldTable) -> [String: QueueValue] {
    Dictionary(table.map { ($0.key.text, QueueValue($0.value)) }) { first, _ in first }
  }

  /// The value as AMQP has it.
  /// - Throws: `.invalidArgument` for a name of more than 255 bytes, and for what nests too deep.
  func encoded(depth: Int = 0) throws(MillraceError) -> AMQPValue {
    guard depth < QueueValue.deepest else {
      throw MillraceError(.invalidArgument, "a header that nests deeper than \(QueueValue.deepest) levels")
    }
    switch self {
    case .text(let text): return .string(text)
    case .int(let number): return Int32(exactly: number).map { .int32($0) } ?? .int64(number)
    case .double(let number): return .double(number)
    case .bool(let value): return .bool(value)
    case .bytes(let bytes): return .binary(bytes)
    case .seconds(let seconds): return .timestamp(seconds)
    case .array(let values):
      var encoded: [AMQPValue] = []
      for value in values { encoded.append(try value.encoded(depth: depth + 1)) }
      return .array(AMQPFieldArray(encoded))
    case .table(let fields): return .table(try QueueValue.table(fields, depth: depth + 1))
    case .null: return .void
    }
  }

  /// Fields as a table, in the order of their names.
  static func table(_ fields: [String: QueueValue], depth: Int = 0) throws(MillraceError) -> AMQPFieldTable {
    var entries: [(String, AMQPValue)] = []
    for (name, value) in fields.sorted(by: { $0.key < $1.key }) {
      guard name.utf8.count <= ShortString.limit else {
        throw MillraceError(.invalidArgument, "a header's name of \(name.utf8.count) bytes; 255 are allowed")
      }
      entries.append((name, try value.encoded(depth: depth)))
    }
    return AMQPFieldTable(entries)
  }
}
