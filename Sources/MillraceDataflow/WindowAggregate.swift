// WindowAggregate: one value of state per key and window.
//
// Values change the slice their time lies in. A window closes when the watermark reaches its end: what its slices hold is put
// together and handed on, key by key. It is over when the watermark is at its end and the allowed lateness behind it; with the
// last window of a slice that slice goes. In between, late values change the slice, and the windows that were handed on already
// are handed on again for the keys that changed, with the next batch at the latest.

import MillraceBase

/// A key, a window, and what belongs to both.
public struct Windowed<Key, Value> {
  /// The key.
  public var key: Key
  /// The window.
  public var window: Window
  /// The value.
  public var value: Value

  /// `value` of `key` in `window`.
  @inlinable
  public init(key: Key, window: Window, value: Value) {
    self.key = key
    self.window = window
    self.value = value
  }
}

/// When a window is handed on.
public enum WindowEmission: Sendable {
  /// When the watermark reaches its end, and again for each key that late values change.
  case onClose
  /// With each step, for each key that the step changed. What was handed on last is the window's result.
  case onUpdate
}

/// How windows are kept.
public struct WindowOptions: Sendable {
  /// How long after its end, in event time, a window still takes values.
  public var allowedLateness = Duration.zero
  /// When it is handed on.
  public var emission = WindowEmission.onClose

  /// On close, without lateness.
  public init() {}
}

/// What a ``WindowAggregate`` does apart from folding, whatever its types.
///
/// Safety: `@unchecked Sendable` because it is handed to the job's worker thread once and used there only.
@usableFromInline
final class WindowState: @unchecked Sendable {
  let windows: TimeWindows
  let options: WindowOptions
  let store: SliceStore
  private let lateness: Int64
  /// Values that came too late for every window.
  private(set) var lateCount: UInt64 = 0
  /// Event time as of the last batch.
  private var watermark: Int64 { store.watermark }
  /// Keys that late values changed in windows that had been handed on, by the window's end.
  private var again: [Int64: KeyedTable] = [:]
  private var againEnds: [Int64] = []
  /// Of the value that came last: values mostly come near each other.
  private var cachedSlice = Int64.max
  private var cachedTable: KeyedTable?

  init(_ windows: TimeWindows, _ options: WindowOptions, _ store: SliceStore) {
    self.windows = windows
    self.options = options
    self.store = store
    lateness = max(0, options.allowedLateness.inMilliseconds)
  }

  /// The slice for a value of `time`; nil when it is late for every window.
  @usableFromInline @inline(__always)
  func slice(for time: Timestamp, _ key: UnsafeRawBufferPointer) -> KeyedTable? {
    let distance = time.milliseconds &- cachedSlice
    if distance >= 0, distance < windows.slice, let cachedTable { return cachedTable }
    return findSlice(for: time.milliseconds, key)
  }

  private func findSlice(for time: Int64, _ key: UnsafeRawBufferPointer) -> KeyedTable? {
    guard time > -TimeWindows.farthest, time < TimeWindows.farthest else {
      lateCount += 1
      return nil
    }
    let start = windows.slice(of: time)
    let lastEnd = windows.lastEnd(ofSlice: start)
    guard watermark < lastEnd.adding(lateness) else {
      lateCount += 1
      return nil
    }
    let firstEnd = windows.firstEnd(ofSlice: start)
    if firstEnd <= watermark {
      // Windows that were handed on already are handed on again.
      if options.emission == .onClose { noteAgain(key, from: firstEnd, to: min(watermark, lastEnd)) }
      return store.table(start)
    }
    cachedSlice = start
    cachedTable = store.table(start)
    return cachedTable
  }

  private func noteAgain(_ key: UnsafeRawBufferPointer, from first: Int64, to last: Int64) {
    var end = first
    while end <= last {
      if watermark < end.adding(lateness) {
        let keys: KeyedTable
        if let known = again[end] {
          keys = known
        } else {
          keys = KeyedTable(operatorID: 0)
          again[end] = keys
          againEnds.insert(end, at: againEnds.partitioningIndex(below: end))
        }
        keys.update(key, initial: 0) { _ in }
      }
      end += windows.hop
    }
  }

  /// Takes the windows that are to be handed on again, oldest first, each with its keys.
  @usableFromInline
  func takeAgain() -> [(end: Int64, keys: KeyedTable)] {
    guard !againEnds.isEmpty else { return [] }
    let taken = againEnds.compactMap { end in again[end].map { (end, $0) } }
    again = [:]
    againEnds = []
    return taken
  }

