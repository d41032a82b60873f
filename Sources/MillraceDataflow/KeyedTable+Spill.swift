// KeyedTable+Spill: entries beyond a job's memory lie in files, and come back when they are asked for.
//
// Only entries that did not change in the step go into a file, so that what a step changed is found in memory, in one piece. Which
// ones: those that were not used since the table last looked, a hand going around over the entries as in a clock. An entry that comes
// back is out of its file: every key is live in one place.
//
// What stands in a file is what stands in the state log, and the sweep reads it from there. An entry that comes back before the sweep has
// come to it in its file waits in a list of its own, since the sweep may be past its new place.

import MillraceBase
import MillraceModel

extension KeyedTable {
  /// Bytes of an entry and its slots, which are half empty.
  private static let entrySize = MemoryLayout<Entry>.stride + 4 * MemoryLayout<UInt64>.stride
  /// What an object takes beside what it would take encoded: its header, and what the allocator keeps.
  private static let boxOverhead = 48
  /// Most bytes of memory that one segment is made of.
  static let spillSize = 64 << 20

  /// From now on entries may go into files.
  func allowSpilling(into memory: StateMemory, owner: SpillOwner = SpillOwner()) {
    spilled = SpilledEntries(owner: owner, makeFile: memory.makeFile, failed: memory.failed)
    core.pointee.readMark = KeyedTable.recent
  }

  /// About the bytes of memory that the table takes, and of what its entries stand for.
  var memorySize: Int {
    core.pointee.liveCount * averageSize + (spilled?.segments.memorySize ?? 0)
  }

  /// Entries in memory that hold a value.
  var countInMemory: Int { core.pointee.liveCount }

  /// Bytes of files that hold entries.
  var fileSize: Int { spilled?.segments.fileSize ?? 0 }

  /// About the bytes of memory that an entry takes, with what it stands for.
  var averageSize: Int {
    let value = codec == nil ? 0 : KeyedTable.boxOverhead + 3 * (spilled?.valueSize ?? 0) / 2
    let used = arena.used - deadKeyBytes
    return KeyedTable.entrySize + value + (core.pointee.liveCount > 0 ? used / core.pointee.liveCount : 0)
  }

  // MARK: Coming back

  /// Brings the entry of a key that is not in memory back from its file.
  /// - Returns: its number; nil when no file has it.
  @usableFromInline @inline(never)
  func fetch(_ key: UnsafeRawBufferPointer, _ hash: UInt64) -> Int? {
    guard let spilled, spilled.segments.count > 0 else { return nil }
    let place = spilled.owner.isGrouped ? SpilledEntries.hash(key, isGrouped: true) : hash
    return spilled.segments.take(key, place) { value, isSwept throws(JobError) in
      try comeBack(key, hash, value, isSwept: isSwept)
    }
  }

  /// Brings back what is due at `time` or before.
  func fetchDue(_ time: Int64) {
    guard let spilled, spilled.segments.count > 0 else { return }
    spilled.segments.takeDue(time) { key, value, isSwept throws(JobError) in
      _ = try comeBack(key, Hashing.stable(key), value, isSwept: isSwept)
    }
  }

  /// Whether entries are in files.
  var hasSpilled: Bool { (spilled?.segments.count ?? 0) > 0 }

  /// Brings back all elements of `key`.
  func fetchGroup(_ key: UnsafeRawBufferPointer) {
    guard let spilled, spilled.segments.count > 0 else { return }
    spilled.segments.takeAll(
      Hashing.stable(key), where: { ElementKey.split($0).map { ElementKey.isSame($0.key, key) } ?? false }
    ) { whole, value, isSwept throws(JobError) in
      _ = try comeBack(whole, Hashing.stable(whole), value, isSwept: isSwept)
    }
  }

  /// Brings back all elements of the keys of which one is due at `time` or before, key by key, and calls `body` behind each.
  func fetchDueGroups(_ time: Int64, _ body: (UnsafeRawBufferPointer) -> Void) {
    guard let spilled, spilled.segments.count > 0 else { return }
    var keys: [[UInt8]] = []
    var seen: Set<[UInt8]> = []
    spilled.segments.forEachDue(time) {
      guard let key = ElementKey.split($0).map({ [UInt8]($0.key) }), seen.insert(key).inserted else { return }
      keys.append(key)
    }
    for key in keys {
      key.withUnsafeBytes { key in
        fetchGroup(key)
        body(key)
      }
    }
  }

  /// Whether something in a file waits for time.
  var hasSpilledDues: Bool { spilled.map { $0.segments.earliestDue < .max } ?? false }

  private func comeBack(
    _ key: UnsafeRawBufferPointer, _ hash: UInt64, _ value: UnsafeRawBufferPointer, isSwept: Bool
  ) throws(JobError) -> Int {
    let bits = try bits(of: value)
    let number = add(key, hash)
    let entry = core.pointee.entries + number
    entry.pointee.value = bits
    entry.pointee.flags |= KeyedTable.live | KeyedTable.recent
    core.pointee.liveCount += 1
    if !isSwept {
      entry.pointee.flags ^= KeyedTable.parityBit
      spilled?.unswept.append(UInt32(number))
    }
    spilled?.owner.cameBack(number)
    return number
  }

  /// The bits that stand for what the state log or a file says.
  /// - Throws: `.corruptState`.
  func bits(of value: UnsafeRawBufferPointer) throws(JobError) -> UInt64 {
    if let codec {
      spilled?.note(valueSize: value.count)
      return try codec.read(value)
    }
    guard value.count == 8 else {
      throw JobError(.corruptState, "a keyed value of \(value.count) bytes, 8 are expected")
    }
    return UInt64(bigEndian: value.loadUnaligned(as: UInt64.self))
  }

