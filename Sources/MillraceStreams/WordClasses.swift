// WordClasses: which bytes and scalars belong to words, and what they become in lower case.

/// Tables for ``Words``.
@usableFromInline
enum WordClasses {
  /// Class of a byte that separates words. Class 1: not ASCII. Any other: the lower-cased byte of a letter or digit.
  @usableFromInline static var separator: UInt8 { 0 }

  // Safety: initialised once, never written or freed afterwards.
  @usableFromInline nonisolated(unsafe) static let ascii: UnsafePointer<UInt8> = {
    let table = UnsafeMutablePointer<UInt8>.allocate(capacity: 256)
    for byte in 0..<256 {
      switch UInt8(byte) {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): table[byte] = UInt8(byte)
      case UInt8(ascii: "A")...UInt8(ascii: "Z"): table[byte] = UInt8(byte) + 32
      case 0x80...0xff: table[byte] = 1
      default: table[byte] = 0
      }
    }
    return UnsafePointer(table)
  }()

  /// What to do with scalars below U+3000, found once: 0 separates, 1 asks for the full mapping, else the lower-cased
  /// scalar. Covers the alphabets; ideographs are asked for one by one.
  nonisolated(unsafe) static let low: UnsafePointer<UInt32> = {
    let table = UnsafeMutablePointer<UInt32>.allocate(capacity: 0x3000)
    for value in 0..<UInt32(0x3000) {
      table[Int(value)] = Unicode.Scalar(value).map(classify) ?? 0
    }
    return UnsafePointer(table)
  }()

  private static func classify(_ scalar: Unicode.Scalar) -> UInt32 {
    guard isWordScalar(scalar) else { return 0 }
    let lower = scalar.properties.lowercaseMapping.unicodeScalars
    guard let first = lower.first, lower.count == 1 else { return 1 }
    return first.value
  }

  /// Whether the scalar's general category is L* or Nd.
  static func isWordScalar(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .decimalNumber: true
    default: false
    }
  }

  /// Decodes the scalar at `at`, which does not start with ASCII, and writes its lower case to `out`.
  /// - Returns: bytes to go on by, and bytes written: none when it separates words, also when it is not valid UTF-8.
  @usableFromInline
  static func scalar(
    _ text: UnsafeRawBufferPointer, _ at: Int, _ out: UnsafeMutableRawPointer
  ) -> (consumed: Int, written: Int) {
    let (value, size) = decode(text, at)
    guard let value else { return (size, 0) }
    if value < 0x3000 {
      let kind = low[Int(value)]
      if kind == 0 { return (size, 0) }
      if kind > 1 { return (size, write(kind, out)) }
    }
    guard let scalar = Unicode.Scalar(value), isWordScalar(scalar) else { return (size, 0) }
    var written = 0
    for lower in scalar.properties.lowercaseMapping.unicodeScalars { written += write(lower.value, out + written) }
    return (size, written)
  }

  /// A scalar, or nil and one byte to skip. Source: Unicode 16, table 3-7, "Well-Formed UTF-8 Byte Sequences".
  ///
  /// Skipping one byte at a time separates words exactly as one U+FFFD per ill-formed part does: what follows a wrong first
  /// byte inside such a part are continuation bytes, which begin nothing.
  private static func decode(_ text: UnsafeRawBufferPointer, _ at: Int) -> (value: UInt32?, size: Int) {
    let first = UInt32(text[at])
    let left = text.count - at
    func continuation(_ index: Int, _ range: ClosedRange<UInt8> = 0x80...0xbf) -> UInt32? {
      guard index < left, range.contains(text[at + index]) else { return nil }
      return UInt32(text[at + index]) & 0x3f
    }
    switch first {
    case 0xc2...0xdf:
      guard let second = continuation(1) else { return (nil, 1) }
      return ((first & 0x1f) << 6 | second, 2)
    case 0xe0...0xef:
      let range: ClosedRange<UInt8> = first == 0xe0 ? 0xa0...0xbf : first == 0xed ? 0x80...0x9f : 0x80...0xbf
      guard let second = continuation(1, range), let third = continuation(2) else { return (nil, 1) }
      return ((first & 0x0f) << 12 | second << 6 | third, 3)
    case 0xf0...0xf4:
      let range: ClosedRange<UInt8> = first == 0xf0 ? 0x90...0xbf : first == 0xf4 ? 0x80...0x8f : 0x80...0xbf
      guard let second = continuation(1, range), let third = continuation(2), let fourth = continuation(3) else {
        return (nil, 1)
      }
      return ((first & 0x07) << 18 | second << 12 | third << 6 | fourth, 4)
    default:
      return (nil, 1)
    }
  }

  /// Writes a scalar as UTF-8.
  private static func write(_ value: UInt32, _ out: UnsafeMutableRawPointer) -> Int {
    func put(_ byte: UInt32, _ at: Int) {
      out.storeBytes(of: UInt8(truncatingIfNeeded: byte), toByteOffset: at, as: UInt8.self)
    }
    if value < 0x80 {
      put(value, 0)
      return 1
    }
    if value < 0x800 {
      put(0xc0 | value >> 6, 0)
      put(0x80 | value & 0x3f, 1)
      return 2
    }
    if value < 0x10000 {
      put(0xe0 | value >> 12, 0)
      put(0x80 | value >> 6 & 0x3f, 1)
      put(0x80 | value & 0x3f, 2)
      return 3
    }
    put(0xf0 | value >> 18, 0)
    put(0x80 | value >> 12 & 0x3f, 1)
    put(0x80 | value >> 6 & 0x3f, 2)
    put(0x80 | value & 0x3f, 3)
    return 4
  }
}
