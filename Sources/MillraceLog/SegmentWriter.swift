// SegmentWriter: writes one segment file, batch by batch, from drained journal files or from older segments. Runs on
// background threads.

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
  /// Bytes of the blocks that several partitions may have, each counted once.
  let sharedBytes: Int64
  /// In the order in which the runs were written.
  let extents: [(partition: PartitionLogID, extent: SegmentExtent)]
}

/// Writes one segment through an aligned buffer, past the page cache.
struct SegmentWriter {
  private struct Run {
    let partition: PartitionLogID
    let number: Int
    var blocks: [SegmentBlock] = []
  }

  private let path: String
  private let file: any File
  private let fileSystem: any FileSystem
  private let number: UInt64
  private let blockSize: Int
  /// Bytes of a page of the file.
  private let page: Int
  private var buffer = Chunk(capacity: 1 << 20)
  /// Bytes of the buffer that are used, whole pages.
  private let room: Int
  private var held = 0
  private var flushed: Int64 = 0
  private var runs: [Run] = []
  private var open: SegmentBlock?
  /// The blocks of shared batches, by where these were read from.
  private var shared: [SharedPlace: SegmentBlock] = [:]
  private var sharedBytes: Int64 = 0

  /// Current position in the file.
  private var position: Int64 { flushed + Int64(held) }

  private init(path: String, file: any File, fileSystem: any FileSystem, number: UInt64, blockSize: Int) {
    self.path = path
    self.file = file
    self.fileSystem = fileSystem
    self.number = number
    self.blockSize = blockSize
    page = file.pageSize
    room = buffer.capacity.roundedDown(to: page)
  }

  /// Begins a segment file, which is emptied if it exists.
  /// - Parameter sequences: commits drained into it; 0 to 0 for a segment made from others.
  static func create(
    path: String, number: UInt64, identity: JournalIdentity, sequences: ClosedRange<UInt64>, blockSize: Int,
    fileSystem: any FileSystem
  ) throws(LogError) -> SegmentWriter {
    let file = try LogError.wrapping { () throws(IOError) in
      try fileSystem.open(path, [.write, .create, .truncate, .direct, .largePages])
    }
    var writer = SegmentWriter(path: path, file: file, fileSystem: fileSystem, number: number, blockSize: blockSize)
    try writer.putHeader(identity: identity, sequences: sequences)
    return writer
  }

  /// Writes `runs` into `path`. Once this returns the contents are durable; the name is with the directory's next sync.
  ///
  /// - Parameters:
  ///   - runs: sorted by partition.
  ///   - fetch: a batch's bytes, verified.
  /// - Throws: `.corruption` when a batch is not what was written, `.noSpace`, `.io`; the file is removed then.
  static func write(
    path: String, number: UInt64, identity: JournalIdentity, sequences: ClosedRange<UInt64>, runs: [DrainRun],
    blockSize: Int, fileSystem: any FileSystem, fetch: (BatchReference) throws(LogError) -> Bytes
  ) throws(LogError) -> DrainedSegment {
    var writer = try create(
      path: path, number: number, identity: identity, sequences: sequences, blockSize: blockSize,
      fileSystem: fileSystem)
    do throws(LogError) {
      for (index, run) in runs.enumerated() {
        writer.begin(run.partition, run: index)
        for reference in run.batches {
          if let place = reference.sharedPlace, writer.addAgain(place, baseOffset: reference.baseOffset) { continue }
          try writer.add(
            try fetch(reference), baseOffset: reference.baseOffset, lastOffset: reference.nextOffset - 1,
            maxTimestamp: reference.maxTimestamp, sharedFrom: reference.sharedPlace)
        }
      }
      return try writer.finish()
    } catch {
      writer.abandon()
      throw error
    }
  }

  /// What follows belongs to run `number` of `partition`; each run gets an index part of its own, without gaps in between.
  mutating func begin(_ partition: PartitionLogID, run number: Int) {
    if let last = runs.last, last.partition == partition, last.number == number { return }
    closeBlock()
    runs.append(Run(partition: partition, number: number))
  }

  private mutating func closeBlock() {
    guard let block = open else { return }
    runs[runs.count - 1].blocks.append(block)
    open = nil
  }

  /// Adds a batch to the current run that stands in the segment already, because another run has it, too.
  /// - Returns: false when it does not stand there; nothing was added then.
  mutating func addAgain(_ place: SharedPlace, baseOffset: Offset) -> Bool {
    guard var block = shared[place] else { return false }
    closeBlock()
    block.lastOffset += baseOffset - block.baseOffset
    block.baseOffset = baseOffset
    runs[runs.count - 1].blocks.append(block)
    return true
  }

  /// Adds a batch to the current run.
  /// - Parameter place: where it was read from when other runs may have it, too: then it becomes a block of its own.
  mutating func add(
    _ bytes: Bytes, baseOffset: Offset, lastOffset: Offset, maxTimestamp: Int64, sharedFrom place: SharedPlace? = nil
  ) throws(LogError) {
    let isDirect = SegmentWriter.pages(of: bytes, page) != nil
    if isDirect || place != nil { closeBlock() }
    let start = try isDirect ? putPages(of: bytes) : position
    var block =
      open
      ?? SegmentBlock(baseOffset: baseOffset, lastOffset: 0, position: start, length: 0, crc: 0, maxTimestamp: .min)
    block.crc = bytes.withBuffer { RecordBatchHeader.checksum(ofVerified: $0, continuing: block.crc) }
    block.length += bytes.count
    block.lastOffset = lastOffset
    block.maxTimestamp = max(block.maxTimestamp, maxTimestamp)
    if !isDirect { try put(bytes) }
    if let place {
      block.isShared = true
      shared[place] = block
      sharedBytes += Int64(block.length)
    }
    open = block
    if isDirect || block.isShared || block.length >= blockSize { closeBlock() }
  }

