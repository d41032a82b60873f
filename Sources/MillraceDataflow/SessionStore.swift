// SessionStore: the sessions of each key, and when each of them closes.
//
// A key's sessions are an array in a cell, whose number is what the keyed table holds. A heap orders the cells by the time at
// which the first of their sessions is due. Entries of the heap are not moved when a session grows: one that comes up early goes
// back with the time that holds by then.
//
// In the state log a key's value is its sessions (Stretch.swift), one behind the other. A record of the operator itself
// (kind 1, no key) says how far event time has come and how long the gap is: two int64, big endian.

import MillraceBase
import MillraceModel

/// Keyed state of one operator: sessions.
///
/// Safety: `@unchecked Sendable` because it is handed to the job's worker thread once and used there only.
public final class SessionStore: @unchecked Sendable {
  private struct Cell {
    /// Rising, with more than the gap between them.
    var sessions: [Stretch] = []
    /// The number of the key's entry in the table; −1 for a cell that is free.
    var entry = -1
    /// The time of the cell's entry in the heap; `.max` without one.
    var due = Int64.max
  }

  private struct Due: Comparable {
    let time: Int64
    let cell: Int
    static func < (left: Due, right: Due) -> Bool { (left.time, left.cell) < (right.time, right.cell) }
  }

  let operatorID: UInt16
  private let gap: Int64
  private let lateness: Int64
  private let isHandedOnClose: Bool
  private let earlyInterval: Int64?
  private let cells: Cells
  private let table: KeyedTable
  private var heap = Heap<Due>()
  /// Keys with sessions that late values changed after they had been handed on, by the session's first time.
  private var again: [(cell: Int, first: Int64)] = []
  private var isWatermarkChanged = false
  private var isWatermarkSwept = true
  /// How far event time has come.
  private(set) var watermark = Int64.min
  /// Values that came too late.
  public private(set) var lateCount: UInt64 = 0

  /// - Parameter codec: of states that take more than 64 bits.
  init(
    operatorID: UInt16, gap: Int64, lateness: Int64, emission: WindowEmission, codec: (any StateCodec)? = nil
  ) {
    cells = Cells(codec)
    self.operatorID = operatorID
    self.gap = gap
    self.lateness = lateness
    isHandedOnClose = emission != .onUpdate
    earlyInterval = emission.earlyInterval
    table = KeyedTable(operatorID: operatorID, kind: StateRecordKind.encodedValue, scope: [], codec: cells)
  }

  /// The cells: what the table's entries stand for.
  private final class Cells: StateCodec {
    var list: [Cell] = []
    var free: [Int] = []
    /// Of the sessions' states.
    let codec: (any StateCodec)?

    init(_ codec: (any StateCodec)?) { self.codec = codec }

    func make() -> Int {
      if let number = free.popLast() { return number }
      list.append(Cell())
      return list.count - 1
    }

    func write(_ bits: UInt64, into writer: inout ByteWriter) {
      for session in list[Int(bits)].sessions { session.write(codec, into: &writer) }
    }

    func read(_ value: UnsafeRawBufferPointer) throws(JobError) -> UInt64 {
      var reader = ByteReader(Bytes(copying: value))
      let cell = make()
      do throws(DecodingError) {
        repeat {
          let behind = list[cell].sessions.last?.last ?? -TimeWindows.farthest
          list[cell].sessions.append(try Stretch(from: &reader, "session", behind: behind, codec))
        } while reader.remaining > 0
      } catch {
        release(UInt64(cell))
        throw JobError(.corruptState, "sessions of \(value.count) bytes: \(error)")
      }
      return UInt64(cell)
    }

    func release(_ bits: UInt64) {
      for session in list[Int(bits)].sessions { codec?.release(session.bits) }
      list[Int(bits)] = Cell()
      free.append(Int(bits))
    }
  }

  // MARK: Values

