// WindowedStream+Process: functions that see all values of a window.

import MillraceBase
import MillraceDataflow

extension WindowedStream where Source.Output: StateCodable {
  /// Calls a function of one's own for each result of a window, with all values of the key and window, in the order in which they came, and a
  /// later part of the window behind the earlier one.
  ///
  ///     // The median of each minute.
  ///     readings.keyBy(\.sensor).window(.tumbling(.seconds(60))).process(name: "medians") { window, emit in
  ///       let sorted = window.value.map(\.value.celsius).sorted()
  ///       emit("\(window.key) \(sorted[sorted.count / 2])")
  ///     }
  ///
  /// All values are kept until the window is over; those of one key and slice of time are one value of state, which is written with each
  /// step that changes it: for windows of thousands. An aggregation keeps less.
  ///
  /// - Parameters:
  ///   - name: owns the values in the job's state; give one when the job's code may change.
  ///   - evictor: takes out values that the function is not to see. The window keeps them, as they may lie in others.
  ///   - function: its second argument takes what is handed on, with the time of the window's result.
  @inlinable
  public func process<Output>(
    name: String? = nil, evicting evictor: Evictor<Source.Output>? = nil,
    _ function: @escaping @Sendable (Windowed<Key, [Timestamped<Source.Output>]>, (Output) -> Void) -> Void
  ) -> DataStream<some Flow<Output>> {
    gathered.aggregate(Gathering(), name: name).flatMap { window, emit in
      var window = window
      evictor?(&window.value)
      function(window, emit)
    }
  }

  /// The same windows of the values with their times.
  @inlinable
  var gathered: WindowedStream<WithTime<Source>, Key, Windows> {
    let key = stream.key
    return WindowedStream<WithTime<Source>, Key, Windows>(
      KeyedStream(WithTime(stream.flow)) { key($0.value) }, windows, options, late: late.map { WithoutTimeSink($0) })
  }
}

extension WindowedStream where Source.Output: StateCodable, Windows == GlobalWindows {
  /// Calls a function of one's own for each result of a key's window, with the values that it has, in the order in which they came. What is
  /// taken out before or behind the call is forgotten for good, so that a window that is not purged keeps what evictors leave.
  ///
  ///     // With each 10 trades, the last 100.
  ///     trades.keyBy(\.symbol).window(.global(.count(10), purging: false))
  ///       .process(name: "last", evictingBefore: .last(100)) { window, emit in emit(summary(window.key, window.value)) }
  ///
  /// The values of a key are one value of state, which is written with each step that changes it; a key stays when no value is left. The window of a result reaches from the
  /// earliest to the ms behind the latest of the values that the function sees.
  ///
  /// - Parameters:
  ///   - name: owns the values in the job's state; give one when the job's code may change.
  ///   - before: takes values out before the function is called.
  ///   - after: takes values out behind that.
  ///   - function: its second argument takes what is handed on, with the time of the window's result.
  @inlinable
  public func process<Output>(
    name: String? = nil, evictingBefore before: Evictor<Source.Output>?, after: Evictor<Source.Output>? = nil,
    _ function: @escaping @Sendable (Windowed<Key, [Timestamped<Source.Output>]>, (Output) -> Void) -> Void
  ) -> DataStream<some Flow<Output>> {
    gathered.aggregate(Boxing(Gathering()), name: name).flatMap { result, emit in
      // A global window is one pane, and so the result is its state itself, which is written behind each result.
      let state = result.value
      before?(&state.content)
      let times = state.content.map(\.time)
      var window = result.window
      if let first = times.min(), let last = times.max() {
        window = Window(start: first, end: Timestamp(milliseconds: last.milliseconds + 1))
      }
      function(Windowed(key: result.key, window: window, value: state.content), emit)
      after?(&state.content)
    }
  }
}
