// Hex: bytes as text, and what a value of a golden frame says.

import MillraceAMQPProtocol
import MillraceBase

func hex(_ bytes: Bytes) -> String { hex(bytes.array) }

func hex(_ bytes: some Sequence<UInt8>) -> String {
  bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

func bytes(hex: some StringProtocol) -> [UInt8] {
  let digits = Array(hex.utf8).map { $0 < 58 ? $0 - 48 : $0 - 87 }
  return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

/// A field's value as GoldenFrames writes it.
func told(_ value: Any) -> String {
  func nonempty(_ bytes: Bytes) -> String { bytes.isEmpty ? "-" : hex(bytes) }
  switch value {
  case let value as String: return nonempty(Bytes(value))
  case let value as ShortString: return nonempty(value.bytes)
  case let value as Bytes: return nonempty(value)
  case let value as AMQPFieldTable: return nonempty(value.encoded)
  default: return "\(value)"
  }
}

/// A field's name as GoldenFrames writes it: routingKey is routing_key.
func snake(_ name: String) -> String {
  if name == "noWait" { return "nowait" }
  var out = ""
  var last: Character = "A"
  for letter in name {
    if letter.isUppercase && !last.isUppercase { out += "_" }
    out += letter.lowercased()
    last = letter
  }
  return out
}
