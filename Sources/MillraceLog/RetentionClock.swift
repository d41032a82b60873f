// RetentionClock: the time that records expire by: the wall clock, unless that has jumped forwards.
//
//              wall clock goes on evenly                      more than `tolerance` ahead
//   following ───────────────────────────▶ following ───────────────────────────────────────▶ held
//   held ── as far ahead for `hold` ──▶ following          held ── back within `tolerance` ──▶ following
//
// Following: the time is the wall clock's. Held: it goes on with the monotonic clock from what was right before. A clock
// that is set back is followed at once: nothing expires too early by it.
// The time is kept in snapshots, so that a start with a clock that is far ahead is noticed, too; a server that was
// stopped for long cannot be told from that.

import MillraceBase

struct RetentionClock: Sendable {
  /// What happened to the wall clock.
  enum Event: Equatable {
    /// It is so many ms ahead of where it should be.
    case jumped(ahead: Int64)
    /// It is right again, or so nearly.
    case returned
    /// It has gone on evenly for long enough: it is believed.
    case accepted(ahead: Int64)
  }

  /// So far ahead is no jump, in ms. Time servers correct more than that at a start only.
  static let tolerance: Int64 = 600_000

  private let hold: Int64
  private var time: Timestamp
  private var seen: MonotonicTime
  private var held: (since: MonotonicTime, ahead: Int64)?

  /// - Parameters:
  ///   - lastSeen: what a snapshot says; nil to believe the wall clock.
  ///   - hold: how long a clock that has jumped must go on evenly before it is believed, in ms; 0 believes it at once.
  init(lastSeen: Timestamp?, wall: Timestamp, now: MonotonicTime, hold: Int64) {
    self.hold = hold
    time = lastSeen ?? wall
    seen = now
  }

  /// The time now, and what happened since the last call.
  mutating func look(wall: Timestamp, now: MonotonicTime) -> (time: Timestamp, event: Event?) {
    let expected = Timestamp(milliseconds: time.milliseconds + (now - seen).inMilliseconds)
    let (difference, overflows) = wall.milliseconds.subtractingReportingOverflow(expected.milliseconds)
    let ahead = overflows ? Int64.max : difference
    func follow() { (time, seen) = (wall, now) }
    guard ahead > RetentionClock.tolerance, hold > 0 else {
      follow()
      defer { held = nil }
      return (wall, held == nil ? nil : .returned)
    }
    if let held, abs(ahead - held.ahead) <= RetentionClock.tolerance {
      guard (now - held.since).inMilliseconds >= hold else { return (expected, nil) }
      follow()
      self.held = nil
      return (wall, .accepted(ahead: ahead))
    }
    held = (now, ahead)
    return (expected, .jumped(ahead: ahead))
  }
}

extension LogStore {
  /// The time that records, tombstones and markers go by.
  func cleaningTime() -> Timestamp {
    let (time, event) = retentionClock.look(wall: reactor.wallClock, now: reactor.now)
    switch event {
    case .jumped(let ahead):
      logger.log(
        .warning, "log",
        "the clock is far ahead of the time seen last: nothing expires by it until it has gone on evenly",
        [
          "ahead-ms": "\(ahead)", "clock": Logger.iso8601(reactor.wallClock), "last-seen": Logger.iso8601(time),
          "wait-ms": "\(configuration.clockHold)",
        ])
    case .returned: logger.log(.info, "log", "the clock is right again", ["clock": Logger.iso8601(time)])
    case .accepted(let ahead):
      logger.log(
        .warning, "log", "the clock has gone on evenly since it jumped: records expire by it from now on",
        ["ahead-ms": "\(ahead)", "clock": Logger.iso8601(time)])
    case nil: break
    }
    return time
  }
}
