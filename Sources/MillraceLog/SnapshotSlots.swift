// SnapshotSlots: the two files that snapshots are written into in turn, in place, and how the valid one is told.
//
// `snapshot.0` and `snapshot.1` are written past the page cache with durable writes. Once they have their size, a
// snapshot changes no file system metadata. Numbers are big endian.
//
// Block 0, a page of the file (4,096 bytes, or 4,064 in an encrypted data directory), is the slot's header:
//   0 magic uint32 "MRSS", 4 crc uint32 (CRC-32C of bytes 8..<64), 8 version uint32 1,
//   12 state uint32: 1 writing, 2 complete,
//   16 journal identity 16 bytes, 32 number uint64 (counts snapshots up from 1), 40 body length uint64,
//   48 body crc uint32 (CRC-32C of the body), 52 reserved uint32, 56 reserved uint64.
// From block 1 on: the body (see Snapshot.swift); what stands behind it means nothing.
//
//   complete n-1 ── header: writing n+1 ── body ── header: complete n+1        (the other slot says complete n meanwhile)
//
// Invariants:
//  1. "Complete n" is written only when the body of n is durable; "writing n" is durable before the body is touched.
//  2. Never is the slot written that holds the newest complete snapshot.
//  3. A start makes the "complete" that it goes by durable once more before it does anything else.
//  4. What a snapshot makes superfluous (journal files, segments) is given up only when its "complete" is durable.
// So the complete slot with the highest number is the snapshot to start from. If its body is damaged, or if a header
// cannot be read, the start fails: the other slot is older, or may be, and what it builds on may have been given up.
// The header's 64 bytes lie in one sector, which devices write whole or not at all: whether its write fails or power
// is lost in it, the old header or the new one is there. So what is neither is damage, no trace of a stop, and never
// passed over. After a failed write of "complete n" that may be there or not. Either is right: the body is durable,
// and nothing was given up for it. The same slot is written next, "writing n" first.

import MillraceBase
import MillraceIO

/// What a slot's header says.
struct SnapshotSlotHeader: Equatable, Sendable {
  enum State: UInt32 {
    case writing = 1
    case complete = 2
  }

  static let magic: UInt32 = 0x4d52_5353
  static let version: UInt32 = 1

  var state: State
  var identity: JournalIdentity
  var number: UInt64
  var length: Int
  var crc: UInt32

  /// The first 64 bytes.
  func encoded() -> Bytes {
    var body = ByteWriter(capacity: 64)
    body.uint32(SnapshotSlotHeader.version)
    body.uint32(state.rawValue)
    body.uint64(identity.high)
    body.uint64(identity.low)
    body.uint64(number)
    body.uint64(UInt64(length))
    body.uint32(crc)
    body.uint32(0)
    body.uint64(0)
    let bytes = body.finishJoined()
    var writer = ByteWriter(capacity: 64)
    writer.uint32(SnapshotSlotHeader.magic)
    writer.uint32(bytes.crc32c)
    writer.append(bytes)
    return writer.finishJoined()
  }

  init(state: State, identity: JournalIdentity, number: UInt64, length: Int, crc: UInt32) {
    self.state = state
    self.identity = identity
    self.number = number
    self.length = length
    self.crc = crc
  }

  /// Reads a header; nil when the slot was never written.
  /// - Throws: `.corruption` when the bytes are neither a header nor zeros.
  init?(_ buffer: UnsafeRawBufferPointer, path: String) throws(LogError) {
    guard buffer.contains(where: { $0 != 0 }) else { return nil }
    guard buffer.count >= 64, buffer.number(0, UInt32.self) == SnapshotSlotHeader.magic,
      buffer.number(4, UInt32.self) == CRC32C.checksum(UnsafeRawBufferPointer(rebasing: buffer[8..<64]))
    else { throw LogError(.corruption, "\(path) at byte 0: the header of the snapshot cannot be read") }
    let version = buffer.number(8, UInt32.self)
    guard version == SnapshotSlotHeader.version, let state = State(rawValue: buffer.number(12, UInt32.self)) else {
      throw LogError(
        .corruption, "\(path): snapshot slot of version \(version), this program reads \(SnapshotSlotHeader.version)")
    }
    self.state = state
    identity = JournalIdentity(high: buffer.number(16, UInt64.self), low: buffer.number(24, UInt64.self))
    number = buffer.number(32, UInt64.self)
    length = Int(clamping: buffer.number(40, UInt64.self))
    crc = buffer.number(48, UInt32.self)
  }
}

