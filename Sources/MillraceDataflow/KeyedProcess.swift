// KeyedProcess: a function of one's own over the values of each key, with state and timers.
//
// What a key has, its state and its timers, is one value of keyed state. A heap says which key's timer is due first; as in
// SessionStore its entries are not moved when a timer is taken back: one that comes up early goes back with the time that holds by
// then.

import MillraceBase

/// State and timers of one key.
@usableFromInline
struct ProcessCell<State: StateCodable>: StateCodable {
  @usableFromInline var state: State?
  /// Rising, each once.
  @usableFromInline var timers: [Int64] = []
  /// The time of the key's entry in the heap; `.max` without one. Not kept.
  var due = Int64.max

  @usableFromInline init() {}

  /// One timer for each time.
  @usableFromInline
  mutating func setTimer(_ time: Timestamp) {
    let index = timers.partitioningIndex(below: time.milliseconds)
    if index < timers.count, timers[index] == time.milliseconds { return }
    timers.insert(time.milliseconds, at: index)
  }

  @usableFromInline
  mutating func cancelTimer(_ time: Timestamp) { timers.removeAll { $0 == time.milliseconds } }

  @usableFromInline static var stateEncoding: String { "process<\(State.stateEncoding)>/1" }

  @usableFromInline
  func encode(into writer: inout ByteWriter) {
    state.encode(into: &writer)
    timers.encode(into: &writer)
  }

  @usableFromInline
  init(from reader: inout ByteReader) throws(DecodingError) {
    state = try State?(from: &reader)
    let at = reader.position
    timers = try [Int64](from: &reader)
    guard zip(timers, timers.dropFirst()).allSatisfy({ $0 < $1 }) else {
      throw DecodingError("timers that do not rise", at: at)
    }
  }
}

/// What a process function sees and changes: its key's state and timers.
public struct ProcessContext<Key: StreamKey, State: StateCodable> {
  /// The key.
  public let key: Key
  /// The event time of the value, or the time of the timer.
  public let time: Timestamp
  /// How far event time has come.
  public let watermark: Timestamp
  @usableFromInline let cell: Boxed<ProcessCell<State>>

  @usableFromInline
  init(key: Key, time: Timestamp, watermark: Timestamp, cell: Boxed<ProcessCell<State>>) {
    self.key = key
    self.time = time
    self.watermark = watermark
    self.cell = cell
  }

  /// The key's state; nil before it was set, and when it was set to nil. A key without state and timers takes no room.
  @inlinable public var state: State? {
    get { cell.content.state }
    nonmutating _modify { yield &cell.content.state }
  }

  /// Has the timer function called for the key once event time has come to `time`: with the next batch when it has already, and
  /// so never once all inputs have ended. A time that is set twice is one timer.
  public func setTimer(at time: Timestamp) { cell.content.setTimer(time) }

  /// Takes a timer back; no-op when there is none at `time`.
  public func cancelTimer(at time: Timestamp) { cell.content.cancelTimer(time) }

  /// The times of the key's timers, rising.
  public var timers: [Timestamp] { cell.content.timers.map { Timestamp(milliseconds: $0) } }
}

/// State and timers of all keys of one operator.
///
/// Safety: `@unchecked Sendable` because it is handed to the job's worker thread once and used there only.
@usableFromInline
final class ProcessStore<State: StateCodable>: @unchecked Sendable {
  private struct Due: Comparable {
    let time: Int64
    let entry: Int
    static func < (left: Due, right: Due) -> Bool { (left.time, left.entry) < (right.time, right.entry) }
  }

  @usableFromInline typealias Cell = Boxed<ProcessCell<State>>

  private let table: KeyedTable
  private var heap = Heap<Due>()
  private var kept: KeptWatermark
  /// How far event time has come.
  @usableFromInline var watermark: Timestamp { Timestamp(milliseconds: kept.time) }

  init(operatorID: UInt16) {
    kept = KeptWatermark(operatorID: operatorID, kind: StateRecordKind.keyedValue)
    table = KeyedTable(
      operatorID: operatorID, kind: StateRecordKind.encodedValue, scope: [], codec: BoxCodec<ProcessCell<State>>())
  }

