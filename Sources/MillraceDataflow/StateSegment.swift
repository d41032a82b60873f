// StateSegment: keyed state in a file, found by key with one read.
//
// Entries lie in the order of their places: the key's stable hash (an element's: that of the key it belongs to), turned left by the eight bits of the key group, so that the
// keys of one worker, which has some groups only, are spread as evenly as those of all. They are cut into buckets of about
// `bucketSize` bytes; entries of one place are never cut apart. A bucket:
//
//   byte  field        type
//   0     checksum     uint32  CRC-32C of the rest
//   4     ordinal      uint32  number of its first entry in the segment
//   8     entries
//
// An entry: length of the key, length of the value (uint32 each), when the entry is due (int64, only in segments of tables that wait for
// time), key, value. Numbers are little endian: no other run reads them. The value is what stands in the state log.
//
// Memory keeps, of each bucket, where it lies and the place of its first entry, and of each entry a filter's bits and two more: whether
// it is live (a key is live in one place only: in one segment, or in the table), and whether this sweep round has written it.

import MillraceBase

/// An entry of a segment. Its memory is that of the bucket that was read.
struct SegmentEntry {
  var ordinal: Int
  var key: UnsafeRawBufferPointer
  var value: UnsafeRawBufferPointer
  /// `.max` for one that waits for no time.
  var due: Int64
}

/// Memory into which buckets are read, as large as the largest one so far.
///
/// Safety: `@unchecked Sendable` because it is used by one of the job's threads at a time.
final class BucketMemory: @unchecked Sendable {
  private var memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * StateSegment.bucketSize, alignment: 8)

  deinit { memory.deallocate() }

  func room(for count: Int) -> UnsafeMutableRawBufferPointer {
    if count > memory.count {
      memory.deallocate()
      memory = .allocate(byteCount: count + count / 2, alignment: 8)
    }
    return UnsafeMutableRawBufferPointer(rebasing: memory[..<count])
  }
}

/// Entries of one table that lie in a file, each found by its key.
///
/// Safety: `@unchecked Sendable` because it belongs to a table.
final class StateSegment: @unchecked Sendable {
  /// A bucket is closed once it has this many bytes.
  static let bucketSize = 1024
  static let bucketHead = 8
  /// Most bytes of a segment; places in it are 32 bits.
  static let largest = 1 << 31

  struct Bucket {
    /// The place of its first entry.
    var place: UInt64
    var offset: UInt32
    /// The number of its first entry.
    var ordinal: UInt32
  }

  /// When the first of a bucket's entries is due.
  private struct Due: Comparable {
    let time: Int64
    let bucket: Int
    static func < (left: Due, right: Due) -> Bool { (left.time, left.bucket) < (right.time, right.bucket) }
  }

  let file: any StateFile
  /// And one more, behind the last.
  private let buckets: [Bucket]
  private let filter: KeyFilter
  private let hasDues: Bool
  private var live: EntryBits
  private var swept: EntryBits
  private var dues = Heap<Due>()
  /// The sweep has come to this bucket.
  private var sweptBuckets = 0
  private(set) var liveCount: Int

  /// - Parameters:
  ///   - buckets: and one more, behind the last.
  ///   - swept: of each entry whether this sweep round has written it; all are live.
  ///   - dues: when the first entry of each bucket is due; empty for tables that do not wait for time.
  init(file: any StateFile, buckets: [Bucket], filter: KeyFilter, swept: EntryBits, dues: [Int64], hasDues: Bool) {
    self.file = file
    self.buckets = buckets
    self.filter = filter
    self.hasDues = hasDues
    self.swept = swept
    liveCount = Int(buckets[buckets.count - 1].ordinal)
    live = EntryBits(count: liveCount)
    for ordinal in 0..<liveCount { live[ordinal] = true }
    for (bucket, time) in dues.enumerated() where time < .max { self.dues.push(Due(time: time, bucket: bucket)) }
  }

  /// Where a key of this hash lies among the others.
  static func place(_ hash: UInt64) -> UInt64 { hash << 8 | hash >> 56 }

  var count: Int { Int(buckets[buckets.count - 1].ordinal) }
  var bucketCount: Int { buckets.count - 1 }
  /// Bytes of the file.
  var size: Int { Int(buckets[buckets.count - 1].offset) }
  /// About the bytes of the entries that are live.
  var liveSize: Int { count == 0 ? 0 : Int(Double(size) * Double(liveCount) / Double(count)) }
  /// Bytes of memory.
  var memorySize: Int {
    filter.size + live.size + swept.size + buckets.count * MemoryLayout<Bucket>.stride
      + dues.count * MemoryLayout<Due>.stride
  }

  func isLive(_ ordinal: Int) -> Bool { live[ordinal] }
  func isSwept(_ ordinal: Int) -> Bool { swept[ordinal] }

  /// The entry is somewhere else now, or gone.
  func kill(_ ordinal: Int) {
    live[ordinal] = false
    liveCount -= 1
  }

  // MARK: Reading

  /// Reads a bucket.
  /// - Throws: `.stateFileFailed`, also when its bytes are not those that were written.
  func read(_ bucket: Int, into memory: BucketMemory) throws(JobError) -> BucketReader {
    let from = Int(buckets[bucket].offset)
    let bytes = memory.room(for: Int(buckets[bucket + 1].offset) - from)
    try file.read(at: from, into: bytes)
    let rest = UnsafeRawBufferPointer(rebasing: bytes[4...])
    guard CRC32C.checksum(rest) == bytes.loadUnaligned(as: UInt32.self),
      rest.loadUnaligned(as: UInt32.self) == buckets[bucket].ordinal
    else {
      throw JobError(.stateFileFailed, "\(bytes.count) bytes of state at \(from) are not those that were written")
    }
    return BucketReader(
      bytes: UnsafeRawBufferPointer(bytes), ordinal: Int(buckets[bucket].ordinal),
      end: Int(buckets[bucket + 1].ordinal), hasDues: hasDues)
  }

