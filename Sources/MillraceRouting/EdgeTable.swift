// EdgeTable: the edges of a topic trie: from a node by a word to a node, in one open-addressing table.

import MillraceBase

struct EdgeTable {
  private struct Slot {
    /// Node in the upper half, word in the lower.
    var key: UInt64 = 0
    /// −1 where the slot is empty.
    var child: Int32 = -1
  }

  private var slots: [Slot] = []
  private var count = 0

  private static func key(_ node: Int32, _ word: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: node)) << 32 | UInt64(UInt32(bitPattern: word))
  }

  /// The node that `word` leads to, −1 when there is none.
  func find(_ node: Int32, _ word: Int32) -> Int32 {
    if count == 0 { return -1 }
    return slots[position(of: EdgeTable.key(node, word))].child
  }

  /// Adds an edge that is not there.
  mutating func add(_ node: Int32, _ word: Int32, to child: Int32) {
    if 4 * (count + 1) > 3 * slots.count {
      let old = slots
      slots = [Slot](repeating: Slot(), count: max(8, 2 * old.count))
      for slot in old where slot.child >= 0 { slots[position(of: slot.key)] = slot }
    }
    let key = EdgeTable.key(node, word)
    slots[position(of: key)] = Slot(key: key, child: child)
    count += 1
  }

  /// Takes an edge out that is there.
  mutating func remove(_ node: Int32, _ word: Int32) {
    let mask = slots.count - 1
    var hole = position(of: EdgeTable.key(node, word))
    count -= 1
    var at = (hole + 1) & mask
    while slots[at].child >= 0 {
      let home = Int(truncatingIfNeeded: Hashing.mix(slots[at].key)) & mask
      if (at - home) & mask >= (at - hole) & mask {
        slots[hole] = slots[at]
        hole = at
      }
      at = (at + 1) & mask
    }
    slots[hole] = Slot()
    if count == 0 { slots = [] }
  }

  private func position(of key: UInt64) -> Int {
    let mask = slots.count - 1
    var at = Int(truncatingIfNeeded: Hashing.mix(key)) & mask
    while slots[at].child >= 0 && slots[at].key != key { at = (at + 1) & mask }
    return at
  }
}