  /// Takes in a value of `key` at `time`: `add` changes the state of its session, `merge` puts two sessions' states together.
  /// - Returns: whether the value was in time.
  @usableFromInline
  func take(
    _ key: UnsafeRawBufferPointer, _ time: Timestamp, initial: () -> UInt64, add: (inout UInt64) -> Void,
    merge: (UInt64, inout UInt64) -> Void
  ) -> Bool {
    let time = time.milliseconds
    guard time > -TimeWindows.farthest, time < TimeWindows.farthest else { return isLate() }
    let hash = Hashing.stable(key)
    let known = table.liveEntry(key, hash).map { Int(table.bits(of: $0)) }
    // The sessions that the value joins lie side by side.
    let sessions = known.map { cells.list[$0].sessions } ?? []
    let from = sessions.firstIndex { $0.last.adding(gap) >= time } ?? sessions.count
    let to = sessions[from...].firstIndex { $0.first > time.adding(gap) } ?? sessions.count
    var joined = Stretch(first: time, last: time, bits: 0)
    if from < to {
      joined.first = min(time, sessions[from].first)
      joined.last = max(time, sessions[to - 1].last)
    }
    guard !isOver(joined) else { return isLate() }
    joined.bits = from < to ? sessions[from].bits : initial()
    for session in sessions[from..<to].dropFirst() {
      merge(session.bits, &joined.bits)
      cells.codec?.release(session.bits)
    }
    add(&joined.bits)
    let number = table.changeEntry(key, hash) { UInt64(self.cells.make()) }
    let cell = Int(table.bits(of: number))
    cells.list[cell].entry = number
    cells.list[cell].sessions.replaceSubrange(from..<to, with: CollectionOfOne(joined))
    if isClosed(joined), isHandedOnClose, !again.contains(where: { $0 == (cell, joined.first) }) {
      again.append((cell, joined.first))
    }
    arm(cell)
    return true
  }

  private func isLate() -> Bool {
    lateCount += 1
    return false
  }

  /// No value in time can join it any more.
  private func isClosed(_ session: Stretch) -> Bool { watermark > session.last.adding(gap) }
  /// No value at all can join it any more.
  private func isOver(_ session: Stretch) -> Bool { watermark > session.last.adding(gap).adding(lateness) }

  /// When the first of the cell's sessions closes or goes.
  private func due(_ cell: Int) -> Int64 {
    cells.list[cell].sessions.reduce(.max) { earliest, session in
      let end = session.last.adding(gap)
      return min(earliest, isClosed(session) ? end.adding(lateness) : end)
    }
  }

  /// Sees to it that the heap knows when the cell is due.
  private func arm(_ cell: Int) {
    let due = due(cell)
    guard due < cells.list[cell].due else { return }
    cells.list[cell].due = due
    heap.push(Due(time: due, cell: cell))
  }

  // MARK: Handing on

  /// Hands each session to `body` that was handed on before and was changed by late values.
  @usableFromInline
  func takeAgain(_ body: (UnsafeRawBufferPointer, Window, UInt64) -> Void) {
    guard !again.isEmpty else { return }
    let taken = again
    again = []
    for (cell, first) in taken {
      // It may have grown to the front meanwhile, and is there under its new first time; or to the end, and will close again.
      guard let session = cells.list[cell].sessions.first(where: { $0.first == first }), isClosed(session) else {
        continue
      }
      body(table.key(of: cells.list[cell].entry), window(session), session.bits)
    }
  }

  /// Event time has come to `time`: hands on what closes, and forgets what is over.
  @usableFromInline
  func advance(to time: Timestamp, _ body: (UnsafeRawBufferPointer, Window, UInt64) -> Void) {
    let before = watermark
    guard time.milliseconds > before else { return }
    // Before event time moves on, so that what closes by that comes up.
    table.fetchDue(time.milliseconds - 1)
    // What changed in this step and is over by now is not found at the step's end.
    watermark = time.milliseconds
    isWatermarkChanged = true
    while let next = heap.first, next.time < watermark {
      heap.popFirst()
      guard cells.list[next.cell].due == next.time else { continue }
      cells.list[next.cell].due = .max
      let number = cells.list[next.cell].entry
      let key = table.key(of: number)
      for session in cells.list[next.cell].sessions where isClosed(session) {
        let wasClosed = before > session.last.adding(gap)
        if isHandedOnClose ? !wasClosed : isOver(session) && table.isChanged(number) {
          body(key, window(session), session.bits)
        }
      }
      if cells.list[next.cell].sessions.contains(where: isOver) {
        for session in cells.list[next.cell].sessions where isOver(session) { cells.codec?.release(session.bits) }
        cells.list[next.cell].sessions.removeAll(where: isOver)
        if cells.list[next.cell].sessions.isEmpty {
          table.remove(key)
          continue
        }
        table.noteChange(number)
      }
      arm(next.cell)
    }
    guard let earlyInterval, let now = watermark.multiple(of: earlyInterval, behind: before) else { return }
    table.forEachEntry { number, bits in
      for session in cells.list[Int(bits)].sessions where !isClosed(session) && session.first < now {
        body(table.key(of: number), window(session), session.bits)
      }
    }
  }

