// KeyedStream+Top: the highest values of each key.

import MillraceBase
import MillraceDataflow

extension KeyedStream where Source.Output: StateCodable {
  /// The `n` values of each key with the highest numbers, the highest first. A step hands on each key whose list changed, once, with the
  /// whole list; the state holds nothing else.
  ///
  /// Of equal numbers the value stands first whose encoding is the lower one, byte by byte, so that the order in which values came does
  /// not matter.
  /// - Parameters:
  ///   - n: at least 1.
  ///   - name: owns the lists in the job's state; give one when the job's code may change.
  @inlinable
  public func top(
    _ n: Int, name: String? = nil, by number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<Map<KeyedSelect<Source, Key, TopValues<Source.Output>>, Keyed<Key, [Source.Output]>>> {
    top(TopValues(n, by: number), name)
  }

  /// Like ``top(_:name:by:)``, of values of which each identity counts once, with its highest number.
  ///
  ///     // The products that were bought together with each one most often; counts only grow.
  ///     pairs.keyBy(\.product).top(5, distinct: \.other) { $0.count }
  @inlinable
  public func top<ID: Equatable & SendableMetatype>(
    _ n: Int, name: String? = nil, distinct id: @escaping @Sendable (Source.Output) -> ID,
    by number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<Map<KeyedSelect<Source, Key, TopValues<Source.Output>>, Keyed<Key, [Source.Output]>>> {
    top(TopValues(n, by: number, isSame: { id($0) == id($1) }), name)
  }

  @inlinable
  func top(
    _ fold: TopValues<Source.Output>, _ name: String?
  ) -> DataStream<Map<KeyedSelect<Source, Key, TopValues<Source.Output>>, Keyed<Key, [Source.Output]>>> {
    DataStream<KeyedSelect<Source, Key, TopValues<Source.Output>>>(
      KeyedSelect(flow, key: key, fold: fold, kind: "top", name: name)
    ).map { Keyed(key: $0.key, value: $0.value.content.values) }
  }
}
