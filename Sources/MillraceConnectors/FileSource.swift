// FileSource: the lines of text files as a replayable input.
//
// Position: pass int64, offset int64, file index int32, path (UTF-8), all big endian. The path finds the file again when the
// list has changed. Offset −1 stands behind the file, which was the list's last: files that come after it in a longer
// list are still read.

import MillraceBase
import MillraceDataflow
import MillraceIO
import MillraceModel

/// Reads the lines of a list of files, once or over and over.
///
/// Files that are gone or may not be read are passed over, and, with `textOnly`, also files whose first 4 KiB hold a NUL
/// byte and files named `*.gz`. A line is a record without key, without its line feed; a line of more than 64 KiB becomes several records,
/// cut at a space where there is one.
public final class FileSource: ReplayableSource {
  /// Longest record in bytes.
  public static let lineLimit = 64 * 1024
  private static let bufferSize = 256 * 1024
  private static let probeSize = 4096

  private let files: [String]
  private let fileSystem: any FileSystem
  private let repeats: Bool
  private let textOnly: Bool
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: FileSource.bufferSize, alignment: 16)
  private var pass: Int64 = 0
  private var index = 0
  private var offset: Int64 = 0
  private var file: (any File)?
  private var passHadLines = false

  /// A source of `files`, in this order.
  /// - Parameters:
  ///   - repeats: begins again at the first file after the last; ends when a whole pass brings nothing.
  ///   - textOnly: passes over what does not look like text.
  public init(files: [String], in fileSystem: any FileSystem, repeats: Bool = false, textOnly: Bool = true) {
    self.textOnly = textOnly
    self.files = files
    self.fileSystem = fileSystem
    self.repeats = repeats
  }

  deinit {
    file?.close()
    buffer.deallocate()
  }

  /// Goes to a position of this source.
  /// - Throws: `.sourceFailed` when the position is damaged or its file is not in the list any more.
  public func restore(_ position: Bytes?) throws(JobError) {
    guard let position else { return }
    var reader = ByteReader(position)
    let path: String
    do throws(DecodingError) {
      pass = try reader.int64()
      offset = try reader.int64()
      index = Int(try reader.int32())
      path = try reader.string(reader.remaining)
    } catch {
      throw JobError(.sourceFailed, "a position of the file source: \(error)")
    }
    passHadLines = true
    if path.isEmpty {
      // Behind the last file: nothing to look for.
      index = files.count
      return
    }
    if offset < 0 {
      index = files.firstIndex(of: path).map { $0 + 1 } ?? files.count
      offset = 0
      return
    }
    if index < 0 || index >= files.count || files[index] != path {
      guard let found = files.firstIndex(of: path) else {
        throw JobError(.sourceFailed, "\(path), at which reading stopped, is not among the \(files.count) files")
      }
      index = found
    }
  }

  /// The next lines.
  /// - Throws: `.sourceFailed` when a file cannot be read to its end.
  public func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    var builder = RecordBatchBuilder()
    do throws(IOError) {
      while builder.count == 0 || builder.size < maxBytes {
        guard let file = try current() else { break }
        if try !read(file, maxBytes, &builder) { leave() }
      }
    } catch {
      throw JobError(.sourceFailed, error.description)
    }
    let isFinished = index >= files.count && !(repeats && passHadLines)
    return SourceBatch(batch: builder.count > 0 ? builder.finish() : nil, position: position, isFinished: isFinished)
  }

  private var position: Bytes {
    var writer = ByteWriter()
    writer.int64(pass)
    let isBehind = index >= files.count
    writer.int64(isBehind ? -1 : offset)
    writer.int32(Int32(isBehind ? files.count - 1 : index))
    if let path = isBehind ? files.last : files[index] { writer.utf8(path) }
    return writer.finishJoined()
  }

  /// The file to read from, opened; nil at the end of the last pass.
  private func current() throws(IOError) -> (any File)? {
    if let file { return file }
    while true {
      if index >= files.count {
        guard repeats, passHadLines else { return nil }
        pass += 1
        index = 0
        offset = 0
        passHadLines = false
      }
      if let opened = try open(files[index]) {
        file = opened
        return opened
      }
      index += 1
      offset = 0
    }
  }

  private func open(_ path: String) throws(IOError) -> (any File)? {
    guard !textOnly || !path.hasSuffix(".gz") else { return nil }
    do throws(IOError) {
      let file = try fileSystem.open(path, .read)
      guard textOnly else { return file }
      let probe = UnsafeMutableRawBufferPointer(rebasing: buffer[..<FileSource.probeSize])
      let got = try file.read(into: probe, at: 0)
      if probe[..<got].contains(0) {
        file.close()
        return nil
      }
      return file
    } catch {
      if error.code == .notFound || error.code == .accessDenied { return nil }
      throw error
    }
  }

  private func leave() {
    file?.close()
    file = nil
    index += 1
    offset = 0
  }

  /// Adds lines from one piece of the file, until the batch is large enough.
  /// - Returns: false at the end of the file.
  private func read(_ file: any File, _ maxBytes: Int, _ builder: inout RecordBatchBuilder) throws(IOError) -> Bool {
    let got = try file.read(into: buffer, at: offset)
    guard got > 0 else { return false }
    let isEnd = got < buffer.count
    var start = 0
    while start < got, builder.count == 0 || builder.size < maxBytes {
      let window = buffer[start..<min(got, start + FileSource.lineLimit + 1)]
      let (length, next): (Int, Int)
      if let feed = window.firstIndex(of: 10) {
        (length, next) = (feed - start, feed + 1)
      } else if window.count > FileSource.lineLimit {
        length = FileSource.cut(UnsafeRawBufferPointer(rebasing: window[..<(start + FileSource.lineLimit)]))
        next = start + length
      } else if isEnd {
        (length, next) = (got - start, got)
      } else {
        break  // The rest of the line lies in the next piece.
      }
      let line = UnsafeRawBufferPointer(rebasing: buffer[start..<(start + length)])
      builder.append(key: nil, value: line, timestamp: .none)
      start = next
    }
    passHadLines = true
    offset += Int64(start)
    return !(isEnd && start == got)
  }

  /// Where to cut a line that is too long: behind its last space, else before a UTF-8 sequence.
  private static func cut(_ line: UnsafeRawBufferPointer) -> Int {
    if let space = line.lastIndex(of: 32) { return space + 1 }
    var at = line.count
    for _ in 0..<3 where line[at - 1] & 0xc0 == 0x80 { at -= 1 }
    return line[at - 1] >= 0xc0 ? at - 1 : line.count
  }
}

extension FileSource {
  /// Deepest folder that ``files(under:in:)`` enters; symbolic links may form rings.
  private static let depthLimit = 8

  /// The files that `paths` stand for: files as they are, folders with all files in and below them, sorted by path.
  /// - Throws: when a path is neither a file nor a folder.
  public static func files(under paths: [String], in fileSystem: any FileSystem) throws(IOError) -> [String] {
    var found: [String] = []
    for path in paths {
      guard try fileSystem.exists(path) else {
        throw IOError(.notFound, operation: "read", subject: path, reason: "no such file or folder")
      }
      collect(path, 0, fileSystem, &found)
    }
    return found
  }

  private static func collect(_ path: String, _ depth: Int, _ fileSystem: any FileSystem, _ found: inout [String]) {
    guard depth <= depthLimit else { return }
    let names: [String]
    do throws(IOError) {
      names = try fileSystem.list(path)
    } catch {
      // Not a folder.
      found.append(path)
      return
    }
    for name in names.sorted() {
      collect(path.hasSuffix("/") ? path + name : path + "/" + name, depth + 1, fileSystem, &found)
    }
  }
}
