// FlatMap: any number of values for each value.

import MillraceBase

/// Makes any number of values of one. A type of its own, instead of a closure, fuses with the operators around it.
public protocol FlatTransform<Input, Output>: Sendable {
  /// What comes in.
  associatedtype Input
  /// What goes on.
  associatedtype Output
  /// Hands the values made of `input` to `emit`, in order.
  func apply(_ input: Input, _ emit: (Output) -> Void)
}

/// A closure as a transform.
public struct FlatClosure<Input, Output>: FlatTransform {
  @usableFromInline let closure: @Sendable (Input, (Output) -> Void) -> Void

  /// Calls `closure` for each value.
  @inlinable
  public init(_ closure: @escaping @Sendable (Input, (Output) -> Void) -> Void) { self.closure = closure }

  /// Calls the closure.
  @inlinable @inline(__always)
  public func apply(_ input: Input, _ emit: (Output) -> Void) { closure(input, emit) }
}

/// Hands on what a transform makes of each value.
public struct FlatMap<Upstream: Flow, Transform: FlatTransform>: Flow where Transform.Input == Upstream.Output {
  /// What the transform makes.
  public typealias Output = Transform.Output
  @usableFromInline let upstream: Upstream
  @usableFromInline let transform: Transform

  /// Applies `transform` behind `upstream`.
  @inlinable
  public init(_ upstream: Upstream, _ transform: Transform) {
    self.upstream = upstream
    self.transform = transform
  }

  /// Binds what lies before.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    Self(try upstream.bound(to: &graph), transform)
  }

  /// Transforms each value.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    try upstream.process(run) { input, time in transform.apply(input) { body($0, time) } }
  }

  /// Transforms what event time sets free.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    upstream.advance { input, time in transform.apply(input) { body($0, time) } }
  }

  /// Transforms what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    upstream.endStep { input, time in transform.apply(input) { body($0, time) } }
  }
}
