// SortByTime: values held back until event time has passed them, and handed on in the order of their times.
//
// Each value that is held back is an element of its key: its event time, int64, and a number that rises, uint64, big endian. A heap has
// them in the order in which they are handed on; values of equal times stay in the order in which they came.

import MillraceBase

/// The values that are held back, of all keys.
///
/// Safety: `@unchecked Sendable` because it is handed to the job's worker thread once and used there only.
@usableFromInline
final class SortStore<Value: StateCodable>: @unchecked Sendable {
  private struct Held: Comparable {
    let time: Int64
    let number: UInt64
    let entry: Int
    static func < (left: Held, right: Held) -> Bool { (left.time, left.number) < (right.time, right.number) }
  }

  private let table: KeyedTable
  private var heap = Heap<Held>()
  private var watermark: KeptWatermark
  private var next: UInt64 = 0
  private(set) var lateCount: UInt64 = 0

  init(operatorID: UInt16) {
    table = KeyedTable(
      operatorID: operatorID, kind: StateRecordKind.element, scope: [], codec: BoxCodec<Value>())
    watermark = KeptWatermark(operatorID: operatorID, kind: StateRecordKind.keyedValue)
  }

  /// Takes in a value.
  /// - Returns: whether it was in time.
  @usableFromInline
  func take(_ key: UnsafeRawBufferPointer, _ value: Value, _ time: Timestamp) -> Bool {
    let time = time.milliseconds
    guard time > -TimeWindows.farthest, time < TimeWindows.farthest, time >= watermark.time else {
      lateCount += 1
      return false
    }
    let entry = withUnsafeBytes(of: (time.bigEndian, next.bigEndian)) { element in
      ElementKey.join(key, element) { joined in
        table.changeEntry(joined, Hashing.stable(joined)) { Boxed(value).ownedStateBits() }
      }
    }
    heap.push(Held(time: time, number: next, entry: entry))
    next += 1
    return true
  }

  /// Event time has come to `time`: calls `body` with what it has come to, by time.
  @usableFromInline
  func advance(to time: Timestamp, _ body: (Value, Timestamp) -> Void) {
    // Also when it has not moved: values of that very time are in time.
    _ = watermark.advance(to: time)
    while let first = heap.first, first.time <= watermark.time {
      heap.popFirst()
      let value = Boxed<Value>(stateBits: table.bits(of: first.entry)).content
      table.remove(entry: first.entry)
      body(value, Timestamp(milliseconds: first.time))
    }
  }
}

extension SortStore: OperatorState {
  var ownKind: UInt8? { watermark.kind }
  var operatorID: UInt16 { table.operatorID }
  var waitsForTime: Bool { !heap.isEmpty }
  var count: Int { table.count }
  var stateBytes: Int { table.stateBytes }
  var changedCount: Int { table.changedCount + (watermark.isChanged ? 1 : 0) }
  // The values' own sizes are not known before they are written.
  var changedSize: Int { 2 * table.changedSize + 64 }

  func writeChanges(into writer: inout StateLogWriter) {
    watermark.writeChanges(into: &writer)
    table.writeChanges(into: &writer)
  }

  func beginRound() {
    watermark.beginRound()
    table.beginRound()
  }

  func sweep(_ quota: Int, upTo size: Int, into writer: inout StateLogWriter) -> Int {
    let written = watermark.sweep(into: &writer)
    return written + table.sweep(quota - written, upTo: size, into: &writer)
  }

  var roundIsDone: Bool { watermark.isSwept && table.roundIsDone }

  func restore(
    _ kind: UInt8, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
  ) throws(JobError) {
    if try watermark.restore(kind, key, value) { return }
    guard kind == StateRecordKind.element, ElementKey.split(key)?.element.count == 16 else {
      throw JobError(
        .corruptState,
        "a state record of kind \(kind) with \(key.count) bytes for operator \(operatorID), which holds values back")
    }
    try table.restore(key, value)
  }

  func recovered() {
    table.forEachEntry { entry, _ in
      guard let element = ElementKey.split(table.key(of: entry))?.element else { return }
      let time = Int64(bigEndian: element.loadUnaligned(as: Int64.self))
      let number = UInt64(bigEndian: element.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
      heap.push(Held(time: time, number: number, entry: entry))
      next = max(next, number == .max ? number : number + 1)
    }
  }
}

/// Holds each value back until event time has come to it, and hands values on in the order of their times.
public struct SortByTime<Upstream: Flow, Key: StreamKey>: Flow where Upstream.Output: StateCodable {
  /// What came in.
  public typealias Output = Upstream.Output
  @usableFromInline let upstream: Exchange<Upstream, Key>
  @usableFromInline let key: @Sendable (Upstream.Output) -> Key
  @usableFromInline let late: (any RecordSink<Upstream.Output>)?
  @usableFromInline let name: String?
  @usableFromInline let store: SortStore<Upstream.Output>?

  @usableFromInline
  init(
    _ upstream: Exchange<Upstream, Key>, key: @escaping @Sendable (Upstream.Output) -> Key,
    late: (any RecordSink<Upstream.Output>)?, name: String?, store: SortStore<Upstream.Output>?
  ) {
    self.upstream = upstream
    self.key = key
    self.late = late
    self.name = name
    self.store = store
  }

  /// Sorts by time, by `key`, behind `upstream`.
  /// - Parameters:
  ///   - late: takes the values that event time has passed already; without it they are only counted.
  ///   - name: owns the state; see ``JobGraph/addTable(kind:name:codec:)``.
  @inlinable
  public init(
    _ upstream: Upstream, key: @escaping @Sendable (Upstream.Output) -> Key,
    late: (any RecordSink<Upstream.Output>)?, name: String?
  ) {
    self.init(Exchange(upstream, by: key), key: key, late: late, name: name, store: nil)
  }

  /// Binds what lies before, inlined so that its stages are specialised, and registers the state.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    try registered(behind: upstream.bound(to: &graph), in: &graph)
  }

  @usableFromInline
  func registered(behind upstream: Exchange<Upstream, Key>, in graph: inout JobGraph) throws(JobError) -> Self {
    let late = try late?.bound(to: &graph)
    graph.needEventTime()
    let store = try graph.addState(kind: "sort", name: name) { SortStore<Upstream.Output>(operatorID: $0) }
    graph.addLateCount { store.lateCount }
    return Self(upstream, key: key, late: late, name: name, store: store)
  }

  @usableFromInline
  var boundStore: SortStore<Upstream.Output> {
    guard let store else { preconditionFailure("an operator that sorts by time is not bound to a job") }
    return store
  }

  @inlinable
  func take(_ input: Upstream.Output, _ time: Timestamp, _ store: SortStore<Upstream.Output>) {
    key(input).withBytes { bytes in if !store.take(bytes, input, time) { late?.receive(input, time) } }
  }

  /// Takes each value in; hands nothing on yet.
  @inlinable
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    let store = boundStore
    try upstream.process(run) { take($0, $1, store) }
  }

  /// Hands on what event time has come to.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let store = boundStore
    let time = upstream.advance { take($0, $1, store) }
    store.advance(to: time, body)
    return time
  }

  /// Takes in what was held back; hands nothing on.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let store = boundStore
    upstream.endStep { take($0, $1, store) }
  }
}
