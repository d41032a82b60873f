// LogStore+Merging: which segments are merged: those that are mostly dead, and many small ones.

import MillraceBase
import MillraceModel

extension LogStore {
  /// So many small segments of like size are merged.
  static let mergedSegments = 8
  /// Most segments merged at once.
  private static let mostMerged = 64

  /// Segments of which less than half is needed, or many small ones with small runs; nil when nothing is worth a merge.
  ///
  /// With little space left only those that are mostly dead, the deadest first, and no more than fit: less is written than goes.
  private func segmentsToMerge() -> Set<UInt64>? {
    var dead: [(UInt64, SegmentUse)] = []
    var tiers: [Int: [(UInt64, SegmentUse)]] = [:]
    for (number, use) in drain.segments.sorted(by: { $0.key < $1.key })
    where use.extents > 0 && !cleaning.damagedSegments.contains(number) && !cleaning.isPostponed(number) {
      // Header, index and padding are not counted as dead.
      let overhead = Int64(segmentPage) * 2 + Int64(use.extents * 2 * SegmentFormat.indexEntrySize)
      if use.liveBytes * 2 < use.fileSize - overhead { dead.append((number, use)) }
      let average = use.liveBytes / Int64(use.extents)
      if average < configuration.mergedRunSize, use.liveBytes < Int64(configuration.compactedSegmentSize) {
        let tier = max(0, (Int64.bitWidth - use.liveBytes.leadingZeroBitCount) / 2)
        tiers[tier, default: []].append((number, use))
      }
    }
    if isRoomShort { dead.sort { $0.1.liveBytes * $1.1.fileSize < $1.1.liveBytes * $0.1.fileSize } }
    if !dead.isEmpty { return bounded(dead) }
    guard !isRoomShort,
      let tier = tiers.filter({ $0.value.count >= LogStore.mergedSegments }).min(by: { $0.key < $1.key })
    else { return nil }
    return bounded(tier.value)
  }

  /// The first of `list`, as many as are merged at once.
  private func bounded(_ list: [(UInt64, SegmentUse)]) -> Set<UInt64>? {
    let room = isRoomShort ? cleaningRoom : .max
    // How much fits is not known when nobody watches the free space.
    let most = isRoomShort && room == .max ? 1 : LogStore.mostMerged
    var bytes: Int64 = 0
    var largest: Int64 = 0
    var out: Set<UInt64> = []
    for (number, use) in list where out.count < most {
      let size = SegmentWriter.largestSize(bytes: use.liveBytes, blocks: use.blocks, page: segmentPage)
      // A smaller one may still fit.
      if largest + size > room { continue }
      if !out.isEmpty, bytes + use.liveBytes > Int64(2 * configuration.compactedSegmentSize) { break }
      largest += size
      bytes += use.liveBytes
      out.insert(number)
    }
    return out.isEmpty ? nil : out
  }

  /// Bytes of a page of a segment's file.
  var segmentPage: Int { fileSystem.pageSize(.largePages) }

  /// Most bytes of a segment made of `extents`, in which a block that several of them have stands once.
  func largestSize(of extents: [SegmentExtent]) -> Int64 {
    var uses: [UInt64: SegmentUse] = [:]
    for extent in extents {
      let shared = drain.segments[extent.segment]?.sharedBytes ?? 0
      uses[extent.segment, default: SegmentUse(fileSize: 0, sharedBytes: shared)].add(extent)
    }
    return SegmentWriter.largestSize(
      bytes: uses.values.reduce(0) { $0 + $1.liveBytes }, blocks: uses.values.reduce(0) { $0 + $1.blocks },
      page: segmentPage)
  }

  /// The runs in segments that are to be merged, by partition; neighbours together.
  func runsToMerge() -> [(partition: PartitionLogID, extents: [SegmentExtent])]? {
    guard let chosen = segmentsToMerge() else { return nil }
    var runs: [(partition: PartitionLogID, extents: [SegmentExtent])] = []
    for log in partitions.values.sorted(by: { $0.id < $1.id }) {
      var run: [SegmentExtent] = []
      func end() {
        if !run.isEmpty { runs.append((log.id, run)) }
        run = []
      }
      let isCompacted = cleaning.candidates[log.id] != nil
      for (index, extent) in log.extents.enumerated() {
        // The newest run of a compacted partition stays a run of its own: compaction leaves it out, and must have the others.
        if isCompacted, index == log.extents.count - 1 { end() }
        if chosen.contains(extent.segment) { run.append(extent) } else { end() }
      }
      end()
    }
    return runs.isEmpty ? nil : runs
  }
}
