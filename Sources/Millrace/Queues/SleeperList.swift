// SleeperList: tasks that sleep until there is something for them, the one that has slept longest first.

import MillraceBase

/// Sleeping tasks by number. Woken to try again, never handed anything, so that one that is cancelled loses nothing.
struct SleeperList {
  private var sleepers = Deque<(id: UInt64, continuation: CheckedContinuation<Void, Never>)>()
  private var lastID: UInt64 = 0

  /// Number of sleepers.
  var count: Int { sleepers.count }

  /// A number that no other sleeper has.
  mutating func newID() -> UInt64 {
    lastID += 1
    return lastID
  }

  mutating func add(_ id: UInt64, _ continuation: CheckedContinuation<Void, Never>) {
    sleepers.append((id, continuation))
  }

  /// Takes one out; nil when it is not there any more.
  /// - Complexity: O(sleepers).
  mutating func remove(_ id: UInt64) -> CheckedContinuation<Void, Never>? {
    var found: CheckedContinuation<Void, Never>?
    var rest = Deque<(id: UInt64, continuation: CheckedContinuation<Void, Never>)>()
    while let sleeper = sleepers.popFirst() {
      if sleeper.id == id { found = sleeper.continuation } else { rest.append(sleeper) }
    }
    sleepers = rest
    return found
  }

  /// Takes out up to `limit`.
  mutating func removeFirst(_ limit: Int) -> [CheckedContinuation<Void, Never>] {
    var out: [CheckedContinuation<Void, Never>] = []
    while out.count < limit, let sleeper = sleepers.popFirst() { out.append(sleeper.continuation) }
    return out
  }

  mutating func removeAll() -> [CheckedContinuation<Void, Never>] { removeFirst(.max) }
}
