// DeliveryInbox: deliveries of one consumer between the broker's thread and the tasks that take them.
//
// What it holds is bounded by the consumer's prefetch. A taker that finds nothing sleeps; arrivals wake as many as there
// are messages, to try again. Whoever was woken and takes nothing passes the wake-up on.

import MillraceDelivery
import Synchronization

/// Deliveries that arrived and were not taken.
final class DeliveryInbox: Sendable {
  private struct State {
    var ready: [Delivery] = []
    /// Those before it were taken.
    var position = 0
    var isOver = false
    var failure: MillraceError?
    var sleepers = SleeperList()

    var count: Int { ready.count - position }
  }

  private let state = Mutex(State())

  init() {}

  /// Adds deliveries, and leaves an empty array.
  /// - Returns: false when nobody takes any more: they go back, and stay in the array.
  func put(_ deliveries: inout [Delivery]) -> Bool {
    let count = deliveries.count
    let woken = state.withLock { state -> [CheckedContinuation<Void, Never>]? in
      if state.isOver { return nil }
      if state.count == 0 {
        // Both arrays keep their memory, and no message is touched.
        state.ready.removeAll(keepingCapacity: true)
        state.position = 0
        swap(&state.ready, &deliveries)
      } else {
        state.ready.append(contentsOf: deliveries)
        deliveries.removeAll(keepingCapacity: true)
      }
      return state.sleepers.removeFirst(count)
    }
    for sleeper in woken ?? [] { sleeper.resume() }
    return woken != nil
  }

  /// Takes all there is, up to `limit`, into `batch`.
  /// - Returns: whether there was anything.
  func take(into batch: inout [Delivery], limit: Int) -> Bool {
    state.withLock { state in
      let count = min(state.count, limit)
      guard count > 0 else { return false }
      if batch.isEmpty, state.position == 0, count == state.ready.count {
        // Both arrays keep their memory.
        swap(&batch, &state.ready)
        return true
      }
      batch.append(contentsOf: state.ready[state.position..<state.position + count])
      state.position += count
      if state.position == state.ready.count {
        state.ready.removeAll(keepingCapacity: true)
        state.position = 0
      }
      return true
    }
  }

  /// Whether nothing comes any more, and nothing is there.
  /// - Throws: why it ended, when that was a failure.
  func isFinished() throws(MillraceError) -> Bool {
    try state.withLock { state throws(MillraceError) in
      guard state.isOver, state.count == 0 else { return false }
      if let failure = state.failure { throw failure }
      return true
    }
  }

  /// Whether nothing comes any more.
  var isOver: Bool { state.withLock { $0.isOver } }

  /// A number for ``sleep(_:)``.
  func newID() -> UInt64 { state.withLock { $0.sleepers.newID() } }

  /// Suspends until there may be something, or the end, or until cancelled or interrupted.
  /// - Parameter deadline: when whoever interrupts does so; not before it.
  func sleep(_ id: UInt64, until deadline: ContinuousClock.Instant? = nil) async {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isReady = state.withLock { state in
          if state.count > 0 || state.isOver || Task.isCancelled { return true }
          // The interruption may have come already.
          if let deadline, ContinuousClock.now >= deadline { return true }
          state.sleepers.add(id, continuation)
          return false
        }
        if isReady { continuation.resume() }
      }
    } onCancel: {
      interrupt(id)
    }
  }

  /// Wakes one sleeper, if it sleeps.
  func interrupt(_ id: UInt64) { state.withLock { $0.sleepers.remove(id) }?.resume() }

  /// For a sleeper that was woken and takes nothing.
  func passOn() {
    let woken = state.withLock { $0.count > 0 ? $0.sleepers.removeFirst(1) : [] }
    for sleeper in woken { sleeper.resume() }
  }

  /// Nothing comes any more.
  /// - Returns: what nobody took.
  func end(_ failure: MillraceError? = nil) -> [Delivery] {
    let (rest, woken) = state.withLock { state -> ([Delivery], [CheckedContinuation<Void, Never>]) in
      defer {
        state.ready = []
        state.position = 0
      }
      if !state.isOver {
        state.isOver = true
        state.failure = failure
      }
      return (Array(state.ready[state.position...]), state.sleepers.removeAll())
    }
    for sleeper in woken { sleeper.resume() }
    return rest
  }
}
