// SegmentWriter: drains a sealed journal file's batches into one segment file. Runs on a background thread.

import MillraceBase
import MillraceIO
import MillraceModel

/// What to drain: one partition's batches in offset order.
struct DrainRun: Sendable {
  let partition: PartitionLogID
  let batches: [BatchReference]
}

/// A written segment.
struct DrainedSegment: Sendable {
  let number: UInt64
  let fileSize: Int64
  let extents: [(partition: PartitionLogID, extent: SegmentExtent)]
}

/// Writes one segment through an aligned buffer, past the page cache.
struct SegmentWriter {
  private let file: any File
  private let blockSize: Int
  private var buffer = Chunk(capacity: 1 << 20)
  private var held = 0
  private var flushed: Int64 = 0

  /// Current position in the file.
  private var position: Int64 { flushed + Int64(held) }

  private init(file: any File, blockSize: Int) {
    self.file = file
    self.blockSize = blockSize
  }

  /// Writes `runs` into `path`. Once this returns the contents are durable; the name is with the directory's next sync.
  ///
  /// - Parameters:
  ///   - runs: sorted by partition.
  ///   - fetch: a batch's bytes, verified.
  /// - Throws: `.corruption` when a batch is not what was written, `.noSpace`, `.io`; the file is removed then.
  static func write(
    path: String, number: UInt64, identity: JournalIdentity, sequences: ClosedRange<UInt64>,
    runs: [DrainRun], blockSize: Int, fileSystem: any FileSystem,
    fetch: (BatchReference) throws(LogError) -> Bytes
  ) throws(LogError) -> DrainedSegment {
    let file = try LogError.wrapping { () throws(IOError) in
      try fileSystem.open(path, [.write, .create, .truncate, .direct])
    }
    var writer = SegmentWriter(file: file, blockSize: blockSize)
    do throws(LogError) {
      let segment = try writer.run(
        number: number, identity: identity, sequences: sequences, runs: runs, fetch: fetch)
      file.close()
      return segment
    } catch {
      file.close()
      // The space matters more than a second error; a left-over file is removed at the next start.
      do throws(IOError) { try fileSystem.remove(path) } catch {}
      throw error
    }
  }

  private mutating func run(
    number: UInt64, identity: JournalIdentity, sequences: ClosedRange<UInt64>, runs: [DrainRun],
    fetch: (BatchReference) throws(LogError) -> Bytes
  ) throws(LogError) -> DrainedSegment {
    try putHeader(number: number, identity: identity, sequences: sequences)
    var blocks: [(PartitionLogID, [SegmentBlock])] = []
    for run in runs {
      blocks.append((run.partition, try put(run, fetch: fetch)))
    }
    var extents: [(partition: PartitionLogID, extent: SegmentExtent)] = []
    for (partition, list) in blocks {
      guard let first = list.first, let last = list.last else { continue }
      var index = ByteWriter(capacity: list.count * SegmentFormat.indexEntrySize + 64)
      for block in list { block.write(to: &index) }
      let bytes = index.finishJoined()
      let extent = SegmentExtent(
        segment: number, baseOffset: first.baseOffset, nextOffset: last.lastOffset + 1,
        maxTimestamp: list.reduce(.min) { max($0, $1.maxTimestamp) },
        bytes: list.reduce(0) { $0 + Int64($1.length) }, indexPosition: position, blockCount: list.count,
        indexCRC: bytes.crc32c)
      extents.append((partition, extent))
      try put(bytes)
    }
    try finish()
    return DrainedSegment(number: number, fileSize: flushed, extents: extents)
  }

  private mutating func putHeader(
    number: UInt64, identity: JournalIdentity, sequences: ClosedRange<UInt64>
  ) throws(LogError) {
    var rest = ByteWriter(capacity: SegmentFormat.headerSize)
    rest.uint32(SegmentFormat.version)
    rest.uint32(0)
    rest.uint64(identity.high)
    rest.uint64(identity.low)
    rest.uint64(number)
    rest.uint64(sequences.lowerBound)
    rest.uint64(sequences.upperBound)
    rest.uint64(0)
    let body = rest.finishJoined()
    var header = ByteWriter(capacity: SegmentFormat.headerSize)
    header.uint32(SegmentFormat.magic)
    header.uint32(body.crc32c)
    header.append(body)
    for _ in 0..<(SegmentFormat.headerSize - header.count) / 8 { header.uint64(0) }
    try put(header.finishJoined())
  }

