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
  guard input.count >= 5 else { return }
  let hasDues = input[0] & 1 != 0
  let count = UInt32(input[0] >> 1)
  let body = input[1..<input.count]
  let file = MemoryStateFile()
  var writer = ByteWriter(capacity: input.count + 3)
  withUnsafeBytes(of: body.crc32c.littleEndian) { writer.copy($0) }
  body.withBuffer { writer.copy($0) }
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
      // Reads all of it.
      bytes += entry.key.reduce(0) { sum, _ in sum + 1 } + entry.value.reduce(0) { sum, _ in sum + 1 }
    }
    precondition(entries == Int(count) && bytes + 8 * entries <= body.count, "\(entries) entries of \(bytes) bytes")
    try segment.sweep(memory) { _ in true }
    precondition(segment.roundIsDone, "a sweep did not come to the end")
    try segment.takeDue(100, memory) { segment.kill($0.ordinal) }
    precondition(segment.earliestDue > 100, "what is due was not taken")
  } catch {
    precondition(error.code == .stateFileFailed, "\(error)")
  }
}
