// StageClock: where one worker's time goes.
//
// Operators of a stage are one loop, so that a stage is the least that is timed: by the clock before and behind what the executor has a worker do
// at once, which is many batches mostly. Where a level has several stages, a batch of each 4 KiB says how they share the time.

import MillraceBase

/// Times of one worker's stages. Used by one thread at a time.
struct StageClock {
  private struct Level {
    /// Nanoseconds at work on the level.
    var whole: Int64 = 0
    /// Of these, in the batches that were looked at: of each stage.
    var parts: [Int64]
  }

  private let clock: @Sendable () -> MonotonicTime
  private var levels: [Level]
  private var level = 0
  private var begun = MonotonicTime(nanoseconds: 0)
  private var last = MonotonicTime(nanoseconds: 0)
  /// Bytes since a batch was looked at.
  private var unseen = StageClock.interval
  private var looks = false
  private static let interval = 4096
  /// Nanoseconds at work on what belongs to no stage: writing the state.
  private(set) var writing: Int64 = 0

  /// - Parameter counts: stages of each level.
  init(_ counts: [Int], clock: @escaping @Sendable () -> MonotonicTime) {
    self.clock = clock
    levels = counts.map { Level(parts: [Int64](repeating: 0, count: $0)) }
  }

  /// Work on a level begins.
  mutating func begin(_ level: Int) {
    self.level = level
    looks = false
    begun = clock()
  }

  /// It is over.
  mutating func end() { levels[level].whole += max(0, (clock() - begun).inNanoseconds) }

  /// Within that, a batch of so many bytes begins, or the end of a step.
  mutating func beginParts(bytes: Int?) {
    guard levels[level].parts.count > 1 else { return }
    unseen += bytes ?? StageClock.interval
    looks = unseen >= StageClock.interval
    guard looks else { return }
    unseen = 0
    last = clock()
  }

  /// A stage has done its part of the batch.
  mutating func endPart(_ stage: Int) {
    guard looks else { return }
    let now = clock()
    levels[level].parts[stage] += max(0, (now - last).inNanoseconds)
    last = now
  }

  /// Writing the state begins.
  mutating func beginWriting() { begun = clock() }

  /// The state is written.
  mutating func endWriting() { writing += max(0, (clock() - begun).inNanoseconds) }

  /// Nanoseconds in all stages.
  var whole: Int64 { levels.reduce(0) { $0 + $1.whole } }

  /// About the nanoseconds in one stage; exactly, where it is the only one of its level.
  func time(of stage: Int, at level: Int) -> Int64 {
    let (whole, parts) = (levels[level].whole, levels[level].parts)
    let sum = parts.reduce(0, +)
    return sum == 0 ? whole / Int64(parts.count) : Int64(Double(whole) * Double(parts[stage]) / Double(sum))
  }
}
