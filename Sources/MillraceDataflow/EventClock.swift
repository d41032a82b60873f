// EventClock: how far event time has come, as the records of each partition tell it.
//
// A partition's watermark is its newest event time less the bound by which its records may be out of order; the clock's is
// the lowest of its partitions', and never falls. It moves with each batch, not with each step, so that what depends on it
// does not depend on how batches were gathered into steps.
//
// A partition that brought nothing for a while although everything in it was read is idle and holds nobody up; one that
// ended counts no more at all. When all have ended, event time is at its end and closes every window. When all are idle,
// event time stands still.
//
// The newest times and the watermark are keyed state, so that a run that recovers judges what is late as the run before it did.

import MillraceBase
import MillraceModel

/// How watermarks follow from the event times that were seen.
public struct WatermarkStrategy: Sendable {
  /// By how much a record's time may be lower than that of a record before it in its partition without its being late.
  public var outOfOrderness: Duration
  /// After this time without records a partition that was read to its end holds event time up no longer; nil for never.
  public var idleness: Duration?

  /// Records that come late by at most `outOfOrderness`.
  public static func boundedOutOfOrderness(
    _ outOfOrderness: Duration, idleness: Duration? = .seconds(5)
  ) -> WatermarkStrategy {
    WatermarkStrategy(outOfOrderness: outOfOrderness, idleness: idleness)
  }

  /// Each partition's times never fall: what falls is late.
  public static var monotonic: WatermarkStrategy { .boundedOutOfOrderness(.zero) }
}

/// The event time of one input, or of the operator that assigned other times than the records'.
///
/// Safety: `@unchecked Sendable` because it is used by the job's worker thread only.
public final class EventClock: @unchecked Sendable {
  private struct Place: Hashable {
    let input: Int
    let partition: Int32
  }

  private struct Lane {
    let place: Place
    /// In the clock's state.
    let key: [UInt8]
    var newest = Int64.min
    var seen: MonotonicTime
    var isIdle = false
    var isFinished = false
  }

  let strategy: WatermarkStrategy
  /// Whose partitions count.
  let inputs: Set<Int>
  private let outOfOrderness: Int64
  private let table: KeyedTable
  /// What the workers tell each other; nil for an input's own time, which stands in the batches' headers, and for one worker.
  private let notes: TimeNotes?
  private var lanes: [Lane] = []
  private var indexes: [Place: Int] = [:]
  /// Of the partition that was observed last: behind a shared flow each value is observed by itself.
  private var observed: (place: Place, index: Int)?
  /// The time of the step that is being made.
  var now = MonotonicTime(nanoseconds: 0)
  /// Values with an earlier time are late. `Int64.min` before anything is known, `Int64.max` when nothing can come any more.
  public private(set) var watermark = Timestamp(milliseconds: .min)

  init(
    _ strategy: WatermarkStrategy, inputs: Set<Int>, table: KeyedTable, notes: TimeNotes? = nil,
    isOfProcessing: Bool = false
  ) {
    self.notes = notes
    self.isOfProcessing = isOfProcessing
    table.isShared = true
    self.strategy = strategy
    self.inputs = inputs
    self.table = table
    outOfOrderness = max(0, strategy.outOfOrderness.inMilliseconds)
  }

  /// Follows the clock on the wall instead of records.
  let isOfProcessing: Bool

  /// The clock on the wall has come to `time`, or to the end of time with the last of the inputs. The watermark follows, but not back, and not by less than `least` ms.
  func moveOn(to time: Timestamp, least: Int64) {
    guard time > watermark, time.milliseconds >= watermark.milliseconds.adding(least) else { return }
    watermark = time
    table.update(UnsafeRawBufferPointer(start: nil, count: 0), initial: 0) { $0 = time.milliseconds.stateBits }
  }

  /// Takes the watermark from the state, once that was recovered.
  func recover() {
    if let bits = table.value(UnsafeRawBufferPointer(start: nil, count: 0)) {
      watermark = Timestamp(milliseconds: Int64(stateBits: bits))
    }
  }

  /// An operator that assigns times has run a batch, and `newest` is the highest it assigned. With several workers only the one
  /// that decodes the batch knows, and all take it in once everyone is through: see ``takeNote(_:)``.
  @usableFromInline
  func note(_ run: InputRun, newest: Timestamp) {
    guard let notes else { return observe(run, newest: newest) }
    if run.isOwn { notes.set(newest, of: run.number) }
  }

  /// A round of so many runs begins; said to one worker's clock for all.
  func beginRound(of count: Int) { notes?.begin(count) }

  /// Takes in what was noted of a run.
  func takeNote(_ run: InputRun) {
    if let notes { observe(run, newest: notes.newest(of: run.number)) }
  }

