// KeyFilter: which keys are certainly not in a segment of state.

import MillraceBase

/// A Bloom filter whose bits for a key lie in one word, so that a question costs one place of memory. About one key in a
/// hundred that is not there is said to be there.
struct KeyFilter {
  /// Bits of the filter for each key.
  static let bitsPerKey = 12
  private var words: [UInt64]

  /// A filter for up to `count` keys.
  init(count: Int) {
    words = [UInt64](repeating: 0, count: max(1, (count * KeyFilter.bitsPerKey + 63) / 64))
  }

  /// Bytes of memory.
  var size: Int { 8 * words.count }

  /// Notes a key by its ``Hashing/stable(_:)``.
  mutating func insert(_ hash: UInt64) {
    let (word, bits) = place(hash)
    words[word] |= bits
  }

  /// False when the key was not noted.
  func mayContain(_ hash: UInt64) -> Bool {
    let (word, bits) = place(hash)
    return words[word] & bits == bits
  }

  /// The word decides by the highest bits of a mixed hash, and four bits in it by the lowest.
  private func place(_ hash: UInt64) -> (word: Int, bits: UInt64) {
    let mixed = Hashing.mix(hash)
    let word = Int(mixed.multipliedFullWidth(by: UInt64(words.count)).high)
    let one: UInt64 = 1
    let bits = one << (mixed & 63) | one << (mixed >> 6 & 63) | one << (mixed >> 12 & 63) | one << (mixed >> 18 & 63)
    return (word, bits)
  }
}

/// A bit for each of so many entries.
struct EntryBits {
  private var words: [UInt64]

  /// None is set.
  init(count: Int) { words = [UInt64](repeating: 0, count: (count + 63) / 64) }

  /// Bytes of memory.
  var size: Int { 8 * words.count }

  subscript(_ index: Int) -> Bool {
    get { words[index >> 6] >> UInt64(index & 63) & 1 != 0 }
    set {
      let bit: UInt64 = 1 << UInt64(index & 63)
      if newValue { words[index >> 6] |= bit } else { words[index >> 6] &= ~bit }
    }
  }

  /// Adds an entry behind those that are there.
  mutating func append(_ value: Bool, at index: Int) {
    if index >> 6 == words.count { words.append(0) }
    self[index] = value
  }

  /// Clears all.
  mutating func clear() { for index in words.indices { words[index] = 0 } }
}
