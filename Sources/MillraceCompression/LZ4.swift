// LZ4: LZ4 frames.
//
// Clients of Kafka before 0.10 computed the header checksum over the magic too; those that still do send message formats
// older than the record batch, which the broker does not take, so their frames are refused as corrupt here.

import CLZ4
import MillraceBase

enum LZ4 {
  static func decompress(_ input: UnsafeRawBufferPointer, into output: inout BoundedOutput) throws(CompressionError) {
    var context: OpaquePointer?
    let made = LZ4F_createDecompressionContext(&context, UInt32(LZ4F_VERSION))
    guard LZ4F_isError(made) == 0, let context else {
      throw CompressionError(.failed, .lz4, "no decompression context: \(name(made))")
    }
    defer { LZ4F_freeDecompressionContext(context) }
    var position = 0
    while true {
      let room = output.room()
      var used = input.count - position
      var written = room.count
      let result = LZ4F_decompress(
        context, room.baseAddress, &written, input.baseAddress?.advanced(by: position), &used, nil)
      if LZ4F_isError(result) != 0 {
        throw CompressionError(.corrupt, .lz4, "\(name(result)) near byte \(position)")
      }
      position += used
      try output.wrote(written)
      // 0: a frame is complete, and the context is ready for the next one.
      if result == 0 {
        if position == input.count { return }
      } else if position == input.count && written < room.count {
        throw CompressionError(.corrupt, .lz4, "the data ends after \(position) bytes, inside a frame")
      }
    }
  }

  static func compress(_ input: UnsafeRawBufferPointer, level: Int?) throws(CompressionError) -> Bytes {
    var preferences = LZ4F_preferences_t()
    // As Kafka's clients: blocks of 64 KiB that stand alone, since their readers want that.
    preferences.frameInfo.blockSizeID = LZ4F_max64KB
    preferences.frameInfo.blockMode = LZ4F_blockIndependent
    preferences.compressionLevel = Int32(level ?? 0)
    let bound = LZ4F_compressFrameBound(input.count, &preferences)
    return try BoundedOutput.compressed(.lz4, bound: bound) { room throws(CompressionError) in
      let length = LZ4F_compressFrame(room.baseAddress, room.count, input.baseAddress, input.count, &preferences)
      guard LZ4F_isError(length) == 0 else { throw CompressionError(.failed, .lz4, name(length)) }
      return length
    }
  }

  private static func name(_ code: Int) -> String { String(cString: LZ4F_getErrorName(code)) }
}
