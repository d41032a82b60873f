// Gzip: gzip members (RFC 1952) through zlib.

import CZlib
import MillraceBase

enum Gzip {
  /// Window bits 15, plus 16 for gzip's header and trailer. Source: zlib.h, deflateInit2.
  private static let gzipWindowBits: Int32 = 15 + 16
  /// What `uInt` counts at most.
  private static let largestStep = Int(UInt32.max)

  static func decompress(_ input: UnsafeRawBufferPointer, into output: inout BoundedOutput) throws(CompressionError) {
    var stream = z_stream()
    let started = inflateInit2_(&stream, gzipWindowBits, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
    guard started == Z_OK else { throw CompressionError(.failed, .gzip, "inflateInit2 answers \(started)") }
    defer { inflateEnd(&stream) }
    var position = 0
    while true {
      let room = output.room()
      let given = min(input.count - position, largestStep)
      let free = min(room.count, largestStep)
      // Safety: zlib only reads next_in; both pointers are valid for the counts beside them during the call.
      stream.next_in = UnsafeMutablePointer(
        mutating: input.baseAddress?.advanced(by: position).assumingMemoryBound(to: Bytef.self))
      stream.avail_in = uInt(given)
      stream.next_out = room.baseAddress?.assumingMemoryBound(to: Bytef.self)
      stream.avail_out = uInt(free)
      let result = inflate(&stream, Z_NO_FLUSH)
      let used = given - Int(stream.avail_in)
      let written = free - Int(stream.avail_out)
      position += used
      try output.wrote(written)
      switch result {
      case Z_OK: continue
      case Z_STREAM_END:
        if position == input.count { return }
        inflateReset(&stream)
      case Z_BUF_ERROR where position == input.count:
        throw CompressionError(.corrupt, .gzip, "the data ends after \(position) bytes, inside a member")
      case Z_MEM_ERROR:
        throw CompressionError(.failed, .gzip, "inflate has no memory")
      default:
        let reason = stream.msg.map { String(cString: $0) } ?? "inflate answers \(result)"
        throw CompressionError(.corrupt, .gzip, "\(reason) near byte \(position)")
      }
    }
  }

  static func compress(_ input: UnsafeRawBufferPointer, level: Int?) throws(CompressionError) -> Bytes {
    var stream = z_stream()
    let started = deflateInit2_(
      &stream, Int32(level ?? Int(Z_DEFAULT_COMPRESSION)), Z_DEFLATED, gzipWindowBits, 8, Z_DEFAULT_STRATEGY,
      ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
    guard started == Z_OK else { throw CompressionError(.failed, .gzip, "deflateInit2 answers \(started)") }
    defer { deflateEnd(&stream) }
    let bound = Int(deflateBound(&stream, uLong(input.count)))
    guard bound <= largestStep else {
      throw CompressionError(.failed, .gzip, "\(input.count) bytes are too many for one member")
    }
    return try BoundedOutput.compressed(.gzip, bound: bound) { room throws(CompressionError) in
      // Safety: as above.
      stream.next_in = UnsafeMutablePointer(mutating: input.baseAddress?.assumingMemoryBound(to: Bytef.self))
      stream.avail_in = uInt(input.count)
      stream.next_out = room.baseAddress?.assumingMemoryBound(to: Bytef.self)
      stream.avail_out = uInt(room.count)
      let result = deflate(&stream, Z_FINISH)
      guard result == Z_STREAM_END else { throw CompressionError(.failed, .gzip, "deflate answers \(result)") }
      return room.count - Int(stream.avail_out)
    }
  }
}