  private mutating func put(
    _ run: DrainRun, fetch: (BatchReference) throws(LogError) -> Bytes
  ) throws(LogError) -> [SegmentBlock] {
    var blocks: [SegmentBlock] = []
    var open: SegmentBlock?
    for reference in run.batches {
      let bytes = try fetch(reference)
      let isDirect = SegmentWriter.pages(of: bytes) != nil
      if isDirect, let full = open {
        blocks.append(full)
        open = nil
      }
      let start = try isDirect ? putPages(of: bytes) : position
      var block =
        open
        ?? SegmentBlock(
          baseOffset: reference.baseOffset, lastOffset: 0, position: start, length: 0, crc: 0, maxTimestamp: .min)
      block.crc = bytes.withBuffer { RecordBatchHeader.checksum(ofVerified: $0, continuing: block.crc) }
      block.length += bytes.count
      block.lastOffset = reference.nextOffset - 1
      block.maxTimestamp = max(block.maxTimestamp, reference.maxTimestamp)
      if !isDirect { try put(bytes) }
      if isDirect || block.length >= blockSize {
        blocks.append(block)
        open = nil
      } else {
        open = block
      }
    }
    if let open { blocks.append(open) }
    return blocks
  }

  /// From this size on a batch is written from where it lies, instead of being copied together with others.
  private static let directSize = 64 * 1024

  /// The whole pages that a large batch lies in, when they belong to one chunk; nil for all others.
  private static func pages(of bytes: Bytes) -> UnsafeRawBufferPointer? {
    guard bytes.count >= directSize, let chunk = bytes.owner as? Chunk else { return nil }
    let mask = UInt(JournalFormat.blockSize - 1)
    let first = UInt(bitPattern: bytes.start) & ~mask
    let end = (UInt(bitPattern: bytes.start) + UInt(bytes.count) + mask) & ~mask
    let base = UInt(bitPattern: chunk.base)
    guard base & mask == 0, first >= base, end <= base + UInt(chunk.capacity) else { return nil }
    return UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: first), count: Int(end - first))
  }

  /// Writes the pages that a batch lies in; what else is in them is never looked at, because blocks are found by position.
  /// - Returns: where the batch itself stands.
  private mutating func putPages(of bytes: Bytes) throws(LogError) -> Int64 {
    guard let pages = SegmentWriter.pages(of: bytes), let first = pages.baseAddress else {
      preconditionFailure("a batch of \(bytes.count) bytes does not lie in whole pages")
    }
    try flushPadded()
    let at = flushed
    try LogError.wrapping { () throws(IOError) in try file.write(pages, at: at) }
    extendLifetime(bytes)
    flushed += Int64(pages.count)
    return at + Int64(bytes.start - first)
  }

  private mutating func put(_ bytes: Bytes) throws(LogError) {
    var done = 0
    while done < bytes.count {
      let count = min(bytes.count - done, buffer.capacity - held)
      bytes.withBuffer { from in
        guard let base = from.baseAddress else { return }
        (buffer.base + held).copyMemory(from: base + done, byteCount: count)
      }
      held += count
      done += count
      if held == buffer.capacity { try flushBuffer() }
    }
  }

  private mutating func flushBuffer() throws(LogError) {
    try LogError.wrapping { () throws(IOError) in
      try file.write(UnsafeRawBufferPointer(start: buffer.base, count: held), at: flushed)
    }
    flushed += Int64(held)
    held = 0
  }

  /// Writes out what is held, filled up with zeros to whole pages.
  private mutating func flushPadded() throws(LogError) {
    let padded = JournalFormat.aligned(held)
    (buffer.base + held).initializeMemory(as: UInt8.self, repeating: 0, count: padded - held)
    held = padded
    if held > 0 { try flushBuffer() }
  }

  private mutating func finish() throws(LogError) {
    try flushPadded()
    try LogError.wrapping { () throws(IOError) in try file.flush() }
  }
}
