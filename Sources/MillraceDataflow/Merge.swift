// Merge: the values of two streams as one.

import MillraceBase

/// Hands on what either of two flows hands on. Event time is where the slower of the two is.
public struct Merge<First: Flow, Second: Flow>: Flow where First.Output == Second.Output {
  /// What came in.
  public typealias Output = First.Output
  @usableFromInline let first: First
  @usableFromInline let second: Second
  /// Where values of the one wait that comes to its end earlier, in a job of several workers.
  @usableFromInline var firstLanes: LaneReader<First.Output>?
  @usableFromInline var secondLanes: LaneReader<First.Output>?
  /// What comes of each.
  @usableFromInline let firstCount: ValueCount
  @usableFromInline let secondCount: ValueCount

  /// Both.
  @inlinable
  public init(_ first: First, _ second: Second) {
    self.init(first, second, firstLanes: nil, secondLanes: nil, firstCount: .nowhere, secondCount: .nowhere)
  }

  @usableFromInline
  init(
    _ first: First, _ second: Second, firstLanes: LaneReader<First.Output>?, secondLanes: LaneReader<First.Output>?,
    firstCount: ValueCount, secondCount: ValueCount
  ) {
    self.first = first
    self.second = second
    self.firstLanes = firstLanes
    self.secondLanes = secondLanes
    self.firstCount = firstCount
    self.secondCount = secondCount
  }

  /// Binds both.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    try graph.bindTogether(first, second)
  }

  /// Hands each value on; those that one batch leads to in both come from the first one first.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    if let firstLanes { firstLanes.receiveRun(body) } else { try first.process(run, countedBy: firstCount, body) }
    if let secondLanes { secondLanes.receiveRun(body) } else { try second.process(run, countedBy: secondCount, body) }
  }

  /// Hands on what event time sets free.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let firstTime = firstLanes.map { $0.receiveTime(body) } ?? first.advance(countedBy: firstCount, body)
    let secondTime = secondLanes.map { $0.receiveTime(body) } ?? second.advance(countedBy: secondCount, body)
    return min(firstTime, secondTime)
  }

  /// Hands on what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    if let firstLanes { firstLanes.receiveEnd(body) } else { first.endStep(countedBy: firstCount, body) }
    if let secondLanes { secondLanes.receiveEnd(body) } else { second.endStep(countedBy: secondCount, body) }
  }
}

/// A merge of whatever values.
protocol MergeFlow: Flow {}

extension Merge: MergeFlow {}