/// A snapshot's bytes in pieces, ready to be written on another thread.
struct EncodedSnapshot: Sendable {
  var identity: JournalIdentity
  var pieces: [Bytes]
  var length: Int { pieces.reduce(0) { $0 + $1.count } }
}

/// Which slot is written next, and with which number.
struct SnapshotSlots: Sendable {
  /// Slots grow by half beyond what is needed, from this size on.
  static let smallestSlot = 64 << 10

  /// The newest complete snapshot's number, 0 when there is none.
  private(set) var number: UInt64 = 0
  /// The slot that the next snapshot goes into.
  private(set) var next = 0

  /// Bytes of the newest snapshot written or read.
  private(set) var length = 0
  /// Most bytes that a slot is going to grow by, roughly: a snapshot twice as long as the last one.
  var largestGrowth: Int { max(SnapshotSlots.smallestSlot, 2 * length) }

  static func path(_ directory: String, _ slot: Int) -> String { "\(directory)/snapshot.\(slot)" }

  /// What is in the two slots.
  struct Contents {
    var slots = SnapshotSlots()
    /// The newest complete snapshot.
    var snapshot: Snapshot?
    /// What its slot says.
    var header: SnapshotSlotHeader?
    /// Its file.
    var path = ""
    /// The files whose headers were read: both, once two snapshots were written.
    var headerPaths: [String] = []
    /// Where its body begins, and the bytes of it.
    var place = 0..<0
    /// Damage that keeps nobody from starting: of the older snapshot.
    var harmless: [String] = []
  }

  /// Finds the snapshot to start from.
  /// - Parameter checksAll: reads the older slot's body, too.
  /// - Throws: `.corruption` when it is not certain which snapshot is the newest, or when that one is damaged.
  static func read(
    _ directory: String, fileSystem: any FileSystem, checksAll: Bool = false
  ) throws(LogError) -> Contents {
    var headers: [SnapshotSlotHeader?] = [nil, nil]
    var missing: [Int] = []
    for slot in 0...1 {
      let path = path(directory, slot)
      let block = try LogError.wrapping { () throws(IOError) -> Bytes? in
        guard try fileSystem.exists(path) else { return nil }
        let file = try fileSystem.open(path, .read)
        defer { file.close() }
        return try headerBlock(of: file)
      }
      guard let block else {
        missing.append(slot)
        continue
      }
      headers[slot] = try block.withBuffer { buffer throws(LogError) in try SnapshotSlotHeader(buffer, path: path) }
    }
    // Both files are there, durably, before the first header is written.
    if let slot = missing.first, headers.contains(where: { $0 != nil }) {
      throw LogError(.corruption, "\(path(directory, slot)): the file is missing; it may have held the newest snapshot")
    }
    // From the second snapshot on both have one: a slot without it was cut off or emptied, and may have held the newest.
    for slot in 0...1 where headers[slot] == nil {
      guard let other = headers[1 - slot], other.number > 1 else { continue }
      throw LogError(
        .corruption,
        "\(path(directory, slot)) at byte 0: the header of the snapshot is gone; \(path(directory, 1 - slot)) holds "
          + "snapshot \(other.number)")
    }
    var contents = Contents()
    let complete = (0...1).filter { headers[$0]?.state == .complete }
    guard let newest = complete.max(by: { headers[$0]?.number ?? 0 < headers[$1]?.number ?? 0 }),
      let header = headers[newest]
    else { return contents }
    if let other = headers[1 - newest], other.state == .complete {
      guard other.number + 1 == header.number else {
        throw LogError(
          .corruption, "\(path(directory, newest)): snapshot \(header.number) beside snapshot \(other.number)")
      }
      if checksAll {
        do throws(LogError) {
          _ = try body(other, path: path(directory, 1 - newest), fileSystem: fileSystem)
        } catch {
          contents.harmless.append("\(error.reason) (an older snapshot, which is not needed)")
        }
      }
    }
    contents.header = header
    contents.path = path(directory, newest)
    contents.headerPaths = (0...1).filter { headers[$0] != nil }.map { path(directory, $0) }
    let (bytes, position) = try body(header, path: contents.path, fileSystem: fileSystem)
    contents.snapshot = try Snapshot(bytes, path: contents.path)
    contents.place = position..<(position + bytes.count)
    contents.slots.number = header.number
    contents.slots.length = bytes.count
    contents.slots.next = 1 - newest
    return contents
  }

