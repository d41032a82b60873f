// StandardInputSource: the lines that come on standard input.
//
// Position: the bytes that were handed on, int64, big endian. It only counts: standard input cannot be read again.

import Glibc
import MillraceBase
import MillraceDataflow
import MillraceIO
import MillraceModel
import MillraceStreams

/// Hands on the lines of standard input, without their line feeds, each a record without key and with the time at
/// which it came. A line of more than 64 KiB becomes several records.
///
/// Not replayable: lines that were read, and whose step was not committed when the run ended, are lost. Within a run
/// each is handed on once.
public final class StandardInputSource: ReplayableSource {
  /// Longest record in bytes.
  public static let lineLimit = 64 * 1024

  private let readable: () throws(IOError) -> Bool
  private let read: (UnsafeMutableRawBufferPointer) throws(IOError) -> Int
  private let clock: @Sendable () -> Timestamp
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: StandardInputSource.lineLimit, alignment: 16)
  private var held = 0
  private var passed: Int64 = 0
  private var isAtEnd = false

  /// Standard input.
  public convenience init() {
    let input = StandardInput()
    self.init(
      readable: { () throws(IOError) in try input.waitReadable(.zero) },
      read: { (room: UnsafeMutableRawBufferPointer) throws(IOError) in try input.read(into: room) })
  }

  /// - Parameters:
  ///   - readable: whether `read` would not wait.
  ///   - read: what is there; 0 bytes are the end.
  ///   - clock: tells the time.
  init(
    readable: @escaping () throws(IOError) -> Bool,
    read: @escaping (UnsafeMutableRawBufferPointer) throws(IOError) -> Int,
    clock: @escaping @Sendable () -> Timestamp = { .now }
  ) {
    self.readable = readable
    self.read = read
    self.clock = clock
  }

  deinit { buffer.deallocate() }

  /// Goes on counting from a position.
  /// - Throws: `.sourceFailed` when it is none.
  public func restore(_ position: Bytes?) throws(JobError) {
    guard let position else { return }
    var reader = ByteReader(position)
    do throws(DecodingError) {
      passed = try reader.int64()
      guard passed >= 0, reader.remaining == 0 else { throw DecodingError("\(passed) bytes", at: 0) }
    } catch {
      throw JobError(.sourceFailed, "a position of standard input: \(error)")
    }
  }

  /// The lines that have come.
  /// - Throws: `.sourceFailed` when it cannot be read.
  public func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    var builder = RecordBatchBuilder()
    let now = clock()
    do throws(IOError) {
      while !isAtEnd, builder.count == 0 || builder.size < maxBytes, try readable() {
        let got = try read(UnsafeMutableRawBufferPointer(rebasing: buffer[held...]))
        isAtEnd = got == 0
        held += got
        takeLines(&builder, now)
      }
    } catch {
      throw JobError(.sourceFailed, error.description)
    }
    var position = ByteWriter(capacity: 64)
    position.int64(passed)
    return SourceBatch(
      batch: builder.count > 0 ? builder.finish() : nil, position: position.finishJoined(), isFinished: isAtEnd)
  }

  /// Takes the whole lines, and what is left when there is no room for more or the end has come.
  private func takeLines(_ builder: inout RecordBatchBuilder, _ now: Timestamp) {
    var start = 0
    while start < held {
      let rest = UnsafeRawBufferPointer(rebasing: buffer[start..<held])
      let feed = rest.firstIndex(of: 10)
      guard let length = feed ?? (isAtEnd || rest.count == buffer.count ? rest.count : nil) else { break }
      builder.append(key: nil, value: UnsafeRawBufferPointer(rebasing: rest[..<length]), timestamp: now)
      start += length + (feed == nil ? 0 : 1)
    }
    passed += Int64(start)
    held -= start
    if start > 0, held > 0, let base = buffer.baseAddress { memmove(base, base + start, held) }
  }
}

extension DataStream where Source == RecordInput {
  /// The lines of standard input; see ``StandardInputSource``: what a run read and did not commit is lost.
  public static func standardInput(named name: String = "stdin") -> DataStream<RecordInput> {
    source(name) { () throws(JobError) in StandardInputSource() }
  }
}
