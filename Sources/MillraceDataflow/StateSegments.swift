// StateSegments: the part of a table that lies in files: a few segments, none of which has a live key of another.
//
// So a lookup takes what it finds first, and segments may be merged in any order. Each spill adds one; four of like size become one,
// and one of which less than half is live is written again, while later spills go on.

import MillraceBase

/// Keys and values of one table that are not in memory.
///
/// Safety: `@unchecked Sendable` because it belongs to a table.
final class StateSegments: @unchecked Sendable {
  /// Segments of like size that are merged.
  private static let fanIn = 4
  /// Bytes that a merge goes on for each byte of a new segment: more than what is merged of it in all, on its way through the sizes.
  private static let mergePace = 8

  private let makeFile: () throws(JobError) -> any StateFile
  /// Takes what breaks the run.
  private let failed: (JobError) -> Void
  private let hasDues: Bool
  /// The hash by which a key is found: the same for keys that are to lie together.
  private let hash: (UnsafeRawBufferPointer) -> UInt64
  private var segments: [StateSegment] = []
  private var merge: SegmentMerge?
  private let memory = BucketMemory()
  private let mergeMemory = BucketMemory()
  /// Live entries.
  private(set) var count = 0

  /// - Parameters:
  ///   - hasDues: whether entries say when they are due.
  ///   - hash: of a key; keys of one hash lie together.
  init(
    hasDues: Bool, hash: @escaping (UnsafeRawBufferPointer) -> UInt64,
    makeFile: @escaping () throws(JobError) -> any StateFile, failed: @escaping (JobError) -> Void
  ) {
    self.hasDues = hasDues
    self.hash = hash
    self.makeFile = makeFile
    self.failed = failed
  }

  /// Bytes of memory.
  var memorySize: Int { segments.reduce(0) { $0 + $1.memorySize } }
  /// Bytes in files.
  var fileSize: Int { segments.reduce(0) { $0 + $1.size } }
  /// Number of files that hold what is live.
  var segmentCount: Int { segments.count }

  // MARK: Changing

  /// Adds a segment of `count` entries, which `fill` writes in the order of their places.
  /// - Throws: `.stateFileFailed`; nothing was added then.
  func add(_ count: Int, _ fill: (inout StateSegmentWriter) throws(JobError) -> Void) throws(JobError) {
    var writer = StateSegmentWriter(try makeFile(), count: count, hasDues: hasDues)
    try fill(&writer)
    let segment = try writer.finish()
    segments.append(segment)
    self.count += segment.liveCount
    goOn(merging: StateSegments.mergePace * segment.size)
  }

  /// Takes an entry out and hands its value to `body`, with whether this sweep round has written it.
  /// - Returns: what `body` does; nil without an entry.
  func take<Result>(
    _ key: UnsafeRawBufferPointer, _ hash: UInt64,
    _ body: (UnsafeRawBufferPointer, Bool) throws(JobError) -> Result
  ) -> Result? {
    guard count > 0 else { return nil }
    do throws(JobError) {
      for segment in segments {
        guard let entry = try segment.find(key, hash, memory) else { continue }
        let result = try body(entry.value, segment.isSwept(entry.ordinal))
        kill(entry, hash, in: segment)
        dropEmpty()
        return result
      }
    } catch {
      failed(error)
    }
    return nil
  }

