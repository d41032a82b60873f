// ThreadPool: a fixed number of threads that run blocking jobs in the order of their submission.

import Glibc
import MillraceBase

/// Threads for what may block: flushes, reads of cold data, opening files.
///
/// A submit costs one lock, and one wake-up only when a thread sleeps and none was woken for it yet.
///
/// Safety: everything mutable is touched only with `mutex` held.
public final class ThreadPool: BlockingExecutor, @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let work = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var jobs: [(@Sendable () -> Void)?] = []
  private var head = 0
  private var sleeping = 0
  private var wakesUnderWay = 0
  private var stopping = false
  private var threads: [SystemThread] = []

  /// Starts `threads` threads called `name`-0, `name`-1, ….
  /// - Throws: `.failed` when the system refuses one of them.
  public init(name: String, threads count: Int) throws(IOError) {
    precondition(count > 0, "a pool of \(count) threads")
    mutex.initialize(to: pthread_mutex_t())
    work.initialize(to: pthread_cond_t())
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(work, nil)
    do throws(IOError) {
      let loop = Loop(mutex: mutex, pool: self)
      for index in 0..<count {
        threads.append(try SystemThread(name: "\(name)-\(index)") { loop.run() })
      }
    } catch {
      stop()
      throw error
    }
  }

  /// Runs `job` on a thread of the pool. After ``stop()`` that is a bug and traps.
  public func submit(_ job: @escaping @Sendable () -> Void) {
    pthread_mutex_lock(mutex)
    precondition(!stopping, "a job was submitted to a stopped pool")
    jobs.append(job)
    let wake = sleeping > wakesUnderWay
    if wake { wakesUnderWay += 1 }
    pthread_mutex_unlock(mutex)
    if wake { pthread_cond_signal(work) }
  }

  /// Runs what was submitted to its end, then ends the threads. Returns when all have ended.
  ///
  /// Must not be called from one of the pool's jobs.
  public func stop() {
    pthread_mutex_lock(mutex)
    stopping = true
    let held = threads
    threads = []
    pthread_mutex_unlock(mutex)
    pthread_cond_broadcast(work)
    for thread in held { thread.join() }
  }

  deinit {
    // The threads hold the pool while they run, so by now they have ended.
    pthread_cond_destroy(work)
    pthread_mutex_destroy(mutex)
    work.deallocate()
    mutex.deallocate()
  }

  /// What a thread runs. It keeps the pool alive.
  private struct Loop: @unchecked Sendable {
    // Safety: the mutex itself is made for being used from several threads.
    let mutex: UnsafeMutablePointer<pthread_mutex_t>
    let pool: ThreadPool

    func run() {
      pthread_mutex_lock(mutex)
      while let job = pool.nextJob() {
        pthread_mutex_unlock(mutex)
        job()
        pthread_mutex_lock(mutex)
      }
      pthread_mutex_unlock(mutex)
    }
  }

  /// Waits for the next job; nil when the pool is stopped and drained. The mutex is held on entry and on return.
  private func nextJob() -> (@Sendable () -> Void)? {
    while head == jobs.count {
      if stopping { return nil }
      sleeping += 1
      pthread_cond_wait(work, mutex)
      sleeping -= 1
      if wakesUnderWay > 0 { wakesUnderWay -= 1 }
    }
    let job = jobs[head]
    jobs[head] = nil
    head += 1
    if head == jobs.count {
      jobs.removeAll(keepingCapacity: jobs.count <= 1024)
      head = 0
    } else if head >= 1024 && 2 * head >= jobs.count {
      jobs.removeFirst(head)
      head = 0
    }
    return job
  }
}
