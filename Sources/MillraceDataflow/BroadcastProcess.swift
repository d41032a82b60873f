// BroadcastProcess and BroadcastMap: functions over one stream that read states which another stream changes: rules, limits, prices.
//
// What a value finds follows from where both streams' values lie in the log: of one batch that leads to values of both, the second
// stream's come first, as with tables (StreamTableJoin). Event time is the first stream's.

import MillraceBase

/// Calls functions of one's own for each value of a key and for each timer, which read states that every value of a second stream changes.
public struct BroadcastProcess<Upstream: Flow, Side: Flow, Key: StreamKey, Output>: Flow {
  @usableFromInline let process: StatefulProcess<Upstream, Key, Output>
  @usableFromInline let side: Spread<Side>
  @usableFromInline let onBroadcast: @Sendable (Side.Output, BroadcastContext) -> Void

  @usableFromInline
  init(
    _ process: StatefulProcess<Upstream, Key, Output>, _ side: Spread<Side>,
    _ onBroadcast: @escaping @Sendable (Side.Output, BroadcastContext) -> Void
  ) {
    self.process = process
    self.side = side
    self.onBroadcast = onBroadcast
  }

  /// Calls the functions of `process`, and `onBroadcast` for each value of `side`, on every worker.
  @inlinable
  public init(
    _ process: StatefulProcess<Upstream, Key, Output>, side: Side,
    onBroadcast: @escaping @Sendable (Side.Output, BroadcastContext) -> Void
  ) {
    self.init(process, Spread(side, toAll: true), onBroadcast)
  }

  /// Binds both streams.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    let process = try process.bound(to: &graph)
    return Self(process, try side.bound(to: &graph), onBroadcast)
  }

  @inlinable
  func change(_ value: Side.Output, _ time: Timestamp) {
    onBroadcast(value, BroadcastContext(time: time, states: process.boundStores.broadcast))
  }

  /// Changes the shared states, then calls the function for each value.
  @inlinable
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    try side.process(run) { change($0, $1) }
    try process.process(run, body)
  }

  /// Changes the shared states by what event time sets free, then calls the timer function for each timer that is due.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    _ = side.advance { change($0, $1) }
    return process.advance(body)
  }

  /// Calls the functions for what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    side.endStep { change($0, $1) }
    process.endStep(body)
  }
}

/// Calls a function of one's own for each value, which reads states that every value of a second stream changes.
public struct BroadcastMap<Upstream: Flow, Side: Flow, Output>: Flow {
  @usableFromInline let upstream: Spread<Upstream>
  @usableFromInline let side: Spread<Side>
  @usableFromInline let states: [any ProcessState]
  @usableFromInline let name: String?
  @usableFromInline let onValue: @Sendable (Upstream.Output, BroadcastValues, (Output) -> Void) -> Void
  @usableFromInline let onBroadcast: @Sendable (Side.Output, BroadcastContext) -> Void
  @usableFromInline let bound: BoundStates?

  @usableFromInline
  init(
    _ upstream: Spread<Upstream>, _ side: Spread<Side>, _ states: [any ProcessState], name: String?,
    onValue: @escaping @Sendable (Upstream.Output, BroadcastValues, (Output) -> Void) -> Void,
    onBroadcast: @escaping @Sendable (Side.Output, BroadcastContext) -> Void, bound: BoundStates?
  ) {
    self.upstream = upstream
    self.side = side
    self.states = states
    self.name = name
    self.onValue = onValue
    self.onBroadcast = onBroadcast
    self.bound = bound
  }

  /// Calls `onValue` for each value behind `upstream`, and `onBroadcast` for each value of `side`, on every worker.
  /// - Parameters:
  ///   - states: all that the functions use.
  ///   - name: owns the states, each under its own name behind it; see ``JobGraph/addTable(kind:name:codec:)``.
  @inlinable
  public init(
    _ upstream: Upstream, side: Side, states: [any ProcessState], name: String?,
    onValue: @escaping @Sendable (Upstream.Output, BroadcastValues, (Output) -> Void) -> Void,
    onBroadcast: @escaping @Sendable (Side.Output, BroadcastContext) -> Void
  ) {
    self.init(
      Spread(upstream, toAll: false), Spread(side, toAll: true), states, name: name, onValue: onValue,
      onBroadcast: onBroadcast, bound: nil)
  }

  /// Binds both streams, and registers the states.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    let upstream = try upstream.bound(to: &graph)
    return try registered(upstream, side.bound(to: &graph), in: &graph)
  }

  @usableFromInline
  func registered(
    _ upstream: Spread<Upstream>, _ side: Spread<Side>, in graph: inout JobGraph
  ) throws(JobError) -> Self {
    Self(
      upstream, side, states, name: name, onValue: onValue, onBroadcast: onBroadcast,
      bound: try BoundStates(states, in: &graph, of: name, isShared: true))
  }

  @usableFromInline
  var boundStates: BoundStates {
    guard let bound else { preconditionFailure("an operator with broadcast states is not bound to a job") }
    return bound
  }

  /// Changes the states, then calls the function for each value.
  @inlinable
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    let states = boundStates
    try side.process(run) { onBroadcast($0, BroadcastContext(time: $1, states: states)) }
    try upstream.process(run) { value, time in onValue(value, BroadcastValues(states)) { body($0, time) } }
  }

  /// Changes the states by what event time sets free, calls the function for what it sets free, and then lets go of state whose time is over.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let states = boundStates
    _ = side.advance { onBroadcast($0, BroadcastContext(time: $1, states: states)) }
    let now = upstream.advance { value, time in onValue(value, BroadcastValues(states)) { body($0, time) } }
    states.expire(now)
    return now
  }

  /// Calls the functions for what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let states = boundStates
    side.endStep { onBroadcast($0, BroadcastContext(time: $1, states: states)) }
    upstream.endStep { value, time in onValue(value, BroadcastValues(states)) { body($0, time) } }
  }
}
