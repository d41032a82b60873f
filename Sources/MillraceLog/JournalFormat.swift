// JournalFormat: the bytes of journal files.
//
// A journal file is pre-written to its full size and used again and again. All numbers are big endian. It is made of blocks: pages of
// the file, which have 4,096 bytes, or 4,064 in an encrypted data directory. Positions count the file's own bytes.
//
// Block 0 is the file header:
//   0   magic            uint32  "MRJF"
//   4   crc              uint32  CRC-32C of bytes 8..<64
//   8   version          uint32  1
//   12  reserved         uint32  0
//   16  journal identity 16 bytes, random, the same in all files of a data directory
//   32  file number      uint64  counts up with every use of a file
//   40  file size        uint64
//   48  first sequence   uint64  of the commits in this file
//   56  reserved         uint64  0
//
// Commits follow, each starting with a block:
//   0   magic            uint32  "MRJC"
//   4   crc              uint32  CRC-32C of bytes 8..<80
//   8   sequence         uint64  counts up by 1 over all files
//   16  durable          uint64  highest sequence known durable when this header was made
//   24  payload length   uint32
//   28  entry count      uint32
//   32  previous         uint64  chain value of the commit before (its crc and payload crc), 0 for the first ever
//   40  payload crc      uint32  CRC-32C of the payload
//   44  reserved         uint32  0
//   48  journal identity 16 bytes
//   64  file number      uint64  of the file it stands in, so that a file's earlier use is recognised
//   72  time             int64   ms since the epoch
//   80  payload: entries, each padded to 8 bytes:
//         0  kind uint8, 1 flags uint8, 2 reserved 2 bytes, 4 length uint32, 8 target int64, 16 bytes of the entry
//       Flag 1 of a records entry: other partitions may have its batch, too, by entries of the kind "same records".
//       Bytes of such an entry: 0 position uint32 of the batch from the commit's start, 4 length uint32 of it, 8 base
//       offset int64 that it has in the target. The batch stands in an earlier records entry of the same commit.
//
// Invariants (recovery relies on them):
//  1. Commits are written in sequence order, but several writes may be in flight; an acknowledgement waits for its own
//     write and for all before it.
//  2. A commit is whole when its header crc, its payload crc, its identity, its file number, its sequence and its chain
//     value are right. The first commit that is not whole ends the journal ("the tail").
//  3. If any header anywhere says that a sequence at or above the tail's was durable, the tail is no torn tail but
//     corruption, and is reported instead of cut.

import MillraceBase
import MillraceModel

/// What an entry of a commit holds.
enum JournalEntryKind: UInt8 {
  /// A record batch for the partition named by the target.
  case records = 1
  /// An event for the state machine above the log.
  case event = 2
  /// A partition's new start offset: eight bytes.
  case startOffset = 3
  /// A batch of an earlier records entry of the commit, for the partition named by the target.
  case sameRecords = 4
}

enum JournalFormat {
  static let fileMagic: UInt32 = 0x4d52_4a46
  static let commitMagic: UInt32 = 0x4d52_4a43
  static let version: UInt32 = 1
  static let commitHeaderSize = 80
  static let entryHeaderSize = 16
  /// Bytes of an entry that gives a partition the batch of another one.
  static let sameRecordsSize = 16
  /// Flag of a records entry whose batch further entries of the commit may speak of.
  static let sharedFlag: UInt8 = 1

  static func entrySize(_ length: Int) -> Int { entryHeaderSize + (length + 7) & ~7 }
  /// Bytes at the end of a file that only units which give space back may use, so that a topic can be deleted while the
  /// disk has no room for another file. A file made for one large unit may have less.
  static func keptBack(ofFile size: Int, page: Int) -> Int { min(256 << 10, size / 16).roundedDown(to: page) }
}

/// A journal's random identity; commits of another data directory are never taken for this one's.
struct JournalIdentity: Equatable, Sendable {
  let high: UInt64
  let low: UInt64
}

/// The file header.
struct JournalFileHeader: Equatable {
  var identity: JournalIdentity
  var fileNumber: UInt64
  var fileSize: Int
  var firstSequence: UInt64

  /// Bytes of a header; the rest of block 0 is zeros.
  static let size = 64

