// Mailbox: where a job's worker thread waits for what a reactor answers.

import MillraceBase
import MillraceDataflow

/// How a job's worker waits when it does not block its thread: somebody else does, step by step, what is waited for.
///
/// For jobs that share their one thread with the broker, as in a simulation.
public protocol JobWaiting: AnyObject, Sendable {
  /// The time in which waits are measured.
  var now: MonotonicTime { get }
  /// Returns once `isDone` says true, or when nothing is left that could make it true.
  func wait(until isDone: () -> Bool)
}

/// One answer, not there at first.
///
/// Safety: `result` is used under the mailbox's lock only.
final class Slot<Value: Sendable>: @unchecked Sendable {
  fileprivate var result: Result<Value, JobError>?
}

/// The reactor's end of a ``Slot``. When it is dropped without an answer, because the reactor has stopped and its jobs
/// are gone, the answer is `.closed`: the worker never waits in vain.
final class Reply<Value: Sendable>: Sendable {
  private let slot: Slot<Value>
  private let mailbox: Mailbox

  init(_ slot: Slot<Value>, _ mailbox: Mailbox) {
    self.slot = slot
    self.mailbox = mailbox
  }

  deinit { answer(.failure(JobError(.closed, "the broker's reactor has stopped"))) }

  /// Gives the answer; later ones are dropped. Any thread may call.
  func answer(_ result: Result<Value, JobError>) {
    mailbox.arrival.locked {
      guard slot.result == nil else { return }
      slot.result = result
      mailbox.arrival.signal()
    }
  }
}

/// Where all answers of one job arrive, because its one worker waits for one of them at a time.
///
/// Safety: `@unchecked Sendable` because `isInterrupted` is used under the lock.
final class Mailbox: @unchecked Sendable {
  fileprivate let arrival = ThreadSignal()
  private var isInterrupted = false
  private let waiting: (any JobWaiting)?

  /// - Parameter waiting: takes the place of blocking.
  init(waiting: (any JobWaiting)? = nil) { self.waiting = waiting }

  /// Makes a wait that may be interrupted, or the next one, return at once.
  func interrupt() {
    arrival.locked {
      isInterrupted = true
      arrival.signal()
    }
  }

  /// Blocks until the answer is there.
  func wait<Value>(for slot: Slot<Value>) throws(JobError) -> Value {
    waiting?.wait { slot.result != nil }
    let result = arrival.locked { () -> Result<Value, JobError>? in
      while slot.result == nil, waiting == nil { arrival.wait() }
      return slot.result
    }
    guard let result else { throw JobError(.closed, "nothing is left that could answer") }
    return try result.get()
  }

  /// Blocks until the answer is there; nil when ``interrupt()`` came first or `deadline` has passed.
  func wait<Value>(for slot: Slot<Value>, until deadline: MonotonicTime) throws(JobError) -> Value? {
    waiting?.wait { [self] in slot.result != nil || isInterrupted || waiting.map { $0.now >= deadline } == true }
    let result = arrival.locked { () -> Result<Value, JobError>? in
      while slot.result == nil, !isInterrupted, waiting == nil {
        if !arrival.wait(until: deadline) { break }
      }
      if slot.result == nil { isInterrupted = false }
      return slot.result
    }
    return try result?.get()
  }
}
