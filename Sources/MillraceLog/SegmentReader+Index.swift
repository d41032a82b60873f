// SegmentReader+Index: which blocks an extent has, read once and kept for a while.

import MillraceBase
import MillraceModel

/// Index parts in memory, the oldest of which go when there are too many blocks in them.
struct HeldIndexes {
  private var blocks: [IndexKey: [SegmentBlock]] = [:]
  /// Oldest first.
  private var order: [IndexKey] = []
  private var cost = 0
  /// Most blocks held, each part counted as some more than it has: 56 bytes each.
  static let limit = 64 << 10
  private static let partCost = 8

  subscript(key: IndexKey) -> [SegmentBlock]? { blocks[key] }

  /// Index parts held.
  var count: Int { blocks.count }

  mutating func add(_ key: IndexKey, _ added: [SegmentBlock]) {
    guard blocks[key] == nil else { return }
    blocks[key] = added
    order.append(key)
    cost += added.count + HeldIndexes.partCost
    while cost > HeldIndexes.limit, order.count > 1 {
      let gone = blocks.removeValue(forKey: order.removeFirst())
      cost -= (gone?.count ?? 0) + HeldIndexes.partCost
    }
  }

  mutating func forget(_ segment: UInt64) {
    order.removeAll { $0.segment == segment }
    blocks = blocks.filter { $0.key.segment != segment }
    cost = blocks.values.reduce(0) { $0 + $1.count + HeldIndexes.partCost }
  }
}

extension SegmentReader {
  /// Most bytes between index parts that are read in one call.
  private static let indexReadSize = 64 << 10

  /// The blocks of an extent.
  /// - Throws: `.corruption` when the index part is not what was written.
  func index(_ extent: SegmentExtent) throws(LogError) -> [SegmentBlock] {
    let key = extent.key
    let (held, before) = cache.withLock { ($0.indexes[key], $0.forgotten) }
    if let held { return held }
    let length = extent.indexLength
    let file = try file(extent.segment)
    let (chunk, start, got) = try read(file, at: extent.indexPosition, length: length)
    guard got >= length else {
      throw LogError(
        .corruption,
        "\(file.path): index at byte \(extent.indexPosition) is cut off after \(got) of \(length) bytes")
    }
    guard let blocks = SegmentReader.blocks(of: extent, in: chunk.bytes(start..<(start + length))) else {
      throw LogError(
        .corruption,
        "\(file.path): index of \(length) bytes at byte \(extent.indexPosition) has a wrong checksum")
    }
    keep([(key, blocks)], since: before)
    return blocks
  }

  /// Reads the index parts of extents of one segment, in rising order, that are not held yet and stand close together. What
  /// cannot be read is left to ``index(_:)``, which says why.
  func readIndexes(_ extents: [SegmentExtent]) {
    let (missing, before) = cache.withLock { cache in
      (extents.filter { cache.indexes[$0.key] == nil }, cache.forgotten)
    }
    var rest = missing[...]
    while let first = rest.first {
      let run = rest.prefix {
        $0.indexPosition + Int64($0.indexLength) - first.indexPosition <= Int64(SegmentReader.indexReadSize)
      }
      rest = rest.dropFirst(max(1, run.count))
      guard run.count > 1, let last = run.last, let file = try? file(first.segment),
        let memory = try? read(
          file, at: first.indexPosition, length: Int(last.indexPosition - first.indexPosition) + last.indexLength)
      else { continue }
      var found: [(IndexKey, [SegmentBlock])] = []
      for extent in run {
        let at = Int(extent.indexPosition - first.indexPosition)
        guard at + extent.indexLength <= memory.got else { break }
        let bytes = memory.chunk.bytes((memory.start + at)..<(memory.start + at + extent.indexLength))
        if let blocks = SegmentReader.blocks(of: extent, in: bytes) { found.append((extent.key, blocks)) }
      }
      keep(found, since: before)
    }
  }

  /// Keeps index parts, unless a segment was forgotten since `before`.
  private func keep(_ found: [(IndexKey, [SegmentBlock])], since before: Int) {
    cache.withLock { cache in
      guard cache.forgotten == before else { return }
      for (key, blocks) in found { cache.indexes.add(key, blocks) }
    }
  }

  /// What an index part says; nil when it is not what was written.
  private static func blocks(of extent: SegmentExtent, in bytes: Bytes) -> [SegmentBlock]? {
    guard bytes.crc32c == extent.indexCRC else { return nil }
    return bytes.withBuffer { buffer in
      (0..<extent.blockCount).map { number in
        let start = number * SegmentFormat.indexEntrySize
        return SegmentBlock(UnsafeRawBufferPointer(rebasing: buffer[start..<(start + SegmentFormat.indexEntrySize)]))
      }
    }
  }
}

extension SegmentExtent {
  var key: IndexKey { IndexKey(segment: segment, position: indexPosition) }
  /// Bytes of the index part.
  var indexLength: Int { blockCount * SegmentFormat.indexEntrySize }
}
