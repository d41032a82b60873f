// Permits: a counting semaphore for tasks.
//
// Not a queue of permits: giving one back must always succeed at once, and a ring answers "full" while a receiver that has
// claimed a slot has not emptied it yet.

import Synchronization

/// A number of permits that tasks take and give back.
final class Permits: Sendable {
  private let free: Atomic<Int>
  private let isClosed = Atomic<Bool>(false)
  private let waiters = WaitList()

  init(_ count: Int) { free = Atomic(count) }

  /// Waits for a permit; false once closed.
  func take() async throws(QueueError) -> Bool {
    if isClosed.load(ordering: .acquiring) { return false }
    if takeIfFree() { return true }
    let waiter = Waiter()
    while true {
      if isClosed.load(ordering: .acquiring) { return false }
      if takeIfFree() { return true }
      if Task.isCancelled { throw QueueError(.cancelled) }
      await waiters.wait(waiter) {
        free.load(ordering: .sequentiallyConsistent) > 0 || isClosed.load(ordering: .sequentiallyConsistent)
      }
    }
  }

  /// Returns a permit.
  func giveBack() {
    free.add(1, ordering: .sequentiallyConsistent)
    wake()
  }

  /// No more permits are given.
  func close() {
    isClosed.store(true, ordering: .sequentiallyConsistent)
    waiters.wakeAll()
  }

  private func takeIfFree() -> Bool {
    var count = free.load(ordering: .relaxed)
    while count > 0 {
      let (exchanged, seen) = free.weakCompareExchange(
        expected: count, desired: count - 1, ordering: .sequentiallyConsistent)
      if exchanged {
        // One wake-up may have stood for several permits.
        if count > 1 { wake() }
        return true
      }
      count = seen
    }
    return false
  }

  private func wake() {
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    if waiters.count.load(ordering: .relaxed) > 0 { waiters.wakeOne() }
  }
}
