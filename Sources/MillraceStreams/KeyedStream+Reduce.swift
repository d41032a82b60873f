// KeyedStream+Reduce: what becomes of all values of a key, by closures or by a comparison.

import MillraceBase
import MillraceDataflow

extension KeyedStream {
  /// The lowest of a number over the values of each key so far. A step hands on each key whose lowest number changed, once.
  ///
  /// - Parameter name: owns the state in the job's state; give one when the job's code may change.
  @inlinable
  public func minimum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<KeyedSelect<Source, Key, Minimum<Source.Output>>> {
    DataStream<KeyedSelect<Source, Key, Minimum<Source.Output>>>(
      KeyedSelect(flow, key: key, fold: Minimum(number), kind: "minimum", name: name))
  }

  /// The highest of a number over the values of each key so far; handed on like ``minimum(name:_:)``.
  @inlinable
  public func maximum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<KeyedSelect<Source, Key, Maximum<Source.Output>>> {
    DataStream<KeyedSelect<Source, Key, Maximum<Source.Output>>>(
      KeyedSelect(flow, key: key, fold: Maximum(number), kind: "maximum", name: name))
  }

  /// A state of any size of each key, changed by a closure; handed on like ``count(name:)``.
  ///
  ///     readings.keyBy(\.sensor).fold([Int64](), name: "last") { last, reading in
  ///       last.append(reading.value)
  ///       if last.count > 3 { last.removeFirst() }
  ///     }
  @inlinable
  public func fold<Content: StateCodable & Sendable>(
    _ initial: Content, name: String? = nil, _ change: @escaping @Sendable (inout Content, Source.Output) -> Void
  ) -> DataStream<Map<KeyedAggregate<Source, Key, Accumulating<Source.Output, Content>>, Keyed<Key, Content>>> {
    aggregate(Accumulating(initial, change), kind: "fold", name: name)
      .map { Keyed(key: $0.key, value: $0.value.content) }
  }
}

extension KeyedStream where Source.Output: StateCodable {
  /// The values of each key put together, two by two, in the order in which they came; handed on like ``count(name:)``.
  ///
  ///     amounts.keyBy(\.account).reduce { $0.adding($1) }
  @inlinable
  public func reduce(
    name: String? = nil, _ combine: @escaping @Sendable (Source.Output, Source.Output) -> Source.Output
  ) -> DataStream<Map<KeyedAggregate<Source, Key, Reducing<Source.Output>>, Keyed<Key, Source.Output>>> {
    aggregate(Reducing(combine), kind: "reduce", name: name)
      .map { Keyed(key: $0.key, value: Reducing.result($0.value)) }
  }

  /// The last value of each key in event time: of equal times the one that came last. A step hands on each key that got a later
  /// value, once, and so what it writes to a topic are upserts. The state holds a value for each key.
  @inlinable
  public func deduplicateLast(
    name: String? = nil
  ) -> DataStream<Map<KeyedSelect<Source, Key, LatestValue<Source.Output>>, Keyed<Key, Source.Output>>> {
    DataStream<KeyedSelect<Source, Key, LatestValue<Source.Output>>>(
      KeyedSelect(flow, key: key, fold: LatestValue(), kind: "last", name: name)
    ).map { Keyed(key: $0.key, value: LatestValue.result($0.value)) }
  }
}
