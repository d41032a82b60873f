// KeyedTable+Growth: insertion, deletion and the table's memory.

import MillraceBase

extension KeyedTable {
  /// Adds an entry, neither live nor dirty, for a key that is not there.
  @usableFromInline @inline(never)
  func insert(_ key: UnsafeRawBufferPointer, _ hash: UInt64) -> Int {
    if (core.pointee.slotsUsed + 1) * 2 > core.pointee.mask + 1 { growSlots() }
    let memory = arena.allocate(keyOffset + key.count)
    memory.storeBytes(of: operatorID.bigEndian, as: UInt16.self)
    memory.storeBytes(of: kind, toByteOffset: 2, as: UInt8.self)
    let group = kind == StateRecordKind.element ? ElementKey.group(key) : KeyGroup.of(hash: hash)
    memory.storeBytes(of: group, toByteOffset: 3, as: UInt8.self)
    for (index, byte) in scope.enumerated() {
      memory.storeBytes(of: byte, toByteOffset: StateRecordKind.prefixSize + index, as: UInt8.self)
    }
    if let from = key.baseAddress, key.count > 0 {
      (memory + keyOffset).copyMemory(from: from, byteCount: key.count)
    }
    let tag = UInt32(truncatingIfNeeded: hash)
    let entry = Entry(key: memory, length: UInt32(key.count), tag: tag, flags: core.pointee.parity, value: 0)
    let number: Int
    if let reused = free.popLast() {
      number = Int(reused)
      core.pointee.entries[number] = entry
    } else {
      number = core.pointee.entryCount
      precondition(number < KeyedTable.maximumEntries, "a table of \(number) entries is full")
      if number == core.pointee.entryCapacity { growEntries() }
      (core.pointee.entries + number).initialize(to: entry)
      core.pointee.entryCount += 1
    }
    place(number, tag)
    core.pointee.slotsUsed += 1
    return number
  }

  /// Makes the entry live with `initial` when it is not, and notes it as changed.
  @usableFromInline @inline(never)
  func touch(_ number: Int, _ initial: UInt64) {
    let entry = core.pointee.entries + number
    if entry.pointee.flags & KeyedTable.live == 0 {
      entry.pointee.value = initial
      entry.pointee.flags |= KeyedTable.live
      core.pointee.liveCount += 1
    }
    if entry.pointee.flags & KeyedTable.isDirty == 0 {
      entry.pointee.flags |= KeyedTable.isDirty
      note(number)
    }
  }

  /// Puts the entry on the list of changes.
  func note(_ number: Int) {
    if core.pointee.dirtyCount == core.pointee.dirtyCapacity {
      let larger = UnsafeMutablePointer<UInt32>.allocate(capacity: 2 * core.pointee.dirtyCapacity)
      larger.initialize(from: core.pointee.dirty, count: core.pointee.dirtyCount)
      core.pointee.dirty.deallocate()
      core.pointee.dirty = larger
      core.pointee.dirtyCapacity *= 2
    }
    core.pointee.dirty[core.pointee.dirtyCount] = UInt32(number)
    core.pointee.dirtyCount += 1
    changedKeyBytes += Int(core.pointee.entries[number].length)
  }

  /// Takes an entry that is not live out of the slots, shifting back what was pushed behind it, and frees its number.
  func erase(_ number: Int) {
    let slots = core.pointee.slots
    let mask = core.pointee.mask
    var hole = Int(core.pointee.entries[number].tag) & mask
    while Int(truncatingIfNeeded: slots[hole] & 0xffff_ffff) - 1 != number { hole = (hole + 1) & mask }
    var at = hole
    while true {
      at = (at + 1) & mask
      let slot = slots[at]
      if slot == 0 { break }
      let home = Int(truncatingIfNeeded: slot >> 32) & mask
      // The slot may move into the hole only when its home does not lie between the hole and itself.
      if (at - home) & mask >= (at - hole) & mask {
        slots[hole] = slot
        hole = at
      }
    }
    slots[hole] = 0
    core.pointee.slotsUsed -= 1
    deadKeyBytes += keyOffset + Int(core.pointee.entries[number].length)
    core.pointee.entries[number].flags = 0
    free.append(UInt32(number))
  }

  /// Takes all keys out, of a table that does not stand in the state log; its memory is kept unless it was much.
  /// - Parameter isReleasing: what is kept in boxes is let go; otherwise somebody else does that.
  func removeAll(releasing isReleasing: Bool = true) {
    if let codec, isReleasing { forEachEntry { codec.release($1) } }
    let kept = 1 << 16
    if core.pointee.mask + 1 > kept {
      core.pointee.slots.deallocate()
      core.pointee.slots = .allocate(capacity: 16)
      core.pointee.mask = 15
    }
    core.pointee.slots.initialize(repeating: 0, count: core.pointee.mask + 1)
    core.pointee.entryCount = 0
    core.pointee.dirtyCount = 0
    core.pointee.liveCount = 0
    core.pointee.slotsUsed = 0
    core.pointee.cursor = 0
    free.removeAll()
    changedKeyBytes = 0
    deadKeyBytes = 0
    arena = KeyArena()
  }

  /// Copies the living keys into a new arena when more than half of a large one is dead.
  func compactKeys() {
    guard deadKeyBytes > 64 * 1024, deadKeyBytes * 2 > arena.used else { return }
    var renewed = KeyArena()
    for index in 0..<core.pointee.entryCount where core.pointee.entries[index].flags & KeyedTable.live != 0 {
      let size = keyOffset + Int(core.pointee.entries[index].length)
      let memory = renewed.allocate(size)
      memory.copyMemory(from: core.pointee.entries[index].key, byteCount: size)
      core.pointee.entries[index].key = memory
    }
    arena = renewed
    deadKeyBytes = 0
  }

  private func place(_ number: Int, _ tag: UInt32) {
    var at = Int(tag) & core.pointee.mask
    while core.pointee.slots[at] != 0 { at = (at + 1) & core.pointee.mask }
    core.pointee.slots[at] = UInt64(tag) << 32 | UInt64(number + 1)
  }

  private func growSlots() {
    let old = core.pointee.slots
    let oldCount = core.pointee.mask + 1
    let slots = UnsafeMutablePointer<UInt64>.allocate(capacity: 2 * oldCount)
    slots.initialize(repeating: 0, count: 2 * oldCount)
    core.pointee.slots = slots
    core.pointee.mask = 2 * oldCount - 1
    for index in 0..<oldCount where old[index] != 0 {
      place(Int(old[index] & 0xffff_ffff) - 1, UInt32(truncatingIfNeeded: old[index] >> 32))
    }
    old.deallocate()
  }

  private func growEntries() {
    let larger = UnsafeMutablePointer<Entry>.allocate(capacity: 2 * core.pointee.entryCapacity)
    larger.moveInitialize(from: core.pointee.entries, count: core.pointee.entryCount)
    core.pointee.entries.deallocate()
    core.pointee.entries = larger
    core.pointee.entryCapacity *= 2
  }
}
