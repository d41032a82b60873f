// SegmentReader+Ahead: reads what is wanted of several partitions before anyone waits for it, neighbours in one go.
//
// A segment holds its partitions one behind the other, so that what a reader of many wants next are many short pieces that
// lie close together. Read one by one, each waits for the device twice, for its index part and for its blocks.

import MillraceBase
import MillraceIO
import MillraceModel
import Synchronization

/// What a reader will want of one extent: from `offset` on, about `limit` bytes.
struct ExtentWish: Sendable {
  let extent: SegmentExtent
  let offset: Offset
  let limit: Int

  /// What is read around it.
  private static let around = 4096

  /// About so many bytes will be read.
  var bytes: Int {
    let records = max(1, extent.nextOffset - extent.baseOffset)
    let wanted = min(records, extent.nextOffset - max(offset, extent.baseOffset))
    let share = Double(extent.bytes) * Double(wanted) / Double(records)
    return min(min(limit, Int(share)) + ExtentWish.around, SegmentReader.windowSize)
  }
}

/// Neighbouring blocks of one extent that are to be read in one call.
struct SegmentPiece: Sendable {
  let key: IndexKey
  let blocks: [SegmentBlock]
  /// Indices of the blocks wanted, at least one.
  let wanted: Range<Int>

  /// What begins with block `first` and fits into `size` bytes, a page less for what stands around it.
  init(_ key: IndexKey, _ blocks: [SegmentBlock], from first: Int, size: Int, page: Int) {
    let room = Int64(min(size, SegmentReader.windowSize.roundedDown(to: page)) - page)
    let start = blocks[first].position
    var end = first + 1
    // What is shared may stand anywhere before, or be the same block once more: in one window no byte belongs to two blocks.
    while end < blocks.count, blocks[end].position >= blocks[end - 1].position + Int64(blocks[end - 1].length),
      blocks[end].position + Int64(blocks[end].length) - start <= room
    {
      end += 1
    }
    self.key = key
    self.blocks = blocks
    wanted = first..<end
  }

  /// Where the first block stands.
  var start: Int64 { blocks[wanted.lowerBound].position }
  /// Where the last block ends.
  var end: Int64 { blocks[wanted.upperBound - 1].position + Int64(blocks[wanted.upperBound - 1].length) }
}

extension SegmentReader {
  /// Most bytes between two pieces that are read along.
  private static let largestGap: Int64 = 64 << 10

  /// Begins to read what is wanted and neither held nor being read, as far as the memory allows; never blocks.
  /// - Parameter isWanted: a reader waits for it already.
  func readAhead(_ wishes: [ExtentWish], isWanted: Bool) {
    guard let ahead else { return }
    let claimed = cache.withLock { cache in wishes.filter { SegmentReader.claim($0, isWanted, &cache) } }
    for group in SegmentReader.together(claimed) {
      ahead.submit { [self] in
        loadTogether(group)
        let waiters = cache.withLock { cache in
          group.flatMap { cache.windows.loaded($0.extent.key, .offset($0.offset)) }
        }
        for waiter in waiters { waiter() }
      }
    }
  }

  private static func claim(_ wish: ExtentWish, _ isWanted: Bool, _ cache: inout Cache) -> Bool {
    let key = wish.extent.key
    if let blocks = cache.indexes[key] {
      let first = blocks.partitioningIndex { $0.lastOffset < wish.offset }
      guard first < blocks.count, !cache.windows.has(key, first), !cache.windows.isLoading(key, .block(first)) else {
        return false
      }
    }
    return cache.windows.claim(key, .offset(wish.offset), bytes: wish.bytes, isWanted: isWanted)
  }

  /// Whether memory holds the block of an offset.
  func isHeld(_ extent: SegmentExtent, _ offset: Offset) -> Bool {
    cache.withLock { cache in
      guard let blocks = cache.indexes[extent.key] else { return false }
      let first = blocks.partitioningIndex { $0.lastOffset < offset }
      return first < blocks.count && cache.windows.has(extent.key, first)
    }
  }

  /// Puts wishes together that one segment holds, as many as are likely to fit into one window; those that come first stay
  /// first.
  static func together(_ wishes: [ExtentWish]) -> [[ExtentWish]] {
    var groups: [[ExtentWish]] = []
    var open: [UInt64: (group: Int, bytes: Int)] = [:]
    for wish in wishes {
      if let (group, bytes) = open[wish.extent.segment], bytes + wish.bytes <= windowSize {
        groups[group].append(wish)
        open[wish.extent.segment] = (group, bytes + wish.bytes)
      } else {
        open[wish.extent.segment] = (groups.count, wish.bytes)
        groups.append([wish])
      }
    }
    return groups
  }

  /// Reads what is wanted of one segment in as few calls as can be. What cannot be read, or is damaged, is left out: whoever
  /// really wants it meets the error again, and reports it.
  private func loadTogether(_ wishes: [ExtentWish]) {
    let sorted = wishes.sorted { $0.extent.indexPosition < $1.extent.indexPosition }
    readIndexes(sorted.map(\.extent))
    var pieces: [SegmentPiece] = []
    for wish in sorted {
      guard let blocks = try? index(wish.extent) else { continue }
      let first = blocks.partitioningIndex { $0.lastOffset < wish.offset }
      guard first < blocks.count else { continue }
      let size = min(wish.limit + page, SegmentReader.windowSize)
      pieces.append(SegmentPiece(wish.extent.key, blocks, from: first, size: size, page: page))
    }
    pieces.sort { $0.start < $1.start }
    var run: [SegmentPiece] = []
    for piece in pieces {
      if let first = run.first, let last = run.last,
        piece.start < last.end || piece.start - last.end > SegmentReader.largestGap
          || piece.end - first.start > Int64(SegmentReader.windowSize.roundedDown(to: page) - page)
      {
        load(run, of: wishes[0].extent.segment)
        run = []
      }
      run.append(piece)
    }
    load(run, of: wishes[0].extent.segment)
  }

  /// Reads pieces of a segment in one call. They rise and do not overlap.
  private func load(_ pieces: [SegmentPiece], of segment: UInt64) {
    guard let first = pieces.first, let last = pieces.last else { return }
    let before = cache.withLock { $0.forgotten }
    guard let file = try? file(segment),
      let memory = try? read(file, at: first.start, length: Int(last.end - first.start))
    else { return }
    let windows = pieces.compactMap { piece in
      try? verified(
        piece, in: memory.chunk, at: first.start - Int64(memory.start), length: memory.start + memory.got, of: file)
    }
    cache.withLock { if $0.forgotten == before { $0.windows.add(windows, isAhead: true) } }
  }
}