  /// Writes the first 64 bytes of block 0.
  func write(to start: UnsafeMutableRawPointer) {
    start.storeBytes(of: JournalFormat.fileMagic.bigEndian, as: UInt32.self)
    start.storeBytes(of: JournalFormat.version.bigEndian, toByteOffset: 8, as: UInt32.self)
    start.storeBytes(of: 0, toByteOffset: 12, as: UInt32.self)
    start.storeBytes(of: identity.high.bigEndian, toByteOffset: 16, as: UInt64.self)
    start.storeBytes(of: identity.low.bigEndian, toByteOffset: 24, as: UInt64.self)
    start.storeBytes(of: fileNumber.bigEndian, toByteOffset: 32, as: UInt64.self)
    start.storeBytes(of: UInt64(fileSize).bigEndian, toByteOffset: 40, as: UInt64.self)
    start.storeBytes(of: firstSequence.bigEndian, toByteOffset: 48, as: UInt64.self)
    start.storeBytes(of: 0, toByteOffset: 56, as: UInt64.self)
    let crc = CRC32C.checksum(UnsafeRawBufferPointer(start: start + 8, count: 56))
    start.storeBytes(of: crc.bigEndian, toByteOffset: 4, as: UInt32.self)
  }

  /// Reads a header; nil when the bytes are none.
  init?(_ buffer: UnsafeRawBufferPointer) {
    guard buffer.count >= 64, buffer.number(0, UInt32.self) == JournalFormat.fileMagic,
      buffer.number(4, UInt32.self) == CRC32C.checksum(UnsafeRawBufferPointer(rebasing: buffer[8..<64])),
      buffer.number(8, UInt32.self) == JournalFormat.version
    else { return nil }
    identity = JournalIdentity(high: buffer.number(16, UInt64.self), low: buffer.number(24, UInt64.self))
    fileNumber = buffer.number(32, UInt64.self)
    fileSize = Int(clamping: buffer.number(40, UInt64.self))
    firstSequence = buffer.number(48, UInt64.self)
  }

  init(identity: JournalIdentity, fileNumber: UInt64, fileSize: Int, firstSequence: UInt64) {
    self.identity = identity
    self.fileNumber = fileNumber
    self.fileSize = fileSize
    self.firstSequence = firstSequence
  }
}

/// The header of a commit.
struct CommitHeader: Equatable {
  var sequence: UInt64
  var durable: UInt64
  var payloadLength: Int
  var entryCount: Int
  var previous: UInt64
  var payloadCRC: UInt32
  var identity: JournalIdentity
  var fileNumber: UInt64
  var time: Timestamp

  /// Bytes the commit takes in a file with pages of `page` bytes.
  func alignedSize(page: Int) -> Int { (JournalFormat.commitHeaderSize + payloadLength).roundedUp(to: page) }

  /// Writes the header and returns the chain value for the next commit.
  func write(to start: UnsafeMutableRawPointer) -> UInt64 {
    start.storeBytes(of: JournalFormat.commitMagic.bigEndian, as: UInt32.self)
    start.storeBytes(of: sequence.bigEndian, toByteOffset: 8, as: UInt64.self)
    start.storeBytes(of: durable.bigEndian, toByteOffset: 16, as: UInt64.self)
    start.storeBytes(of: UInt32(payloadLength).bigEndian, toByteOffset: 24, as: UInt32.self)
    start.storeBytes(of: UInt32(entryCount).bigEndian, toByteOffset: 28, as: UInt32.self)
    start.storeBytes(of: previous.bigEndian, toByteOffset: 32, as: UInt64.self)
    start.storeBytes(of: payloadCRC.bigEndian, toByteOffset: 40, as: UInt32.self)
    start.storeBytes(of: 0, toByteOffset: 44, as: UInt32.self)
    start.storeBytes(of: identity.high.bigEndian, toByteOffset: 48, as: UInt64.self)
    start.storeBytes(of: identity.low.bigEndian, toByteOffset: 56, as: UInt64.self)
    start.storeBytes(of: fileNumber.bigEndian, toByteOffset: 64, as: UInt64.self)
    start.storeBytes(of: time.milliseconds.bigEndian, toByteOffset: 72, as: Int64.self)
    let crc = CommitHeader.checksum(UnsafeRawPointer(start))
    start.storeBytes(of: crc.bigEndian, toByteOffset: 4, as: UInt32.self)
    return CommitHeader.chain(crc, payloadCRC)
  }

  private static func checksum(_ start: UnsafeRawPointer) -> UInt32 {
    CRC32C.checksum(UnsafeRawBufferPointer(start: start + 8, count: JournalFormat.commitHeaderSize - 8))
  }

  private static func chain(_ crc: UInt32, _ payloadCRC: UInt32) -> UInt64 { UInt64(crc) << 32 | UInt64(payloadCRC) }

