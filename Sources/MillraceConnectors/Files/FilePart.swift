// FilePart: a file of a file sink, hidden until its commit is durable.
//
// Names in the sink's directory, of part 12 of the prefix `clicks` in format `jsonl`:
//
//   clicks-0000000012.jsonl            what everybody sees
//   .clicks-0000000012.jsonl.5.part    written by run 5 of the job, not for others
//
// What a commit remembers of a part: number int64, run int64, length int64, all big endian.

import MillraceBase
import MillraceDataflow
import MillraceIO

/// What a commit says of a part: who wrote it, and how much of it counts.
struct PartNote: Equatable {
  var number: Int64
  var epoch: Int64
  var length: Int64

  var bytes: Bytes {
    var writer = ByteWriter(capacity: 64)
    writer.int64(number)
    writer.int64(epoch)
    writer.int64(length)
    return writer.finishJoined()
  }

  init(number: Int64, epoch: Int64, length: Int64) {
    (self.number, self.epoch, self.length) = (number, epoch, length)
  }

  /// - Throws: `.corruptState`.
  init(_ bytes: Bytes) throws(JobError) {
    var reader = ByteReader(bytes)
    do throws(DecodingError) {
      (number, epoch, length) = (try reader.int64(), try reader.int64(), try reader.int64())
      guard number >= 0, number < .max, epoch >= 0, length >= 0, reader.remaining == 0 else {
        throw DecodingError("no part", at: 0)
      }
    } catch {
      throw JobError(.corruptState, "a part of a file sink: \(error)")
    }
  }
}

/// Where a sink's files are, and what they are called.
struct PartNames: Sendable {
  let directory: String
  let prefix: String
  let suffix: String

  private func name(_ number: Int64) -> String {
    let digits = "\(number)"
    return prefix + "-" + String(repeating: "0", count: max(0, 10 - digits.count)) + digits + "." + suffix
  }

  /// The path that everybody sees.
  func visible(_ number: Int64) -> String { directory + "/" + name(number) }

  /// The path until then.
  func hidden(_ note: PartNote) -> String { directory + "/" + hiddenName(note) }

  /// Its last part.
  func hiddenName(_ note: PartNote) -> String { "." + name(note.number) + ".\(note.epoch).part" }

  /// Whether a name is that of a hidden part of this sink.
  func isHidden(_ name: String) -> Bool {
    guard name.hasPrefix("." + prefix + "-"), name.hasSuffix(".part") else { return false }
    let middle = name.dropFirst(prefix.count + 2).dropLast(5)
    let pieces = middle.split(separator: ".", omittingEmptySubsequences: false)
    // The suffix may hold dots, too.
    guard let number = pieces.first, let epoch = pieces.last, pieces.count >= 3 else { return false }
    return !number.isEmpty && number.allSatisfy(\.isWholeNumber) && !epoch.isEmpty && epoch.allSatisfy(\.isWholeNumber)
      && middle.dropFirst(number.count + 1).dropLast(epoch.count + 1) == suffix
  }
}
