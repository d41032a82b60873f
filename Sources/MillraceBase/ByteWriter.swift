// ByteWriter: builds messages, copying small parts and splicing in large ones without a copy.

/// Grows a message in memory. Numbers are big endian.
///
/// Large slices are not copied but spliced in: the result is a list of pieces to be sent in order.
///
/// A writer has one owner: a copy of one that was written to shares its memory, so only one of the two may be used.
public struct ByteWriter {
  private var chunk: Chunk
  private var start = 0
  private var end = 0
  private var pieces: [Bytes] = []
  private var piecesCount = 0

  /// Slices from this size on are spliced in rather than copied.
  public static let spliceThreshold = 8 * 1024

  /// A writer whose first memory holds `capacity` bytes.
  public init(capacity: Int = 512) {
    chunk = Chunk(capacity: max(capacity, 64))
  }

  /// Bytes written so far, spliced ones included.
  public var count: Int { piecesCount + end - start }

  @inline(__always)
  private mutating func room(_ count: Int) -> UnsafeMutableRawPointer {
    if end + count > chunk.capacity { grow(count) }
    let at = chunk.base + end
    end += count
    return at
  }

  private mutating func grow(_ count: Int) {
    let held = end - start
    // Memory doubles while a run grows; behind a cut it need not.
    let larger = Chunk(capacity: max(2 * (held + count), held == 0 ? chunk.capacity : 2 * chunk.capacity))
    larger.base.copyMemory(from: chunk.base + start, byteCount: held)
    chunk = larger
    start = 0
    end = held
  }

  @inline(__always)
  private mutating func fixed<T: FixedWidthInteger>(_ value: T) {
    room(MemoryLayout<T>.size).storeBytes(of: value.bigEndian, as: T.self)
  }

  /// One byte, 0 or 1.
  public mutating func bool(_ value: Bool) { fixed(UInt8(value ? 1 : 0)) }
  /// One signed byte.
  public mutating func int8(_ value: Int8) { fixed(value) }
  /// One byte.
  public mutating func uint8(_ value: UInt8) { fixed(value) }
  /// Two bytes.
  public mutating func int16(_ value: Int16) { fixed(value) }
  /// Two bytes, unsigned.
  public mutating func uint16(_ value: UInt16) { fixed(value) }
  /// Four bytes.
  public mutating func int32(_ value: Int32) { fixed(value) }
  /// Four bytes, unsigned.
  public mutating func uint32(_ value: UInt32) { fixed(value) }
  /// Eight bytes.
  public mutating func int64(_ value: Int64) { fixed(value) }
  /// Eight bytes, unsigned.
  public mutating func uint64(_ value: UInt64) { fixed(value) }
  /// Eight bytes, IEEE 754.
  public mutating func float64(_ value: Double) { fixed(value.bitPattern) }

