// SweepRounds: decides which part of the state log may be given up, while steps go on.
//
// A round begins with a commit that holds all input positions and ends with the commit by which every key alive was
// written again, by a change or by the sweep. In each commit the sweep writes as many unchanged keys as the step changed,
// at least `minimumQuota`. Once the round's commits are handed over, the next commit says that the log may start where the
// round began.
//
// Size of the log, in keys alive: a round writes at most 2 of them per key (one swept for one changed), keys changed
// before the sweep reaches them are not written twice, and the log holds at most two rounds. So it stays below 4, and
// near 3 or less when changes are spread over the keys.

import MillraceModel

/// The rounds of the sweep whose records the state log still holds. A pure state machine.
struct SweepRounds {
  /// Least number of keys that a commit sweeps.
  static let minimumQuota = 64

  private struct Round {
    let firstCommit: UInt64
    var offset: Offset?
    var isComplete = false
  }

  private var rounds: [Round] = []

  /// Whether the commit that is being put together has to begin a round.
  var needsRound: Bool { rounds.last?.isComplete ?? true }

  /// A round begins with commit number `commit`.
  mutating func begin(commit: UInt64) { rounds.append(Round(firstCommit: commit)) }

  /// The commit that is being put together completes the round.
  mutating func complete() { rounds[rounds.count - 1].isComplete = true }

  /// Commit number `commit` is durable and its state records begin at `offset`.
  mutating func acknowledged(commit: UInt64, offset: Offset) {
    for index in rounds.indices where rounds[index].firstCommit == commit { rounds[index].offset = offset }
  }

  /// Where the log may start once the commit that is being put together is durable; nil when nothing can be given up.
  mutating func takeStart() -> Offset? {
    guard let last = rounds.lastIndex(where: { $0.isComplete && $0.offset != nil }) else { return nil }
    let start = rounds[last].offset
    rounds.removeFirst(last + 1)
    return start
  }
}
