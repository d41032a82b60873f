// RoutingValue: typed arguments of exchanges and bindings, and headers of messages, in no protocol's terms.

import MillraceBase

/// A typed value of an argument or header.
///
/// Equality is that of headers exchanges. Source: RabbitMQ 4, `rabbit_exchange_type_headers`, which compares values with
/// `=:=` and leaves the field type out: whole numbers of any width are equal by value, a whole number never equals a
/// fraction, text and byte arrays are equal by bytes. Different from there: a timestamp equals a timestamp only
/// (RabbitMQ compares milliseconds of the message with seconds of the binding).
public enum RoutingValue: Equatable, Sendable {
  /// No value; in a binding's arguments it asks only that the header is there.
  case null
  /// True or false.
  case bool(Bool)
  /// A whole number of any width.
  case int64(Int64)
  /// A fraction of any width.
  case double(Double)
  /// Text or bytes.
  case string(Bytes)
  /// A list.
  case array([RoutingValue])
  /// Fields by name.
  case table(RoutingTable)
  /// Seconds since the epoch.
  case timestamp(Int64)

  /// A value of text.
  public static func string(_ text: String) -> RoutingValue { .string(Bytes(text)) }

  /// The text of a `.string`, nil for other values.
  public var text: String? {
    guard case .string(let bytes) = self else { return nil }
    return bytes.text
  }

  /// What RabbitMQ calls the type of such a field in its error texts. The width of a whole number is not kept: it is that
  /// which clients choose, 32 bits where they suffice.
  public var typeName: String {
    switch self {
    case .null: "void"
    case .bool: "bool"
    case .int64(let value): Int32(exactly: value) == nil ? "long" : "signedint"
    case .double: "double"
    case .string: "longstr"
    case .array: "array"
    case .table: "table"
    case .timestamp: "timestamp"
    }
  }

  /// The value in words, for error texts.
  public var words: String {
    switch self {
    case .null: "undefined"
    case .bool(let value): "\(value)"
    case .int64(let value), .timestamp(let value): "\(value)"
    case .double(let value): "\(value)"
    case .string(let bytes): bytes.text
    case .array(let values): "[" + values.map(\.words).joined(separator: ",") + "]"
    case .table(let table): "[" + table.fields.map { "{\($0.name),\($0.value.words)}" }.joined(separator: ",") + "]"
    }
  }

  /// How deep arrays and tables nest: 0 for a plain value, 1 more than the deepest member otherwise.
  var depth: Int {
    switch self {
    case .array(let values): 1 + (values.map(\.depth).max() ?? 0)
    case .table(let table): table.depth
    default: 0
    }
  }

  /// The value in memory of its own, so that it does not keep a whole network buffer alive; what nests deeper than
  /// `levels` becomes null.
  func detached(levels: Int) -> RoutingValue {
    switch self {
    case .string(let bytes): .string(bytes.withBuffer { Bytes(copying: $0) })
    case .array(let values): levels > 0 ? .array(values.map { $0.detached(levels: levels - 1) }) : .null
    case .table(let table): levels > 0 ? .table(table.detached(levels: levels - 1)) : .null
    default: self
    }
  }
}

/// Fields by name, in the order of their names' bytes; fields of one name keep the order they came in, and the first counts.
public struct RoutingTable: Equatable, Sendable, ExpressibleByDictionaryLiteral {
  /// How deep tables of arguments may nest, themselves included.
  public static let maximumDepth = 32

  /// One field.
  public struct Field: Equatable, Sendable {
    /// Its name.
    public let name: String
    /// Its value.
    public let value: RoutingValue

    /// A field.
    public init(_ name: String, _ value: RoutingValue) {
      self.name = name
      self.value = value
    }
  }

  /// The fields.
  public let fields: [Field]

  /// No fields.
  public static let empty = RoutingTable([])

  /// A table of `fields`, which may come in any order.
  /// - Complexity: O(n log n); O(n) when they are in order.
  public init(_ fields: [Field]) {
    var isSorted = true
    var last: Field?
    for field in fields {
      if let last, precedes(field.name, last.name) { isSorted = false }
      last = field
    }
    // Swift's sort is stable in practice but does not promise it; the index makes it so.
    self.fields =
      isSorted
      ? fields
      : fields.enumerated().sorted { left, right in
        if precedes(left.element.name, right.element.name) { return true }
        if precedes(right.element.name, left.element.name) { return false }
        return left.offset < right.offset
      }.map(\.element)
  }

  /// A table from names and values.
  public init(dictionaryLiteral elements: (String, RoutingValue)...) {
    self.init(elements.map { Field($0.0, $0.1) })
  }

  /// Whether there are no fields.
  public var isEmpty: Bool { fields.isEmpty }

  /// The value of the first field of this name.
  /// - Complexity: O(log n)
  public subscript(name: String) -> RoutingValue? {
    var low = 0
    var high = fields.count
    while low < high {
      let middle = (low + high) / 2
      if precedes(fields[middle].name, name) { low = middle + 1 } else { high = middle }
    }
    guard low < fields.count, sameBytes(fields[low].name, name) else { return nil }
    return fields[low].value
  }

  /// How deep it nests, itself included.
  public var depth: Int { 1 + (fields.map(\.value.depth).max() ?? 0) }

  func detached(levels: Int = RoutingTable.maximumDepth - 1) -> RoutingTable {
    RoutingTable(fields.map { Field($0.name, $0.value.detached(levels: levels)) })
  }
}

/// Whether `left` comes first by the bytes of UTF-8. Swift's `<` compares normalised text, in which names of different
/// bytes may be equal.
func precedes(_ left: String, _ right: String) -> Bool { left.utf8.lexicographicallyPrecedes(right.utf8) }

/// Whether both are the same bytes of UTF-8.
func sameBytes(_ left: String, _ right: String) -> Bool { left.utf8.elementsEqual(right.utf8) }
