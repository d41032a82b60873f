// LatestValue: the last value of each key in event time.

import MillraceBase

/// A value and its event time.
public struct TimedValue<Value: StateCodable>: StateCodable {
  /// The event time.
  public var time: Timestamp
  /// The value; nil before there is one.
  public var value: Value?

  @usableFromInline
  init(time: Timestamp, value: Value?) {
    self.time = time
    self.value = value
  }

  /// The encoding's own name.
  public static var stateEncoding: String { "timed<\(Value.stateEncoding)>/1" }
  /// Writes both.
  public func encode(into writer: inout ByteWriter) {
    writer.int64(time.milliseconds)
    value.encode(into: &writer)
  }
  /// Reads both.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    time = Timestamp(milliseconds: try reader.int64())
    value = try Value?(from: &reader)
  }
}

/// Keeps the value with the highest event time; of equal times the one that came last.
public struct LatestValue<Input: StateCodable>: SelectiveAggregation {
  /// The last value.
  @inlinable public init() {}
  /// None so far.
  @inlinable public var initial: Boxed<TimedValue<Input>> {
    Boxed(TimedValue(time: Timestamp(milliseconds: .min), value: nil))
  }
  /// Takes the value unless a later one is there.
  @inlinable
  public func change(_ state: inout Boxed<TimedValue<Input>>, by input: Input, at time: Timestamp) -> Bool {
    guard time >= state.content.time else { return false }
    state.content = TimedValue(time: time, value: input)
    return true
  }

  /// The last of at least one value.
  @inlinable
  public static func result(_ state: Boxed<TimedValue<Input>>) -> Input {
    guard let value = state.content.value else { preconditionFailure("a key that no value came for") }
    return value
  }
}
