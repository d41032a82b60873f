// StateSegmentWriter: puts a segment of keyed state together; the format is StateSegment.swift's.

import MillraceBase

/// A segment that is being written.
struct StateSegmentWriter {
  private static let writeSize = 256 * 1024

  private let file: any StateFile
  private let hasDues: Bool
  private var filter: KeyFilter
  private var swept = EntryBits(count: 0)
  private var buckets: [StateSegment.Bucket] = []
  private var dues: [Int64] = []
  /// Whole buckets that are not in the file yet, and the one that is being filled.
  private var pending: [UInt8] = []
  private var written = 0
  /// Where the bucket that is being filled begins in `pending`; nil without one.
  private var open: Int?
  private var ordinal = 0
  private var lastPlace: UInt64 = 0

  /// - Parameters:
  ///   - count: of entries, at most.
  ///   - hasDues: whether entries say when they are due.
  init(_ file: any StateFile, count: Int, hasDues: Bool) {
    self.file = file
    self.hasDues = hasDues
    filter = KeyFilter(count: count)
    pending.reserveCapacity(StateSegmentWriter.writeSize + 2 * StateSegment.bucketSize)
  }

  /// Bytes so far.
  var size: Int { written + pending.count }

  /// Adds an entry, whose place is not before that of the last one.
  /// - Throws: `.stateFileFailed`.
  mutating func append(
    _ hash: UInt64, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, due: Int64, isSwept: Bool
  ) throws(JobError) {
    let place = StateSegment.place(hash)
    if let open, pending.count - open >= StateSegment.bucketSize, place != lastPlace {
      closeBucket(open)
      if pending.count >= StateSegmentWriter.writeSize { try writePending() }
    }
    if open == nil { try openBucket(place) }
    append(UInt32(key.count))
    append(UInt32(value.count))
    if hasDues {
      append(due)
      dues[dues.count - 1] = min(dues[dues.count - 1], due)
    }
    pending.append(contentsOf: key)
    pending.append(contentsOf: value)
    filter.insert(hash)
    swept.append(isSwept, at: ordinal)
    ordinal += 1
    lastPlace = place
  }

  /// The entries so far were not written in the sweep round that begins.
  mutating func beginRound() { swept.clear() }

  /// Ends the segment.
  /// - Throws: `.stateFileFailed`.
  mutating func finish() throws(JobError) -> StateSegment {
    if let open { closeBucket(open) }
    try writePending()
    buckets.append(.init(place: .max, offset: UInt32(written), ordinal: UInt32(ordinal)))
    return StateSegment(file: file, buckets: buckets, filter: filter, swept: swept, dues: dues, hasDues: hasDues)
  }

  private mutating func openBucket(_ place: UInt64) throws(JobError) {
    guard size < StateSegment.largest else {
      throw JobError(.stateFileFailed, "a segment of \(size) bytes takes no more")
    }
    open = pending.count
    buckets.append(.init(place: place, offset: UInt32(size), ordinal: UInt32(ordinal)))
    if hasDues { dues.append(.max) }
    append(UInt32(0))
    append(UInt32(ordinal))
  }

  private mutating func closeBucket(_ from: Int) {
    pending.withUnsafeMutableBytes { bytes in
      let checksum = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[(from + 4)...]))
      bytes.storeBytes(of: checksum, toByteOffset: from, as: UInt32.self)
    }
    open = nil
  }

  private mutating func writePending() throws(JobError) {
    let file = file
    let result = pending.withUnsafeBytes { bytes -> Result<Void, JobError> in
      do throws(JobError) {
        return .success(try file.append(bytes))
      } catch {
        return .failure(error)
      }
    }
    try result.get()
    written += pending.count
    pending.removeAll(keepingCapacity: true)
  }

  private mutating func append<Number: FixedWidthInteger>(_ number: Number) {
    withUnsafeBytes(of: number.littleEndian) { pending.append(contentsOf: $0) }
  }
}
