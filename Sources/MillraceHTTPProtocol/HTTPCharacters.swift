// HTTPCharacters: which bytes may stand where in a request.

/// Classes of bytes. Sources: RFC 9110 section 5.6.2 (tokens) and 5.5 (field values), RFC 3986 (targets).
enum HTTPCharacters {
  private static let tokens = table("!#$%&'*+-.^_`|~")
  private static let targets = table("-._~!$&'()*+,;=:@/?%")

  private static func table(_ others: String) -> [Bool] {
    var table = [Bool](repeating: false, count: 256)
    for range in [UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), 0x30...0x39] {
      for byte in range { table[Int(byte)] = true }
    }
    for byte in others.utf8 { table[Int(byte)] = true }
    return table
  }

  /// Part of a method or a field's name.
  static func isToken(_ byte: UInt8) -> Bool { tokens[Int(byte)] }

  /// Part of a path or query, percent signs included.
  static func isTarget(_ byte: UInt8) -> Bool { targets[Int(byte)] }

  /// Part of a field's value: printable, blank, tab, or a byte of no known meaning.
  static func isValue(_ byte: UInt8) -> Bool { byte >= 0x20 && byte != 0x7f || byte == 0x09 }

  static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }

  /// 0 to 15; nil for what is no hexadecimal digit.
  static func hexValue(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x41 + 10
    case 0x61...0x66: byte - 0x61 + 10
    default: nil
    }
  }

  static func lowercased(_ byte: UInt8) -> UInt8 { (0x41...0x5a).contains(byte) ? byte | 0x20 : byte }
}
