// JoinSides: what joins of two streams that only grow have in common: the values of both sides by key and time, how far
// event time has come, and what is late.

import MillraceBase

/// Which values belong together by their times, and how long one is kept for those to come.
@usableFromInline
protocol JoinRule: Sendable {
  /// The times that values of the other side may have, for a value of `time`. Both ends lie within what 64 bits say.
  func partners(of time: Int64, isLeft: Bool) -> ClosedRange<Int64>
  /// The lowest time of values of a side that are still kept when event time has come to `watermark`: one that may find
  /// a partner in time. Never falls.
  func firstKept(_ watermark: Int64, isLeft: Bool) -> Int64
  /// Whether a value comes too late for every partner.
  func isLate(_ time: Int64, isLeft: Bool, _ watermark: Int64) -> Bool
}

/// The values of both sides.
///
/// Safety: `@unchecked Sendable` because it is handed to the job's worker thread once and used there only.
@usableFromInline
final class JoinSides<Rule: JoinRule>: @unchecked Sendable {
  private let left: ElementStore
  private let right: ElementStore
  /// Nil: every two values of a key belong together, and all are kept.
  private let rule: Rule?
  /// Holds the watermark.
  private let clock: KeyedTable?
  /// Values that came too late for every partner.
  private(set) var lateCount: UInt64 = 0

  /// Registers both sides under `name`.
  init(
    _ rule: Rule?, kind: String, name: String?, left: any StateCodec, right: any StateCodec, graph: inout JobGraph
  ) throws(JobError) {
    self.rule = rule
    let expires = rule != nil
    self.left = try graph.addState(kind: kind + "-left", name: name.map { $0 + ".left" }) {
      ElementStore(operatorID: $0, ranking: .time, codec: left, expires: expires)
    }
    self.right = try graph.addState(kind: kind + "-right", name: name.map { $0 + ".right" }) {
      ElementStore(operatorID: $0, ranking: .time, codec: right, expires: expires)
    }
    guard expires else {
      clock = nil
      return
    }
    // All workers judge by the same time.
    let time = try graph.addTable(kind: kind + "-time", name: name.map { $0 + ".time" })
    time.isShared = true
    clock = time
    graph.needEventTime()
    graph.addLateCount { [self] in lateCount }
  }

  private static var noKey: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }

  /// How far event time has come; as of this run nil until it was asked for.
  private var known: Int64?

  /// How far event time has come.
  @usableFromInline
  var watermark: Int64 {
    if let known { return known }
    let found = clock?.value(Self.noKey).map { Int64(stateBits: $0) } ?? .min
    known = found
    return found
  }

  /// Takes in a value: calls `body` with the time and the bits of each value of the other side that it belongs to, by
  /// their times, and keeps what `make` makes when values to come may belong to it.
  @usableFromInline
  func take(
    _ key: UnsafeRawBufferPointer, _ time: Timestamp, isLeft: Bool, _ watermark: Int64, make: () -> UInt64,
    _ body: (Int64, UInt64) -> Void
  ) {
    let time = time.milliseconds
    let (own, other) = isLeft ? (left, right) : (right, left)
    guard let rule else {
      other.forEach(key) { rank, _, bits in body(rank, bits) }
      return own.append(key, at: time, make())
    }
    guard time > -TimeWindows.farthest, time < TimeWindows.farthest,
      !rule.isLate(time, isLeft: isLeft, watermark)
    else {
      lateCount += 1
      return
    }
    other.forEach(key, in: rule.partners(of: time, isLeft: isLeft)) { rank, _, bits in body(rank, bits) }
    if time >= rule.firstKept(watermark, isLeft: isLeft) { own.append(key, at: time, make()) }
  }

  /// Event time has come to `time`: lets go of values that find no partner any more.
  @usableFromInline
  func advance(to time: Timestamp) {
    guard let rule, let clock, time.milliseconds > watermark else { return }
    known = time.milliseconds
    clock.update(Self.noKey, initial: 0) { $0 = time.milliseconds.stateBits }
    left.expire(below: rule.firstKept(time.milliseconds, isLeft: true))
    right.expire(below: rule.firstKept(time.milliseconds, isLeft: false))
  }
}
