// MadeJournal: journal files whose commits a test chooses one by one.

import MillraceBase
import MillraceIO
import MillraceSimulation

@testable import MillraceLog

/// One journal file, a commit in each block.
struct MadeJournal {
  static let identity = JournalIdentity(high: 1, low: 2)
  private var blocks: [[UInt8]] = []
  private let number: UInt64

  init(number: UInt64 = 1) { self.number = number }

  /// Adds a commit of one event.
  /// - Parameters:
  ///   - previous: chain value of the commit before.
  ///   - durable: what it says is durable.
  /// - Returns: its chain value.
  @discardableResult
  mutating func add(
    _ sequence: UInt64, after previous: UInt64, durable: UInt64 = 0, event: String, isDamaged: Bool = false
  ) -> UInt64 {
    let text = Array(event.utf8)
    let payload: [UInt8] =
      [JournalEntryKind.event.rawValue, 0, 0, 0, 0, 0, 0, UInt8(text.count)] + [UInt8](repeating: 0, count: 8) + text
      + [UInt8](repeating: 0, count: JournalFormat.entrySize(text.count) - JournalFormat.entryHeaderSize - text.count)
    let header = CommitHeader(
      sequence: sequence, durable: durable, payloadLength: payload.count, entryCount: 1, previous: previous,
      payloadCRC: Bytes(payload).crc32c, identity: MadeJournal.identity, fileNumber: number,
      time: Timestamp(milliseconds: 1))
    var block = [UInt8](repeating: 0, count: 4096)
    let chain = block.withUnsafeMutableBytes { header.write(to: $0.baseAddress!) }
    block.replaceSubrange(
      JournalFormat.commitHeaderSize..<(JournalFormat.commitHeaderSize + payload.count), with: payload)
    if isDamaged { block[1] ^= 1 }
    blocks.append(block)
    return chain
  }

  /// Writes the file.
  func write(_ path: String, to disk: SimulatedFileSystem) throws {
    var first = [UInt8](repeating: 0, count: 4096)
    let size = 4096 * (blocks.count + 1)
    first.withUnsafeMutableBytes {
      JournalFileHeader(identity: MadeJournal.identity, fileNumber: number, fileSize: size, firstSequence: 1)
        .write(to: $0.baseAddress!)
    }
    let file = try disk.open(path, [.read, .write, .create])
    try (first + blocks.joined()).withUnsafeBytes { try file.write($0, at: 0) }
    try file.flush()
    file.close()
  }

  /// What salvage makes of this file alone.
  func salvage(durable: UInt64 = 0) throws -> (chosen: [UInt64: String], lost: [ClosedRange<UInt64>], reasons: [String])
  {
    let disk = SimulatedFileSystem(world: SimulatedWorld(seed: 1))
    try disk.createDirectories("/journal")
    try write("/journal/00000001.journal", to: disk)
    let found = try JournalSalvage(
      directory: "/journal", identity: nil, drained: 0, durable: durable, fileSystem: disk)
    var chosen: [UInt64: String] = [:]
    for commit in found.commits {
      let bytes = try found.read(commit)
      try bytes.withBuffer { buffer throws(LogError) in
        try JournalEntry.forEach(in: buffer, header: commit.header) { entry throws(LogError) in
          chosen[commit.header.sequence] = bytes[entry.position..<(entry.position + entry.length)].text
        }
      }
    }
    return (chosen, found.lost.map(\.sequences), found.lost.map(\.place))
  }
}
