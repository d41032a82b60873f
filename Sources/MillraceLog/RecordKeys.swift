// RecordKeys: whether a batch fits into a log that is compacted by keys.

import MillraceBase
import MillraceModel

/// Looks at the keys of a batch's records.
public enum RecordKeys {
  /// The position in the batch of the first record without a key, nil when all have one.
  ///
  /// - Parameter batch: a whole batch, compressed or not.
  /// - Throws: when the records cannot be read.
  /// - Complexity: O(bytes), decompressed.
  public static func firstWithoutKey(
    in batch: Bytes, _ header: RecordBatchHeader
  ) throws(RecordBatchError) -> Int32? {
    let records = try BatchCleaner.records(of: batch, header)
    var found: Int32?
    try records.withBuffer { buffer throws(RecordBatchError) in
      var position: Int32 = 0
      try BatchCleaner.forEach(in: buffer, count: header.recordCount) { record in
        if record.key == nil, found == nil { found = position }
        position += 1
      }
    }
    return found
  }
}
