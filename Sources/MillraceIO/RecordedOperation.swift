// RecordedOperation: one entry of a recording of file operations, and the format of that file.
//
//   head   "MRRECORD", version uint32 = 1
//   entry  length   uint32   bytes of the body
//          crc      uint32   CRC-32C of the body
//          body     sequence uint64   1, 2, 3, … in the order in which operations returned
//                   kind     uint8    see Kind
//                   file     uint32   number of the open that the operation belongs to; 0 for operations on names
//                   position int64    write: where; flush, sync: the last sequence that had returned when it began
//                   length   int64    write: bytes; resize: the new size
//                   options  int32    open: OpenOptions
//                   path     int32 length and UTF-8, relative to the recorded directory
//                   target   int32 length and UTF-8; rename: the new name
//                   bytes    the rest; a write without bytes writes `length` zeros
//
// All big endian. An entry is written before its operation returns to the caller, so nobody has acted on what a cut prefix
// leaves out. A flush covers only writes up to its `position`: what returned while it ran may or may not be durable.

import MillraceBase

/// A mutating operation that succeeded.
public struct RecordedOperation: Equatable, Sendable {
  /// What was done.
  public enum Kind: UInt8, Sendable, CaseIterable {
    case open = 1
    case write = 2
    case flush = 3
    case resize = 4
    case rename = 5
    case remove = 6
    case createDirectory = 7
    case syncDirectory = 8
  }

  /// Place in the order of completion, from 1.
  public var sequence: UInt64 = 0
  /// What was done.
  public var kind: Kind
  /// The open that the operation belongs to, 0 for names.
  public var file: UInt32 = 0
  /// Write: where. Flush and sync: the last sequence that it is certain to cover.
  public var position: Int64 = 0
  /// Write: bytes. Resize: the new size.
  public var length: Int64 = 0
  /// How the file was opened.
  public var options: OpenOptions = []
  /// The name, relative to the recorded directory.
  public var path = ""
  /// A rename's new name.
  public var target = ""
  /// What was written; empty when it was `length` zeros.
  public var bytes = Bytes()

  /// The head of a recording.
  public static let head = Bytes("MRRECORD\u{0}\u{0}\u{0}\u{1}")
  private static let fixedSize = 8 + 1 + 4 + 8 + 8 + 4 + 4 + 4
  /// An entry's length and checksum.
  private static let prefixSize = 8

  /// An operation of `kind`.
  public init(_ kind: Kind) { self.kind = kind }

  /// The entry, prefix included.
  func encoded() -> Bytes {
    let isZero = bytes.withBuffer { buffer in buffer.allSatisfy { $0 == 0 } }
    let kept = isZero ? Bytes() : bytes
    var out = ByteWriter(capacity: RecordedOperation.prefixSize + RecordedOperation.fixedSize + 256)
    out.uint64(0)
    out.uint64(sequence)
    out.uint8(kind.rawValue)
    out.uint32(file)
    out.int64(position)
    out.int64(length)
    out.int32(options.rawValue)
    for name in [path, target] {
      out.int32(Int32(name.utf8.count))
      out.utf8(name)
    }
    kept.withBuffer { out.copy($0) }
    out.patchInt32(Int32(bitPattern: out.checksum(from: RecordedOperation.prefixSize)), at: 4)
    out.patchInt32(Int32(out.count - RecordedOperation.prefixSize), at: 0)
    return out.finishJoined()
  }

  /// The next entry of a recording; nil when it is cut short, as a killed process may leave it.
  /// - Throws: when the entry is whole but wrong.
  package static func decode(_ reader: inout ByteReader) throws(MillraceBase.DecodingError) -> RecordedOperation? {
    var ahead = reader
    guard ahead.remaining >= prefixSize else { return nil }
    let length = Int(try ahead.uint32())
    let checksum = try ahead.uint32()
    guard ahead.remaining >= length else { return nil }
    let at = reader.position
    let body = try ahead.slice(length)
    guard body.crc32c == checksum else { throw DecodingError("an entry's checksum differs", at: at) }
    var fields = ByteReader(body)
    let sequence = try fields.uint64()
    let number = try fields.uint8()
    guard let kind = Kind(rawValue: number) else { throw DecodingError("no operation is \(number)", at: at) }
    var out = RecordedOperation(kind)
    out.sequence = sequence
    out.file = try fields.uint32()
    out.position = try fields.int64()
    out.length = try fields.int64()
    out.options = OpenOptions(rawValue: try fields.int32())
    out.path = try fields.string(Int(try fields.int32()))
    out.target = try fields.string(Int(try fields.int32()))
    out.bytes = try fields.slice(fields.remaining)
    reader = ahead
    return out
  }
}
