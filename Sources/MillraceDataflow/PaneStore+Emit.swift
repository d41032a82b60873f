// PaneStore+Emit: taking values in and handing results on, by the fold that the operator brings.

import MillraceBase

extension PaneStore: WindowStore {
  /// Takes in a value, and hands on what it completes.
  @inlinable
  public func take<Fold: MergeableAggregation>(
    _ input: Fold.Input, _ key: UnsafeRawBufferPointer, _ time: Timestamp, _ fold: Fold,
    _ handOn: (UnsafeRawBufferPointer, Window, Timestamp, Fold.State) -> Void
  ) -> Bool {
    switch take(
      key, time, initial: { fold.initial.ownedStateBits() }, add: { fold.add(input, toBits: &$0) })
    {
    case .late: return false
    case .kept: return true
    case .due(let cell):
      emit(cell, nil, fold, handOn)
      return true
    }
  }

  /// Hands on what was waiting for event time.
  @inlinable
  public func advance<Fold: MergeableAggregation>(
    to time: Timestamp, _ fold: Fold, _ handOn: (UnsafeRawBufferPointer, Window, Timestamp, Fold.State) -> Void
  ) {
    for (cell, time) in advance(to: time) { emit(cell, time, fold, handOn) }
  }

  /// Hands on nothing.
  @inlinable
  public func endStep<Fold: MergeableAggregation>(
    _ fold: Fold, _ handOn: (UnsafeRawBufferPointer, Window, Timestamp, Fold.State) -> Void
  ) {}

  /// Hands on what a cell holds, at the time of its latest value unless there is another.
  @inlinable
  func emit<Fold: MergeableAggregation>(
    _ cell: Int, _ time: Timestamp?, _ fold: Fold,
    _ handOn: (UnsafeRawBufferPointer, Window, Timestamp, Fold.State) -> Void
  ) {
    let result = result(of: cell)
    let time = time ?? result.window.lastTime
    if result.parts.count == 1 {
      handOn(result.key, result.window, time, Fold.State(stateBits: result.parts[0]))
    } else {
      var sum = fold.initial
      for part in result.parts { fold.merge(Fold.State(stateBits: part), into: &sum) }
      handOn(result.key, result.window, time, sum)
    }
    handedOn(cell)
  }
}
