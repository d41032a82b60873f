// BoundedOutput: memory that grows with what a decoder produces, up to a limit.

import MillraceBase

/// Collects decompressed bytes.
///
/// A decoder fills ``room()`` and says how much it wrote. There is always room for one byte more than the limit: a decoder
/// that uses it has exceeded the limit, which ``wrote(_:)`` reports, so output of exactly the limit can be told from more.
struct BoundedOutput {
  /// Most that is reserved because the data announces it.
  static let largestReservation = 1 << 20
  private static let smallestReservation = 4096

  let format: CompressionFormat
  let limit: Int
  private(set) var count = 0
  private var chunk: Chunk?

  init(format: CompressionFormat, limit: Int) {
    self.format = format
    self.limit = limit
  }

  /// Most the memory may hold: the limit, and one byte that shows that it was exceeded.
  private var most: Int { limit == .max ? .max : limit + 1 }

  /// Says that the data announces `announced` more bytes: refuses what exceeds the limit, believes the rest within reason.
  mutating func expect(_ announced: UInt64) throws(CompressionError) {
    guard announced <= UInt64(limit - count) else {
      throw CompressionError(.limitExceeded, format, "\(count) + \(announced) bytes announced, the limit is \(limit)")
    }
    reserve(count + min(Int(announced), BoundedOutput.largestReservation - 1) + 1)
  }

  /// Free memory behind what was written, never empty.
  mutating func room() -> UnsafeMutableRawBufferPointer {
    if count == (chunk?.capacity ?? 0) { reserve(max(BoundedOutput.smallestReservation, 2 * count)) }
    guard let chunk else { preconditionFailure("no memory after reserving") }
    return UnsafeMutableRawBufferPointer(start: chunk.base + count, count: min(chunk.capacity, most) - count)
  }

  /// Free memory for exactly `length` bytes, which must not exceed the limit.
  mutating func room(exactly length: Int) -> UnsafeMutableRawBufferPointer {
    precondition(length <= limit - count, "\(length) bytes more than \(count) of \(limit)")
    if count + length > (chunk?.capacity ?? 0) { reserve(max(count + length, 2 * count, 1)) }
    guard let chunk else { preconditionFailure("no memory after reserving") }
    return UnsafeMutableRawBufferPointer(start: chunk.base + count, count: length)
  }

  /// Says that `length` bytes of the room were filled.
  mutating func wrote(_ length: Int) throws(CompressionError) {
    count += length
    if count > limit { throw CompressionError(.limitExceeded, format, "more than the limit of \(limit) bytes") }
  }

  /// What was written.
  consuming func finish() -> Bytes {
    guard let chunk, count > 0 else { return Bytes() }
    return chunk.bytes(0..<count)
  }

  private mutating func reserve(_ wanted: Int) {
    let capacity = max(1, min(wanted, most))
    guard capacity > (chunk?.capacity ?? 0) else { return }
    let larger = Chunk(capacity: capacity)
    if let chunk { larger.base.copyMemory(from: chunk.base, byteCount: count) }
    chunk = larger
  }
}

extension BoundedOutput {
  /// Memory for the output of a compressor whose largest size is known.
  static func compressed(
    _ format: CompressionFormat, bound: Int,
    _ body: (UnsafeMutableRawBufferPointer) throws(CompressionError) -> Int
  ) throws(CompressionError) -> Bytes {
    let chunk = Chunk(capacity: max(bound, 1))
    let length = try body(UnsafeMutableRawBufferPointer(start: chunk.base, count: bound))
    // The bound exceeds the output by far when the data compresses well, and the slice would keep all of it.
    return length < bound / 2
      ? Bytes(copying: UnsafeRawBufferPointer(start: chunk.base, count: length))
      : chunk.bytes(0..<length)
  }
}