  /// The bucket in which all entries under `hash` are; nil when there are none. O(log buckets), and one read unless the filter rules the
  /// hash out.
  func bucket(of hash: UInt64, _ memory: BucketMemory) throws(JobError) -> BucketReader? {
    guard liveCount > 0, filter.mayContain(hash) else { return nil }
    let place = StateSegment.place(hash)
    var low = 0
    var high = bucketCount
    // The last bucket whose first entry is not behind the place.
    while high - low > 1 {
      let middle = (low + high) / 2
      if buckets[middle].place <= place { low = middle } else { high = middle }
    }
    return try read(low, into: memory)
  }

  /// The entry of `key` when it is live.
  func find(_ key: UnsafeRawBufferPointer, _ hash: UInt64, _ memory: BucketMemory) throws(JobError) -> SegmentEntry? {
    guard var reader = try bucket(of: hash, memory) else { return nil }
    while let entry = try reader.next() {
      guard ElementKey.isSame(entry.key, key) else { continue }
      return live[entry.ordinal] ? entry : nil
    }
    return nil
  }

  /// Calls `body` with every live entry. `body` may kill entries.
  func forEach(_ memory: BucketMemory, _ body: (SegmentEntry) throws(JobError) -> Void) throws(JobError) {
    for bucket in 0..<bucketCount where hasAny(bucket, { live[$0] }) {
      var reader = try read(bucket, into: memory)
      while let entry = try reader.next() { if live[entry.ordinal] { try body(entry) } }
    }
  }

  private func hasAny(_ bucket: Int, _ condition: (Int) -> Bool) -> Bool {
    (Int(buckets[bucket].ordinal)..<Int(buckets[bucket + 1].ordinal)).contains(where: condition)
  }

  // MARK: Sweeping

  /// No entry was written in the round that begins.
  func beginRound() {
    swept.clear()
    sweptBuckets = 0
  }

  /// Whether every live entry was written in this round.
  var roundIsDone: Bool { sweptBuckets == bucketCount || liveCount == 0 }

  /// Calls `body` with live entries that were not written in this round yet, until it returns false.
  func sweep(_ memory: BucketMemory, _ body: (SegmentEntry) -> Bool) throws(JobError) {
    while sweptBuckets < bucketCount {
      if hasAny(sweptBuckets, { live[$0] && !swept[$0] }) {
        var reader = try read(sweptBuckets, into: memory)
        while let entry = try reader.next() {
          guard live[entry.ordinal], !swept[entry.ordinal] else { continue }
          guard body(entry) else { return }
          swept[entry.ordinal] = true
        }
      }
      sweptBuckets += 1
    }
  }

  // MARK: Time

  /// No live entry is due before; an entry that is due then may not be live any more.
  var earliestDue: Int64 { dues.first?.time ?? .max }

  /// Calls `body` with each live entry that is due at `time` or before, which must be killed there or soon: it is not due again.
  func takeDue(_ time: Int64, _ memory: BucketMemory, _ body: (SegmentEntry) throws(JobError) -> Void) throws(JobError)
  {
    while let next = dues.first, next.time <= time {
      dues.popFirst()
      var later = Int64.max
      if hasAny(next.bucket, { live[$0] }) {
        var reader = try read(next.bucket, into: memory)
        while let entry = try reader.next() {
          guard live[entry.ordinal] else { continue }
          if entry.due <= time { try body(entry) } else { later = min(later, entry.due) }
        }
      }
      if later < .max { dues.push(Due(time: later, bucket: next.bucket)) }
    }
  }
}

/// Goes through the entries of a bucket that was read.
struct BucketReader {
  private let bytes: UnsafeRawBufferPointer
  private var at = StateSegment.bucketHead
  private var ordinal: Int
  private let end: Int
  private let hasDues: Bool

  init(bytes: UnsafeRawBufferPointer, ordinal: Int, end: Int, hasDues: Bool) {
    self.bytes = bytes
    self.ordinal = ordinal
    self.end = end
    self.hasDues = hasDues
  }

  /// The next entry; nil behind the last one.
  /// - Throws: `.stateFileFailed` when it does not fit into the bucket.
  mutating func next() throws(JobError) -> SegmentEntry? {
    guard ordinal < end else { return nil }
    let head = hasDues ? 16 : 8
    guard bytes.count - at >= head else { throw BucketReader.isCut(at) }
    let keyLength = Int(bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
    let valueLength = Int(bytes.loadUnaligned(fromByteOffset: at + 4, as: UInt32.self))
    let due = hasDues ? bytes.loadUnaligned(fromByteOffset: at + 8, as: Int64.self) : .max
    let from = at + head
    guard bytes.count - from >= keyLength + valueLength else { throw BucketReader.isCut(at) }
    at = from + keyLength + valueLength
    defer { ordinal += 1 }
    return SegmentEntry(
      ordinal: ordinal, key: UnsafeRawBufferPointer(rebasing: bytes[from..<from + keyLength]),
      value: UnsafeRawBufferPointer(rebasing: bytes[from + keyLength..<at]), due: due)
  }

  private static func isCut(_ at: Int) -> JobError {
    JobError(.stateFileFailed, "an entry of state at \(at) reaches beyond its bucket")
  }
}
