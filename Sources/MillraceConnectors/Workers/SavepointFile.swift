// SavepointFile: a job's state as of one commit, in a file that a job can begin with.
//
// "MRSP", version uint16 (1), job (uint32 length, UTF-8), epoch int64; then entries: size uint32, a record batch of the state log
// with its own CRC. The last entry holds the positions and nothing else; no other holds any. A size of 0 ends the entries; behind
// it stands their number, uint64, and the file ends. Numbers are big endian.

import MillraceBase
import MillraceDataflow
import MillraceIO
import MillraceModel

/// Reads a savepoint.
struct SavepointReader {
  /// The job that it was made of.
  let job: String
  /// The job's newest run at that time.
  let epoch: Int64
  private let size: Int64
  private let start: Int64
  private let read: (Int64, Int) throws(JobError) -> Bytes

  private static let magic: UInt32 = 0x4d52_5350
  private static let version: UInt16 = 1
  private static let largestName = 4096
  /// As much as one batch of a state log may have.
  private static let largestBatch: Int64 = 64 << 20

  /// - Parameters:
  ///   - size: the file's.
  ///   - read: so many bytes of it from a position on, all of which are there.
  /// - Throws: `.corruptState` when it is no savepoint, or one of another version.
  init(size: Int64, read: @escaping (Int64, Int) throws(JobError) -> Bytes) throws(JobError) {
    self.size = size
    self.read = read
    let head = try read(0, Int(min(size, Int64(SavepointReader.largestName + 32))))
    do throws(DecodingError) {
      var reader = ByteReader(head)
      guard try reader.uint32() == SavepointReader.magic else { throw DecodingError("no savepoint", at: 0) }
      let version = try reader.uint16()
      guard version == SavepointReader.version else {
        throw DecodingError("a savepoint of version \(version), this program reads 1", at: 4)
      }
      job = try reader.text()
      epoch = try reader.int64()
      start = Int64(reader.position)
    } catch {
      throw JobError(.corruptState, "the savepoint cannot be read: \(error)")
    }
  }

  /// Opens a file.
  init(path: String) throws(JobError) {
    let file: any File
    let size: Int64
    do throws(IOError) {
      file = try LinuxFileSystem().open(path, .read)
      size = try file.size()
    } catch {
      throw JobError(.corruptState, "the savepoint cannot be read: \(error)")
    }
    try self.init(size: size) { (position, count) throws(JobError) in
      let chunk = Chunk(capacity: max(1, count))
      let got: Int
      do throws(IOError) {
        got = try file.read(into: UnsafeMutableRawBufferPointer(start: chunk.base, count: count), at: position)
      } catch {
        throw JobError(.corruptState, "the savepoint cannot be read: \(error)")
      }
      guard got == count else { throw JobError(.corruptState, "the savepoint \(path) ends at \(position)") }
      return chunk.bytes(0..<count)
    }
  }

  /// Calls `body` with each batch, in order, the positions last.
  /// - Throws: `.corruptState` where the file is damaged or cut off; what `body` throws.
  func forEachBatch(_ body: (Bytes, _ isLast: Bool) throws(JobError) -> Void) throws(JobError) {
    var position = start
    var held: Bytes?
    var count: UInt64 = 0
    while true {
      let length = Int64(try number(at: position, 4))
      position += 4
      if length == 0 { break }
      guard length <= SavepointReader.largestBatch, length <= size - position else {
        throw JobError(.corruptState, "the savepoint announces \(length) bytes at \(position) of \(size)")
      }
      let batch = try read(position, Int(length))
      do throws(RecordBatchError) {
        let header = try RecordBatchHeader.checked(batch)
        guard header.totalSize == batch.count else { throw RecordBatchError(.malformed, "a batch that is cut off") }
      } catch {
        throw JobError(.corruptState, "the savepoint is damaged at \(position): \(error)")
      }
      position += length
      count += 1
      if let held { try body(held, false) }
      held = batch
    }
    guard try number(at: position, 8) == count, position + 8 == size else {
      throw JobError(.corruptState, "the savepoint is damaged at its end")
    }
    if let held { try body(held, true) }
  }

  private func number(at position: Int64, _ width: Int) throws(JobError) -> UInt64 {
    guard Int64(width) <= size - position else {
      throw JobError(.corruptState, "the savepoint is cut off at \(position)")
    }
    return try read(position, width).withBuffer { buffer in buffer.reduce(0) { $0 << 8 | UInt64($1) } }
  }

  /// The file's head.
  static func head(job: String, epoch: Int64) -> Bytes {
    var writer = ByteWriter()
    writer.uint32(magic)
    writer.uint16(version)
    writer.text(job)
    writer.int64(epoch)
    return writer.finishJoined()
  }
}

