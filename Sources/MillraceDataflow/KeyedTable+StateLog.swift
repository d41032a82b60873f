// KeyedTable+StateLog: writing a table's changes, sweeping over what did not change, and reading it all back.

import MillraceBase
import MillraceModel

extension KeyedTable {
  /// Writes every change since the last call, removals as null, and forgets that they are changes.
  func writeChanges(into writer: inout StateLogWriter) {
    var removed = false
    for index in 0..<core.pointee.dirtyCount {
      let number = Int(core.pointee.dirty[index])
      let entry = core.pointee.entries + number
      let key = UnsafeRawBufferPointer(
        start: entry.pointee.key, count: keyOffset + Int(entry.pointee.length))
      if entry.pointee.flags & KeyedTable.live != 0 {
        write(key, entry.pointee.value, into: &writer)
        entry.pointee.flags = KeyedTable.live | core.pointee.parity
      } else {
        writer.put(key: key, value: nil)
        erase(number)
        removed = true
      }
    }
    core.pointee.dirtyCount = 0
    changedKeyBytes = 0
    if removed { compactKeys() }
  }

  /// Forgets what changed, of a table that does not stand in the state log.
  func forgetChanges() {
    var removed = false
    for index in 0..<core.pointee.dirtyCount {
      let number = Int(core.pointee.dirty[index])
      core.pointee.entries[number].flags &= ~KeyedTable.isDirty
      guard !isLive(number) else { continue }
      erase(number)
      removed = true
    }
    core.pointee.dirtyCount = 0
    changedKeyBytes = 0
    if removed { compactKeys() }
  }

  private func write(_ key: UnsafeRawBufferPointer, _ bits: UInt64, into writer: inout StateLogWriter) {
    guard let codec else { return writer.put(key: key, bits: bits) }
    var encoded = ByteWriter(capacity: 64)
    codec.write(bits, into: &encoded)
    let bytes = encoded.finishJoined()
    bytes.withBuffer { writer.put(key: key, value: $0) }
  }

  /// Begins a sweep round: from now on every key must be written once more, by a change or by the sweep.
  func beginRound() {
    core.pointee.parity ^= KeyedTable.parityBit
    core.pointee.cursor = 0
  }

  /// Writes up to `quota` keys again that were not written in this round yet. The changes must have been written before.
  /// - Parameter size: bytes of all state records beyond which it ends early.
  /// - Returns: how many were written. The table is done in this round when ``roundIsDone`` says so.
  func sweep(_ quota: Int, upTo size: Int, into writer: inout StateLogWriter) -> Int {
    precondition(core.pointee.dirtyCount == 0, "\(core.pointee.dirtyCount) changes were not written before the sweep")
    var written = 0
    while written < quota, writer.size < size, core.pointee.cursor < core.pointee.entryCount {
      let entry = core.pointee.entries + core.pointee.cursor
      core.pointee.cursor += 1
      let flags = entry.pointee.flags
      guard flags & KeyedTable.live != 0, flags & KeyedTable.parityBit != core.pointee.parity else { continue }
      entry.pointee.flags = KeyedTable.live | core.pointee.parity
      write(
        UnsafeRawBufferPointer(start: entry.pointee.key, count: keyOffset + Int(entry.pointee.length)),
        entry.pointee.value, into: &writer)
      written += 1
    }
    return written
  }

  /// Whether every key was written in this round.
  var roundIsDone: Bool { core.pointee.cursor >= core.pointee.entryCount }

  /// Takes over a record of the state log: `key` without prefix; nil removes.
  /// - Throws: `.corruptState` when the value is not 64 bits long.
  func restore(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?) throws(JobError) {
    let hash = Hashing.stable(key)
    guard let value else {
      guard let number = find(key, hash) else { return }
      codec?.release(core.pointee.entries[number].value)
      core.pointee.entries[number].flags = 0
      core.pointee.liveCount -= 1
      erase(number)
      compactKeys()
      return
    }
    let bits: UInt64
    if let codec {
      bits = try codec.read(value)
    } else {
      guard value.count == 8 else {
        throw JobError(.corruptState, "a keyed value of \(value.count) bytes, 8 are expected")
      }
      bits = UInt64(bigEndian: value.loadUnaligned(as: UInt64.self))
    }
    let number = find(key, hash) ?? insert(key, hash)
    let entry = core.pointee.entries + number
    if entry.pointee.flags & KeyedTable.live == 0 {
      core.pointee.liveCount += 1
    } else {
      codec?.release(entry.pointee.value)
    }
    entry.pointee.flags |= KeyedTable.live
    entry.pointee.value = bits
  }
}
