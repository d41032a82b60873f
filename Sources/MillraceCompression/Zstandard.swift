// Zstandard: zstd frames, with or without their size in the header.

import CZstd
import MillraceBase

enum Zstandard {
  /// Largest window accepted, as a power of two: 8 MiB, which every decoder should take and no usual level exceeds, and for
  /// inputs of 1 MiB and more 128 MiB, zstd's own limit for streams. The library allocates what a frame asks for, so a few
  /// bytes must not ask for much. Source: RFC 8878, section 3.1.1.1.2; zstd.h, ZSTD_WINDOWLOG_LIMIT_DEFAULT.
  private static func largestWindowLog(_ input: Int) -> Int32 { input < 1 << 20 ? 23 : 27 }

  static func decompress(_ input: UnsafeRawBufferPointer, into output: inout BoundedOutput) throws(CompressionError) {
    guard let context = ZSTD_createDCtx() else {
      throw CompressionError(.failed, .zstd, "no memory for a decompression context")
    }
    defer { ZSTD_freeDCtx(context) }
    _ = ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, largestWindowLog(input.count))
    let announced = ZSTD_getFrameContentSize(input.baseAddress, input.count)
    // The two largest numbers say "unknown" and "no frame". Source: zstd.h, ZSTD_CONTENTSIZE_UNKNOWN, _ERROR.
    if announced < UInt64.max - 1 { try output.expect(announced) }
    var from = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
    while true {
      let room = output.room()
      var to = ZSTD_outBuffer(dst: room.baseAddress, size: room.count, pos: 0)
      let result = ZSTD_decompressStream(context, &to, &from)
      if ZSTD_isError(result) != 0 {
        throw CompressionError(.corrupt, .zstd, "\(name(result)) near byte \(from.pos)")
      }
      try output.wrote(to.pos)
      // 0: a frame is complete and written out; the context is ready for the next one.
      if result == 0 {
        if from.pos == from.size { return }
      } else if from.pos == from.size && to.pos < to.size {
        throw CompressionError(.corrupt, .zstd, "the data ends after \(from.pos) bytes, inside a frame")
      }
    }
  }

  static func compress(_ input: UnsafeRawBufferPointer, level: Int?) throws(CompressionError) -> Bytes {
    try BoundedOutput.compressed(.zstd, bound: ZSTD_compressBound(input.count)) { room throws(CompressionError) in
      let length = ZSTD_compress(
        room.baseAddress, room.count, input.baseAddress, input.count, Int32(level ?? Int(ZSTD_CLEVEL_DEFAULT)))
      guard ZSTD_isError(length) == 0 else { throw CompressionError(.failed, .zstd, name(length)) }
      return length
    }
  }

  private static func name(_ code: Int) -> String { String(cString: ZSTD_getErrorName(code)) }
}
