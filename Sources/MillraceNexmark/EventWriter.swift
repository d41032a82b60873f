// EventWriter: a place in raw memory that fields are written to, with the events' random letters.

/// Writes behind `at`; who makes it has checked that there is room.
///
/// Safety: used inside one call only, on memory with room for the largest event.
struct EventWriter {
  private(set) var at: UnsafeMutableRawPointer

  @inline(__always)
  init(_ start: UnsafeMutableRawPointer) { at = start }

  @inline(__always)
  mutating func number<Number: FixedWidthInteger>(_ value: Number) {
    at.storeBytes(of: value.bigEndian, as: Number.self)
    at += MemoryLayout<Number>.size
  }

  @inline(__always)
  mutating func byte(_ value: UInt8) {
    at.storeBytes(of: value, as: UInt8.self)
    at += 1
  }

  @inline(__always)
  mutating func text(_ text: StaticString) {
    at.copyMemory(from: text.utf8Start, byteCount: text.utf8CodeUnitCount)
    at += text.utf8CodeUnitCount
  }

  @inline(__always)
  mutating func copy(_ bytes: UnsafeRawBufferPointer) {
    if let from = bytes.baseAddress { at.copyMemory(from: from, byteCount: bytes.count) }
    at += bytes.count
  }

  /// A number in decimal digits.
  mutating func decimal(_ value: Int64) {
    var rest = value.magnitude
    if value < 0 { byte(UInt8(ascii: "-")) }
    var count = 1
    var power: UInt64 = 10
    while count < 20, rest >= power {
      count += 1
      let (next, overflow) = power.multipliedReportingOverflow(by: 10)
      if overflow { break }
      power = next
    }
    var place = at + count
    at = place
    repeat {
      place -= 1
      let (quotient, digit) = rest.quotientAndRemainder(dividingBy: 10)
      place.storeBytes(of: 48 &+ UInt8(truncatingIfNeeded: digit), as: UInt8.self)
      rest = quotient
    } while rest > 0
  }

  /// `count` random letters.
  @inline(__always)
  mutating func letters(_ count: Int, _ random: inout EventRandom) {
    let end = at + count
    while at + 8 <= end {
      // Eight letters are one store.
      var word: UInt64 = 0
      for place in 0..<8 { word |= UInt64(random.letter()) &<< UInt64(8 &* place) }
      at.storeBytes(of: word.littleEndian, as: UInt64.self)
      at += 8
    }
    while at < end { byte(random.letter()) }
  }

  /// 3 or 4 places, each a letter or, once in 13, an underscore.
  mutating func delimited(_ random: inout EventRandom) {
    for _ in 0..<(3 + random.below(2)) {
      byte(random.below32(13) == 0 ? UInt8(ascii: "_") : random.letter())
    }
  }

  /// Letters that bring an event of `size` bytes near `average`; nothing when it is larger already.
  /// - Returns: how many.
  @inline(__always)
  mutating func extra(size: Int, average: Int, _ random: inout EventRandom) -> Int {
    guard size <= average else { return 0 }
    let wanted = average - size
    let delta = (wanted + 2) / 5
    let count = wanted - delta + (delta > 0 ? Int(random.below(UInt64(2 * delta))) : 0)
    letters(count, &random)
    return count
  }
}
