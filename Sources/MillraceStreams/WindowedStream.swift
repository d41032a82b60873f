// WindowedStream: keyed values by windows.

import MillraceBase
import MillraceDataflow

extension KeyedStream {
  /// The values of each key by windows.
  ///
  ///     clicks.keyBy(\.user).window(.tumbling(.seconds(60))).count()
  @inlinable
  public func window<Windows: WindowAssigner>(_ windows: Windows) -> WindowedStream<Source, Key, Windows> {
    WindowedStream(self, windows, WindowOptions(), late: nil)
  }

  /// The values of each key by sessions: those that follow each other with pauses of at most `gap` belong together.
  ///
  ///     clicks.keyBy(\.user).sessions(gap: .seconds(1800)).count()
  @inlinable
  public func sessions(gap: Duration) -> WindowedStream<Source, Key, SessionWindows> {
    window(SessionWindows(gap: gap))
  }
}

/// A stream whose values have keys and lie in windows. A window's result is handed on once, when event time has passed its
/// end, and what comes later is left out, unless said otherwise. A session ends the gap behind its last value; what comes later
/// begins another one.
public struct WindowedStream<Source: Flow, Key: StreamKey, Windows: WindowAssigner>: Sendable {
  @usableFromInline let stream: KeyedStream<Source, Key>
  @usableFromInline let windows: Windows
  @usableFromInline let options: WindowOptions
  @usableFromInline let late: (any RecordSink<Source.Output>)?

  @usableFromInline
  init(
    _ stream: KeyedStream<Source, Key>, _ windows: Windows, _ options: WindowOptions,
    late: (any RecordSink<Source.Output>)?
  ) {
    self.stream = stream
    self.windows = windows
    self.options = options
    self.late = late
  }

  /// The number of values of each key and window.
  ///
  /// - Parameter name: owns the counts in the job's state; give one when the job's code may change.
  @inlinable
  public func count(name: String? = nil) -> DataStream<WindowAggregate<Source, Key, Counting<Source.Output>, Windows>> {
    aggregate(Counting(), name: name)
  }

  /// The sum of a number over the values of each key and window.
  @inlinable
  public func sum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<WindowAggregate<Source, Key, Summing<Source.Output>, Windows>> {
    aggregate(Summing(number), name: name)
  }

  /// The lowest of a number over the values of each key and window.
  @inlinable
  public func minimum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<WindowAggregate<Source, Key, Minimum<Source.Output>, Windows>> {
    aggregate(Minimum(number), name: name)
  }

  /// The highest of a number over the values of each key and window.
  @inlinable
  public func maximum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<WindowAggregate<Source, Key, Maximum<Source.Output>, Windows>> {
    aggregate(Maximum(number), name: name)
  }

  /// The state of each key and window as `fold` changes it.
  @inlinable
  public func aggregate<Fold: MergeableAggregation>(
    _ fold: Fold, name: String? = nil
  ) -> DataStream<WindowAggregate<Source, Key, Fold, Windows>> where Fold.Input == Source.Output {
    DataStream<WindowAggregate<Source, Key, Fold, Windows>>(
      WindowAggregate(
        stream.flow, key: stream.key, fold: fold, windows: windows, options: options, late: late, name: name))
  }

  /// The state of each key and window as `fold` changes it, of any size.
  @inlinable
  public func aggregate<Fold: WideAggregation>(
    _ fold: Fold, name: String? = nil
  ) -> DataStream<Map<WindowAggregate<Source, Key, Boxing<Fold>, Windows>, Windowed<Key, Fold.State>>>
  where Fold.Input == Source.Output {
    aggregate(Boxing(fold), name: name).map { Windowed(key: $0.key, window: $0.window, value: $0.value.content) }
  }

  /// The average of a number over the values of each key and window.
  @inlinable
  public func average(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<
    Map<WindowAggregate<Source, Key, Boxing<Averaging<Source.Output>>, Windows>, Windowed<Key, AverageState>>
  > {
    aggregate(Averaging(number), name: name)
  }
}

extension WindowedStream where Windows: EventTimeWindowAssigner {
  /// Keeps each window for `lateness` of event time behind its end: values that come so late change it, and its result is
  /// handed on again for their keys.
  public func allowedLateness(_ lateness: Duration) -> WindowedStream {
    var options = options
    options.allowedLateness = lateness
    return WindowedStream(stream, windows, options, late: late)
  }

  /// When results are handed on.
  public func emit(_ emission: WindowEmission) -> WindowedStream {
    var options = options
    options.emission = emission
    return WindowedStream(stream, windows, options, late: late)
  }

  /// Hands values that come too late for every window to `sink`. They are counted in ``JobFigures/lateRecords`` anyhow.
  public func lateValues(to sink: some RecordSink<Source.Output>) -> WindowedStream {
    WindowedStream(stream, windows, options, late: sink)
  }
}

extension WindowedStream where Windows: EventTimeWindowAssigner, Source.Output == InputRecord {
  /// Appends records that come too late for every window to a topic, with their keys, values and times.
  public func lateRecords(to topic: String) -> WindowedStream { lateValues(to: RecordTopicSink(topic: topic)) }
}
