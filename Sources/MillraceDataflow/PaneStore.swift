// PaneStore: the values of each key in panes of so many values, handed on when so many have come or event time went on.
//
// A key's panes are an array in a cell, whose number is what the keyed table holds, as in SessionStore. Windows of 6 values every 4
// are cut into panes of 2 (the greatest common divisor): a value changes one pane, and a result puts 3 together.
//
// In the state log a key's value is as PaneCells.swift says. A record of the operator itself (kind 1, no key) says how far event time has
// come, and how many values are in a pane, in a window and from window to window, 0 where there is no bound: four int64, big endian.

import MillraceBase
import MillraceModel

/// Keyed state of one operator: panes.
///
/// Safety: `@unchecked Sendable` because it is handed to the job's worker thread once and used there only.
public final class PaneStore: @unchecked Sendable {
  /// What a value led to.
  @usableFromInline
  enum Taken {
    case late
    case kept
    /// A result of the cell is to be handed on.
    case due(Int)
  }

  /// A result: its key, the panes' states, and its window.
  @usableFromInline
  struct Result {
    @usableFromInline let key: UnsafeRawBufferPointer
    @usableFromInline let parts: [UInt64]
    @usableFromInline let window: Window
  }

  private let cells: PaneCells
  private let table: KeyedTable
  private let rules: PaneRules
  /// Cells with values since their last result, when event time is waited for. A cell may be there that waits no more.
  private var waiting: [Int] = []
  private var watermark = Int64.min
  private var isHeaderChanged = false
  private var isHeaderSwept = false
  /// Values with times beyond all windows.
  public private(set) var lateCount: UInt64 = 0

  /// - Parameter codec: of states that take more than 64 bits.
  init(operatorID: UInt16, rules: PaneRules, codec: (any StateCodec)?) {
    self.rules = rules
    cells = PaneCells(rules, codec)
    table = KeyedTable(operatorID: operatorID, kind: StateRecordKind.encodedValue, scope: [], codec: cells)
  }

  // MARK: Values

  /// Takes in a value of `key` at `time`, which `add` puts into the state of a pane.
  @usableFromInline
  func take(
    _ key: UnsafeRawBufferPointer, _ time: Timestamp, initial: () -> UInt64, add: (inout UInt64) -> Void
  ) -> Taken {
    let time = time.milliseconds
    guard time > -TimeWindows.farthest, time < TimeWindows.farthest else {
      lateCount += 1
      return .late
    }
    let number = table.changeEntry(key, Hashing.stable(key)) { UInt64(self.cells.make()) }
    let cell = Int(table.bits(of: number))
    cells.list[cell].entry = number
    if begins(cells.list[cell]) {
      cells.list[cell].panes.append(Stretch(first: time, last: time, bits: initial()))
    }
    let newest = cells.list[cell].panes.count - 1
    var pane = cells.list[cell].panes[newest]
    pane.first = min(pane.first, time)
    pane.last = max(pane.last, time)
    add(&pane.bits)
    cells.list[cell].panes[newest] = pane
    cells.list[cell].since += 1
    if let count = rules.count, cells.list[cell].since >= count { return .due(cell) }
    if rules.interval != nil { wait(cell) }
    return .kept
  }

  /// Whether the next value begins a pane.
  private func begins(_ cell: PaneCell) -> Bool {
    guard let values = rules.values else { return cell.panes.isEmpty }
    return cell.since % values.pane == 0
  }

  private func wait(_ cell: Int) {
    guard !cells.list[cell].isWaiting else { return }
    cells.list[cell].isWaiting = true
    waiting.append(cell)
  }

  // MARK: Handing on

  /// What a cell holds. Valid until the store is changed.
  @usableFromInline
  func result(of cell: Int) -> Result {
    let panes = cells.list[cell].panes
    let first = panes.reduce(Int64.max) { min($0, $1.first) }
    let last = panes.reduce(Int64.min) { max($0, $1.last) }
    return Result(
      key: table.key(of: cells.list[cell].entry), parts: panes.map(\.bits),
      window: Window(start: Timestamp(milliseconds: first), end: Timestamp(milliseconds: last + 1)))
  }

  /// The cell's result was handed on: forgets what no other needs.
  @usableFromInline
  func handedOn(_ cell: Int) {
    cells.list[cell].since = 0
    table.noteChange(cells.list[cell].entry)
    let over = cells.list[cell].panes.count - rules.kept
    guard over > 0 else { return }
    for pane in cells.list[cell].panes.prefix(over) { cells.codec?.release(pane.bits) }
    cells.list[cell].panes.removeFirst(over)
    if cells.list[cell].panes.isEmpty { table.remove(table.key(of: cells.list[cell].entry)) }
  }

