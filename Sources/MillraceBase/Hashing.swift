// Hashing: hash functions whose results are part of formats and protocols, so they never change.

/// Stable hashes. Swift's `Hasher` is seeded per process and must not reach a disk, a partition choice or a key group.
public enum Hashing {
  /// splitmix64's finaliser. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
  @inlinable
  public static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// Millrace's stable 64-bit hash of bytes: eight little-endian bytes a round, multiplied full width and folded, the
  /// length mixed into the seed. It decides key groups, so its results are fixed (golden values in the tests).
  @inlinable
  public static func stable(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    let k0: UInt64 = 0xa076_1d64_78bd_642f
    let k1: UInt64 = 0xe703_7ed1_a0b4_28db
    var state = k0 ^ UInt64(truncatingIfNeeded: bytes.count)
    let start = bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 16)!
    var at = 0
    while at &+ 8 <= bytes.count {
      let word = UInt64(littleEndian: start.loadUnaligned(fromByteOffset: at, as: UInt64.self))
      let product = (state ^ word).multipliedFullWidth(by: k1)
      state = product.high ^ product.low ^ word
      at &+= 8
    }
    var tail: UInt64 = 0
    var shift: UInt64 = 0
    while at < bytes.count {
      tail |= UInt64(start.load(fromByteOffset: at, as: UInt8.self)) &<< shift
      shift &+= 8
      at &+= 1
    }
    let product = (state ^ tail).multipliedFullWidth(by: k1)
    return mix(product.high ^ product.low ^ k0)
  }

  /// Kafka's murmur2 of a key (seed 0x9747b28c), as its default partitioner uses it. Source: Kafka protocol clients.
  public static func murmur2(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    let m: UInt32 = 0x5bd1_e995
    var hash: UInt32 = 0x9747_b28c ^ UInt32(truncatingIfNeeded: bytes.count)
    var at = 0
    while at + 4 <= bytes.count {
      var word = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
      word = word &* m
      word ^= word >> 24
      word = word &* m
      hash = hash &* m
      hash ^= word
      at += 4
    }
    let rest = bytes.count - at
    if rest > 0 {
      if rest >= 3 { hash ^= UInt32(bytes[at + 2]) << 16 }
      if rest >= 2 { hash ^= UInt32(bytes[at + 1]) << 8 }
      hash ^= UInt32(bytes[at])
      hash = hash &* m
    }
    hash ^= hash >> 13
    hash = hash &* m
    hash ^= hash >> 15
    return hash
  }

  /// The partition that Kafka's default partitioner gives a key: murmur2, made positive, modulo the count.
  public static func kafkaPartition(key: UnsafeRawBufferPointer, partitions: Int) -> Int {
    Int(murmur2(key) & 0x7fff_ffff) % partitions
  }
}
