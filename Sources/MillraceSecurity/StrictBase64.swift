// StrictBase64: base 64 of which every text stands for other bytes: what is accepted is what encoding would give.

import MillraceBase

/// Decoding that accepts one text for one value, so that no change of a signed or proven text goes unseen.
enum StrictBase64 {
  /// Bytes of base 64 with padding (RFC 4648, section 4); nil when it is not, or its last bits are not zero.
  static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
    let string = String(decoding: text, as: UTF8.self)
    guard let bytes = Base64.decode(string) else { return nil }
    let again = bytes.withBuffer { Base64.encode($0) }
    return again.utf8.elementsEqual(text) ? bytes.array : nil
  }

  /// Bytes of base 64 for names, without padding (RFC 4648, section 5; RFC 7515, section 2).
  static func decodeURL(_ text: some Collection<UInt8>) -> [UInt8]? {
    var standard: [UInt8] = []
    standard.reserveCapacity(text.count + 3)
    for byte in text {
      switch byte {
      case UInt8(ascii: "-"): standard.append(UInt8(ascii: "+"))
      case UInt8(ascii: "_"): standard.append(UInt8(ascii: "/"))
      case UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "="): return nil
      default: standard.append(byte)
      }
    }
    while standard.count % 4 != 0 { standard.append(UInt8(ascii: "=")) }
    return decode(standard)
  }

  /// The text of `bytes`, with padding.
  static func encode(_ bytes: [UInt8]) -> String { bytes.withUnsafeBytes { Base64.encode($0) } }

  /// The text of a secret, with padding, for whoever must send it.
  static func encode(_ secret: Secret) -> String { secret.withBytes { Base64.encode($0) } }
}
