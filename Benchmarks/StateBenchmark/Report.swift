// Report: clocks and figures.

import Glibc

enum Report {
  /// Prints a line at once, also into a file.
  static func say(_ line: String) {
    print(line)
    fflush(nil)
  }

  /// Seconds of processor time of all threads so far.
  static func processorSeconds() -> Double { seconds(CLOCK_PROCESS_CPUTIME_ID) }
  /// Seconds of a clock that only moves on.
  static func elapsedSeconds() -> Double { seconds(CLOCK_MONOTONIC) }

  private static func seconds(_ clock: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  static func rate(_ count: Int, _ seconds: Double) -> String {
    "\((Double(count) / seconds / 1e5).rounded() / 10) M/s per core"
  }
  static func milliseconds(_ seconds: Double) -> String { "\((seconds * 1e4).rounded() / 10) ms" }
  static func seconds(_ seconds: Double) -> String { "\((seconds * 100).rounded() / 100) s" }
  static func logarithm(_ x: Double) -> Double { log(x) }
  static func exponential(_ x: Double) -> Double { exp(x) }
}
