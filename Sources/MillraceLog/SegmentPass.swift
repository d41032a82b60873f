// SegmentPass: work on segments in the background, a bounded step at a time: new segments are made from old ones.

import MillraceBase
import MillraceIO
import MillraceModel

/// Runs of partitions in old segments, and what takes their place.
struct SegmentReplacement: Sendable {
  /// What was read, by partition, in order.
  var old: [(partition: PartitionLogID, extents: [SegmentExtent])]
  /// Durable contents, except for its name; nil when nothing was left.
  var segment: DrainedSegment?
}

/// What a step came to.
struct PassProgress: Sendable {
  var bytesRead = 0
  var replacement: SegmentReplacement?
  var isDone = false
}

/// Work in steps. A step runs on a background thread; between steps nobody touches the pass but the reactor.
protocol SegmentPass: AnyObject, Sendable {
  /// The next step begins a segment, so that a number must be given for it.
  var needsSegment: Bool { get }
  /// Most bytes that this segment may take.
  var largestSegment: Int64 { get }
  /// Does some of the work.
  func step(segment: UInt64) throws(LogError) -> PassProgress
  /// Ends the work early and removes an unfinished segment. May block.
  func abandon()
}

/// Where a pass writes.
struct SegmentTarget: Sendable {
  let directory: String
  let identity: JournalIdentity
  let blockSize: Int
  let fileSystem: any FileSystem

  func begin(_ number: UInt64) throws(LogError) -> SegmentWriter {
    try SegmentWriter.create(
      path: "\(directory)/\(SegmentFormat.name(number))", number: number, identity: identity, sequences: 0...0,
      blockSize: blockSize, fileSystem: fileSystem)
  }
}

/// Goes through the batches of extents, in order, some at a time.
struct ExtentCursor {
  private(set) var index = 0
  private var offset: Offset

  init(from offset: Offset = 0) { self.offset = offset }

  static let readSize = 1 << 20

  /// The next verified run of batches, and the extent it lies in.
  /// - Returns: nil behind the last; then `index` is the number of extents. Empty bytes at the end of an extent.
  mutating func next(
    _ extents: [SegmentExtent], _ reader: SegmentReader
  ) throws(LogError) -> (run: Bytes, extent: SegmentExtent)? {
    while index < extents.count, extents[index].nextOffset <= offset { index += 1 }
    guard index < extents.count else { return nil }
    let extent = extents[index]
    let from = max(offset, extent.baseOffset)
    guard let run = try reader.batches(in: extent, from: from, limit: ExtentCursor.readSize).first else {
      offset = extent.nextOffset
      return (Bytes(), extent)
    }
    guard let last = try RecordBatchRun.headers(in: run).last?.header else { return nil }
    offset = last.nextOffset
    return (run, extent)
  }
}

extension ExtentCursor {
  /// The block that comes next when other partitions may have it, too, and the extent it lies in.
  mutating func nextShared(
    _ extents: [SegmentExtent], _ reader: SegmentReader
  ) throws(LogError) -> (block: SegmentBlock, extent: SegmentExtent)? {
    while index < extents.count, extents[index].nextOffset <= offset { index += 1 }
    guard index < extents.count, extents[index].sharedBytes > 0 else { return nil }
    let blocks = try reader.index(extents[index])
    let next = blocks.partitioningIndex { $0.lastOffset < offset }
    return next < blocks.count && blocks[next].isShared ? (blocks[next], extents[index]) : nil
  }

  /// Goes on behind a block.
  mutating func leave(_ block: SegmentBlock) { offset = max(offset, block.lastOffset + 1) }

  /// Goes on behind the extent that was read last.
  mutating func leave(_ extent: SegmentExtent) {
    index += 1
    offset = max(offset, extent.nextOffset)
  }
}

/// Copies the runs of some segments together into one new segment, so that the old ones can go. A block that several runs
/// have is copied once.
///
/// Safety: used by one background job at a time, handed over through the reactor.
final class MergePass: SegmentPass, @unchecked Sendable {
  private let runs: [(partition: PartitionLogID, extents: [SegmentExtent])]
  private let reader: SegmentReader
  private let target: SegmentTarget
  private var writer: SegmentWriter?
  private var run = 0
  private var cursor = ExtentCursor()
  private let stepSize: Int
  let largestSegment: Int64
  /// The segment that a failed step could not read; nil when it failed at something else.
  private(set) var unreadable: UInt64?

  /// - Parameters:
  ///   - runs: by partition; the extents of a run follow each other in their partition.
  ///   - largestSegment: most bytes that all of it comes to.
  ///   - stepSize: bytes read in one step.
  init(
    _ runs: [(partition: PartitionLogID, extents: [SegmentExtent])], reader: SegmentReader, target: SegmentTarget,
    largestSegment: Int64, stepSize: Int
  ) {
    self.runs = runs
    self.reader = reader
    self.target = target
    self.largestSegment = largestSegment
    self.stepSize = stepSize
  }

  var needsSegment: Bool { writer == nil }

  func step(segment: UInt64) throws(LogError) -> PassProgress {
    var progress = PassProgress()
    if writer == nil { writer = try target.begin(segment) }
    while run < runs.count, progress.bytesRead < stepSize {
      writer?.begin(runs[run].partition, run: run)
      if try addAgain() {
        progress.bytesRead += 4096
        continue
      }
      guard let (bytes, extent) = try next() else {
        run += 1
        cursor = ExtentCursor()
        continue
      }
      try add(bytes, of: extent)
      // Small runs cost a read each, whatever their size.
      progress.bytesRead += bytes.count + 4096
    }
    if run == runs.count {
      progress.isDone = true
      progress.replacement = SegmentReplacement(old: runs, segment: try writer?.finish())
      writer = nil
    }
    return progress
  }

  /// Adds the block that comes next if the new segment has it from another run, without reading it.
  private func addAgain() throws(LogError) -> Bool {
    let found = try noting { () throws(LogError) in try cursor.nextShared(runs[run].extents, reader) }
    guard let (block, extent) = found, writer?.addAgain(block.place(in: extent), baseOffset: block.baseOffset) == true
    else { return false }
    cursor.leave(block)
    return true
  }

  /// Adds a run of batches.
  private func add(_ bytes: Bytes, of extent: SegmentExtent) throws(LogError) {
    let blocks = extent.sharedBytes > 0 ? try reader.index(extent) : []
    for (position, header) in try RecordBatchRun.headers(in: bytes) {
      let index = blocks.partitioningIndex { $0.lastOffset < header.baseOffset }
      let place = index < blocks.count && blocks[index].isShared ? blocks[index].place(in: extent) : nil
      if let place, writer?.addAgain(place, baseOffset: header.baseOffset) == true { continue }
      try writer?.add(
        bytes[position..<(position + header.totalSize)], baseOffset: header.baseOffset,
        lastOffset: header.lastOffset, maxTimestamp: header.maxTimestamp.milliseconds, sharedFrom: place)
    }
  }

  private func next() throws(LogError) -> (run: Bytes, extent: SegmentExtent)? {
    try noting { () throws(LogError) in try cursor.next(runs[run].extents, reader) }
  }

  /// Runs `body`, and notes which segment it could not read.
  private func noting<Value>(_ body: () throws(LogError) -> Value) throws(LogError) -> Value {
    do throws(LogError) {
      return try body()
    } catch {
      if cursor.index < runs[run].extents.count { unreadable = runs[run].extents[cursor.index].segment }
      throw error
    }
  }

  func abandon() {
    writer?.abandon()
    writer = nil
  }
}
