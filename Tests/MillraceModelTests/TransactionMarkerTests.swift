// TransactionMarkerTests: the control batch that ends a transaction.

import MillraceBase
import MillraceModel
import Testing

@Test("golden: a commit marker, byte by byte as Kafka writes it, and what is read from it")
func goldenMarker() throws {
  let marker = TransactionMarker(producerID: 7, producerEpoch: 3, isCommit: true, coordinatorEpoch: 5)
  let batch = marker.batch(at: Timestamp(milliseconds: 1_790_000_000_123))
  let header = try RecordBatchHeader.checked(batch)
  #expect(header.isControl && header.isTransactional && header.baseSequence == -1 && header.recordCount == 1)
  #expect(header.totalSize == batch.count && batch.count == 78)
  // One record: length 16, attributes, deltas, key 00000001, value 000000000005, no headers.
  let record = batch[RecordBatchHeader.size..<batch.count].array
  #expect(record == [0x20, 0, 0, 0, 0x08, 0, 0, 0, 1, 0x0c, 0, 0, 0, 0, 0, 5, 0])
  #expect(try TransactionMarker(batch, header: header) == marker)
}

@Test("an abort marker is told from a commit marker, for every corner of its fields")
func everyMarker() throws {
  for isCommit in [true, false] {
    for producer in [0, 1, Int64.max] {
      for epoch in [0, 1, Int16.max] {
        let marker = TransactionMarker(
          producerID: producer, producerEpoch: epoch, isCommit: isCommit, coordinatorEpoch: .max)
        let batch = marker.batch(at: .none)
        #expect(try TransactionMarker(batch, header: RecordBatchHeader.checked(batch)) == marker)
      }
    }
  }
}

@Test("a control batch that holds no marker is refused, wherever it is cut or wrong")
func notAMarker() throws {
  let good = TransactionMarker(producerID: 7, producerEpoch: 3, isCommit: false, coordinatorEpoch: 0)
    .batch(at: .none).array
  let header = try RecordBatchHeader(Bytes(good))
  // The type, the key's version, the key's length, and a length that runs past the end.
  for (position, value) in [(69, 9), (66, 0x80), (65, 2), (65, 0x7e), (61, 0x7e)] as [(Int, UInt8)] {
    var bad = good
    bad[position] = value
    #expect(throws: RecordBatchError.self, "byte \(position)") { try TransactionMarker(Bytes(bad), header: header) }
  }
  var plain = header
  plain.attributes = 0x10
  #expect(throws: RecordBatchError.self) { try TransactionMarker(Bytes(good), header: plain) }
}
