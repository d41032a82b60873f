// KeyMap: the newest offset of each key, by a 128-bit hash of the key, within a bound on memory.

import MillraceBase
import MillraceModel

/// Hashes keys to 128 bits, with secrets that differ from one process to the next.
///
/// Two keys with the same hash would be taken for one, and the older record lost. With 128 bits that does not happen by chance
/// (2 in 10²⁶ for a hundred million keys), and the secrets keep anybody from making it happen.
struct KeyHasher: Sendable {
  private let first: (UInt64, UInt64)
  private let second: (UInt64, UInt64)

  init(using random: inout some RandomNumberGenerator) {
    // Odd multipliers lose no bits.
    first = (random.next(), random.next() | 1)
    second = (random.next(), random.next() | 1)
  }

  func hash(_ key: UnsafeRawBufferPointer) -> (UInt64, UInt64) {
    var a = first.0 ^ UInt64(truncatingIfNeeded: key.count)
    var b = second.0 &+ UInt64(truncatingIfNeeded: key.count)
    var at = 0
    while at < key.count {
      var word: UInt64 = 0
      if at + 8 <= key.count {
        word = UInt64(littleEndian: key.loadUnaligned(fromByteOffset: at, as: UInt64.self))
      } else {
        for index in at..<key.count { word |= UInt64(key[index]) << UInt64(8 * (index - at)) }
      }
      a = KeyHasher.fold(a ^ word, first.1) &+ word
      b = KeyHasher.fold(b &+ word, second.1) ^ word
      at += 8
    }
    return (
      Hashing.mix(KeyHasher.fold(a, first.1) ^ first.0), Hashing.mix(KeyHasher.fold(b, second.1) ^ second.0)
    )
  }

  @inline(__always) private static func fold(_ value: UInt64, _ secret: UInt64) -> UInt64 {
    let product = value.multipliedFullWidth(by: secret)
    return product.high ^ product.low
  }
}

/// Open addressing over 24 bytes a key; grows up to its limit and then takes no new keys.
struct KeyMap {
  private struct Slot {
    var high: UInt64 = 0
    var low: UInt64 = 0
    /// One more than the offset; 0 stands for an empty slot.
    var next: Int64 = 0
  }

  static let bytesPerSlot = 24

  private var slots: [Slot]
  private(set) var count = 0
  private let mostSlots: Int

  /// A map of at most `limit` bytes (and half as much again while it grows).
  init(limit: Int) {
    var most = 16
    while most * 2 * KeyMap.bytesPerSlot <= limit { most *= 2 }
    mostSlots = most
    slots = Array(repeating: Slot(), count: min(1024, most))
  }

  /// Most keys that fit.
  var capacity: Int { mostSlots / 4 * 3 }

  private func index(_ hash: (UInt64, UInt64)) -> Int {
    let mask = slots.count - 1
    var index = Int(truncatingIfNeeded: hash.1) & mask
    while slots[index].next != 0, slots[index].high != hash.0 || slots[index].low != hash.1 {
      index = (index + 1) & mask
    }
    return index
  }

  /// Notes that a key has a record at `offset`; the highest offset stays.
  /// - Returns: false when the map is full and does not know the key.
  mutating func insert(_ hash: (UInt64, UInt64), offset: Offset) -> Bool {
    var at = index(hash)
    if slots[at].next == 0 {
      if count >= slots.count / 4 * 3 {
        guard slots.count < mostSlots else { return false }
        grow()
        at = index(hash)
      }
      slots[at].high = hash.0
      slots[at].low = hash.1
      count += 1
    }
    slots[at].next = max(slots[at].next, offset + 1)
    return true
  }

  /// The newest offset of a key, nil when it is not known.
  func newest(_ hash: (UInt64, UInt64)) -> Offset? {
    let next = slots[index(hash)].next
    return next == 0 ? nil : next - 1
  }

  private mutating func grow() {
    let old = slots
    slots = Array(repeating: Slot(), count: old.count * 2)
    for slot in old where slot.next != 0 { slots[index((slot.high, slot.low))] = slot }
  }
}
