// JSONEscapes: what stands behind a backslash in a JSON string (RFC 8259, section 7), for all who read JSON.

/// Reads escapes.
public enum JSONEscapes {
  /// Reads the escape whose backslash stands at `at`.
  ///
  /// - Parameter at: moves behind the escape; of a surrogate pair, behind both halves.
  /// - Returns: what it stands for, whose UTF-8 is shorter than the escape.
  /// - Throws: for an unknown escape, digits that are missing, or half of a surrogate pair; `at` has not moved then.
  public static func read(_ text: UnsafeRawBufferPointer, at: inout Int) throws(DecodingError) -> Unicode.Scalar {
    guard at + 1 < text.count else { throw DecodingError("invalid JSON: a string without its end", at: text.count) }
    let scalar: Unicode.Scalar
    switch text[at + 1] {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): scalar = Unicode.Scalar(text[at + 1])
    case UInt8(ascii: "b"): scalar = "\u{8}"
    case UInt8(ascii: "f"): scalar = "\u{c}"
    case UInt8(ascii: "n"): scalar = "\n"
    case UInt8(ascii: "r"): scalar = "\r"
    case UInt8(ascii: "t"): scalar = "\t"
    case UInt8(ascii: "u"): return try codePoint(text, at: &at)
    default: throw DecodingError("invalid JSON: an unknown escape", at: at)
    }
    at += 2
    return scalar
  }

  private static func codePoint(_ text: UnsafeRawBufferPointer, at: inout Int) throws(DecodingError) -> Unicode.Scalar {
    var code = try hex(text, at: at + 2)
    var size = 6
    if (0xd800..<0xdc00).contains(code) {
      guard at + 7 < text.count, text[at + 6] == UInt8(ascii: "\\"), text[at + 7] == UInt8(ascii: "u") else {
        throw DecodingError("invalid JSON: half of a surrogate pair", at: at)
      }
      let low = try hex(text, at: at + 8)
      guard (0xdc00..<0xe000).contains(low) else {
        throw DecodingError("invalid JSON: half of a surrogate pair", at: at)
      }
      code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
      size = 12
    }
    guard let scalar = Unicode.Scalar(code) else {
      throw DecodingError("invalid JSON: half of a surrogate pair", at: at)
    }
    at += size
    return scalar
  }

  private static func hex(_ text: UnsafeRawBufferPointer, at start: Int) throws(DecodingError) -> UInt32 {
    guard start + 4 <= text.count else {
      throw DecodingError("invalid JSON: four hexadecimal digits are expected", at: text.count)
    }
    var code: UInt32 = 0
    for byte in text[start..<(start + 4)] {
      let digit: UInt8
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
      default: throw DecodingError("invalid JSON: four hexadecimal digits are expected", at: start)
      }
      code = code << 4 | UInt32(digit)
    }
    return code
  }
}
