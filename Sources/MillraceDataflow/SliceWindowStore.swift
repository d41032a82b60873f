// SliceWindowStore: the windows of an operator that lie in slices of time.
//
// Values change the slice their time lies in. A window closes when the watermark reaches its end: what its slices hold is put
// together and handed on, key by key. It is over when the watermark is at its end and the allowed lateness behind it; with the
// last window of a slice that slice goes. In between, late values change the slice, and the windows that were handed on already
// are handed on again for the keys that changed, with the next batch at the latest.

import MillraceBase

/// The windows of an operator that lie in slices; the time of a result is the last ms of its window.
///
/// Safety: `@unchecked Sendable` because it is handed to the job's worker thread once and used there only.
public final class SliceWindowStore: @unchecked Sendable {
  let windows: any SlicedWindows
  private let options: WindowOptions
  private let store: SliceStore
  private let lateness: Int64
  private let earlyInterval: Int64?
  /// Values that came too late for every window.
  public private(set) var lateCount: UInt64 = 0
  /// Event time as of the last batch.
  private var watermark: Int64 { store.watermark }
  /// Keys that late values changed in windows that had been handed on, by the window's end.
  private var again: [Int64: KeyedTable] = [:]
  private var againEnds: [Int64] = []
  /// A slice whose windows are all open.
  private struct Known {
    var start = Int64.max
    var length: Int64 = 0
    var table: KeyedTable?
  }
  /// Of the value that came last, and of one before it: values mostly come near each other.
  private var last = Known()
  private var lastButOne = Known()

  init(_ windows: any SlicedWindows, _ options: WindowOptions, _ store: SliceStore) {
    self.windows = windows
    self.options = options
    self.store = store
    lateness = max(0, options.allowedLateness.inMilliseconds)
    earlyInterval = options.emission.earlyInterval
  }

  /// Registers the slices of an operator.
  static func make(
    _ windows: any SlicedWindows, in graph: inout JobGraph, options: WindowOptions, codec: (any StateCodec)?,
    name: String?
  ) throws(JobError) -> SliceWindowStore {
    graph.needEventTime()
    let slices = try graph.addState(kind: "window", name: name) {
      SliceStore(operatorID: $0, length: windows.sliceLength, phase: windows.phase, codec: codec)
    }
    return SliceWindowStore(windows, options, slices)
  }

  /// The slice for a value of `time`; nil when it is late for every window.
  /// - Parameter values: how many values are late then.
  @usableFromInline @inline(__always)
  func slice(for time: Timestamp, _ key: UnsafeRawBufferPointer, values: UInt64 = 1) -> KeyedTable? {
    let distance = time.milliseconds &- last.start
    if distance >= 0, distance < last.length, let table = last.table { return table }
    return findSlice(for: time.milliseconds, key, values)
  }

  private func findSlice(for time: Int64, _ key: UnsafeRawBufferPointer, _ values: UInt64) -> KeyedTable? {
    let distance = time &- lastButOne.start
    if distance >= 0, distance < lastButOne.length, let table = lastButOne.table {
      swap(&last, &lastButOne)
      return table
    }
    guard time > -TimeWindows.farthest, time < TimeWindows.farthest else {
      lateCount += values
      return nil
    }
    let range = windows.slice(of: time)
    let start = range.lowerBound
    let lastEnd = windows.lastEnd(ofSlice: start)
    guard watermark < lastEnd.adding(lateness) else {
      lateCount += values
      return nil
    }
    let firstEnd = windows.firstEnd(ofSlice: start)
    if firstEnd <= watermark {
      // Windows that were handed on already are handed on again.
      if options.emission != .onUpdate { noteAgain(key, from: firstEnd, to: min(watermark, lastEnd)) }
      return store.table(start)
    }
    lastButOne = last
    last = Known(start: start, length: range.upperBound - start, table: store.table(start))
    return last.table
  }

  private func forgetKnown() {
    last.table = nil
    lastButOne.table = nil
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
      end = windows.nextEnd(after: end)
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
    forgetKnown()
    switch options.emission {
    case .onClose: return closing(after: before).map { ($0, nil) }
    case .early: return (closing(after: before) + early(after: before)).map { ($0, nil) }
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
      let behind = max(before, ends.last ?? .min)
      var end = first > behind ? first : windows.nextEnd(after: behind)
      while end <= min(last, watermark) {
        ends.append(end)
        end = windows.nextEnd(after: end)
      }
    }
    return ends
  }

  /// The ends of open windows that are handed on early, rising.
  private func early(after before: Int64) -> [Int64] {
    guard let earlyInterval, watermark < TimeWindows.farthest,
      let now = watermark.multiple(of: earlyInterval, behind: before)
    else { return [] }
    var ends: Set<Int64> = []
    for start in store.starts {
      var end = max(windows.firstEnd(ofSlice: start), windows.nextEnd(after: watermark))
      while end <= windows.lastEnd(ofSlice: start) {
        if windows.start(ofWindowEndingAt: end) < now { ends.insert(end) }
        end = windows.nextEnd(after: end)
      }
    }
    return ends.sorted()
  }

  /// Lets go of slices that no window needs any more.
  @usableFromInline
  func release() {
    while let first = store.starts.first, windows.lastEnd(ofSlice: first).adding(lateness) <= watermark {
      store.removeFirst()
    }
    forgetKnown()
  }

  /// The slices of the window that ends at `end`.
  @usableFromInline
  func slices(ofWindowEndingAt end: Int64) -> ArraySlice<KeyedTable> {
    store.slices(in: windows.start(ofWindowEndingAt: end)..<end)
  }

  /// A table for sums of slices.
  @usableFromInline
  func scratchTable(_ codec: (any StateCodec)?) -> KeyedTable {
    KeyedTable(operatorID: 0, kind: StateRecordKind.keyedValue, scope: [], codec: codec)
  }

  @usableFromInline
  func window(endingAt end: Int64) -> Window {
    Window(start: Timestamp(milliseconds: windows.start(ofWindowEndingAt: end)), end: Timestamp(milliseconds: end))
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
        end = windows.nextEnd(after: end)
      }
    }
    return byEnd.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }
}
