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
  /// Room made for a read when new memory is needed; follows how much comes.
  private var readSize = InputBuffer.initialCapacity
  private var smallReads = 0
  /// Unread bytes that complete the message under way, 0 when that is not known.
  private var expected = 0
  /// Unread bytes before which nobody needs to be woken, 0 when each byte counts.
  private var awaited = 0
  private static let initialCapacity = 16 * 1024
  private static let smallReadsToShrink = 64
  private static let largestRead = 1 << 20
  /// Most room that is made for input that is consumed whole at each read.
  private static let largestReuse = 256 * 1024
  /// From this size on a message is read up to its end and no further.
  private static let exactReadSize = 64 * 1024

  /// An empty buffer that never holds more than `limit` unread bytes.
  public init(limit: Int) {
    self.limit = limit
    chunk = Chunk(capacity: max(1, min(limit, InputBuffer.initialCapacity)))
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
    expected = 0
    awaited = 0
    return out
  }

  /// Says that `total` unread bytes complete the message that has begun.
  ///
  /// A large one is then read up to its end and no further, so that no part of the next has to be moved when memory
  /// changes. Nothing is allocated for what has only been announced.
  /// - Parameter isOnePiece: the owner has no use for a part of it, nor for the news that a part has come, so that the reactor
  ///   may wait until more of it is there.
  public mutating func expect(_ total: Int, isOnePiece: Bool = false) {
    expected = total >= InputBuffer.exactReadSize ? total : 0
    awaited = isOnePiece ? total : 0
  }

  /// Says that nothing can be done before `more` bytes are there than there are.
  mutating func await(_ more: Int) { awaited = more > 0 ? count + more : 0 }

  /// Bytes that must come before anything can be done; 0 when each byte counts.
  package var lacking: Int { max(0, awaited - count) }

  /// Room to receive into: a quarter of the usual read or more, unless the limit is near; empty at the limit. For reactors.
  ///
  /// Bytes handed out by ``take(_:)`` may still be in use, so memory is reused only when nobody else holds the chunk.
  public mutating func prepareRoom() -> UnsafeMutableRawBufferPointer {
    if start == end && isKnownUniquelyReferenced(&chunk) {
      start = 0
      end = 0
      // A connection that has become quiet gives the memory of its busy days back. One whose reads fill their room gets more of it,
      // up to what stays in a cache when whole input is consumed and the same memory is filled again.
      let wanted = min(readSize, limit, InputBuffer.largestReuse)
      if chunk.capacity > 4 * readSize || chunk.capacity < wanted { renew(capacity: wanted) }
    } else if chunk.capacity - end < max(4096, readSize / 4) {
      // Keep the unread part; ask for twice of it, so that a large message costs O(its size) copying in all.
      let capacity = max(readSize, min(2 * count, limit))
      if capacity - count > chunk.capacity - end { renew(capacity: capacity) }
    }
    var room = min(chunk.capacity - end, limit - count)
    if expected > count { room = min(room, expected - count) }
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
  public mutating func received(_ length: Int) {
    precondition(end + length <= chunk.capacity, "received \(length) bytes into \(chunk.capacity - end)")
    end += length
    if length * 8 >= readSize {
      smallReads = 0
    } else if readSize > InputBuffer.initialCapacity {
      smallReads += 1
      if smallReads == InputBuffer.smallReadsToShrink {
        smallReads = 0
        readSize /= 2
      }
    }
  }

  /// Says that a read filled its room: the next one's is twice as large, up to 1 MiB. For reactors.
  public mutating func grow() {
    // A read that ended with its message says nothing about how much there is.
    guard expected != count else { return }
    readSize = min(2 * readSize, InputBuffer.largestRead)
  }
}
