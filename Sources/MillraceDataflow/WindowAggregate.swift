// WindowAggregate: one value of state per key and window, whatever the windows are.

import MillraceBase

/// Folds the values of each key and window, and hands on what came of it.
public struct WindowAggregate<Upstream: Flow, Key: StreamKey, Fold: MergeableAggregation, Windows: WindowAssigner>: Flow
where Fold.Input == Upstream.Output {
  /// The key, the window and its state.
  public typealias Output = Windowed<Key, Fold.State>
  @usableFromInline let upstream: Exchange<Upstream, Key>
  @usableFromInline let key: @Sendable (Upstream.Output) -> Key
  @usableFromInline let fold: Fold
  @usableFromInline let windows: Windows
  @usableFromInline let options: WindowOptions
  @usableFromInline let late: (any RecordSink<Upstream.Output>)?
  @usableFromInline let name: String?
  @usableFromInline let store: Windows.Store?

  @usableFromInline
  init(
    _ upstream: Exchange<Upstream, Key>, key: @escaping @Sendable (Upstream.Output) -> Key, fold: Fold,
    windows: Windows, options: WindowOptions, late: (any RecordSink<Upstream.Output>)?, name: String?,
    store: Windows.Store?
  ) {
    self.upstream = upstream
    self.key = key
    self.fold = fold
    self.windows = windows
    self.options = options
    self.late = late
    self.name = name
    self.store = store
  }

  /// Folds by `key` and window behind `upstream`.
  /// - Parameters:
  ///   - late: takes the values that come too late for every window; without it they are only counted.
  ///   - name: owns the state; see ``JobGraph/addTable(kind:name:codec:)``.
  @inlinable
  public init(
    _ upstream: Upstream, key: @escaping @Sendable (Upstream.Output) -> Key, fold: Fold, windows: Windows,
    options: WindowOptions, late: (any RecordSink<Upstream.Output>)?, name: String?
  ) {
    self.init(
      Exchange(upstream, by: key), key: key, fold: fold, windows: windows, options: options, late: late, name: name,
      store: nil)
  }

  /// Binds what lies before, inlined so that its stages are specialised, and registers the state.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    try registered(behind: upstream.bound(to: &graph), in: &graph)
  }

  @usableFromInline
  func registered(behind upstream: Exchange<Upstream, Key>, in graph: inout JobGraph) throws(JobError) -> Self {
    let late = try late?.bound(to: &graph)
    let store = try windows.makeStore(in: &graph, options: options, codec: Fold.State.codec, name: name)
    graph.addLateCount { store.lateCount }
    return Self(
      upstream, key: key, fold: fold, windows: windows, options: options, late: late, name: name, store: store)
  }

  @usableFromInline
  var boundStore: Windows.Store {
    guard let store else { preconditionFailure("windows are not bound to a job") }
    return store
  }

  @inlinable @inline(__always)
  func take(
    _ input: Upstream.Output, _ time: Timestamp, _ store: Windows.Store, _ body: (Output, Timestamp) -> Void
  ) {
    key(input).withBytes { bytes in
      if !store.take(input, bytes, time, fold, { give($0, $1, $2, $3, body) }) { late?.receive(input, time) }
    }
  }

  /// Changes the windows; hands on those that values themselves complete.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    let store = boundStore
    try upstream.process(run) { take($0, $1, store, body) }
  }

  /// Hands on the windows that close, and those that late values changed.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let store = boundStore
    let time = upstream.advance { take($0, $1, store, body) }
    store.advance(to: time, fold) { give($0, $1, $2, $3, body) }
    return time
  }

  /// Hands on what changed, when windows are handed on with each step.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let store = boundStore
    upstream.endStep { take($0, $1, store, body) }
    store.endStep(fold) { give($0, $1, $2, $3, body) }
  }

  @inlinable @inline(__always)
  func give(
    _ key: UnsafeRawBufferPointer, _ window: Window, _ time: Timestamp, _ state: Fold.State,
    _ body: (Output, Timestamp) -> Void
  ) {
    body(Windowed(key: Key(keyBytes: key), window: window, value: state), time)
  }
}
