// WorkerThread: a plain thread for a job.

import Glibc

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