  /// Event time has come to `time`.
  /// - Returns: cells whose results are to be handed on because of that, each with the result's time.
  @usableFromInline
  func advance(to time: Timestamp) -> [(cell: Int, time: Timestamp)] {
    let before = watermark
    guard let interval = rules.interval, time.milliseconds > before else { return [] }
    watermark = time.milliseconds
    isHeaderChanged = true
    guard let now = watermark.multiple(of: interval, behind: before) else { return [] }
    let taken = waiting
    waiting = []
    // Results are in time for what comes next: not before the first multiple that event time has passed just now.
    let earliest = before < -TimeWindows.farthest ? before : before - before.flooredRemainder(by: interval) + interval
    var due: [(cell: Int, time: Timestamp)] = []
    for cell in taken where cells.list[cell].isWaiting {
      cells.list[cell].isWaiting = false
      guard cells.list[cell].since > 0, let last = cells.list[cell].panes.map(\.last).max() else { continue }
      let own = last - last.flooredRemainder(by: interval) + interval
      due.append((cell, Timestamp(milliseconds: min(now, max(own, earliest)) - 1)))
    }
    return due
  }
}

extension PaneStore: OperatorState {
  var ownKind: UInt8? { StateRecordKind.keyedValue }
  var operatorID: UInt16 { table.operatorID }
  var count: Int { table.count }
  var stateBytes: Int { table.stateBytes }
  var changedCount: Int { table.changedCount + (isHeaderChanged ? 1 : 0) }
  var changedSize: Int { 2 * table.changedSize + 64 }
  func allowSpilling(into memory: StateMemory) {
    table.allowSpilling(
      into: memory,
      owner: SpillOwner(
        isPinned: { [unowned self] in
          rules.interval != nil && cells.list[Int(table.bits(of: $0))].since > 0
        },
        cameBack: { [unowned self] in cameBack($0) }))
  }
  var memorySize: Int { table.memorySize }
  var fileSize: Int { table.fileSize }
  func spill(_ size: Int) throws(JobError) -> Int { try table.spill(size) }

  func writeChanges(into writer: inout StateLogWriter) {
    if isHeaderChanged { writeHeader(into: &writer) }
    table.writeChanges(into: &writer)
  }

  private func writeHeader(into writer: inout StateLogWriter) {
    let key: [UInt8] = [UInt8(operatorID >> 8), UInt8(operatorID & 0xff), StateRecordKind.keyedValue, 0]
    var value = ByteWriter(capacity: 32)
    for number in [watermark] + rules.numbers { value.int64(number) }
    let bytes = value.finishJoined()
    key.withUnsafeBytes { key in bytes.withBuffer { writer.put(key: key, value: $0) } }
    isHeaderChanged = false
    isHeaderSwept = true
  }

  func beginRound() {
    table.beginRound()
    isHeaderSwept = false
  }

  func sweep(_ quota: Int, upTo size: Int, into writer: inout StateLogWriter) -> Int {
    if !isHeaderSwept { writeHeader(into: &writer) }
    return table.sweep(quota, upTo: size, into: &writer)
  }

  var roundIsDone: Bool { isHeaderSwept && table.roundIsDone }

  func restore(
    _ kind: UInt8, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
  ) throws(JobError) {
    if kind == StateRecordKind.keyedValue, key.count == 0, let value, value.count == 32 {
      let found = (0..<4).map {
        Int64(bigEndian: value.loadUnaligned(fromByteOffset: 8 * $0, as: Int64.self))
      }
      guard Array(found[1...]) == rules.numbers else {
        throw JobError(
          .corruptState,
          "operator \(operatorID) has windows of \(found[2]) values every \(found[3]) in its state, of \(rules.numbers[1]) every "
            + "\(rules.numbers[2]) now (0 for no bound); give it another name to begin anew")
      }
      watermark = found[0]
      return
    }
    guard kind == StateRecordKind.encodedValue else {
      throw JobError(
        .corruptState, "a state record of kind \(kind) for operator \(operatorID), which has windows of values")
    }
    try table.restore(key, value)
  }

  func recovered() { table.forEachEntry { number, _ in cameBack(number) } }

  private func cameBack(_ number: Int) {
    let cell = Int(table.bits(of: number))
    cells.list[cell].entry = number
    if rules.interval != nil, cells.list[cell].since > 0 { wait(cell) }
  }
}
