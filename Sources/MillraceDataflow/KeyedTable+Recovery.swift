// KeyedTable+Recovery: reading a table back from the state log.
//
// A record's key may be anywhere in a large table, so that records wait until there are enough of them to look up at a time
// (KeyedTable+Approach.swift), or the memory they lie in is given back.

import MillraceBase
import MillraceModel

/// Records of the state log that a table is to take over.
///
/// Safety: `@unchecked Sendable` because it belongs to a table.
final class RestoreQueue: @unchecked Sendable {
  struct Element {
    let key: UnsafeRawBufferPointer
    let value: UnsafeRawBufferPointer?
  }

  // Safety: allocated in init, freed in deinit; elements are trivial.
  let elements = UnsafeMutablePointer<Element>.allocate(capacity: KeyedTable.stride)
  let hashes = UnsafeMutablePointer<UInt64>.allocate(capacity: KeyedTable.stride)
  var count = 0

  deinit {
    elements.deallocate()
    hashes.deallocate()
  }
}

extension KeyedTable {
  /// Notes a record that ``restoreRest()`` takes over at the latest, and until when its memory must stay.
  func restoreLater(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?) throws(JobError) {
    let hash = Hashing.stable(key)
    guard core.pointee.isLarge else { return try restore(key, hash, value) }
    let queue = restoring ?? RestoreQueue()
    restoring = queue
    (queue.elements + queue.count).initialize(to: .init(key: key, value: value))
    queue.hashes[queue.count] = hash
    queue.count += 1
    if queue.count == KeyedTable.stride { try restoreRest() }
  }

  /// Takes over the records that were noted.
  func restoreRest() throws(JobError) {
    guard let queue = restoring, queue.count > 0 else { return }
    let count = queue.count
    queue.count = 0
    approach(queue.hashes, count)
    for index in 0..<count {
      try restore(queue.elements[index].key, queue.hashes[index], queue.elements[index].value)
    }
  }

  /// Takes over a record of the state log: `key` without prefix; nil removes.
  /// - Throws: `.corruptState` when the value is not 64 bits long.
  func restore(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?) throws(JobError) {
    try restore(key, Hashing.stable(key), value)
  }

  private func restore(
    _ key: UnsafeRawBufferPointer, _ hash: UInt64, _ value: UnsafeRawBufferPointer?
  ) throws(JobError) {
    guard let value else {
      guard let number = find(key, hash) ?? fetch(key, hash) else { return }
      codec?.release(core.pointee.entries[number].value)
      core.pointee.entries[number].flags = 0
      core.pointee.liveCount -= 1
      erase(number)
      compactKeys()
      return
    }
    let bits = try bits(of: value)
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