  /// Hands on the sessions of the keys that this step changed, when they are handed on with each step.
  @usableFromInline
  func takeUpdates(_ body: (UnsafeRawBufferPointer, Window, UInt64) -> Void) {
    guard !isHandedOnClose else { return }
    table.forEachChange { key, bits in
      guard let bits else { return }
      for session in cells.list[Int(bits)].sessions { body(key, window(session), session.bits) }
    }
  }

  /// From the first value until the gap behind the last one.
  private func window(_ session: Stretch) -> Window {
    Window(
      start: Timestamp(milliseconds: session.first), end: Timestamp(milliseconds: session.last.adding(gap)))
  }
}

extension SessionStore: OperatorState {
  var ownKind: UInt8? { StateRecordKind.keyedValue }
  var count: Int { table.count }
  var stateBytes: Int { table.stateBytes }
  var changedCount: Int { table.changedCount + (isWatermarkChanged ? 1 : 0) }
  var changedSize: Int { 2 * table.changedSize + 64 }
  /// Sessions that are handed on before they close are looked through each time.
  func allowSpilling(into memory: StateMemory) {
    guard earlyInterval == nil else { return }
    table.allowSpilling(
      into: memory,
      owner: SpillOwner(
        due: { [unowned self] in due(Int(table.bits(of: $0))) }, cameBack: { [unowned self] in cameBack($0) }))
  }
  var memorySize: Int { table.memorySize }
  var fileSize: Int { table.fileSize }
  func spill(_ size: Int) throws(JobError) -> Int { again.isEmpty ? try table.spill(size) : 0 }

  func writeChanges(into writer: inout StateLogWriter) {
    if isWatermarkChanged { writeWatermark(into: &writer) }
    table.writeChanges(into: &writer)
  }

  private func writeWatermark(into writer: inout StateLogWriter) {
    let key: [UInt8] = [UInt8(operatorID >> 8), UInt8(operatorID & 0xff), StateRecordKind.keyedValue, 0]
    var value = ByteWriter(capacity: 16)
    value.int64(watermark)
    value.int64(gap)
    let bytes = value.finishJoined()
    key.withUnsafeBytes { key in bytes.withBuffer { writer.put(key: key, value: $0) } }
    isWatermarkChanged = false
    isWatermarkSwept = true
  }

  func beginRound() {
    table.beginRound()
    isWatermarkSwept = watermark == .min
  }

  func sweep(_ quota: Int, upTo size: Int, into writer: inout StateLogWriter) -> Int {
    if !isWatermarkSwept { writeWatermark(into: &writer) }
    return table.sweep(quota, upTo: size, into: &writer)
  }

  var roundIsDone: Bool { isWatermarkSwept && table.roundIsDone }

  func restore(
    _ kind: UInt8, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
  ) throws(JobError) {
    if kind == StateRecordKind.keyedValue, key.count == 0, let value, value.count == 16 {
      let found = Int64(bigEndian: value.loadUnaligned(fromByteOffset: 8, as: Int64.self))
      guard found == gap else {
        throw JobError(
          .corruptState,
          "operator \(operatorID) has sessions with a gap of \(found) ms in its state, \(gap) ms now; give it another name to "
            + "begin anew")
      }
      watermark = Int64(bigEndian: value.loadUnaligned(as: Int64.self))
      return
    }
    guard kind == StateRecordKind.encodedValue else {
      throw JobError(.corruptState, "a state record of kind \(kind) for operator \(operatorID), which has sessions")
    }
    try table.restore(key, value)
  }

  func recovered() { table.forEachEntry { number, _ in cameBack(number) } }

  private func cameBack(_ number: Int) {
    let cell = Int(table.bits(of: number))
    cells.list[cell].entry = number
    arm(cell)
  }
}
