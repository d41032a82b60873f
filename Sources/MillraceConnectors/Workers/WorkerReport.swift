// WorkerReport: what a worker tells about its run, about once a second.

import MillraceBase
import MillraceDataflow

/// Figures of a run that goes on, since its start.
public struct WorkerReport: Equatable, Sendable {
  /// Records read.
  public var recordsIn: UInt64 = 0
  /// Records emitted.
  public var recordsOut: UInt64 = 0
  /// Bytes of record batches read.
  public var bytesIn: UInt64 = 0
  /// Values that came too late for every window.
  public var lateRecords: UInt64 = 0
  /// Steps handed over.
  public var steps: UInt64 = 0
  /// Keys in the job's state.
  public var stateKeys: UInt64 = 0
  /// The lowest of the job's watermarks, in ms since 1970; nil without event time, or before the first record.
  public var watermark: Int64?
  /// Time from handing over a commit until it was durable, in nanoseconds, of half of the commits.
  public var commitLatency: UInt64 = 0
  /// The same, of 99 in 100.
  public var longCommitLatency: UInt64 = 0

  /// Nothing yet.
  public init() {}

  /// What a job's figures say.
  public init(_ figures: JobFigures) {
    recordsIn = figures.recordsIn
    recordsOut = figures.recordsOut
    bytesIn = figures.bytesIn
    lateRecords = figures.lateRecords
    steps = figures.steps
    stateKeys = UInt64(max(0, figures.stateKeys))
    watermark = figures.watermark?.milliseconds
    commitLatency = figures.commitLatency.value(at: 0.5)
    longCommitLatency = figures.commitLatency.value(at: 0.99)
  }

  func encode(to writer: inout ByteWriter) {
    for value in [recordsIn, recordsOut, bytesIn, lateRecords, steps, stateKeys] { writer.uint64(value) }
    writer.bool(watermark != nil)
    writer.int64(watermark ?? 0)
    writer.uint64(commitLatency)
    writer.uint64(longCommitLatency)
  }

  init(from reader: inout ByteReader) throws(DecodingError) {
    recordsIn = try reader.uint64()
    recordsOut = try reader.uint64()
    bytesIn = try reader.uint64()
    lateRecords = try reader.uint64()
    steps = try reader.uint64()
    stateKeys = try reader.uint64()
    let hasWatermark = try reader.flag()
    let time = try reader.int64()
    watermark = hasWatermark ? time : nil
    commitLatency = try reader.uint64()
    longCommitLatency = try reader.uint64()
  }
}
