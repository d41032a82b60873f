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
  /// Of several workers: what they made of their own values, and the store once more.
  @usableFromInline let prepared: (parts: LaneReader<PreparedState>, store: SliceWindowStore)?

  @usableFromInline
  init(
    _ upstream: Exchange<Upstream, Key>, key: @escaping @Sendable (Upstream.Output) -> Key, fold: Fold,
    windows: Windows, options: WindowOptions, late: (any RecordSink<Upstream.Output>)?, name: String?,
    store: Windows.Store?, prepared: (parts: LaneReader<PreparedState>, store: SliceWindowStore)?
  ) {
    self.upstream = upstream
    self.key = key
    self.fold = fold
    self.windows = windows
    self.options = options
    self.late = late
    self.name = name
    self.store = store
    self.prepared = prepared
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
      store: nil, prepared: nil)
  }

  /// Binds what lies before, inlined so that its stages are specialised, and registers the state. With several workers, and when the order of
  /// values does not matter and late ones are only counted, each prepares states of its own.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    guard graph.workers > 1, late == nil, fold.isCommutative, Windows.Store.self == SliceWindowStore.self else {
      return try registered(behind: upstream.bound(to: &graph), in: &graph)
    }
    let (source, level, chain) = try graph.bindStage(upstream.upstream)
    let end: ExchangeEnd<Upstream.Output> = try graph.exchangeEnd(level: level)
    let parts: ExchangeEnd<PreparedState> = try graph.exchangeEnd(level: level)
    let registered = try registered(
      behind: Exchange(upstream.upstream, by: key, lanes: end.reader(), count: .nowhere), prepared: parts, in: &graph)
    guard let store = registered.prepared?.store else { preconditionFailure("windows in slices have no store of them") }
    let own = graph.prepareSlices(parts, of: store, level: level, codec: Fold.State.codec)
    let (key, fold, count) = (key, fold, chain.count)
    @inline(__always) func take(
      _ input: Upstream.Output, _ time: Timestamp,
      _ lanes: UnsafeMutablePointer<UnsafeMutablePointer<Lane<Upstream.Output>.Core>>
    ) {
      key(input).withBytes { bytes in
        guard let part = own.part(for: time) else {
          return end.send(input, time, hash: Hashing.stable(bytes), on: lanes)
        }
        part.values &+= 1
        part.table.update(bytes, initial: fold.initial.ownedStateBits()) { fold.add(input, toBits: &$0) }
      }
    }
    graph.addStage(
      BoundPipeline(
        begin: {
          end.begin()
          own.begin()
        },
        process: { (run: InputRun) throws(JobError) in
          try source.process(run, countedBy: count) { take($0, $1, end.runs) }
          own.send(on: parts.runs)
          end.markRun()
          parts.markRun()
        },
        advance: {
          let time = source.advance(countedBy: count) { take($0, $1, end.freed) }
          own.send(on: parts.freed)
          end.markTime(time)
          parts.markTime(time)
        },
        endStep: {
          source.endStep(countedBy: count) { take($0, $1, end.runs) }
          own.send(on: parts.runs)
          end.markRun()
          parts.markRun()
        }), level: level, of: chain)
    return registered
  }

  @usableFromInline
  func registered(
    behind upstream: Exchange<Upstream, Key>, prepared: ExchangeEnd<PreparedState>? = nil, in graph: inout JobGraph
  ) throws(JobError) -> Self {
    let late = try late?.bound(to: &graph)
    let store = try windows.makeStore(in: &graph, options: options, codec: Fold.State.codec, name: name)
    graph.addLateCount { store.lateCount }
    let sliced = store as? SliceWindowStore
    return Self(
      upstream, key: key, fold: fold, windows: windows, options: options, late: late, name: name, store: store,
      prepared: prepared.flatMap { end in sliced.map { (end.reader(), $0) } })
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
    if let prepared { prepared.parts.receiveRun { part, _ in prepared.store.take(part, fold) } }
  }

  /// Hands on the windows that close, and those that late values changed.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let store = boundStore
    let time = upstream.advance { take($0, $1, store, body) }
    if let prepared { _ = prepared.parts.receiveTime { part, _ in prepared.store.take(part, fold) } }
    store.advance(to: time, fold) { give($0, $1, $2, $3, body) }
    return time
  }

  /// Hands on what changed, when windows are handed on with each step.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let store = boundStore
    upstream.endStep { take($0, $1, store, body) }
    if let prepared { prepared.parts.receiveEnd { part, _ in prepared.store.take(part, fold) } }
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
