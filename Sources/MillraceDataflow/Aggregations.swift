// Aggregations: what keyed state and windows compute, each with a state of 64 bits.

import MillraceBase

/// How a value changes its key's state.
public protocol Aggregation<Input, State>: Sendable {
  /// What comes in.
  associatedtype Input
  /// The state of a key.
  associatedtype State: StateValue
  /// The state of a key that was not seen before.
  var initial: State { get }
  /// Changes the state.
  func add(_ input: Input, to state: inout State)
  /// How states are put together that came of different values of a key, whatever the order of the values was; nil when the order matters, or
  /// when they cannot be put together. With it, each worker of a job folds its own values before it hands anything over.
  var unorderedMerge: UnorderedMerge<State>? { get }
}

/// Adds what the first state holds to the second.
public typealias UnorderedMerge<State> = @Sendable (State, inout State) -> Void

extension Aggregation {
  /// None: a key's values come one by one, in their order.
  @inlinable public var unorderedMerge: UnorderedMerge<State>? { nil }
}

/// An aggregation whose states can be put together, so that windows that overlap share what they have in common.
public protocol MergeableAggregation<Input, State>: Aggregation {
  /// Adds what `other` holds to `state`. Merging with ``Aggregation/initial`` changes nothing.
  func merge(_ other: State, into state: inout State)
  /// Whether the order of a key's values does not matter; false unless said otherwise.
  var isCommutative: Bool { get }
}

extension MergeableAggregation {
  /// The order may matter.
  @inlinable public var isCommutative: Bool { false }
  /// The merge, when the order does not matter.
  @inlinable public var unorderedMerge: UnorderedMerge<State>? {
    guard isCommutative else { return nil }
    return { part, state in merge(part, into: &state) }
  }
}

/// Counts the values of a key.
public struct Counting<Input>: MergeableAggregation {
  /// A count.
  @inlinable public init() {}
  /// None so far.
  @inlinable public var initial: Int64 { 0 }
  /// One more; wraps beyond 2⁶³−1.
  @inlinable @inline(__always)
  public func add(_ input: Input, to state: inout Int64) { state &+= 1 }
  /// It is.
  @inlinable public var isCommutative: Bool { true }
  /// The sum.
  @inlinable public func merge(_ other: Int64, into state: inout Int64) { state &+= other }
}

/// Sums a number of the values of a key.
public struct Summing<Input>: MergeableAggregation {
  @usableFromInline let number: @Sendable (Input) -> Int64
  /// A sum of `number`.
  @inlinable public init(_ number: @escaping @Sendable (Input) -> Int64) { self.number = number }
  /// Nothing so far.
  @inlinable public var initial: Int64 { 0 }
  /// Adds; wraps beyond 64 bits.
  @inlinable @inline(__always)
  public func add(_ input: Input, to state: inout Int64) { state &+= number(input) }
  /// It is.
  @inlinable public var isCommutative: Bool { true }
  /// The sum.
  @inlinable public func merge(_ other: Int64, into state: inout Int64) { state &+= other }
}

/// Keeps the lowest of a number of the values of a key.
public struct Minimum<Input>: MergeableAggregation {
  @usableFromInline let number: @Sendable (Input) -> Int64
  /// The lowest `number`.
  @inlinable public init(_ number: @escaping @Sendable (Input) -> Int64) { self.number = number }
  /// Above every number.
  @inlinable public var initial: Int64 { .max }
  /// Keeps the lower one.
  @inlinable @inline(__always)
  public func add(_ input: Input, to state: inout Int64) { state = min(state, number(input)) }
  /// It is.
  @inlinable public var isCommutative: Bool { true }
  /// Keeps the lower one.
  @inlinable public func merge(_ other: Int64, into state: inout Int64) { state = min(state, other) }
}

/// Keeps the highest of a number of the values of a key.
public struct Maximum<Input>: MergeableAggregation {
  @usableFromInline let number: @Sendable (Input) -> Int64
  /// The highest `number`.
  @inlinable public init(_ number: @escaping @Sendable (Input) -> Int64) { self.number = number }
  /// Below every number.
  @inlinable public var initial: Int64 { .min }
  /// Keeps the higher one.
  @inlinable @inline(__always)
  public func add(_ input: Input, to state: inout Int64) { state = max(state, number(input)) }
  /// It is.
  @inlinable public var isCommutative: Bool { true }
  /// Keeps the higher one.
  @inlinable public func merge(_ other: Int64, into state: inout Int64) { state = max(state, other) }
}
