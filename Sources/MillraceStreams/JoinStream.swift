// JoinStream: two streams, or a stream and a table, as one, by equal keys.

import MillraceBase
import MillraceDataflow

extension KeyedStream where Source.Output: StateCodable {
  /// All pairs of a value of this stream and one of `other` with equal keys. Both sides are kept for ever: use `within`
  /// or ``intervalJoin(_:between:name:)`` when values that are far from each other in time do not belong together.
  ///
  ///     orders.keyBy { $0.id }.join(payments.keyBy { $0.order }).map { … $0.left … $0.right … }
  ///
  /// A pair is handed on when the second of its values comes, with the later one's time.
  ///
  /// - Parameter name: owns the kept values in the job's state; give one when the job's code may change.
  @inlinable
  public func join<Other: Flow>(
    _ other: KeyedStream<Other, Key>, name: String? = nil
  ) -> DataStream<StreamJoin<Source, Other, Key>> {
    DataStream<StreamJoin<Source, Other, Key>>(
      StreamJoin(flow, by: key, other.flow, by: other.key, between: nil, name: name))
  }

  /// The pairs whose event times are at most `time` apart. A value is kept for so long behind its own time, in event
  /// time.
  ///
  /// - Parameters:
  ///   - time: at least 0; parts of a ms are cut off.
  ///   - name: owns the kept values in the job's state; give one when the job's code may change.
  @inlinable
  public func join<Other: Flow>(
    _ other: KeyedStream<Other, Key>, within time: Duration, name: String? = nil
  ) -> DataStream<StreamJoin<Source, Other, Key>> {
    intervalJoin(other, between: .zero - time...time, name: name)
  }

  /// The pairs in which the value of `other` comes by a time in `bounds` later than this stream's, in event time.
  ///
  ///     // Payments within an hour of the order.
  ///     orders.keyBy { $0.id }.intervalJoin(payments.keyBy { $0.order }, between: .zero ... .seconds(3600))
  ///
  /// A pair is handed on when the second of its values comes, with the later one's time. A value is kept until event
  /// time, of the slower stream, has passed the last time that a partner may have. One that comes late finds the
  /// partners that are still kept; one that can find none any more is counted in ``JobFigures/lateRecords``.
  ///
  /// - Parameters:
  ///   - bounds: both included; negative ones are earlier. Parts of a ms are cut off.
  ///   - name: owns the kept values in the job's state; give one when the job's code may change.
  @inlinable
  public func intervalJoin<Other: Flow>(
    _ other: KeyedStream<Other, Key>, between bounds: ClosedRange<Duration>, name: String? = nil
  ) -> DataStream<StreamJoin<Source, Other, Key>> {
    DataStream<StreamJoin<Source, Other, Key>>(
      StreamJoin(flow, by: key, other.flow, by: other.key, between: bounds, name: name))
  }

  /// The pairs whose values lie in one window, once for each window that holds both.
  ///
  ///     people.keyBy { $0.id }.windowJoin(auctions.keyBy { $0.seller }, in: .tumbling(.seconds(10)))
  ///
  /// A pair is handed on when the second of its values comes, with the window's last ms as its time. Values are kept
  /// until event time, of the slower stream, has come to the end of their last window; those that come later are late.
  ///
  /// - Parameter name: owns the kept values in the job's state; give one when the job's code may change.
  @inlinable
  public func windowJoin<Other: Flow>(
    _ other: KeyedStream<Other, Key>, in windows: TimeWindows, name: String? = nil
  ) -> DataStream<WindowJoin<Source, Other, Key>> {
    DataStream<WindowJoin<Source, Other, Key>>(
      WindowJoin(flow, by: key, other.flow, by: other.key, in: windows, name: name))
  }
}

extension KeyedStream where Source.Output: Weighted, Source.Output.Value: StateCodable {
  /// All pairs of a value that is there in this stream of changes and one that is there in `other`, with equal keys, as
  /// changes. Values are equal when their encodings are.
  ///
  /// - Parameter name: owns the kept values in the job's state; give one when the job's code may change.
  @inlinable
  public func join<Other: Flow>(
    _ other: KeyedStream<Other, Key>, name: String? = nil
  ) -> DataStream<ChangeJoin<Source, Other, Key, Joined<Source.Output.Value, Other.Output.Value>>>
  where Other.Output: Weighted, Other.Output.Value: StateCodable {
    DataStream<ChangeJoin<Source, Other, Key, Joined<Source.Output.Value, Other.Output.Value>>>(
      ChangeJoin(flow, by: key, other.flow, by: other.key, kind: .inner, name: name) { left, right in
        right.map { Joined(left, $0) }
      })
  }

  /// The pairs of ``join(_:name:)``, and each value of this stream that has no partner with nil in the partner's place.
  /// When the first partner comes, that is taken back; when the last one goes, it comes again.
  @inlinable
  public func leftJoin<Other: Flow>(
    _ other: KeyedStream<Other, Key>, name: String? = nil
  ) -> DataStream<ChangeJoin<Source, Other, Key, Joined<Source.Output.Value, Other.Output.Value?>>>
  where Other.Output: Weighted, Other.Output.Value: StateCodable {
    DataStream<ChangeJoin<Source, Other, Key, Joined<Source.Output.Value, Other.Output.Value?>>>(
      ChangeJoin(flow, by: key, other.flow, by: other.key, kind: .left, name: name) { Joined($0, $1) })
  }
}

extension KeyedStream {
  /// Each value with what `table` has for its key when the value comes; values for whose keys it has nothing are left
  /// out. The values are not kept, and what changes in the table later changes nothing of what was handed on.
  ///
  ///     orders.keyBy { $0.customer }.join(customers.keyBy { $0.id }.latest(name: "customers"))
  ///
  /// The table belongs to the join, and its name owns it. A table and a stream of several topics or partitions are not
  /// in step: what a value finds depends on how the job came to read them.
  @inlinable
  public func join<Other: Flow, Fold: TableFold>(
    _ table: DataStream<TableAggregate<Other, Key, Fold>>
  ) -> DataStream<StreamTableJoin<Source, Other, Key, Fold, Joined<Source.Output, Fold.Value>>> {
    DataStream<StreamTableJoin<Source, Other, Key, Fold, Joined<Source.Output, Fold.Value>>>(
      StreamTableJoin(flow, by: key, table.flow) { value, found in found.map { Joined(value, $0) } })
  }

  /// Each value with what `table` has for its key when the value comes, nil when it has nothing; see ``join(_:)``.
  @inlinable
  public func leftJoin<Other: Flow, Fold: TableFold>(
    _ table: DataStream<TableAggregate<Other, Key, Fold>>
  ) -> DataStream<StreamTableJoin<Source, Other, Key, Fold, Joined<Source.Output, Fold.Value?>>> {
    DataStream<StreamTableJoin<Source, Other, Key, Fold, Joined<Source.Output, Fold.Value?>>>(
      StreamTableJoin(flow, by: key, table.flow) { Joined($0, $1) })
  }
}
