// EventFeed: events for a job, and what it cost to make them.

import MillraceBase
import MillraceDataflow
import MillraceNexmark
import Synchronization

/// Events as a job's source, which measures the processor time that making or reading them takes.
final class EventFeed: Sendable {
  private let made: @Sendable () throws(JobError) -> any ReplayableSource
  private let prepared: [SourceBatch]?
  private let spent: Mutex<Duration>

  /// Processor time that making events took so far.
  var cost: Duration { spent.withLock { $0 } }

  /// - Parameters:
  ///   - made: a source from the first event on.
  ///   - batchBytes: when set, the batches are made now and kept in memory, each of about so many bytes.
  /// - Throws: what the source throws.
  init(
    _ made: @escaping @Sendable () throws(JobError) -> any ReplayableSource, preparing batchBytes: Int?
  ) throws(JobError) {
    self.made = made
    guard let batchBytes else {
      prepared = nil
      spent = Mutex(.zero)
      return
    }
    let begin = ProcessorTime.thread
    let source = try made()
    var batches: [SourceBatch] = []
    while batches.last?.isFinished != true { batches.append(try source.next(maxBytes: batchBytes)) }
    prepared = batches
    spent = Mutex(ProcessorTime.thread - begin)
  }

  /// A source for one run of the job.
  func source() throws(JobError) -> any ReplayableSource {
    if let prepared { return PreparedSource(prepared) }
    return MeasuredSource(try made()) { time in self.spent.withLock { $0 += time } }
  }
}

/// Gives batches that were made before.
private final class PreparedSource: ReplayableSource {
  private let batches: [SourceBatch]
  private var next = 0

  init(_ batches: [SourceBatch]) { self.batches = batches }

  func restore(_ position: Bytes?) throws(JobError) {
    guard let position else { return }
    guard let index = batches.firstIndex(where: { $0.position == position }) else {
      throw JobError(.sourceFailed, "no batch ends at the position")
    }
    next = index + 1
  }

  func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    guard next < batches.count else {
      return SourceBatch(batch: nil, position: batches.last?.position ?? Bytes(), isFinished: true)
    }
    next += 1
    return batches[next - 1]
  }
}

/// Tells the processor time that another source takes.
private final class MeasuredSource: ReplayableSource {
  private let source: any ReplayableSource
  private let tell: (Duration) -> Void

  init(_ source: any ReplayableSource, _ tell: @escaping (Duration) -> Void) {
    self.source = source
    self.tell = tell
  }

  func restore(_ position: Bytes?) throws(JobError) { try source.restore(position) }

  func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    let begin = ProcessorTime.thread
    let batch = try source.next(maxBytes: maxBytes)
    tell(ProcessorTime.thread - begin)
    return batch
  }
}
