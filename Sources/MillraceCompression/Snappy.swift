// Snappy: raw snappy blocks, and the framing in which Kafka's Java clients send them.
//
// xerial snappy-java's framing, all numbers big endian. Source: snappy-java, SnappyCodec and SnappyOutputStream.
//
//   0   magic                82 53 4e 41 50 50 59 00 ("\x82SNAPPY\0")
//   8   version              int32, 1
//   12  compatible version   int32, 1: a reader of this version can read it
//   16  blocks, each         int32 length, then a raw snappy block of that length
//
// librdkafka sends one raw block without framing. A raw block starts with its decompressed size as a varint; 82 53 would be
// 10,626 followed by a tag that copies from before the start, so that no valid raw block begins with the magic.

import CSnappy
import MillraceBase

enum Snappy {
  private static let magic: [UInt8] = [0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0]
  private static let headerLength = 16
  /// What snappy-java compresses at once. Source: SnappyOutputStream.DEFAULT_BLOCK_SIZE.
  private static let blockLength = 32 * 1024

  static func decompress(_ input: UnsafeRawBufferPointer, into output: inout BoundedOutput) throws(CompressionError) {
    guard input.count >= magic.count, input.prefix(magic.count).elementsEqual(magic) else {
      return try decompressBlock(input, at: 0, into: &output)
    }
    guard input.count >= headerLength else {
      throw CompressionError(.corrupt, .snappy, "a header of \(input.count) bytes, not \(headerLength)")
    }
    let compatible = number(input, 12)
    guard compatible <= 1 else {
      throw CompressionError(.corrupt, .snappy, "needs a reader of version \(compatible), this one is of version 1")
    }
    var position = headerLength
    while position < input.count {
      guard input.count - position >= 4 else {
        throw CompressionError(.corrupt, .snappy, "a block length is cut off at byte \(position)")
      }
      // Concatenated streams: another header, whose magic no length can be (it would be negative).
      if input[position...].starts(with: magic), input.count - position >= headerLength {
        position += headerLength
        continue
      }
      let length = Int(number(input, position))
      position += 4
      guard length <= input.count - position else {
        throw CompressionError(
          .corrupt, .snappy, "a block of \(length) bytes at byte \(position), \(input.count - position) are there")
      }
      let block = UnsafeRawBufferPointer(rebasing: input[position..<(position + length)])
      try decompressBlock(block, at: position, into: &output)
      position += length
    }
  }

  /// Decompresses one raw block.
  ///
  /// The library writes into memory of the announced size only, so that size is checked first: a snappy element of 3 bytes
  /// makes at most 64, so a block cannot honestly announce more than 22 times its length.
  private static func decompressBlock(
    _ block: UnsafeRawBufferPointer, at position: Int, into output: inout BoundedOutput
  ) throws(CompressionError) {
    let start = block.baseAddress?.assumingMemoryBound(to: CChar.self)
    var length = 0
    guard let start, snappy_uncompressed_length(start, block.count, &length) == SNAPPY_OK else {
      throw CompressionError(.corrupt, .snappy, "the block at byte \(position) has no length")
    }
    guard length <= 22 * block.count else {
      throw CompressionError(
        .corrupt, .snappy, "the block at byte \(position) announces \(length) bytes in \(block.count)")
    }
    guard length <= output.limit - output.count else {
      throw CompressionError(
        .limitExceeded, .snappy, "\(output.count) + \(length) bytes announced, the limit is \(output.limit)")
    }
    // Some damage is seen only while decompressing; this pass makes no output, so nothing is reserved for such a block.
    guard snappy_validate_compressed_buffer(start, block.count) == SNAPPY_OK else {
      throw CompressionError(.corrupt, .snappy, "the block at byte \(position) is damaged")
    }
    guard length > 0 else { return }
    let room = output.room(exactly: length)
    var written = length
    let result = snappy_uncompress(
      start, block.count, room.baseAddress?.assumingMemoryBound(to: CChar.self), &written)
    guard result == SNAPPY_OK, written == length else {
      throw CompressionError(.corrupt, .snappy, "the block at byte \(position) is damaged")
    }
    try output.wrote(written)
  }

  static func compress(_ input: UnsafeRawBufferPointer) throws(CompressionError) -> Bytes {
    let blocks = (input.count + blockLength - 1) / blockLength
    let bound = headerLength + blocks * (4 + snappy_max_compressed_length(blockLength))
    return try BoundedOutput.compressed(.snappy, bound: bound) { room throws(CompressionError) in
      room.copyBytes(from: magic)
      room.storeBytes(of: Int32(1).bigEndian, toByteOffset: 8, as: Int32.self)
      room.storeBytes(of: Int32(1).bigEndian, toByteOffset: 12, as: Int32.self)
      var position = headerLength
      for first in stride(from: 0, to: input.count, by: blockLength) {
        let block = UnsafeRawBufferPointer(rebasing: input[first..<min(first + blockLength, input.count)])
        let out = UnsafeMutableRawBufferPointer(rebasing: room[(position + 4)...])
        var length = out.count
        let result = snappy_compress(
          block.baseAddress?.assumingMemoryBound(to: CChar.self), block.count,
          out.baseAddress?.assumingMemoryBound(to: CChar.self), &length)
        guard result == SNAPPY_OK else {
          throw CompressionError(.failed, .snappy, "the library answers \(result.rawValue)")
        }
        room.storeBytes(of: Int32(length).bigEndian, toByteOffset: position, as: Int32.self)
        position += 4 + length
      }
      return position
    }
  }

  private static func number(_ input: UnsafeRawBufferPointer, _ position: Int) -> UInt32 {
    UInt32(bigEndian: input.loadUnaligned(fromByteOffset: position, as: UInt32.self))
  }
}
