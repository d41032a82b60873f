// ReadWindows: verified runs of segment blocks in memory, so that a reader that goes on in order finds what comes next.

import MillraceBase
import MillraceModel

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
  /// Windows of other extents that were read in the same call may lie in the same memory.
  let chunk: Chunk

  /// The bytes of `block`, which must be one of `blocks`.
  func bytes(_ block: SegmentBlock) -> Bytes {
    let start = Int(block.position - position)
    return chunk.bytes(start..<(start + block.length))
  }
}

/// The windows held, within a budget; and where sequential readers will go on.
struct ReadWindows {
  /// What was read in one call, which comes and goes together because it shares its memory.
  private struct Read {
    let keys: [IndexKey]
    let size: Int
    var lastUse: UInt64
    /// It was read ahead, and nobody has come for any of it yet.
    var isUnused: Bool
  }

  /// Where something that is being read begins.
  enum Start: Equatable {
    /// With a block of the extent's index.
    case block(Int)
    /// With the block that holds an offset, while nobody knows which that is.
    case offset(Offset)
  }

  /// A window that is being read ahead, and who waits for it.
  private struct Loading {
    let start: Start
    let bytes: Int
    var waiters: [@Sendable () -> Void] = []
  }

  private var windows: [IndexKey: [(read: UInt64, window: ReadWindow)]] = [:]
  private var reads: [UInt64: Read] = [:]
  private var loading: [IndexKey: [Loading]] = [:]
  /// Where recent reads ended: whoever begins there reads in order.
  private var ends: [(key: IndexKey, block: Int)] = []
  /// Counts reads and their uses.
  private var clock: UInt64 = 0

  /// Bytes of all windows.
  private(set) var size = 0
  /// Of these, what was read ahead and not used yet.
  private var unused = 0
  /// Bytes of all that is being read ahead.
  private var underWay = 0
  let budget: Int
  /// Most places remembered; more readers than this read without looking ahead.
  private static let rememberedEnds = 64

  init(budget: Int) {
    self.budget = budget
  }

  // MARK: What is held

  /// The window that holds `block`; it counts as used.
  mutating func find(_ key: IndexKey, _ block: Int) -> ReadWindow? {
    guard let (number, window) = windows[key]?.last(where: { $0.window.blocks.contains(block) }) else { return nil }
    clock += 1
    if let read = reads[number], read.isUnused { unused -= read.size }
    reads[number]?.isUnused = false
    reads[number]?.lastUse = clock
    return window
  }

  /// Whether a window holds `block`; nothing counts as used.
  func has(_ key: IndexKey, _ block: Int) -> Bool {
    windows[key]?.contains { $0.window.blocks.contains(block) } ?? false
  }

  /// Keeps windows that lie in the same memory, at the cost of those not used for longest.
  /// - Parameter isAhead: nobody has come for them yet.
  mutating func add(_ added: [ReadWindow], isAhead: Bool = false) {
    guard let chunk = added.first?.chunk else { return }
    clock += 1
    let number = clock
    for window in added { windows[window.key, default: []].append((number, window)) }
    reads[number] = Read(keys: added.map(\.key), size: chunk.capacity, lastUse: clock, isUnused: isAhead)
    size += chunk.capacity
    if isAhead { unused += chunk.capacity }
    while size > budget, reads.count > 1, let oldest = reads.min(by: { $0.value.lastUse < $1.value.lastUse }) {
      drop(oldest.key)
    }
  }

  private mutating func drop(_ number: UInt64) {
    guard let read = reads.removeValue(forKey: number) else { return }
    size -= read.size
    if read.isUnused { unused -= read.size }
    for key in read.keys {
      windows[key]?.removeAll { $0.read == number }
      if windows[key]?.isEmpty == true { windows[key] = nil }
    }
  }

  /// Drops what belongs to a segment that is about to be removed.
  mutating func forget(_ segment: UInt64) {
    for (number, read) in reads where read.keys.contains(where: { $0.segment == segment }) { drop(number) }
    ends.removeAll { $0.key.segment == segment }
  }

  // MARK: Readers in order

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

  // MARK: What is being read ahead

  /// The block that the next window to read ahead begins with, for a reader in the window that ends with `end`; nil when
  /// enough is held or being read. It counts as being read until ``loaded(_:_:)``.
  ///
  /// Two windows ahead of each reader, and never more than half of the budget for those under way, nor three quarters with those
  /// not used yet.
  mutating func claim(_ key: IndexKey, after end: Int, blockCount: Int, windowSize: Int) -> Int? {
    var block = end
    for _ in 0..<2 {
      guard block < blockCount, !isLoading(key, .block(block)) else { return nil }
      guard let held = windows[key]?.last(where: { $0.window.blocks.contains(block) })?.window else {
        guard underWay + windowSize <= budget / 2, underWay + unused + windowSize <= budget / 4 * 3 else { return nil }
        begin(key, .block(block), windowSize)
        return block
      }
      block = held.blocks.upperBound
    }
    return nil
  }

  /// Whether `bytes` from `start` on may be read ahead now; then they count as being read until ``loaded(_:_:)``.
  ///
  /// Never more than half of the budget is under way. What nobody has asked for yet comes only while that half also holds
  /// what was read ahead and not used: else many readers would push each other's out before anyone comes for it.
  mutating func claim(_ key: IndexKey, _ start: Start, bytes: Int, isWanted: Bool) -> Bool {
    guard !isLoading(key, start), underWay + bytes + (isWanted ? 0 : unused) <= budget / 2 else { return false }
    begin(key, start, bytes)
    return true
  }

  private mutating func begin(_ key: IndexKey, _ start: Start, _ bytes: Int) {
    loading[key, default: []].append(Loading(start: start, bytes: bytes))
    underWay += bytes
  }

  /// Whether what begins so is being read ahead.
  func isLoading(_ key: IndexKey, _ start: Start) -> Bool {
    loading[key]?.contains { $0.start == start } ?? false
  }

  /// Makes `waiter` wait for what begins with `start`, if that is being read ahead.
  mutating func wait(_ key: IndexKey, _ start: Start, _ waiter: @escaping @Sendable () -> Void) -> Bool {
    guard let index = loading[key]?.firstIndex(where: { $0.start == start }) else { return false }
    loading[key]?[index].waiters.append(waiter)
    return true
  }

  /// Says that what was claimed is held now, or could not be read.
  /// - Returns: who waited for it.
  mutating func loaded(_ key: IndexKey, _ start: Start) -> [@Sendable () -> Void] {
    guard let index = loading[key]?.firstIndex(where: { $0.start == start }),
      let ended = loading[key]?.remove(at: index)
    else { return [] }
    if loading[key]?.isEmpty == true { loading[key] = nil }
    underWay -= ended.bytes
    return ended.waiters
  }
}
