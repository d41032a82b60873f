// StateTable+Spill: values go into files one by one, elements with all others of their key.
//
// So the elements of a key are in memory, and in its list, or in files, and there is no list. While the state log is read there are no
// lists: elements go one by one then, and once it was read all the others follow.

import MillraceBase

extension StateTable {
  func allowSpilling(into memory: StateMemory) {
    // What all workers have is little.
    guard !isShared else { return }
    let table = table
    let due = lifetime.map { lifetime in
      { (number: Int) in Cell(stateBits: table.bits(of: number)).content.written.adding(lifetime) }
    }
    table.allowSpilling(
      into: memory,
      owner: SpillOwner(due: due, isGrouped: hasElements, cameBack: { [unowned self] in cameBack($0) }))
  }

  private func cameBack(_ number: Int) {
    guard isRecovered else { return }
    if hasElements, let key = ElementKey.split(table.key(of: number))?.key { lists.add(number, of: key) }
    arm(number)
  }

  /// Sees to it that the elements of a key are in memory.
  func bringBack(_ key: UnsafeRawBufferPointer) {
    if hasElements, table.hasSpilled, !lists.has(key) { table.fetchGroup(key) }
  }

  var memorySize: Int { table.memorySize + (hasElements ? lists.memorySize : 0) }

  var fileSize: Int { table.fileSize }

  func spill(_ size: Int) throws(JobError) -> Int {
    guard hasElements, isRecovered else { return try table.spill(size) }
    let cold = lists.cold(min(size, KeyedTable.spillSize) / table.averageSize + 1)
    let given = try table.spill(entries: cold.entries)
    if given > 0 { lists.forget(cold.lists) }
    return given
  }
}
