// Parker: puts one thread to sleep until another one wakes it, or until a time on the monotonic clock.

import Glibc
import MillraceBase

/// A binary semaphore with a time-out on the monotonic clock.
///
/// Safety: `isSignalled` is touched only under `mutex`; both primitives live in memory of their own that never moves.
final class Parker: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  private var isSignalled = false

  init() {
    mutex = .allocate(capacity: 1)
    condition = .allocate(capacity: 1)
    var attributes = pthread_condattr_t()
    var results = [pthread_mutex_init(mutex, nil), pthread_condattr_init(&attributes)]
    results.append(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC))
    results.append(pthread_cond_init(condition, &attributes))
    pthread_condattr_destroy(&attributes)
    precondition(results.allSatisfy { $0 == 0 }, "a thread cannot be made to sleep: errors \(results)")
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  /// Returns once signalled (and forgets the signal), or at `deadline`.
  func sleep(until deadline: MonotonicTime?) {
    pthread_mutex_lock(mutex)
    if let deadline {
      let nanoseconds = max(0, deadline.nanoseconds)
      var time = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
      while !isSignalled && pthread_cond_timedwait(condition, mutex, &time) != ETIMEDOUT {}
    } else {
      while !isSignalled { pthread_cond_wait(condition, mutex) }
    }
    isSignalled = false
    pthread_mutex_unlock(mutex)
  }

  /// Ends the sleep, or the next one.
  func signal() {
    pthread_mutex_lock(mutex)
    isSignalled = true
    pthread_cond_signal(condition)
    pthread_mutex_unlock(mutex)
  }
}
