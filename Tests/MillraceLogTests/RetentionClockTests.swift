// RetentionClockTests: a clock that is set does not make records expire before somebody can notice.

import MillraceBase
import MillraceIO
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceLog

private let day: Int64 = 86_400_000

private func weekly() -> CleanupPolicy {
  var policy = CleanupPolicy()
  policy.retentionTime = 7 * day
  return policy
}

extension LogWorld {
  /// Looks for what has expired every five minutes, as a server does, for `time`.
  fileprivate func check(_ log: PartitionLog, for time: Duration) {
    let end = world.now + time
    while world.now < end {
      store.expire([(log, weekly())])
      world.run(for: .seconds(300))
    }
  }
}

@Test("records do not expire at once when the clock jumps forwards, and do when it has gone on evenly for an hour")
func forwardJump() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  _ = try log.fill(partition, batches: 20)
  log.check(partition, for: .seconds(600))
  log.world.jumpWallClock(by: .seconds(30 * 86_400))
  log.check(partition, for: .seconds(3000))
  #expect(partition.startOffset == 0)
  #expect(log.lines.filter { $0.contains("the clock is far ahead") }.count == 1)
  log.check(partition, for: .seconds(1200))
  #expect(partition.startOffset == partition.highWatermark)
  #expect(log.lines.contains { $0.contains("has gone on evenly since it jumped") })
}

@Test("a jump that is taken back within the hour has no effect, and records go at their age afterwards")
func jumpTakenBack() throws {
  let log = LogWorld()
  try log.open()
  let partition = try log.create(1)
  _ = try log.fill(partition, batches: 20)
  log.world.jumpWallClock(by: .seconds(400 * 86_400))
  log.check(partition, for: .seconds(1800))
  log.world.jumpWallClock(by: .seconds(-400 * 86_400))
  log.check(partition, for: .seconds(7200))
  #expect(partition.startOffset == 0)
  // A clock that is set back only keeps records longer.
  log.world.jumpWallClock(by: .seconds(-86_400))
  for _ in 0..<14 {
    log.world.run(for: .seconds(43_200))
    log.check(partition, for: .seconds(1))
  }
  #expect(partition.startOffset == 0)
  log.world.run(for: .seconds(86_400))
  log.check(partition, for: .seconds(600))
  #expect(partition.startOffset == partition.highWatermark)
}

@Test(
  "a jump is still one after a restart, also a second one, and a start after a long pause only waits",
  arguments: [true, false])
func jumpBeforeRestart(_ isClean: Bool) throws {
  let log = LogWorld()
  try log.open()
  _ = try log.fill(try log.create(1), batches: 20)
  log.world.jumpWallClock(by: .seconds(30 * 86_400))
  log.check(try log.partition(1), for: .seconds(1800))
  for _ in 0..<2 {
    if isClean { #expect(try log.close() == nil) }
    try log.restart()
    log.check(try log.partition(1), for: .seconds(3000))
    #expect(try log.partition(1).startOffset == 0)
  }
  log.check(try log.partition(1), for: .seconds(1200))
  #expect(try log.partition(1).startOffset == log.partition(1).highWatermark)
}

@Test("with no time to wait, a clock is believed as it is")
func jumpWithoutHold() throws {
  let log = LogWorld { $0.clockHold = 0 }
  try log.open()
  let partition = try log.create(1)
  _ = try log.fill(partition, batches: 20)
  log.world.jumpWallClock(by: .seconds(30 * 86_400))
  log.check(partition, for: .seconds(1))
  #expect(partition.startOffset == partition.highWatermark && log.lines.isEmpty)
}

@Test("every combination of jumps: the time never runs ahead of the real one before the hold is over")
func everyJump() {
  let jumps: [Int64] = [-400 * day, -3_600_000, -1, 0, 599_000, 601_000, 3_600_000, 400 * day]
  for first in jumps {
    for second in jumps {
      for wait in [1, 1800, 3590, 3700] as [Int64] {
        var now = MonotonicTime(nanoseconds: 5_000_000_000)
        var real: Int64 = 1_000_000_000_000
        var clock = RetentionClock(
          lastSeen: nil, wall: Timestamp(milliseconds: real), now: now, hold: 3_600_000)
        var offset: Int64 = 0
        func pass(_ seconds: Int64) -> Int64 {
          now = now + .seconds(seconds)
          real += seconds * 1000
          return clock.look(wall: Timestamp(milliseconds: real + offset), now: now).time.milliseconds
        }
        _ = pass(10)
        offset += first
        // What was believed before the jump, going on evenly.
        let early = pass(1)
        #expect(early <= real + min(max(first, 0), RetentionClock.tolerance), "\(first)")
        let later = pass(wait)
        #expect(wait < 3600 || later == real + offset, "\(first) is believed after an hour")
        let believed = later - real
        offset += second
        let last = pass(1)
        #expect(last - real <= max(believed, 0) + RetentionClock.tolerance)
        // Whatever it was, a clock that goes on evenly is believed in the end.
        let end = pass(3700)
        #expect(end == real + offset, "\(first), \(second)")
      }
    }
  }
}
