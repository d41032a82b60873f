// SegmentReader: reads blocks of segments, verified, from any background thread.
//
// Segments are read past the page cache, in pieces of up to 2 MiB, into memory that is used again: copying out of fresh
// page cache cost three quarters of the server's time when a topic was read from its start. In its place a few windows of
// verified blocks are kept (see ReadWindows.swift), and the next one is read while the reader still works on this one.

import MillraceBase
import MillraceIO
import MillraceModel
import Synchronization

/// Opens segments and reads what a fetch wants. Safe to call from several threads; every call may block, save ``held``.
final class SegmentReader: Sendable {
  private struct Cache {
    var files: [UInt64: any File] = [:]
    var fileOrder: [UInt64] = []
    var indexes: [IndexKey: [SegmentBlock]] = [:]
    var indexOrder: [IndexKey] = []
    var windows: ReadWindows
    /// Counts segments that were forgotten: what was begun before is not kept afterwards.
    var forgotten = 0
  }

  private let directory: String
  private let fileSystem: any FileSystem
  private let ahead: (any BlockingExecutor)?
  private let leavesBaseOffsets: Bool
  private let cache: Mutex<Cache>
  /// Most files held open, and most index parts held in memory.
  private static let openFiles = 64
  private static let heldIndexes = 256
  /// Most bytes of a window, its ends on page borders included.
  static let windowSize = 2 << 20

  /// A reader of the segments in `directory`.
  /// - Parameters:
  ///   - readAhead: runs reads of what a sequential reader will want next; nil reads nothing ahead.
  ///   - budget: most bytes of windows held.
  ///   - leavesBaseOffsets: a fault, see ``LogConfiguration/leavesBaseOffsets``.
  init(
    directory: String, fileSystem: any FileSystem, readAhead: (any BlockingExecutor)? = nil, budget: Int = 0,
    leavesBaseOffsets: Bool = false
  ) {
    self.directory = directory
    self.fileSystem = fileSystem
    self.leavesBaseOffsets = leavesBaseOffsets
    ahead = budget >= 2 * SegmentReader.windowSize ? readAhead : nil
    cache = Mutex(Cache(windows: ReadWindows(budget: budget)))
  }

  private func path(_ segment: UInt64) -> String { "\(directory)/\(SegmentFormat.name(segment))" }

  private func file(_ segment: UInt64) throws(LogError) -> any File {
    let (held, before) = cache.withLock { ($0.files[segment], $0.forgotten) }
    if let held { return held }
    let opened = try LogError.wrapping { () throws(IOError) in
      try fileSystem.open(path(segment), [.read, .direct])
    }
    return cache.withLock { cache in
      if let other = cache.files[segment] {
        opened.close()
        return other
      }
      guard cache.forgotten == before else { return opened }
      cache.files[segment] = opened
      cache.fileOrder.append(segment)
      // A file that is dropped here is closed when its last reader lets go of it.
      if cache.fileOrder.count > SegmentReader.openFiles { cache.files[cache.fileOrder.removeFirst()] = nil }
      return opened
    }
  }

  /// Forgets a segment that was removed. Reads that are under way may end, and leave nothing behind.
  func forget(_ segment: UInt64) {
    cache.withLock { cache in
      cache.forgotten += 1
      cache.files[segment] = nil
      cache.fileOrder.removeAll { $0 == segment }
      cache.indexOrder.removeAll { $0.segment == segment }
      cache.indexes = cache.indexes.filter { $0.key.segment != segment }
      cache.windows.forget(segment)
    }
  }

