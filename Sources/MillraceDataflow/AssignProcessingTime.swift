// AssignProcessingTime: the clock on the wall as event time, so that windows, timers and times to live go by it.
//
// The clock is read once for each step, before its batches. What it said is state, like every event time: a run that recovers goes on
// at or behind it, whatever the clock says by then, and a step that was lost is made again with the time of then; nothing of it was to be
// seen. While no records come, the clock moves on as long as an operator waits for time.

import MillraceBase

/// Gives each value the time at which it is processed, with watermarks that follow the clock.
public struct AssignProcessingTime<Upstream: Flow>: Flow {
  /// What came in.
  public typealias Output = Upstream.Output
  @usableFromInline let upstream: Upstream
  @usableFromInline let name: String?
  @usableFromInline let clock: EventClock?

  @usableFromInline
  init(_ upstream: Upstream, name: String?, clock: EventClock?) {
    self.upstream = upstream
    self.name = name
    self.clock = clock
  }

  /// Assigns the time of the clock behind `upstream`.
  /// - Parameter name: owns the clock in the job's state; see ``JobGraph/addTable(kind:name:codec:)``.
  @inlinable
  public init(_ upstream: Upstream, name: String?) { self.init(upstream, name: name, clock: nil) }

  /// Registers the clock.
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    let upstream = try upstream.bound(to: &graph)
    graph.needEventTime()
    return Self(upstream, name: name, clock: try graph.addProcessingClock(name: name))
  }

  @usableFromInline
  var boundClock: EventClock {
    guard let clock else { preconditionFailure("an operator that assigns times is not bound to a job") }
    return clock
  }

  /// Assigns the time to each value.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    let time = boundClock.watermark
    try upstream.process(run) { value, _ in body(value, time) }
  }

  /// Assigns the time to what event time before it sets free; the watermark is that of the clock.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let time = boundClock.watermark
    _ = upstream.advance { value, _ in body(value, time) }
    return time
  }

  /// Assigns the time to what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let time = boundClock.watermark
    upstream.endStep { value, _ in body(value, time) }
  }
}
