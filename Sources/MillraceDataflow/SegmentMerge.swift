// SegmentMerge: makes one segment of several, a piece at a time, so that no step waits for all of it.
//
// The segments that are merged stay what lookups read until the new one is whole. What is taken out of them meanwhile behind the
// merge's back, where it was already, is taken out of the new one when it ends.

import MillraceBase

/// A merge that is under way.
///
/// Safety: `@unchecked Sendable` because it belongs to a table.
final class SegmentMerge: @unchecked Sendable {
  /// Goes through the live entries of one segment, in the order of their places.
  private final class Cursor: @unchecked Sendable {
    let segment: StateSegment
    private let hashed: (UnsafeRawBufferPointer) -> UInt64
    private let memory = BucketMemory()
    private var bucket = 0
    private var reader: BucketReader?
    private(set) var entry: SegmentEntry?
    private(set) var hash: UInt64 = 0
    private(set) var place = UInt64.max

    init(_ segment: StateSegment, hash: @escaping (UnsafeRawBufferPointer) -> UInt64) {
      self.segment = segment
      hashed = hash
    }

    func advance() throws(JobError) {
      while true {
        if reader == nil {
          guard bucket < segment.bucketCount else {
            entry = nil
            return
          }
          reader = try segment.read(bucket, into: memory)
          bucket += 1
        }
        guard let next = try reader?.next() else {
          reader = nil
          continue
        }
        guard segment.isLive(next.ordinal) else { continue }
        entry = next
        hash = hashed(next.key)
        place = StateSegment.place(hash)
        return
      }
    }
  }

  let inputs: [StateSegment]
  private let cursors: [Cursor]
  private var writer: StateSegmentWriter
  private var hasBegun = false
  /// Entries up to this place may be in the new segment.
  private var frontier: UInt64 = 0
  private var killed: [(key: Bytes, hash: UInt64)] = []

  init(
    _ inputs: [StateSegment], into file: any StateFile, hasDues: Bool,
    hash: @escaping (UnsafeRawBufferPointer) -> UInt64
  ) {
    self.inputs = inputs
    cursors = inputs.map { Cursor($0, hash: hash) }
    writer = StateSegmentWriter(file, count: inputs.reduce(0) { $0 + $1.liveCount }, hasDues: hasDues)
  }

  /// An entry of an input was killed.
  func note(killed key: UnsafeRawBufferPointer, _ hash: UInt64) {
    if hasBegun, StateSegment.place(hash) <= frontier { killed.append((Bytes(copying: key), hash)) }
  }

  /// Bytes of the new segment so far.
  var size: Int { writer.size }

  /// A sweep round begins.
  func beginRound() { writer.beginRound() }

  /// Goes on for about `bytes`.
  /// - Returns: the new segment once it is whole.
  /// - Throws: `.stateFileFailed`; the merge is over then, and the inputs are as they were.
  func work(_ bytes: Int, _ memory: BucketMemory) throws(JobError) -> StateSegment? {
    if !hasBegun {
      for cursor in cursors { try cursor.advance() }
      hasBegun = true
    }
    let end = writer.size + bytes
    while writer.size < end {
      var first: Cursor?
      for cursor in cursors where cursor.entry != nil && (first.map { cursor.place < $0.place } ?? true) {
        first = cursor
      }
      guard let cursor = first, let entry = cursor.entry else { return try finish(memory) }
      // It may have been killed since the cursor came to it.
      if cursor.segment.isLive(entry.ordinal) {
        try writer.append(
          cursor.hash, entry.key, entry.value, due: entry.due, isSwept: cursor.segment.isSwept(entry.ordinal))
      }
      frontier = cursor.place
      try cursor.advance()
    }
    return nil
  }

  private func finish(_ memory: BucketMemory) throws(JobError) -> StateSegment {
    let segment = try writer.finish()
    for one in killed {
      let ordinal = try one.key.withBuffer { key throws(JobError) in try segment.find(key, one.hash, memory)?.ordinal }
      if let ordinal { segment.kill(ordinal) }
    }
    return segment
  }
}
