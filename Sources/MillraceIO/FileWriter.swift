// FileWriter: writes that a reactor hands over and hears of later; on threads, which is always possible.

import MillraceBase

/// Writes files for a reactor without blocking it. Belongs to the reactor.
public protocol FileWriter: AnyObject {
  /// Writes all of `bytes` at `position` of `file`; several writes may be under way, and end in any order.
  ///
  /// `completion` is called on the reactor in a later turn, with what went wrong. Then the bytes are as durable as a
  /// direct call of ``File/write(_:at:)`` would have left them.
  func write(_ bytes: Bytes, to file: any File, at position: Int64, completion: @escaping (IOError?) -> Void)
}

/// Hands each write to a thread that blocks in it.
public final class ThreadFileWriter: FileWriter {
  private let reactor: any Reactor
  private let executor: any BlockingExecutor

  /// A writer for `reactor` on the threads of `executor`.
  public init(reactor: any Reactor, executor: any BlockingExecutor) {
    self.reactor = reactor
    self.executor = executor
  }

  /// Writes on a thread: two hops between threads, some 14 µs or more beside the write itself.
  public func write(
    _ bytes: Bytes, to file: any File, at position: Int64, completion: @escaping (IOError?) -> Void
  ) {
    let box = ReactorBound(completion, on: reactor)
    let reactor = reactor
    executor.submit {
      var failed: IOError?
      do throws(IOError) {
        try bytes.withBuffer { buffer throws(IOError) in try file.write(buffer, at: position) }
      } catch {
        failed = error
      }
      let outcome = failed
      reactor.submit { box.take()(outcome) }
    }
  }
}
