// TimerHeap: a reactor's scheduled timers, earliest first; cancelled ones are dropped in passing.

import MillraceBase

/// A binary heap of timers by deadline; equal deadlines keep the order in which they were added.
package struct TimerHeap {
  private struct Entry {
    let deadline: MonotonicTime
    let order: UInt64
    let timer: Timer

    func precedes(_ other: Entry) -> Bool {
      deadline == other.deadline ? order < other.order : deadline < other.deadline
    }
  }

  private var entries: [Entry] = []
  private var nextOrder: UInt64 = 0
  /// At this size cancelled timers are swept out; twice what was left by the last sweep, so sweeping is O(1) a timer.
  private var sweepSize = 64

  /// No timers.
  package init() {}

  /// Timers held, some of which may be cancelled.
  package var count: Int { entries.count }

  /// Adds a timer. O(log n).
  package mutating func add(_ timer: Timer) {
    if entries.count >= sweepSize { sweep() }
    entries.append(Entry(deadline: timer.deadline, order: nextOrder, timer: timer))
    nextOrder += 1
    siftUp(entries.count - 1)
  }

  /// The earliest deadline of a timer that is not cancelled.
  package mutating func nextDeadline() -> MonotonicTime? {
    while let first = entries.first {
      if first.timer.job != nil { return first.deadline }
      removeFirst()
    }
    return nil
  }

  /// Takes out the earliest timer that is due at `now` and not cancelled, unless it was added at or after `limit`.
  package mutating func takeDue(at now: MonotonicTime, addedBefore limit: UInt64) -> Timer? {
    guard let deadline = nextDeadline(), deadline <= now, entries[0].order < limit else { return nil }
    let timer = entries[0].timer
    removeFirst()
    return timer
  }

  /// Stands for this moment in ``takeDue(at:addedBefore:)``, so that a timer that schedules another cannot starve the loop.
  package var mark: UInt64 { nextOrder }

  /// Drops all timers and lets go of their jobs: who keeps a timer whose job keeps him would never be freed.
  package mutating func removeAll() {
    let dropped = entries
    entries = []
    for entry in dropped { entry.timer.cancel() }
  }

  private mutating func sweep() {
    entries.removeAll { $0.timer.job == nil }
    for index in stride(from: entries.count / 2 - 1, through: 0, by: -1) { siftDown(index) }
    sweepSize = max(64, 2 * entries.count)
  }

  private mutating func removeFirst() {
    entries.swapAt(0, entries.count - 1)
    entries.removeLast()
    siftDown(0)
  }

  private mutating func siftUp(_ start: Int) {
    var index = start
    while index > 0 {
      let parent = (index - 1) / 2
      guard entries[index].precedes(entries[parent]) else { return }
      entries.swapAt(index, parent)
      index = parent
    }
  }

  private mutating func siftDown(_ start: Int) {
    var index = start
    while true {
      var least = 2 * index + 1
      guard least < entries.count else { return }
      if least + 1 < entries.count, entries[least + 1].precedes(entries[least]) { least += 1 }
      guard entries[least].precedes(entries[index]) else { return }
      entries.swapAt(index, least)
      index = least
    }
  }
}
