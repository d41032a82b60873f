// PacedSource: another source, slowed down to a number of records a second.

import MillraceBase
import MillraceDataflow
import MillraceModel

/// Hands on what another source gives, at most `recordsPerSecond` on average; positions are those of the other source.
public final class PacedSource: ReplayableSource {
  private let source: any ReplayableSource
  private let recordsPerSecond: Int
  private let clock: () -> MonotonicTime
  private var started: MonotonicTime?
  private var given: Int64 = 0
  private var position: Bytes?
  /// What one call may bring at most, so that the flow is steady.
  private static let largestBatch = 64 * 1024

  /// Slows `source` down.
  /// - Parameters:
  ///   - recordsPerSecond: above 0.
  ///   - clock: for tests.
  public init(
    _ source: any ReplayableSource, recordsPerSecond: Int, clock: @escaping () -> MonotonicTime = { .now }
  ) {
    precondition(recordsPerSecond > 0, "\(recordsPerSecond) records a second")
    self.source = source
    self.recordsPerSecond = recordsPerSecond
    self.clock = clock
  }

  /// Goes to a position of the other source.
  public func restore(_ position: Bytes?) throws(JobError) {
    try source.restore(position)
    self.position = position
  }

  /// The next records, or none while the rate is exceeded.
  public func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    let now = clock()
    let begun = started ?? now
    started = begun
    let allowed = (now - begun).inMilliseconds * Int64(recordsPerSecond) / 1000
    if given > allowed, let position { return SourceBatch(batch: nil, position: position) }
    let batch = try source.next(maxBytes: min(maxBytes, PacedSource.largestBatch))
    position = batch.position
    if let bytes = batch.batch {
      do throws(RecordBatchError) {
        given += Int64(try RecordBatchHeader(bytes).recordCount)
      } catch {
        throw JobError(.sourceFailed, "a batch of the source: \(error)")
      }
    }
    return batch
  }
}
