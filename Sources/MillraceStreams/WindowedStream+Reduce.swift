// WindowedStream+Reduce: what becomes of the values of a key and window, by closures or by a comparison.

import MillraceBase
import MillraceDataflow

extension WindowedStream {
  /// A state of any size of each key and window, changed by a closure.
  /// - Parameter merging: adds what a later part of the window came to. Merging with `initial` must change nothing.
  @inlinable
  public func fold<Content: StateCodable & Sendable>(
    _ initial: Content, name: String? = nil, _ change: @escaping @Sendable (inout Content, Source.Output) -> Void,
    merging: @escaping @Sendable (inout Content, Content) -> Void
  ) -> DataStream<some Flow<Windowed<Key, Content>>> {
    aggregate(Folding(initial, adding: change, merging: merging), name: name)
  }
}

extension WindowedStream {
  /// How many different elements the values of each key and window have, exactly. A window's whole set is written with each step that
  /// changes it: for sets of thousands; for larger ones make the time part of the key, and use ``KeyedStream/distinctCount(name:_:)``.
  @inlinable
  public func distinctCount<Element: BytesRepresentable>(
    name: String? = nil, _ element: @escaping @Sendable (Source.Output) -> Element
  ) -> DataStream<some Flow<Windowed<Key, Int64>>> {
    aggregate(DistinctValues(element), name: name)
      .map { Windowed(key: $0.key, window: $0.window, value: Int64($0.value.count)) }
  }
}

extension WindowedStream where Source.Output: StateCodable {
  /// The values of each key and window put together, two by two, by an associative function: in the order in which they came, and
  /// a later part of the window behind the earlier one.
  @inlinable
  public func reduce(
    name: String? = nil, _ combine: @escaping @Sendable (Source.Output, Source.Output) -> Source.Output
  ) -> DataStream<some Flow<Windowed<Key, Source.Output>>> {
    aggregate(Reducing(combine), name: name)
      .map { Windowed(key: $0.key, window: $0.window, value: Reducing.result($0.value)) }
  }

  /// The `n` values of each key and window with the highest numbers, the highest first; of equal numbers the value stands first whose
  /// encoding is the lower one, byte by byte.
  @inlinable
  public func top(
    _ n: Int, name: String? = nil, by number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<some Flow<Windowed<Key, [Source.Output]>>> {
    aggregate(TopValues(n, by: number), name: name)
      .map { Windowed(key: $0.key, window: $0.window, value: $0.value.content.values) }
  }

  /// Like ``top(_:name:by:)``, of values of which each identity counts once, with its highest number.
  @inlinable
  public func top<ID: Equatable & SendableMetatype>(
    _ n: Int, name: String? = nil, distinct id: @escaping @Sendable (Source.Output) -> ID,
    by number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<some Flow<Windowed<Key, [Source.Output]>>> {
    aggregate(TopValues(n, by: number, isSame: { id($0) == id($1) }), name: name)
      .map { Windowed(key: $0.key, window: $0.window, value: $0.value.content.values) }
  }
}
