// LogStore+Metrics: how much lies in segments, and how much on its way there.

extension LogStore {
  /// Segment files, their bytes, and bytes of batches that are in none yet.
  /// - Complexity: O(segments + journal files).
  public var segmentFigures: (count: Int, bytes: Int64, undrainedBytes: Int) {
    (
      drain.segments.count, drain.segments.values.reduce(0) { $0 + Int64($1.fileSize) }, drain.undrainedBytes
    )
  }
}
