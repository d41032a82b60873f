// ReadWindows: verified runs of segment blocks in memory, so that a reader that goes on in order finds what comes next.

import MillraceBase

/// Which index part, and so which partition's run of blocks in which segment.
struct IndexKey: Hashable, Sendable {
  let segment: UInt64
  let position: Int64
}

/// Neighbouring blocks of one extent as they were read in one call; every one of them was verified.
struct ReadWindow: Sendable {
  let key: IndexKey
  /// Indices of the blocks in the extent's index.
  let blocks: Range<Int>
  /// Where the memory's first byte stands in the segment file.
  let position: Int64
  let chunk: Chunk

  /// The bytes of `block`, which must be one of `blocks`.
  func bytes(_ block: SegmentBlock) -> Bytes {
    let start = Int(block.position - position)
    return chunk.bytes(start..<(start + block.length))
  }
}

/// The windows held, least recently used first, within a budget; and where sequential readers will go on.
struct ReadWindows {
  private var windows: [ReadWindow] = []
  /// Where recent reads ended: whoever begins there reads in order.
  private var ends: [(key: IndexKey, block: Int)] = []
  private var loading: [Loading] = []
  /// A window that is being read ahead, and who waits for it.
  private struct Loading {
    let key: IndexKey
    let block: Int
    var waiters: [@Sendable () -> Void] = []
  }

  /// Bytes of all windows.
  private(set) var size = 0
  let budget: Int
  /// Most places remembered; more readers than this read without looking ahead.
  private static let rememberedEnds = 64

  init(budget: Int) {
    self.budget = budget
  }

  /// The window that holds `block`; it counts as used.
  mutating func find(_ key: IndexKey, _ block: Int) -> ReadWindow? {
    guard let index = windows.lastIndex(where: { $0.key == key && $0.blocks.contains(block) }) else { return nil }
    let found = windows.remove(at: index)
    windows.append(found)
    return found
  }

  /// Keeps a window, at the cost of those not used for longest.
  mutating func add(_ window: ReadWindow) {
    windows.append(window)
    size += window.chunk.capacity
    while size > budget, windows.count > 1 { size -= windows.removeFirst().chunk.capacity }
  }

  /// Whether an earlier read ended where this one begins.
  func continues(_ key: IndexKey, at block: Int) -> Bool {
    ends.contains { $0.key == key && $0.block == block }
  }

  /// Notes that a reader got the blocks from `start` up to `end`.
  /// - Returns: whether it goes on where an earlier read ended, or within the same block.
  mutating func note(_ key: IndexKey, from start: Int, to end: Int) -> Bool {
    let known = ends.firstIndex { $0.key == key && (start...end).contains($0.block) }
    if let known { ends.remove(at: known) }
    ends.append((key, end))
    if ends.count > ReadWindows.rememberedEnds { ends.removeFirst() }
    return known != nil
  }

  /// The block that the next window to read ahead begins with, for a reader in the window that ends with `end`; nil when
  /// enough is held or being read. It counts as being read until ``loaded(_:_:)``.
  ///
  /// Two windows ahead of each reader, and never more than half of the budget for those under way.
  mutating func claim(_ key: IndexKey, after end: Int, blockCount: Int, windowSize: Int) -> Int? {
    var block = end
    for _ in 0..<2 {
      guard block < blockCount, !loading.contains(where: { $0.key == key && $0.block == block }) else { return nil }
      guard let held = windows.last(where: { $0.key == key && $0.blocks.contains(block) }) else {
        guard (loading.count + 1) * windowSize <= budget / 2 else { return nil }
        loading.append(Loading(key: key, block: block))
        return block
      }
      block = held.blocks.upperBound
    }
    return nil
  }

  /// Makes `waiter` wait for the window that begins with `block`, if that is being read ahead.
  mutating func wait(_ key: IndexKey, _ block: Int, _ waiter: @escaping @Sendable () -> Void) -> Bool {
    guard let index = loading.firstIndex(where: { $0.key == key && $0.block == block }) else { return false }
    loading[index].waiters.append(waiter)
    return true
  }

  /// Says that a claimed window is held now, or could not be read.
  /// - Returns: who waited for it.
  mutating func loaded(_ key: IndexKey, _ block: Int) -> [@Sendable () -> Void] {
    guard let index = loading.firstIndex(where: { $0.key == key && $0.block == block }) else { return [] }
    return loading.remove(at: index).waiters
  }

  /// Drops what belongs to a segment that is about to be removed.
  mutating func forget(_ segment: UInt64) {
    windows.removeAll { $0.key.segment == segment }
    ends.removeAll { $0.key.segment == segment }
    size = windows.reduce(0) { $0 + $1.chunk.capacity }
  }
}
