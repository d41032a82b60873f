// TableAggregate: a table: what a fold keeps of each key; of each key that a step changed it hands on what it has now,
// and what it had before.
//
// What was handed on last is what the state showed at the end of the last step, so it needs no room in the state log. A
// key that is gone takes none either.

import MillraceBase

/// What a table has for a key, and, within a step, what it had when the step began.
@usableFromInline
struct TableCell<State: StateCodable, Value>: StateCodable {
  @usableFromInline var state: State?
  @usableFromInline var old: Value?
  @usableFromInline var isChanged = false

  @usableFromInline init() {}

  @usableFromInline static var stateEncoding: String { State.stateEncoding }
  @usableFromInline func encode(into writer: inout ByteWriter) { state?.encode(into: &writer) }
  @usableFromInline init(from reader: inout ByteReader) throws(DecodingError) { state = try State(from: &reader) }
}

/// Folds values into what a table has for their key, and hands on an update of each key for which a step changed what
/// it shows.
public struct TableAggregate<Upstream: Flow, Key: StreamKey, Fold: TableFold>: Flow
where Fold.Input == Upstream.Output {
  /// The key, with what it had and what it has.
  public typealias Output = TableUpdate<Key, Fold.Value>
  @usableFromInline typealias Cell = Boxed<TableCell<Fold.State, Fold.Value>>
  @usableFromInline let upstream: Exchange<Upstream, Key>
  @usableFromInline let key: @Sendable (Upstream.Output) -> Key
  @usableFromInline let fold: Fold
  @usableFromInline let kind: String
  @usableFromInline let name: String?
  @usableFromInline let table: KeyedTable
  @usableFromInline let queue: UpdateQueue<Upstream.Output>?

  @usableFromInline
  init(
    upstream: Exchange<Upstream, Key>, key: @escaping @Sendable (Upstream.Output) -> Key, fold: Fold, kind: String,
    name: String?, table: KeyedTable, queue: UpdateQueue<Upstream.Output>?
  ) {
    self.upstream = upstream
    self.key = key
    self.fold = fold
    self.kind = kind
    self.name = name
    self.table = table
    self.queue = queue
  }

  /// Folds by `key` behind `upstream`. For `kind` and `name` see ``JobGraph/addTable(kind:name:codec:)``.
  @inlinable
  public init(
    _ upstream: Upstream, key: @escaping @Sendable (Upstream.Output) -> Key, fold: Fold, kind: String, name: String?
  ) {
    self.init(
      upstream: Exchange(upstream, by: key), key: key, fold: fold, kind: kind, name: name,
      table: KeyedTable(operatorID: 0), queue: nil)
  }

  /// Registers the state.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    let upstream = try upstream.bound(to: &graph)
    return Self(
      upstream: upstream, key: key, fold: fold, kind: kind, name: name,
      table: try graph.addTable(kind: kind, name: name, codec: Cell.codec),
      queue: try graph.updateQueue())
  }

  @inlinable @inline(__always)
  func take(_ input: Upstream.Output, _ time: Timestamp) {
    key(input).withBytes { bytes in
      let hash = Hashing.stable(bytes)
      if table.core.pointee.isLarge, let queue {
        if queue.append(input, time, hash) { takeQueued(queue) }
      } else {
        change(bytes, hash, input, time)
      }
    }
  }

  @inlinable @inline(__always)
  func change(_ bytes: UnsafeRawBufferPointer, _ hash: UInt64, _ input: Upstream.Output, _ time: Timestamp) {
    table.note(time)
    table.update(bytes, hash, initial: Cell(TableCell()).ownedStateBits()) { bits in
      let cell = Cell(stateBits: bits)
      if !cell.content.isChanged {
        cell.content.isChanged = true
        cell.content.old = cell.content.state.flatMap { fold.value(of: $0) }
      }
      fold.add(input, at: time, to: &cell.content.state)
    }
  }

  @inlinable @inline(never)
  func takeQueued(_ queue: UpdateQueue<Upstream.Output>) {
    queue.empty(into: table) { input, time, hash in key(input).withBytes { change($0, hash, input, time) } }
  }

  /// Nothing stays in the queue beyond a call.
  @inlinable @inline(__always)
  func takeRest() { if let queue, queue.core.pointee.count > 0 { takeQueued(queue) } }

  /// Changes the table; hands nothing on yet.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    try upstream.process(run) { take($0, $1) }
    takeRest()
  }

  /// Hands nothing on yet.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let time = upstream.advance { take($0, $1) }
    takeRest()
    return time
  }

  /// Hands on every key for which something else is shown than before, at the newest time that the step brought.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    upstream.endStep { take($0, $1) }
    takeRest()
    let time = table.takeNewestTime()
    var gone: [UnsafeRawBufferPointer] = []
    table.forEachChange { key, bits in
      guard let bits else { return }
      let cell = Cell(stateBits: bits)
      let old = cell.content.old
      let new = cell.content.state.flatMap { fold.value(of: $0) }
      cell.content.isChanged = false
      cell.content.old = nil
      if cell.content.state == nil { gone.append(key) }
      if old != new { body(TableUpdate(key: Key(keyBytes: key), old: old, new: new), time) }
    }
    for key in gone { table.remove(key) }
  }
}
