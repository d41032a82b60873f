// Stream+Broadcast: functions that read what another stream says, whatever the key: rules, limits, prices.

import MillraceBase
import MillraceDataflow

extension KeyedStream {
  /// Calls a function of one's own for each value of a key, with states of the key, timers, and states that every value of a second stream
  /// changes: these the function only reads, as `key.broadcast`.
  ///
  ///     let limits = MapState<String, Int64>("limits")
  ///     let spent = ValueState<Int64>("spent")
  ///     payments.keyBy(\.card).connect(broadcast: rules, [limits], states: [spent], name: "limits") { payment, card, emit in
  ///       card[spent] = (card[spent] ?? 0) + payment.amount
  ///       if let limit = card.broadcast[limits][payment.country], card[spent] ?? 0 > limit { emit(card.key) }
  ///     } onBroadcast: { rule, states in
  ///       states[limits][rule.country] = rule.limit
  ///     }
  ///
  /// What a value finds depends on how far the job has read both streams; of one batch that leads to values of both, the second stream's
  /// come first. Event time is that of the keyed stream.
  ///
  /// - Parameters:
  ///   - side: the second stream. Each of its values goes to all workers, so that with several its values are an ``ExchangeValue``.
  ///   - shared: states that its values change. Each worker has all of them.
  ///   - states: of a key.
  ///   - name: owns the states, and each is named in the job's state by its name behind this one; give one when the job's code may change.
  ///   - onBroadcast: called for each value of `side`, by each worker: what it does must follow from the value and the states alone.
  @inlinable
  public func connect<Side: Flow, Output>(
    broadcast side: DataStream<Side>, _ shared: [any ProcessState], states: [any ProcessState] = [],
    name: String? = nil, onValue: @escaping @Sendable (Source.Output, StatefulContext<Key>, (Output) -> Void) -> Void,
    onTimer: @escaping @Sendable (StatefulContext<Key>, (Output) -> Void) -> Void = { _, _ in },
    onBroadcast: @escaping @Sendable (Side.Output, BroadcastContext) -> Void
  ) -> DataStream<BroadcastProcess<Source, Side, Key, Output>> {
    DataStream<BroadcastProcess<Source, Side, Key, Output>>(
      BroadcastProcess(
        StatefulProcess(
          flow, key: key, states: states, broadcast: shared, name: name, onValue: onValue, onTimer: onTimer),
        side: side.flow, onBroadcast: onBroadcast))
  }
}

extension DataStream {
  /// Calls a function of one's own for each value, with states that every value of a second stream changes, and that the function only
  /// reads. See ``KeyedStream/connect(broadcast:_:states:name:onValue:onTimer:onBroadcast:)``. The values of a partition stay in their order.
  @inlinable
  public func connect<Side: Flow, Output>(
    broadcast side: DataStream<Side>, _ shared: [any ProcessState], name: String? = nil,
    onValue: @escaping @Sendable (Source.Output, BroadcastValues, (Output) -> Void) -> Void,
    onBroadcast: @escaping @Sendable (Side.Output, BroadcastContext) -> Void
  ) -> DataStream<BroadcastMap<Source, Side, Output>> {
    DataStream<BroadcastMap<Source, Side, Output>>(
      BroadcastMap(
        flow, side: side.flow, states: shared, name: name, onValue: onValue, onBroadcast: onBroadcast))
  }
}
