// JSONScanner: passes over JSON (RFC 8259) in place, and says where strings and numbers are.
//
// Eight bytes of a string are looked at in one go: of each of the three things that matter in it (a quote, a
// backslash, a control character) a few operations on 64 bits mark the first one. A mark above the first may be wrong,
// because a borrow has come through; it is never looked at.

import MillraceBase

/// A cursor over a JSON text. The memory must outlive it.
struct JSONScanner {
  let text: UnsafeRawPointer
  let end: Int
  var at = 0

  /// A string in a text.
  struct Span {
    /// Behind the opening quote.
    var start: Int
    /// Of the closing quote.
    var end: Int
    var hasEscapes: Bool
  }

  init(_ buffer: UnsafeRawBufferPointer) {
    // Where nothing is, nothing is read.
    text = buffer.baseAddress ?? Bytes().start
    end = buffer.count
  }

  @inline(__always)
  func byte(_ position: Int) -> UInt8 { text.load(fromByteOffset: position, as: UInt8.self) }

  func buffer(_ start: Int, _ end: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: text + start, count: end - start)
  }

  @inline(never)
  func error(_ reason: String) -> DecodingError { DecodingError("invalid JSON: \(reason)", at: at) }

  /// The next byte that is no space, not taken; 0 at the end.
  @inline(__always)
  mutating func peek() -> UInt8 {
    if at < end {
      let next = byte(at)
      if next > 0x20 { return next }
    }
    return skipSpace()
  }

  @inline(never)
  private mutating func skipSpace() -> UInt8 {
    while at < end {
      let next = byte(at)
      // Of what is below a space only these three are one; other bytes are wrong whatever is expected.
      guard next == 0x20 || next == 0x0a || next == 0x0d || next == 0x09 else { return next }
      at += 1
    }
    return 0
  }

  // MARK: Strings

  private static let ones: UInt64 = 0x0101_0101_0101_0101
  private static let tops: UInt64 = 0x8080_8080_8080_8080

  /// Passes over the string whose opening quote is at the cursor.
  /// - Throws: for a string without its end, a control character, bytes that are not UTF-8. Escapes are not looked
  ///   into.
  @inline(__always)
  mutating func string() throws(DecodingError) -> Span {
    at += 1
    let start = at
    var notASCII: UInt64 = 0
    while end &- at >= 8 {
      let word = UInt64(littleEndian: text.loadUnaligned(fromByteOffset: at, as: UInt64.self))
      let quote = word ^ (JSONScanner.ones &* 0x22)
      let backslash = word ^ (JSONScanner.ones &* 0x5c)
      let marks =
        (((word &- JSONScanner.ones &* 0x20) & ~word) | ((quote &- JSONScanner.ones) & ~quote)
          | ((backslash &- JSONScanner.ones) & ~backslash)) & JSONScanner.tops
      guard marks != 0 else {
        notASCII |= word
        at &+= 8
        continue
      }
      let shift = UInt64(truncatingIfNeeded: marks.trailingZeroBitCount & ~7)
      notASCII |= word & ~(UInt64.max &<< shift)
      at &+= Int(truncatingIfNeeded: shift &>> 3)
      guard byte(at) == 0x22 else { return try longString(start, notASCII) }
      defer { at &+= 1 }
      if notASCII & JSONScanner.tops != 0 { try check(start) }
      return Span(start: start, end: at, hasEscapes: false)
    }
    return try longString(start, notASCII)
  }

  @inline(never)
  private func check(_ start: Int) throws(DecodingError) {
    guard UTF8Check.isValid(buffer(start, at)) else {
      throw DecodingError("invalid JSON: a string is not valid UTF-8", at: start)
    }
  }

  /// The rest of a string, byte by byte: it has escapes, or is near the end of the text.
  @inline(never)
  private mutating func longString(_ start: Int, _ before: UInt64) throws(DecodingError) -> Span {
    var hasEscapes = false
    while at < end {
      switch byte(at) {
      case 0x22:
        try check(start)
        at += 1
        return Span(start: start, end: at - 1, hasEscapes: hasEscapes)
      case 0x5c:
        hasEscapes = true
        at += 2
      case 0..<0x20: throw error("a control character inside a string")
      default: at += 1
      }
    }
    at = end
    throw error("a string without its end")
  }

  /// Writes what a string with escapes stands for. There must be room for as many bytes as the string has.
  /// - Returns: how many bytes were written.
  func unescape(_ span: Span, into out: UnsafeMutableRawPointer) throws(DecodingError) -> Int {
    let whole = buffer(0, span.end)
    var from = span.start
    var written = 0
    while from < span.end {
      let next = whole[from]
      if next == 0x5c {
        for unit in UTF8.encode(try JSONEscapes.read(whole, at: &from)) ?? UTF8.encodedReplacementCharacter {
          out.storeBytes(of: unit, toByteOffset: written, as: UInt8.self)
          written += 1
        }
      } else {
        out.storeBytes(of: next, toByteOffset: written, as: UInt8.self)
        written += 1
        from += 1
      }
    }
    return written
  }

  /// Checks the escapes of a string that nobody wants.
  @inline(never)
  func checkEscapes(_ span: Span) throws(DecodingError) {
    let whole = buffer(0, span.end)
    var from = span.start
    while from < span.end {
      if whole[from] == 0x5c { _ = try JSONEscapes.read(whole, at: &from) } else { from += 1 }
    }
  }

  // MARK: Numbers and words

  /// Takes the digits at the cursor: at least one. The value is only right for up to 19.
  @inline(__always)
  private mutating func digits() throws(DecodingError) -> UInt64 {
    let start = at
    var value: UInt64 = 0
    while at < end {
      let digit = byte(at) &- 0x30
      guard digit < 10 else { break }
      value = value &* 10 &+ UInt64(digit)
      at &+= 1
    }
    guard at > start else { throw error("a digit is expected") }
    return value
  }

  /// Takes a whole number of up to 64 bits and a sign.
  /// - Throws: for anything else, such as a number with a fraction or an exponent.
  @inline(__always)
  mutating func integer() throws(DecodingError) -> (magnitude: UInt64, isNegative: Bool) {
    let isNegative = peek() == UInt8(ascii: "-")
    if isNegative { at &+= 1 }
    let start = at
    var value = try digits()
    if at &- start > 1, byte(start) == 0x30 || at &- start > 19 { value = try long(start) }
    if at < end {
      let next = byte(at)
      if next == UInt8(ascii: ".") || next | 0x20 == UInt8(ascii: "e") {
        at = start
        throw error("a whole number is expected")
      }
    }
    return (value, isNegative)
  }

  /// A number of many digits once more, or one that begins with 0.
  @inline(never)
  private func long(_ start: Int) throws(DecodingError) -> UInt64 {
    guard byte(start) != 0x30 else { throw error("a number begins with 0") }
    var value: UInt64 = 0
    for position in start..<at {
      let (ten, first) = value.multipliedReportingOverflow(by: 10)
      let (sum, second) = ten.addingReportingOverflow(UInt64(byte(position) &- 0x30))
      guard !first, !second else { throw error("a whole number of more than 64 bits") }
      value = sum
    }
    return value
  }

  /// Passes over a number.
  mutating func skipNumber() throws(DecodingError) {
    if byte(at) == UInt8(ascii: "-") { at += 1 }
    let first = at
    _ = try digits()
    guard byte(first) != 0x30 || at == first + 1 else { throw error("a number begins with 0") }
    if at < end, byte(at) == UInt8(ascii: ".") {
      at += 1
      _ = try digits()
    }
    if at < end, byte(at) | 0x20 == UInt8(ascii: "e") {
      at += 1
      if at < end, byte(at) == UInt8(ascii: "+") || byte(at) == UInt8(ascii: "-") { at += 1 }
      _ = try digits()
    }
  }

  /// Takes a number, rounded to the nearest.
  /// - Throws: when it is too large for a Double.
  mutating func double() throws(DecodingError) -> Double {
    let next = peek()
    guard next == UInt8(ascii: "-") || next &- 0x30 < 10 else { throw error("a number is expected") }
    let start = at
    try skipNumber()
    guard let value = DecimalNumber.double(buffer(start, at)) else { throw error("the number is too large") }
    return value
  }

  /// Takes a word whose first letter is at the cursor.
  mutating func word(_ word: StaticString) throws(DecodingError) {
    let count = word.utf8CodeUnitCount
    let matches = word.withUTF8Buffer { count <= end - at && buffer(at, at + count).elementsEqual($0) }
    guard matches else { throw error("unknown word") }
    at += count
  }

  // MARK: Values

  /// Passes over the name of a member and its colon.
  private mutating func skipName() throws(DecodingError) {
    guard peek() == 0x22 else { throw error("a name in quotes is expected") }
    let span = try string()
    if span.hasEscapes { try checkEscapes(span) }
    try colon()
  }

  /// Takes the colon behind a name.
  mutating func colon() throws(DecodingError) {
    guard peek() == UInt8(ascii: ":") else { throw error("a colon is expected") }
    at += 1
  }

  /// Passes over the value at the cursor, which is `outside` objects and arrays deep.
  mutating func skipValue(depth outside: Int) throws(DecodingError) {
    var depth = outside
    // A bit for each level: whether it is an object.
    var objects: UInt64 = 0
    while true {
      guard depth < JSONValue.greatestDepth else { throw error("nested deeper than \(JSONValue.greatestDepth)") }
      let first = peek()
      switch first {
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        at += 1
        let isObject = first == UInt8(ascii: "{")
        if peek() == first + 2 {
          at += 1
          break
        }
        objects = isObject ? objects | 1 << UInt64(depth) : objects & ~(1 << UInt64(depth))
        depth += 1
        if isObject { try skipName() }
        continue
      case 0x22:
        let span = try string()
        if span.hasEscapes { try checkEscapes(span) }
      case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): try skipNumber()
      case UInt8(ascii: "t"): try word("true")
      case UInt8(ascii: "f"): try word("false")
      case UInt8(ascii: "n"): try word("null")
      case 0 where at >= end: throw error("the text ends too early")
      default: throw error("no value can start with this")
      }
      // A value has ended; and with it what it was the last of.
      while true {
        if depth == outside { return }
        let isObject = objects >> UInt64(depth - 1) & 1 == 1
        let next = peek()
        if next == UInt8(ascii: ",") {
          at += 1
          if isObject { try skipName() }
          break
        }
        guard next == (isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) else {
          throw error("a comma or a bracket is expected")
        }
        at += 1
        depth -= 1
      }
    }
  }
}