  /// Lets `body` change what `key` has.
  @usableFromInline
  func change(_ key: UnsafeRawBufferPointer, _ body: (Cell) -> Void) {
    let number = table.changeEntry(key, Hashing.stable(key)) { Cell(ProcessCell()).ownedStateBits() }
    change(number, body)
  }

  /// The times of the timers of `key`, rising.
  @usableFromInline
  func timers(_ key: UnsafeRawBufferPointer) -> [Int64] {
    table.value(key).map { Cell(stateBits: $0).content.timers } ?? []
  }

  private func change(_ number: Int, _ body: (Cell) -> Void) {
    let cell = Cell(stateBits: table.bits(of: number))
    body(cell)
    if cell.content.timers.isEmpty, cell.content.state == nil {
      table.remove(table.key(of: number))
    } else {
      arm(number)
    }
  }

  /// Event time has come to `time`: calls `body` for each timer that is due, in the order of their times.
  @usableFromInline
  func advance(to time: Timestamp, _ body: (UnsafeRawBufferPointer, Timestamp, Cell) -> Void) {
    _ = kept.advance(to: time)
    table.fetchDue(watermark.milliseconds)
    // Timers that the calls set are for the next batch.
    var due: [Due] = []
    while let next = heap.first, next.time <= watermark.milliseconds {
      heap.popFirst()
      guard table.isLive(next.entry) else { continue }
      let cell = Cell(stateBits: table.bits(of: next.entry))
      guard cell.content.due == next.time else { continue }
      cell.content.due = .max
      for timer in cell.content.timers.prefix(while: { $0 <= watermark.milliseconds }) {
        due.append(Due(time: timer, entry: next.entry))
      }
      rearm(cell, next.entry)
    }
    for timer in due.sorted() where table.isLive(timer.entry) {
      let cell = Cell(stateBits: table.bits(of: timer.entry))
      // It may have been taken back by one before it.
      guard cell.content.timers.contains(timer.time) else { continue }
      cell.content.timers.removeAll { $0 == timer.time }
      table.noteChange(timer.entry)
      change(timer.entry) { body(table.key(of: timer.entry), Timestamp(milliseconds: timer.time), $0) }
    }
  }

  /// What is due behind the timers that are being called.
  private func rearm(_ cell: Cell, _ number: Int) {
    guard let next = cell.content.timers.first(where: { $0 > watermark.milliseconds }) else { return }
    cell.content.due = next
    heap.push(Due(time: next, entry: number))
  }
}

extension ProcessStore: OperatorState {
  var ownKind: UInt8? { kept.kind }
  var operatorID: UInt16 { table.operatorID }
  var waitsForTime: Bool { !heap.isEmpty || table.hasSpilledDues }
  func allowSpilling(into memory: StateMemory) {
    table.allowSpilling(
      into: memory,
      owner: SpillOwner(
        due: { [table] in Cell(stateBits: table.bits(of: $0)).content.timers.first ?? .max },
        cameBack: { [unowned self] in arm($0) }))
  }
  var memorySize: Int { table.memorySize }
  var fileSize: Int { table.fileSize }
  func spill(_ size: Int) throws(JobError) -> Int { try table.spill(size) }
  var count: Int { table.count }
  var stateBytes: Int { table.stateBytes }
  var changedCount: Int { table.changedCount + (kept.isChanged ? 1 : 0) }
  // The state's own size is not known before it is written.
  var changedSize: Int { 2 * table.changedSize + 64 }
  func writeChanges(into writer: inout StateLogWriter) {
    kept.writeChanges(into: &writer)
    table.writeChanges(into: &writer)
  }
  func beginRound() {
    kept.beginRound()
    table.beginRound()
  }
  func sweep(_ quota: Int, upTo size: Int, into writer: inout StateLogWriter) -> Int {
    let written = kept.sweep(into: &writer)
    return written + table.sweep(quota - written, upTo: size, into: &writer)
  }
  var roundIsDone: Bool { kept.isSwept && table.roundIsDone }
  func restore(
    _ kind: UInt8, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
  ) throws(JobError) {
    if try kept.restore(kind, key, value) { return }
    guard kind == StateRecordKind.encodedValue else {
      throw JobError(
        .corruptState, "a state record of kind \(kind) for operator \(operatorID), which has state and timers of keys")
    }
    try table.restore(key, value)
  }

