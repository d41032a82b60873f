// SegmentReader: reads blocks of segments, verified, from any background thread.

import MillraceBase
import MillraceIO
import MillraceModel
import Synchronization

/// Opens segments and reads what a fetch wants. Safe to call from several threads; every call may block.
final class SegmentReader: Sendable {
  private struct Cache {
    var files: [UInt64: any File] = [:]
    var fileOrder: [UInt64] = []
    var indexes: [IndexKey: [SegmentBlock]] = [:]
    var indexOrder: [IndexKey] = []
  }

  private struct IndexKey: Hashable {
    let segment: UInt64
    let position: Int64
  }

  private let directory: String
  private let fileSystem: any FileSystem
  private let cache = Mutex(Cache())
  /// Most files held open, and most index parts held in memory.
  private static let openFiles = 64
  private static let heldIndexes = 256

  init(directory: String, fileSystem: any FileSystem) {
    self.directory = directory
    self.fileSystem = fileSystem
  }

  private func path(_ segment: UInt64) -> String { "\(directory)/\(SegmentFormat.name(segment))" }

  private func file(_ segment: UInt64) throws(LogError) -> any File {
    if let held = cache.withLock({ $0.files[segment] }) { return held }
    let opened = try LogError.wrapping { () throws(IOError) in try fileSystem.open(path(segment), .read) }
    return cache.withLock { cache in
      if let other = cache.files[segment] {
        opened.close()
        return other
      }
      cache.files[segment] = opened
      cache.fileOrder.append(segment)
      // A file that is dropped here is closed when its last reader lets go of it.
      if cache.fileOrder.count > SegmentReader.openFiles { cache.files[cache.fileOrder.removeFirst()] = nil }
      return opened
    }
  }

  /// Forgets a segment that is about to be removed.
  func forget(_ segment: UInt64) {
    cache.withLock { cache in
      cache.files[segment] = nil
      cache.fileOrder.removeAll { $0 == segment }
      cache.indexOrder.removeAll { $0.segment == segment }
      cache.indexes = cache.indexes.filter { $0.key.segment != segment }
    }
  }

  /// The blocks of an extent.
  /// - Throws: `.corruption` when the index part is not what was written.
  func index(_ extent: SegmentExtent) throws(LogError) -> [SegmentBlock] {
    let key = IndexKey(segment: extent.segment, position: extent.indexPosition)
    if let held = cache.withLock({ $0.indexes[key] }) { return held }
    let bytes = try read(
      extent.segment, at: extent.indexPosition, length: extent.blockCount * SegmentFormat.indexEntrySize,
      crc: extent.indexCRC, what: "index")
    let blocks = bytes.withBuffer { buffer in
      (0..<extent.blockCount).map { number in
        let start = number * SegmentFormat.indexEntrySize
        return SegmentBlock(UnsafeRawBufferPointer(rebasing: buffer[start..<(start + SegmentFormat.indexEntrySize)]))
      }
    }
    cache.withLock { cache in
      guard cache.indexes[key] == nil else { return }
      cache.indexes[key] = blocks
      cache.indexOrder.append(key)
      if cache.indexOrder.count > SegmentReader.heldIndexes {
        cache.indexes[cache.indexOrder.removeFirst()] = nil
      }
    }
    return blocks
  }

  private func read(
    _ segment: UInt64, at position: Int64, length: Int, crc: UInt32, what: String
  ) throws(LogError) -> Bytes {
    let file = try file(segment)
    let chunk = Chunk(capacity: max(length, 1))
    let got = try LogError.wrapping { () throws(IOError) in
      try file.read(into: UnsafeMutableRawBufferPointer(start: chunk.base, count: length), at: position)
    }
    guard got == length else {
      throw LogError(
        .corruption, "\(file.path): \(what) at byte \(position) is cut off after \(got) of \(length) bytes")
    }
    let bytes = chunk.bytes(0..<length)
    guard bytes.crc32c == crc else {
      throw LogError(.corruption, "\(file.path): \(what) of \(length) bytes at byte \(position) has a wrong checksum")
    }
    return bytes
  }

