// Availability: the share of time that the server was ready.

import MillraceBase

/// Time ready and time in all. A pure value: it is told now and then how things stand.
struct Availability {
  private(set) var ready = Duration.zero
  private(set) var all = Duration.zero
  private var last: (time: MonotonicTime, isReady: Bool)

  /// From now on, ready until something else is told.
  init(now: MonotonicTime) { last = (now, true) }

  /// How things stand; the time since the last time counts as it was then.
  mutating func observe(isReady: Bool, now: MonotonicTime) {
    let passed = max(.zero, now - last.time)
    all += passed
    if last.isReady { ready += passed }
    last = (now, isReady)
  }
}
