// SliceWindowStore+Emit: taking values in and handing windows on, by the fold that the operator brings.

import MillraceBase

extension SliceWindowStore: WindowStore {
  /// Changes the slice that the value's time lies in.
  @inlinable @inline(__always)
  public func take<Fold: MergeableAggregation>(
    _ input: Fold.Input, _ key: UnsafeRawBufferPointer, _ time: Timestamp, _ fold: Fold,
    _ handOn: (UnsafeRawBufferPointer, Window, Timestamp, Fold.State) -> Void
  ) -> Bool {
    guard let slice = slice(for: time, key) else { return false }
    slice.update(key, initial: fold.initial.ownedStateBits()) { fold.add(input, toBits: &$0) }
    return true
  }

  /// Changes a slice by what came of some of its values.
  @inlinable
  func take<Fold: MergeableAggregation>(_ part: PreparedState, _ fold: Fold) {
    guard let slice = slice(for: part.slice, part.key, values: part.values) else { return }
    slice.update(part.key, initial: fold.initial.ownedStateBits()) { fold.merge(bits: part.bits, intoBits: &$0) }
  }

  /// Hands on the windows that close, and those that late values changed.
  @inlinable
  public func advance<Fold: MergeableAggregation>(
    to time: Timestamp, _ fold: Fold, _ handOn: (UnsafeRawBufferPointer, Window, Timestamp, Fold.State) -> Void
  ) {
    for (end, keys) in takeAgain() { emit(end, keys, fold, handOn) }
    for (end, keys) in advance(to: time) { emit(end, keys, fold, handOn) }
    release()
  }

  /// Hands on what changed, when windows are handed on with each step.
  @inlinable
  public func endStep<Fold: MergeableAggregation>(
    _ fold: Fold, _ handOn: (UnsafeRawBufferPointer, Window, Timestamp, Fold.State) -> Void
  ) {
    for (end, keys) in takeAgain() { emit(end, keys, fold, handOn) }
    for (end, keys) in takeUpdates() { emit(end, keys, fold, handOn) }
  }

  /// Hands on one window: all its keys, or those of `keys`.
  @inlinable
  func emit<Fold: MergeableAggregation>(
    _ end: Int64, _ keys: KeyedTable?, _ fold: Fold,
    _ handOn: (UnsafeRawBufferPointer, Window, Timestamp, Fold.State) -> Void
  ) {
    let window = window(endingAt: end)
    let time = window.lastTime
    let slices = slices(ofWindowEndingAt: end)
    if let keys {
      keys.forEach { key, _ in
        var sum = fold.initial
        var isThere = false
        for slice in slices {
          guard let bits = slice.value(key) else { continue }
          fold.merge(Fold.State(stateBits: bits), into: &sum)
          isThere = true
        }
        if isThere { handOn(key, window, time, sum) }
      }
    } else if slices.count == 1, let slice = slices.first {
      slice.forEach { handOn($0, window, time, Fold.State(stateBits: $1)) }
    } else {
      let sums = scratchTable(Fold.State.codec)
      for slice in slices {
        slice.forEach { key, bits in
          sums.update(key, initial: fold.initial.ownedStateBits()) { fold.merge(bits: bits, intoBits: &$0) }
        }
      }
      sums.forEach { handOn($0, window, time, Fold.State(stateBits: $1)) }
    }
  }
}
