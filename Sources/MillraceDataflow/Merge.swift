// Merge: the values of two streams as one.

import MillraceBase

/// Hands on what either of two flows hands on. Event time is where the slower of the two is.
public struct Merge<First: Flow, Second: Flow>: Flow where First.Output == Second.Output {
  /// What came in.
  public typealias Output = First.Output
  @usableFromInline let first: First
  @usableFromInline let second: Second
  /// Where values of the one wait that comes to its end earlier, in a job of several workers.
  @usableFromInline let firstEnd: ExchangeEnd<First.Output>?
  @usableFromInline let secondEnd: ExchangeEnd<First.Output>?

  /// Both.
  @inlinable
  public init(_ first: First, _ second: Second) { self.init(first, second, firstEnd: nil, secondEnd: nil) }

  @usableFromInline
  init(
    _ first: First, _ second: Second, firstEnd: ExchangeEnd<First.Output>?, secondEnd: ExchangeEnd<First.Output>?
  ) {
    self.first = first
    self.second = second
    self.firstEnd = firstEnd
    self.secondEnd = secondEnd
  }

  /// Binds both.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    try graph.bindTogether(first, second)
  }

  /// Hands each value on; those that one batch leads to in both come from the first one first.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    if let firstEnd { firstEnd.receiveRun(body) } else { try first.process(run, body) }
    if let secondEnd { secondEnd.receiveRun(body) } else { try second.process(run, body) }
  }

  /// Hands on what event time sets free.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let firstTime = firstEnd.map { $0.receiveTime(body) } ?? first.advance(body)
    let secondTime = secondEnd.map { $0.receiveTime(body) } ?? second.advance(body)
    return min(firstTime, secondTime)
  }

  /// Hands on what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    if let firstEnd { firstEnd.receiveEnd(body) } else { first.endStep(body) }
    if let secondEnd { secondEnd.receiveEnd(body) } else { second.endStep(body) }
  }
}