/// Writes a savepoint, beside its final name until it is whole.
final class SavepointWriter {
  private let path: String
  private let disk = LinuxFileSystem()
  private var file: (any File)?
  private var size: Int64 = 0
  private var count: UInt64 = 0
  private var positions: [[UInt8]: Bytes] = [:]
  private var order: [[UInt8]] = []

  private var partial: String { path + ".partial" }

  init(path: String) { self.path = path }

  /// Begins anew.
  func begin(job: String, epoch: Int64) throws(JobError) {
    try wrapping { () throws(IOError) in
      file?.close()
      file = try disk.open(partial, [.write, .create, .truncate])
    }
    size = 0
    count = 0
    positions = [:]
    order = []
    try append(SavepointReader.head(job: job, epoch: epoch))
  }

  private func wrapping(_ body: () throws(IOError) -> Void) throws(JobError) {
    do throws(IOError) { try body() } catch {
      throw JobError(.sourceFailed, "the savepoint cannot be written: \(error)")
    }
  }

  private func append(_ bytes: Bytes) throws(JobError) {
    guard let file else { return }
    try wrapping { () throws(IOError) in
      try bytes.withBuffer { buffer throws(IOError) in try file.write(buffer, at: size) }
    }
    size += Int64(bytes.count)
  }

  private func entry(_ batch: Bytes) throws(JobError) {
    var writer = ByteWriter(capacity: batch.count + 8)
    writer.bytes(batch)
    try append(writer.finishJoined())
    count += 1
  }

  /// Takes a batch of the state log, without the positions in it: those are kept for the end.
  func add(_ batch: Bytes) throws(JobError) {
    var builder = RecordBatchBuilder()
    var hasPositions = false
    do throws(RecordBatchError) {
      let header = try RecordBatchHeader.checked(batch)
      let records = batch[RecordBatchHeader.size..<header.totalSize]
      try RecordReader.forEach(in: records.buffer, count: Int(header.recordCount)) { record in
        let isPrefixed = record.key.count >= StateRecordKind.prefixSize
        switch isPrefixed ? record.key[2] : StateRecordKind.keyedValue {
        case StateRecordKind.position:
          hasPositions = true
          let key = Array(record.key)
          if positions.updateValue(Bytes(copying: record.value), forKey: key) == nil { order.append(key) }
        case StateRecordKind.savepoint: hasPositions = true
        default:
          builder.append(
            key: record.key, value: record.value.baseAddress == nil ? nil : record.value,
            timestamp: Timestamp(milliseconds: header.baseTimestamp.milliseconds &+ record.timestampDelta))
        }
      }
      extendLifetime(records)
    } catch {
      throw JobError(.corruptState, "the state log: \(error)")
    }
    if !hasPositions { return try entry(batch) }
    if builder.count > 0 { try entry(builder.finish()) }
  }

  /// Writes the positions, and gives the file its name once it is durable.
  /// - Returns: its bytes.
  func finish() throws(JobError) -> Int64 {
    var builder = RecordBatchBuilder()
    for key in order {
      guard let value = positions[key] else { continue }
      key.withUnsafeBytes { key in value.withBuffer { builder.append(key: key, value: $0, timestamp: .now) } }
    }
    if builder.count > 0 { try entry(builder.finish()) }
    var end = ByteWriter()
    end.uint32(0)
    end.uint64(count)
    try append(end.finishJoined())
    guard let file else { return 0 }
    try wrapping { () throws(IOError) in
      try file.flush()
      file.close()
      try disk.rename(partial, to: path)
      let folder = path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
      try disk.syncDirectory(folder.isEmpty ? (path.hasPrefix("/") ? "/" : ".") : folder)
    }
    self.file = nil
    return size
  }

  /// Takes away what was written.
  func abandon() {
    guard let file else { return }
    file.close()
    self.file = nil
    // What stays behind is no savepoint, and is written over by the next one.
    do throws(IOError) { try disk.remove(partial) } catch {}
  }
}

extension JobControl {
  /// Writes a job's state as of one commit into a file, which replaces one of the same name once it is whole.
  /// - Returns: the file's bytes.
  /// - Throws: `.invalidJob` when there is none of the name, `.sourceFailed` when the file cannot be written.
  public func savepoint(_ job: String, to path: String) throws(JobError) -> Int64 {
    let writer = SavepointWriter(path: path)
    do throws(JobError) {
      let epoch = try show(job).entry.epoch
      try writer.begin(job: job, epoch: epoch)
      _ = try readState(job) { (batch) throws(JobError) in
        if let batch { try writer.add(batch) } else { try writer.begin(job: job, epoch: epoch) }
      }
      return try writer.finish()
    } catch {
      writer.abandon()
      throw error
    }
  }
}
