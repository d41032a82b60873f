// OperatorState: what the runtime asks of an operator's state, whatever its shape.

import MillraceBase
import MillraceModel

/// State of one operator that is kept in the job's state log.
protocol OperatorState: AnyObject {
  /// Stands in the state log before every key.
  var operatorID: UInt16 { get }
  /// Keys that hold a value.
  var count: Int { get }
  /// About the bytes that these keys and their values have in the state log.
  var stateBytes: Int { get }
  /// Keys changed since the changes were last written.
  var changedCount: Int { get }
  /// About the bytes that the changes will take, once in the state log and once in what is handed on.
  var changedSize: Int { get }
  /// Writes every change since the last call, and forgets that they are changes.
  func writeChanges(into writer: inout StateLogWriter)
  /// Begins a sweep round: from now on every key must be written once more, by a change or by the sweep.
  func beginRound()
  /// Writes up to `quota` keys again that were not written in this round yet, unless the state records take `size` bytes.
  /// - Returns: how many.
  func sweep(_ quota: Int, upTo size: Int, into writer: inout StateLogWriter) -> Int
  /// Whether every key was written in this round.
  var roundIsDone: Bool { get }
  /// Takes over a record of the state log: what it is about, its key without the four bytes before it, its value.
  /// - Throws: `.corruptState`.
  func restore(
    _ kind: UInt8, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
  ) throws(JobError)
  /// The memory of the records so far is given back: takes over what ``restore(_:_:_:)`` only noted.
  /// - Throws: `.corruptState`.
  func restoreRest() throws(JobError)
  /// Everything in the state log was taken over.
  func recovered()
  /// From now on what did not change in a step may go into files, when memory is short.
  func allowSpilling(into memory: StateMemory)
  /// About the bytes of memory that may be given back, and what it takes to find what is in files.
  var memorySize: Int { get }
  /// Bytes of files with state.
  var fileSize: Int { get }
  /// Puts what takes about `size` bytes of memory into a file, or less. The changes must have been written before.
  /// - Returns: about the bytes that were given back; 0 when nothing may go.
  /// - Throws: `.stateFileFailed`; nothing has gone then.
  func spill(_ size: Int) throws(JobError) -> Int
  /// All workers of a job have the same: its records are for all of them, and one of them writes it.
  var isShared: Bool { get }
  /// Something may be handed on or given up when event time moves.
  var waitsForTime: Bool { get }
  /// The kind of the record without a key that the operator keeps for itself, on every worker, when it has one. Of every other kind
  /// no key is one key among others.
  var ownKind: UInt8? { get }
}

extension OperatorState {
  func restoreRest() throws(JobError) {}
  func recovered() {}
  func allowSpilling(into memory: StateMemory) {}
  var memorySize: Int { 0 }
  var fileSize: Int { 0 }
  func spill(_ size: Int) throws(JobError) -> Int { 0 }
  var isShared: Bool { false }
  var waitsForTime: Bool { count > 0 }
  var ownKind: UInt8? { nil }
}

/// Turns the 64 bits of a keyed table's entries, which then say where the values are, into what stands in the state log.
public protocol StateCodec: AnyObject {
  /// Writes the value that `bits` stand for.
  func write(_ bits: UInt64, into writer: inout ByteWriter)
  /// Keeps a value.
  /// - Returns: the bits that stand for it.
  /// - Throws: `.corruptState`.
  func read(_ value: UnsafeRawBufferPointer) throws(JobError) -> UInt64
  /// The value is not needed any more.
  func release(_ bits: UInt64)
}

/// A codec whose bits are addresses of objects.
protocol PlaceCodec: StateCodec {}

extension KeyedTable: OperatorState {
  func allowSpilling(into memory: StateMemory) {
    // What all workers have is little.
    if !isShared { allowSpilling(into: memory, owner: SpillOwner()) }
  }
  var waitsForTime: Bool { false }
  func restore(
    _ kind: UInt8, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
  ) throws(JobError) {
    guard kind == self.kind else {
      throw JobError(.corruptState, "a state record of kind \(kind) for operator \(operatorID), which has keyed values")
    }
    try restoreLater(key, value)
  }
}
