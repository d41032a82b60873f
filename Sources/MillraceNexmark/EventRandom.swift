// EventRandom: the random numbers of one event, drawn as nexmark-rs draws them, so that its events are ours.
//
// The generator is xoshiro256++ (Blackman and Vigna, 2021). A seed, the event's number, is spread over its 32 bytes of state by
// eight steps of a PCG32 whose state begins as the seed. Numbers below a limit are the upper half of a product (Lemire, 2019);
// products whose lower half lies beyond a zone, which would favour some numbers, are drawn again. Which zone, and how many
// bits are multiplied, differs with the type that Rust's `rand` 0.8 was asked for; hence the three functions.

/// Draws for one event.
struct EventRandom {
  private var s0: UInt64
  private var s1: UInt64
  private var s2: UInt64
  private var s3: UInt64

  /// The generator that `seed` names.
  @inline(__always)
  init(seed: UInt64) {
    var state = seed
    func word() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 11_634_580_027_462_260_723
      let mixed = UInt32(truncatingIfNeeded: ((state >> 18) ^ state) >> 27)
      let turn = UInt32(truncatingIfNeeded: state >> 59)
      return UInt64((mixed &>> turn) | (mixed &<< (0 &- turn)))
    }
    func pair() -> UInt64 {
      let low = word()
      return low | word() << 32
    }
    s0 = pair()
    s1 = pair()
    s2 = pair()
    s3 = pair()
  }

  /// The next 64 bits.
  @inline(__always)
  mutating func next64() -> UInt64 {
    let sum = s0 &+ s3
    let result = ((sum &<< 23) | (sum &>> 41)) &+ s0
    let shifted = s1 &<< 17
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= shifted
    s3 = (s3 &<< 45) | (s3 &>> 19)
    return result
  }

  @inline(__always)
  private mutating func next32() -> UInt32 { UInt32(truncatingIfNeeded: next64() &>> 32) }

  /// A number below `limit`, drawn as a 64-bit one.
  @inline(__always)
  mutating func below(_ limit: UInt64) -> UInt64 {
    let zone = (limit &<< UInt64(limit.leadingZeroBitCount)) &- 1
    while true {
      let product = next64().multipliedFullWidth(by: limit)
      if product.low <= zone { return product.high }
    }
  }

  /// A number below `limit`, drawn as a 32-bit one.
  @inline(__always)
  mutating func below32(_ limit: UInt32) -> Int {
    let zone = (limit &<< UInt32(limit.leadingZeroBitCount)) &- 1
    while true {
      let product = UInt64(next32()) &* UInt64(limit)
      if UInt32(truncatingIfNeeded: product) <= zone { return Int(product &>> 32) }
    }
  }

  /// A letter from a to z, drawn as an 8-bit number.
  @inline(__always)
  mutating func letter() -> UInt8 {
    let zone = UInt32.max - (UInt32.max - 26 + 1) % 26
    while true {
      let product = UInt64(next32()) &* 26
      if UInt32(truncatingIfNeeded: product) <= zone { return 97 &+ UInt8(truncatingIfNeeded: product &>> 32) }
    }
  }

  /// A number from 0 up to 1, with 24 bits.
  @inline(__always)
  mutating func float() -> Float { Float(next32() &>> 8) * 0x1p-24 }
}
