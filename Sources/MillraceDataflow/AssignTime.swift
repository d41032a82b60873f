// AssignTime: event times out of the values themselves.

import MillraceBase

/// Gives each value the event time that a closure reads from it, and watermarks that follow from those.
public struct AssignTime<Upstream: Flow>: Flow {
  /// What came in.
  public typealias Output = Upstream.Output
  @usableFromInline let upstream: Upstream
  @usableFromInline let time: @Sendable (Upstream.Output) -> Timestamp
  /// What a value says of the watermark; without it, the newest time says it.
  @usableFromInline let mark: (@Sendable (Upstream.Output, Timestamp) -> Timestamp?)?
  @usableFromInline let strategy: WatermarkStrategy
  @usableFromInline let name: String?
  @usableFromInline let clock: EventClock?

  @usableFromInline
  init(
    _ upstream: Upstream, _ time: @escaping @Sendable (Upstream.Output) -> Timestamp,
    _ mark: (@Sendable (Upstream.Output, Timestamp) -> Timestamp?)?, _ strategy: WatermarkStrategy, _ name: String?,
    clock: EventClock?
  ) {
    self.upstream = upstream
    self.time = time
    self.mark = mark
    self.strategy = strategy
    self.name = name
    self.clock = clock
  }

  /// Assigns `time` behind `upstream`.
  /// - Parameters:
  ///   - name: owns what is known of the partitions in the job's state; see ``JobGraph/addTable(kind:name:)``.
  ///   - mark: the watermark of a partition after a value, which is given with its time; nil when the value does not say. What is lower
  ///     than what was said before changes nothing.
  @inlinable
  public init(
    _ upstream: Upstream, watermarks strategy: WatermarkStrategy, name: String?,
    mark: (@Sendable (Upstream.Output, Timestamp) -> Timestamp?)? = nil,
    time: @escaping @Sendable (Upstream.Output) -> Timestamp
  ) {
    self.init(upstream, time, mark, strategy, name, clock: nil)
  }

  /// Registers the clock, which follows the inputs before it.
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    let (upstream, inputs) = try graph.bindHead(upstream, for: "event times are assigned")
    return Self(
      upstream, time, mark, strategy, name, clock: try graph.addClock(strategy, inputs: inputs, name: name))
  }

  @usableFromInline
  var boundClock: EventClock {
    guard let clock else { preconditionFailure("an operator that assigns times is not bound to a job") }
    return clock
  }

  /// Assigns a time to each value.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    var newest = Timestamp(milliseconds: .min)
    try upstream.process(run) { value, _ in
      let at = time(value)
      if let mark {
        if let marked = mark(value, at), marked > newest { newest = marked }
      } else if at > newest {
        newest = at
      }
      body(value, at)
    }
    boundClock.note(run, newest: newest)
  }

  /// Assigns a time to what event time before it sets free; the watermark is that of the times it assigns.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    _ = upstream.advance { value, _ in body(value, time(value)) }
    return boundClock.watermark
  }

  /// Assigns a time to what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) { upstream.endStep { value, _ in body(value, time(value)) } }
}