  /// Event time has come to `time`.
  /// - Returns: the ends of the windows that are to be handed on because of that, rising, each with its keys; nil for all.
  @usableFromInline
  func advance(to time: Timestamp) -> [(end: Int64, keys: KeyedTable?)] {
    let before = watermark
    guard time.milliseconds > before else { return [] }
    store.watermark = time.milliseconds
    cachedTable = nil
    switch options.emission {
    case .onClose: return closing(after: before).map { ($0, nil) }
    // What is over by now would not be found at the step's end.
    case .onUpdate:
      return changes { before < $0.adding(self.lateness) && self.watermark >= $0.adding(self.lateness) }
        .map { ($0.end, $0.keys) }
    }
  }

  private func closing(after before: Int64) -> [Int64] {
    var ends: [Int64] = []
    for start in store.starts {
      let first = windows.firstEnd(ofSlice: start)
      if first > watermark { break }
      let last = windows.lastEnd(ofSlice: start)
      if last <= before { continue }
      // Behind those that closed before, and those of the slices before this one.
      var end = max(first, ends.last.map { $0 + windows.hop } ?? .min)
      if end <= before { end += (before - end) / windows.hop * windows.hop + windows.hop }
      while end <= min(last, watermark) {
        ends.append(end)
        end += windows.hop
      }
    }
    return ends
  }

  /// Lets go of slices that no window needs any more.
  @usableFromInline
  func release() {
    while let first = store.starts.first, windows.lastEnd(ofSlice: first).adding(lateness) <= watermark {
      store.removeFirst()
    }
    cachedTable = nil
  }

  /// The slices of the window that ends at `end`.
  @usableFromInline
  func slices(ofWindowEndingAt end: Int64) -> ArraySlice<KeyedTable> { store.slices(in: end - windows.length..<end) }

  /// A table for sums of slices.
  @usableFromInline
  func scratchTable(_ codec: (any StateCodec)?) -> KeyedTable {
    KeyedTable(operatorID: 0, kind: StateRecordKind.keyedValue, scope: [], codec: codec)
  }

  @usableFromInline
  func window(endingAt end: Int64) -> Window {
    Window(start: Timestamp(milliseconds: end - windows.length), end: Timestamp(milliseconds: end))
  }

  /// Windows with keys that this step changed, rising; nothing unless they are handed on with each step.
  @usableFromInline
  func takeUpdates() -> [(end: Int64, keys: KeyedTable)] {
    guard options.emission == .onUpdate else { return [] }
    return changes { self.watermark < $0.adding(self.lateness) }
  }

  /// Windows whose ends `isWanted` says, with the keys that this step changed in their slices.
  private func changes(_ isWanted: (Int64) -> Bool) -> [(end: Int64, keys: KeyedTable)] {
    var byEnd: [Int64: KeyedTable] = [:]
    store.forEachChanged { start, table in
      var end = windows.firstEnd(ofSlice: start)
      while end <= windows.lastEnd(ofSlice: start) {
        if isWanted(end) {
          let keys = byEnd[end] ?? KeyedTable(operatorID: 0)
          byEnd[end] = keys
          table.forEachChange { key, bits in if bits != nil { keys.update(key, initial: 0) { _ in } } }
        }
        end += windows.hop
      }
    }
    return byEnd.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }
}

