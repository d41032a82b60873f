// WideAggregation: aggregations whose state takes more than 64 bits.

import MillraceBase

/// How values change a state of any size, and how two such states are put together.
public protocol WideAggregation<Input, State>: Sendable {
  /// What comes in.
  associatedtype Input
  /// The state of a key.
  associatedtype State: StateCodable
  /// The state of a key that was not seen before.
  var initial: State { get }
  /// Changes the state.
  func add(_ input: Input, to state: inout State)
  /// Adds what `other` holds to `state`. Merging with ``initial`` changes nothing.
  func merge(_ other: State, into state: inout State)
  /// Whether the order of a key's values does not matter; false unless said otherwise. When it is, each worker of a job folds
  /// its own values before it hands anything over.
  var isCommutative: Bool { get }
}

extension WideAggregation {
  /// The order may matter.
  @inlinable public var isCommutative: Bool { false }
}

/// A wide aggregation where one of 64 bits is expected.
public struct Boxing<Wide: WideAggregation>: MergeableAggregation {
  @usableFromInline let wide: Wide
  /// The same aggregation.
  @inlinable public init(_ wide: Wide) { self.wide = wide }
  /// Whether the wide one is.
  @inlinable public var isCommutative: Bool { wide.isCommutative }
  /// A box of its own.
  @inlinable public var initial: Boxed<Wide.State> { Boxed(wide.initial) }
  /// Changes what is in the box.
  @inlinable
  public func add(_ input: Wide.Input, to state: inout Boxed<Wide.State>) { wide.add(input, to: &state.content) }
  /// Changes what is in the box; the other one stays.
  @inlinable
  public func merge(_ other: Boxed<Wide.State>, into state: inout Boxed<Wide.State>) {
    wide.merge(other.content, into: &state.content)
  }
}

/// A closure for each part of a wide aggregation.
public struct Folding<Input, State: StateCodable & Sendable>: WideAggregation {
  /// The state of a key that was not seen before.
  public let initial: State
  @usableFromInline let adding: @Sendable (inout State, Input) -> Void
  @usableFromInline let merging: @Sendable (inout State, State) -> Void
  /// Folds with closures.
  @inlinable
  public init(
    _ initial: State, adding: @escaping @Sendable (inout State, Input) -> Void,
    merging: @escaping @Sendable (inout State, State) -> Void
  ) {
    self.initial = initial
    self.adding = adding
    self.merging = merging
  }
  /// Calls the closure.
  @inlinable public func add(_ input: Input, to state: inout State) { adding(&state, input) }
  /// Calls the closure.
  @inlinable public func merge(_ other: State, into state: inout State) { merging(&state, other) }
}

/// A sum and how many numbers it is of.
public struct AverageState: StateCodable, Equatable, Sendable {
  /// Of all numbers; wraps beyond 64 bits.
  public var sum: Int64
  /// How many.
  public var count: Int64

  /// The arithmetic mean, 0 of none.
  @inlinable public var average: Double { count > 0 ? Double(sum) / Double(count) : 0 }

  /// So many numbers of that sum.
  @inlinable
  public init(sum: Int64 = 0, count: Int64 = 0) {
    self.sum = sum
    self.count = count
  }

  /// Sum and count.
  public static var stateEncoding: String { "average/1" }
  /// Writes both.
  public func encode(into writer: inout ByteWriter) {
    writer.int64(sum)
    writer.int64(count)
  }
  /// Reads both.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    sum = try reader.int64()
    count = try reader.int64()
  }
}

/// Averages a number of the values of a key.
public struct Averaging<Input>: WideAggregation {
  @usableFromInline let number: @Sendable (Input) -> Int64
  /// An average of `number`.
  @inlinable public init(_ number: @escaping @Sendable (Input) -> Int64) { self.number = number }
  /// None so far.
  @inlinable public var initial: AverageState { AverageState() }
  /// One more.
  @inlinable
  public func add(_ input: Input, to state: inout AverageState) {
    state.sum &+= number(input)
    state.count &+= 1
  }
  /// It is.
  @inlinable public var isCommutative: Bool { true }
  /// Both.
  @inlinable
  public func merge(_ other: AverageState, into state: inout AverageState) {
    state.sum &+= other.sum
    state.count &+= other.count
  }
}
