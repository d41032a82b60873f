// ChangeStream: aggregates of values that come and go.

import MillraceBase
import MillraceDataflow

extension KeyedStream where Source.Output: Weighted {
  /// The number of values that each key has, as a table: values that were taken back do not count. A key without values
  /// is gone.
  ///
  /// - Parameter name: owns the counts in the job's state; give one when the job's code may change.
  @inlinable
  public func count(name: String? = nil) -> DataStream<TableAggregate<Source, Key, CountingChanges<Source.Output>>> {
    table.fold(CountingChanges(), kind: "count", name: name)
  }

  /// The sum of a number over the values that each key has, as a table.
  @inlinable
  public func sum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output.Value) -> Int64
  ) -> DataStream<TableAggregate<Source, Key, SummingChanges<Source.Output>>> {
    table.fold(SummingChanges(number), kind: "sum", name: name)
  }

  /// The average of a number over the values that each key has, as a table.
  @inlinable
  public func average(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output.Value) -> Int64
  ) -> DataStream<TableAggregate<Source, Key, AveragingChanges<Source.Output>>> {
    table.fold(AveragingChanges(number), kind: "average", name: name)
  }

  /// The lowest of a number over the values that each key has, as a table. Every number that a key has is kept, each
  /// once: a change costs a search among them, and moves those above it.
  @inlinable
  public func minimum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output.Value) -> Int64
  ) -> DataStream<ExtremeOfChanges<Source, Key>> {
    DataStream<ExtremeOfChanges<Source, Key>>(
      ExtremeOfChanges(flow, key: key, extreme: .lowest, name: name, number: number))
  }

  /// The highest of a number over the values that each key has, as a table; see ``minimum(name:_:)``.
  @inlinable
  public func maximum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output.Value) -> Int64
  ) -> DataStream<ExtremeOfChanges<Source, Key>> {
    DataStream<ExtremeOfChanges<Source, Key>>(
      ExtremeOfChanges(flow, key: key, extreme: .highest, name: name, number: number))
  }
}

extension DataStream where Source.Output: Weighted, Source.Output.Value: StateCodable {
  /// Each value that is there, once, however often it is there; as changes, at the end of the step. Values are equal
  /// when their encodings are. The state is a count for each value.
  ///
  /// - Parameter name: owns the counts in the job's state; give one when the job's code may change.
  @inlinable
  public func distinct(
    name: String? = nil
  ) -> DataStream<
    FlatMap<TableAggregate<Source, Bytes, Presence<Source.Output>>, PresenceChanges<Source.Output.Value>>
  > {
    keyBy { $0.value.stateBytes }.table.fold(Presence<Source.Output>(), kind: "distinct", name: name)
      .flatMap(PresenceChanges<Source.Output.Value>())
  }
}
