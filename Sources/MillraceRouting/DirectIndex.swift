// DirectIndex: the bindings of a direct exchange by their key.

import MillraceBase

struct DirectIndex {
  private var keys = ByteTable()
  private var lists: [[Int32]] = []
  private var free: [Int32] = []

  mutating func insert(_ key: UnsafeRawBufferPointer, _ binding: Int32) {
    var list = keys.find(key)
    if list < 0 {
      if let slot = free.popLast() {
        list = slot
      } else {
        lists.append([])
        list = Int32(lists.count - 1)
      }
      keys.set(key, list)
    }
    lists[Int(list)].append(binding)
  }

  mutating func remove(_ key: UnsafeRawBufferPointer, _ binding: Int32) {
    let list = keys.find(key)
    guard list >= 0, let at = lists[Int(list)].firstIndex(of: binding) else { return }
    lists[Int(list)].remove(at: at)
    if lists[Int(list)].isEmpty {
      keys.remove(key)
      lists[Int(list)] = []
      free.append(list)
    }
  }

  /// Appends the bindings of exactly this key, in the order of their creation.
  /// Mutating only so that it is reached in place, without copying what holds it.
  mutating func match(_ key: UnsafeRawBufferPointer, into matched: inout [Int32]) {
    let list = keys.find(key)
    if list >= 0 { matched.append(contentsOf: lists[Int(list)]) }
  }
}
