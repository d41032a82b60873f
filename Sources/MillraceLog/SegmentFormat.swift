// SegmentFormat: the bytes of segment files.
//
// A segment is written once, in order, and never changed. It holds the batches of a run of journal commits, sorted by
// partition and offset, or what is left of older segments. Numbers are big endian.
//
// Header (a page: 4,096 bytes, or 16,352 in an encrypted data directory): 0 magic uint32 "MRSG", 4 crc uint32 of bytes 8..<64, 8 version uint32 1, 12 reserved,
//   16 journal identity 16 bytes, 32 segment number uint64, 40 first and 48 last sequence drained uint64 (0 when made from segments), 56 reserved.
// Blocks follow: whole batches of one partition, at least `segmentBlockSize` bytes except a partition's last. A block is
//   what is read, verified and indexed. A batch of 64 KiB or more is a block of its own, written with the whole pages
//   of memory it lay in; what stands between blocks means nothing. A batch that several partitions have is a block of
//   its own, too, and stands once: the index parts of all of them name it.
// Index, a part for each partition in rising order of its number: its blocks, 40 bytes each:
//   0 base offset int64, 8 last offset int64, 16 position uint64, 24 length uint32, 28 crc uint32 (CRC-32C of the block,
//   base offsets and leader epochs included), 32 max timestamp int64.
//   Bit 31 of the length: the block is a batch that other partitions may have, too. The base offset in its bytes may be
//   another partition's, so that a reader is given the one of the index instead, once the block's CRC was found right.
// Zeros up to a whole page.
//
// Where each partition's index part lies, and its own CRC, is kept in the manifest (see Snapshot.swift), so a segment is
// opened without reading anything but the part needed.

import MillraceBase
import MillraceModel

enum SegmentFormat {
  static let magic: UInt32 = 0x4d52_5347
  static let version: UInt32 = 1
  static let indexEntrySize = 40
  static let sharedBit: UInt32 = 1 << 31

  /// What is wrong with a segment's header, which nothing but an inspection reads; nil when it is sound.
  static func headerProblem(_ buffer: UnsafeRawBufferPointer, number: UInt64, identity: JournalIdentity) -> String? {
    guard buffer.count >= 64 else { return "cut off after \(buffer.count) bytes" }
    guard buffer.number(0, UInt32.self) == magic,
      buffer.number(4, UInt32.self) == CRC32C.checksum(UnsafeRawBufferPointer(rebasing: buffer[8..<64]))
    else { return "header at byte 0 has a wrong checksum" }
    guard buffer.number(32, UInt64.self) == number,
      JournalIdentity(high: buffer.number(16, UInt64.self), low: buffer.number(24, UInt64.self)) == identity
    else { return "header at byte 0 is another segment's" }
    return nil
  }

  static func name(_ number: UInt64) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 12 - digits.count)) + digits + ".segment"
  }
}

/// What makes the copies of a batch one: where they were read from.
struct SharedPlace: Hashable, Sendable {
  /// The kind of file, and its number.
  enum Source: Hashable, Sendable {
    case journal(UInt64)
    case segment(UInt64)
  }

  let source: Source
  let position: Int64
}

extension BatchReference {
  /// Where a shared batch stands; nil for one that only this partition has.
  var sharedPlace: SharedPlace? { isShared ? SharedPlace(source: .journal(file), position: Int64(position)) : nil }
}

/// A run of one partition's batches in one segment.
struct SegmentExtent: Equatable, Sendable {
  var segment: UInt64
  var baseOffset: Offset
  var nextOffset: Offset
  var maxTimestamp: Int64
  /// Bytes of the batches.
  var bytes: Int64
  /// Of these, in blocks that other partitions may have, too.
  var sharedBytes: Int64 = 0
  /// Where the index part lies.
  var indexPosition: Int64
  var blockCount: Int
  var indexCRC: UInt32
}

/// One block of an extent.
struct SegmentBlock: Equatable, Sendable {
  var baseOffset: Offset
  var lastOffset: Offset
  var position: Int64
  var length: Int
  var crc: UInt32
  var maxTimestamp: Int64
  /// One batch that other partitions may have, too; its bytes may bear another base offset than this.
  var isShared: Bool

  func write(to writer: inout ByteWriter) {
    writer.int64(baseOffset)
    writer.int64(lastOffset)
    writer.int64(position)
    writer.uint32(UInt32(length) | (isShared ? SegmentFormat.sharedBit : 0))
    writer.uint32(crc)
    writer.int64(maxTimestamp)
  }

  init(_ buffer: UnsafeRawBufferPointer) {
    baseOffset = buffer.number(0, Int64.self)
    lastOffset = buffer.number(8, Int64.self)
    position = buffer.number(16, Int64.self)
    length = Int(buffer.number(24, UInt32.self) & ~SegmentFormat.sharedBit)
    isShared = buffer.number(24, UInt32.self) & SegmentFormat.sharedBit != 0
    crc = buffer.number(28, UInt32.self)
    maxTimestamp = buffer.number(32, Int64.self)
  }

  init(
    baseOffset: Offset, lastOffset: Offset, position: Int64, length: Int, crc: UInt32, maxTimestamp: Int64,
    isShared: Bool = false
  ) {
    self.baseOffset = baseOffset
    self.lastOffset = lastOffset
    self.position = position
    self.length = length
    self.crc = crc
    self.maxTimestamp = maxTimestamp
    self.isShared = isShared
  }

  /// Where a shared block of an extent stands.
  func place(in extent: SegmentExtent) -> SharedPlace {
    SharedPlace(source: .segment(extent.segment), position: position)
  }
}