  /// Whole batches from the one that holds `offset` on, at most `limit` bytes but at least one.
  ///
  /// Blocks that stand one behind the other are read in one call, each verified by its own checksum.
  func batches(in extent: SegmentExtent, from offset: Offset, limit: Int) throws(LogError) -> [Bytes] {
    let blocks = try index(extent)
    let first = blocks.partitioningIndex { $0.lastOffset < offset }
    guard first < blocks.count else { return [] }
    var last = first
    var length = blocks[first].length
    while last + 1 < blocks.count, length + blocks[last + 1].length <= min(limit, SegmentReader.largestRead),
      blocks[last + 1].position == blocks[last].position + Int64(blocks[last].length)
    {
      last += 1
      length += blocks[last].length
    }
    var bytes = try read(extent.segment, blocks: blocks[first...last], length: length)
    if blocks[first].baseOffset < offset { bytes = try BatchScan.from(offset, in: bytes) }
    if bytes.count > limit { bytes = try BatchScan.prefix(of: bytes, limit: limit, atLeastOne: true) }
    return bytes.isEmpty ? [] : [bytes]
  }

  private static let largestRead = 4 << 20

  private func read(
    _ segment: UInt64, blocks: ArraySlice<SegmentBlock>, length: Int
  ) throws(LogError) -> Bytes {
    let file = try file(segment)
    let chunk = Chunk(capacity: max(length, 1))
    let start = blocks[blocks.startIndex].position
    let got = try LogError.wrapping { () throws(IOError) in
      try file.read(into: UnsafeMutableRawBufferPointer(start: chunk.base, count: length), at: start)
    }
    var at = 0
    for block in blocks {
      guard at + block.length <= got else {
        throw LogError(
          .corruption, "\(file.path): block of \(block.length) bytes at byte \(block.position) is cut off")
      }
      guard chunk.bytes(at..<(at + block.length)).crc32c == block.crc else {
        throw LogError(
          .corruption,
          "\(file.path): block of \(block.length) bytes at byte \(block.position) has a wrong checksum")
      }
      at += block.length
    }
    return chunk.bytes(0..<length)
  }
}

/// Walks whole batches that stand one behind the other.
enum BatchScan {
  private static func next(_ bytes: Bytes, _ at: Int) throws(LogError) -> RecordBatchHeader {
    do throws(RecordBatchError) {
      let header = try RecordBatchHeader(bytes[at..<bytes.count])
      guard header.totalSize <= bytes.count - at else {
        throw RecordBatchError(.malformed, "\(header.totalSize) bytes, \(bytes.count - at) are there")
      }
      return header
    } catch {
      throw LogError(.corruption, "in a verified block at byte \(at): \(error)")
    }
  }

  /// The part that starts with the batch holding `offset`.
  static func from(_ offset: Offset, in bytes: Bytes) throws(LogError) -> Bytes {
    var at = 0
    while at < bytes.count {
      let header = try next(bytes, at)
      if header.lastOffset >= offset { break }
      at += header.totalSize
    }
    return bytes[at..<bytes.count]
  }

  /// The whole batches that fit into `limit` bytes, and the first one anyway when `atLeastOne`.
  static func prefix(of bytes: Bytes, limit: Int, atLeastOne: Bool) throws(LogError) -> Bytes {
    var at = 0
    while at < bytes.count {
      let size = try next(bytes, at).totalSize
      if at + size > limit, !(atLeastOne && at == 0) { break }
      at += size
    }
    return bytes[0..<at]
  }

  /// The batches that begin below `end`, an offset at which one begins.
  static func below(_ end: Offset, in bytes: Bytes) throws(LogError) -> Bytes {
    var at = 0
    while at < bytes.count {
      let header = try next(bytes, at)
      if header.baseOffset >= end { break }
      at += header.totalSize
    }
    return bytes[0..<at]
  }

  /// The headers of all batches, with their positions.
  static func headers(in bytes: Bytes) throws(LogError) -> [(position: Int, header: RecordBatchHeader)] {
    var out: [(Int, RecordBatchHeader)] = []
    var at = 0
    while at < bytes.count {
      let header = try next(bytes, at)
      out.append((at, header))
      at += header.totalSize
    }
    return out
  }
}
