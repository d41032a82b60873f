// WindowJoin: the pairs of two streams that only grow: values of equal keys that lie in one window of event time.
//
// A pair is handed on when the second of its values comes, and not only when the window closes: it does not change any
// more, since both values stay. A window takes values until the watermark reaches its end; with the last window of a
// value the value goes.

import MillraceBase

/// Values that lie in one window.
@usableFromInline
struct WindowRule: JoinRule {
  let windows: TimeWindows

  @usableFromInline
  func partners(of time: Int64, isLeft: Bool) -> ClosedRange<Int64> {
    time - windows.length + 1...time + windows.length - 1
  }

  /// The start of the first window that is not over.
  @usableFromInline
  func firstKept(_ watermark: Int64, isLeft: Bool) -> Int64 {
    guard watermark > -2 * TimeWindows.farthest else { return .min }
    let start = watermark - windows.length
    return start - (start - windows.offset).flooredRemainder(by: windows.hop) + windows.hop
  }

  /// All its windows are over.
  @usableFromInline
  func isLate(_ time: Int64, isLeft: Bool, _ watermark: Int64) -> Bool { time < firstKept(watermark, isLeft: isLeft) }
}

extension TimeWindows {
  /// Calls `body` with each window that holds both times and whose end lies behind `watermark`, rising.
  @usableFromInline
  func forEach(holding one: Int64, and other: Int64, closingAfter watermark: Int64, _ body: (Window) -> Void) {
    var end = firstEnd(ofSlice: slice(of: max(one, other)).lowerBound)
    let last = lastEnd(ofSlice: slice(of: min(one, other)).lowerBound)
    while end <= last {
      if end > watermark {
        body(Window(start: Timestamp(milliseconds: end - length), end: Timestamp(milliseconds: end)))
      }
      end += hop
    }
  }
}

/// Pairs values of equal keys that lie in one window, once for each window in which both are. The time of a pair is the
/// last ms of the window.
public struct WindowJoin<Left: Flow, Right: Flow, Key: StreamKey>: Flow
where Left.Output: StateCodable, Right.Output: StateCodable {
  /// The key, the window, and a pair.
  public typealias Output = Windowed<Key, Joined<Left.Output, Right.Output>>
  @usableFromInline typealias Sides = JoinSides<WindowRule>
  @usableFromInline let left: Exchange<Left, Key>
  @usableFromInline let right: Exchange<Right, Key>
  @usableFromInline let leftKey: @Sendable (Left.Output) -> Key
  @usableFromInline let rightKey: @Sendable (Right.Output) -> Key
  @usableFromInline let windows: TimeWindows
  @usableFromInline let name: String?
  @usableFromInline let sides: Sides?

  @usableFromInline
  init(
    _ left: Exchange<Left, Key>, _ leftKey: @escaping @Sendable (Left.Output) -> Key, _ right: Exchange<Right, Key>,
    _ rightKey: @escaping @Sendable (Right.Output) -> Key, in windows: TimeWindows, name: String?,
    sides: Sides?
  ) {
    self.left = left
    self.right = right
    self.leftKey = leftKey
    self.rightKey = rightKey
    self.windows = windows
    self.name = name
    self.sides = sides
  }

  /// Joins `left` and `right` by their keys.
  /// - Parameters:
  ///   - name: owns the state; see ``JobGraph/addTable(kind:name:codec:)``.
  @inlinable
  public init(
    _ left: Left, by leftKey: @escaping @Sendable (Left.Output) -> Key, _ right: Right,
    by rightKey: @escaping @Sendable (Right.Output) -> Key, in windows: TimeWindows, name: String?
  ) {
    self.init(
      Exchange(left, by: leftKey), leftKey, Exchange(right, by: rightKey), rightKey, in: windows, name: name,
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
    let sides = try Sides(
      WindowRule(windows: windows), kind: "window-join", name: name, left: BoxCodec<Left.Output>(),
      right: BoxCodec<Right.Output>(), graph: &graph)
    return Self(left, leftKey, right, rightKey, in: windows, name: name, sides: sides)
  }

  @usableFromInline
  var boundSides: Sides {
    guard let sides else { preconditionFailure("a join is not bound to a job") }
    return sides
  }

  @inlinable
  func takeLeft(_ value: Left.Output, _ time: Timestamp, _ sides: Sides, _ body: (Output, Timestamp) -> Void) {
    let watermark = sides.watermark
    let key = leftKey(value)
    key.withBytes { bytes in
      sides.take(bytes, time, isLeft: true, watermark) {
        Boxed(value).ownedStateBits()
      } _: { other, bits in
        let pair = Joined(value, Boxed<Right.Output>(stateBits: bits).content)
        windows.forEach(holding: time.milliseconds, and: other, closingAfter: watermark) {
          body(Windowed(key: key, window: $0, value: pair), Timestamp(milliseconds: $0.end.milliseconds - 1))
        }
      }
    }
  }

  @inlinable
  func takeRight(_ value: Right.Output, _ time: Timestamp, _ sides: Sides, _ body: (Output, Timestamp) -> Void) {
    let watermark = sides.watermark
    let key = rightKey(value)
    key.withBytes { bytes in
      sides.take(bytes, time, isLeft: false, watermark) {
        Boxed(value).ownedStateBits()
      } _: { other, bits in
        let pair = Joined(Boxed<Left.Output>(stateBits: bits).content, value)
        windows.forEach(holding: time.milliseconds, and: other, closingAfter: watermark) {
          body(Windowed(key: key, window: $0, value: pair), Timestamp(milliseconds: $0.end.milliseconds - 1))
        }
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
