// StateSegments: a bucket of a segment of state, as a job reads it back.

import FuzzHarness
import MillraceBase

@testable import MillraceDataflow

/// The first byte says whether entries have times and how many there are, as the segment's index would; the rest is what lies in the
/// bucket behind its checksum, which is right. Each entry must lie inside the bucket, or the segment must say what is wrong.
let stateSegments = FuzzTarget(
  name: "state-segments",
  seeds: {
    func number(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
    func entry(_ key: String, _ value: String, _ time: [UInt8] = []) -> [UInt8] {
      number(UInt32(key.utf8.count)) + number(UInt32(value.utf8.count)) + time + Array((key + value).utf8)
    }
    let time: [UInt8] = [7, 0, 0, 0, 0, 0, 0, 0]
    return [
      [2] + number(0) + entry("key", "12345678") + entry("", "x"),
      [3] + number(0) + entry("key", "value", time) + entry("another", "", [UInt8](repeating: 255, count: 8)),
      [1] + number(0), [5] + number(1) + entry("k", "v"),
    ]
  }
) { input in
  guard let first = input.first else { return }
  let hasDues = first & 1 != 0
  let count = UInt32(first >> 1)
  let body = UnsafeRawBufferPointer(rebasing: input[1...])
  guard body.count >= 4 else { return }
  let file = MemoryStateFile()
  var writer = ByteWriter(capacity: body.count + 4)
  withUnsafeBytes(of: CRC32C.checksum(body).littleEndian) { writer.copy($0) }
  writer.copy(body)
  do throws(JobError) {
    try writer.finishJoined().withBuffer { bytes throws(JobError) in try file.append(bytes) }
    let segment = StateSegment(
      file: file,
      buckets: [
        .init(place: 0, offset: 0, ordinal: 0), .init(place: .max, offset: UInt32(body.count + 4), ordinal: count),
      ],
      filter: KeyFilter(count: 1), swept: EntryBits(count: Int(count)), dues: hasDues ? [0] : [], hasDues: hasDues)
    let memory = BucketMemory()
    var entries = 0
    var bytes = 0
    try segment.forEach(memory) { entry in
      entries += 1
      bytes += entry.key.count + entry.value.count
      precondition(entry.key.allSatisfy { _ in true } && entry.value.allSatisfy { _ in true })
    }
    precondition(entries == count && bytes + 8 * entries <= body.count)
    try segment.takeDue(100, memory) { segment.kill($0.ordinal) }
    try segment.sweep(memory) { _ in true }
    precondition(segment.roundIsDone)
  } catch {
    precondition(error.code == .stateFileFailed)
  }
}
