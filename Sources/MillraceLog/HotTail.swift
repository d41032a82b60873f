// HotTail: the most recent journal bytes in memory, shared by all partitions, within a budget.

import MillraceBase

/// Chunks that mirror regions of journal files; the oldest are dropped when the budget is exceeded.
struct HotTail {
  /// A chunk and where in its file it stands.
  struct Region: Sendable {
    let position: Int
    let chunk: Chunk
  }

  private var files: [UInt64: [Region]] = [:]
  private var order = Deque<(file: UInt64, size: Int)>()
  /// Bytes held.
  private(set) var size = 0
  let budget: Int

  init(budget: Int) {
    self.budget = budget
  }

  /// Adds the chunk that mirrors `file` from `position` on; regions of a file come in rising order.
  mutating func add(file: UInt64, position: Int, chunk: Chunk) {
    files[file, default: []].append(Region(position: position, chunk: chunk))
    order.append((file, chunk.capacity))
    size += chunk.capacity
    // The newest region is being written and always stays.
    while size > budget, order.count > 1 { dropOldest() }
  }

  /// Drops all but the newest region.
  mutating func shrink() {
    while order.count > 1 { dropOldest() }
  }

  private mutating func dropOldest() {
    let oldest = order.removeFirst()
    size -= oldest.size
    files[oldest.file]?.removeFirst()
    if files[oldest.file]?.isEmpty == true { files[oldest.file] = nil }
  }

  /// The bytes at `position` of a file; nil when they were dropped.
  func bytes(file: UInt64, position: Int, length: Int) -> Bytes? {
    guard let regions = files[file] else { return nil }
    return HotTail.bytes(regions, position: position, length: length)
  }

  /// What is held of a file now, for use on another thread.
  func regions(file: UInt64) -> [Region] { files[file] ?? [] }

  /// The bytes at `position` in regions that rise; nil when they are not there.
  static func bytes(_ regions: [Region], position: Int, length: Int) -> Bytes? {
    let index = regions.partitioningIndex { $0.position <= position }
    guard index > 0 else { return nil }
    let region = regions[index - 1]
    let start = position - region.position
    guard start + length <= region.chunk.capacity else { return nil }
    return region.chunk.bytes(start..<(start + length))
  }
}
