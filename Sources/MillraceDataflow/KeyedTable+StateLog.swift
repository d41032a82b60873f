// KeyedTable+StateLog: writing a table's changes, sweeping over what did not change, and reading it all back.

import MillraceBase
import MillraceModel

extension KeyedTable {
  /// Writes every change since the last call, removals as null, and forgets that they are changes.
  func writeChanges(into writer: inout StateLogWriter) {
    var removed = false
    for index in 0..<core.pointee.dirtyCount {
      if core.pointee.isLarge, index % KeyedTable.stride == 0 { approachChanges(from: index) }
      let number = Int(core.pointee.dirty[index])
      let entry = core.pointee.entries + number
      if entry.pointee.flags & KeyedTable.live != 0 {
        write(entry, into: &writer)
      } else {
        withHead(entry) { writer.put(head: $0, key: $1, value: nil) }
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

  /// Writes what the entry holds, which is no change any more and was written in this round.
  func write(_ entry: UnsafeMutablePointer<Entry>, into writer: inout StateLogWriter) {
    let kept = entry.pointee.flags & (KeyedTable.groupBits | KeyedTable.recent)
    entry.pointee.flags = KeyedTable.live | core.pointee.parity | kept
    guard let codec else { return withHead(entry) { writer.put(head: $0, key: $1, bits: entry.pointee.value) } }
    let bytes = encoded(entry.pointee.value, codec)
    withHead(entry) { head, key in bytes.withBuffer { writer.put(head: head, key: key, value: $0) } }
  }

  /// Calls `body` with what stands before the entry's key in the state log, and with the key.
  private func withHead(
    _ entry: UnsafeMutablePointer<Entry>, _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Void
  ) {
    head[3] = UInt8(truncatingIfNeeded: entry.pointee.flags >> KeyedTable.groupShift)
    body(UnsafeRawBufferPointer(head), key(at: entry))
  }

  /// What stands in the state log for the bits of an entry.
  func encoded(_ bits: UInt64, _ codec: any StateCodec) -> Bytes {
    var writer = ByteWriter(capacity: 64)
    codec.write(bits, into: &writer)
    let bytes = writer.finishJoined()
    spilled?.note(valueSize: bytes.count)
    return bytes
  }

  /// Begins a sweep round: from now on every key must be written once more, by a change or by the sweep.
  func beginRound() {
    core.pointee.parity ^= KeyedTable.parityBit
    core.pointee.cursor = 0
    spilled?.beginRound()
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
      write(entry, into: &writer)
      written += 1
    }
    if spilled != nil { written += sweepSpilled(quota - written, upTo: size, into: &writer) }
    return written
  }

  /// Whether every key was written in this round.
  var roundIsDone: Bool { core.pointee.cursor >= core.pointee.entryCount && (spilled?.roundIsDone ?? true) }
}
