// SystemClock: waiting, for threads that have nothing else to do.

import CMillraceSystem
import Glibc

/// The system's clock as something to wait on. Reactors must not: they schedule timers.
public enum SystemClock {
  /// Blocks the calling thread for `duration`, or until a signal handler has run.
  public static func sleep(_ duration: Duration) {
    let nanoseconds = max(0, duration.inNanoseconds)
    var wait = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
    nanosleep(&wait, nil)
  }

  /// Some processor cycles without work, for a thread that looks again and again for what another one writes.
  public static func pause() { mr_pause() }
}
