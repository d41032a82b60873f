// ThreadSignal: a way for threads to wait for each other.

import Glibc

/// A lock and a condition to wait for, on the monotonic clock.
///
/// Safety: `@unchecked Sendable` because POSIX mutexes and conditions are made for sharing; they never move.
public final class ThreadSignal: @unchecked Sendable {
  // Safety: allocated in init, freed in deinit.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  /// Nobody waits.
  public init() {
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

  /// Runs `body` with the lock held.
  public func locked<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return try body()
  }

  /// Wakes everybody who waits. The lock may be held.
  public func signal() { pthread_cond_broadcast(condition) }

  /// Waits, with the lock held, until signalled or `deadline`.
  /// - Returns: false when the deadline has passed.
  public func wait(until deadline: MonotonicTime) -> Bool {
    var time = timespec()
    time.tv_sec = Int(deadline.nanoseconds / 1_000_000_000)
    time.tv_nsec = Int(deadline.nanoseconds % 1_000_000_000)
    return pthread_cond_timedwait(condition, mutex, &time) == 0
  }

  /// Waits, with the lock held, until signalled.
  public func wait() { pthread_cond_wait(condition, mutex) }
}
