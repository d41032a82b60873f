// SelectiveAggregation: aggregations that some values leave as they are, such as a maximum or the ten highest.

import MillraceBase

/// How a value changes its key's state, and whether it does.
///
/// A value that changes nothing costs no state record and has nothing handed on.
public protocol SelectiveAggregation<Input, State>: Sendable {
  /// What comes in.
  associatedtype Input
  /// The state of a key.
  associatedtype State: StateValue
  /// The state of a key that was not seen before; its first value always changes it.
  var initial: State { get }
  /// Takes in a value of event time `time`.
  /// - Returns: whether the state is another one now.
  func change(_ state: inout State, by input: Input, at time: Timestamp) -> Bool
}

extension Minimum: SelectiveAggregation {
  /// Keeps the lower one.
  @inlinable @inline(__always)
  public func change(_ state: inout Int64, by input: Input, at time: Timestamp) -> Bool {
    let number = number(input)
    guard number < state else { return false }
    state = number
    return true
  }
}

extension Maximum: SelectiveAggregation {
  /// Keeps the higher one.
  @inlinable @inline(__always)
  public func change(_ state: inout Int64, by input: Input, at time: Timestamp) -> Bool {
    let number = number(input)
    guard number > state else { return false }
    state = number
    return true
  }
}

extension KeyedTable {
  /// The bits of a live entry.
  @inlinable @inline(__always)
  func value(at number: Int) -> UInt64 { core.pointee.entries[number].value }

  /// Gives a live entry other bits and notes the change.
  @inlinable @inline(__always)
  func setValue(at number: Int, _ bits: UInt64) {
    if core.pointee.entries[number].flags & KeyedTable.isDirty == 0 { touch(number, 0) }
    core.pointee.entries[number].value = bits
  }
}

/// Folds values into the state of their key and hands on each state that a step changed, once.
public struct KeyedSelect<Upstream: Flow, Key: StreamKey, Fold: SelectiveAggregation>: Flow
where Fold.Input == Upstream.Output {
  /// The key and its state after the step.
  public typealias Output = Keyed<Key, Fold.State>
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
      table: try graph.addTable(kind: kind, name: name, codec: Fold.State.codec),
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
    if let number = table.liveEntry(bytes, hash) {
      var state = Fold.State(stateBits: table.value(at: number))
      guard fold.change(&state, by: input, at: time) else { return }
      table.setValue(at: number, state.stateBits)
    } else {
      table.update(bytes, hash, initial: fold.initial.ownedStateBits()) { bits in
        var state = Fold.State(stateBits: bits)
        _ = fold.change(&state, by: input, at: time)
        bits = state.stateBits
      }
    }
    table.note(time)
  }

  @inlinable @inline(never)
  func takeQueued(_ queue: UpdateQueue<Upstream.Output>) {
    queue.empty(into: table) { input, time, hash in key(input).withBytes { change($0, hash, input, time) } }
  }

  /// Nothing stays in the queue beyond a call.
  @inlinable @inline(__always)
  func takeRest() { if let queue, queue.core.pointee.count > 0 { takeQueued(queue) } }

  /// Changes the state; hands nothing on yet.
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

  /// Hands on every key whose state changed, at the newest time of the values that changed one.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    upstream.endStep { take($0, $1) }
    takeRest()
    let time = table.takeNewestTime()
    table.forEachChange { key, bits in
      guard let bits else { return }
      body(Keyed(key: Key(keyBytes: key), value: Fold.State(stateBits: bits)), time)
    }
  }
}
