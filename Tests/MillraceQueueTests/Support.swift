// Support: threads, a clock that is set by hand, and values that count themselves, for the queue's tests.

import Foundation
import Synchronization

@testable import MillraceQueue

/// Runs every body on a thread of its own and returns when all have ended.
func onThreads(_ bodies: [@Sendable () -> Void]) {
  let group = DispatchGroup()
  for body in bodies {
    group.enter()
    Thread {
      body()
      group.leave()
    }.start()
  }
  group.wait()
}

/// The same from asynchronous code, without blocking a thread of the pool.
func onThreads(_ bodies: [@Sendable () -> Void]) async {
  await withCheckedContinuation { continuation in
    Thread {
      onThreads(bodies)
      continuation.resume()
    }.start()
  }
}

/// A clock that stands still until ``advance(by:)``.
final class ManualClock: Clock, Sendable {
  typealias Duration = Swift.Duration
  struct Instant: InstantProtocol {
    var offset: Swift.Duration
    func advanced(by duration: Swift.Duration) -> Instant { Instant(offset: offset + duration) }
    func duration(to other: Instant) -> Swift.Duration { other.offset - offset }
    static func < (left: Instant, right: Instant) -> Bool { left.offset < right.offset }
  }
  private struct State {
    var now = Instant(offset: .zero)
    var sleepers: [Int: (Instant, CheckedContinuation<Void, Never>)] = [:]
    var nextSleeper = 0
  }
  private let state = Guarded(State())

  var now: Instant { state.withLock { $0.now } }
  var minimumResolution: Swift.Duration { .nanoseconds(1) }
  var sleeping: Int { state.withLock { $0.sleepers.count } }

  func sleep(until deadline: Instant, tolerance: Swift.Duration?) async throws {
    let id = state.withLock { state in
      state.nextSleeper += 1
      return state.nextSleeper
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let due = state.withLock { state in
          if state.now >= deadline || Task.isCancelled { return true }
          state.sleepers[id] = (deadline, continuation)
          return false
        }
        if due { continuation.resume() }
      }
    } onCancel: {
      state.withLock { $0.sleepers.removeValue(forKey: id) }?.1.resume()
    }
    try Task.checkCancellation()
  }

  func advance(by duration: Swift.Duration) {
    let due = state.withLock { state in
      state.now = state.now.advanced(by: duration)
      let due = state.sleepers.filter { $0.value.0 <= state.now }
      for id in due.keys { state.sleepers[id] = nil }
      return due.values.map(\.1)
    }
    for continuation in due { continuation.resume() }
  }
}

/// Gives other tasks a turn until `condition` holds.
func until(_ condition: () -> Bool) async {
  while !condition() { await Task.yield() }
}

/// Counts how many of its kind live.
final class Counted: Sendable {
  static func counter() -> Counter { Counter() }
  final class Counter: Sendable {
    let live = Atomic<Int>(0)
    var now: Int { live.load(ordering: .sequentiallyConsistent) }
  }
  let value: Int
  private let counter: Counter
  init(_ value: Int, _ counter: Counter) {
    self.value = value
    self.counter = counter
    counter.live.add(1, ordering: .sequentiallyConsistent)
  }
  deinit { counter.live.subtract(1, ordering: .sequentiallyConsistent) }
}

/// Collects from many threads.
final class Collected<Element: Sendable>: Sendable {
  private let parts = Guarded<[[Element]]>([])
  func add(_ part: [Element]) { parts.withLock { $0.append(part) } }
  var all: [[Element]] { parts.withLock { $0 } }
}