  /// Unsigned LEB128.
  public mutating func unsignedVarlong(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      uint8(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    uint8(UInt8(rest))
  }
  /// Unsigned LEB128.
  public mutating func unsignedVarint(_ value: UInt32) { unsignedVarlong(UInt64(value)) }
  /// Zig-zag LEB128.
  public mutating func varlong(_ value: Int64) { unsignedVarlong(UInt64(bitPattern: (value << 1) ^ (value >> 63))) }
  /// Zig-zag LEB128.
  public mutating func varint(_ value: Int32) { varlong(Int64(value)) }

  /// Copies `buffer`.
  public mutating func copy(_ buffer: UnsafeRawBufferPointer) {
    guard let from = buffer.baseAddress, buffer.count > 0 else { return }
    room(buffer.count).copyMemory(from: from, byteCount: buffer.count)
  }

  /// Calls `body` with room for `limit` bytes; it writes from the first on and returns how many it wrote.
  ///
  /// For what is laid out in one go: a border between targets is then crossed once.
  public mutating func fill(atMost limit: Int, _ body: (UnsafeMutableRawPointer) -> Int) {
    if end + limit > chunk.capacity { grow(limit) }
    let written = body(chunk.base + end)
    precondition(written >= 0 && written <= limit, "\(written) bytes written into room for \(limit)")
    end += written
  }

  /// Copies the UTF-8 of `text`, without a length.
  public mutating func utf8(_ text: String) {
    var text = text
    text.withUTF8 { copy(UnsafeRawBufferPointer($0)) }
  }

  /// Appends `bytes`: copied when small, spliced in when large.
  public mutating func append(_ bytes: Bytes) {
    if bytes.count < ByteWriter.spliceThreshold {
      bytes.withBuffer { copy($0) }
    } else {
      cut()
      pieces.append(bytes)
      piecesCount += bytes.count
    }
  }

  /// Replaces four bytes at `position`, which must lie before the first splice or behind the last.
  public mutating func patchInt32(_ value: Int32, at position: Int) {
    if position >= piecesCount {
      precondition(position + 4 <= count, "patch at \(position) of \(count)")
      chunk.base.storeBytes(of: value.bigEndian, toByteOffset: start + position - piecesCount, as: Int32.self)
    } else if let first = pieces.first {
      precondition(position + 4 <= first.count, "patch at \(position) lies beyond the first piece of \(first.count)")
      // Safety: the first piece is this writer's own and has not been handed out yet.
      UnsafeMutableRawPointer(mutating: first.start).storeBytes(
        of: value.bigEndian, toByteOffset: position, as: Int32.self)
    }
  }

  /// Calls `body` with the `count` bytes from `position` on, to write them anew; nothing may have been spliced in yet.
  public mutating func overwrite(_ count: Int, at position: Int, _ body: (UnsafeMutableRawPointer) -> Void) {
    precondition(
      pieces.isEmpty && position >= 0 && count >= 0 && position <= end - start - count,
      "\(count) bytes at \(position) of \(end - start)")
    body(chunk.base + start + position)
  }

  private mutating func cut() {
    guard end > start else { return }
    pieces.append(chunk.bytes(start..<end))
    piecesCount += end - start
    start = end
  }

  /// Takes the pieces written so far, in order; writing goes on from position 0, in what is left of the memory.
  public mutating func drain() -> [Bytes] {
    cut()
    defer {
      pieces = []
      piecesCount = 0
    }
    return pieces
  }

  /// A copy of what was written, in memory of its size; writing begins anew in the same memory. Nothing may have been
  /// spliced in, nor drained.
  public mutating func takeCopy() -> Bytes {
    precondition(pieces.isEmpty && start == 0, "parts of what was written were handed out")
    defer { end = 0 }
    return Bytes(copying: UnsafeRawBufferPointer(start: chunk.base, count: end))
  }

  /// The pieces in order; the writer is done with.
  public consuming func finish() -> [Bytes] {
    cut()
    return pieces
  }

  /// Everything as one run; copies only when something was spliced in.
  public consuming func finishJoined() -> Bytes {
    if pieces.isEmpty { return chunk.bytes(start..<end) }
    cut()
    if pieces.count == 1 { return pieces[0] }
    let whole = Chunk(capacity: max(piecesCount, 1))
    var at = 0
    for piece in pieces {
      piece.withBuffer { from in
        if let base = from.baseAddress { (whole.base + at).copyMemory(from: base, byteCount: from.count) }
      }
      at += piece.count
    }
    return whole.bytes(0..<at)
  }
}

extension ByteWriter {
  /// CRC-32C of what was written from `position` on; nothing may have been spliced in yet.
  public func checksum(from position: Int) -> UInt32 {
    precondition(pieces.isEmpty && position <= end - start, "checksum from \(position) of \(end - start)")
    defer { extendLifetime(chunk) }
    return CRC32C.checksum(UnsafeRawBufferPointer(start: chunk.base + start + position, count: end - start - position))
  }
}
