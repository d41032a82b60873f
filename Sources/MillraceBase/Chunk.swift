// Chunk: a fixed-size, reference-counted run of page-aligned memory that many slices share.

/// A fixed-size run of memory, aligned to 4 KiB, given back when the last slice of it goes.
///
/// A chunk has one writer. Bytes that were handed out as ``Bytes`` are never written again, so slices may be read on any
/// thread while the writer goes on behind them.
///
/// Safety: the memory is written by one owner only, and only in ranges no `Bytes` covers yet.
public final class Chunk: @unchecked Sendable {
  /// First byte; valid as long as the chunk lives.
  public let base: UnsafeMutableRawPointer
  /// Size in bytes, a multiple of 4,096 for mapped chunks.
  public let capacity: Int
  private let isMapped: Bool

  /// Chunks of at least this many bytes are mapped page-wise, so that untouched pages cost nothing.
  static let mappingThreshold = 64 * 1024

  /// Allocates `capacity` bytes (rounded up to a size class when 64 KiB or more). Contents start undefined.
  /// - Complexity: O(1).
  public init(capacity: Int) {
    precondition(capacity > 0, "chunk of \(capacity) bytes")
    if capacity >= Chunk.mappingThreshold {
      (base, self.capacity) = ChunkPool.shared.take(capacity)
      isMapped = true
    } else {
      base = .allocate(byteCount: capacity, alignment: 4096 <= capacity ? 4096 : 16)
      self.capacity = capacity
      isMapped = false
    }
  }

  deinit {
    if isMapped {
      ChunkPool.shared.give(base, capacity)
    } else {
      base.deallocate()
    }
  }

  /// Gives memory that is kept to be used again back to the system: for who has nothing more to do for a while.
  public static func dropFree() { ChunkPool.shared.drop() }

  /// A slice of this chunk. The range must have been written and must not be written again.
  @inlinable
  public func bytes(_ range: Range<Int>) -> Bytes {
    precondition(range.lowerBound >= 0 && range.upperBound <= capacity, "slice \(range) of a chunk of \(capacity)")
    return Bytes(owner: self, start: UnsafeRawPointer(base) + range.lowerBound, count: range.count)
  }
}
