// KeyedTable+Growth: insertion, deletion and the table's memory.

import MillraceBase

extension KeyedTable {
  /// The entry of a key that is not in memory: what a file has of it, or a new one that is neither live nor dirty.
  @usableFromInline @inline(never)
  func insert(_ key: UnsafeRawBufferPointer, _ hash: UInt64) -> Int { fetch(key, hash) ?? add(key, hash) }

  /// Adds an entry, neither live nor dirty, for a key that is nowhere.
  func add(_ key: UnsafeRawBufferPointer, _ hash: UInt64) -> Int {
    if (core.pointee.slotsUsed + 1) * 2 > core.pointee.mask + 1 { growSlots() }
    let group = group(key, hash)
    var entry = Entry(
      key: (0, 0), value: 0, length: UInt32(key.count),
      flags: core.pointee.parity | UInt32(group) << KeyedTable.groupShift)
    if entry.isShort {
      if let from = key.baseAddress {
        withUnsafeMutableBytes(of: &entry.key) { $0.baseAddress?.copyMemory(from: from, byteCount: key.count) }
      }
    } else {
      let memory = arena.allocate(keyOffset + key.count)
      let whole = UnsafeMutableRawBufferPointer(start: memory, count: keyOffset + key.count)
      whole.copyMemory(from: UnsafeRawBufferPointer(head))
      whole[3] = group
      UnsafeMutableRawBufferPointer(rebasing: whole[keyOffset...]).copyMemory(from: key)
      entry.key.0 = UInt64(UInt(bitPattern: memory))
    }
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
    place(number, UInt32(truncatingIfNeeded: hash))
    core.pointee.slotsUsed += 1
    return number
  }

  /// The key group of `key`: an element's is that of the key it belongs to.
  func group(_ key: UnsafeRawBufferPointer, _ hash: UInt64) -> UInt8 {
    kind == StateRecordKind.element ? ElementKey.group(key) : KeyGroup.of(hash: hash)
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
      entry.pointee.flags |= KeyedTable.isDirty | core.pointee.readMark
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
    let known = key(of: number)
    var hole = Int(truncatingIfNeeded: Hashing.stable(known)) & mask
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
    if !core.pointee.entries[number].isShort { deadKeyBytes += keyOffset + known.count }
    core.pointee.entries[number].flags = 0
    free.append(UInt32(number))
  }

  /// Takes all keys out, of a table that does not stand in the state log; its memory is kept unless it was much.
  /// - Parameter isReleasing: what is kept in boxes is let go; otherwise somebody else does that.
  func removeAll(releasing isReleasing: Bool = true) {
    if let codec, isReleasing { forEachEntry { codec.release($1) } }
    let kept = 1 << 16
    if core.pointee.mask + 1 > kept {
      KeyedTable.free(core.pointee.slots, core.pointee.mask + 1)
      core.pointee.slots = KeyedTable.memory(16)
      core.pointee.mask = 15
      core.pointee.isLarge = largeSlots <= 16
    } else {
      core.pointee.slots.update(repeating: 0, count: core.pointee.mask + 1)
    }
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
    for index in 0..<core.pointee.entryCount
    where core.pointee.entries[index].flags & KeyedTable.live != 0 && !core.pointee.entries[index].isShort {
      let size = keyOffset + Int(core.pointee.entries[index].length)
      let memory = renewed.allocate(size)
      memory.copyMemory(from: core.pointee.entries[index].long, byteCount: size)
      core.pointee.entries[index].key.0 = UInt64(UInt(bitPattern: memory))
    }
    arena = renewed
    deadKeyBytes = 0
  }

  private func place(_ number: Int, _ tag: UInt32) {
    var at = Int(tag) & core.pointee.mask
    while core.pointee.slots[at] != 0 { at = (at + 1) & core.pointee.mask }
    core.pointee.slots[at] = UInt64(tag) << 32 | UInt64(number + 1)
  }

  /// Doubles the slots in place.
  ///
  /// One after the other is taken out and put where it belongs now: not behind where it was, or in the new half. It begins
  /// behind an empty slot, so that what a slot passes on its way was put there before; nothing is ever passed that moves on later.
  private func growSlots() {
    let count = core.pointee.mask + 1
    core.pointee.slots = KeyedTable.grown(core.pointee.slots, count)
    core.pointee.mask = 2 * count - 1
    core.pointee.isLarge = 2 * count >= largeSlots
    let slots = core.pointee.slots
    var first = 0
    while slots[first] != 0 { first += 1 }
    for step in 1..<count {
      let at = (first + step) & (count - 1)
      let slot = slots[at]
      guard slot != 0 else { continue }
      slots[at] = 0
      place(Int(slot & 0xffff_ffff) - 1, UInt32(truncatingIfNeeded: slot >> 32))
    }
  }

  private func growEntries() {
    core.pointee.entries = KeyedTable.grown(core.pointee.entries, core.pointee.entryCapacity)
    core.pointee.entryCapacity *= 2
  }

  /// Zeroed memory for a power of two of elements.
  static func memory<Element>(_ count: Int) -> UnsafeMutablePointer<Element> {
    LargeMemory.allocate(count * MemoryLayout<Element>.stride).bindMemory(to: Element.self, capacity: count)
  }

  /// Twice as much memory, with what is in it.
  private static func grown<Element>(_ memory: UnsafeMutablePointer<Element>, _ count: Int) -> UnsafeMutablePointer<
    Element
  > {
    let size = count * MemoryLayout<Element>.stride
    return LargeMemory.grow(memory, size, to: 2 * size).bindMemory(to: Element.self, capacity: 2 * count)
  }

  /// Gives it back.
  static func free<Element>(_ memory: UnsafeMutablePointer<Element>, _ count: Int) {
    LargeMemory.free(memory, count * MemoryLayout<Element>.stride)
  }
}
