// Filter: only the values that satisfy a condition.

import MillraceBase

/// Hands on the values for which a closure says true.
public struct Filter<Upstream: Flow>: Flow {
  /// As before the filter.
  public typealias Output = Upstream.Output
  @usableFromInline let upstream: Upstream
  @usableFromInline let isIncluded: @Sendable (Upstream.Output) -> Bool

  /// Filters behind `upstream`.
  @inlinable
  public init(_ upstream: Upstream, _ isIncluded: @escaping @Sendable (Upstream.Output) -> Bool) {
    self.upstream = upstream
    self.isIncluded = isIncluded
  }

  /// Binds what lies before.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    Self(try upstream.bound(to: &graph), isIncluded)
  }

  /// Filters each value.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    try upstream.process(run) { if isIncluded($0) { body($0, $1) } }
  }

  /// Filters what event time sets free.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    upstream.advance { if isIncluded($0) { body($0, $1) } }
  }

  /// Filters what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) { upstream.endStep { if isIncluded($0) { body($0, $1) } } }
}
