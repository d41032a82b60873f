// JobReport: what a job tells about its run, about once a second: to the server that it runs in, or over the socket of workers.

import MillraceBase
import MillraceDataflow

/// Figures of a run, since its start.
public struct JobReport: Equatable, Sendable {
  /// Records read.
  public var recordsIn: UInt64 = 0
  /// Records emitted.
  public var recordsOut: UInt64 = 0
  /// Bytes of record batches read.
  public var bytesIn: UInt64 = 0
  /// Bytes of record batches emitted.
  public var bytesOut: UInt64 = 0
  /// Values that came too late for every window.
  public var lateRecords: UInt64 = 0
  /// Values for which a function failed.
  public var failedRecords: UInt64 = 0
  /// Steps handed over.
  public var steps: UInt64 = 0
  /// Steps that are durable.
  public var commits: UInt64 = 0
  /// Keys in the job's state.
  public var stateKeys: UInt64 = 0
  /// Records not yet read.
  public var lag: UInt64 = 0
  /// The lowest of the job's watermarks, in ms since 1970; nil without event time, or before the first record.
  public var watermark: Int64?
  /// Time at work of all threads, in nanoseconds; see ``JobFigures/busy``.
  public var busy: UInt64 = 0
  /// Time spent waiting for commits, in nanoseconds.
  public var waitedForCommits: UInt64 = 0
  /// Time from handing over a commit until it was durable, in nanoseconds.
  public var commitLatency = Quantiles()
  /// Time from a record's own until the commit with what it led to was durable, in nanoseconds; see ``JobFigures/latency``.
  public var latency = Quantiles()
  /// Over the last second.
  public var lastSecond = JobRates()
  /// Over the last ten seconds.
  public var lastTenSeconds = JobRates()
  /// The job's operators.
  public var chains: [ChainFigures] = []
  /// The partitions of the job's inputs: of more than ``mostInputs``, those with the greatest lags.
  public var inputs: [InputFigures] = []

  /// Most partitions that are told.
  static let mostInputs = 256

  /// Of half of the values, and of 99 in 100.
  public struct Quantiles: Equatable, Sendable {
    /// The value that half of all do not exceed.
    public var p50: UInt64 = 0
    /// The value that 99 in 100 do not exceed.
    public var p99: UInt64 = 0

    /// Nothing was measured. A time of 0 ns is none, either.
    public var isEmpty: Bool { p99 == 0 }

    /// No values.
    public init() {}

    init(_ histogram: Histogram) {
      p50 = histogram.value(at: 0.5)
      p99 = histogram.value(at: 0.99)
    }
  }

  /// Nothing yet.
  public init() {}

  /// What a job's figures say.
  public init(_ figures: JobFigures) {
    recordsIn = figures.recordsIn
    recordsOut = figures.recordsOut
    bytesIn = figures.bytesIn
    bytesOut = figures.bytesOut
    lateRecords = figures.lateRecords
    failedRecords = figures.failedRecords
    steps = figures.steps
    commits = figures.commits
    stateKeys = UInt64(max(0, figures.stateKeys))
    lag = UInt64(max(0, figures.lag))
    watermark = figures.watermark?.milliseconds
    busy = UInt64(max(0, figures.busy.inNanoseconds))
    waitedForCommits = UInt64(max(0, figures.waitedForCommits.inNanoseconds))
    commitLatency = Quantiles(figures.commitLatency)
    latency = Quantiles(figures.latency)
    lastSecond = figures.lastSecond
    lastTenSeconds = figures.lastTenSeconds
    chains = figures.chains
    inputs = figures.inputs
    if inputs.count > JobReport.mostInputs {
      inputs.sort { ($0.lag ?? -1) > ($1.lag ?? -1) }
      inputs.removeLast(inputs.count - JobReport.mostInputs)
    }
  }
}
