// ResultHost: a host for one job that reads sources; keeps its state log and what it gives in memory.

import MillraceBase
import MillraceDataflow
import MillraceModel

/// Keeps what a job commits, by reference. A commit counts once the job has waited for it: a crash loses what is in
/// flight.
///
/// Safety: `@unchecked Sendable` because it is used by the thread that makes the job's steps, and by others only behind
/// those.
public final class ResultHost: JobHost, @unchecked Sendable {
  private struct StateBatch {
    let end: Offset
    let bytes: Bytes
  }

  /// Most bytes of a commit.
  public let largestCommit = 32 << 20
  private let keepsOutputs: Bool
  private let stateFiles: @Sendable () throws(JobError) -> any StateFile
  private var inFlight = Deque<StepCommit>()
  private var state = Deque<StateBatch>()
  private var stateEnd: Offset = 0
  private var epoch: Int64 = 0
  private var submitted: UInt64 = 0
  /// Output batches in the order of their commits; none when they are only counted.
  public private(set) var outputs: [Bytes] = []
  /// Records of all output batches.
  public private(set) var outputRecords: Int64 = 0
  /// Bytes of all output batches.
  public private(set) var outputBytes = 0

  /// A host on which no job has run.
  /// - Parameters:
  ///   - keepsOutputs: whether outputs are kept, or only counted.
  ///   - stateFiles: makes files for state beyond the job's memory.
  public init(
    keepsOutputs: Bool,
    stateFiles: @escaping @Sendable () throws(JobError) -> any StateFile = { () throws(JobError) in MemoryStateFile() }
  ) {
    self.keepsOutputs = keepsOutputs
    self.stateFiles = stateFiles
  }

  /// One: results come in the order in which the job gives them.
  public func partitionCount(topic: String) -> Int { 1 }

  /// As the host was told.
  public func makeStateFile() throws(JobError) -> any StateFile { try stateFiles() }

  /// Hands the state log to `body`; commits in flight are lost.
  public func open(job: String, _ body: (Bytes) throws(JobError) -> Void) throws(JobError) -> Int64 {
    inFlight = Deque()
    epoch += 1
    for index in 0..<state.count { try body(state[index].bytes) }
    return epoch
  }

  /// Nothing: there are no topics to read.
  public func read(_ positions: [InputPosition], maxBytes: Int, wait: Duration) throws(JobError) -> [InputBatch] {
    guard let first = positions.first else { return [] }
    throw JobError(.unknownTopic, first.topic)
  }

  /// Nothing is compressed.
  public func decompress(_ batch: Bytes, _ header: RecordBatchHeader) throws(JobError) -> Bytes {
    throw JobError(.corruptInput, "a host in memory does not decompress")
  }

  /// Takes the commit over.
  public func submit(_ commit: StepCommit) throws(JobError) -> CommitTicket {
    guard commit.epoch == epoch else {
      throw JobError(.fenced, "epoch \(commit.epoch) was followed by \(epoch)")
    }
    inFlight.append(commit)
    submitted += 1
    return CommitTicket(number: submitted)
  }

  /// Keeps the oldest commit in flight, which is the ticket's.
  public func wait(_ ticket: CommitTicket) throws(JobError) -> CommitReceipt {
    guard let commit = inFlight.popFirst() else {
      throw JobError(.commitFailed, "no commit \(ticket.number) is in flight")
    }
    let first = stateEnd
    do throws(RecordBatchError) {
      for output in commit.outputs {
        outputRecords += Int64(try RecordBatchHeader(output.bytes).recordCount)
        outputBytes += output.bytes.count
        if keepsOutputs { outputs.append(output.bytes) }
      }
      for bytes in commit.state {
        stateEnd += Int64(try RecordBatchHeader(bytes).recordCount)
        state.append(StateBatch(end: stateEnd, bytes: bytes))
      }
    } catch {
      throw JobError(.commitFailed, error.description)
    }
    if let start = commit.stateLogStart {
      while let oldest = state.first, oldest.end <= start { _ = state.popFirst() }
    }
    return CommitReceipt(stateLogOffset: first, durableAt: .now)
  }

  /// Nothing waits.
  public func interrupt() {}
}
