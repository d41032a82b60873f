// CompactMap: at most one value for each value.

import MillraceBase

/// Hands on what a closure makes of each value, unless it is nil.
public struct CompactMap<Upstream: Flow, Output>: Flow {
  @usableFromInline let upstream: Upstream
  @usableFromInline let transform: @Sendable (Upstream.Output) -> Output?

  /// Applies `transform` behind `upstream`.
  @inlinable
  public init(_ upstream: Upstream, _ transform: @escaping @Sendable (Upstream.Output) -> Output?) {
    self.upstream = upstream
    self.transform = transform
  }

  /// Binds what lies before.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    Self(try upstream.bound(to: &graph), transform)
  }

  /// Transforms each value.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    try upstream.process(run) { if let output = transform($0) { body(output, $1) } }
  }

  /// Transforms what event time sets free.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    upstream.advance { if let output = transform($0) { body(output, $1) } }
  }

  /// Transforms what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    upstream.endStep { if let output = transform($0) { body(output, $1) } }
  }
}
