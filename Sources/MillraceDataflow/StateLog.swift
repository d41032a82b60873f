// StateLog: the format of a job's state log: absolute upserts and deletions, never deltas.
//
// The state log is a partition log of record batches. A record's key:
//
//   byte  field        type
//   0     operator id  uint16, big endian; 0 is the runtime itself
//   2     kind         uint8   0 input position, 1 keyed value, 2 keyed value in a slice of time, 3 end of a slice,
//                              4 keyed value of an encoding of its own, 5 element of a key,
//                              6 what a participant's commits remember
//   3     key group    uint8   of the key that follows (0 for positions and ends of slices)
//   4     slice        int64, big endian: its first ms; kinds 2 and 3 only
//   4     key length   uint32, big endian; kind 5 only
//   …     key bytes
//   …     element      what tells it from others of its key; kind 5 only
//
// A record's value is the whole new value (a keyed value: 64 bits, big endian), or null when the key is gone. The end of a
// slice has none: all its keys are gone.
//
// Invariants:
// 1. Reading the log from its start offset and keeping the last record of each key, and of a slice those behind its end,
//    gives exactly the state and the input positions of the last commit.
// 2. The start offset is the base of a commit at which a sweep round began (see SweepRounds): every key alive at the
//    round's end has a record between the two.

import MillraceBase
import MillraceModel

/// What a record of the state log is about.
public enum StateRecordKind {
  /// The position of an input; operator id 0.
  public static let position: UInt8 = 0
  /// The value of a key in an operator.
  public static let keyedValue: UInt8 = 1
  /// The value of a key in a slice of time of an operator.
  public static let sliceValue: UInt8 = 2
  /// The value of a key in an operator, in an encoding that the operator knows.
  public static let encodedValue: UInt8 = 4
  /// One of any number of elements that a key has in an operator.
  public static let element: UInt8 = 5
  /// A key of a ``StepParticipant``.
  public static let participant: UInt8 = 6
  /// All values of a slice are gone.
  public static let sliceEnd: UInt8 = 3
  /// A mark that is no state: its value is 0 where a savepoint that the job begins with begins, and 1 where it ends.
  public static let savepoint: UInt8 = 255
  /// Bytes before the key.
  public static let prefixSize = 4
}

/// Collects a step's state records into batches.
public struct StateLogWriter {
  /// A batch is closed once it has this many bytes.
  public static let batchSize = 512 * 1024

  private var builder = RecordBatchBuilder()
  private var batches: [Bytes] = []
  private var closedSize = 0
  /// Time given to the records.
  private let timestamp: Timestamp
  /// Records written.
  public private(set) var count = 0

  /// Bytes of all batches so far.
  var size: Int { closedSize + builder.size }

  /// Nothing written yet.
  public init(timestamp: Timestamp) { self.timestamp = timestamp }

  /// Writes the whole value of a key, or nil when the key is gone. `key` starts with the four bytes of the format.
  public mutating func put(key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer?) {
    put(head: UnsafeRawBufferPointer(start: nil, count: 0), key: key, value: value)
  }

  /// The same for a key in two parts.
  mutating func put(head: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer?) {
    builder.append(head: head, key: key, value: value, timestamp: timestamp)
    count += 1
    if builder.size >= StateLogWriter.batchSize { close() }
  }

  /// Writes a 64-bit value.
  mutating func put(key: UnsafeRawBufferPointer, bits: UInt64) {
    put(head: UnsafeRawBufferPointer(start: nil, count: 0), key: key, bits: bits)
  }

  /// The same for a key in two parts.
  mutating func put(head: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer, bits: UInt64) {
    withUnsafeBytes(of: bits.bigEndian) { put(head: head, key: key, value: $0) }
  }

  /// Writes that a slice of an operator is over.
  mutating func put(endOfSlice start: Int64, of operatorID: UInt16) {
    var key: [UInt8] = [UInt8(operatorID >> 8), UInt8(operatorID & 0xff), StateRecordKind.sliceEnd, 0]
    withUnsafeBytes(of: start.bigEndian) { key += $0 }
    key.withUnsafeBytes { put(key: $0, value: nil) }
  }

  /// Writes an input position under `name`.
  mutating func put(position: Bytes, of name: [UInt8]) {
    let key: [UInt8] = [0, 0, StateRecordKind.position, 0] + name
    key.withUnsafeBytes { key in position.withBuffer { put(key: key, value: $0) } }
  }

  /// Closes the batch that is being filled, if there is one.
  mutating func close() {
    guard builder.count > 0 else { return }
    let bytes = builder.finish()
    closedSize += bytes.count
    batches.append(bytes)
  }

  /// The batches; the writer is done with.
  public consuming func finish() -> [Bytes] {
    close()
    return batches
  }
}
