// QueueState: the durable part of a queue: what is done, what was counted, what waits.

import MillraceBase
import MillraceModel

/// What a queue needs to go on after a restart, beside its logs: for each lane what is done, and of the few messages that
/// have one a delivery count or a time to wait for.
///
/// What was in flight is not in it: such messages are delivered again. Memory follows the messages that are out of order.
public struct QueueState: Equatable, Sendable {
  /// A lane's durable state.
  public struct Lane: Equatable, Sendable {
    /// Everything below is done.
    public internal(set) var start: Offset
    /// Done ones above `start`; the offset `start` itself is not done.
    public internal(set) var done = OffsetRanges()
    /// Sum of the sizes of all that is done, from the lane's beginning, as far as they were known.
    public internal(set) var doneBytes: Int64 = 0
    /// Failed deliveries of those that have some.
    public internal(set) var counts: [Offset: Int32] = [:]
    /// Times before which messages are not delivered again.
    public internal(set) var delays: [Offset: Timestamp] = [:]

    /// A lane in which nothing is done.
    public init(start: Offset = 0) { self.start = start }

    /// Whether the message is done.
    public func isDone(_ offset: Offset) -> Bool { offset < start || done.contains(offset) }

    mutating func finish(_ range: Range<Offset>) {
      guard range.upperBound > start else { return }
      done.insert(max(range.lowerBound, start)..<range.upperBound)
      if let first = done.ranges.first, first.lowerBound == start {
        start = first.upperBound
        done.removeFirst()
      }
      Lane.remove(range, from: &counts)
      Lane.remove(range, from: &delays)
    }

    private static func remove<Value>(_ range: Range<Offset>, from table: inout [Offset: Value]) {
      guard !table.isEmpty else { return }
      // `count` of a range wider than an Int would trap; the subtraction wraps to a negative number instead.
      let width = range.upperBound &- range.lowerBound
      if width >= 0, width <= Int64(table.count) {
        for offset in range { table[offset] = nil }
      } else {
        for offset in Array(table.keys) where range.contains(offset) { table[offset] = nil }
      }
    }
  }

  /// By lane number.
  public internal(set) var lanes: [UInt8: Lane] = [:]

  /// Nothing is done.
  public init() {}

  /// A view that begins at `start` of lane 0: what lies before is none of its business.
  public init(start: Offset) { lanes[0] = Lane(start: start) }

  /// Applies `change`. Total: what makes no sense, such as a count of a message that is done, changes nothing.
  public mutating func apply(_ change: QueueChange) {
    switch change {
    case .done(let lane, let ranges, let bytes):
      for range in ranges { lanes[lane, default: Lane()].finish(range) }
      if bytes > 0 {
        let (sum, overflow) = lanes[lane, default: Lane()].doneBytes.addingReportingOverflow(bytes)
        lanes[lane, default: Lane()].doneBytes = overflow ? .max : sum
      }
    case .counted(let lane, let offset, let count):
      guard count > 0, !lanes[lane, default: Lane()].isDone(offset) else { return }
      // Both only grow, and a change that had to wait for room may come behind a later one.
      lanes[lane, default: Lane()].counts[offset] = max(count, lanes[lane]?.counts[offset] ?? 0)
    case .delayed(let lane, let offset, let until):
      guard !lanes[lane, default: Lane()].isDone(offset) else { return }
      lanes[lane, default: Lane()].delays[offset] = max(until, lanes[lane]?.delays[offset] ?? until)
    }
  }
}
