// ExtremeOfChanges: the lowest or highest number of each key, of values that come and go.
//
// All numbers of a key are kept, each once, with how often it is there: when the lowest goes, the next one is known.

import MillraceBase

/// Which number of a key is wanted.
public enum Extreme: Sendable {
  case lowest
  case highest
}

/// The numbers of all keys, and what a step changed.
///
/// Safety: `@unchecked Sendable` because it is handed to the job's worker thread once and used there only.
@usableFromInline
final class ExtremeState: @unchecked Sendable {
  private let store: ElementStore
  private let extreme: Extreme
  /// Keys that the step changed, with the index of what they had before.
  private var changed = KeyedTable(operatorID: 0)
  private var olds: [Int64?] = []
  private var newestTime = Timestamp.none

  init(_ store: ElementStore, _ extreme: Extreme) {
    self.store = store
    self.extreme = extreme
  }

  private func value(_ key: UnsafeRawBufferPointer) -> Int64? {
    store.ranks(key).map {
      switch extreme {
      case .lowest: $0.lowerBound
      case .highest: $0.upperBound
      }
    }
  }

  @usableFromInline
  func add(_ weight: Int64, _ number: Int64, _ key: UnsafeRawBufferPointer, _ time: Timestamp) {
    if time > newestTime { newestTime = time }
    changed.update(key, initial: note(key)) { _ in }
    withUnsafeBytes(of: number.bigEndian) { store.add(weight, to: $0, rank: number, of: key) }
  }

  private func note(_ key: UnsafeRawBufferPointer) -> UInt64 {
    olds.append(value(key))
    return UInt64(olds.count - 1)
  }

  /// Calls `body` with each key for which the step changed the number, what it was and what it is.
  @usableFromInline
  func takeUpdates(_ body: (UnsafeRawBufferPointer, Int64?, Int64?, Timestamp) -> Void) {
    guard !olds.isEmpty else { return }
    changed.forEachChange { key, index in
      let old = index.flatMap { olds[Int($0)] }
      let new = value(key)
      if old != new { body(key, old, new, newestTime) }
    }
    changed = KeyedTable(operatorID: 0)
    olds = []
    newestTime = .none
  }
}

/// Keeps the numbers of each key and hands on an update of each key for which a step changed the lowest or highest one.
public struct ExtremeOfChanges<Upstream: Flow, Key: StreamKey>: Flow where Upstream.Output: Weighted {
  /// The key, with the number that it had and the one that it has.
  public typealias Output = TableUpdate<Key, Int64>
  @usableFromInline let upstream: Exchange<Upstream, Key>
  @usableFromInline let key: @Sendable (Upstream.Output) -> Key
  @usableFromInline let number: @Sendable (Upstream.Output.Value) -> Int64
  @usableFromInline let extreme: Extreme
  @usableFromInline let name: String?
  @usableFromInline let state: ExtremeState?

  @usableFromInline
  init(
    _ upstream: Exchange<Upstream, Key>, key: @escaping @Sendable (Upstream.Output) -> Key, extreme: Extreme,
    name: String?, state: ExtremeState?, number: @escaping @Sendable (Upstream.Output.Value) -> Int64
  ) {
    self.upstream = upstream
    self.key = key
    self.number = number
    self.extreme = extreme
    self.name = name
    self.state = state
  }

  /// The `extreme` of `number` by `key` behind `upstream`.
  /// - Parameter name: owns the state; see ``JobGraph/addTable(kind:name:codec:)``.
  @inlinable
  public init(
    _ upstream: Upstream, key: @escaping @Sendable (Upstream.Output) -> Key, extreme: Extreme, name: String?,
    number: @escaping @Sendable (Upstream.Output.Value) -> Int64
  ) {
    self.init(Exchange(upstream, by: key), key: key, extreme: extreme, name: name, state: nil, number: number)
  }

  /// Binds what lies before, inlined so that its stages are specialised, and registers the state.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    try registered(behind: upstream.bound(to: &graph), in: &graph)
  }

  @usableFromInline
  func registered(behind upstream: Exchange<Upstream, Key>, in graph: inout JobGraph) throws(JobError) -> Self {
    let store = try graph.addState(kind: "extreme", name: name) {
      ElementStore(operatorID: $0, ranking: .number, codec: WeightCodec("number"))
    }
    return Self(
      upstream, key: key, extreme: extreme, name: name, state: ExtremeState(store, extreme), number: number)
  }

  @usableFromInline
  var boundState: ExtremeState {
    guard let state else { preconditionFailure("a minimum or maximum is not bound to a job") }
    return state
  }

  @inlinable
  func take(_ input: Upstream.Output, _ time: Timestamp, _ state: ExtremeState) {
    key(input).withBytes { state.add(input.weight, number(input.value), $0, time) }
  }

  /// Changes the state; hands nothing on yet.
  @inlinable
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    let state = boundState
    try upstream.process(run) { take($0, $1, state) }
  }

  /// Hands nothing on yet.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let state = boundState
    return upstream.advance { take($0, $1, state) }
  }

  /// Hands on every key whose number is another than before, at the newest time that the step brought.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let state = boundState
    upstream.endStep { take($0, $1, state) }
    state.takeUpdates { key, old, new, time in body(TableUpdate(key: Key(keyBytes: key), old: old, new: new), time) }
  }
}
