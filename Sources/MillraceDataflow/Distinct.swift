// Distinct: each value once, of values that come and go any number of times: a table whose keys are the values.

import MillraceBase

/// Counts how often a value is there, and shows only whether it is.
public struct Presence<Input: Weighted>: TableFold {
  /// A count.
  @inlinable public init() {}
  /// Adds the weight; wraps beyond 64 bits.
  @inlinable
  public func add(_ input: Input, at time: Timestamp, to state: inout Int64?) {
    let count = (state ?? 0) &+ input.weight
    state = count == 0 ? nil : count
  }
  /// True when there is more than nothing.
  @inlinable public func value(of state: Int64) -> Bool? { state > 0 ? true : nil }
}

/// Makes changes of values of updates whose keys are the values' encodings.
public struct PresenceChanges<Value: StateCodable>: FlatTransform {
  /// Needs nothing.
  @inlinable public init() {}

  /// The value comes or goes.
  @inlinable
  public func apply(_ input: TableUpdate<Bytes, Bool>, _ emit: (Change<Value>) -> Void) {
    guard let value = input.key.withBuffer({ Value(elementBytes: $0) }) else { return }
    emit(input.new == nil ? .retract(value) : .insert(value))
  }
}

extension StateCodable {
  /// The value's encoding.
  public var stateBytes: Bytes {
    var writer = ByteWriter(capacity: 64)
    encode(into: &writer)
    return writer.finishJoined()
  }
}
