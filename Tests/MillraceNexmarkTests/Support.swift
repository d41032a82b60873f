// Support: events in several forms, for the tests beside.

import Foundation
import MillraceBase
import MillraceModel
import MillraceNexmark

/// The first 100 events as lines of JSON, from the generator of nexmark-rs 0.2.
func goldenLines() throws -> [UInt8] {
  let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  return Array(try Data(contentsOf: tests.appending(path: "nexmark/first-100.jsonl")))
}

/// Event `number`, encoded.
func encoded(_ number: Int64, by generator: NexmarkGenerator = NexmarkGenerator()) -> Bytes {
  withUnsafeTemporaryAllocation(byteCount: NexmarkGenerator.encodedSizeLimit, alignment: 16) { room in
    Bytes(copying: UnsafeRawBufferPointer(rebasing: room[..<generator.encode(number, into: room)]))
  }
}

/// The event that `bytes` hold.
func decoded(_ bytes: Bytes) throws(DecodingError) -> NexmarkEvent {
  try bytes.withBuffer { buffer throws(DecodingError) in try NexmarkEvent(EncodedEvent(buffer)) }
}

/// The event that `bytes` hold, as a line of JSON.
func line(_ bytes: Bytes) throws(DecodingError) -> [UInt8] {
  var writer = ByteWriter()
  try bytes.withBuffer { buffer throws(DecodingError) in try EncodedEvent(buffer).writeJSONLine(into: &writer) }
  return writer.finishJoined().array
}

/// The records of a batch.
func records(_ batch: Bytes) throws -> [Record] {
  let header = try RecordBatchHeader.checked(batch)
  return try RecordReader.records(batch[RecordBatchHeader.size..<header.totalSize], header: header)
}
