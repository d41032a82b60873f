// TableFold: what a table keeps of each key, and what it shows of it.

import MillraceBase

/// How values change what a table has for their key.
public protocol TableFold<Input, State, Value>: Sendable {
  /// What comes in.
  associatedtype Input
  /// What is kept of a key.
  associatedtype State: StateCodable
  /// What the table shows of a key.
  associatedtype Value: Equatable
  /// Changes what is kept. Nil: the key is not there.
  func add(_ input: Input, at time: Timestamp, to state: inout State?)
  /// What `state` shows as; nil when the key is to be seen as not there. Equal states show as equal values.
  func value(of state: State) -> Value?
}

/// Which of a key's values is its last.
public enum TableOrder: Sendable {
  /// The one that came last.
  case arrival
  /// The one with the newest event time; of equal times the one that came last. A key that was deleted knows no time.
  case eventTime
}

/// A value and its time.
public struct LatestState<Value: StateCodable>: StateCodable {
  @usableFromInline let time: Int64
  @usableFromInline let value: Value

  @inlinable
  init(time: Int64, value: Value) {
    self.time = time
    self.value = value
  }

  /// The time, then the value.
  public static var stateEncoding: String { "latest<\(Value.stateEncoding)>" }
  /// Writes both.
  public func encode(into writer: inout ByteWriter) {
    writer.int64(time)
    value.encode(into: &writer)
  }
  /// Reads both.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    time = try reader.int64()
    value = try Value(from: &reader)
  }
}

/// Keeps the last value of each key.
public struct Latest<Input, Value: StateCodable & Equatable>: TableFold {
  @usableFromInline let order: TableOrder
  @usableFromInline let value: @Sendable (Input) -> Value?

  /// The last `value`; nil deletes the key.
  @inlinable
  public init(by order: TableOrder, _ value: @escaping @Sendable (Input) -> Value?) {
    self.order = order
    self.value = value
  }

  /// Takes the input's value, unless it is older.
  @inlinable
  public func add(_ input: Input, at time: Timestamp, to state: inout LatestState<Value>?) {
    if case .eventTime = order, let state, state.time > time.milliseconds { return }
    state = value(input).map { LatestState(time: time.milliseconds, value: $0) }
  }

  /// The value.
  @inlinable public func value(of state: LatestState<Value>) -> Value? { state.value }
}

/// An aggregation of values that are there for ever.
public struct Growing<Fold: Aggregation>: TableFold where Fold.State: StateCodable & Equatable {
  @usableFromInline let fold: Fold
  /// What `fold` makes of the values.
  @inlinable public init(_ fold: Fold) { self.fold = fold }
  /// Adds the input.
  @inlinable
  public func add(_ input: Fold.Input, at time: Timestamp, to state: inout Fold.State?) {
    var changed = state ?? fold.initial
    fold.add(input, to: &changed)
    state = changed
  }
  /// The state.
  @inlinable public func value(of state: Fold.State) -> Fold.State? { state }
}

/// A wide aggregation of values that are there for ever.
public struct WideGrowing<Fold: WideAggregation>: TableFold where Fold.State: Equatable {
  @usableFromInline let fold: Fold
  /// What `fold` makes of the values.
  @inlinable public init(_ fold: Fold) { self.fold = fold }
  /// Adds the input.
  @inlinable
  public func add(_ input: Fold.Input, at time: Timestamp, to state: inout Fold.State?) {
    // Taken out first, so that arrays in it are changed in place.
    var changed = state.take() ?? fold.initial
    fold.add(input, to: &changed)
    state = changed
  }
  /// The state.
  @inlinable public func value(of state: Fold.State) -> Fold.State? { state }
}

/// Counts changes: how many values there are.
public struct CountingChanges<Input: Weighted>: TableFold {
  /// A count.
  @inlinable public init() {}
  /// Adds the weight; wraps beyond 64 bits.
  @inlinable
  public func add(_ input: Input, at time: Timestamp, to state: inout Int64?) {
    let count = (state ?? 0) &+ input.weight
    state = count == 0 ? nil : count
  }
  /// The count.
  @inlinable public func value(of state: Int64) -> Int64? { state }
}

/// Sums a number of changes, and counts them, so that the sum goes with the last value.
public struct SummingChanges<Input: Weighted>: TableFold {
  @usableFromInline let number: @Sendable (Input.Value) -> Int64
  /// A sum of `number`.
  @inlinable public init(_ number: @escaping @Sendable (Input.Value) -> Int64) { self.number = number }
  /// Adds the number as often as the weight says; wraps beyond 64 bits.
  @inlinable
  public func add(_ input: Input, at time: Timestamp, to state: inout AverageState?) {
    var changed = state ?? AverageState()
    changed.sum &+= number(input.value) &* input.weight
    changed.count &+= input.weight
    state = changed.count == 0 ? nil : changed
  }
  /// Sum and count.
  @inlinable public func value(of state: AverageState) -> Int64? { state.sum }
}

/// Averages a number of changes.
public struct AveragingChanges<Input: Weighted>: TableFold {
  @usableFromInline let sum: SummingChanges<Input>
  /// An average of `number`.
  @inlinable public init(_ number: @escaping @Sendable (Input.Value) -> Int64) { sum = SummingChanges(number) }
  /// Adds the number as often as the weight says.
  @inlinable
  public func add(_ input: Input, at time: Timestamp, to state: inout AverageState?) {
    sum.add(input, at: time, to: &state)
  }
  /// Sum and count.
  @inlinable public func value(of state: AverageState) -> AverageState? { state }
}
