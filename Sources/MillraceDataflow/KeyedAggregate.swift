// KeyedAggregate: one value of state per key, changed by each value, handed on once per step and changed key.

import MillraceBase

/// A key and the value that belongs to it.
public struct Keyed<Key, Value> {
  /// The key.
  public var key: Key
  /// The value.
  public var value: Value

  /// `value` under `key`.
  @inlinable
  public init(key: Key, value: Value) {
    self.key = key
    self.value = value
  }
}

extension Keyed: Sendable where Key: Sendable, Value: Sendable {}
extension Keyed: Equatable where Key: Equatable, Value: Equatable {}
extension Keyed: Hashable where Key: Hashable, Value: Hashable {}

/// Folds values into the state of their key and hands on the state of each key that a step changed, once.
public struct KeyedAggregate<Upstream: Flow, Key: StreamKey, Fold: Aggregation>: Flow
where Fold.Input == Upstream.Output {
  /// The key and its state after the step.
  public typealias Output = Keyed<Key, Fold.State>
  @usableFromInline let upstream: Exchange<Upstream, Key>
  @usableFromInline let key: @Sendable (Upstream.Output) -> Key
  @usableFromInline let fold: Fold
  @usableFromInline let kind: String
  @usableFromInline let name: String?
  @usableFromInline let table: KeyedTable
  /// Of several workers: states that they made of their own values.
  @usableFromInline let prepared: LaneReader<PreparedState>?
  @usableFromInline let queue: UpdateQueue<Upstream.Output>?

  @usableFromInline
  init(
    upstream: Exchange<Upstream, Key>, key: @escaping @Sendable (Upstream.Output) -> Key, fold: Fold, kind: String,
    name: String?, table: KeyedTable, prepared: LaneReader<PreparedState>?, queue: UpdateQueue<Upstream.Output>?
  ) {
    self.upstream = upstream
    self.key = key
    self.fold = fold
    self.kind = kind
    self.name = name
    self.table = table
    self.prepared = prepared
    self.queue = queue
  }

  /// Folds by `key` behind `upstream`. For `kind` and `name` see ``JobGraph/addTable(kind:name:)``.
  @inlinable
  public init(
    _ upstream: Upstream, key: @escaping @Sendable (Upstream.Output) -> Key, fold: Fold, kind: String, name: String?
  ) {
    self.init(
      upstream: Exchange(upstream, by: key), key: key, fold: fold, kind: kind, name: name,
      table: KeyedTable(operatorID: 0), prepared: nil, queue: nil)
  }

  /// Registers the state. With several workers, and when the order of a key's values does not matter, each prepares states of its own.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    if graph.workers > 1, fold.unorderedMerge != nil { return try boundPreparing(in: &graph) }
    return try registered(behind: try upstream.bound(to: &graph), prepared: nil, in: &graph)
  }

  @usableFromInline
  func registered(
    behind upstream: Exchange<Upstream, Key>, prepared: LaneReader<PreparedState>?, in graph: inout JobGraph
  ) throws(JobError) -> Self {
    Self(
      upstream: upstream, key: key, fold: fold, kind: kind, name: name,
      table: try graph.addTable(kind: kind, name: name, codec: Fold.State.codec), prepared: prepared,
      queue: try graph.updateQueue())
  }

  /// Binds what lies before as a stage that prepares states and hands them over when the step ends.
  @inlinable
  func boundPreparing(in graph: inout JobGraph) throws(JobError) -> Self {
    let (source, level, chain) = try graph.bindStage(upstream.upstream)
    let end: ExchangeEnd<Upstream.Output> = try graph.exchangeEnd(level: level)
    let own = try graph.prepareStates(level: level, codec: Fold.State.codec)
    let (key, fold, count) = (key, fold, chain.count)
    @inline(__always) func take(_ input: Upstream.Output, _ time: Timestamp) {
      key(input).withBytes { bytes in
        guard own.preparesNext() else { return end.send(input, time, hash: Hashing.stable(bytes), on: end.runs) }
        own.table.note(time)
        own.table.update(bytes, initial: fold.initial.ownedStateBits()) { fold.add(input, toBits: &$0) }
      }
    }
    graph.addStage(
      BoundPipeline(
        begin: {
          end.begin()
          own.begin()
        },
        process: { (run: InputRun) throws(JobError) in
          try source.process(run, countedBy: count) { take($0, $1) }
          end.markRun()
        },
        advance: { end.markTime(source.advance(countedBy: count) { take($0, $1) }) },
        endStep: {
          source.endStep(countedBy: count) { take($0, $1) }
          own.send()
          end.markRun()
          own.end.markRun()
        }), level: level, of: chain)
    return try registered(
      behind: Exchange(upstream.upstream, by: key, lanes: end.reader(), count: .nowhere),
      prepared: own.end.reader(), in: &graph)
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
    table.update(bytes, hash, initial: fold.initial.ownedStateBits()) { bits in
      var state = Fold.State(stateBits: bits)
      fold.add(input, to: &state)
      bits = state.stateBits
    }
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

  /// Hands on every key that changed, with its state, at the newest time that the step brought.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    upstream.endStep { take($0, $1) }
    takeRest()
    if let prepared { receive(prepared) }
    let time = table.takeNewestTime()
    table.forEachChange { key, bits in
      guard let bits else { return }
      body(Keyed(key: Key(keyBytes: key), value: Fold.State(stateBits: bits)), time)
    }
  }

  /// Takes in the states that the workers prepared.
  @inlinable
  func receive(_ prepared: LaneReader<PreparedState>) {
    guard let merge = fold.unorderedMerge else { return }
    prepared.receiveEnd { part, time in
      table.note(time)
      table.update(part.key, initial: fold.initial.ownedStateBits()) { bits in
        var state = Fold.State(stateBits: bits)
        merge(Fold.State(stateBits: part.bits), &state)
        bits = state.stateBits
      }
    }
  }
}
