// Exchange: where values go to the worker that has their keys.
//
// Every operator with keyed state stands behind one. A job of one worker has nothing to hand over: the values go through, and the
// compiler leaves nothing of this between the operators.

import MillraceBase

/// Hands each value on, to the worker that owns its key.
public struct Exchange<Upstream: Flow, Key: StreamKey>: Flow {
  /// What came in.
  public typealias Output = Upstream.Output
  @usableFromInline let upstream: Upstream
  @usableFromInline let key: @Sendable (Upstream.Output) -> Key

  /// By `key` behind `upstream`.
  @inlinable
  public init(_ upstream: Upstream, by key: @escaping @Sendable (Upstream.Output) -> Key) {
    self.upstream = upstream
    self.key = key
  }

  /// Binds what lies before.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    Self(try upstream.bound(to: &graph), by: key)
  }

  /// Hands each value on.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    try upstream.process(run, body)
  }

  /// Hands on what event time sets free.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp { upstream.advance(body) }

  /// Hands on what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) { upstream.endStep(body) }
}