  /// Writes the index and makes the contents durable; the file is closed.
  mutating func finish() throws(LogError) -> DrainedSegment {
    closeBlock()
    var extents: [(partition: PartitionLogID, extent: SegmentExtent)] = []
    for run in runs {
      guard let first = run.blocks.first, let last = run.blocks.last else { continue }
      var index = ByteWriter(capacity: run.blocks.count * SegmentFormat.indexEntrySize + 64)
      for block in run.blocks { block.write(to: &index) }
      let bytes = index.finishJoined()
      let extent = SegmentExtent(
        segment: number, baseOffset: first.baseOffset, nextOffset: last.lastOffset + 1,
        maxTimestamp: run.blocks.reduce(.min) { max($0, $1.maxTimestamp) },
        bytes: run.blocks.reduce(0) { $0 + Int64($1.length) },
        sharedBytes: run.blocks.reduce(0) { $0 + ($1.isShared ? Int64($1.length) : 0) }, indexPosition: position,
        blockCount: run.blocks.count, indexCRC: bytes.crc32c)
      extents.append((run.partition, extent))
      try put(bytes)
    }
    try flushPadded()
    try LogError.wrapping { () throws(IOError) in try file.flush() }
    file.close()
    return DrainedSegment(number: number, fileSize: flushed, sharedBytes: sharedBytes, extents: extents)
  }

  /// Gives the file up.
  func abandon() {
    file.close()
    // The space matters more than a second error; a left-over file is removed at the next start.
    do throws(IOError) { try fileSystem.remove(path) } catch {}
  }

  private mutating func putHeader(
    identity: JournalIdentity, sequences: ClosedRange<UInt64>
  ) throws(LogError) {
    var rest = ByteWriter(capacity: page)
    rest.uint32(SegmentFormat.version)
    rest.uint32(0)
    rest.uint64(identity.high)
    rest.uint64(identity.low)
    rest.uint64(number)
    rest.uint64(sequences.lowerBound)
    rest.uint64(sequences.upperBound)
    rest.uint64(0)
    let body = rest.finishJoined()
    var header = ByteWriter(capacity: page)
    header.uint32(SegmentFormat.magic)
    header.uint32(body.crc32c)
    header.append(body)
    for _ in 0..<(page - header.count) / 8 { header.uint64(0) }
    try put(header.finishJoined())
  }

  /// Most bytes of a segment with so many bytes of batches in so many blocks.
  ///
  /// A large batch takes up to two pages more than it has; one that compaction wrote anew may compress a little worse.
  /// - Parameter page: bytes of a page of the file.
  static func largestSize(bytes: Int64, blocks: Int, page: Int) -> Int64 {
    bytes + bytes / 8 + Int64(blocks * SegmentFormat.indexEntrySize + 3 * page)
  }

  /// Most bytes of a segment made of `extents` of one partition.
  static func largestSize(of extents: [SegmentExtent], page: Int) -> Int64 {
    largestSize(
      bytes: extents.reduce(0) { $0 + $1.bytes }, blocks: extents.reduce(0) { $0 + $1.blockCount },
      page: page)
  }

  /// From so many pages on a batch is written from where it lies, instead of being copied together with others: 64 KiB, unless the
  /// file is encrypted.
  private static let directPages = 16

  /// The whole pages that a large batch lies in, when they belong to one chunk; nil for all others. Those of an encrypted file begin
  /// with the batch, because its memory reaches no device.
  private static func pages(of bytes: Bytes, _ page: Int) -> UnsafeRawBufferPointer? {
    guard bytes.count >= directPages * page, let chunk = bytes.owner as? Chunk else { return nil }
    let start = UInt(bitPattern: bytes.start)
    let isAligned = page & (page - 1) == 0
    let first = isAligned ? start.roundedDown(to: page) : start
    let end = first + (start - first + UInt(bytes.count)).roundedUp(to: page)
    let base = UInt(bitPattern: chunk.base)
    guard !isAligned || base % UInt(page) == 0, first >= base, end <= base + UInt(chunk.capacity) else { return nil }
    return UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: first), count: Int(end - first))
  }

  /// Writes the pages that a batch lies in; what else is in them is never looked at, because blocks are found by position.
  /// - Returns: where the batch itself stands.
  private mutating func putPages(of bytes: Bytes) throws(LogError) -> Int64 {
    guard let pages = SegmentWriter.pages(of: bytes, page), let first = pages.baseAddress else {
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
      let count = min(bytes.count - done, room - held)
      bytes.withBuffer { from in
        guard let base = from.baseAddress else { return }
        (buffer.base + held).copyMemory(from: base + done, byteCount: count)
      }
      held += count
      done += count
      if held == room { try flushBuffer() }
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
    let padded = held.roundedUp(to: page)
    (buffer.base + held).initializeMemory(as: UInt8.self, repeating: 0, count: padded - held)
    held = padded
    if held > 0 { try flushBuffer() }
  }
}
