// TableStream: keyed values as tables, and tables as streams of changes.

import MillraceBase
import MillraceDataflow

extension KeyedStream {
  /// The values of each key as a table, which knows what it handed on of a key before: with ``DataStream/changes()``
  /// what is handed on can be counted, summed and joined again.
  ///
  ///     // The average of the highest bids, by seller.
  ///     bids.keyBy { $0.auction }.table.maximum { $0.price }.changes()
  ///       .keyBy { seller(of: $0.value.key) }.average { $0.value }
  @inlinable public var table: KeyedTableStream<Source, Key> { KeyedTableStream(self) }

  /// The last value of each key, as a table. A step hands on each key for which it changed something, once.
  ///
  /// - Parameters:
  ///   - order: which value is the last.
  ///   - name: owns the table in the job's state; give one when the job's code may change.
  ///   - value: what is kept of a value; nil deletes its key.
  @inlinable
  public func latest<Value: StateCodable & Equatable>(
    by order: TableOrder = .arrival, name: String? = nil, _ value: @escaping @Sendable (Source.Output) -> Value?
  ) -> DataStream<TableAggregate<Source, Key, Latest<Source.Output, Value>>> {
    table.fold(Latest(by: order, value), kind: "latest", name: name)
  }

  /// The last value of each key, as a table; see ``latest(by:name:_:)``.
  @inlinable
  public func latest(
    by order: TableOrder = .arrival, name: String? = nil
  ) -> DataStream<TableAggregate<Source, Key, Latest<Source.Output, Source.Output>>>
  where Source.Output: StateCodable & Equatable {
    latest(by: order, name: name) { $0 }
  }
}

/// A stream whose values have keys, to be made a table of. What a table shows of a key that a step changed is handed on
/// at the step's end, with what it showed before, unless both are equal.
public struct KeyedTableStream<Source: Flow, Key: StreamKey>: Sendable {
  @usableFromInline let stream: KeyedStream<Source, Key>

  @inlinable
  init(_ stream: KeyedStream<Source, Key>) { self.stream = stream }

  /// What `fold` keeps of each key.
  ///
  /// - Parameter name: owns the table in the job's state; give one when the job's code may change.
  @inlinable
  public func fold<Fold: TableFold>(
    _ fold: Fold, kind: String = "table", name: String? = nil
  ) -> DataStream<TableAggregate<Source, Key, Fold>> where Fold.Input == Source.Output {
    DataStream<TableAggregate<Source, Key, Fold>>(
      TableAggregate(stream.flow, key: stream.key, fold: fold, kind: kind, name: name))
  }

  /// What an aggregation makes of the values of each key.
  @inlinable
  public func aggregate<Fold: Aggregation>(
    _ aggregation: Fold, name: String? = nil
  ) -> DataStream<TableAggregate<Source, Key, Growing<Fold>>> where Fold.Input == Source.Output {
    fold(Growing(aggregation), name: name)
  }

  /// What an aggregation of any size makes of the values of each key. The whole state of a key is written when it
  /// changes.
  @inlinable
  public func aggregate<Fold: WideAggregation>(
    _ aggregation: Fold, name: String? = nil
  ) -> DataStream<TableAggregate<Source, Key, WideGrowing<Fold>>> where Fold.Input == Source.Output {
    fold(WideGrowing(aggregation), name: name)
  }

  /// The number of values of each key.
  @inlinable
  public func count(
    name: String? = nil
  ) -> DataStream<TableAggregate<Source, Key, Growing<Counting<Source.Output>>>> {
    aggregate(Counting(), name: name)
  }

  /// The sum of a number over the values of each key.
  @inlinable
  public func sum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<TableAggregate<Source, Key, Growing<Summing<Source.Output>>>> {
    aggregate(Summing(number), name: name)
  }

  /// The lowest of a number over the values of each key.
  @inlinable
  public func minimum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<TableAggregate<Source, Key, Growing<Minimum<Source.Output>>>> {
    aggregate(Minimum(number), name: name)
  }

  /// The highest of a number over the values of each key.
  @inlinable
  public func maximum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<TableAggregate<Source, Key, Growing<Maximum<Source.Output>>>> {
    aggregate(Maximum(number), name: name)
  }

  /// The average of a number over the values of each key.
  @inlinable
  public func average(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<TableAggregate<Source, Key, WideGrowing<Averaging<Source.Output>>>> {
    aggregate(Averaging(number), name: name)
  }
}

extension DataStream {
  /// The updates of a table as changes: what a key had is taken back, then what it has comes.
  @inlinable
  public func changes<Key, Value>() -> DataStream<FlatMap<Source, UpdateChanges<Key, Value>>>
  where Source.Output == TableUpdate<Key, Value> {
    flatMap(UpdateChanges<Key, Value>())
  }

  /// The values of a stream that only grows, as changes: each comes and stays.
  @inlinable
  public func asChanges() -> DataStream<Map<Source, Change<Source.Output>>> { map { .insert($0) } }

  /// Appends what each key of a table has to a topic, whose newest record of a key then says so; one without a value
  /// says that the key is gone. The record's time is the newest event time that the step brought.
  @inlinable
  public func to<Key: BytesRepresentable, Value: BytesRepresentable>(topic: String) -> StreamOutput
  where Source.Output == TableUpdate<Key, Value> {
    StreamOutput(Pipeline(flow, into: TableTopicSink<Key, Value>(topic: topic)))
  }
}
