// MonotonicTime and Timestamp: two clocks with two types, so that they are never mixed.

import CMillraceSystem

/// A point on the monotonic clock, in nanoseconds from an arbitrary start. Used for delays and time-outs.
public struct MonotonicTime: Comparable, Hashable, Sendable {
  /// Nanoseconds since the clock's start.
  public var nanoseconds: Int64
  /// A point `nanoseconds` after the clock's start.
  @inlinable public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
  /// The system's clock, now.
  public static var now: MonotonicTime { MonotonicTime(nanoseconds: mr_monotonic_ns()) }
  /// Order in time.
  @inlinable public static func < (left: MonotonicTime, right: MonotonicTime) -> Bool {
    left.nanoseconds < right.nanoseconds
  }
  /// Later by `delay`; stays at the end of time instead of overflowing.
  @inlinable public static func + (time: MonotonicTime, delay: Duration) -> MonotonicTime {
    let (sum, overflow) = time.nanoseconds.addingReportingOverflow(delay.inNanoseconds)
    return MonotonicTime(nanoseconds: overflow ? .max : sum)
  }
  /// The time between two points.
  @inlinable public static func - (later: MonotonicTime, earlier: MonotonicTime) -> Duration {
    .nanoseconds(later.nanoseconds - earlier.nanoseconds)
  }
}

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z; −1 means none, as in Kafka's protocol.
public struct Timestamp: Comparable, Hashable, Sendable {
  /// Milliseconds since the epoch.
  public var milliseconds: Int64
  /// A time `milliseconds` after the epoch.
  @inlinable public init(milliseconds: Int64) { self.milliseconds = milliseconds }
  /// No time.
  public static let none = Timestamp(milliseconds: -1)
  /// The system's clock, now.
  public static var now: Timestamp { Timestamp(milliseconds: mr_realtime_ns() / 1_000_000) }
  /// Order in time.
  @inlinable public static func < (left: Timestamp, right: Timestamp) -> Bool { left.milliseconds < right.milliseconds }
}

/// Both clocks, read one right behind the other, so that a time of one can be told in the other's terms.
public struct ClockReading: Sendable {
  /// The monotonic clock.
  public var monotonic: MonotonicTime
  /// The wall clock in nanoseconds since 1970-01-01T00:00:00Z.
  public var wallNanoseconds: Int64
  /// A reading.
  public init(monotonic: MonotonicTime, wallNanoseconds: Int64) {
    self.monotonic = monotonic
    self.wallNanoseconds = wallNanoseconds
  }
  /// The system's clocks, now.
  public static var now: ClockReading { ClockReading(monotonic: .now, wallNanoseconds: mr_realtime_ns()) }
}

extension Duration {
  /// Whole nanoseconds; durations beyond 292 years are cut to that.
  @inlinable public var inNanoseconds: Int64 {
    let (seconds, attoseconds) = components
    let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    if overflow { return seconds < 0 ? .min : .max }
    return product &+ attoseconds / 1_000_000_000
  }
  /// Whole milliseconds, rounded down.
  @inlinable public var inMilliseconds: Int64 { inNanoseconds / 1_000_000 }
}

/// Processor time used so far.
public enum ProcessorTime {
  /// Of the calling thread.
  public static var thread: Duration { .nanoseconds(mr_thread_cpu_ns()) }
}
