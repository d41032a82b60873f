// SeededRandom: the only source of randomness in tests and simulations; the same seed gives the same run.

import CMillraceSystem

/// xoshiro256**. Source: Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021.
public struct SeededRandom: RandomNumberGenerator, Sendable {
  private var state: (UInt64, UInt64, UInt64, UInt64)

  /// The generator that `seed` names; the state is spread with splitmix64.
  public init(seed: UInt64) {
    var z = seed
    func next() -> UInt64 {
      z &+= 0x9e37_79b9_7f4a_7c15
      return Hashing.mix(z)
    }
    state = (next(), next(), next(), next())
  }

  /// A generator seeded by the operating system.
  public static func system() -> SeededRandom {
    var seed: UInt64 = 0
    let result = withUnsafeMutableBytes(of: &seed) { mr_random_bytes($0.baseAddress, $0.count) }
    precondition(result == 0, "getrandom failed: error \(-result)")
    return SeededRandom(seed: seed)
  }

  /// The next 64 bits.
  public mutating func next() -> UInt64 {
    let product = state.1 &* 5
    let result = ((product << 7) | (product >> 57)) &* 9
    let shifted = state.1 << 17
    state.2 ^= state.0
    state.3 ^= state.1
    state.1 ^= state.2
    state.0 ^= state.3
    state.2 ^= shifted
    state.3 = (state.3 << 45) | (state.3 >> 19)
    return result
  }

  /// True once in `n` calls on average.
  public mutating func oneIn(_ n: Int) -> Bool { Int.random(in: 0..<n, using: &self) == 0 }
}