/// Folds the values of each key and window, and hands on what came of it; the time of a result is the last ms of its window.
public struct WindowAggregate<Upstream: Flow, Key: StreamKey, Fold: MergeableAggregation>: Flow
where Fold.Input == Upstream.Output {
  /// The key, the window and its state.
  public typealias Output = Windowed<Key, Fold.State>
  @usableFromInline let upstream: Exchange<Upstream, Key>
  @usableFromInline let key: @Sendable (Upstream.Output) -> Key
  @usableFromInline let fold: Fold
  @usableFromInline let windows: TimeWindows
  @usableFromInline let options: WindowOptions
  @usableFromInline let late: (any RecordSink<Upstream.Output>)?
  @usableFromInline let name: String?
  @usableFromInline let state: WindowState?

  @usableFromInline
  init(
    _ upstream: Exchange<Upstream, Key>, key: @escaping @Sendable (Upstream.Output) -> Key, fold: Fold,
    windows: TimeWindows, options: WindowOptions, late: (any RecordSink<Upstream.Output>)?, name: String?,
    state: WindowState?
  ) {
    self.upstream = upstream
    self.key = key
    self.fold = fold
    self.windows = windows
    self.options = options
    self.late = late
    self.name = name
    self.state = state
  }

  /// Folds by `key` and window behind `upstream`.
  /// - Parameters:
  ///   - late: takes the values that come too late for every window; without it they are only counted.
  ///   - name: owns the state; see ``JobGraph/addTable(kind:name:)``.
  @inlinable
  public init(
    _ upstream: Upstream, key: @escaping @Sendable (Upstream.Output) -> Key, fold: Fold, windows: TimeWindows,
    options: WindowOptions, late: (any RecordSink<Upstream.Output>)?, name: String?
  ) {
    self.init(
      Exchange(upstream, by: key), key: key, fold: fold, windows: windows, options: options, late: late, name: name,
      state: nil)
  }

  /// Registers the state.
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    let upstream = try upstream.bound(to: &graph)
    let late = try late?.bound(to: &graph)
    graph.needEventTime()
    let slices = try graph.addState(kind: "window", name: name) {
      SliceStore(operatorID: $0, length: windows.slice, phase: windows.phase, codec: Fold.State.codec)
    }
    let state = WindowState(windows, options, slices)
    graph.addLateCount { state.lateCount }
    return Self(
      upstream, key: key, fold: fold, windows: windows, options: options, late: late, name: name, state: state)
  }

  @usableFromInline
  var boundState: WindowState {
    guard let state else { preconditionFailure("a window is not bound to a job") }
    return state
  }

  @inlinable @inline(__always)
  func take(_ input: Upstream.Output, _ time: Timestamp, _ state: WindowState) {
    key(input).withBytes { bytes in
      guard let slice = state.slice(for: time, bytes) else {
        late?.receive(input, time)
        return
      }
      slice.update(bytes, initial: fold.initial.ownedStateBits()) { bits in
        var value = Fold.State(stateBits: bits)
        fold.add(input, to: &value)
        bits = value.stateBits
      }
    }
  }

  /// Changes the slices; hands nothing on yet.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    let state = boundState
    try upstream.process(run) { take($0, $1, state) }
  }

  /// Hands on the windows that close, and those that late values changed.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    let state = boundState
    let time = upstream.advance { take($0, $1, state) }
    for (end, keys) in state.takeAgain() { emit(end, keys, state, body) }
    for (end, keys) in state.advance(to: time) { emit(end, keys, state, body) }
    state.release()
    return time
  }

  /// Hands on what changed, when windows are handed on with each step.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    let state = boundState
    upstream.endStep { take($0, $1, state) }
    for (end, keys) in state.takeAgain() { emit(end, keys, state, body) }
    for (end, keys) in state.takeUpdates() { emit(end, keys, state, body) }
  }

  /// Hands on one window: all its keys, or those of `keys`.
  @inlinable
  func emit(_ end: Int64, _ keys: KeyedTable?, _ state: WindowState, _ body: (Output, Timestamp) -> Void) {
    let window = state.window(endingAt: end)
    let time = Timestamp(milliseconds: end - 1)
    let slices = state.slices(ofWindowEndingAt: end)
    @inline(__always) func give(_ key: UnsafeRawBufferPointer, _ value: Fold.State) {
      body(Windowed(key: Key(keyBytes: key), window: window, value: value), time)
    }
    if let keys {
      keys.forEach { key, _ in
        var sum = fold.initial
        var isThere = false
        for slice in slices {
          guard let bits = slice.value(key) else { continue }
          fold.merge(Fold.State(stateBits: bits), into: &sum)
          isThere = true
        }
        if isThere { give(key, sum) }
      }
    } else if slices.count == 1, let slice = slices.first {
      slice.forEach { give($0, Fold.State(stateBits: $1)) }
    } else {
      let sums = state.scratchTable(Fold.State.codec)
      for slice in slices {
        slice.forEach { key, bits in
          sums.update(key, initial: fold.initial.ownedStateBits()) { sum in
            var value = Fold.State(stateBits: sum)
            fold.merge(Fold.State(stateBits: bits), into: &value)
            sum = value.stateBits
          }
        }
      }
      sums.forEach { give($0, Fold.State(stateBits: $1)) }
    }
  }
}