  /// Reads a header whose own checksum is right; nil otherwise. The payload is not looked at.
  init?(_ buffer: UnsafeRawBufferPointer) {
    guard buffer.count >= JournalFormat.commitHeaderSize, let start = buffer.baseAddress,
      buffer.number(0, UInt32.self) == JournalFormat.commitMagic,
      buffer.number(4, UInt32.self) == CommitHeader.checksum(start)
    else { return nil }
    sequence = buffer.number(8, UInt64.self)
    durable = buffer.number(16, UInt64.self)
    payloadLength = Int(buffer.number(24, UInt32.self))
    entryCount = Int(buffer.number(28, UInt32.self))
    previous = buffer.number(32, UInt64.self)
    payloadCRC = buffer.number(40, UInt32.self)
    identity = JournalIdentity(high: buffer.number(48, UInt64.self), low: buffer.number(56, UInt64.self))
    fileNumber = buffer.number(64, UInt64.self)
    time = Timestamp(milliseconds: buffer.number(72, Int64.self))
  }

  init(
    sequence: UInt64, durable: UInt64, payloadLength: Int, entryCount: Int, previous: UInt64, payloadCRC: UInt32,
    identity: JournalIdentity, fileNumber: UInt64, time: Timestamp
  ) {
    self.sequence = sequence
    self.durable = durable
    self.payloadLength = payloadLength
    self.entryCount = entryCount
    self.previous = previous
    self.payloadCRC = payloadCRC
    self.identity = identity
    self.fileNumber = fileNumber
    self.time = time
  }

  /// The chain value that the next commit must carry, for a header read from `buffer`.
  static func chainValue(_ buffer: UnsafeRawBufferPointer) -> UInt64 {
    chain(buffer.number(4, UInt32.self), buffer.number(40, UInt32.self))
  }
}

/// One entry of a commit, as recovery reads it.
struct JournalEntry {
  let kind: JournalEntryKind
  let target: Int64
  /// Where the entry's bytes start, relative to the commit's start; of a batch that another entry holds, where that stands.
  let position: Int
  let length: Int
  /// Several partitions may have the batch.
  var isShared = false
  /// The batch's base offset in the target, where its bytes have another partition's.
  var baseOffset: Offset?

  /// Who else has the batch.
  var sharing: BatchReference.Sharing { baseOffset != nil ? .further : isShared ? .first : .none }

  /// Calls `body` for each entry of a whole commit.
  /// - Parameter commit: starts with the header; the payload's CRC was found right.
  /// - Throws: `.corruption` when entries contradict the payload's length: written wrong, not damaged.
  static func forEach(
    in commit: UnsafeRawBufferPointer, header: CommitHeader, _ body: (JournalEntry) throws(LogError) -> Void
  ) throws(LogError) {
    var at = JournalFormat.commitHeaderSize
    let end = at + header.payloadLength
    // Batches that several partitions may have, by rising position.
    var shared: [(position: Int, length: Int)] = []
    for index in 0..<header.entryCount {
      guard at + JournalFormat.entryHeaderSize <= end,
        let kind = JournalEntryKind(rawValue: commit.number(at, UInt8.self))
      else {
        throw LogError(
          .corruption, "commit \(header.sequence): entry \(index) at byte \(at) is none this version knows")
      }
      let length = Int(commit.number(at + 4, UInt32.self))
      guard JournalFormat.entrySize(length) <= end - at else {
        throw LogError(.corruption, "commit \(header.sequence): entry \(index) of \(length) bytes runs past the end")
      }
      var entry = JournalEntry(
        kind: kind, target: commit.number(at + 8, Int64.self), position: at + JournalFormat.entryHeaderSize,
        length: length)
      switch kind {
      case .records where commit.number(at + 1, UInt8.self) & JournalFormat.sharedFlag != 0:
        entry.isShared = true
        shared.append((entry.position, length))
      case .sameRecords:
        guard let found = entry.resolved(among: shared, in: commit) else {
          throw LogError(
            .corruption, "commit \(header.sequence): entry \(index) at byte \(at) speaks of records that are not there")
        }
        entry = found
      case .records, .event, .startOffset: break
      }
      try body(entry)
      at += JournalFormat.entrySize(length)
    }
  }

  /// The batch that an entry of the kind "same records" speaks of, for the entry's target; nil when it is none of `shared`.
  private func resolved(
    among shared: [(position: Int, length: Int)], in commit: UnsafeRawBufferPointer
  ) -> JournalEntry? {
    guard length == JournalFormat.sameRecordsSize else { return nil }
    let place = Int(commit.number(position, UInt32.self))
    let index = shared.partitioningIndex { $0.position < place }
    guard index < shared.count, shared[index].position == place,
      shared[index].length == Int(commit.number(position + 4, UInt32.self))
    else { return nil }
    return JournalEntry(
      kind: kind, target: target, position: place, length: shared[index].length, isShared: true,
      baseOffset: commit.number(position + 8, Int64.self))
  }
}

extension UnsafeRawBufferPointer {
  /// The big-endian number at `position`.
  func number<T: FixedWidthInteger>(_ position: Int, _: T.Type) -> T {
    T(bigEndian: loadUnaligned(fromByteOffset: position, as: T.self))
  }
}
