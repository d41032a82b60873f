// KeyedTable+Figures: about how large a table's state is.

import MillraceBase

extension KeyedTable {
  /// Entries that are looked at.
  private static let sample = 64

  /// About the bytes that keys and values of the table have in the state log: of at most 64 entries exactly, else from what as many have that
  /// lie evenly among all in memory. Where a table has many numbers that are free, the sample is smaller.
  /// - Complexity: O(1), or what encoding 64 values takes.
  var stateBytes: Int {
    let all = core.pointee.entryCount
    let count = self.count
    guard count > 0 else { return 0 }
    let stride = count == all && all <= KeyedTable.sample ? 1 : max(1, all / KeyedTable.sample)
    var seen = 0
    var bytes = 0
    var number = 0
    while number < all {
      if isLive(number) {
        seen += 1
        bytes += keyOffset + Int(core.pointee.entries[number].length) + size(ofValue: bits(of: number))
      }
      number += stride
    }
    if seen == 0 { return fileSize > 0 ? fileSize : count * (keyOffset + 16) }
    return seen == count ? bytes : bytes * count / seen
  }

  private func size(ofValue bits: UInt64) -> Int {
    guard let codec else { return MemoryLayout<UInt64>.size }
    var encoded = ByteWriter(capacity: 64)
    codec.write(bits, into: &encoded)
    return encoded.finishJoined().count
  }
}
