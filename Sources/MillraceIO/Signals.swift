// Signals: SIGINT, SIGTERM and SIGHUP as events of a reactor.

import CMillraceSystem
import Glibc

/// Takes SIGINT, SIGTERM and SIGHUP out of the process's default handling and hands them to a reactor.
///
/// Make it on the main thread before any other thread starts, since threads inherit the blocked signals.
public final class Signals: Sendable {
  private let descriptor: Int32

  /// Blocks the signals and ignores SIGPIPE.
  public init() throws(IOError) {
    mr_ignore_sigpipe()
    descriptor = try IOError.check(mr_signal_descriptor(), "block", "signals")
  }

  deinit { mr_close(descriptor) }

  /// Calls `received` on the reactor with the number of each signal that arrives. Reactor thread only.
  ///
  /// The reactor keeps this object alive until the watch is cancelled.
  @discardableResult
  public func watch(on reactor: EpollReactor, _ received: @escaping (Int32) -> Void) throws(IOError) -> DescriptorWatch
  {
    try reactor.watch(descriptor: descriptor) { [self] in
      let signal = mr_signal_read(descriptor)
      if signal > 0 { received(signal) }
    }
  }
}
