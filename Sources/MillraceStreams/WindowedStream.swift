// WindowedStream: keyed values by windows of event time.

import MillraceBase
import MillraceDataflow

extension KeyedStream {
  /// The values of each key by windows of event time.
  ///
  ///     clicks.keyBy(\.user).window(.tumbling(.seconds(60))).count()
  @inlinable
  public func window(_ windows: TimeWindows) -> WindowedStream<Source, Key> {
    WindowedStream(self, windows, WindowOptions(), late: nil)
  }
}

/// A stream whose values have keys and lie in windows. A window's result is handed on once, when event time has passed its
/// end, and what comes later is left out, unless said otherwise.
public struct WindowedStream<Source: Flow, Key: StreamKey>: Sendable {
  @usableFromInline let stream: KeyedStream<Source, Key>
  @usableFromInline let windows: TimeWindows
  @usableFromInline let options: WindowOptions
  @usableFromInline let late: (any RecordSink<Source.Output>)?

  @usableFromInline
  init(
    _ stream: KeyedStream<Source, Key>, _ windows: TimeWindows, _ options: WindowOptions,
    late: (any RecordSink<Source.Output>)?
  ) {
    self.stream = stream
    self.windows = windows
    self.options = options
    self.late = late
  }

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

  /// The number of values of each key and window.
  ///
  /// - Parameter name: owns the counts in the job's state; give one when the job's code may change.
  @inlinable
  public func count(name: String? = nil) -> DataStream<WindowAggregate<Source, Key, Counting<Source.Output>>> {
    aggregate(Counting(), name: name)
  }

  /// The sum of a number over the values of each key and window.
  @inlinable
  public func sum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<WindowAggregate<Source, Key, Summing<Source.Output>>> {
    aggregate(Summing(number), name: name)
  }

  /// The lowest of a number over the values of each key and window.
  @inlinable
  public func minimum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<WindowAggregate<Source, Key, Minimum<Source.Output>>> {
    aggregate(Minimum(number), name: name)
  }

  /// The highest of a number over the values of each key and window.
  @inlinable
  public func maximum(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<WindowAggregate<Source, Key, Maximum<Source.Output>>> {
    aggregate(Maximum(number), name: name)
  }

  /// The state of each key and window as `fold` changes it.
  @inlinable
  public func aggregate<Fold: MergeableAggregation>(
    _ fold: Fold, name: String? = nil
  ) -> DataStream<WindowAggregate<Source, Key, Fold>> where Fold.Input == Source.Output {
    DataStream<WindowAggregate<Source, Key, Fold>>(
      WindowAggregate(
        stream.flow, key: stream.key, fold: fold, windows: windows, options: options, late: late, name: name))
  }

  /// The state of each key and window as `fold` changes it, of any size.
  @inlinable
  public func aggregate<Fold: WideAggregation>(
    _ fold: Fold, name: String? = nil
  ) -> DataStream<Map<WindowAggregate<Source, Key, Boxing<Fold>>, Windowed<Key, Fold.State>>>
  where Fold.Input == Source.Output {
    aggregate(Boxing(fold), name: name).map { Windowed(key: $0.key, window: $0.window, value: $0.value.content) }
  }

  /// The average of a number over the values of each key and window.
  @inlinable
  public func average(
    name: String? = nil, _ number: @escaping @Sendable (Source.Output) -> Int64
  ) -> DataStream<Map<WindowAggregate<Source, Key, Boxing<Averaging<Source.Output>>>, Windowed<Key, AverageState>>> {
    aggregate(Averaging(number), name: name)
  }
}

extension WindowedStream where Source.Output == InputRecord {
  /// Appends records that come too late for every window to a topic, with their keys, values and times.
  public func lateRecords(to topic: String) -> WindowedStream { lateValues(to: RecordTopicSink(topic: topic)) }
}
