// DecimalNumber: decimal text as the nearest Double.
//
// A number of at most 2^53 with a power of ten of at most 22 is exact in both parts, so one division or multiplication
// rounds it right (Clinger, "How to Read Floating Point Numbers Accurately", 1990). Others are left to the standard
// library.

/// Reads numbers.
enum DecimalNumber {
  private static let powers: [Double] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
  ]

  /// The number that `text` is: an optional sign, digits, a fraction, an exponent, as JSON writes it; checked already.
  /// - Returns: nil when it is too large.
  static func double(_ text: UnsafeRawBufferPointer) -> Double? {
    var at = 0
    let isNegative = text[0] == UInt8(ascii: "-")
    if isNegative { at = 1 }
    var digits: UInt64 = 0
    var power = 0
    var isFraction = false
    while at < text.count {
      let digit = text[at] &- 0x30
      if digit < 10 {
        guard digits < (1 << 53) / 10 else { return slow(text) }
        digits = digits &* 10 &+ UInt64(digit)
        if isFraction { power -= 1 }
      } else if text[at] == UInt8(ascii: ".") {
        isFraction = true
      } else {
        break
      }
      at += 1
    }
    // An exponent is rare, and may be long.
    guard at == text.count, power >= -22 else { return slow(text) }
    let value = Double(digits) / powers[-power]
    return isNegative ? -value : value
  }

  @inline(never)
  private static func slow(_ text: UnsafeRawBufferPointer) -> Double? {
    guard let value = Double(String(decoding: text, as: UTF8.self)), value.isFinite else { return nil }
    return value
  }
}