  /// The newest snapshot that can be read, for an export; every problem is told, and none of them ends it.
  static func salvage(
    _ directory: String, fileSystem: any FileSystem
  ) throws(LogError) -> (snapshot: Snapshot?, problems: [String]) {
    var problems: [String] = []
    var found: (number: UInt64, snapshot: Snapshot)?
    var newest: UInt64 = 0
    for slot in 0...1 {
      let path = path(directory, slot)
      do throws(LogError) {
        let block = try LogError.wrapping { () throws(IOError) -> Bytes in
          let file = try fileSystem.open(path, .read)
          defer { file.close() }
          return try headerBlock(of: file)
        }
        let header = try block.withBuffer { buffer throws(LogError) in try SnapshotSlotHeader(buffer, path: path) }
        // One that was being written never counted.
        guard let header, header.state == .complete else { continue }
        newest = max(newest, header.number)
        let snapshot = try Snapshot(try body(header, path: path, fileSystem: fileSystem).bytes, path: path)
        if header.number > found?.number ?? 0 { found = (header.number, snapshot) }
      } catch {
        problems.append(error.reason)
      }
    }
    if let found, found.number < newest || !problems.isEmpty {
      problems.append(
        "the state is that of snapshot \(found.number), after commit \(found.snapshot.sequence), and of the commits behind it "
          + "that can be read")
    } else if found == nil, !problems.isEmpty {
      problems.append("no snapshot can be read: topics and segments are known only from commits in the journal")
    }
    return (found?.snapshot, problems)
  }

  /// The block with the header; zeros where none was written yet.
  private static func headerBlock(of file: any File) throws(IOError) -> Bytes {
    let chunk = Chunk(capacity: file.pageSize)
    let room = UnsafeMutableRawBufferPointer(start: chunk.base, count: file.pageSize)
    do throws(IOError) {
      let got = try file.read(into: room, at: 0)
      return chunk.bytes(0..<got)
    } catch {
      // As a file that was made larger holds zeros until something is written, also if power was lost meanwhile.
      guard error.code == .unwritten else { throw error }
      room.initializeMemory(as: UInt8.self, repeating: 0)
      return chunk.bytes(0..<room.count)
    }
  }

  private static func body(
    _ header: SnapshotSlotHeader, path: String, fileSystem: any FileSystem
  ) throws(LogError) -> (bytes: Bytes, position: Int) {
    var headerSize = 0
    let bytes = try LogError.wrapping { () throws(IOError) -> Bytes? in
      let file = try fileSystem.open(path, .read)
      defer { file.close() }
      headerSize = file.pageSize
      let size = try file.size()
      guard header.length > 0, Int64(header.length) <= size - Int64(headerSize) else { return nil }
      let chunk = Chunk(capacity: header.length)
      let got = try file.read(
        into: UnsafeMutableRawBufferPointer(start: chunk.base, count: header.length), at: Int64(headerSize))
      return got == header.length ? chunk.bytes(0..<got) : nil
    }
    guard let bytes else {
      throw LogError(.corruption, "\(path): the snapshot of \(header.length) bytes is cut off")
    }
    guard bytes.crc32c == header.crc else {
      throw LogError(
        .corruption,
        "\(path): the snapshot of \(header.length) bytes at byte \(headerSize) has a wrong checksum")
    }
    return (bytes, headerSize)
  }

  /// Writes the newest snapshot's "complete" again, so that it is durable for certain. It may be so in the system's memory only,
  /// when the process before was stopped by the failure of that very write; a start would build on it, and power failing later
  /// would bring an older snapshot back. Its body was durable before.
  static func confirm(_ contents: Contents, fileSystem: any FileSystem) throws(LogError) {
    guard let header = contents.header else { return }
    try LogError.wrapping { () throws(IOError) in
      let file = try fileSystem.open(contents.path, [.read, .write, .direct, .durableWrites])
      defer { file.close() }
      try write(header, to: file)
    }
  }

