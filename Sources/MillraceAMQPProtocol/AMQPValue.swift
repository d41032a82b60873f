// AMQPValue: one value of a field table or array, of any of the types that RabbitMQ knows.
//
//   t bool            b int8    B uint8    s int16   u uint16   I int32   i uint32   l L int64   f float   d double
//   D decimal: uint8 scale, int32          T timestamp: uint64 seconds               V void, no bytes
//   S long string, x binary, A array, F table: uint32 length and as many bytes
//
// The specification, Qpid and RabbitMQ disagree about letters; this is RabbitMQ's reading, which its clients follow:
// `s` is a 16-bit number and not a string, `l` and `L` are both signed, and there is no `U`. `l` is written.
// Source: RabbitMQ, "AMQP 0-9-1 errata", section 3; rabbit_binary_parser.erl.

import MillraceBase

/// A value of a field table or array. Strings, arrays and tables share the memory that they were read from.
public enum AMQPValue: Equatable, Sendable {
  /// `t`.
  case bool(Bool)
  /// `b`.
  case int8(Int8)
  /// `B`.
  case uint8(UInt8)
  /// `s`.
  case int16(Int16)
  /// `u`.
  case uint16(UInt16)
  /// `I`.
  case int32(Int32)
  /// `i`.
  case uint32(UInt32)
  /// `l`, and `L` when read.
  case int64(Int64)
  /// `f`.
  case float(Float)
  /// `d`.
  case double(Double)
  /// `D`: `value` divided by 10 to the power of `scale`.
  case decimal(scale: UInt8, value: Int32)
  /// `T`: seconds since the epoch.
  case timestamp(UInt64)
  /// `S`: by convention UTF-8.
  case string(Bytes)
  /// `x`.
  case binary(Bytes)
  /// `A`.
  case array(AMQPFieldArray)
  /// `F`.
  case table(AMQPFieldTable)
  /// `V`.
  case void

  /// A string of type `S` with the UTF-8 of `text`.
  public static func string(_ text: String) -> AMQPValue { .string(Bytes(text)) }

  /// The value as a whole number, whatever its width, as RabbitMQ reads arguments such as `x-message-ttl`; nil for
  /// timestamps and everything that is not a whole number.
  public var integer: Int64? {
    switch self {
    case .int8(let value): Int64(value)
    case .uint8(let value): Int64(value)
    case .int16(let value): Int64(value)
    case .uint16(let value): Int64(value)
    case .int32(let value): Int64(value)
    case .uint32(let value): Int64(value)
    case .int64(let value): value
    default: nil
    }
  }

  /// The value as a fraction, whatever its width; nil for everything that is neither a fraction nor a decimal.
  public var fraction: Double? {
    switch self {
    case .float(let value): return Double(value)
    case .double(let value): return value
    case .decimal(let scale, let value):
      var fraction = Double(value)
      for _ in 0..<scale { fraction /= 10 }
      return fraction
    default: return nil
    }
  }

  /// The text of a string of type `S`; nil when it is of another type or not valid UTF-8.
  public var text: String? {
    guard case .string(let bytes) = self else { return nil }
    return bytes.withBuffer { String(validating: $0, as: UTF8.self) }
  }

  /// The value of a bool; nil for other types.
  public var bool: Bool? {
    guard case .bool(let value) = self else { return nil }
    return value
  }

  /// The table of type `F`; nil for other types.
  public var table: AMQPFieldTable? {
    guard case .table(let value) = self else { return nil }
    return value
  }

  /// The array of type `A`; nil for other types.
  public var array: AMQPFieldArray? {
    guard case .array(let value) = self else { return nil }
    return value
  }
}

extension AMQPValue: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral {
  /// A string of type `S`.
  public init(stringLiteral text: String) { self = .string(text) }
  /// A bool.
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  /// `I` if that is wide enough, as Python's clients choose, else `l`.
  public init(integerLiteral value: Int64) { self = Int32(exactly: value).map { .int32($0) } ?? .int64(value) }
}

extension AMQPValue: ExpressibleByDictionaryLiteral, ExpressibleByArrayLiteral {
  /// A table, in this order.
  public init(dictionaryLiteral entries: (String, AMQPValue)...) { self = .table(AMQPFieldTable(entries)) }
  /// An array.
  public init(arrayLiteral values: AMQPValue...) { self = .array(AMQPFieldArray(values)) }
}

