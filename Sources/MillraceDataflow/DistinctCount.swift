// DistinctCount: how many different elements each key has had, exactly.
//
// Each element is an entry and a state record of its own (kind 5), so that a new one costs the same whatever the number of
// those before it. The counts follow from the elements and are not in the state log.

import MillraceBase

/// The elements of all keys, and how many each has.
///
/// Safety: `@unchecked Sendable` because it is handed to the job's worker thread once and used there only.
@usableFromInline
final class DistinctStore: @unchecked Sendable {
  private let elements: KeyedTable
  /// Of each key.
  @usableFromInline let counts = KeyedTable(operatorID: 0)

  init(operatorID: UInt16) {
    elements = KeyedTable(operatorID: operatorID, kind: StateRecordKind.element, scope: [])
  }

  /// Takes in an element of `key`.
  @usableFromInline
  func take(_ key: UnsafeRawBufferPointer, _ element: UnsafeRawBufferPointer, _ time: Timestamp) {
    let isNew = ElementKey.join(key, element) { joined in
      let hash = Hashing.stable(joined)
      guard elements.liveEntry(joined, hash) == nil else { return false }
      _ = elements.changeEntry(joined, hash) { 0 }
      return true
    }
    guard isNew else { return }
    counts.update(key, initial: 0) { $0 &+= 1 }
    counts.note(time)
  }

  /// Calls `body` with each key that got a new element since the last call, and its count.
  @usableFromInline
  func takeChanges(_ body: (UnsafeRawBufferPointer, Int64, Timestamp) -> Void) {
    let time = counts.takeNewestTime()
    counts.forEachChange { key, bits in if let bits { body(key, Int64(stateBits: bits), time) } }
    counts.forgetChanges()
  }
}

extension DistinctStore: OperatorState {
  var operatorID: UInt16 { elements.operatorID }
  var waitsForTime: Bool { false }
  var count: Int { elements.count }
  var stateBytes: Int { elements.stateBytes }
  var changedCount: Int { elements.changedCount }
  var changedSize: Int { elements.changedSize + counts.changedSize }
  func writeChanges(into writer: inout StateLogWriter) { elements.writeChanges(into: &writer) }
  func beginRound() { elements.beginRound() }
  func sweep(_ quota: Int, upTo size: Int, into writer: inout StateLogWriter) -> Int {
    elements.sweep(quota, upTo: size, into: &writer)
  }
  var roundIsDone: Bool { elements.roundIsDone }
  func allowSpilling(into memory: StateMemory) { elements.allowSpilling(into: memory) }
  var memorySize: Int { elements.memorySize }
  var fileSize: Int { elements.fileSize }
  func spill(_ size: Int) throws(JobError) -> Int { try elements.spill(size) }

  func restore(
    _ kind: UInt8, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
  ) throws(JobError) {
    guard kind == StateRecordKind.element, ElementKey.split(key) != nil else {
      throw JobError(
        .corruptState,
        "a state record of kind \(kind) with \(key.count) bytes for operator \(operatorID), which has elements of keys")
    }
    try elements.restore(key, value)
  }

  func recovered() {
    elements.forEach { element, _ in
      guard let key = ElementKey.split(element)?.key else { return }
      counts.update(key, initial: 0) { $0 &+= 1 }
    }
    counts.forgetChanges()
  }
}

/// Counts the different elements of each key, and hands on the count of each key that a step brought a new one for, once.
public struct DistinctCount<Upstream: Flow, Key: StreamKey, Element: BytesRepresentable>: Flow {
  /// The key and how many elements it has had.
  public typealias Output = Keyed<Key, Int64>
  @usableFromInline let upstream: Exchange<Upstream, Key>
  @usableFromInline let key: @Sendable (Upstream.Output) -> Key
  @usableFromInline let element: @Sendable (Upstream.Output) -> Element
  @usableFromInline let name: String?
  @usableFromInline let store: DistinctStore?

  @usableFromInline
  init(
    _ upstream: Exchange<Upstream, Key>, key: @escaping @Sendable (Upstream.Output) -> Key,
    element: @escaping @Sendable (Upstream.Output) -> Element, name: String?, store: DistinctStore?
  ) {
    self.upstream = upstream
    self.key = key
    self.element = element
    self.name = name
    self.store = store
  }

  /// Counts by `key` behind `upstream`.
  /// - Parameters:
  ///   - element: equal elements have equal bytes.
  ///   - name: owns the state; see ``JobGraph/addTable(kind:name:codec:)``.
  @inlinable
  public init(
    _ upstream: Upstream, key: @escaping @Sendable (Upstream.Output) -> Key,
    element: @escaping @Sendable (Upstream.Output) -> Element, name: String?
  ) {
    self.init(Exchange(upstream, by: key), key: key, element: element, name: name, store: nil)
  }

  /// Binds what lies before, inlined so that its stages are specialised, and registers the state.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    try registered(behind: upstream.bound(to: &graph), in: &graph)
  }

  @usableFromInline
  func registered(behind upstream: Exchange<Upstream, Key>, in graph: inout JobGraph) throws(JobError) -> Self {
    return Self(
      upstream, key: key, element: element, name: name,
      store: try graph.addState(kind: "distinct", name: name) { DistinctStore(operatorID: $0) })
  }

  @usableFromInline
  var boundStore: DistinctStore {
    guard let store else { preconditionFailure("an operator that counts elements is not bound to a job") }
    return store
  }

  @inlinable @inline(__always)
  func take(_ input: Upstream.Output, _ time: Timestamp, _ store: DistinctStore) {
    key(input).withBytes { key in element(input).withBytes { store.take(key, $0, time) } }
  }

  /// Takes the elements in; hands nothing on yet.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    let store = boundStore
    try upstream.process(run) { take($0, $1, store) }
  }

  /// Hands nothing on yet.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let store = boundStore
    return upstream.advance { take($0, $1, store) }
  }

  /// Hands on every key that got a new element, with its count, at the newest time of such an element.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let store = boundStore
    upstream.endStep { take($0, $1, store) }
    store.takeChanges { body(Keyed(key: Key(keyBytes: $0), value: $1), $2) }
  }
}
