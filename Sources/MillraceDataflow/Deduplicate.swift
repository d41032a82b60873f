// Deduplicate: only the first value of each key, for ever or for a time.
//
// With a time to live, a value is a duplicate when its event time is not yet the time to live behind that of the value that was
// handed on last for its key, and late when it is more than the time to live behind the watermark. So a key is forgotten
// once the watermark is twice the time to live behind its value: nothing that comes in time can be a duplicate of it any more, and what
// is handed on does not depend on when the key was forgotten.

import MillraceBase

/// Which keys were seen, and when.
///
/// Safety: `@unchecked Sendable` because it is handed to the job's worker thread once and used there only.
@usableFromInline
final class DeduplicateStore: @unchecked Sendable {
  @usableFromInline
  enum Verdict { case first, duplicate, late }

  private struct Due: Comparable {
    let time: Int64
    let entry: Int
    static func < (left: Due, right: Due) -> Bool { left.time < right.time }
  }

  private let table: KeyedTable
  /// In ms; nil for ever.
  private let within: Int64?
  private var watermark: KeptWatermark
  private var heap = Heap<Due>()
  private(set) var lateCount: UInt64 = 0

  init(operatorID: UInt16, within: Duration?) {
    table = KeyedTable(operatorID: operatorID)
    self.within = within.map { max(0, $0.inMilliseconds) }
    watermark = KeptWatermark(operatorID: operatorID, kind: StateRecordKind.encodedValue)
  }

  /// Takes in a value of `key`.
  @usableFromInline
  func take(_ key: UnsafeRawBufferPointer, _ time: Timestamp) -> Verdict {
    let time = time.milliseconds
    let hash = Hashing.stable(key)
    let known = table.liveEntry(key, hash)
    guard let within else {
      if known != nil { return .duplicate }
      _ = table.changeEntry(key, hash) { time.stateBits }
      return .first
    }
    guard time > -TimeWindows.farthest, time < TimeWindows.farthest, time >= watermark.time.subtracting(within) else {
      lateCount += 1
      return .late
    }
    if let known {
      guard time >= Int64(stateBits: table.value(at: known)).adding(within) else { return .duplicate }
      table.setValue(at: known, time.stateBits)
      arm(known, time, within)
    } else {
      arm(table.changeEntry(key, hash) { time.stateBits }, time, within)
    }
    return .first
  }

  private func arm(_ entry: Int, _ time: Int64, _ within: Int64) {
    heap.push(Due(time: time.adding(within).adding(within), entry: entry))
  }

  /// When a key is forgotten, and what is done for one that comes back from a file.
  private var owner: SpillOwner {
    guard let within else { return SpillOwner() }
    return SpillOwner(
      due: { [table] in Int64(stateBits: table.bits(of: $0)).adding(within).adding(within) },
      cameBack: { [unowned self] in arm($0, Int64(stateBits: table.bits(of: $0)), within) })
  }

  /// Event time has come to `time`: forgets keys.
  @usableFromInline
  func advance(to time: Timestamp) {
    guard let within, watermark.advance(to: time) else { return }
    table.fetchDue(watermark.time)
    while let due = heap.first, due.time <= watermark.time {
      heap.popFirst()
      // The key may have a later value by now, or be gone and its number another one's.
      guard table.isLive(due.entry),
        Int64(stateBits: table.value(at: due.entry)).adding(within).adding(within) == due.time
      else { continue }
      table.remove(table.key(of: due.entry))
    }
  }
}

extension DeduplicateStore: OperatorState {
  var ownKind: UInt8? { watermark.kind }
  var operatorID: UInt16 { table.operatorID }
  // What is forgotten goes with the next step.
  var waitsForTime: Bool { false }
  var count: Int { table.count }
  var stateBytes: Int { table.stateBytes }
  var changedCount: Int { table.changedCount + (watermark.isChanged ? 1 : 0) }
  var changedSize: Int { table.changedSize + 64 }
  func allowSpilling(into memory: StateMemory) { table.allowSpilling(into: memory, owner: owner) }
  var memorySize: Int { table.memorySize }
  var fileSize: Int { table.fileSize }
  func spill(_ size: Int) throws(JobError) -> Int { try table.spill(size) }

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
    try table.restore(kind, key, value)
  }

  func recovered() {
    guard let within else { return }
    table.forEachEntry { arm($0, Int64(stateBits: $1), within) }
  }
}

/// Hands on the first value of each key, at once.
public struct Deduplicate<Upstream: Flow, Key: StreamKey>: Flow {
  /// What came in.
  public typealias Output = Upstream.Output
  @usableFromInline let upstream: Exchange<Upstream, Key>
  @usableFromInline let key: @Sendable (Upstream.Output) -> Key
  @usableFromInline let within: Duration?
  @usableFromInline let late: (any RecordSink<Upstream.Output>)?
  @usableFromInline let name: String?
  @usableFromInline let store: DeduplicateStore?

  @usableFromInline
  init(
    _ upstream: Exchange<Upstream, Key>, key: @escaping @Sendable (Upstream.Output) -> Key, within: Duration?,
    late: (any RecordSink<Upstream.Output>)?, name: String?, store: DeduplicateStore?
  ) {
    self.upstream = upstream
    self.key = key
    self.within = within
    self.late = late
    self.name = name
    self.store = store
  }

  /// The first values by `key` behind `upstream`.
  /// - Parameters:
  ///   - within: for how long, in event time, a key is known; nil for ever.
  ///   - late: takes the values that come too late to be judged; without it they are only counted.
  ///   - name: owns the state; see ``JobGraph/addTable(kind:name:codec:)``.
  @inlinable
  public init(
    _ upstream: Upstream, key: @escaping @Sendable (Upstream.Output) -> Key, within: Duration?,
    late: (any RecordSink<Upstream.Output>)?, name: String?
  ) {
    self.init(Exchange(upstream, by: key), key: key, within: within, late: late, name: name, store: nil)
  }

  /// Binds what lies before, inlined so that its stages are specialised, and registers the state.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    try registered(behind: upstream.bound(to: &graph), in: &graph)
  }

  @usableFromInline
  func registered(behind upstream: Exchange<Upstream, Key>, in graph: inout JobGraph) throws(JobError) -> Self {
    let late = try late?.bound(to: &graph)
    if within != nil { graph.needEventTime() }
    let store = try graph.addState(kind: "deduplicate", name: name) {
      DeduplicateStore(operatorID: $0, within: within)
    }
    graph.addLateCount { store.lateCount }
    return Self(upstream, key: key, within: within, late: late, name: name, store: store)
  }

  @usableFromInline
  var boundStore: DeduplicateStore {
    guard let store else { preconditionFailure("an operator that leaves out duplicates is not bound to a job") }
    return store
  }

  @inlinable @inline(__always)
  func take(
    _ input: Upstream.Output, _ time: Timestamp, _ store: DeduplicateStore, _ body: (Output, Timestamp) -> Void
  ) {
    key(input).withBytes { bytes in
      switch store.take(bytes, time) {
      case .first: body(input, time)
      case .late: late?.receive(input, time)
      case .duplicate: break
      }
    }
  }

  /// Hands on each value whose key is new.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    let store = boundStore
    try upstream.process(run) { take($0, $1, store, body) }
  }

  /// Hands on what event time sets free, and forgets keys.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let store = boundStore
    let time = upstream.advance { take($0, $1, store, body) }
    store.advance(to: time)
    return time
  }

  /// Hands on each value whose key is new of those that were held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let store = boundStore
    upstream.endStep { take($0, $1, store, body) }
  }
}
