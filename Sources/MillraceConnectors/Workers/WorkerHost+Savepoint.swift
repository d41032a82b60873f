// WorkerHost+Savepoint: a job that has no state yet begins with a savepoint's.
//
// The savepoint is first handed to the job, which refuses state that it has no operators for, then committed, in parts. A mark
// goes before the first part and another one behind the last: a state log that has the first one only is of a worker that ended
// meanwhile. No job recovers from that; a worker with a savepoint begins again, and gives up what is there.

import MillraceBase
import MillraceDataflow
import MillraceModel

extension WorkerHost {
  /// A batch with a mark: whether all of the savepoint has been committed.
  static func mark(isComplete: Bool) -> Bytes {
    var builder = RecordBatchBuilder()
    builder.append(
      Record(
        key: Bytes([0, 0, StateRecordKind.savepoint, 0]), value: Bytes([isComplete ? 1 : 0]),
        timestamp: .now))
    return builder.finish()
  }

  /// The mark in a batch: whether it says that the savepoint is complete; nil without one.
  static func mark(in batch: Bytes) throws(JobError) -> Bool? {
    var found: Bool?
    do throws(RecordBatchError) {
      let header = try RecordBatchHeader.checked(batch)
      let records = batch[RecordBatchHeader.size..<header.totalSize]
      try RecordReader.forEach(in: records.buffer, count: Int(header.recordCount)) { record in
        guard record.key.count == StateRecordKind.prefixSize, record.key[2] == StateRecordKind.savepoint else { return }
        found = record.value.first == 1
      }
      extendLifetime(records)
    } catch {
      throw JobError(.corruptState, "the state log: \(error)")
    }
    return found
  }

  /// Whether a state log holds a part of a savepoint.
  func isPartial(_ job: String, _ offsets: Range<Offset>, _ socket: WorkerSocket) throws(JobError) -> Bool {
    var isFirst = true
    var isPartial = false
    try forEachState(job, offsets, socket) { (batch) throws(JobError) in
      if let isComplete = try WorkerHost.mark(in: batch) { isPartial = !isComplete }
      // Only a log that begins with a mark can be one.
      defer { isFirst = false }
      return !isFirst || isPartial
    }
    return isPartial
  }

  /// Hands a savepoint to the job, then makes it the job's state in place of what is there below `end`.
  func begin(
    with path: String, job: String, epoch: Int64, end: Offset, _ socket: WorkerSocket,
    _ body: (Bytes) throws(JobError) -> Void
  ) throws(JobError) {
    let savepoint = try SavepointReader(path: path)
    try savepoint.forEachBatch { (batch, _) throws(JobError) in try body(batch) }
    var pending = [WorkerHost.mark(isComplete: false)]
    var size = 0
    var start: Offset? = end > 0 ? end : nil
    func commit() throws(JobError) {
      let part = StepCommit(job: job, epoch: epoch, outputs: [], state: pending, stateLogStart: start)
      let given = try answer(to: socket.send(.commit(part)), socket, patience: nil)
      guard case .committed = given else { throw WorkerSocket.unexpected(given) }
      pending = []
      size = 0
      start = nil
    }
    try savepoint.forEachBatch { (batch, _) throws(JobError) in
      if size > 0, size + batch.count > largestCommit / 4 { try commit() }
      pending.append(batch)
      size += batch.count
    }
    pending.append(WorkerHost.mark(isComplete: true))
    try commit()
  }
}
