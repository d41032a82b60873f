// WorkerTeam: the threads of a job of several workers, and the barrier between the phases of their work.

import Glibc
import MillraceBase

/// Threads that do one piece of work after the other, each its share. The caller's thread does share 0.
///
/// Safety: `@unchecked Sendable` because what is mutable is only used with the mutex held.
final class WorkerTeam: @unchecked Sendable {
  private struct Work {
    var number: UInt64 = 0
    /// The closure is not used after the call of ``run(_:)`` that brought it.
    var body: (@Sendable (Int) -> Void)?
    var left = 0
    var isOver = false
  }

  let count: Int
  // Safety: allocated in init, freed in deinit, when no thread is left.
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let begun: UnsafeMutablePointer<pthread_cond_t>
  private let done: UnsafeMutablePointer<pthread_cond_t>
  private let work: UnsafeMutablePointer<Work>
  private var threads: [WorkerThread] = []

  /// Starts `count` − 1 threads.
  init(count: Int) {
    self.count = count
    mutex = .allocate(capacity: 1)
    begun = .allocate(capacity: 1)
    done = .allocate(capacity: 1)
    work = .allocate(capacity: 1)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(begun, nil)
    pthread_cond_init(done, nil)
    work.initialize(to: Work())
    let parts = Parts(mutex: mutex, begun: begun, done: done, work: work)
    threads = (1..<count).map { share in WorkerThread { parts.serve(share) } }
  }

  deinit {
    pthread_mutex_lock(mutex)
    work.pointee.isOver = true
    pthread_cond_broadcast(begun)
    pthread_mutex_unlock(mutex)
    for thread in threads { thread.join() }
    pthread_cond_destroy(begun)
    pthread_cond_destroy(done)
    pthread_mutex_destroy(mutex)
    begun.deallocate()
    done.deallocate()
    mutex.deallocate()
    work.deinitialize(count: 1)
    work.deallocate()
  }

  /// Calls `body` with each share, each on its thread, and returns when all have returned. What was written before is seen by
  /// all, and what they write is seen afterwards. One thread at a time may call.
  func run(_ body: @escaping @Sendable (Int) -> Void) {
    pthread_mutex_lock(mutex)
    work.pointee.number += 1
    work.pointee.body = body
    work.pointee.left = count - 1
    pthread_cond_broadcast(begun)
    pthread_mutex_unlock(mutex)
    body(0)
    pthread_mutex_lock(mutex)
    while work.pointee.left > 0 { pthread_cond_wait(done, mutex) }
    work.pointee.body = nil
    pthread_mutex_unlock(mutex)
  }

  /// What the threads need; it does not keep the team alive.
  private struct Parts: @unchecked Sendable {
    let mutex: UnsafeMutablePointer<pthread_mutex_t>
    let begun: UnsafeMutablePointer<pthread_cond_t>
    let done: UnsafeMutablePointer<pthread_cond_t>
    let work: UnsafeMutablePointer<Work>

    func serve(_ share: Int) {
      var seen: UInt64 = 0
      pthread_mutex_lock(mutex)
      while true {
        while work.pointee.number == seen, !work.pointee.isOver { pthread_cond_wait(begun, mutex) }
        if work.pointee.isOver { break }
        seen = work.pointee.number
        let body = work.pointee.body
        pthread_mutex_unlock(mutex)
        body?(share)
        pthread_mutex_lock(mutex)
        work.pointee.left -= 1
        if work.pointee.left == 0 { pthread_cond_signal(done) }
      }
      pthread_mutex_unlock(mutex)
    }
  }
}
