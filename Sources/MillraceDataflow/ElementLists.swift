// ElementLists: which entries of a table of elements belong to each key, in the order of their bytes.

import MillraceBase

/// The entries of each key. In no state log: it follows from the table.
///
/// Safety: `@unchecked Sendable` because it is used by the job's worker thread only.
final class ElementLists: @unchecked Sendable {
  private struct List {
    /// Numbers of entries; ``hole`` where one was taken away, but never at the end.
    var entries: [UInt32] = []
    var holes = 0
    var isSorted = true
    /// The number of the key's entry in the index; −1 when the list is free.
    var owner = -1
    /// Used since somebody last looked for what to put into a file.
    var isRecent = true
  }

  private static let hole = UInt32.max

  private let table: KeyedTable
  /// The number of each key's list.
  private let index = KeyedTable(operatorID: 0)
  private var lists: [List] = []
  private var free: [Int] = []
  /// The next list that is looked at for a place in a file.
  private var hand = 0
  /// Of each entry of the table: its list, and its place in there.
  private var places: [(list: Int, at: Int)] = []

  init(_ table: KeyedTable) { self.table = table }

  private func list(_ key: UnsafeRawBufferPointer) -> Int? {
    guard let number = index.value(key) else { return nil }
    lists[Int(number)].isRecent = true
    return Int(number)
  }

  /// Whether `key` has entries.
  func has(_ key: UnsafeRawBufferPointer) -> Bool { list(key) != nil }

  /// About the bytes of memory that the lists take.
  var memorySize: Int { index.memorySize + index.count * MemoryLayout<List>.stride + places.count * 20 }

  /// Lists of keys that were not used lately, with about `count` entries together.
  func cold(_ count: Int) -> (lists: [Int], entries: [UInt32]) {
    var found: (lists: [Int], entries: [UInt32]) = ([], [])
    // Twice around, because the first time may find that all were used.
    var left = 2 * lists.count
    while found.entries.count < count, left > 0 {
      left -= 1
      if hand >= lists.count { hand = 0 }
      if lists[hand].owner >= 0 {
        if !lists[hand].isRecent {
          found.lists.append(hand)
          found.entries += lists[hand].entries.lazy.filter { $0 != ElementLists.hole }
        }
        lists[hand].isRecent.toggle()
      }
      hand += 1
    }
    return found
  }

  /// Forgets lists whose entries have gone into a file.
  func forget(_ gone: [Int]) {
    for list in gone {
      index.remove(entry: lists[list].owner)
      lists[list] = List()
      free.append(list)
    }
    index.forgetChanges()
  }

  /// Adds an entry of `key`.
  func add(_ number: Int, of key: UnsafeRawBufferPointer) {
    let owner = index.changeEntry(key, Hashing.stable(key)) {
      if let known = self.free.popLast() { return UInt64(known) }
      self.lists.append(List())
      return UInt64(self.lists.count - 1)
    }
    let list = Int(index.bits(of: owner))
    lists[list].owner = owner
    if let last = lists[list].entries.last, !isBelow(last, UInt32(number)) { lists[list].isSorted = false }
    while places.count <= number { places.append((-1, -1)) }
    places[number] = (list, lists[list].entries.count)
    lists[list].entries.append(UInt32(number))
  }

  /// Takes an entry out. It must still be in the table.
  func remove(_ number: Int) {
    let (list, at) = places[number]
    lists[list].entries[at] = ElementLists.hole
    lists[list].holes += 1
    while lists[list].entries.last == ElementLists.hole {
      lists[list].entries.removeLast()
      lists[list].holes -= 1
    }
    if lists[list].entries.isEmpty {
      index.remove(entry: lists[list].owner)
      lists[list] = List()
      free.append(list)
    } else if lists[list].holes > 16, lists[list].holes * 2 > lists[list].entries.count {
      close(list)
    }
  }

  /// How many entries `key` has.
  func count(_ key: UnsafeRawBufferPointer) -> Int { list(key).map { lists[$0].entries.count - lists[$0].holes } ?? 0 }

  /// The entries of `key`, by their bytes.
  func entries(_ key: UnsafeRawBufferPointer) -> [Int] {
    guard let list = list(key) else { return [] }
    sort(list)
    return lists[list].entries.compactMap { $0 == ElementLists.hole ? nil : Int($0) }
  }

  /// The entry of `key` with the highest bytes.
  func last(_ key: UnsafeRawBufferPointer) -> Int? {
    guard let list = list(key) else { return nil }
    sort(list)
    return lists[list].entries.last.map { Int($0) }
  }

  /// Gives back what keys without entries took.
  func forgetChanges() { index.forgetChanges() }

  private func isBelow(_ left: UInt32, _ right: UInt32) -> Bool {
    table.key(of: Int(left)).lexicographicallyPrecedes(table.key(of: Int(right)))
  }

  private func sort(_ list: Int) {
    guard !lists[list].isSorted else { return }
    lists[list].entries.removeAll { $0 == ElementLists.hole }
    lists[list].entries.sort(by: isBelow)
    lists[list].isSorted = true
    close(list)
  }

  /// Closes the holes.
  private func close(_ list: Int) {
    lists[list].entries.removeAll { $0 == ElementLists.hole }
    lists[list].holes = 0
    for (at, entry) in lists[list].entries.enumerated() { places[Int(entry)] = (list, at) }
  }
}
