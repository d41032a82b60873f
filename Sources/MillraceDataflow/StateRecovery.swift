// StateRecovery: reads a job's state log back into its operators and positions.

import MillraceBase
import MillraceModel

/// What a job's state log held beside the keyed state.
struct StateRecovery {
  /// The new run.
  let epoch: Int64
  /// Input positions by name.
  let positions: [[UInt8]: Bytes]

  /// Opens the job, calls `relieve` between batches, and fills `states`, those of each worker with the records of its keys, and all with what is for all.
  /// - Throws: `.corruptState` when a record cannot be understood or belongs to an operator the job does not have.
  static func recover(
    job: String, host: any JobHost, states: [[any OperatorState]], relieve: () throws(JobError) -> Void
  ) throws(JobError) -> StateRecovery {
    var positions: [[UInt8]: Bytes] = [:]
    var isPartial = false
    let byOperator = states.map { Dictionary(uniqueKeysWithValues: $0.map { ($0.operatorID, $0) }) }
    let epoch = try host.open(job: job) { (batch: Bytes) throws(JobError) in
      try apply(batch, job: job, byOperator, &positions, &isPartial)
      try relieve()
    }
    guard !isPartial else {
      throw JobError(
        .corruptState, "\"\(job)\" was to begin with a savepoint, of which only a part is there: begin with it again")
    }
    return StateRecovery(epoch: epoch, positions: positions)
  }

  private static func apply(
    _ batch: Bytes, job: String, _ states: [[UInt16: any OperatorState]], _ positions: inout [[UInt8]: Bytes],
    _ isPartial: inout Bool
  ) throws(JobError) {
    var failure: JobError?
    do throws(RecordBatchError) {
      let header = try RecordBatchHeader.checked(batch)
      guard header.codec == CompressionCodec.none else {
        throw RecordBatchError(.unsupportedCodec, "state batches are not compressed")
      }
      let records = batch[RecordBatchHeader.size..<header.totalSize]
      try RecordReader.forEach(in: records.buffer, count: Int(header.recordCount)) { record in
        guard failure == nil else { return }
        do throws(JobError) {
          try apply(record, states, &positions, &isPartial)
        } catch {
          failure = error
        }
      }
      if failure == nil { failure = restoreRest(states) }
      extendLifetime(records)
    } catch {
      throw JobError(.corruptState, "state log of \"\(job)\": \(error)")
    }
    if let failure { throw failure }
  }

  /// Has all states take over what they noted of a batch.
  private static func restoreRest(_ states: [[UInt16: any OperatorState]]) -> JobError? {
    do throws(JobError) {
      for worker in states { for state in worker.values { try state.restoreRest() } }
      return nil
    } catch {
      return error
    }
  }

  private static func apply(
    _ record: RawRecord, _ states: [[UInt16: any OperatorState]], _ positions: inout [[UInt8]: Bytes],
    _ isPartial: inout Bool
  ) throws(JobError) {
    guard record.key.count >= StateRecordKind.prefixSize else {
      throw JobError(.corruptState, "a state record with a key of \(record.key.count) bytes")
    }
    let id = UInt16(record.key[0]) << 8 | UInt16(record.key[1])
    let key = UnsafeRawBufferPointer(rebasing: record.key[StateRecordKind.prefixSize...])
    let value = record.value.baseAddress == nil ? nil : record.value
    switch record.key[2] {
    case StateRecordKind.position:
      positions[Array(key)] = value.map { Bytes(copying: $0) }
    case StateRecordKind.savepoint: isPartial = value?.first == 0
    case let kind:
      guard let first = states[0][id] else {
        throw JobError(.corruptState, "state of operator \(id), which the job does not have")
      }
      // What an operator keeps for itself is for all workers; the end of a slice is that of everyone's keys in it.
      guard !key.isEmpty || kind != first.ownKind, kind != StateRecordKind.sliceEnd, !first.isShared else {
        for state in states { try state[id]?.restore(kind, key, value) }
        return
      }
      let worker = KeyGroup.worker(of: record.key[3], among: states.count)
      try states[worker][id]?.restore(kind, key, value)
    }
  }
}
