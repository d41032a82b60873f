// JobExecutor+Time: how clocks follow inputs and the clock on the wall between batches.

import MillraceBase
import MillraceModel

extension JobExecutor {
  /// Sees which partitions are idle, which have ended, and which are new.
  /// - Parameters:
  ///   - isHeld: no input is read, so that none can be said to be idle.
  ///   - isIdle: there are no batches to run.
  /// - Returns: whether event time has moved without a batch.
  func lookAtTime(isHeld: Bool, isIdle: Bool) -> Bool {
    let now = options.clock()
    var hasMoved = workers[0].graph.usesProcessingTime && moveProcessingTime(isIdle: isIdle)
    for clock in workers.lazy.flatMap(\.graph.clocks) where !clock.isOfProcessing {
      clock.now = now
      if isHeld {
        clock.holdIdleness()
        continue
      }
      let before = clock.watermark
      inputs.forEachProgress { clock.look($0) }
      clock.moveOn()
      if clock.watermark > before { hasMoved = true }
    }
    return hasMoved
  }

  /// Lets clocks follow the one on the wall: with each step, and without one only when an operator waits for that.
  private func moveProcessingTime(isIdle: Bool) -> Bool {
    guard !isIdle || workers.contains(where: { $0.graph.states.contains(where: \.waitsForTime) }) else { return false }
    let isAtEnd = isIdle && isFinished
    let time = isAtEnd ? Timestamp(milliseconds: .max) : options.wallClock()
    var hasMoved = false
    for clock in workers.lazy.flatMap(\.graph.clocks) where clock.isOfProcessing {
      let before = clock.watermark
      clock.moveOn(to: time, least: isIdle && !isAtEnd ? options.commitInterval.inMilliseconds : 0)
      if clock.watermark > before { hasMoved = true }
    }
    return hasMoved
  }
}
