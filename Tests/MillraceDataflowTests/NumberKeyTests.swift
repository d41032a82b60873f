// NumberKeyTests: numbers as keys.

import MillraceBase
import MillraceDataflow
import Testing

private func bytes(_ key: some StreamKey) -> [UInt8] {
  var copy: [UInt8] = []
  key.withBytes { copy = Array($0) }
  return copy
}

@Test("a number as a key has the same bytes when it is read back, and bytes that sort as the numbers do")
func numbersAsKeys() {
  let numbers: [Int64] = [0, 1, 255, 256, 1_000_000_007, .max]
  for number in numbers + [-1, .min] {
    let key = bytes(NumberKey(number))
    #expect(key.count == 8)
    #expect(key.withUnsafeBytes { NumberKey(keyBytes: $0) } == NumberKey(number))
    let pair = bytes(NumberPairKey(number, 7))
    #expect(pair == key + bytes(NumberKey(7)))
    #expect(pair.withUnsafeBytes { NumberPairKey(keyBytes: $0) } == NumberPairKey(number, 7))
  }
  let keys = numbers.map { bytes(NumberKey($0)) }
  for (low, high) in zip(keys, keys.dropFirst()) { #expect(low.lexicographicallyPrecedes(high)) }
}

@Test("bytes of a length that no number has read as 0, and nothing is read behind them")
func keysOfAnotherLength() {
  for count in [0, 7, 9, 15, 17] {
    let other = [UInt8](repeating: 1, count: count)
    #expect(other.withUnsafeBytes { NumberKey(keyBytes: $0) } == NumberKey(0))
    #expect(other.withUnsafeBytes { NumberPairKey(keyBytes: $0) } == NumberPairKey(0, 0))
  }
}
