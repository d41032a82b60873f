// TimerSource: a record every so often.
//
// Position: the number of the tick that comes next and the time of tick 0 in ms, int64 each, big endian.

import MillraceBase
import MillraceDataflow
import MillraceModel

/// Ticks: a record with the tick's number, from 0, as decimal text, and its time: the time of tick 0, which is when
/// the job first ran, and so many intervals. Ticks that nobody ran for come at once when the job runs again, with the
/// times that they should have had.
public final class TimerSource: ReplayableSource {
  private let interval: Int64
  private let ticks: Int64
  private let clock: @Sendable () -> Timestamp
  private var next: Int64 = 0
  private var first: Int64?

  /// - Parameters:
  ///   - interval: at least 1 ms.
  ///   - ticks: how many there are; nil for ever.
  ///   - clock: tells the time.
  public init(every interval: Duration, ticks: Int64? = nil, clock: @escaping @Sendable () -> Timestamp = { .now }) {
    precondition(interval >= .milliseconds(1), "a tick every \(interval)")
    self.interval = interval.inMilliseconds
    self.ticks = max(0, ticks ?? .max)
    self.clock = clock
  }

  /// Goes to a position.
  /// - Throws: `.sourceFailed` when it is none.
  public func restore(_ position: Bytes?) throws(JobError) {
    guard let position else { return }
    let numbers = try SourceNumbers.read(2, position, of: "a timer")
    guard numbers[0] >= 0, numbers[1] >= 0 else { throw JobError(.sourceFailed, "tick \(numbers[0]) of a timer") }
    (next, first) = (numbers[0], numbers[1])
  }

  /// The ticks that are due.
  public func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    let now = clock().milliseconds
    let first = first ?? now
    self.first = first
    var builder = RecordBatchBuilder()
    while next < ticks, builder.count == 0 || builder.size < maxBytes {
      let (delay, overflow) = next.multipliedReportingOverflow(by: interval)
      guard !overflow, delay <= now &- first, now >= first else { break }
      next.withBytes { builder.append(key: nil, value: $0, timestamp: Timestamp(milliseconds: first + delay)) }
      next += 1
    }
    return SourceBatch(
      batch: builder.count > 0 ? builder.finish() : nil, position: SourceNumbers.bytes([next, first]),
      isFinished: next >= ticks)
  }
}

extension DataStream where Source == RecordInput {
  /// A record every so often; see ``TimerSource``.
  ///
  /// - Parameters:
  ///   - name: owns the number of the next tick, in the job's state.
  ///   - ticks: how many there are; nil for ever.
  public static func timer(
    named name: String, every interval: Duration, ticks: Int64? = nil,
    clock: @escaping @Sendable () -> Timestamp = { .now }
  ) -> DataStream<RecordInput> {
    source(name) { () throws(JobError) in TimerSource(every: interval, ticks: ticks, clock: clock) }
  }
}
