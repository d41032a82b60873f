// KeyArena: memory for keys that live as long as their table, given out from large blocks.

/// A bump allocator. Single keys are not given back; the table copies the living ones into a new arena when too many died.
///
/// Safety: not thread-safe; owned by one table.
struct KeyArena: ~Copyable {
  private static let blockSize = 64 * 1024
  private var blocks: [UnsafeMutableRawPointer] = []
  private var next: UnsafeMutableRawPointer?
  private var room = 0
  /// Bytes given out.
  private(set) var used = 0

  init() {}

  deinit {
    for block in blocks { block.deallocate() }
  }

  /// Memory for `count` bytes, aligned to 4.
  mutating func allocate(_ count: Int) -> UnsafeMutableRawPointer {
    let size = (count + 3) & ~3
    used += size
    if size > KeyArena.blockSize / 4 {
      let own = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 8)
      blocks.append(own)
      return own
    }
    if let at = next, size <= room {
      next = at + size
      room -= size
      return at
    }
    let block = UnsafeMutableRawPointer.allocate(byteCount: KeyArena.blockSize, alignment: 8)
    blocks.append(block)
    next = block + size
    room = KeyArena.blockSize - size
    return block
  }
}
