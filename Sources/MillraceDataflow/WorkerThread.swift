// WorkerThread and ThreadSignal: a plain thread for a job, and a way for threads to wait for each other.

import Glibc
import MillraceBase

/// A thread that runs one closure.
///
/// Safety: `@unchecked Sendable` because the handle is only written before the value is shared.
public final class WorkerThread: @unchecked Sendable {
  private final class Start {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  private var handle = pthread_t()

  /// Starts a thread that runs `body`. It must be joined once.
  public init(_ body: @escaping @Sendable () -> Void) {
    let start = Unmanaged.passRetained(Start(body))
    let result = pthread_create(
      &handle, nil,
      { argument in
        if let argument { Unmanaged<Start>.fromOpaque(argument).takeRetainedValue().body() }
        return nil
      }, start.toOpaque())
    precondition(result == 0, "pthread_create failed: error \(result)")
  }

  /// Waits until the closure has returned.
  public func join() {
    let result = pthread_join(handle, nil)
    precondition(result == 0, "pthread_join failed: error \(result)")
  }
}

/// A lock and a condition to wait for.
///
/// Safety: `@unchecked Sendable` because POSIX mutexes and conditions are made for sharing; they never move.
final class ThreadSignal: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  init() {
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
  func locked<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return try body()
  }

  /// Wakes everybody who waits. The lock may be held.
  func signal() { pthread_cond_broadcast(condition) }

  /// Waits, with the lock held, until signalled or `deadline`.
  /// - Returns: false when the deadline has passed.
  func wait(until deadline: MonotonicTime) -> Bool {
    var time = timespec()
    time.tv_sec = Int(deadline.nanoseconds / 1_000_000_000)
    time.tv_nsec = Int(deadline.nanoseconds % 1_000_000_000)
    return pthread_cond_timedwait(condition, mutex, &time) == 0
  }
}
