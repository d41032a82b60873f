// SessionWindows: values of a key that follow each other without a longer pause than the gap.
//
// Two values that are exactly the gap apart belong together. A session closes when event time has passed the gap behind its last
// value, so that no value in time can prolong it any more: what sessions there are does not depend on the order in which values
// come, as long as none is late. A late value may join sessions, and what was handed on of them is handed on again as one.

import MillraceBase

/// Sessions: a session's window reaches from its first value to the gap behind its last one; the time of a result is the ms before
/// that.
public struct SessionWindows: EventTimeWindowAssigner {
  let gap: Int64

  /// Sessions whose values follow each other with pauses of at most `gap`.
  /// - Parameter gap: at least 0; parts of a ms are cut off.
  public init(gap: Duration) {
    precondition(gap >= .zero, "a gap of \(gap)")
    self.gap = gap.inMilliseconds
  }

  /// Registers the sessions of an operator.
  public func makeStore(
    in graph: inout JobGraph, options: WindowOptions, codec: (any StateCodec)?, name: String?
  ) throws(JobError) -> SessionStore {
    graph.needEventTime()
    return try graph.addState(kind: "sessions", name: name) {
      SessionStore(
        operatorID: $0, gap: gap, lateness: max(0, options.allowedLateness.inMilliseconds), emission: options.emission,
        codec: codec)
    }
  }
}

extension SessionStore: WindowStore {
  /// Takes in a value, which joins, prolongs or begins a session.
  @inlinable @inline(__always)
  public func take<Fold: MergeableAggregation>(
    _ input: Fold.Input, _ key: UnsafeRawBufferPointer, _ time: Timestamp, _ fold: Fold,
    _ handOn: (UnsafeRawBufferPointer, Window, Timestamp, Fold.State) -> Void
  ) -> Bool {
    take(
      key, time, initial: { fold.initial.ownedStateBits() }, add: { fold.add(input, toBits: &$0) },
      merge: { fold.merge(bits: $0, intoBits: &$1) })
  }

  /// Hands on the sessions that close, and those that late values changed.
  @inlinable
  public func advance<Fold: MergeableAggregation>(
    to time: Timestamp, _ fold: Fold, _ handOn: (UnsafeRawBufferPointer, Window, Timestamp, Fold.State) -> Void
  ) {
    takeAgain { handOn($0, $1, $1.lastTime, Fold.State(stateBits: $2)) }
    advance(to: time) { handOn($0, $1, $1.lastTime, Fold.State(stateBits: $2)) }
  }

  /// Hands on what changed, when sessions are handed on with each step.
  @inlinable
  public func endStep<Fold: MergeableAggregation>(
    _ fold: Fold, _ handOn: (UnsafeRawBufferPointer, Window, Timestamp, Fold.State) -> Void
  ) {
    takeAgain { handOn($0, $1, $1.lastTime, Fold.State(stateBits: $2)) }
    takeUpdates { handOn($0, $1, $1.lastTime, Fold.State(stateBits: $2)) }
  }
}

extension Window {
  /// The last ms in it.
  @inlinable var lastTime: Timestamp { Timestamp(milliseconds: end.milliseconds - 1) }
}
