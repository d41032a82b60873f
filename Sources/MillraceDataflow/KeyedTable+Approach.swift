// KeyedTable+Approach: has the processor fetch what is about to be used, many places at a time.
//
// A lookup in a large table waits for memory twice, once for the slot and once for the entry, some hundred nanoseconds each. The
// places of different keys do not depend on each other, so that one wait is enough for dozens of them: each loop here reads
// places that are all known when it begins, and does nothing with them that the next read would have to wait for.

import MillraceBase

extension KeyedTable {
  /// How many places are read ahead of their use.
  @usableFromInline static var stride: Int { 64 }

  /// Fetches what lookups of `count` keys with these hashes, at most ``stride``, are about to use.
  @usableFromInline @inline(never)
  func approach(_ hashes: UnsafePointer<UInt64>, _ count: Int) {
    let slots = core.pointee.slots
    let mask = core.pointee.mask
    var sum: UInt64 = 0
    for index in 0..<count { sum &+= slots[Int(truncatingIfNeeded: hashes[index]) & mask] }
    core.pointee.ignored = sum
    withUnsafeTemporaryAllocation(of: UInt32.self, capacity: KeyedTable.stride) { numbers in
      var found = 0
      for index in 0..<count {
        let tag = UInt32(truncatingIfNeeded: hashes[index])
        var at = Int(tag) & mask
        // The first one with the tag is the key's, unless it is one in four thousand million.
        while slots[at] != 0, UInt32(truncatingIfNeeded: slots[at] >> 32) != tag { at = (at &+ 1) & mask }
        guard slots[at] != 0 else { continue }
        numbers[found] = UInt32(truncatingIfNeeded: slots[at]) &- 1
        found += 1
      }
      approachEntries(UnsafePointer(numbers.baseAddress.unsafelyUnwrapped), found)
    }
  }

  /// Fetches the entries that changed, from place `from` of the list on, ``stride`` of them.
  @usableFromInline @inline(never)
  func approachChanges(from: Int) {
    approachEntries(core.pointee.dirty + from, min(KeyedTable.stride, core.pointee.dirtyCount - from))
  }

  /// Fetches entries, and what their bits point to.
  private func approachEntries(_ numbers: UnsafePointer<UInt32>, _ count: Int) {
    let entries = core.pointee.entries
    var sum: UInt64 = 0
    for index in 0..<count { sum &+= entries[Int(numbers[index])].value }
    if codec is any PlaceCodec {
      for index in 0..<count where entries[Int(numbers[index])].flags & KeyedTable.live != 0 {
        guard let place = UnsafePointer<UInt64>(bitPattern: UInt(entries[Int(numbers[index])].value)) else { continue }
        // The second word of an object's header is there whatever it holds.
        sum &+= place[1]
      }
    }
    core.pointee.ignored &+= sum
  }
}
