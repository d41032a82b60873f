// Files: the data directory's files, read as fast as the disk gives them.

import Foundation
import Glibc

enum Files {
  /// All files, with their sizes.
  static func sizes(below folder: String) throws -> [(path: String, size: Int)] {
    var found: [(path: String, size: Int)] = []
    for case let name as String in FileManager.default.enumerator(atPath: folder) ?? .init() {
      let path = folder + "/" + name
      var status = stat()
      guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
      // What is written, not what is set aside.
      found.append((path, min(Int(status.st_size), Int(status.st_blocks) * 512)))
    }
    return found
  }

  /// Takes the files out of the page cache.
  static func forget(below folder: String) throws {
    for (path, _) in try sizes(below: folder) {
      let file = open(path, O_RDONLY)
      guard file >= 0 else { continue }
      fdatasync(file)
      _ = posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED)
      close(file)
    }
  }

  /// Reads everything, a mebibyte at a time.
  /// - Returns: the seconds that it took.
  static func readAll(below folder: String) throws -> Double {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    defer { memory.deallocate() }
    let begun = Report.elapsedSeconds()
    for (path, _) in try sizes(below: folder) {
      let file = open(path, O_RDONLY)
      guard file >= 0 else { continue }
      while read(file, memory, 1 << 20) > 0 {}
      close(file)
    }
    return Report.elapsedSeconds() - begun
  }

  static func removeAll(below folder: String) throws {
    if FileManager.default.fileExists(atPath: folder) { try FileManager.default.removeItem(atPath: folder) }
  }
}