  /// The blocks of an extent.
  /// - Throws: `.corruption` when the index part is not what was written.
  func index(_ extent: SegmentExtent) throws(LogError) -> [SegmentBlock] {
    let key = extent.key
    let (held, before) = cache.withLock { ($0.indexes[key], $0.forgotten) }
    if let held { return held }
    let length = extent.blockCount * SegmentFormat.indexEntrySize
    let file = try file(extent.segment)
    let (chunk, start, got) = try read(file, at: extent.indexPosition, length: length)
    guard got >= length else {
      throw LogError(
        .corruption,
        "\(file.path): index at byte \(extent.indexPosition) is cut off after \(got) of \(length) bytes")
    }
    let bytes = chunk.bytes(start..<(start + length))
    guard bytes.crc32c == extent.indexCRC else {
      throw LogError(
        .corruption,
        "\(file.path): index of \(length) bytes at byte \(extent.indexPosition) has a wrong checksum")
    }
    let blocks = bytes.withBuffer { buffer in
      (0..<extent.blockCount).map { number in
        let start = number * SegmentFormat.indexEntrySize
        return SegmentBlock(UnsafeRawBufferPointer(rebasing: buffer[start..<(start + SegmentFormat.indexEntrySize)]))
      }
    }
    cache.withLock { cache in
      guard cache.indexes[key] == nil, cache.forgotten == before else { return }
      cache.indexes[key] = blocks
      cache.indexOrder.append(key)
      if cache.indexOrder.count > SegmentReader.heldIndexes {
        cache.indexes[cache.indexOrder.removeFirst()] = nil
      }
    }
    return blocks
  }

  /// Reads whole pages around what is wanted.
  /// - Returns: the memory, where in it `position` stands, and how many bytes from there on the file had.
  private func read(
    _ file: any File, at position: Int64, length: Int
  ) throws(LogError) -> (chunk: Chunk, start: Int, got: Int) {
    let first = position & ~Int64(JournalFormat.blockSize - 1)
    let start = Int(position - first)
    // At least a mapping, so that the memory is aligned to pages.
    let wanted = max(JournalFormat.aligned(start + length), 64 * 1024)
    let chunk = Chunk(capacity: wanted)
    let got = try LogError.wrapping { () throws(IOError) in
      try file.read(
        into: UnsafeMutableRawBufferPointer(start: chunk.base, count: JournalFormat.aligned(start + length)), at: first)
    }
    return (chunk, start, max(0, got - start))
  }

  // MARK: Batches

  /// Whole batches from the one that holds `offset` on, at most `limit` bytes but at least one.
  /// - Throws: `.corruption` when the first block wanted is not what was written; later ones end what is returned.
  func batches(in extent: SegmentExtent, from offset: Offset, limit: Int) throws(LogError) -> [Bytes] {
    let blocks = try index(extent)
    let first = blocks.partitioningIndex { $0.lastOffset < offset }
    guard first < blocks.count else { return [] }
    if let window = cache.withLock({ $0.windows.find(extent.key, first) }) {
      return try serve(window, blocks, extent, from: offset, first: first, limit: limit)
    }
    let isSequential = ahead != nil && cache.withLock { $0.windows.continues(extent.key, at: first) }
    let size = isSequential ? SegmentReader.windowSize : min(limit, SegmentReader.windowSize)
    let window = try load(extent, blocks, first: first, size: size)
    return try serve(window, blocks, extent, from: offset, first: first, limit: limit)
  }

  /// What memory can say to a read, without blocking.
  enum Held {
    case batches([Bytes])
    /// They are being read ahead; what was given as `whenLoaded` is called, on some thread, when that has ended.
    case loading
    case unknown
  }

  /// The same, if it is in memory; never blocks.
  func held(
    in extent: SegmentExtent, from offset: Offset, limit: Int, whenLoaded: @escaping @Sendable () -> Void
  ) throws(LogError) -> Held {
    var found: (blocks: [SegmentBlock], first: Int, window: ReadWindow)?
    let isLoading = cache.withLock { cache in
      guard let blocks = cache.indexes[extent.key] else { return false }
      let first = blocks.partitioningIndex { $0.lastOffset < offset }
      guard first < blocks.count else { return false }
      if let window = cache.windows.find(extent.key, first) {
        found = (blocks, first, window)
        return false
      }
      return cache.windows.wait(extent.key, first, whenLoaded)
    }
    guard let (blocks, first, window) = found else { return isLoading ? .loading : .unknown }
    return .batches(try serve(window, blocks, extent, from: offset, first: first, limit: limit))
  }

