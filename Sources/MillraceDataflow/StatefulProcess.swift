// StatefulProcess: a function of one's own over the values of each key, with several named states and timers.

import MillraceBase

/// The states and timers of one run of a function.
///
/// Safety: `@unchecked Sendable` because it is used by the job's worker thread only.
@usableFromInline
final class ProcessStores: @unchecked Sendable {
  /// Timers only: what the cells could hold beside them is never set.
  @usableFromInline typealias Timers = ProcessStore<Bool>
  @usableFromInline let timers: Timers
  private let own: BoundStates
  /// Those that a second stream changes, on all workers alike.
  @usableFromInline let broadcast: BoundStates

  init(_ timers: Timers, _ own: BoundStates, broadcast: BoundStates) {
    self.timers = timers
    self.own = own
    self.broadcast = broadcast
  }

  @usableFromInline
  func table<Element: StateCodable, Content: StateCodable>(
    of state: any ProcessState
  ) -> StateTable<Element, Content> { own.table(of: state) }

  @usableFromInline
  func expire(_ time: Timestamp) {
    own.expire(time)
    broadcast.expire(time)
  }
}

/// What a process function with named states sees and changes: its key's states and timers. Valid during the call.
public struct StatefulContext<Key: StreamKey> {
  /// The key.
  public let key: Key
  /// The event time of the value, or the time of the timer.
  public let time: Timestamp
  @usableFromInline let bytes: UnsafeRawBufferPointer
  @usableFromInline let stores: ProcessStores
  /// The timers of a key whose timer is being called.
  @usableFromInline let cell: Boxed<ProcessCell<Bool>>?

  @usableFromInline
  init(
    key: Key, time: Timestamp, bytes: UnsafeRawBufferPointer, stores: ProcessStores, cell: Boxed<ProcessCell<Bool>>?
  ) {
    self.key = key
    self.time = time
    self.bytes = bytes
    self.stores = stores
    self.cell = cell
  }

  /// How far event time has come.
  public var watermark: Timestamp { stores.timers.watermark }

  /// The key's value; nil when there is none, and to take it away.
  public subscript<Value: StateCodable>(state: ValueState<Value>) -> Value? {
    get { table(state).content(bytes, nil) }
    nonmutating set { table(state).set(bytes, nil, newValue, at: time) }
  }

  private func table<Value: StateCodable>(_ state: ValueState<Value>) -> StateTable<NoElement, Value> {
    stores.table(of: state)
  }

  /// The key's list.
  public subscript<Value: StateCodable>(state: ListState<Value>) -> ListStateValues<Value> {
    ListStateValues(table: stores.table(of: state), key: bytes, time: time)
  }

  /// The key's map.
  public subscript<Name: StateCodable, Value: StateCodable>(
    state: MapState<Name, Value>
  ) -> MapStateValues<Name, Value> {
    MapStateValues(table: stores.table(of: state), key: bytes, time: time)
  }

  /// Has the timer function called for the key once event time has come to `time`; see ``ProcessContext/setTimer(at:)``.
  public func setTimer(at time: Timestamp) {
    if let cell { return cell.content.setTimer(time) }
    stores.timers.change(bytes) { $0.content.setTimer(time) }
  }

  /// Takes a timer back; no-op when there is none at `time`.
  public func cancelTimer(at time: Timestamp) {
    if let cell { return cell.content.cancelTimer(time) }
    guard stores.timers.timers(bytes).contains(time.milliseconds) else { return }
    stores.timers.change(bytes) { $0.content.cancelTimer(time) }
  }

  /// The times of the key's timers, rising.
  public var timers: [Timestamp] {
    (cell?.content.timers ?? stores.timers.timers(bytes)).map { Timestamp(milliseconds: $0) }
  }
}

