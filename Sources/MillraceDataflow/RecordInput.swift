// RecordInput: the operator at the head of every flow: the records of one input of the job.

import MillraceBase
import MillraceModel

/// Hands on every record of an input, in the order of its partition.
///
///     RecordInput(.topic("lines"))
public struct RecordInput: Flow {
  @usableFromInline let input: JobInput
  @usableFromInline let index: Int
  @usableFromInline let clock: EventClock?
  @usableFromInline let current: CurrentRecord?

  /// The records of `input`.
  public init(_ input: JobInput) {
    self.input = input
    index = -1
    clock = nil
    current = nil
  }

  private init(_ input: JobInput, index: Int, clock: EventClock, current: CurrentRecord) {
    self.input = input
    self.index = index
    self.clock = clock
    self.current = current
  }

  /// Registers the input.
  public func bound(to graph: inout JobGraph) throws(JobError) -> RecordInput {
    let index = graph.addInput(input)
    return RecordInput(input, index: index, clock: try graph.inputClock(index), current: graph.current)
  }

  /// Decodes the batch when it is this input's.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (InputRecord, Timestamp) -> Void) throws(JobError) {
    guard run.input == index, run.isOwn, run.sharedFlow < 0 else { return }
    let base = run.header.baseOffset
    let first = run.firstOffset
    let broker = run.header.hasLogAppendTime
    let time = broker ? run.header.maxTimestamp.milliseconds : run.header.baseTimestamp.milliseconds
    // Noted only where an operator wants to know.
    let current = current?.begin(run)
    defer { current?.end() }
    do throws(RecordBatchError) {
      try RecordReader.forEach(in: run.records, count: Int(run.header.recordCount)) { record in
        let offset = base &+ Int64(record.offsetDelta)
        if offset < first { return }
        let at = Timestamp(milliseconds: broker ? time : time &+ record.timestampDelta)
        let input = InputRecord(
          key: record.key, value: record.value, headers: record.headers, timestamp: at, offset: offset)
        if let current { current.record = input }
        body(input, at)
      }
    } catch {
      throw JobError(.corruptInput, "partition \(run.partition) at offset \(base): \(error)")
    }
  }

  /// Holds nothing back. The watermark is that of the records' own times.
  public func advance(_ body: (InputRecord, Timestamp) -> Void) -> Timestamp {
    guard let clock else { preconditionFailure("the input is not bound to a job") }
    return clock.watermark
  }

  /// Holds nothing back.
  @inlinable
  public func endStep(_ body: (InputRecord, Timestamp) -> Void) {}
}
