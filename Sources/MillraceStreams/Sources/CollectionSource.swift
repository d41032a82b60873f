// CollectionSource: records that a program has at hand, as the input of a job.
//
// Position: the index of the record that comes next, int64, big endian.

import MillraceBase
import MillraceDataflow
import MillraceModel

/// Gives the records of an array, in order, and ends.
public final class CollectionSource: ReplayableSource {
  private let records: [Record]
  private var next = 0

  /// A source of `records`, which must be the same ones in every run of the job; more may follow at the end.
  public init(_ records: [Record]) { self.records = records }

  /// Goes to a position.
  /// - Throws: `.sourceFailed` when there are fewer records.
  public func restore(_ position: Bytes?) throws(JobError) {
    guard let position else { return }
    let index = try SourceNumbers.read(1, position, of: "a collection")[0]
    guard index >= 0, index <= records.count else {
      throw JobError(.sourceFailed, "record \(index) is to come next of a collection of \(records.count)")
    }
    next = Int(index)
  }

  /// The next records.
  public func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    var builder = RecordBatchBuilder()
    while next < records.count, builder.count == 0 || builder.size < maxBytes {
      builder.append(records[next])
      next += 1
    }
    return SourceBatch(
      batch: builder.count > 0 ? builder.finish() : nil, position: SourceNumbers.bytes([Int64(next)]),
      isFinished: next == records.count)
  }
}

/// Positions that are a few numbers: int64, big endian.
enum SourceNumbers {
  static func bytes(_ numbers: [Int64]) -> Bytes {
    var writer = ByteWriter(capacity: 64)
    for number in numbers { writer.int64(number) }
    return writer.finishJoined()
  }

  /// - Throws: `.sourceFailed` when there is not exactly this many.
  static func read(_ count: Int, _ position: Bytes, of source: String) throws(JobError) -> [Int64] {
    var reader = ByteReader(position)
    var numbers: [Int64] = []
    do throws(DecodingError) {
      for _ in 0..<count { numbers.append(try reader.int64()) }
      guard reader.remaining == 0 else {
        throw DecodingError("\(reader.remaining) bytes too many", at: reader.position)
      }
    } catch {
      throw JobError(.sourceFailed, "a position of \(source): \(error)")
    }
    return numbers
  }
}

extension DataStream where Source == RecordInput {
  /// The records of an array. They must be the same in every run of the job; more may follow at the end.
  ///
  /// - Parameter name: owns how far they have been read, in the job's state.
  public static func records(named name: String, _ records: [Record]) -> DataStream<RecordInput> {
    source(name) { () throws(JobError) in CollectionSource(records) }
  }
}
