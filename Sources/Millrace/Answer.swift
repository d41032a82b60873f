// Answer: what a reactor gives to a task that waits for it, exactly once.

import Synchronization

/// The reactor's end of a suspended call. When it is dropped unanswered, because the reactor has stopped and its jobs are
/// gone, the call ends with `.closed`: no task waits in vain.
final class Answer<Value: Sendable>: Sendable {
  private let continuation: Mutex<CheckedContinuation<Result<Value, MillraceError>, Never>?>

  init(_ continuation: CheckedContinuation<Result<Value, MillraceError>, Never>) {
    self.continuation = Mutex(continuation)
  }

  deinit { give(.failure(.closed)) }

  /// Ends the call; later answers are dropped. Any thread may call.
  func give(_ result: Result<Value, MillraceError>) {
    let waiting = continuation.withLock { held in
      defer { held = nil }
      return held
    }
    waiting?.resume(returning: result)
  }
}
