// Mailbox: where a job's worker thread waits for what a reactor answers.

import Glibc
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
    mailbox.locked {
      guard slot.result == nil else { return }
      slot.result = result
      mailbox.signal()
    }
  }
}

/// A lock and a condition that all answers of one job share, because its one worker waits for one of them at a time.
///
/// Safety: `@unchecked Sendable` because POSIX mutexes and conditions are made for sharing and never move here, and
/// `isInterrupted` is used under the lock.
final class Mailbox: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var isInterrupted = false
  private let waiting: (any JobWaiting)?

  /// - Parameter waiting: takes the place of blocking.
  init(waiting: (any JobWaiting)? = nil) {
    self.waiting = waiting
    mutex.initialize(to: pthread_mutex_t())
    condition.initialize(to: pthread_cond_t())
    var result = pthread_mutex_init(mutex, nil)
    precondition(result == 0, "pthread_mutex_init failed: error \(result)")
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    result = pthread_cond_init(condition, &attributes)
    precondition(result == 0, "pthread_cond_init failed: error \(result)")
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  fileprivate func locked(_ body: () -> Void) {
    pthread_mutex_lock(mutex)
    body()
    pthread_mutex_unlock(mutex)
  }

  /// Wakes the worker. The lock is held.
  fileprivate func signal() { pthread_cond_broadcast(condition) }

  /// Makes a wait that may be interrupted, or the next one, return at once.
  func interrupt() {
    locked {
      isInterrupted = true
      signal()
    }
  }

  /// Blocks until the answer is there.
  func wait<Value>(for slot: Slot<Value>) throws(JobError) -> Value {
    waiting?.wait { slot.result != nil }
    pthread_mutex_lock(mutex)
    while slot.result == nil, waiting == nil { pthread_cond_wait(condition, mutex) }
    let result = slot.result
    pthread_mutex_unlock(mutex)
    guard let result else { throw JobError(.closed, "nothing is left that could answer") }
    return try result.get()
  }

  /// Blocks until the answer is there; nil when ``interrupt()`` came first or `deadline` has passed.
  func wait<Value>(for slot: Slot<Value>, until deadline: MonotonicTime) throws(JobError) -> Value? {
    waiting?.wait { [self] in slot.result != nil || isInterrupted || waiting.map { $0.now >= deadline } == true }
    var time = timespec()
    time.tv_sec = Int(deadline.nanoseconds / 1_000_000_000)
    time.tv_nsec = Int(deadline.nanoseconds % 1_000_000_000)
    pthread_mutex_lock(mutex)
    while slot.result == nil, !isInterrupted, waiting == nil {
      if pthread_cond_timedwait(condition, mutex, &time) != 0 { break }
    }
    let result = slot.result
    if result == nil { isInterrupted = false }
    pthread_mutex_unlock(mutex)
    return try result?.get()
  }
}