  /// Takes out the entries under `hash` whose keys `isWanted` picks, and hands them to `body`.
  func takeAll(
    _ hash: UInt64, where isWanted: (UnsafeRawBufferPointer) -> Bool,
    _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer, Bool) throws(JobError) -> Void
  ) {
    guard count > 0 else { return }
    do throws(JobError) {
      for segment in segments {
        guard var reader = try segment.bucket(of: hash, memory) else { continue }
        while let entry = try reader.next() {
          guard segment.isLive(entry.ordinal), isWanted(entry.key) else { continue }
          try body(entry.key, entry.value, segment.isSwept(entry.ordinal))
          kill(entry, hash, in: segment)
        }
      }
    } catch {
      failed(error)
    }
    dropEmpty()
  }

  /// Calls `body` with the keys of what is due at `time` or before, each of which must then be taken.
  func forEachDue(_ time: Int64, _ body: (UnsafeRawBufferPointer) -> Void) {
    guard earliestDue <= time else { return }
    do throws(JobError) {
      for segment in segments { try segment.takeDue(time, memory) { body($0.key) } }
    } catch {
      failed(error)
    }
  }

  /// Takes out what is due at `time` or before, and hands it to `body`.
  func takeDue(
    _ time: Int64, _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer, Bool) throws(JobError) -> Void
  ) {
    guard earliestDue <= time else { return }
    do throws(JobError) {
      for segment in segments {
        try segment.takeDue(time, memory) { entry throws(JobError) in
          try body(entry.key, entry.value, segment.isSwept(entry.ordinal))
          kill(entry, hash(entry.key), in: segment)
        }
      }
    } catch {
      failed(error)
    }
    dropEmpty()
  }

  private func kill(_ entry: SegmentEntry, _ hash: UInt64, in segment: StateSegment) {
    segment.kill(entry.ordinal)
    count -= 1
    if let merge, merge.inputs.contains(where: { $0 === segment }) { merge.note(killed: entry.key, hash) }
  }

  /// Gives back files in which nothing is live.
  private func dropEmpty() {
    guard segments.contains(where: { $0.liveCount == 0 }) else { return }
    segments.removeAll { segment in
      segment.liveCount == 0 && !(merge?.inputs.contains { $0 === segment } ?? false)
    }
  }

  // MARK: Looking

  /// No entry is due before.
  var earliestDue: Int64 { segments.reduce(.max) { min($0, $1.earliestDue) } }

  /// Calls `body` with each key and value, in no particular order. `body` must not change the table.
  func forEach(_ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws(JobError) -> Void) {
    do throws(JobError) {
      for segment in segments {
        try segment.forEach(memory) { entry throws(JobError) in try body(entry.key, entry.value) }
      }
    } catch {
      failed(error)
    }
  }

  // MARK: Sweeping

  /// Begins a sweep round.
  func beginRound() {
    for segment in segments { segment.beginRound() }
    merge?.beginRound()
  }

  /// Whether every key was written in this round.
  var roundIsDone: Bool { segments.allSatisfy(\.roundIsDone) }

  /// Calls `body` with keys and values that were not written in this round yet, until it returns false.
  func sweep(_ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Bool) {
    do throws(JobError) {
      for segment in segments where !segment.roundIsDone {
        try segment.sweep(memory) { body($0.key, $0.value) }
        guard segment.roundIsDone else { return }
      }
    } catch {
      failed(error)
    }
  }

  // MARK: Merging

  private func goOn(merging bytes: Int) {
    var bytes = bytes
    while bytes > 0 {
      if merge == nil, !beginMerge() { return }
      guard let merge else { return }
      do throws(JobError) {
        let before = merge.size
        guard let segment = try merge.work(bytes, mergeMemory) else { return }
        bytes -= max(1, merge.size - before)
        segments.removeAll { one in merge.inputs.contains { $0 === one } }
        if segment.liveCount > 0 { segments.append(segment) }
      } catch {
        // What cannot be read is found by who needs it. Without room, the segments stay what they are.
        self.merge = nil
        return
      }
      self.merge = nil
    }
  }

  /// - Returns: whether there is something to merge.
  private func beginMerge() -> Bool {
    let inputs = StateSegments.choice(of: segments)
    guard !inputs.isEmpty else { return false }
    do throws(JobError) {
      merge = SegmentMerge(inputs, into: try makeFile(), hasDues: hasDues, hash: hash)
      return true
    } catch {
      return false
    }
  }

  /// The smallest segments of like size, as many as are merged; else those of which less than half is live.
  private static func choice(of segments: [StateSegment]) -> [StateSegment] {
    let bySize = segments.filter { $0.liveCount > 0 }.sorted { $0.liveSize < $1.liveSize }
    for first in 0..<max(0, bySize.count - fanIn + 1) {
      let some = bySize[first..<first + fanIn]
      let size = some.reduce(0) { $0 + $1.liveSize }
      if some[first + fanIn - 1].liveSize <= fanIn * max(StateSegment.bucketSize, some[first].liveSize),
        size < StateSegment.largest / 2
      {
        return Array(some)
      }
    }
    let half = bySize.filter { $0.liveCount * 2 < $0.count }
    return Array(half.prefix(fanIn))
  }
}
