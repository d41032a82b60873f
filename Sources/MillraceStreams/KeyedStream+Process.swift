// KeyedStream+Process: functions with several states, and values in the order of their times.

import MillraceBase
import MillraceDataflow

extension KeyedStream {
  /// Calls a function of one's own for each value of a key, with named states of the key and timers in event time.
  ///
  ///     let pages = MapState<String, Int64>("pages")
  ///     let last = ListState<String>("last", timeToLive: .seconds(3600))
  ///     clicks.keyBy(\.user).process([pages, last], name: "users") { click, user, emit in
  ///       user[pages][click.page] = (user[pages][click.page] ?? 0) + 1
  ///       user[last].append(click.page)
  ///       emit("\(user.key) saw \(user[last].count) pages within an hour")
  ///     }
  ///
  /// - Parameters:
  ///   - states: all that the functions use; what is no state of this list is a trap.
  ///   - name: owns the states, and each is named in the job's state by its name behind this one; give one when the job's code may change.
  @inlinable
  public func process<Output>(
    _ states: [any ProcessState], name: String? = nil,
    onValue: @escaping @Sendable (Source.Output, StatefulContext<Key>, (Output) -> Void) -> Void,
    onTimer: @escaping @Sendable (StatefulContext<Key>, (Output) -> Void) -> Void = { _, _ in }
  ) -> DataStream<StatefulProcess<Source, Key, Output>> {
    DataStream<StatefulProcess<Source, Key, Output>>(
      StatefulProcess(flow, key: key, states: states, name: name, onValue: onValue, onTimer: onTimer))
  }
}

extension KeyedStream where Source.Output: StateCodable {
  /// The same values in the order of their event times, for each key: each is held back until event time has come to it. Values of equal
  /// times stay in the order in which they came.
  ///
  /// - Parameters:
  ///   - late: takes the values that event time has passed already when they come. They are counted in ``JobFigures/lateRecords`` anyhow.
  ///   - name: owns what is held back in the job's state; give one when the job's code may change.
  @inlinable
  public func sortedByTime(
    late: (any RecordSink<Source.Output>)? = nil, name: String? = nil
  ) -> DataStream<SortByTime<Source, Key>> {
    DataStream<SortByTime<Source, Key>>(SortByTime(flow, key: key, late: late, name: name))
  }
}
