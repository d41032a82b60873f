// Evictor: which of the values that a window has kept a function is to see, or the window is to keep.

import MillraceBase

/// Takes values out of those of a window, which come in the order in which they came, a later part of the window behind an earlier one.
public struct Evictor<Value>: Sendable {
  @usableFromInline let evict: @Sendable (inout [Timestamped<Value>]) -> Void

  /// What `evict` leaves; it must follow from the values alone.
  @inlinable
  public init(_ evict: @escaping @Sendable (inout [Timestamped<Value>]) -> Void) { self.evict = evict }

  /// Leaves the last `count` values.
  /// - Parameter count: at least 0.
  public static func last(_ count: Int) -> Evictor {
    precondition(count >= 0, "the last \(count) values")
    return Evictor { $0.removeFirst(Swift.max(0, $0.count - count)) }
  }

  /// Leaves the values whose times lie less than `time` before the newest of them.
  /// - Parameter time: at least 1 ms, or nothing is left.
  public static func within(_ time: Duration) -> Evictor {
    let time = time.inMilliseconds
    return Evictor { values in
      guard let newest = values.map(\.time.milliseconds).max() else { return }
      values.removeAll { $0.time.milliseconds <= newest.subtracting(time) }
    }
  }

  /// Takes values out.
  @inlinable
  public func callAsFunction(_ values: inout [Timestamped<Value>]) { evict(&values) }
}

/// Gathers all values with their times.
public struct Gathering<Value: StateCodable>: WideAggregation {
  /// Of any values.
  @inlinable public init() {}
  /// None so far.
  @inlinable public var initial: [Timestamped<Value>] { [] }
  /// One more.
  @inlinable
  public func add(_ input: Timestamped<Value>, to state: inout [Timestamped<Value>]) { state.append(input) }
  /// A later part.
  @inlinable
  public func merge(_ other: [Timestamped<Value>], into state: inout [Timestamped<Value>]) { state += other }
}
