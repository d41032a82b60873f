// ElementStore+Spill: all elements of a key go into a file together, and come back together.
//
// So the elements of a key are in memory, and in its group, or in files, and there is no group. While the state log is read there are no
// groups: elements go one by one then, and once it was read all the others follow.

import MillraceBase

extension ElementStore {
  /// About the bytes of memory that a group takes beside its elements, and an element beside its entry.
  private static let groupSize = 160
  private static let placeSize = 16

  func allowSpilling(into memory: StateMemory) {
    let (table, ranking) = (table, ranking)
    let due: ((Int) -> Int64)? =
      expires ? { ElementKey.split(table.key(of: $0)).flatMap { ranking.rank($0.element) } ?? .max } : nil
    table.allowSpilling(
      into: memory,
      owner: SpillOwner(
        due: due, isGrouped: true, cameBack: { [unowned self] in if isRecovered { returned.append(UInt32($0)) } }))
  }

  var memorySize: Int {
    table.memorySize + index.memorySize + index.count * ElementStore.groupSize
      + (isRecovered ? ElementStore.placeSize * table.countInMemory : 0)
  }

  var fileSize: Int { table.fileSize }

  func spill(_ size: Int) throws(JobError) -> Int {
    guard isRecovered else { return try table.spill(size) }
    let each = table.averageSize + ElementStore.placeSize
    var chosen: [Int] = []
    var entries: [UInt32] = []
    let most = min(size, KeyedTable.spillSize)
    // Twice around, because the first time may find that all were used.
    var left = 2 * groups.count
    while entries.count * each + chosen.count * ElementStore.groupSize < most, left > 0 {
      left -= 1
      if hand >= groups.count { hand = 0 }
      let group = groups[hand]
      if group.entry >= 0 {
        if group.isRecent {
          group.isRecent = false
        } else {
          group.isRecent = true
          chosen.append(hand)
          entries += group.elements[group.first...].map(\.entry)
        }
      }
      hand += 1
    }
    let given = try table.spill(entries: entries)
    guard given > 0 else { return 0 }
    for number in chosen {
      index.remove(entry: groups[number].entry)
      groups[number] = Group()
      free.append(number)
    }
    index.forgetChanges()
    return given + entries.count * ElementStore.placeSize + chosen.count * ElementStore.groupSize
  }

  /// Brings back the elements of a key that has no group.
  /// - Returns: its group; nil without elements.
  func bringBack(_ key: UnsafeRawBufferPointer) -> Group? {
    table.fetchGroup(key)
    return gather(key)
  }

  /// Makes a group of the elements of `key` that have come back.
  @discardableResult
  func gather(_ key: UnsafeRawBufferPointer) -> Group? {
    guard !returned.isEmpty else { return nil }
    let group = makeGroup(key)
    for entry in returned {
      guard let rank = ElementKey.split(table.key(of: Int(entry))).flatMap({ ranking.rank($0.element) }) else {
        continue
      }
      group.elements.append(Element(rank: rank, entry: entry))
    }
    returned.removeAll(keepingCapacity: true)
    sort(group)
    return group
  }

  /// Puts the elements into order, and sees to it that the heap knows when the first is due.
  func sort(_ group: Group) {
    group.elements.sort { $0.rank != $1.rank ? $0.rank < $1.rank : precedes($0, $1) }
    if expires { arm(group) }
  }
}
