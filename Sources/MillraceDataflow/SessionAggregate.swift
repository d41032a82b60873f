// SessionAggregate: one value of state per key and session: values that follow each other without a longer pause than the gap.
//
// Two values that are exactly the gap apart belong together. A session closes when event time has passed the gap behind its last
// value, so that no value in time can prolong it any more: what sessions there are does not depend on the order in which values
// come, as long as none is late. A late value may join sessions, and what was handed on of them is handed on again as one.

import MillraceBase

/// Folds the values of each key and session, and hands on what came of it. A session's window reaches from its first value to the
/// gap behind its last one; the time of a result is the ms before that.
public struct SessionAggregate<Upstream: Flow, Key: StreamKey, Fold: MergeableAggregation>: Flow
where Fold.Input == Upstream.Output {
  /// The key, the session and its state.
  public typealias Output = Windowed<Key, Fold.State>
  @usableFromInline let upstream: Exchange<Upstream, Key>
  @usableFromInline let key: @Sendable (Upstream.Output) -> Key
  @usableFromInline let fold: Fold
  @usableFromInline let gap: Duration
  @usableFromInline let options: WindowOptions
  @usableFromInline let late: (any RecordSink<Upstream.Output>)?
  @usableFromInline let name: String?
  @usableFromInline let store: SessionStore?

  @usableFromInline
  init(
    _ upstream: Exchange<Upstream, Key>, key: @escaping @Sendable (Upstream.Output) -> Key, fold: Fold, gap: Duration,
    options: WindowOptions, late: (any RecordSink<Upstream.Output>)?, name: String?, store: SessionStore?
  ) {
    self.upstream = upstream
    self.key = key
    self.fold = fold
    self.gap = gap
    self.options = options
    self.late = late
    self.name = name
    self.store = store
  }

  /// Folds by `key` and session behind `upstream`.
  /// - Parameters:
  ///   - gap: at least 0; parts of a ms are cut off.
  ///   - late: takes the values that come too late for every session; without it they are only counted.
  ///   - name: owns the state; see ``JobGraph/addTable(kind:name:)``.
  @inlinable
  public init(
    _ upstream: Upstream, key: @escaping @Sendable (Upstream.Output) -> Key, fold: Fold, gap: Duration,
    options: WindowOptions, late: (any RecordSink<Upstream.Output>)?, name: String?
  ) {
    precondition(gap >= .zero, "a gap of \(gap)")
    self.init(
      Exchange(upstream, by: key), key: key, fold: fold, gap: gap, options: options, late: late, name: name, store: nil)
  }

  /// Registers the state.
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    let upstream = try upstream.bound(to: &graph)
    let late = try late?.bound(to: &graph)
    graph.needEventTime()
    let store = try graph.addState(kind: "sessions", name: name) {
      SessionStore(
        operatorID: $0, gap: gap.inMilliseconds, lateness: max(0, options.allowedLateness.inMilliseconds),
        emission: options.emission, codec: Fold.State.codec)
    }
    graph.addLateCount { store.lateCount }
    return Self(upstream, key: key, fold: fold, gap: gap, options: options, late: late, name: name, store: store)
  }

  @usableFromInline
  var boundStore: SessionStore {
    guard let store else { preconditionFailure("sessions are not bound to a job") }
    return store
  }

  @inlinable
  func take(_ input: Upstream.Output, _ time: Timestamp, _ store: SessionStore) {
    key(input).withBytes { bytes in
      let isInTime = store.take(bytes, time, initial: { fold.initial.ownedStateBits() }) { bits in
        var value = Fold.State(stateBits: bits)
        fold.add(input, to: &value)
        bits = value.stateBits
      } merge: { part, bits in
        var value = Fold.State(stateBits: bits)
        fold.merge(Fold.State(stateBits: part), into: &value)
        bits = value.stateBits
      }
      if !isInTime { late?.receive(input, time) }
    }
  }

  /// Changes the sessions; hands nothing on yet.
  @inlinable
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    let store = boundStore
    try upstream.process(run) { take($0, $1, store) }
  }

  /// Hands on the sessions that close, and those that late values changed.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let store = boundStore
    let time = upstream.advance { take($0, $1, store) }
    store.takeAgain { give($0, $1, $2, body) }
    store.advance(to: time) { give($0, $1, $2, body) }
    return time
  }

  /// Hands on what changed, when sessions are handed on with each step.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let store = boundStore
    upstream.endStep { take($0, $1, store) }
    store.takeAgain { give($0, $1, $2, body) }
    store.takeUpdates { give($0, $1, $2, body) }
  }

  @inlinable
  func give(_ key: UnsafeRawBufferPointer, _ window: Window, _ bits: UInt64, _ body: (Output, Timestamp) -> Void) {
    body(
      Windowed(key: Key(keyBytes: key), window: window, value: Fold.State(stateBits: bits)),
      Timestamp(milliseconds: window.end.milliseconds - 1))
  }
}
