// Reducing and Accumulating: closures as aggregations.

import MillraceBase

/// Puts the values of a key together, two by two.
public struct Reducing<Value: StateCodable>: MergeableAggregation {
  @usableFromInline let combine: @Sendable (Value, Value) -> Value

  /// `combine` is called with what is there and the value that comes, or with what two parts of a window came to, the earlier first:
  /// it must be associative.
  @inlinable public init(_ combine: @escaping @Sendable (Value, Value) -> Value) { self.combine = combine }
  /// None so far.
  @inlinable public var initial: Boxed<Value?> { Boxed(nil) }
  /// Combines; the first value stands for itself.
  @inlinable
  public func add(_ input: Value, to state: inout Boxed<Value?>) {
    state.content = state.content.map { combine($0, input) } ?? input
  }
  /// Combines both.
  @inlinable
  public func merge(_ other: Boxed<Value?>, into state: inout Boxed<Value?>) {
    if let value = other.content { add(value, to: &state) }
  }

  /// What came of at least one value.
  @inlinable
  public static func result(_ state: Boxed<Value?>) -> Value {
    guard let value = state.content else { preconditionFailure("a reduction of no values") }
    return value
  }
}

/// Changes a state of any size by a closure, for keys; windows need to merge as well: ``Folding``.
public struct Accumulating<Input, Content: StateCodable & Sendable>: Aggregation {
  @usableFromInline let start: Content
  @usableFromInline let change: @Sendable (inout Content, Input) -> Void

  /// Begins with `start`.
  @inlinable
  public init(_ start: Content, _ change: @escaping @Sendable (inout Content, Input) -> Void) {
    self.start = start
    self.change = change
  }
  /// What a key begins with.
  @inlinable public var initial: Boxed<Content> { Boxed(start) }
  /// Calls the closure.
  @inlinable public func add(_ input: Input, to state: inout Boxed<Content>) { change(&state.content, input) }
}