  /// A batch of a partition was run, and `newest` is the highest event time in it.
  func observe(_ run: InputRun, newest: Timestamp) {
    let place = Place(input: run.input, partition: run.partition)
    if observed?.place != place { observed = indexes[place].map { (place, $0) } }
    guard let index = observed?.index else { return }
    lanes[index].seen = now
    let wasIdle = lanes[index].isIdle
    lanes[index].isIdle = false
    let before = lanes[index].newest
    // What lies beyond all windows must not take event time with it.
    guard newest.milliseconds > before, newest.milliseconds < TimeWindows.farthest else { return }
    lanes[index].newest = newest.milliseconds
    lanes[index].key.withUnsafeBytes { key in
      table.update(key, initial: 0) { $0 = newest.milliseconds.stateBits }
    }
    // Only the partition that held event time up can let it go on.
    if wasIdle || lowest(before) <= watermark.milliseconds { moveOn() }
  }

  /// Takes in where a partition stands.
  func look(_ progress: JobInputs.Progress) {
    guard inputs.contains(progress.input) else { return }
    let place = Place(input: progress.input, partition: progress.partition)
    let index =
      indexes[place]
      ?? {
        var lane = Lane(place: place, key: progress.name, seen: now)
        progress.name.withUnsafeBytes { if let bits = table.value($0) { lane.newest = Int64(stateBits: bits) } }
        lanes.append(lane)
        indexes[place] = lanes.count - 1
        return lanes.count - 1
      }()
    if !progress.isRead { lanes[index].seen = now }
    lanes[index].isFinished = progress.isFinished
    if let idleness = strategy.idleness { lanes[index].isIdle = now - lanes[index].seen >= idleness }
  }

  /// No input is read for a while: that a partition brings nothing does not make it idle.
  func holdIdleness() {
    for index in lanes.indices where !lanes[index].isIdle { lanes[index].seen = now }
  }

  /// The partition that holds event time back: the lowest of those that have neither ended nor are idle, as an index of the job's inputs and a
  /// partition. Nil when there is none, and for a clock that follows the one on the wall.
  var holder: (input: Int, partition: Int32)? {
    lanes.filter { !$0.isFinished && !$0.isIdle }.min { $0.newest < $1.newest }
      .map { ($0.place.input, $0.place.partition) }
  }

  /// Lets the watermark rise as far as the partitions allow.
  func moveOn() {
    var lowest = Int64.max
    var isHeld = false
    for lane in lanes where !lane.isFinished {
      isHeld = true
      if !lane.isIdle { lowest = min(lowest, self.lowest(lane.newest)) }
    }
    // Before anything is known of the inputs, and while all that have not ended are idle, event time stands still.
    if lanes.isEmpty || (isHeld && lowest == .max) { return }
    guard lowest > watermark.milliseconds else { return }
    watermark = Timestamp(milliseconds: lowest)
    table.update(UnsafeRawBufferPointer(start: nil, count: 0), initial: 0) { $0 = lowest.stateBits }
  }

  /// The lowest time that is expected behind `newest`.
  private func lowest(_ newest: Int64) -> Int64 { newest == .min ? .min : newest.subtracting(outOfOrderness) }
}

/// The newest time that was assigned in each run of a round.
///
/// Safety: `@unchecked Sendable` because each place is written by the one worker that runs the batch, and read after a barrier.
final class TimeNotes: @unchecked Sendable {
  private var newest: UnsafeMutablePointer<Timestamp>
  private var capacity = 64
  private var count = 0

  init() { newest = .allocate(capacity: capacity) }

  deinit { newest.deallocate() }

  /// Begins a round of so many runs. No worker is at work.
  func begin(_ count: Int) {
    if count > capacity {
      newest.deallocate()
      capacity = max(count, 2 * capacity)
      newest = .allocate(capacity: capacity)
    }
    self.count = count
    newest.initialize(repeating: Timestamp(milliseconds: .min), count: count)
  }

  func set(_ time: Timestamp, of run: Int) {
    precondition(run < count, "run \(run) of a round of \(count)")
    newest[run] = time
  }

  func newest(of run: Int) -> Timestamp {
    precondition(run < count, "run \(run) of a round of \(count)")
    return newest[run]
  }
}

extension Int64 {
  /// Less `other`, at least the least number there is.
  func subtracting(_ other: Int64) -> Int64 {
    let (difference, overflow) = subtractingReportingOverflow(other)
    return overflow ? .min : difference
  }

  /// Plus `other`, at most the largest number there is.
  @usableFromInline
  func adding(_ other: Int64) -> Int64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? (other > 0 ? .max : .min) : sum
  }
}
