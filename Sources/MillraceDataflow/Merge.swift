// Merge: the values of two streams as one.

import MillraceBase

/// Hands on what either of two flows hands on. Event time is where the slower of the two is.
public struct Merge<First: Flow, Second: Flow>: Flow where First.Output == Second.Output {
  /// What came in.
  public typealias Output = First.Output
  @usableFromInline let first: First
  @usableFromInline let second: Second

  /// Both.
  @inlinable
  public init(_ first: First, _ second: Second) {
    self.first = first
    self.second = second
  }

  /// Binds both.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    Self(try first.bound(to: &graph), try second.bound(to: &graph))
  }

  /// Hands each value on; those that one batch leads to in both come from the first one first.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    try first.process(run, body)
    try second.process(run, body)
  }

  /// Hands on what event time sets free.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    min(first.advance(body), second.advance(body))
  }

  /// Hands on what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    first.endStep(body)
    second.endStep(body)
  }
}
