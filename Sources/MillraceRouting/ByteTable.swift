// ByteTable: an open-addressing table from byte strings to small numbers, looked up without making a string.
//
// Linear probing, at most three quarters full; removal shifts back, so there are no tombstones. Keys lie one after the
// other in one array, which is packed when half of it belongs to keys that are gone.

import Glibc
import MillraceBase

struct ByteTable {
  private struct Slot {
    var hash: UInt64 = 0
    var start = 0
    /// −1 where the slot is empty.
    var length: Int32 = -1
    var value: Int32 = 0
  }

  private var slots: [Slot] = []
  private var keys: [UInt8] = []
  private var unused = 0
  private(set) var count = 0

  /// The value of `key`, −1 when there is none.
  func find(_ key: UnsafeRawBufferPointer) -> Int32 {
    if count == 0 { return -1 }
    let at = position(of: key, hash: Hashing.stable(key))
    return slots[at].length < 0 ? -1 : slots[at].value
  }

  /// The value of a name, −1 when there is none.
  func find(_ name: String) -> Int32 {
    if count == 0 { return -1 }
    var name = name
    return name.withUTF8 { find(UnsafeRawBufferPointer($0)) }
  }

  /// Gives `key` a value of at least 0.
  mutating func set(_ key: UnsafeRawBufferPointer, _ value: Int32) {
    if 4 * (count + 1) > 3 * slots.count { resize(max(8, 2 * slots.count)) }
    let hash = Hashing.stable(key)
    let at = position(of: key, hash: hash)
    if slots[at].length >= 0 {
      slots[at].value = value
      return
    }
    slots[at] = Slot(hash: hash, start: keys.count, length: Int32(key.count), value: value)
    keys.append(contentsOf: key)
    count += 1
  }

  mutating func set(_ name: String, _ value: Int32) {
    var name = name
    name.withUTF8 { set(UnsafeRawBufferPointer($0), value) }
  }

  /// Takes `key` out.
  mutating func remove(_ key: UnsafeRawBufferPointer) {
    if count == 0 { return }
    var hole = position(of: key, hash: Hashing.stable(key))
    guard slots[hole].length >= 0 else { return }
    unused += Int(slots[hole].length)
    count -= 1
    let mask = slots.count - 1
    var at = (hole + 1) & mask
    while slots[at].length >= 0 {
      // It may move back unless its own place lies between the hole and it.
      let home = Int(truncatingIfNeeded: slots[at].hash) & mask
      if (at - home) & mask >= (at - hole) & mask {
        slots[hole] = slots[at]
        hole = at
      }
      at = (at + 1) & mask
    }
    slots[hole] = Slot()
    if count == 0 {
      slots = []
      keys = []
      unused = 0
    } else if unused > 256 && 2 * unused > keys.count {
      resize(slots.count)
    }
  }

  mutating func remove(_ name: String) {
    var name = name
    name.withUTF8 { remove(UnsafeRawBufferPointer($0)) }
  }

  /// Where `key` is, or the empty slot where it would be.
  private func position(of key: UnsafeRawBufferPointer, hash: UInt64) -> Int {
    let mask = slots.count - 1
    var at = Int(truncatingIfNeeded: hash) & mask
    while slots[at].length >= 0 {
      if slots[at].hash == hash && holds(slots[at], key) { return at }
      at = (at + 1) & mask
    }
    return at
  }

  private func holds(_ slot: Slot, _ key: UnsafeRawBufferPointer) -> Bool {
    if Int(slot.length) != key.count { return false }
    guard let other = key.baseAddress, key.count > 0 else { return true }
    return keys.withUnsafeBytes { memcmp($0.baseAddress! + slot.start, other, key.count) == 0 }
  }

  private mutating func resize(_ capacity: Int) {
    let old = slots
    let oldKeys = keys
    slots = [Slot](repeating: Slot(), count: capacity)
    keys = []
    keys.reserveCapacity(oldKeys.count - unused)
    unused = 0
    for var slot in old where slot.length >= 0 {
      let range = slot.start..<slot.start + Int(slot.length)
      slot.start = keys.count
      keys.append(contentsOf: oldKeys[range])
      var at = Int(truncatingIfNeeded: slot.hash) & (capacity - 1)
      while slots[at].length >= 0 { at = (at + 1) & (capacity - 1) }
      slots[at] = slot
    }
  }
}
