// WaitList: the threads and tasks that sleep until a queue has a message, or room, for them.
//
// A waiter is woken to try again; it is never handed a message, so a waiter that is cancelled or times out loses none.
//
//   idle ──enqueue──▶ queued ──wake, remove or interrupt──▶ idle
//
// 1. A waiter is in at most one list, and leaves it exactly once per enqueue; whoever takes it out resumes it.
// 2. `count` is the length of the list. A waiter counts itself first and then looks at the queue again; the other side
//    changes the queue first and then looks at `count`. A full fence stands between the two steps on both sides, so at
//    least one of them sees the other, and no wake-up is lost.

import MillraceBase
import Synchronization

/// One sleeping call. A call uses the same waiter each time it has to sleep again.
///
/// Safety: the fields are touched only under the lock of the one list the waiter is used with.
final class Waiter: @unchecked Sendable {
  enum Sleeper {
    case thread(Parker)
    case task(CheckedContinuation<Void, Never>)

    fileprivate func resume() {
      switch self {
      case .thread(let parker): parker.signal()
      case .task(let continuation): continuation.resume()
      }
    }
  }

  fileprivate var next: Waiter?
  fileprivate var previous: Waiter?
  fileprivate var sleeper: Sleeper?
  fileprivate var isInterrupted = false
}

/// A first-in, first-out list of waiters.
@usableFromInline
final class WaitList: Sendable {
  private struct Ends {
    var first: Waiter?
    var last: Waiter?
  }

  /// Waiters in the list, read by the other side without the lock.
  @usableFromInline let count = Atomic<Int>(0)
  private let ends = Guarded(Ends())

  init() {}

  /// Wakes the waiter that has waited longest.
  @usableFromInline
  func wakeOne() {
    let sleeper = ends.withLock { ends in ends.first.flatMap { unlink($0, &ends) } }
    sleeper?.resume()
  }

  /// Wakes everybody who waits now.
  @usableFromInline
  func wakeAll() {
    for _ in 0..<count.load(ordering: .sequentiallyConsistent) { wakeOne() }
  }

  /// Puts the calling thread to sleep, unless `ready` says that there is no need to, until woken or until `deadline`.
  func wait(_ waiter: Waiter, _ parker: Parker, until deadline: MonotonicTime?, unless ready: () -> Bool) {
    guard enqueue(waiter, .thread(parker)) else { return }
    if !ready() { parker.sleep(until: deadline) }
    // When somebody else took the waiter out, its signal may be left over. It ends the next sleep early, which costs one
    // more look at the queue.
    _ = remove(waiter)
  }

  /// Suspends the calling task, unless `ready` says that there is no need to, until woken, interrupted or cancelled.
  func wait(_ waiter: Waiter, unless ready: () -> Bool) async {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        guard enqueue(waiter, .task(continuation)) else {
          continuation.resume()
          return
        }
        if ready() { remove(waiter)?.resume() }
      }
    } onCancel: {
      interrupt(waiter)
    }
  }

  /// Ends the waiter's sleep, and lets it never sleep again.
  func interrupt(_ waiter: Waiter) {
    let sleeper = ends.withLock { ends in
      waiter.isInterrupted = true
      return unlink(waiter, &ends)
    }
    sleeper?.resume()
  }

  /// Whether ``interrupt(_:)`` came for this waiter.
  func isInterrupted(_ waiter: Waiter) -> Bool { ends.withLock { _ in waiter.isInterrupted } }

  private func enqueue(_ waiter: Waiter, _ sleeper: Waiter.Sleeper) -> Bool {
    let queued = ends.withLock { ends in
      precondition(waiter.sleeper == nil, "a waiter sleeps once at a time")
      guard !waiter.isInterrupted else { return false }
      waiter.sleeper = sleeper
      waiter.previous = ends.last
      if let last = ends.last { last.next = waiter } else { ends.first = waiter }
      ends.last = waiter
      count.add(1, ordering: .sequentiallyConsistent)
      return true
    }
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    return queued
  }

  private func remove(_ waiter: Waiter) -> Waiter.Sleeper? {
    ends.withLock { ends in unlink(waiter, &ends) }
  }

  /// Takes the waiter out; nil when somebody else has done so.
  private func unlink(_ waiter: Waiter, _ ends: inout Ends) -> Waiter.Sleeper? {
    guard let sleeper = waiter.sleeper else { return nil }
    if let previous = waiter.previous { previous.next = waiter.next } else { ends.first = waiter.next }
    if let next = waiter.next { next.previous = waiter.previous } else { ends.last = waiter.previous }
    waiter.next = nil
    waiter.previous = nil
    waiter.sleeper = nil
    count.subtract(1, ordering: .sequentiallyConsistent)
    return sleeper
  }
}