extension AMQPValue: CustomStringConvertible {
  /// As people read it; types are not told apart.
  public var description: String {
    switch self {
    case .bool(let value): "\(value)"
    case .float(let value): "\(value)"
    case .double(let value): "\(value)"
    case .decimal(let scale, let value): "\(value)e-\(scale)"
    case .timestamp(let value): "\(value)"
    case .string(let bytes): bytes.text
    case .binary(let bytes): "\(bytes.count) bytes"
    case .array(let values): "\(values)"
    case .table(let table): "\(table)"
    case .void: "void"
    default: "\(integer ?? 0)"
    }
  }
}

extension ByteReader {
  /// A value with the letter of its type in front.
  /// - Parameter depth: tables and arrays around it; nil when what it holds has been checked before.
  mutating func value(depth: Int?) throws(DecodingError) -> AMQPValue {
    let at = position
    let letter = try uint8()
    switch letter {
    case UInt8(ascii: "S"): return .string(try longBytes())
    case UInt8(ascii: "I"): return .int32(try int32())
    case UInt8(ascii: "l"), UInt8(ascii: "L"): return .int64(try int64())
    case UInt8(ascii: "t"): return .bool(try uint8() != 0)
    case UInt8(ascii: "b"): return .int8(try int8())
    case UInt8(ascii: "B"): return .uint8(try uint8())
    case UInt8(ascii: "s"): return .int16(try int16())
    case UInt8(ascii: "u"): return .uint16(try uint16())
    case UInt8(ascii: "i"): return .uint32(try uint32())
    case UInt8(ascii: "f"): return .float(Float(bitPattern: try uint32()))
    case UInt8(ascii: "d"): return .double(try float64())
    case UInt8(ascii: "D"): return .decimal(scale: try uint8(), value: try int32())
    case UInt8(ascii: "T"): return .timestamp(try uint64())
    case UInt8(ascii: "V"): return .void
    case UInt8(ascii: "x"): return .binary(try longBytes())
    case UInt8(ascii: "F"), UInt8(ascii: "A"):
      if let depth {
        guard depth < AMQPFieldTable.deepest else {
          throw DecodingError("tables and arrays nest deeper than \(AMQPFieldTable.deepest)", at: at)
        }
        // Read in place, so that the position of an error is that in the whole.
        let content = try nested(letter == UInt8(ascii: "F"), depth: depth + 1)
        return letter == UInt8(ascii: "F")
          ? .table(AMQPFieldTable(checked: content)) : .array(AMQPFieldArray(checked: content))
      }
      return letter == UInt8(ascii: "F")
        ? .table(AMQPFieldTable(checked: try longBytes())) : .array(AMQPFieldArray(checked: try longBytes()))
    default:
      throw DecodingError("unknown type \(letter) of a field's value", at: at)
    }
  }

  private mutating func nested(_ isTable: Bool, depth: Int) throws(DecodingError) -> Bytes {
    let size = Int(try uint32())
    let start = position
    guard size <= remaining else {
      throw DecodingError("a table or array of \(size) bytes, \(remaining) are left", at: start)
    }
    try entries(isTable, until: start + size, depth: depth)
    return bytes[start..<(start + size)]
  }

  /// Passes over the entries of a table or an array and checks them.
  mutating func entries(_ isTable: Bool, until end: Int, depth: Int) throws(DecodingError) {
    while position < end {
      if isTable { _ = try shortString() }
      _ = try value(depth: depth)
    }
    guard position == end else {
      throw DecodingError("a value ends \(position - end) bytes behind its table or array", at: position)
    }
  }
}

extension ByteWriter {
  /// A value with the letter of its type in front.
  mutating func value(_ value: AMQPValue) {
    func letter(_ letter: Unicode.Scalar) { uint8(UInt8(ascii: letter)) }
    switch value {
    case .bool(let value): letter("t"); uint8(value ? 1 : 0)
    case .int8(let value): letter("b"); int8(value)
    case .uint8(let value): letter("B"); uint8(value)
    case .int16(let value): letter("s"); int16(value)
    case .uint16(let value): letter("u"); uint16(value)
    case .int32(let value): letter("I"); int32(value)
    case .uint32(let value): letter("i"); uint32(value)
    case .int64(let value): letter("l"); int64(value)
    case .float(let value): letter("f"); uint32(value.bitPattern)
    case .double(let value): letter("d"); float64(value)
    case .decimal(let scale, let value): letter("D"); uint8(scale); int32(value)
    case .timestamp(let value): letter("T"); uint64(value)
    case .string(let bytes): letter("S"); longBytes(bytes)
    case .binary(let bytes): letter("x"); longBytes(bytes)
    case .array(let values): letter("A"); longBytes(values.encoded)
    case .table(let table): letter("F"); longBytes(table.encoded)
    case .void: letter("V")
    }
  }
}
