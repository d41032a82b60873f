// ChangeJoin: the pairs of two streams of changes: what is there on both sides under one key, kept up while both
// change.
//
// A side's values are kept each once, with how often it is there. A change of one side is paired with all that the
// other side has of its key; the weights are multiplied. In an outer join a left value without a partner is there with
// nil for the right one, until the first partner comes, and again when the last one has gone. Every change is answered
// at once: what a step takes back that it brought itself is handed on as well, and adds up to nothing.

import MillraceBase

/// Which left values a join hands on.
public enum JoinKind: Sendable {
  /// Those with a partner.
  case inner
  /// All; those without a partner with nil.
  case left
}

/// Pairs changes of equal keys. The time of a change is that of the one that led to it.
public struct ChangeJoin<Left: Flow, Right: Flow, Key: StreamKey, Row>: Flow
where
  Left.Output: Weighted, Right.Output: Weighted, Left.Output.Value: StateCodable, Right.Output.Value: StateCodable
{
  /// A pair, or a left value alone, that comes or goes.
  public typealias Output = Change<Row>
  /// Makes a pair of two values; the right one is nil in an outer join only.
  public typealias Combine = @Sendable (Left.Output.Value, Right.Output.Value?) -> Row?
  @usableFromInline let left: Exchange<Left, Key>
  @usableFromInline let right: Exchange<Right, Key>
  @usableFromInline let leftKey: @Sendable (Left.Output) -> Key
  @usableFromInline let rightKey: @Sendable (Right.Output) -> Key
  @usableFromInline let kind: JoinKind
  @usableFromInline let name: String?
  @usableFromInline let combine: Combine
  @usableFromInline let sides: (left: ElementStore, right: ElementStore)?

  @usableFromInline
  init(
    _ left: Exchange<Left, Key>, _ leftKey: @escaping @Sendable (Left.Output) -> Key, _ right: Exchange<Right, Key>,
    _ rightKey: @escaping @Sendable (Right.Output) -> Key, kind: JoinKind, name: String?, combine: @escaping Combine,
    sides: (left: ElementStore, right: ElementStore)?
  ) {
    self.left = left
    self.right = right
    self.leftKey = leftKey
    self.rightKey = rightKey
    self.kind = kind
    self.name = name
    self.combine = combine
    self.sides = sides
  }

  /// Joins `left` and `right` by their keys.
  /// - Parameters:
  ///   - name: owns the state; see ``JobGraph/addTable(kind:name:codec:)``.
  ///   - combine: makes what is handed on; nil leaves it out.
  @inlinable
  public init(
    _ left: Left, by leftKey: @escaping @Sendable (Left.Output) -> Key, _ right: Right,
    by rightKey: @escaping @Sendable (Right.Output) -> Key, kind: JoinKind, name: String?,
    combine: @escaping Combine
  ) {
    self.init(
      Exchange(left, by: leftKey), leftKey, Exchange(right, by: rightKey), rightKey, kind: kind, name: name,
      combine: combine, sides: nil)
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
    let leftStore = try graph.addState(kind: "change-join-left", name: name.map { $0 + ".left" }) {
      ElementStore(
        operatorID: $0, ranking: .value(Left.Output.Value.self), codec: WeightCodec(Left.Output.Value.stateEncoding))
    }
    let rightStore = try graph.addState(kind: "change-join-right", name: name.map { $0 + ".right" }) {
      ElementStore(
        operatorID: $0, ranking: .value(Right.Output.Value.self), codec: WeightCodec(Right.Output.Value.stateEncoding))
    }
    return Self(
      left, leftKey, right, rightKey, kind: kind, name: name, combine: combine, sides: (leftStore, rightStore))
  }

  @usableFromInline
  var boundSides: (left: ElementStore, right: ElementStore) {
    guard let sides else { preconditionFailure("a join is not bound to a job") }
    return sides
  }

  @inlinable
  func give(
    _ left: Left.Output.Value, _ right: Right.Output.Value?, _ weight: Int64, _ time: Timestamp,
    _ body: (Output, Timestamp) -> Void
  ) {
    if weight != 0, let row = combine(left, right) { body(Change(row, weight: weight), time) }
  }

  @inlinable
  func takeLeft(_ change: Left.Output, _ time: Timestamp, _ body: (Output, Timestamp) -> Void) {
    let (lefts, rights) = boundSides
    leftKey(change).withBytes { key in
      lefts.add(change.weight, value: change.value, of: key)
      if kind == .left, !rights.has(key) { return give(change.value, nil, change.weight, time, body) }
      rights.forEach(key) { _, element, weight in
        guard let right = Right.Output.Value(elementBytes: element) else { return }
        give(change.value, right, change.weight &* Int64(stateBits: weight), time, body)
      }
    }
  }

  @inlinable
  func takeRight(_ change: Right.Output, _ time: Timestamp, _ body: (Output, Timestamp) -> Void) {
    let (lefts, rights) = boundSides
    rightKey(change).withBytes { key in
      let had = rights.has(key)
      rights.add(change.weight, value: change.value, of: key)
      let has = rights.has(key)
      lefts.forEach(key) { _, element, bits in
        guard let left = Left.Output.Value(elementBytes: element) else { return }
        let weight = Int64(stateBits: bits)
        if kind == .left, !had, has { give(left, nil, 0 &- weight, time, body) }
        give(left, change.value, weight &* change.weight, time, body)
        if kind == .left, had, !has { give(left, nil, weight, time, body) }
      }
    }
  }

  /// Hands on what each change leads to; of one batch that both sides read, left comes first.
  @inlinable
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    try left.process(run) { takeLeft($0, $1, body) }
    try right.process(run) { takeRight($0, $1, body) }
  }

  /// Hands on what changes that event time sets free lead to. Event time is where the slower side is.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let leftTime = left.advance { takeLeft($0, $1, body) }
    let rightTime = right.advance { takeRight($0, $1, body) }
    return min(leftTime, rightTime)
  }

  /// Hands on what the changes lead to that were held back: those of tables.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    left.endStep { takeLeft($0, $1, body) }
    right.endStep { takeRight($0, $1, body) }
  }
}

extension ElementStore {
  /// Adds `weight` to how often `value` is there.
  @usableFromInline
  func add<Value: StateCodable>(_ weight: Int64, value: Value, of key: UnsafeRawBufferPointer) {
    value.stateBytes.withBuffer { add(weight, to: $0, rank: Int64(bitPattern: Hashing.stable($0)), of: key) }
  }
}