/// Calls functions of one's own for each value of a key and for each timer, with named states.
public struct StatefulProcess<Upstream: Flow, Key: StreamKey, Output>: Flow {
  /// What the functions are called with, beside where they put what they hand on.
  public typealias Context = StatefulContext<Key>
  @usableFromInline let upstream: Exchange<Upstream, Key>
  @usableFromInline let key: @Sendable (Upstream.Output) -> Key
  @usableFromInline let states: [any ProcessState]
  @usableFromInline let broadcast: [any ProcessState]
  @usableFromInline let onValue: @Sendable (Upstream.Output, Context, (Output) -> Void) -> Void
  @usableFromInline let onTimer: @Sendable (Context, (Output) -> Void) -> Void
  @usableFromInline let name: String?
  @usableFromInline let stores: ProcessStores?

  @usableFromInline
  init(
    _ upstream: Exchange<Upstream, Key>, key: @escaping @Sendable (Upstream.Output) -> Key,
    states: [any ProcessState], broadcast: [any ProcessState], name: String?, stores: ProcessStores?,
    onValue: @escaping @Sendable (Upstream.Output, Context, (Output) -> Void) -> Void,
    onTimer: @escaping @Sendable (Context, (Output) -> Void) -> Void
  ) {
    self.upstream = upstream
    self.key = key
    self.states = states
    self.broadcast = broadcast
    self.name = name
    self.stores = stores
    self.onValue = onValue
    self.onTimer = onTimer
  }

  /// Calls `onValue` for each value behind `upstream`, and `onTimer` for each timer; what they hand on has the value's or the
  /// timer's time.
  /// - Parameters:
  ///   - states: all of a key that the functions use.
  ///   - broadcast: what they read beside those, and ``BroadcastProcess`` changes.
  ///   - name: owns the states, each under its own name behind it; see ``JobGraph/addTable(kind:name:codec:)``.
  @inlinable
  public init(
    _ upstream: Upstream, key: @escaping @Sendable (Upstream.Output) -> Key, states: [any ProcessState],
    broadcast: [any ProcessState] = [], name: String?,
    onValue: @escaping @Sendable (Upstream.Output, Context, (Output) -> Void) -> Void,
    onTimer: @escaping @Sendable (Context, (Output) -> Void) -> Void
  ) {
    self.init(
      Exchange(upstream, by: key), key: key, states: states, broadcast: broadcast, name: name, stores: nil,
      onValue: onValue, onTimer: onTimer)
  }

  /// Binds what lies before, inlined so that its stages are specialised, and registers the state.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    try registered(behind: upstream.bound(to: &graph), in: &graph)
  }

  @usableFromInline
  func registered(behind upstream: Exchange<Upstream, Key>, in graph: inout JobGraph) throws(JobError) -> Self {
    graph.needEventTime()
    let timers = try graph.addState(kind: "process", name: name) { ProcessStore<Bool>(operatorID: $0) }
    let own = try BoundStates(states, in: &graph, of: name)
    let shared = try BoundStates(broadcast, in: &graph, of: name, isShared: true)
    return Self(
      upstream, key: key, states: states, broadcast: broadcast, name: name,
      stores: ProcessStores(timers, own, broadcast: shared), onValue: onValue, onTimer: onTimer)
  }

  @usableFromInline
  var boundStores: ProcessStores {
    guard let stores else { preconditionFailure("a process function is not bound to a job") }
    return stores
  }

  @inlinable
  func take(
    _ input: Upstream.Output, _ time: Timestamp, _ stores: ProcessStores, _ body: (Output, Timestamp) -> Void
  ) {
    let key = key(input)
    key.withBytes { bytes in
      onValue(input, Context(key: key, time: time, bytes: bytes, stores: stores, cell: nil)) { body($0, time) }
    }
  }

  /// Calls the function for each value.
  @inlinable
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    let stores = boundStores
    try upstream.process(run) { take($0, $1, stores, body) }
  }

  /// Calls the timer function for each timer that is due, and then lets go of state whose time is over.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let stores = boundStores
    let now = upstream.advance { take($0, $1, stores, body) }
    stores.timers.advance(to: now) { key, time, cell in
      onTimer(Context(key: Key(keyBytes: key), time: time, bytes: key, stores: stores, cell: cell)) { body($0, time) }
    }
    stores.expire(now)
    return now
  }

  /// Calls the function for each value that was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let stores = boundStores
    upstream.endStep { take($0, $1, stores, body) }
  }
}
