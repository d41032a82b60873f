// BatchRuns: record batches one behind the other, as segments keep them, taken apart.

import MillraceBase
import MillraceDataflow
import MillraceModel

/// Takes runs of whole batches apart. The log has verified the bytes; only lengths are looked at.
enum BatchRuns {
  /// Calls `body` for each batch in `run`, in order.
  /// - Throws: `.corruptInput` when a length contradicts what is there; what `body` throws.
  static func forEach(
    in run: Bytes, _ body: (Bytes, RecordBatchHeader) throws(JobError) -> Void
  ) throws(JobError) {
    var at = 0
    while at < run.count {
      let header: RecordBatchHeader
      do throws(RecordBatchError) {
        header = try RecordBatchHeader(run[at..<run.count])
      } catch {
        throw JobError(.corruptInput, "at byte \(at) of a run: \(error)")
      }
      guard header.totalSize <= run.count - at else {
        throw JobError(
          .corruptInput, "a batch of \(header.totalSize) bytes at byte \(at) of a run of \(run.count)")
      }
      try body(run[at..<(at + header.totalSize)], header)
      at += header.totalSize
    }
  }
}
