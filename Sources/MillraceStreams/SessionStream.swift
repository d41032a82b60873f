// SessionStream: keyed values by sessions.

import MillraceBase
import MillraceDataflow

extension KeyedStream {
  /// The values of each key by sessions: those that follow each other with pauses of at most `gap` belong together.
  ///
  ///     clicks.keyBy(\.user).sessions(gap: .seconds(1800)).count()
  @inlinable
  public func sessions(gap: Duration) -> SessionStream<Source, Key> {
    SessionStream(self, gap, WindowOptions(), late: nil)
  }
}

/// A stream whose values have keys and lie in sessions. A session's result is handed on once, when event time has passed the gap
/// behind its last value, and what comes later begins another one, unless said otherwise.
public struct SessionStream<Source: Flow, Key: StreamKey>: Sendable {
  @usableFromInline let stream: KeyedStream<Source, Key>
  @usableFromInline let gap: Duration
  @usableFromInline let options: WindowOptions
  @usableFromInline let late: (any RecordSink<Source.Output>)?

  @usableFromInline
  init(
    _ stream: KeyedStream<Source, Key>, _ gap: Duration, _ options: WindowOptions,
    late: (any RecordSink<Source.Output>)?
  ) {
    self.stream = stream
    self.gap = gap
    self.options = options
    self.late = late
  }

  /// Keeps each session for `lateness` of event time behind its end: values that come so late join it, and its result is handed
  /// on again.
  public func allowedLateness(_ lateness: Duration) -> SessionStream {
    var options = options
    options.allowedLateness = lateness
    return SessionStream(stream, gap, options, late: late)
  }

  /// When results are handed on.
  public func emit(_ emission: WindowEmission) -> SessionStream {
    var options = options
    options.emission = emission
    return SessionStream(stream, gap, options, late: late)
  }

  /// Hands values that come too late for every session to `sink`. They are counted in ``JobFigures/lateRecords`` anyhow.
  public func lateValues(to sink: some RecordSink<Source.Output>) -> SessionStream {
    SessionStream(stream, gap, options, late: sink)
  }

  /// The number of values of each key and session.
  ///
  /// - Parameter name: owns the counts in the job's state; give one when the job's code may change.
  @inlinable
  public func count(name: String? = nil) -> DataStream<SessionAggregate<Source, Key, Counting<Source.Output>>> {
    aggregate(Counting(), name: name)
  }

  /// The sum of a number over the values of each key and session.
  @inlinable
  public func sum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<SessionAggregate<Source, Key, Summing<Source.Output>>> {
    aggregate(Summing(number), name: name)
  }

  /// The lowest of a number over the values of each key and session.
  @inlinable
  public func minimum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<SessionAggregate<Source, Key, Minimum<Source.Output>>> {
    aggregate(Minimum(number), name: name)
  }

  /// The highest of a number over the values of each key and session.
  @inlinable
  public func maximum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<SessionAggregate<Source, Key, Maximum<Source.Output>>> {
    aggregate(Maximum(number), name: name)
  }

  /// The state of each key and session as `fold` changes it.
  @inlinable
  public func aggregate<Fold: MergeableAggregation>(
    _ fold: Fold, name: String? = nil
  ) -> DataStream<SessionAggregate<Source, Key, Fold>> where Fold.Input == Source.Output {
    DataStream<SessionAggregate<Source, Key, Fold>>(
      SessionAggregate(stream.flow, key: stream.key, fold: fold, gap: gap, options: options, late: late, name: name))
  }

  /// The state of each key and session as `fold` changes it, of any size.
  @inlinable
  public func aggregate<Fold: WideAggregation>(
    _ fold: Fold, name: String? = nil
  ) -> DataStream<Map<SessionAggregate<Source, Key, Boxing<Fold>>, Windowed<Key, Fold.State>>>
  where Fold.Input == Source.Output {
    aggregate(Boxing(fold), name: name).map { Windowed(key: $0.key, window: $0.window, value: $0.value.content) }
  }

  /// The average of a number over the values of each key and session.
  @inlinable
  public func average(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<Map<SessionAggregate<Source, Key, Boxing<Averaging<Source.Output>>>, Windowed<Key, AverageState>>> {
    aggregate(Averaging(number), name: name)
  }
}

extension SessionStream where Source.Output == InputRecord {
  /// Appends records that come too late for every session to a topic, with their keys, values and times.
  public func lateRecords(to topic: String) -> SessionStream { lateValues(to: RecordTopicSink(topic: topic)) }
}
