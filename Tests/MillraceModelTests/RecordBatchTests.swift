// Record batches: built, checked, read, and refused when they are not what they say.

import MillraceBase
import Testing

@testable import MillraceModel

private func sample() -> [Record] {
  [
    Record(key: Bytes("k"), value: Bytes("v"), timestamp: Timestamp(milliseconds: 1000), offset: 0),
    Record(
      key: nil, value: Bytes(String(repeating: "x", count: 300)),
      headers: [RecordHeader("a", Bytes("1")), RecordHeader("a", nil)], timestamp: Timestamp(milliseconds: 990),
      offset: 1
    ),
    Record(key: Bytes(""), value: nil, timestamp: Timestamp(milliseconds: 5000), offset: 2),
  ]
}

private func batch(_ records: [Record]) -> Bytes {
  var builder = RecordBatchBuilder()
  for record in records { builder.append(record) }
  return builder.finish()
}

@Test("records packed into a batch are read back")
func roundTrip() throws {
  let bytes = batch(sample())
  let header = try RecordBatchHeader.checked(bytes)
  #expect(header.recordCount == 3)
  #expect(header.totalSize == bytes.count)
  #expect(header.maxTimestamp.milliseconds == 5000)
  #expect(header.baseTimestamp.milliseconds == 1000)
  let body = bytes[RecordBatchHeader.size..<bytes.count]
  #expect(try RecordReader.records(body, header: header) == sample())
  var seen: [(Int32, Int, Int)] = []
  try body.withBuffer { buffer in
    try RecordReader.forEach(in: buffer, count: 3) { seen.append(($0.offsetDelta, $0.key.count, $0.value.count)) }
  }
  #expect(seen.map(\.0) == [0, 1, 2])
  #expect(seen.map(\.1) == [1, 0, 0])
  #expect(seen.map(\.2) == [1, 300, 0])
}

@Test("patching base offset and leader epoch keeps the CRC right")
func patching() throws {
  let bytes = batch(sample())
  RecordBatchHeader.patch(UnsafeMutableRawPointer(mutating: bytes.start), baseOffset: 77, leaderEpoch: 5)
  let header = try RecordBatchHeader.checked(bytes)
  #expect(header.baseOffset == 77)
  #expect(header.leaderEpoch == 5)
  #expect(header.lastOffset == 79)
}

@Test("every single flipped bit behind the patched fields is noticed")
func everyFlippedBit() throws {
  let original = batch(sample()).array
  for index in original.indices where !(0..<8).contains(index) && !(12..<16).contains(index) {
    for bit in 0..<8 {
      var damaged = original
      damaged[index] ^= 1 << UInt8(bit)
      #expect(throws: RecordBatchError.self) { try RecordBatchHeader.checked(Bytes(damaged)) }
    }
  }
}

@Test("every cut-off batch is refused")
func everyPrefix() throws {
  let original = batch(sample())
  for length in 0..<original.count {
    #expect(throws: RecordBatchError.self) { try RecordBatchHeader.checked(original[0..<length]) }
  }
}

@Test("records that run past the end are refused, not read")
func badRecords() throws {
  let bytes = batch(sample())
  let body = bytes[RecordBatchHeader.size..<bytes.count]
  for length in 0..<body.count {
    let cut = body[0..<length]
    #expect(throws: RecordBatchError.self) {
      try cut.withBuffer { buffer throws(RecordBatchError) in
        try RecordReader.forEach(in: buffer, count: 3) { _ in }
      }
    }
  }
}

@Test("sequence numbers wrap at 2^31")
func sequenceWrap() throws {
  var builder = RecordBatchBuilder()
  for record in sample() { builder.append(record) }
  let bytes = builder.finish(producerID: 1, producerEpoch: 0, baseSequence: .max) { $0 }
  #expect(try RecordBatchHeader(bytes).lastSequence == 1)
}

@Test("topic names follow Kafka's rule")
func topicNames() {
  for good in ["a", "A.b_c-9", String(repeating: "x", count: 249)] { #expect(TopicName.problem(good) == nil) }
  for bad in ["", ".", "..", "a b", "ä", "a/b", String(repeating: "x", count: 250)] {
    #expect(TopicName.problem(bad) != nil, "\(bad)")
  }
}

@Test("a topic id prints as Kafka prints it")
func topicIDText() {
  #expect(TopicID(high: 0, low: 1).description == "AAAAAAAAAAAAAAAAAAAAAQ")
}

@Test("agrees: a checksum continued over a verified batch, small or large, is that of its bytes")
func agreesContinuedChecksum() throws {
  for size in [1, 100, 16_000, 16_384, 70_000] {
    let bytes = batch([Record(value: Bytes(String(repeating: "x", count: size)), timestamp: Timestamp(milliseconds: 1))]
    )
    bytes.withBuffer { buffer in
      for seed: UInt32 in [0, 0xdead_beef] {
        #expect(
          RecordBatchHeader.checksum(ofVerified: buffer, continuing: seed)
            == CRC32C.checksum(buffer, continuing: seed))
      }
    }
  }
}

@Test("batches that stand one behind the other are walked in order, and a cut is named with its place")
func walksRuns() throws {
  let parts = [batch(sample()), batch([sample()[0]]), batch(sample())]
  var all = ByteWriter()
  for part in parts { all.append(part) }
  let bytes = all.finishJoined()
  var run = RecordBatchRun(bytes)
  for part in parts {
    let next = try #require(try run.next())
    #expect(next.batch == part)
    #expect(next.header == (try RecordBatchHeader(part)))
  }
  #expect(try run.next() == nil)
  let last = parts[0].count + parts[1].count
  for cut in [last + 1, last + 60, last + 61, bytes.count - 1] {
    var run = RecordBatchRun(bytes[0..<cut])
    _ = try run.next()
    _ = try run.next()
    let error = #expect(throws: RecordBatchError.self) { _ = try run.next() }
    #expect(error?.reason.contains("at byte \(last)") == true, "\(String(describing: error))")
  }
}