  /// Calls `body` with each key and value in files.
  @usableFromInline
  func forEachSpilled(_ body: (UnsafeRawBufferPointer, UInt64) -> Void) {
    guard let spilled else { return }
    spilled.segments.forEach { key, value throws(JobError) in
      let bits = try bits(of: value)
      body(key, bits)
      codec?.release(bits)
    }
  }

  // MARK: Going

  /// Puts entries into a file that take about `size` bytes, at most ``spillSize``. The changes must have been written before.
  /// - Returns: about the bytes of memory that were given back; 0 when no entry may go.
  /// - Throws: `.stateFileFailed`; nothing has gone then.
  func spill(_ size: Int) throws(JobError) -> Int {
    guard let spilled, core.pointee.liveCount > 0, core.pointee.dirtyCount == 0 else { return 0 }
    let each = averageSize
    let chosen = choose(min(min(size, KeyedTable.spillSize) / each + 1, core.pointee.liveCount), spilled)
    return try spill(chosen, each, spilled)
  }

  /// Puts the elements of some keys into a file: their entries, none of which was changed since the changes were last written.
  /// - Returns: about the bytes of memory that were given back.
  /// - Throws: `.stateFileFailed`; nothing has gone then.
  func spill(entries: [UInt32]) throws(JobError) -> Int {
    guard let spilled, core.pointee.dirtyCount == 0 else { return 0 }
    let isGrouped = spilled.owner.isGrouped
    var chosen = entries.map { number in
      (
        place: StateSegment.place(SpilledEntries.hash(key(of: Int(number)), isGrouped: isGrouped)),
        number: number
      )
    }
    chosen.sort { $0 < $1 }
    return try spill(chosen, averageSize, spilled)
  }

  /// Puts all that is in memory into files; what fails breaks the run.
  func spillAll() {
    do throws(JobError) {
      while try spill(.max) > 0 {}
    } catch {
      spilled?.failed(error)
    }
  }

  private func spill(
    _ chosen: [(place: UInt64, number: UInt32)], _ each: Int, _ spilled: SpilledEntries
  ) throws(JobError) -> Int {
    guard !chosen.isEmpty else { return 0 }
    try spilled.segments.add(chosen.count) { writer throws(JobError) in
      for one in chosen { try write(Int(one.number), one.place >> 8 | one.place << 56, into: &writer, spilled) }
    }
    for one in chosen { drop(Int(one.number)) }
    compactKeys()
    return chosen.count * each
  }

  /// Entries that were not used since the hand came by, at most `count`, in the order of their places.
  private func choose(_ count: Int, _ spilled: SpilledEntries) -> [(place: UInt64, number: UInt32)] {
    var chosen: [(place: UInt64, number: UInt32)] = []
    chosen.reserveCapacity(count)
    // Twice around, because the first time may find that all were used.
    var left = 2 * core.pointee.entryCount
    while chosen.count < count, left > 0 {
      left -= 1
      if spilled.hand >= core.pointee.entryCount { spilled.hand = 0 }
      let number = spilled.hand
      spilled.hand += 1
      let entry = core.pointee.entries + number
      guard entry.pointee.flags & KeyedTable.live != 0 else { continue }
      if entry.pointee.flags & KeyedTable.recent != 0 {
        entry.pointee.flags &= ~KeyedTable.recent
      } else if !spilled.owner.isPinned(number) {
        // So that the second time around does not choose it again.
        entry.pointee.flags |= KeyedTable.recent
        let hash = SpilledEntries.hash(key(at: entry), isGrouped: spilled.owner.isGrouped)
        chosen.append((StateSegment.place(hash), UInt32(number)))
      }
    }
    chosen.sort { $0 < $1 }
    return chosen
  }

  private func write(
    _ number: Int, _ hash: UInt64, into writer: inout StateSegmentWriter, _ spilled: SpilledEntries
  ) throws(JobError) {
    let entry = core.pointee.entries + number
    let due = spilled.owner.due?(number) ?? .max
    let isSwept = entry.pointee.flags & KeyedTable.parityBit == core.pointee.parity
    let value =
      codec.map { encoded(entry.pointee.value, $0) }
      ?? withUnsafeBytes(of: entry.pointee.value.bigEndian) { Bytes(copying: $0) }
    let key = key(at: entry)
    try value.withBuffer { value throws(JobError) in
      try writer.append(hash, key, value, due: due, isSwept: isSwept)
    }
  }

  /// Takes an entry out of memory that is in a file now.
  private func drop(_ number: Int) {
    codec?.release(core.pointee.entries[number].value)
    core.pointee.entries[number].flags = 0
    core.pointee.liveCount -= 1
    erase(number)
  }

  // MARK: Sweeping

  /// Writes what came back and what is in files, as ``sweep(_:upTo:into:)`` does.
  func sweepSpilled(_ quota: Int, upTo size: Int, into writer: inout StateLogWriter) -> Int {
    guard let spilled else { return 0 }
    var written = 0
    while written < quota, writer.size < size, let number = spilled.unswept.popLast() {
      let entry = core.pointee.entries + Int(number)
      let flags = entry.pointee.flags
      // It may have been written as a change, or be another one by now.
      guard flags & KeyedTable.live != 0, flags & KeyedTable.parityBit != core.pointee.parity else { continue }
      write(entry, into: &writer)
      written += 1
    }
    guard written < quota, writer.size < size, spilled.unswept.isEmpty, !spilled.segments.roundIsDone else {
      return written
    }
    spilled.segments.sweep { key, value in
      guard written < quota, writer.size < size else { return false }
      head[3] = group(key, Hashing.stable(key))
      writer.put(head: UnsafeRawBufferPointer(head), key: key, value: value)
      written += 1
      return true
    }
    return written
  }
}
