// SliceStore: keyed state by slices of time: a table for each slice that holds something.
//
// In the state log a key's record names its slice; that a slice is over is one record, whatever the number of its keys. A
// record of the operator itself (kind 1, no key) says how far event time has come, how long its slices are, and where one of
// them begins: three int64, big endian. So a run that recovers judges what is late, and which windows have
// been handed on, as the run before it did.

import MillraceBase
import MillraceModel

/// Keyed state of one operator, by slices of time.
///
/// Safety: `@unchecked Sendable` because it is handed to the job's worker thread once and used there only.
public final class SliceStore: @unchecked Sendable {
  let operatorID: UInt16
  /// First ms of each slice that is there, rising.
  private(set) var starts: [Int64] = []
  private var tables: [KeyedTable] = []
  /// How far event time has come for the operator.
  var watermark = Int64.min { didSet { isWatermarkChanged = true } }
  private var isWatermarkChanged = false
  private var isWatermarkSwept = true
  /// Slices that ended since the changes were last written.
  private var ended: [Int64] = []
  /// The sweep goes through the slices by their starts: it is behind this one.
  private var sweptBelow = Int64.min
  /// The last slice that was asked for.
  private var lastStart = Int64.min
  private var lastTable: KeyedTable?

  /// Length of a slice, and the first ms of one of them, less than that. With a length below 0, which stands for the unit of a
  /// calendar, the other stands for its zone, and slices begin anywhere: zones change their rules.
  private let length: Int64
  private let phase: Int64

  /// What the state may take; nil for no limit.
  private var memory: StateMemory?
  /// Of values that take more than 64 bits.
  private let codec: (any StateCodec)?

  init(operatorID: UInt16, length: Int64, phase: Int64, codec: (any StateCodec)? = nil) {
    self.operatorID = operatorID
    self.codec = codec
    self.length = length
    self.phase = phase
  }

  /// The slice that begins at `start`, made when it is not there.
  @usableFromInline
  func table(_ start: Int64) -> KeyedTable {
    if start == lastStart, let lastTable { return lastTable }
    let index = starts.partitioningIndex(below: start)
    if index == starts.count || starts[index] != start {
      starts.insert(start, at: index)
      tables.insert(newTable(start), at: index)
    }
    lastStart = start
    lastTable = tables[index]
    return tables[index]
  }

  private func newTable(_ start: Int64) -> KeyedTable {
    let table = KeyedTable(
      operatorID: operatorID, kind: StateRecordKind.sliceValue,
      scope: withUnsafeBytes(of: start.bigEndian) { Array($0) }, codec: codec)
    if let memory { table.allowSpilling(into: memory) }
    return table
  }

  /// The slices that begin in `range`, in order.
  func slices(in range: Range<Int64>) -> ArraySlice<KeyedTable> {
    tables[starts.partitioningIndex(below: range.lowerBound)..<starts.partitioningIndex(below: range.upperBound)]
  }

  /// Takes away the first slice.
  func removeFirst() {
    ended.append(starts.removeFirst())
    tables.removeFirst()
    lastTable = nil
    lastStart = .min
  }

  /// Calls `body` with the start of each slice that changed in this step, and the slice.
  @usableFromInline
  func forEachChanged(_ body: (Int64, KeyedTable) -> Void) {
    for index in tables.indices where tables[index].changedCount > 0 { body(starts[index], tables[index]) }
  }
}

extension SliceStore: OperatorState {
  var ownKind: UInt8? { StateRecordKind.keyedValue }
  var count: Int { tables.reduce(0) { $0 + $1.count } }
  var stateBytes: Int {
    // Of many slices, a few say how large an entry is.
    let step = max(1, tables.count / 16)
    let seen = stride(from: 0, to: tables.count, by: step).reduce(into: (count: 0, bytes: 0)) {
      $0.count += tables[$1].count
      $0.bytes += tables[$1].stateBytes
    }
    return step == 1 || seen.count == 0 ? seen.bytes : seen.bytes * count / seen.count
  }
  var changedCount: Int { tables.reduce(ended.count + (isWatermarkChanged ? 1 : 0)) { $0 + $1.changedCount } }
  var changedSize: Int { tables.reduce(32 * (ended.count + 1)) { $0 + $1.changedSize } }
  func allowSpilling(into memory: StateMemory) {
    self.memory = memory
    for table in tables { table.allowSpilling(into: memory) }
  }
  var memorySize: Int { tables.reduce(0) { $0 + $1.memorySize } }
  var fileSize: Int { tables.reduce(0) { $0 + $1.fileSize } }
  func spill(_ size: Int) throws(JobError) -> Int {
    var given = 0
    for table in tables where given < size { given += try table.spill(size - given) }
    return given
  }

