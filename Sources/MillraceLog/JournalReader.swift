// JournalReader: verified reads of journal files, for recovery, draining and readers that have fallen behind.

import MillraceBase
import MillraceIO
import MillraceModel

enum JournalReader {
  /// Reads `length` bytes at `position`, widening to pages because the file may be open past the page cache.
  ///
  /// What is damaged may come as zeros: callers check what they read.
  static func read(_ file: any File, at position: Int, length: Int) throws(LogError) -> Bytes {
    let start = position.roundedDown(to: file.pageSize)
    let end = (position + length).roundedUp(to: file.pageSize)
    // Mapped memory, so that the buffer is aligned to blocks whatever its size.
    let chunk = Chunk(capacity: max(end - start, 64 * 1024))
    let got = try LogError.wrapping { () throws(IOError) in
      try file.readUnverified(
        into: UnsafeMutableRawBufferPointer(start: chunk.base, count: end - start), at: Int64(start))
    }
    guard got >= position - start + length else {
      throw LogError(
        .corruption, "\(file.path): the file ends at byte \(start + got), \(length) bytes at \(position) are wanted")
    }
    return chunk.bytes((position - start)..<(position - start + length))
  }

  /// Reads a batch and checks that it is the one that `reference` speaks of.
  static func batch(_ reference: BatchReference, in file: any File) throws(LogError) -> Bytes {
    let bytes = try read(file, at: Int(reference.position), length: Int(reference.length))
    try check(bytes, reference, path: file.path)
    if reference.isFurther {
      // Safety: the memory was just read into, and nobody else has it yet.
      RecordBatchHeader.patch(UnsafeMutableRawPointer(mutating: bytes.start), baseOffset: reference.baseOffset)
    }
    return bytes
  }

  /// Checks that `bytes`, read from a journal file, are the batch that `reference` speaks of.
  ///
  /// What is shared may bear another partition's base offset; then no reader is ever given the one that stands there.
  static func check(_ bytes: Bytes, _ reference: BatchReference, path: String) throws(LogError) {
    do throws(RecordBatchError) {
      let header = try RecordBatchHeader.checked(bytes)
      // The batch's CRC covers none of these three.
      guard header.baseOffset == reference.baseOffset || reference.isFurther, header.totalSize == bytes.count,
        header.leaderEpoch == reference.leaderEpoch
      else {
        throw RecordBatchError(
          .corrupt,
          "offset \(header.baseOffset), \(header.totalSize) bytes and epoch \(header.leaderEpoch) instead of "
            + "\(reference.baseOffset), \(bytes.count) and \(reference.leaderEpoch)")
      }
    } catch {
      throw LogError(.corruption, "\(path): batch at byte \(reference.position): \(error)")
    }
  }
}

/// A commit as recovery and inspection see it.
struct ReadCommit {
  let header: CommitHeader
  /// Header and payload.
  let bytes: Bytes
  let fileNumber: UInt64
  /// Where it starts in its file.
  let position: Int
}

/// Why reading commits ended where it did.
enum CommitEnd: Equatable {
  /// The bytes there are no commit that follows.
  case noCommit(String)
  /// The file is full.
  case endOfFile
}

/// One journal file in memory, read commit by commit.
struct JournalScan {
  let slot: JournalSlot
  let header: JournalFileHeader
  private let contents: Bytes

  /// The blocks from `start` to `end`, both on block boundaries, aligned in memory for writing them again.
  func blocks(_ range: Range<Int>) -> Bytes { contents[range] }

  init(slot: JournalSlot, header: JournalFileHeader) throws(LogError) {
    self.slot = slot
    self.header = header
    contents = try JournalReader.read(slot.file, at: 0, length: slot.size)
  }

  /// Calls `body` for each whole commit in order.
  ///
  /// - Parameters:
  ///   - sequence: what the first commit must have; afterwards, what the next one would have.
  ///   - chain: the value the first commit must carry, nil to accept any; afterwards, what the next one must carry.
  /// - Returns: where the file's commits end, and why.
  func commits(
    sequence: inout UInt64, chain: inout UInt64?, _ body: (ReadCommit) throws(LogError) -> Void
  ) throws(LogError) -> (position: Int, end: CommitEnd) {
    var at = slot.page
    while at + JournalFormat.commitHeaderSize <= contents.count {
      let rest = contents[at..<contents.count]
      guard let commit = rest.withBuffer({ CommitHeader($0) }) else { return (at, .noCommit("no header")) }
      guard commit.identity == header.identity, commit.fileNumber == header.fileNumber else {
        return (at, .noCommit("a header of an earlier use"))
      }
      guard commit.sequence == sequence else {
        return (at, .noCommit("sequence \(commit.sequence) instead of \(sequence)"))
      }
      guard chain == nil || commit.previous == chain else { return (at, .noCommit("chain broken")) }
      guard commit.payloadLength <= rest.count - JournalFormat.commitHeaderSize else {
        return (at, .noCommit("payload of \(commit.payloadLength) bytes runs past the end"))
      }
      let whole = rest[0..<(JournalFormat.commitHeaderSize + commit.payloadLength)]
      guard whole[JournalFormat.commitHeaderSize..<whole.count].crc32c == commit.payloadCRC else {
        return (at, .noCommit("payload checksum of commit \(sequence) is wrong"))
      }
      try body(ReadCommit(header: commit, bytes: whole, fileNumber: header.fileNumber, position: at))
      chain = whole.withBuffer { CommitHeader.chainValue($0) }
      sequence += 1
      at += commit.alignedSize(page: slot.page)
    }
    return (at, .endOfFile)
  }

  /// Whether the file begins with the commit of a sequence, whole and with the value it must carry.
  func hasCommit(_ sequence: UInt64, _ chain: UInt64?) throws(LogError) -> Bool {
    var next = sequence
    var chain = chain
    _ = try commits(sequence: &next, chain: &chain) { _ in }
    return next > sequence
  }

  /// The highest sequence that any header from `position` on says is durable, with that header's place.
  /// - Parameter identity: of the journal; nil to count the headers of any.
  static func highestClaim(
    in slot: JournalSlot, from position: Int, identity: JournalIdentity?
  ) throws(LogError) -> (durable: UInt64, position: Int)? {
    var best: (durable: UInt64, position: Int)?
    let page = slot.page
    var at = position.roundedUp(to: page)
    let window = (4 << 20).roundedDown(to: page)
    // A file that was cut off may end in the middle of a block, which holds no header then.
    let end = slot.size.roundedDown(to: page)
    while at < end {
      let length = min(window, end - at)
      let bytes = try JournalReader.read(slot.file, at: at, length: length)
      bytes.withBuffer { buffer in
        for block in stride(from: 0, to: length - JournalFormat.commitHeaderSize, by: page) {
          guard buffer.number(block, UInt32.self) == JournalFormat.commitMagic,
            let header = CommitHeader(UnsafeRawBufferPointer(rebasing: buffer[block...])),
            identity == nil || header.identity == identity, header.durable > best?.durable ?? 0
          else { continue }
          best = (header.durable, at + block)
        }
      }
      at += length
    }
    return best
  }
}
