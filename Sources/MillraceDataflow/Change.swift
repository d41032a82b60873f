// Change: a value that comes or goes, for streams whose values are not there for ever.
//
// Streams that only grow hand on plain values and know nothing of this. A table (the last value of each key, an
// aggregate) hands on updates, each with what its key had before; as changes an update is the old value taken back,
// then the new one.

import MillraceBase

/// A value with a weight: how many times more, or less, it is there from now on.
///
/// What a stream of changes stands for is the multiset of its values, each as often as its weights add up to.
public protocol Weighted<Value> {
  /// What comes or goes.
  associatedtype Value
  /// What comes or goes.
  var value: Value { get }
  /// Above 0 so many are added, below 0 so many are taken back.
  var weight: Int64 { get }
}

/// A value that comes or goes.
public struct Change<Value>: Weighted {
  /// What comes or goes.
  public var value: Value
  /// Above 0 so many are added, below 0 so many are taken back.
  public var weight: Int64

  /// `value`, `weight` times.
  @inlinable
  public init(_ value: Value, weight: Int64) {
    self.value = value
    self.weight = weight
  }

  /// `value` comes.
  @inlinable public static func insert(_ value: Value) -> Change { Change(value, weight: 1) }
  /// `value` goes.
  @inlinable public static func retract(_ value: Value) -> Change { Change(value, weight: -1) }

  /// Another value of the same weight. Equal values must lead to equal ones, or what was added is not found when it is
  /// taken back.
  @inlinable
  public func map<Other>(_ transform: (Value) -> Other) -> Change<Other> {
    Change<Other>(transform(value), weight: weight)
  }
}

extension Change: Sendable where Value: Sendable {}
extension Change: Equatable where Value: Equatable {}
extension Change: Hashable where Value: Hashable {}

extension Change: ExchangeValue where Value: ExchangeValue {
  /// When the value needs it.
  public static var needsKeeping: Bool { Value.needsKeeping }
  /// Keeps the value.
  @inlinable public func kept(in arena: ExchangeArena) -> Change { Change(value.kept(in: arena), weight: weight) }
}

/// What a table has for a key from now on, and what it handed on for it last.
public struct TableUpdate<Key, Value> {
  /// The key.
  public var key: Key
  /// What was handed on last; nil when the key was not there.
  public var old: Value?
  /// What it has now; nil when it is gone.
  public var new: Value?

  /// `new` of `key` instead of `old`.
  @inlinable
  public init(key: Key, old: Value?, new: Value?) {
    self.key = key
    self.old = old
    self.new = new
  }
}

/// Makes changes of updates: the old value is taken back, then the new one comes.
public struct UpdateChanges<Key, Value>: FlatTransform {
  /// Needs nothing.
  @inlinable public init() {}

  /// One change or two.
  @inlinable @inline(__always)
  public func apply(_ input: TableUpdate<Key, Value>, _ emit: (Change<Keyed<Key, Value>>) -> Void) {
    if let old = input.old { emit(.retract(Keyed(key: input.key, value: old))) }
    if let new = input.new { emit(.insert(Keyed(key: input.key, value: new))) }
  }
}

extension Keyed: StateCodable where Key: StateCodable, Value: StateCodable {
  /// The key, then the value.
  public static var stateEncoding: String { "keyed<\(Key.stateEncoding),\(Value.stateEncoding)>" }
  /// Writes both.
  public func encode(into writer: inout ByteWriter) {
    key.encode(into: &writer)
    value.encode(into: &writer)
  }
  /// Reads both.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    key = try Key(from: &reader)
    value = try Value(from: &reader)
  }
}
