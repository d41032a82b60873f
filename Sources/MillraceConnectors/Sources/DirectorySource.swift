// DirectorySource: the rows of files that appear in a directory, each file once.
//
// Position: for each file that is there and was begun, its offset int64 (−1: read to its end), the length of its name
// int32, its name (UTF-8); numbers are big endian. Files that were read and are gone are forgotten.

import MillraceBase
import MillraceDataflow
import MillraceIO
import MillraceModel
import MillraceStreams

/// What a row of a file is.
public enum RowFormat: Sendable {
  /// A line, without its line feed. One of more than 256 KiB becomes several.
  case lines
  /// A row of CSV, which may hold line breaks in quotes, at most 256 KiB. The first row of a file is its header: it is
  /// no record, but the key of the file's records, where `.csv(columns: .recordKey)` finds it.
  case csv
}

/// Watches a directory and reads each file in it once, in the order of their names.
///
/// A file must be whole when it gets its name: write it under another one and rename it. Names that begin with a dot
/// or end in `.part` or `.tmp`, and folders, are passed over. What is added to a file that was read is not read. The
/// position names all files that are there: take away what was read, before there are more than some thousands.
public final class DirectorySource: ReplayableSource {
  private static let bufferSize = 256 << 10

  private let directory: String
  private let rows: RowFormat
  private let watches: Bool
  private let fileSystem: any FileSystem
  private let clock: @Sendable () -> MonotonicTime
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: DirectorySource.bufferSize, alignment: 16)
  /// Offsets of the files that were begun; −1 at the end.
  private var offsets: [String: Int64] = [:]
  private var file: (name: String, file: any File, header: [UInt8]?)?
  private var lastLook: MonotonicTime?

  /// How often the directory is looked at when there is nothing to read.
  public static let interval = Duration.milliseconds(200)

  /// - Parameters:
  ///   - watches: for files to come; without, the source ends when the files that are there have been read.
  ///   - clock: tells when to look again.
  public init(
    _ directory: String, rows: RowFormat = .lines, watches: Bool = true,
    in fileSystem: any FileSystem = LinuxFileSystem(),
    clock: @escaping @Sendable () -> MonotonicTime = { .now }
  ) {
    self.directory = directory
    self.rows = rows
    self.watches = watches
    self.fileSystem = fileSystem
    self.clock = clock
  }

  deinit {
    file?.file.close()
    buffer.deallocate()
  }

  /// Goes to a position.
  /// - Throws: `.sourceFailed` when it is none.
  public func restore(_ position: Bytes?) throws(JobError) {
    guard let position else { return }
    var reader = ByteReader(position)
    do throws(DecodingError) {
      while reader.remaining > 0 {
        let offset = try reader.int64()
        let name = try reader.string(Int(try reader.int32()))
        guard offset >= -1, !name.contains("/"), offsets.updateValue(offset, forKey: name) == nil else {
          throw DecodingError("offset \(offset) of \"\(name)\"", at: reader.position)
        }
      }
    } catch {
      throw JobError(.sourceFailed, "a position of the directory \(directory): \(error)")
    }
  }

  private var position: Bytes {
    var writer = ByteWriter()
    for (name, offset) in offsets.sorted(by: { $0.key < $1.key }) {
      writer.int64(offset)
      writer.int32(Int32(name.utf8.count))
      writer.utf8(name)
    }
    return writer.finishJoined()
  }

  /// The next rows.
  /// - Throws: `.sourceFailed` when the directory or a file cannot be read, a file went before it was read to its end,
  ///   or a row of CSV is too long.
  public func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    var builder = RecordBatchBuilder()
    var isFinished = false
    do throws(IOError) {
      while builder.count == 0 || builder.size < maxBytes {
        if file == nil, try !open() {
          isFinished = !watches && lastLook != nil
          break
        }
        if try !read(maxBytes, &builder) { leave() }
      }
    } catch {
      throw JobError(.sourceFailed, error.description)
    }
    return SourceBatch(batch: builder.count > 0 ? builder.finish() : nil, position: position, isFinished: isFinished)
  }

  // MARK: Files

  private func failure(_ name: String, _ reason: String) -> IOError {
    IOError(.failed, operation: "read", subject: directory + "/" + name, reason: reason)
  }

  /// Opens the next file.
  /// - Returns: false when there is none, or it is not time to look.
  private func open() throws(IOError) -> Bool {
    let now = clock()
    if let lastLook, now - lastLook < DirectorySource.interval { return false }
    let names = try fileSystem.list(directory).filter {
      !$0.hasPrefix(".") && !$0.hasSuffix(".part") && !$0.hasSuffix(".tmp")
    }
    let there = Set(names)
    if let gone = offsets.first(where: { $0.value >= 0 && !there.contains($0.key) }) {
      throw failure(gone.key, "it is gone, and was read up to byte \(gone.value) only")
    }
    offsets = offsets.filter { there.contains($0.key) }
    for name in names.sorted() where offsets[name] != -1 {
      guard let opened = try openFile(name) else { continue }
      file = (name, opened, nil)
      let offset = offsets[name] ?? 0
      offsets[name] = offset
      if rows == .csv { try readHeader(name, opened) }
      return true
    }
    lastLook = now
    return false
  }

  /// - Returns: nil for a folder, and for a file that is gone already.
  private func openFile(_ name: String) throws(IOError) -> (any File)? {
    let path = directory + "/" + name
    do throws(IOError) {
      let opened = try fileSystem.open(path, .read)
      // A folder opens on Linux, and cannot be read.
      _ = try opened.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<1]), at: 0)
      return opened
    } catch {
      guard error.code == .notFound || isFolder(path) else { throw error }
      return nil
    }
  }

  private func isFolder(_ path: String) -> Bool {
    do throws(IOError) {
      _ = try fileSystem.list(path)
      return true
    } catch {
      return false
    }
  }

  private func readHeader(_ name: String, _ opened: any File) throws(IOError) {
    let got = try opened.read(into: buffer, at: 0)
    let text = UnsafeRawBufferPointer(rebasing: buffer[..<got])
    guard got > 0, let row = try self.row(text, 0, isEnd: got < buffer.count, name) else { return }
    file?.header = Array(text[..<row.end])
    if offsets[name] == 0 { offsets[name] = Int64(row.next) }
  }

  private func leave() {
    if let file {
      file.file.close()
      offsets[file.name] = -1
    }
    file = nil
  }

  // MARK: Rows

  /// Adds rows from one piece of the file, until the batch is large enough.
  /// - Returns: false at the end of the file.
  private func read(_ maxBytes: Int, _ builder: inout RecordBatchBuilder) throws(IOError) -> Bool {
    guard let current = file, let offset = offsets[current.name] else { return false }
    let name = current.name
    let got = try current.file.read(into: buffer, at: offset)
    guard got > 0 else { return false }
    let text = UnsafeRawBufferPointer(rebasing: buffer[..<got])
    // With its last row a file is read to its end, so that the commit says so.
    let isEnd = try current.file.size() <= offset + Int64(got)
    var start = 0
    while start < got, builder.count == 0 || builder.size < maxBytes {
      guard let row = try self.row(text, start, isEnd: isEnd, name) else { break }
      let value = UnsafeRawBufferPointer(rebasing: text[start..<row.end])
      if let header = current.header {
        header.withUnsafeBytes { builder.append(key: $0, value: value, timestamp: .none) }
      } else {
        builder.append(key: nil, value: value, timestamp: .none)
      }
      start = row.next
    }
    offsets[name] = offset + Int64(start)
    return !(isEnd && start == got)
  }

  /// Where the row that begins at `start` ends, and the next one begins; nil when its end is in the next piece.
  private func row(
    _ text: UnsafeRawBufferPointer, _ start: Int, isEnd: Bool, _ name: String
  ) throws(IOError) -> (end: Int, next: Int)? {
    var at = start
    var isQuoted = false
    while at < text.count {
      let byte = text[at]
      if byte == 10, !isQuoted { return (at, at + 1) }
      if byte == 0x22, rows == .csv { isQuoted.toggle() }
      at += 1
    }
    if isEnd { return (text.count, text.count) }
    guard start == 0 else { return nil }
    guard rows == .lines else { throw failure(name, "a row of more than \(text.count) bytes") }
    return (text.count, text.count)
  }
}

extension DataStream where Source == RecordInput {
  /// The rows of the files that appear in a directory, each file once; see ``DirectorySource``.
  ///
  /// - Parameters:
  ///   - name: owns what was read, in the job's state; the directory's path when nil.
  ///   - watches: for files to come; without, the input ends when the files that are there have been read.
  public static func directory(
    _ directory: String, rows: RowFormat = .lines, watches: Bool = true, named name: String? = nil,
    in fileSystem: any FileSystem = LinuxFileSystem()
  ) -> DataStream<RecordInput> {
    source(name ?? directory) { () throws(JobError) in
      DirectorySource(directory, rows: rows, watches: watches, in: fileSystem)
    }
  }
}
