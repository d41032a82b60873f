// SpilledEntries: the part of a table that is in files (KeyedTable+Spill.swift), and what its owner has to do with that.

import MillraceBase

/// What a table's owner does for entries that go into files and come back.
struct SpillOwner {
  /// When an entry is due, in ms, and to be in memory by then; `.max` when it waits for no time. Nil for tables that wait for none.
  var due: ((Int) -> Int64)?
  /// The table has elements of keys, and those of one key go and come back together; see ``KeyedTable/fetchGroup(_:)``.
  var isGrouped = false
  /// Whether the owner needs an entry in memory.
  var isPinned: (Int) -> Bool = { _ in false }
  /// An entry came back, under this number.
  var cameBack: (Int) -> Void = { _ in }
}

/// The part of a table that is in files.
///
/// Safety: `@unchecked Sendable` because it belongs to a table.
final class SpilledEntries: @unchecked Sendable {
  let segments: StateSegments
  let owner: SpillOwner
  /// Takes what breaks the run.
  let failed: (JobError) -> Void
  /// The next entry that is looked at for a place in a file.
  var hand = 0
  /// Entries that came back and were not written in this sweep round, which may be past them.
  var unswept: [UInt32] = []
  /// What encoded values take, about.
  private(set) var valueSize = 0

  init(
    owner: SpillOwner, makeFile: @escaping () throws(JobError) -> any StateFile, failed: @escaping (JobError) -> Void
  ) {
    let isGrouped = owner.isGrouped
    segments = StateSegments(
      hasDues: owner.due != nil, hash: { SpilledEntries.hash($0, isGrouped: isGrouped) }, makeFile: makeFile,
      failed: failed)
    self.owner = owner
    self.failed = failed
  }

  /// The hash by which a key is found in files: of an element that of the key it belongs to, so that all of them lie together.
  static func hash(_ key: UnsafeRawBufferPointer, isGrouped: Bool) -> UInt64 {
    Hashing.stable(isGrouped ? ElementKey.split(key)?.key ?? key : key)
  }

  /// Follows the size of values, of the last hundred or so.
  func note(valueSize size: Int) { valueSize += (size - valueSize) / 64 + (size > valueSize ? 1 : 0) }

  func beginRound() {
    unswept.removeAll(keepingCapacity: true)
    segments.beginRound()
  }

  var roundIsDone: Bool { unswept.isEmpty && segments.roundIsDone }
}
