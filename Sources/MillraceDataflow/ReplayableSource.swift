// ReplayableSource: an input that is not a topic but can be read again from a position it named.

import MillraceBase

/// What a source gave for one call.
public struct SourceBatch: Sendable {
  /// Records as a record batch (magic 2, uncompressed); nil when there was nothing to read.
  public var batch: Bytes?
  /// Where to go on after these records: any bytes that ``ReplayableSource/restore(_:)`` understands.
  public var position: Bytes
  /// Nothing will ever follow.
  public var isFinished: Bool

  /// A batch and the position behind it.
  public init(batch: Bytes?, position: Bytes, isFinished: Bool = false) {
    self.batch = batch
    self.position = position
    self.isFinished = isFinished
  }
}

/// An input outside the log, for example files.
///
/// The job commits the position together with what it made of the records, so that a restart neither skips nor repeats:
/// after ``restore(_:)`` with a position, the records that follow must be the ones that followed it the first time.
/// Called by the job's worker thread only.
public protocol ReplayableSource: AnyObject {
  /// Goes to `position`, or to the beginning when nil. Called once, before the first ``next(maxBytes:)``.
  /// - Throws: `.sourceFailed` when the position means nothing to the source.
  func restore(_ position: Bytes?) throws(JobError)

  /// The next records, about `maxBytes` of them and at least one. Does not wait for records that are not there yet.
  /// - Throws: `.sourceFailed`.
  func next(maxBytes: Int) throws(JobError) -> SourceBatch
}
