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
  struct Cache {
    var files: [UInt64: any File] = [:]
    var fileOrder: [UInt64] = []
    var indexes = HeldIndexes()
    var windows: ReadWindows
    /// Counts segments that were forgotten: what was begun before is not kept afterwards.
    var forgotten = 0
  }

  private let directory: String
  private let fileSystem: any FileSystem
  let ahead: (any BlockingExecutor)?
  private let leavesBaseOffsets: Bool
  /// Bytes of a page of a segment's file.
  let page: Int
  let cache: Mutex<Cache>
  /// Most files held open.
  private static let openFiles = 64
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
    page = fileSystem.pageSize(.largePages)
    ahead = budget >= 2 * SegmentReader.windowSize ? readAhead : nil
    cache = Mutex(Cache(windows: ReadWindows(budget: budget)))
  }

  private func path(_ segment: UInt64) -> String { "\(directory)/\(SegmentFormat.name(segment))" }

  func file(_ segment: UInt64) throws(LogError) -> any File {
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
      cache.indexes.forget(segment)
      cache.windows.forget(segment)
    }
  }

  /// Reads whole pages around what is wanted, which is not verified yet: what is damaged may come as zeros.
  /// - Returns: the memory, where in it `position` stands, and how many bytes from there on the file had.
  func read(
    _ file: any File, at position: Int64, length: Int
  ) throws(LogError) -> (chunk: Chunk, start: Int, got: Int) {
    let first = position.roundedDown(to: file.pageSize)
    let start = Int(position - first)
    // At least a mapping, so that the memory is aligned to pages.
    let wanted = (start + length).roundedUp(to: file.pageSize)
    let chunk = Chunk(capacity: max(wanted, 64 * 1024))
    let got = try LogError.wrapping { () throws(IOError) in
      try file.readUnverified(into: UnsafeMutableRawBufferPointer(start: chunk.base, count: wanted), at: first)
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
      if let blocks = cache.indexes[extent.key] {
        let first = blocks.partitioningIndex { $0.lastOffset < offset }
        guard first < blocks.count else { return false }
        if let window = cache.windows.find(extent.key, first) {
          found = (blocks, first, window)
          return false
        }
        if cache.windows.wait(extent.key, .block(first), whenLoaded) { return true }
      }
      return cache.windows.wait(extent.key, .offset(offset), whenLoaded)
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
        _ = try load(extent, blocks, first: block, size: SegmentReader.windowSize, isAhead: true)
      } catch {
        // Whoever really wants these blocks meets the error again, and reports it.
      }
      for waiter in cache.withLock({ $0.windows.loaded(extent.key, .block(block)) }) { waiter() }
    }
  }

  /// Reads and verifies a window that begins with block `first`.
  /// - Throws: what is wrong with the first block; a later one that is wrong ends the window before it.
  private func load(
    _ extent: SegmentExtent, _ blocks: [SegmentBlock], first: Int, size: Int, isAhead: Bool = false
  ) throws(LogError) -> ReadWindow {
    let before = cache.withLock { $0.forgotten }
    let piece = SegmentPiece(extent.key, blocks, from: first, size: size, page: page)
    let file = try file(extent.segment)
    let memory = try read(file, at: piece.start, length: Int(piece.end - piece.start))
    let window = try verified(
      piece, in: memory.chunk, at: piece.start - Int64(memory.start), length: memory.start + memory.got, of: file)
    cache.withLock { if $0.forgotten == before { $0.windows.add([window], isAhead: isAhead) } }
    return window
  }

  /// Verifies the blocks of a piece.
  /// - Parameters:
  ///   - position: where the memory's first byte stands in the file.
  ///   - length: bytes of the memory that the file had.
  /// - Throws: what is wrong with the first block; a later one that is wrong ends the window before it.
  func verified(
    _ piece: SegmentPiece, in chunk: Chunk, at position: Int64, length: Int, of file: any File
  ) throws(LogError) -> ReadWindow {
    let wanted = piece.wanted
    var next = wanted.lowerBound
    while next < wanted.upperBound {
      let block = piece.blocks[next]
      let at = Int(block.position - position)
      let isThere = at + block.length <= length
      if isThere, chunk.bytes(at..<(at + block.length)).crc32c == block.crc {
        if block.isShared, block.length >= RecordBatchHeader.size, !leavesBaseOffsets {
          // Safety: nobody has this memory yet, and no other block of the window lies here.
          RecordBatchHeader.patch(chunk.base + at, baseOffset: block.baseOffset)
        }
        next += 1
        continue
      }
      if next > wanted.lowerBound { break }
      throw LogError(
        .corruption,
        "\(file.path): block of \(block.length) bytes at byte \(block.position) "
          + (isThere ? "has a wrong checksum" : "is cut off"))
    }
    return ReadWindow(key: piece.key, blocks: wanted.lowerBound..<next, position: position, chunk: chunk)
  }

  /// Segments whose files are held open.
  var heldSegments: [UInt64] { cache.withLock { $0.files.keys.sorted() } }

  /// Bytes of windows held.
  var heldBytes: Int { cache.withLock { $0.windows.size } }
}
