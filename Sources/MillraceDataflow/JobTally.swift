// JobTally: what an executor notes for its figures beside what its workers count.

import MillraceBase
import MillraceModel

/// Records that came at one moment.
struct Arrival: Sendable {
  let time: MonotonicTime
  var records: UInt64
}

/// What was counted of a chain, all workers together.
struct ChainCounts: Sendable {
  var valuesOut: UInt64 = 0
  var late: UInt64 = 0
  var failed: UInt64 = 0
  var recordsRead: UInt64 = 0
  var bytesRead: UInt64 = 0
  var bytesWritten: UInt64 = 0
  /// Nanoseconds.
  var busy: Int64 = 0

  static func + (left: ChainCounts, right: ChainCounts) -> ChainCounts {
    ChainCounts(
      valuesOut: left.valuesOut + right.valuesOut, late: left.late + right.late, failed: left.failed + right.failed,
      recordsRead: left.recordsRead + right.recordsRead, bytesRead: left.bytesRead + right.bytesRead,
      bytesWritten: left.bytesWritten + right.bytesWritten, busy: left.busy + right.busy)
  }
}

/// Belongs to one executor.
struct JobTally {
  /// The figures of the executors before.
  let before: JobFigures
  /// What the job is made of.
  let explanation: JobExplanation
  /// When the records of the step that is being made came.
  private var arrivals: [Arrival] = []
  var samples = JobSamples()
  /// When operators and inputs were looked at last, and whether something has happened since.
  private var refreshed: MonotonicTime?
  private(set) var isStale = true
  private static let refreshInterval = Duration.milliseconds(100)

  init(_ job: JobDefinition, before: JobFigures) {
    explanation = job.explain()
    self.before = before
  }

  /// Records were run.
  mutating func take(_ batch: JobInputs.Batch) {
    let count = UInt64(batch.header.recordCount)
    if let last = arrivals.last, last.time == batch.arrival {
      arrivals[arrivals.count - 1].records += count
    } else {
      arrivals.append(Arrival(time: batch.arrival, records: count))
    }
  }

  /// The step is over.
  mutating func takeArrivals() -> [Arrival] {
    defer { arrivals.removeAll() }
    return arrivals
  }

  /// Something has happened.
  /// - Returns: whether it is time to look at operators and inputs.
  mutating func change(at now: MonotonicTime) -> Bool {
    isStale = true
    return refreshed.map { now - $0 >= JobTally.refreshInterval } ?? true
  }

  mutating func refresh(at now: MonotonicTime) {
    refreshed = now
    isStale = false
  }
}
