// Guarded: a value behind a lock of the operating system.
//
// Why not Synchronization.Mutex: the thread sanitizer does not see inside it on Linux and reports every use as a race, so
// that a real race would go unseen. The lock is taken only by those who sleep and wake others.

import Glibc

/// A value that is touched only while its lock is held.
///
/// Safety: `value` is reached through ``withLock(_:)`` only; the lock's memory never moves.
final class Guarded<Value>: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private var value: Value

  init(_ value: Value) {
    self.value = value
    mutex = .allocate(capacity: 1)
    let result = pthread_mutex_init(mutex, nil)
    precondition(result == 0, "no lock: error \(result)")
  }

  deinit {
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
  }

  func withLock<Result>(_ body: (inout Value) -> Result) -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return body(&value)
  }
}
