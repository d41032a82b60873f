// StreamJoin: the pairs of two streams that only grow: values of equal keys, whose times may have to be near each
// other.
//
// A pair is handed on when the second of its values comes. Without bounds on their times all values are kept. With
// bounds a value is kept until event time has passed the last time that a partner may have; one that comes late finds
// those partners that are still there, and is late only when it can find none and is not kept either.

import MillraceBase

/// Times that lie at bounded distances. Left's time plus `lower` is the lowest time of a right partner, plus `upper`
/// the highest.
@usableFromInline
struct IntervalRule: JoinRule {
  let lower: Int64
  let upper: Int64

  @usableFromInline
  func partners(of time: Int64, isLeft: Bool) -> ClosedRange<Int64> {
    isLeft ? time.adding(lower)...time.adding(upper) : time.adding(-upper)...time.adding(-lower)
  }

  @usableFromInline
  func firstKept(_ watermark: Int64, isLeft: Bool) -> Int64 {
    watermark == .min ? .min : watermark.adding(isLeft ? -upper : lower)
  }

  /// It finds nothing that is still kept, and is not kept itself.
  @usableFromInline
  func isLate(_ time: Int64, isLeft: Bool, _ watermark: Int64) -> Bool {
    time < firstKept(watermark, isLeft: isLeft)
      && partners(of: time, isLeft: isLeft).upperBound < firstKept(watermark, isLeft: !isLeft)
  }
}

/// Pairs values of equal keys. The time of a pair is the later one of its two.
public struct StreamJoin<Left: Flow, Right: Flow, Key: StreamKey>: Flow
where Left.Output: StateCodable, Right.Output: StateCodable {
  /// A pair.
  public typealias Output = Joined<Left.Output, Right.Output>
  @usableFromInline typealias Sides = JoinSides<IntervalRule>
  @usableFromInline let left: Exchange<Left, Key>
  @usableFromInline let right: Exchange<Right, Key>
  @usableFromInline let leftKey: @Sendable (Left.Output) -> Key
  @usableFromInline let rightKey: @Sendable (Right.Output) -> Key
  @usableFromInline let bounds: ClosedRange<Duration>?
  @usableFromInline let name: String?
  @usableFromInline let sides: Sides?

  @usableFromInline
  init(
    _ left: Exchange<Left, Key>, _ leftKey: @escaping @Sendable (Left.Output) -> Key, _ right: Exchange<Right, Key>,
    _ rightKey: @escaping @Sendable (Right.Output) -> Key, between bounds: ClosedRange<Duration>?, name: String?,
    sides: Sides?
  ) {
    self.left = left
    self.right = right
    self.leftKey = leftKey
    self.rightKey = rightKey
    self.bounds = bounds
    self.name = name
    self.sides = sides
  }

  /// Joins `left` and `right` by their keys.
  /// - Parameters:
  ///   - bounds: how much later than the left value the right one may be; nil for any times. Parts of a ms are cut off.
  ///   - name: owns the state; see ``JobGraph/addTable(kind:name:codec:)``.
  @inlinable
  public init(
    _ left: Left, by leftKey: @escaping @Sendable (Left.Output) -> Key, _ right: Right,
    by rightKey: @escaping @Sendable (Right.Output) -> Key, between bounds: ClosedRange<Duration>?, name: String?
  ) {
    self.init(
      Exchange(left, by: leftKey), leftKey, Exchange(right, by: rightKey), rightKey, between: bounds, name: name,
      sides: nil)
  }

  /// Binds both sides, inlined so that their stages are specialised, and registers the state.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    let left = try left.bound(to: &graph)
    let right = try right.bound(to: &graph)
    return try registered(behind: left, right, in: &graph)
  }

  @usableFromInline
  func registered(
    behind left: Exchange<Left, Key>, _ right: Exchange<Right, Key>, in graph: inout JobGraph
  ) throws(JobError) -> Self {
    let rule = bounds.map {
      IntervalRule(lower: $0.lowerBound.inMilliseconds, upper: $0.upperBound.inMilliseconds)
    }
    let sides = try Sides(
      rule, kind: "join", name: name, left: BoxCodec<Left.Output>(), right: BoxCodec<Right.Output>(), graph: &graph)
    return Self(left, leftKey, right, rightKey, between: bounds, name: name, sides: sides)
  }

  @usableFromInline
  var boundSides: Sides {
    guard let sides else { preconditionFailure("a join is not bound to a job") }
    return sides
  }

  @inlinable
  func takeLeft(_ value: Left.Output, _ time: Timestamp, _ sides: Sides, _ body: (Output, Timestamp) -> Void) {
    let watermark = sides.watermark
    leftKey(value).withBytes { key in
      sides.take(key, time, isLeft: true, watermark) {
        Boxed(value).ownedStateBits()
      } _: { other, bits in
        body(
          Joined(value, Boxed<Right.Output>(stateBits: bits).content),
          max(time, Timestamp(milliseconds: other)))
      }
    }
  }

  @inlinable
  func takeRight(_ value: Right.Output, _ time: Timestamp, _ sides: Sides, _ body: (Output, Timestamp) -> Void) {
    let watermark = sides.watermark
    rightKey(value).withBytes { key in
      sides.take(key, time, isLeft: false, watermark) {
        Boxed(value).ownedStateBits()
      } _: { other, bits in
        body(
          Joined(Boxed<Left.Output>(stateBits: bits).content, value),
          max(time, Timestamp(milliseconds: other)))
      }
    }
  }

  /// Hands on the pairs that each value completes; of one batch that both sides read, left comes first.
  @inlinable
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    let sides = boundSides
    try left.process(run) { takeLeft($0, $1, sides, body) }
    try right.process(run) { takeRight($0, $1, sides, body) }
  }

  /// Hands on pairs with what event time sets free; then what is over goes. Event time is where the slower side is.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let sides = boundSides
    let leftTime = left.advance { takeLeft($0, $1, sides, body) }
    let rightTime = right.advance { takeRight($0, $1, sides, body) }
    let now = min(leftTime, rightTime)
    sides.advance(to: now)
    return now
  }

  /// Hands on pairs with what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let sides = boundSides
    left.endStep { takeLeft($0, $1, sides, body) }
    right.endStep { takeRight($0, $1, sides, body) }
  }
}