  /// Writes a snapshot into the slot whose turn it is; durable and complete once this returns. Blocks.
  /// - Returns: the slots' state afterwards.
  /// - Throws: `.noSpace`, `.io`; the newest snapshot so far stays valid, and the same slot is written next time.
  func write(
    _ snapshot: EncodedSnapshot, directory: String, fileSystem: any FileSystem
  ) throws(LogError) -> SnapshotSlots {
    var after = self
    after.number += 1
    after.next = 1 - next
    let length = snapshot.length
    after.length = length
    var crc: UInt32 = 0
    for piece in snapshot.pieces { crc = piece.withBuffer { CRC32C.checksum($0, continuing: crc) } }
    let number = after.number
    try LogError.wrapping { () throws(IOError) in
      let path = SnapshotSlots.path(directory, next)
      if number == 1 {
        for slot in 0...1 {
          try fileSystem.open(SnapshotSlots.path(directory, slot), [.read, .write, .create]).close()
        }
        try fileSystem.syncDirectory(directory)
      }
      let file = try fileSystem.open(path, [.read, .write, .direct, .durableWrites])
      defer { file.close() }
      try SnapshotSlots.provide(file, length: length)
      var header = SnapshotSlotHeader(
        state: .writing, identity: snapshot.identity, number: number, length: length, crc: crc)
      try SnapshotSlots.write(header, to: file)
      try SnapshotSlots.write(snapshot.pieces, to: file)
      header.state = .complete
      try SnapshotSlots.write(header, to: file)
    }
    return after
  }

  /// Sees to it that the file is large enough, written with zeros where it grows.
  private static func provide(_ file: any File, length: Int) throws(IOError) {
    let page = file.pageSize
    let needed = page + length.roundedUp(to: page)
    var at = Int(try file.size())
    guard at < needed else { return }
    let size = max(smallestSlot, needed + needed / 2).roundedUp(to: page)
    at = at.roundedDown(to: page)
    let zeros = Chunk(capacity: min(max(size - at, smallestSlot), 1 << 20))
    zeros.base.initializeMemory(as: UInt8.self, repeating: 0, count: zeros.capacity)
    while at < size {
      let count = min(zeros.capacity.roundedDown(to: page), size - at)
      try file.write(UnsafeRawBufferPointer(start: zeros.base, count: count), at: Int64(at))
      at += count
    }
    // The size itself is metadata, which a durable write covers only as far as reading back needs it.
    try file.flush()
  }

  private static func write(_ header: SnapshotSlotHeader, to file: any File) throws(IOError) {
    let block = Chunk(capacity: smallestSlot)
    block.base.initializeMemory(as: UInt8.self, repeating: 0, count: file.pageSize)
    header.encoded().withBuffer { from in
      if let base = from.baseAddress { block.base.copyMemory(from: base, byteCount: from.count) }
    }
    try file.write(UnsafeRawBufferPointer(start: block.base, count: file.pageSize), at: 0)
  }

  private static func write(_ pieces: [Bytes], to file: any File) throws(IOError) {
    let page = file.pageSize
    let buffer = Chunk(capacity: 1 << 20)
    let room = buffer.capacity.roundedDown(to: page)
    var held = 0
    var at = Int64(page)
    func flush(_ count: Int) throws(IOError) {
      try file.write(UnsafeRawBufferPointer(start: buffer.base, count: count), at: at)
      at += Int64(count)
      held = 0
    }
    for piece in pieces {
      var done = 0
      while done < piece.count {
        let count = min(piece.count - done, room - held)
        piece.withBuffer { from in
          if let base = from.baseAddress {
            (buffer.base + held).copyMemory(from: base + done, byteCount: count)
          }
        }
        held += count
        done += count
        if held == room { try flush(held) }
      }
    }
    let padded = held.roundedUp(to: page)
    (buffer.base + held).initializeMemory(as: UInt8.self, repeating: 0, count: padded - held)
    if padded > 0 { try flush(padded) }
  }
}
