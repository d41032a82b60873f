// RoutingTable+AMQP: field tables of the protocol as arguments and headers of routing.

import MillraceAMQPProtocol
import MillraceBase
import MillraceRouting

extension RoutingTable {
  /// The fields of `table`. Strings share its memory.
  init(_ table: AMQPFieldTable) {
    self.init(table.map { Field($0.key.text, RoutingValue($0.value)) })
  }
}

extension RoutingValue {
  /// The value without its width; a decimal as a fraction.
  init(_ value: AMQPValue) {
    switch value {
    case .bool(let value): self = .bool(value)
    case .float, .double, .decimal: self = .double(value.fraction ?? 0)
    case .timestamp(let seconds): self = .timestamp(Int64(clamping: seconds))
    case .string(let bytes), .binary(let bytes): self = .string(bytes)
    case .array(let values): self = .array(values.map { RoutingValue($0) })
    case .table(let table): self = .table(RoutingTable(table))
    case .void: self = .null
    case .int8, .uint8, .int16, .uint16, .int32, .uint32, .int64: self = .int64(value.integer ?? 0)
    }
  }
}