  func recovered() { table.forEachEntry { number, _ in arm(number) } }

  /// Sees to it that the heap knows when the entry is due.
  private func arm(_ number: Int) {
    let cell = Cell(stateBits: table.bits(of: number))
    guard let first = cell.content.timers.first, first < cell.content.due else { return }
    cell.content.due = first
    heap.push(Due(time: first, entry: number))
  }
}

/// Calls functions of one's own for each value of a key and for each timer.
public struct KeyedProcess<Upstream: Flow, Key: StreamKey, State: StateCodable, Output>: Flow {
  /// What the functions are called with, and where they put what they hand on.
  public typealias Context = ProcessContext<Key, State>
  @usableFromInline let upstream: Exchange<Upstream, Key>
  @usableFromInline let key: @Sendable (Upstream.Output) -> Key
  @usableFromInline let onValue: @Sendable (Upstream.Output, Context, (Output) -> Void) -> Void
  @usableFromInline let onTimer: @Sendable (Context, (Output) -> Void) -> Void
  @usableFromInline let name: String?
  @usableFromInline let store: ProcessStore<State>?

  @usableFromInline
  init(
    _ upstream: Exchange<Upstream, Key>, key: @escaping @Sendable (Upstream.Output) -> Key, name: String?,
    store: ProcessStore<State>?,
    onValue: @escaping @Sendable (Upstream.Output, Context, (Output) -> Void) -> Void,
    onTimer: @escaping @Sendable (Context, (Output) -> Void) -> Void
  ) {
    self.upstream = upstream
    self.key = key
    self.name = name
    self.store = store
    self.onValue = onValue
    self.onTimer = onTimer
  }

  /// Calls `onValue` for each value behind `upstream`, and `onTimer` for each timer; what they hand on has the value's or the
  /// timer's time.
  /// - Parameter name: owns the state; see ``JobGraph/addTable(kind:name:codec:)``.
  @inlinable
  public init(
    _ upstream: Upstream, key: @escaping @Sendable (Upstream.Output) -> Key, name: String?,
    onValue: @escaping @Sendable (Upstream.Output, Context, (Output) -> Void) -> Void,
    onTimer: @escaping @Sendable (Context, (Output) -> Void) -> Void
  ) {
    self.init(Exchange(upstream, by: key), key: key, name: name, store: nil, onValue: onValue, onTimer: onTimer)
  }

  /// Binds what lies before, inlined so that its stages are specialised, and registers the state.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    try registered(behind: upstream.bound(to: &graph), in: &graph)
  }

  @usableFromInline
  func registered(behind upstream: Exchange<Upstream, Key>, in graph: inout JobGraph) throws(JobError) -> Self {
    graph.needEventTime()
    return Self(
      upstream, key: key, name: name,
      store: try graph.addState(kind: "process", name: name) { ProcessStore(operatorID: $0) }, onValue: onValue,
      onTimer: onTimer)
  }

  @usableFromInline
  var boundStore: ProcessStore<State> {
    guard let store else { preconditionFailure("a process function is not bound to a job") }
    return store
  }

  @inlinable
  func take(
    _ input: Upstream.Output, _ time: Timestamp, _ store: ProcessStore<State>, _ body: (Output, Timestamp) -> Void
  ) {
    let key = key(input)
    key.withBytes { bytes in
      store.change(bytes) { cell in
        onValue(input, Context(key: key, time: time, watermark: store.watermark, cell: cell)) { body($0, time) }
      }
    }
  }

  /// Calls the function for each value.
  @inlinable
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    let store = boundStore
    try upstream.process(run) { take($0, $1, store, body) }
  }

  /// Calls the timer function for each timer that is due.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let store = boundStore
    let now = upstream.advance { take($0, $1, store, body) }
    store.advance(to: now) { key, time, cell in
      onTimer(Context(key: Key(keyBytes: key), time: time, watermark: now, cell: cell)) { body($0, time) }
    }
    return now
  }

  /// Calls the function for each value that was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let store = boundStore
    upstream.endStep { take($0, $1, store, body) }
  }
}
