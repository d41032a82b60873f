// SystemThread: a named, joinable thread that runs a Swift closure.

import CMillraceSystem
import Glibc
import Synchronization

/// One POSIX thread. It starts at once; ``join()`` waits for its end.
public final class SystemThread: Sendable {
  private final class Body: Sendable {
    let name: String
    let run: @Sendable () -> Void
    init(name: String, run: @escaping @Sendable () -> Void) {
      self.name = name
      self.run = run
    }
  }

  private let handle: pthread_t
  private let joined = Mutex(false)

  /// Starts a thread. Linux keeps the first 15 bytes of the name.
  /// - Throws: `.failed` when the system has no thread to give.
  public init(name: String, _ run: @escaping @Sendable () -> Void) throws(IOError) {
    let body = Unmanaged.passRetained(Body(name: name, run: run))
    var started = pthread_t()
    let error = pthread_create(
      &started, nil,
      { argument in
        guard let argument else { return nil }
        let body = Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
        mr_name_thread(body.name)
        body.run()
        return nil
      }, body.toOpaque())
    if error != 0 {
      body.release()
      throw IOError.system(error, "start thread", name)
    }
    handle = started
  }

  /// Whether the caller runs on this thread.
  public var isCurrent: Bool { pthread_equal(handle, pthread_self()) != 0 }

  /// Waits until the thread has ended. Further calls return at once. Must not be called on the thread itself.
  public func join() {
    precondition(!isCurrent, "a thread cannot wait for its own end")
    joined.withLock { done in
      if done { return }
      done = true
      pthread_join(handle, nil)
    }
  }

  deinit {
    if !joined.withLock({ $0 }) { pthread_detach(handle) }
  }
}
