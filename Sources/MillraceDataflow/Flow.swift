// Flow: the shape of an operator: values go down through nested, statically known calls, once per step.
//
// A step is: for every batch of the input `process` of every pipeline and, in jobs with event time, `advance`; then `endStep`
// once. Operators without state hand on in `process`; keyed state changes in `process` and hands on in `endStep`, once per
// changed key; windows hand on in `advance`, when event time has passed their ends. So what windows give does not depend on
// how batches were gathered into steps.
//
// Every value travels with its event time. A record's is the record's own; operators that make values of values keep it.

import MillraceBase
import MillraceModel

/// An operator and all that lies before it, fused by specialisation: every type is known, so nothing is boxed.
///
/// Until ``bound(to:)`` a flow is only a description and may be shared; the bound copy belongs to one run of a job.
public protocol Flow<Output>: Sendable {
  /// What the operator hands on.
  associatedtype Output

  /// A copy with its own state, registered with the job.
  /// - Throws: `.invalidJob`, for example when two operators have one name.
  func bound(to graph: inout JobGraph) throws(JobError) -> Self

  /// Runs over one batch of records and hands what results, with its event time, to `body`.
  /// - Throws: `.corruptInput` when the records cannot be decoded.
  func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError)

  /// Hands on what was held back until event time had come this far. Called after each batch, and when event time moved
  /// without one: in jobs where an operator asked for it (``JobGraph/needEventTime()``), in others never.
  /// An operator that hands on values here stands behind an ``Exchange``, as those with keyed state do.
  /// - Returns: the watermark behind the operator: values with an earlier time are late from now on. It never falls.
  func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp

  /// Hands on what was held back until the step's whole input was seen.
  func endStep(_ body: (Output, Timestamp) -> Void)
}

/// The records of one batch, decompressed, on their way through a job.
public struct InputRun {
  /// Which of the job's inputs.
  public var input: Int
  /// Partition of the topic, 0 for other sources.
  public var partition: Int32
  /// The records part. Valid during the step only.
  public var records: UnsafeRawBufferPointer
  /// Header of the batch.
  public var header: RecordBatchHeader
  /// Records with a lower offset were processed before.
  public var firstOffset: Offset
  /// Its number among the batches that the workers of a job run in one round.
  public internal(set) var number = 0
  /// Whether the worker decodes it; another one does otherwise, and `records` are empty.
  public internal(set) var isOwn = true
  /// The number of the shared flow that hands one value on, which alone is meant (see ``Shared``); −1 for the records.
  @usableFromInline var sharedFlow: Int32 = -1

  /// Records of the batch with `header`.
  public init(
    input: Int, partition: Int32, records: UnsafeRawBufferPointer, header: RecordBatchHeader, firstOffset: Offset
  ) {
    self.input = input
    self.partition = partition
    self.records = records
    self.header = header
    self.firstOffset = firstOffset
  }
}

/// A record as an operator sees it. Its bytes are valid only inside the call that receives it.
public struct InputRecord {
  /// The key; `baseAddress` is nil for a null key.
  public let keyBuffer: UnsafeRawBufferPointer
  /// The value; `baseAddress` is nil for a tombstone.
  public let valueBuffer: UnsafeRawBufferPointer
  /// Time in ms.
  public let timestamp: Timestamp
  /// Position in the partition.
  public let offset: Offset
  /// The headers, as they are encoded.
  @usableFromInline let headersBuffer: UnsafeRawBufferPointer

  @inlinable
  init(
    key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, headers: UnsafeRawBufferPointer, timestamp: Timestamp,
    offset: Offset
  ) {
    keyBuffer = key
    valueBuffer = value
    headersBuffer = headers
    self.timestamp = timestamp
    self.offset = offset
  }

  /// The headers, copied; none when their bytes are damaged.
  /// - Complexity: O(bytes), with allocation.
  public var headers: [RecordHeader] { RecordReader.headers(headersBuffer) ?? [] }

  /// The key, empty when null.
  @inlinable public var key: BorrowedBytes { BorrowedBytes(keyBuffer) }
  /// The value, empty when null.
  @inlinable public var value: BorrowedBytes { BorrowedBytes(valueBuffer) }
}
