// ProcFile: the kernel's files about itself, whose size nobody knows before they were read.

import MillraceBase

/// Reads files under /proc and /sys.
package enum ProcFile {
  /// A file's text; empty when it cannot be read. May block.
  /// - Parameter limit: bytes that are read at most.
  package static func text(_ path: String, limit: Int = 1 << 22) -> String {
    do throws(IOError) {
      let file = try LinuxFileSystem().open(path, .read)
      defer { file.close() }
      var bytes: [UInt8] = []
      let chunk = Chunk(capacity: 1 << 16)
      let buffer = UnsafeMutableRawBufferPointer(start: chunk.base, count: 1 << 16)
      while bytes.count < limit {
        let count = try file.read(into: buffer, at: Int64(bytes.count))
        guard count > 0 else { break }
        bytes.append(contentsOf: buffer[..<count])
      }
      return String(decoding: bytes, as: UTF8.self)
    } catch {
      return ""
    }
  }
}
