// UTF8Check: whether bytes are valid UTF-8, without a copy.

/// Validates text.
enum UTF8Check {
  /// Whether `text` is valid UTF-8 (RFC 3629: no surrogates, nothing that is longer than it need be, nothing above
  /// U+10FFFF).
  /// - Complexity: O(bytes), nothing is allocated.
  static func isValid(_ text: UnsafeRawBufferPointer) -> Bool {
    var at = 0
    let end = text.count
    while at < end {
      let first = text[at]
      if first < 0x80 {
        at += 1
        while end - at >= 8, text.loadUnaligned(fromByteOffset: at, as: UInt64.self) & 0x8080_8080_8080_8080 == 0 {
          at += 8
        }
        continue
      }
      // How many bytes follow, and what the second may be.
      let (more, low, high): (Int, UInt8, UInt8)
      switch first {
      case 0xc2...0xdf: (more, low, high) = (1, 0x80, 0xbf)
      case 0xe0: (more, low, high) = (2, 0xa0, 0xbf)
      case 0xed: (more, low, high) = (2, 0x80, 0x9f)
      case 0xe1...0xef: (more, low, high) = (2, 0x80, 0xbf)
      case 0xf0: (more, low, high) = (3, 0x90, 0xbf)
      case 0xf1...0xf3: (more, low, high) = (3, 0x80, 0xbf)
      case 0xf4: (more, low, high) = (3, 0x80, 0x8f)
      default: return false
      }
      guard more < end - at, text[at + 1] >= low, text[at + 1] <= high else { return false }
      for next in 1..<(more + 1) where text[at + next] & 0xc0 != 0x80 { return false }
      at += more + 1
    }
    return true
  }
}