  /// Cuts what is wanted out of a window, and has the next window read if the reader reads in order.
  private func serve(
    _ window: ReadWindow, _ blocks: [SegmentBlock], _ extent: SegmentExtent, from offset: Offset, first: Int, limit: Int
  ) throws(LogError) -> [Bytes] {
    var out: [Bytes] = []
    var rest = limit
    var next = first
    while next < window.blocks.upperBound {
      let block = blocks[next]
      if next > first, block.length > rest { break }
      var bytes = window.bytes(block)
      var isCut = false
      if next == first {
        if block.baseOffset < offset { bytes = try RecordBatchRun.from(offset, in: bytes) }
        if bytes.count > rest {
          isCut = true
          bytes = try RecordBatchRun.prefix(of: bytes, limit: rest, atLeastOne: true)
        }
      }
      rest -= bytes.count
      // Blocks that stand one behind the other leave as one piece.
      if let last = out.last, last.owner === bytes.owner, last.start + last.count == bytes.start {
        out[out.count - 1] = Bytes(owner: last.owner, start: last.start, count: last.count + bytes.count)
      } else if !bytes.isEmpty {
        out.append(bytes)
      }
      next += 1
      // What was cut off comes before the next block.
      if isCut || rest <= 0 { break }
    }
    readAhead(after: window, blocks, extent, first: first, next: next)
    return out
  }

  private func readAhead(
    after window: ReadWindow, _ blocks: [SegmentBlock], _ extent: SegmentExtent, first: Int, next: Int
  ) {
    guard let ahead else { return }
    let claimed = cache.withLock { cache -> Int? in
      guard cache.windows.note(extent.key, from: first, to: next) else { return nil }
      return cache.windows.claim(
        extent.key, after: window.blocks.upperBound, blockCount: blocks.count, windowSize: SegmentReader.windowSize)
    }
    guard let block = claimed else { return }
    ahead.submit { [self] in
      do throws(LogError) {
        _ = try load(extent, blocks, first: block, size: SegmentReader.windowSize)
      } catch {
        // Whoever really wants these blocks meets the error again, and reports it.
      }
      for waiter in cache.withLock({ $0.windows.loaded(extent.key, block) }) { waiter() }
    }
  }

  /// Reads and verifies a window that begins with block `first`.
  /// - Throws: what is wrong with the first block; a later one that is wrong ends the window before it.
  private func load(
    _ extent: SegmentExtent, _ blocks: [SegmentBlock], first: Int, size: Int
  ) throws(LogError) -> ReadWindow {
    let before = cache.withLock { $0.forgotten }
    let start = blocks[first].position
    var end = first + 1
    // What is shared may stand anywhere before, or be the same block once more: in one window no byte belongs to two blocks.
    while end < blocks.count, blocks[end].position >= blocks[end - 1].position + Int64(blocks[end - 1].length),
      blocks[end].position + Int64(blocks[end].length) - start <= Int64(size - JournalFormat.blockSize)
    {
      end += 1
    }
    let length = Int(blocks[end - 1].position - start) + blocks[end - 1].length
    let file = try file(extent.segment)
    let (chunk, skipped, got) = try read(file, at: start, length: length)
    var verified = first
    while verified < end {
      let block = blocks[verified]
      let at = Int(block.position - start)
      let isThere = at + block.length <= got
      if isThere, chunk.bytes((skipped + at)..<(skipped + at + block.length)).crc32c == block.crc {
        if block.isShared, block.length >= RecordBatchHeader.size, !leavesBaseOffsets {
          // Safety: nobody has this memory yet, and no other block of the window lies here.
          RecordBatchHeader.patch(chunk.base + skipped + at, baseOffset: block.baseOffset)
        }
        verified += 1
        continue
      }
      if verified > first { break }
      throw LogError(
        .corruption,
        "\(file.path): block of \(block.length) bytes at byte \(block.position) "
          + (isThere ? "has a wrong checksum" : "is cut off"))
    }
    let window = ReadWindow(
      key: extent.key, blocks: first..<verified, position: start - Int64(skipped), chunk: chunk)
    cache.withLock { if $0.forgotten == before { $0.windows.add(window) } }
    return window
  }

  /// Segments whose files are held open.
  var heldSegments: [UInt64] { cache.withLock { $0.files.keys.sorted() } }

  /// Bytes of windows held.
  var heldBytes: Int { cache.withLock { $0.windows.size } }
}

extension SegmentExtent {
  var key: IndexKey { IndexKey(segment: segment, position: indexPosition) }
}
