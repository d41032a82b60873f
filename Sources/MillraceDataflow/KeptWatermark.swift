// KeptWatermark: how far event time has come for an operator, as part of its state.
//
// In the state log it is a record without a key, of a kind that the operator's keys do not have: int64, big endian. A run
// that recovers judges by it what is late as the run before it did.

import MillraceBase

/// A watermark and whether it has to be written.
struct KeptWatermark {
  let operatorID: UInt16
  let kind: UInt8
  /// How far event time has come; `Int64.min` before anything is known.
  private(set) var time = Int64.min
  private(set) var isChanged = false
  private(set) var isSwept = true

  /// - Parameter kind: of the record; another one than that of the operator's keys.
  init(operatorID: UInt16, kind: UInt8) {
    self.operatorID = operatorID
    self.kind = kind
  }

  /// Event time has come to `time`.
  /// - Returns: whether it moved.
  mutating func advance(to time: Timestamp) -> Bool {
    guard time.milliseconds > self.time else { return false }
    self.time = time.milliseconds
    isChanged = true
    return true
  }

  mutating func writeChanges(into writer: inout StateLogWriter) {
    if isChanged { write(into: &writer) }
  }

  mutating func beginRound() { isSwept = time == .min }

  /// - Returns: how many records were written.
  mutating func sweep(into writer: inout StateLogWriter) -> Int {
    guard !isSwept else { return 0 }
    write(into: &writer)
    return 1
  }

  private mutating func write(into writer: inout StateLogWriter) {
    let key: [UInt8] = [UInt8(operatorID >> 8), UInt8(operatorID & 0xff), kind, 0]
    key.withUnsafeBytes { writer.put(key: $0, bits: time.stateBits) }
    isChanged = false
    isSwept = true
  }

  /// Takes a record over when it is the watermark's.
  /// - Throws: `.corruptState` when it is not 64 bits long.
  mutating func restore(
    _ kind: UInt8, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
  ) throws(JobError) -> Bool {
    guard kind == self.kind, key.count == 0 else { return false }
    guard let value, value.count == 8 else {
      throw JobError(.corruptState, "operator \(operatorID): a watermark of \(value?.count ?? 0) bytes, 8 are expected")
    }
    time = Int64(bigEndian: value.loadUnaligned(as: Int64.self))
    return true
  }
}
