// RecordBatchRun: record batches one behind the other, as segments keep them and fetches answer them, taken apart.

import MillraceBase

/// Walks through whole batches that stand one behind the other. Bytes that the log has verified are not checked again: only
/// headers and lengths are looked at.
public struct RecordBatchRun: Sendable {
  private let bytes: Bytes
  /// Where in the bytes the next batch begins.
  public private(set) var position = 0

  /// The batches in `bytes`.
  public init(_ bytes: Bytes) { self.bytes = bytes }

  /// The next batch, sharing the memory of the run; nil at its end.
  /// - Throws: when the header cannot be read, or its length contradicts what is there; the reason says at which byte.
  public mutating func next() throws(RecordBatchError) -> (batch: Bytes, header: RecordBatchHeader)? {
    guard position < bytes.count else { return nil }
    do throws(RecordBatchError) {
      let header = try RecordBatchHeader(bytes[position..<bytes.count])
      guard header.totalSize <= bytes.count - position else {
        throw RecordBatchError(.malformed, "\(header.totalSize) bytes, \(bytes.count - position) are there")
      }
      defer { position += header.totalSize }
      return (bytes[position..<(position + header.totalSize)], header)
    } catch {
      throw RecordBatchError(error.code, "at byte \(position) of a run: \(error.reason)")
    }
  }
}
