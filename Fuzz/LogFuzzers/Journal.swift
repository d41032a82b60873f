// Journal: the headers and entries of journal files.

import FuzzHarness
import MillraceBase
import MillraceModel

@testable import MillraceLog

/// The headers and entries of journal files, with right checksums.
let journalBlocks = FuzzTarget(
  name: "journal-blocks",
  seeds: {
    [
      [UInt8](repeating: 0, count: 64),
      [2, 1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 104, 97, 108, 108, 111, 0, 0, 0],
      // Records of eight bytes, and another partition's with the same.
      [2] + [1, 1, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1] + [UInt8](repeating: 7, count: 8)
        + [4, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 2] + [0, 0, 0, 96, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5],
    ]
  }
) { input in
  input.withBuffer { buffer in
    _ = JournalFileHeader(buffer)
    _ = CommitHeader(buffer)
  }
  guard input.count > 1 else { return }
  var bytes = input.array
  if bytes.count >= 64 {
    let header = Array(bytes[..<64])
    bytes.withUnsafeMutableBytes { memory in
      memory.storeBytes(of: JournalFormat.fileMagic.bigEndian, as: UInt32.self)
      memory.storeBytes(of: JournalFormat.version.bigEndian, toByteOffset: 8, as: UInt32.self)
      let crc = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: memory[8..<64]))
      memory.storeBytes(of: crc.bigEndian, toByteOffset: 4, as: UInt32.self)
      precondition(
        JournalFileHeader(UnsafeRawBufferPointer(memory)) != nil, "a header with a right checksum is refused")
    }
    bytes.replaceSubrange(..<64, with: header)
  }
  // A commit whose payload is the input, and whose header says how many entries there are.
  let payload = Array(bytes.dropFirst())
  let header = CommitHeader(
    sequence: 1, durable: 0, payloadLength: payload.count, entryCount: Int(bytes[0]), previous: 0,
    payloadCRC: Bytes(payload).crc32c, identity: JournalIdentity(high: 1, low: 2), fileNumber: 1,
    time: Timestamp(milliseconds: 1))
  let commit = Bytes([UInt8](repeating: 0, count: JournalFormat.commitHeaderSize) + payload)
  commit.withBuffer { buffer in
    do throws(LogError) {
      try JournalEntry.forEach(in: buffer, header: header) { entry throws(LogError) in
        precondition(
          entry.position >= JournalFormat.commitHeaderSize && entry.position + entry.length <= buffer.count,
          "entry at \(entry.position) of \(entry.length) bytes in \(buffer.count)")
      }
    } catch {
      return
    }
  }
}
