// InputBuffer: received bytes that were not consumed yet; whole messages leave it as slices without a copy.

import MillraceBase

/// A connection's unread input.
///
/// Memory follows what was received: room doubles as bytes arrive and is never sized by a length that a peer announced.
public struct InputBuffer {
  private var chunk: Chunk
  private var start = 0
  private var end = 0
  /// Most bytes that may wait unread; the reactor stops reading at this size.
  public let limit: Int
  private static let initialCapacity = 16 * 1024
  private static let largestRead = 1 << 20

  /// An empty buffer that never holds more than `limit` unread bytes.
  public init(limit: Int) {
    self.limit = limit
    chunk = Chunk(capacity: InputBuffer.initialCapacity)
  }

  /// Unread bytes.
  public var count: Int { end - start }

  /// The big-endian number in the next four bytes, without consuming them; nil when fewer are there.
  public func peekInt32() -> Int32? {
    guard count >= 4 else { return nil }
    defer { extendLifetime(chunk) }
    return Int32(bigEndian: (chunk.base + start).loadUnaligned(as: Int32.self))
  }

  /// Unread bytes, without consuming them.
  public var unread: Bytes { chunk.bytes(start..<end) }

  /// Consumes and returns the next `length` bytes, sharing memory.
  public mutating func take(_ length: Int) -> Bytes {
    precondition(length <= count, "taking \(length) of \(count) bytes")
    let out = chunk.bytes(start..<(start + length))
    start += length
    return out
  }

  /// Room to receive into: at least 4 KiB unless the limit is near; empty at the limit. For reactors.
  ///
  /// Bytes handed out by ``take(_:)`` may still be in use, so memory is reused only when nobody else holds the chunk.
  public mutating func prepareRoom() -> UnsafeMutableRawBufferPointer {
    if start == end {
      if isKnownUniquelyReferenced(&chunk) {
        start = 0
        end = 0
      } else if chunk.capacity - end < 4096 {
        renew(capacity: chunk.capacity)
      }
    } else if chunk.capacity - end < 4096 {
      // Keep the unread part; ask for twice of it, so that a large message costs O(its size) copying in all.
      renew(capacity: max(InputBuffer.initialCapacity, 2 * count))
    }
    let room = min(chunk.capacity - end, limit - count)
    return UnsafeMutableRawBufferPointer(start: chunk.base + end, count: max(0, room))
  }

  private mutating func renew(capacity: Int) {
    let next = Chunk(capacity: capacity)
    let held = count
    next.base.copyMemory(from: chunk.base + start, byteCount: held)
    chunk = next
    start = 0
    end = held
  }

  /// Says that `length` bytes were received into the room. For reactors.
  ///
  /// A read that filled its room doubles the next one's, up to 1 MiB.
  public mutating func received(_ length: Int) {
    precondition(end + length <= chunk.capacity, "received \(length) bytes into \(chunk.capacity - end)")
    end += length
  }

  /// Grows the room after a read that filled it. For reactors.
  public mutating func grow() {
    let capacity = min(2 * chunk.capacity, max(InputBuffer.largestRead, 2 * count))
    if capacity > chunk.capacity { renew(capacity: capacity) }
  }
}
