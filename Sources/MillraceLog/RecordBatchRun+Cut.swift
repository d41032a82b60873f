// RecordBatchRun+Cut: verified runs of batches, cut between batches, and their headers.

import MillraceBase
import MillraceModel

extension RecordBatchRun {
  /// Calls `body` with each batch's position and header until it says that it has seen enough.
  /// - Returns: the position of the batch that was enough, or the end.
  private static func walk(
    _ bytes: Bytes, _ isEnough: (Int, RecordBatchHeader) -> Bool
  ) throws(LogError) -> Int {
    var run = RecordBatchRun(bytes)
    do throws(RecordBatchError) {
      while true {
        let position = run.position
        guard let (_, header) = try run.next(), !isEnough(position, header) else { return position }
      }
    } catch {
      throw LogError(.corruption, "in a verified block: \(error)")
    }
  }

  /// The part that starts with the batch holding `offset`.
  static func from(_ offset: Offset, in bytes: Bytes) throws(LogError) -> Bytes {
    bytes[(try walk(bytes) { $1.lastOffset >= offset })..<bytes.count]
  }

  /// The whole batches that fit into `limit` bytes, and the first one anyway when `atLeastOne`.
  static func prefix(of bytes: Bytes, limit: Int, atLeastOne: Bool) throws(LogError) -> Bytes {
    bytes[0..<(try walk(bytes) { $0 + $1.totalSize > limit && !(atLeastOne && $0 == 0) })]
  }

  /// The batches that begin below `end`, an offset at which one begins.
  static func below(_ end: Offset, in bytes: Bytes) throws(LogError) -> Bytes {
    bytes[0..<(try walk(bytes) { $1.baseOffset >= end })]
  }

  /// The headers of all batches, with their positions.
  static func headers(in bytes: Bytes) throws(LogError) -> [(position: Int, header: RecordBatchHeader)] {
    var out: [(Int, RecordBatchHeader)] = []
    _ = try walk(bytes) { position, header in
      out.append((position, header))
      return false
    }
    return out
  }
}
