// SteadyClock: time that goes on evenly while the program runs, whatever is done to the wall clock.

import MillraceBase

/// A time of day at the start, plus what the monotonic clock says has passed since.
///
/// What is forgotten after some time must not be forgotten because somebody sets the clock forwards, and not kept for ever
/// because somebody sets it back.
struct SteadyClock: Sendable {
  private let start: Timestamp
  private let started: MonotonicTime

  init(start: Timestamp, now: MonotonicTime) {
    self.start = start
    started = now
  }

  func time(at now: MonotonicTime) -> Timestamp {
    Timestamp(milliseconds: start.milliseconds + (now - started).inMilliseconds)
  }
}
