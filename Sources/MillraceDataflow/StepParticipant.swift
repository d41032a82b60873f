// StepParticipant: what takes part in a job's commits beside the log, such as a sink that writes files.
//
// A step that is made is not committed yet, and may never be. So a participant does its work in two halves:
//
//   prepare    before the commit is handed over: makes durable, where nobody sees it, what the step led to, and says what the
//              commit is to remember of it
//   committed  once that commit is durable: makes it visible
//   recover    at the start of a run, with what the last durable commit remembers: does what `committed` may not have come
//              to, and takes away what no commit remembers
//
// Between `prepare` and `committed` of one commit there may be `prepare` of later ones; both come in the order of the
// commits.

import MillraceBase

/// Takes part in a job's commits. Called by the thread that makes the job's steps.
public protocol StepParticipant: AnyObject {
  /// Begins a run, before its first step.
  /// - Parameters:
  ///   - entries: what commits remember: the last value of each key.
  ///   - epoch: the run, higher than all before it, which are fenced but may not have noticed yet.
  /// - Throws: ends the run.
  func recover(_ entries: [String: Bytes], epoch: Int64) throws(JobError)

  /// Ends a step, whose commit is handed over next.
  /// - Returns: what the commit is to remember: new values of keys, nil for keys that are to be forgotten.
  /// - Throws: ends the run; the step is not committed.
  func prepare(commit: UInt64) throws(JobError) -> [(key: String, value: Bytes?)]

  /// The commit is durable.
  /// - Throws: ends the run; the commit stays.
  func committed(_ commit: UInt64) throws(JobError)

  /// Whether a step is to be made though there is no input: the participant has something to bring to an end.
  /// - Parameter isFinished: all inputs have ended.
  func wantsStep(isFinished: Bool) -> Bool
}

/// What a participant's commits remember: a few keys with values of any size. All of it is written again in each sweep
/// round.
///
///   key behind the four bytes of operator, kind 6 and key group 0: UTF-8     value: the participant's
final class ParticipantState: OperatorState {
  let operatorID: UInt16
  let participant: any StepParticipant
  private var entries: [String: Bytes] = [:]
  private var changed: [String: Bytes?] = [:]
  /// Keys that are still to be written in this sweep round.
  private var unswept: Set<String> = []

  init(operatorID: UInt16, participant: any StepParticipant) {
    self.operatorID = operatorID
    self.participant = participant
  }

  var count: Int { entries.count }
  var stateBytes: Int {
    entries.reduce(0) { $0 + StateRecordKind.prefixSize + $1.key.utf8.count + $1.value.count }
  }
  var changedCount: Int { changed.count }
  var changedSize: Int { changed.reduce(0) { $0 + $1.key.utf8.count + ($1.value?.count ?? 0) + 16 } }
  var roundIsDone: Bool { unswept.isEmpty }

  /// Begins the participant's run.
  func recover(epoch: Int64) throws(JobError) { try participant.recover(entries, epoch: epoch) }

  /// The commit is durable.
  func committed(_ commit: UInt64) throws(JobError) { try participant.committed(commit) }

  /// Whether a step is to be made without input.
  func wantsStep(isFinished: Bool) -> Bool { participant.wantsStep(isFinished: isFinished) }

  /// Ends a step of the participant.
  func prepare(commit: UInt64) throws(JobError) {
    for (key, value) in try participant.prepare(commit: commit) {
      entries[key] = value
      changed[key] = .some(value)
    }
  }

  func writeChanges(into writer: inout StateLogWriter) {
    for (key, value) in changed {
      put(key, value, into: &writer)
      unswept.remove(key)
    }
    changed.removeAll()
  }

  func beginRound() { unswept = Set(entries.keys) }

  func sweep(_ quota: Int, upTo size: Int, into writer: inout StateLogWriter) -> Int {
    var written = 0
    while written < quota, writer.size < size, let key = unswept.popFirst() {
      guard let value = entries[key] else { continue }
      put(key, value, into: &writer)
      written += 1
    }
    return written
  }

  private func put(_ key: String, _ value: Bytes?, into writer: inout StateLogWriter) {
    let key = [UInt8(operatorID >> 8), UInt8(operatorID & 0xff), StateRecordKind.participant, 0] + Array(key.utf8)
    key.withUnsafeBytes { key in
      if let value { value.withBuffer { writer.put(key: key, value: $0) } } else { writer.put(key: key, value: nil) }
    }
  }

  func restore(
    _ kind: UInt8, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
  ) throws(JobError) {
    guard kind == StateRecordKind.participant, let name = String(validating: key, as: UTF8.self) else {
      throw JobError(.corruptState, "a state record of kind \(kind) for operator \(operatorID), a participant")
    }
    entries[name] = value.map { Bytes(copying: $0) }
  }
}

extension JobGraph {
  /// Registers what takes part in commits: one for all workers of a job.
  ///
  /// - Parameters:
  ///   - kind: of the operator; for this and `name` see ``addTable(kind:name:codec:)``.
  ///   - make: makes it. Several workers may hand values to it at the same time; all else comes from the executor's thread, while none
  ///     of them does.
  /// - Throws: `.invalidJob`.
  public mutating func addParticipant<Participant: StepParticipant & Sendable>(
    kind: String, name: String?, _ make: () -> Participant
  ) throws(JobError) -> Participant {
    let participant = shared(make)
    // The first worker has key group 0, of which its records are.
    if worker == 0 {
      participants.append(
        try addState(kind: kind, name: name) { ParticipantState(operatorID: $0, participant: participant) })
    }
    return participant
  }
}