  func writeChanges(into writer: inout StateLogWriter) {
    if isWatermarkChanged { writeWatermark(into: &writer) }
    for table in tables { table.writeChanges(into: &writer) }
    for start in ended { writer.put(endOfSlice: start, of: operatorID) }
    ended = []
  }

  private func writeWatermark(into writer: inout StateLogWriter) {
    let key: [UInt8] = [UInt8(operatorID >> 8), UInt8(operatorID & 0xff), StateRecordKind.keyedValue, 0]
    var value = ByteWriter(capacity: 24)
    value.int64(watermark)
    value.int64(length)
    value.int64(phase)
    let bytes = value.finishJoined()
    key.withUnsafeBytes { key in bytes.withBuffer { writer.put(key: key, value: $0) } }
    isWatermarkChanged = false
    isWatermarkSwept = true
  }

  func beginRound() {
    sweptBelow = .min
    isWatermarkSwept = false
    for table in tables { table.beginRound() }
  }

  func sweep(_ quota: Int, upTo size: Int, into writer: inout StateLogWriter) -> Int {
    var written = 0
    if !isWatermarkSwept {
      writeWatermark(into: &writer)
      written += 1
    }
    // Slices that were made meanwhile were written as they were filled.
    for index in starts.partitioningIndex(below: sweptBelow)..<starts.count {
      written += tables[index].sweep(quota - written, upTo: size, into: &writer)
      guard tables[index].roundIsDone else { break }
      sweptBelow = starts[index] + 1
    }
    return written
  }

  var roundIsDone: Bool { isWatermarkSwept && starts.partitioningIndex(below: sweptBelow) == starts.count }

  func restore(
    _ kind: UInt8, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
  ) throws(JobError) {
    if kind == StateRecordKind.keyedValue, key.count == 0, let value, value.count == 24 {
      let found = (length: value.number(8), phase: value.number(16))
      guard found == (length, phase) else {
        guard min(length, found.length) > 0 else {
          throw JobError(
            .corruptState,
            "operator \(operatorID) has other windows in its state, of another calendar or of none; give it another name to begin "
              + "anew")
        }
        throw JobError(
          .corruptState,
          "operator \(operatorID) has slices of \(found.length) ms in its state, its windows are cut into \(length) ms now"
            + " (from \(found.phase) and \(phase) ms on); give it another name to begin anew")
      }
      watermark = value.number(0)
      isWatermarkChanged = false
      return
    }
    guard kind == StateRecordKind.sliceValue || kind == StateRecordKind.sliceEnd, key.count >= 8 else {
      throw JobError(
        .corruptState,
        "a state record of kind \(kind) with \(key.count) bytes for operator \(operatorID), which has slices of time")
    }
    let start = key.number(0)
    guard start > -TimeWindows.farthest, start < TimeWindows.farthest,
      length < 0 || (start - phase).flooredRemainder(by: length) == 0
    else {
      throw JobError(
        .corruptState, "a slice of operator \(operatorID) that begins at \(start) ms, with slices of \(length) ms")
    }
    if kind == StateRecordKind.sliceValue {
      return try table(start).restore(UnsafeRawBufferPointer(rebasing: key[8...]), value)
    }
    let index = starts.partitioningIndex(below: start)
    // Its records may lie before the log's start.
    guard index < starts.count, starts[index] == start else { return }
    starts.remove(at: index)
    tables.remove(at: index)
    lastTable = nil
    lastStart = .min
  }
}

extension UnsafeRawBufferPointer {
  /// The big-endian number at `position`.
  fileprivate func number(_ position: Int) -> Int64 {
    Int64(bigEndian: loadUnaligned(fromByteOffset: position, as: Int64.self))
  }
}

extension [Int64] {
  /// The first index of a rising array whose element is not below `value`. O(log count).
  func partitioningIndex(below value: Int64) -> Int {
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      if self[middle] < value { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
