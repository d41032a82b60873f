// RoutingCoding: bytes of values, exchanges, bindings and removals, in snapshots and in the events that change them.
//
// Numbers are big endian; names and keys are uint32 length and bytes. Value: tag uint8 (0 null, 1 false, 2 true,
// 3 int64, 4 double, 5 string, 6 array, 7 table, 8 timestamp) and contents; arrays and tables a uint32 count.
// Exchange: name, type by name, flags uint8 (1 durable, 2 auto-delete, 4 internal), arguments. Destination: uint8
// (0 queue, 1 exchange, 2 topic) and name. Binding: source, destination, key, arguments. Removal: cause uint8
// (0 binding, 1 destination, 2 exchange) and what it names, then the exchanges that go with it.

import MillraceBase

extension ByteWriter {
  mutating func name(_ name: String) {
    uint32(UInt32(name.utf8.count))
    utf8(name)
  }

  mutating func lengthAndBytes(_ bytes: Bytes) {
    uint32(UInt32(bytes.count))
    append(bytes)
  }

  mutating func value(_ value: RoutingValue) {
    switch value {
    case .null: uint8(0)
    case .bool(let value): uint8(value ? 2 : 1)
    case .int64(let value):
      uint8(3)
      int64(value)
    case .double(let value):
      uint8(4)
      float64(value)
    case .string(let bytes):
      uint8(5)
      lengthAndBytes(bytes)
    case .array(let values):
      uint8(6)
      uint32(UInt32(values.count))
      for value in values { self.value(value) }
    case .table(let table):
      uint8(7)
      self.table(table)
    case .timestamp(let value):
      uint8(8)
      int64(value)
    }
  }

  mutating func table(_ table: RoutingTable) {
    uint32(UInt32(table.fields.count))
    for field in table.fields {
      name(field.name)
      value(field.value)
    }
  }

  /// A table of arguments, as snapshots and events hold it.
  public mutating func routingTable(_ table: RoutingTable) { self.table(table) }

  /// An exchange, as snapshots and events hold it.
  public mutating func exchange(_ exchange: Exchange) {
    name(exchange.name)
    name(exchange.type.rawValue)
    uint8((exchange.isDurable ? 1 : 0) | (exchange.isAutoDelete ? 2 : 0) | (exchange.isInternal ? 4 : 0))
    table(exchange.arguments)
  }

  /// A destination, as snapshots and events hold it.
  public mutating func destination(_ destination: Destination) {
    switch destination {
    case .queue: uint8(0)
    case .exchange: uint8(1)
    case .topic: uint8(2)
    }
    name(destination.name)
  }

  /// A binding, as snapshots and events hold it.
  public mutating func binding(_ binding: Binding) {
    name(binding.source)
    destination(binding.destination)
    lengthAndBytes(binding.key)
    table(binding.arguments)
  }

  /// A removal, as events hold it.
  public mutating func removal(_ removal: RoutingRemoval) {
    switch removal.cause {
    case .binding(let binding):
      uint8(0)
      self.binding(binding)
    case .destination(let destination):
      uint8(1)
      self.destination(destination)
    case .exchange(let exchange):
      uint8(2)
      name(exchange)
    }
    uint32(UInt32(removal.autoDeleted.count))
    for exchange in removal.autoDeleted { name(exchange) }
  }
}

extension ByteReader {
  mutating func name() throws(DecodingError) -> String { try string(Int(try uint32())) }

  mutating func lengthAndBytes() throws(DecodingError) -> Bytes {
    let bytes = try slice(Int(try uint32()))
    return bytes.withBuffer { Bytes(copying: $0) }
  }

  /// A count of members, each of which takes at least `size` bytes.
  mutating func count(ofSize size: Int) throws(DecodingError) -> Int {
    let at = position
    let count = Int(try uint32())
    guard count <= remaining / size else {
      throw DecodingError("\(count) members announced, \(remaining) bytes are left", at: at)
    }
    return count
  }

  mutating func value(levels: Int) throws(DecodingError) -> RoutingValue {
    let at = position
    switch try uint8() {
    case 0: return .null
    case 1: return .bool(false)
    case 2: return .bool(true)
    case 3: return .int64(try int64())
    case 4: return .double(try float64())
    case 5: return .string(try lengthAndBytes())
    case 6:
      guard levels > 0 else { throw DecodingError("values nested too deep", at: at) }
      var values: [RoutingValue] = []
      for _ in 0..<(try count(ofSize: 1)) { values.append(try value(levels: levels - 1)) }
      return .array(values)
    case 7:
      guard levels > 0 else { throw DecodingError("values nested too deep", at: at) }
      return .table(try table(levels: levels - 1))
    case 8: return .timestamp(try int64())
    case let tag: throw DecodingError("value of tag \(tag), which this program does not know", at: at)
    }
  }

  mutating func table(levels: Int = RoutingTable.maximumDepth - 1) throws(DecodingError) -> RoutingTable {
    var fields: [RoutingTable.Field] = []
    for _ in 0..<(try count(ofSize: 5)) { fields.append(RoutingTable.Field(try name(), try value(levels: levels))) }
    return RoutingTable(fields)
  }

  /// Reads what ``ByteWriter/routingTable(_:)`` wrote, into memory of its own.
  public mutating func routingTable() throws(DecodingError) -> RoutingTable { try table() }

  /// Reads what ``ByteWriter/exchange(_:)`` wrote.
  public mutating func exchange() throws(DecodingError) -> Exchange {
    let at = position
    let name = try name()
    let type = try self.name()
    let flags = try uint8()
    let arguments = try table()
    guard flags < 8 else { throw DecodingError("flags \(flags) of an exchange", at: at) }
    do throws(RoutingError) {
      return try Exchange(
        name: name, type: type, isDurable: flags & 1 != 0, isAutoDelete: flags & 2 != 0, isInternal: flags & 4 != 0,
        arguments: arguments)
    } catch {
      throw DecodingError("exchange '\(name)': \(error.message)", at: at)
    }
  }

  /// Reads what ``ByteWriter/destination(_:)`` wrote.
  public mutating func destination() throws(DecodingError) -> Destination {
    let at = position
    switch try uint8() {
    case 0: return .queue(try name())
    case 1: return .exchange(try name())
    case 2: return .topic(try name())
    case let kind: throw DecodingError("destination of kind \(kind), which this program does not know", at: at)
    }
  }

  /// Reads what ``ByteWriter/binding(_:)`` wrote.
  public mutating func binding() throws(DecodingError) -> Binding {
    Binding(
      source: try name(), destination: try destination(), key: try lengthAndBytes(), arguments: try table())
  }

  /// Reads what ``ByteWriter/removal(_:)`` wrote.
  public mutating func removal() throws(DecodingError) -> RoutingRemoval {
    let at = position
    let cause: RoutingRemoval.Cause
    switch try uint8() {
    case 0: cause = .binding(try binding())
    case 1: cause = .destination(try destination())
    case 2: cause = .exchange(try name())
    case let tag: throw DecodingError("removal of cause \(tag), which this program does not know", at: at)
    }
    var autoDeleted: [String] = []
    for _ in 0..<(try count(ofSize: 4)) { autoDeleted.append(try name()) }
    return RoutingRemoval(cause: cause, autoDeleted: autoDeleted)
  }
}
