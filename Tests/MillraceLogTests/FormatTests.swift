// FormatTests: stored bytes of every format, so that none changes unnoticed.

import MillraceBase
import MillraceIO
import MillraceModel
import Testing

@testable import MillraceLog

private let identity = JournalIdentity(high: 0x0102_0304_0506_0708, low: 0x1112_1314_1516_1718)

@Test("golden: the header of a journal file")
func goldenFileHeader() throws {
  let chunk = Chunk(capacity: 64)
  let header = JournalFileHeader(identity: identity, fileNumber: 5, fileSize: 65536, firstSequence: 77)
  header.write(to: chunk.base)
  let bytes = chunk.bytes(0..<64)
  #expect(
    hex(bytes)
      == "4d524a469b6f758100000001000000000102030405060708111213141516171800000000000000050000000000010000"
      + "000000000000004d0000000000000000")
  #expect(bytes.withBuffer { JournalFileHeader($0) } == header)
}

@Test("golden: the header of a commit")
func goldenCommitHeader() throws {
  let chunk = Chunk(capacity: 80)
  let header = CommitHeader(
    sequence: 78, durable: 77, payloadLength: 24, entryCount: 1, previous: 0x2122_2324_2526_2728,
    payloadCRC: 0x3132_3334, identity: identity, fileNumber: 5, time: Timestamp(milliseconds: 1_790_000_000_123))
  let chain = header.write(to: chunk.base)
  let bytes = chunk.bytes(0..<80)
  #expect(
    hex(bytes)
      == "4d524a43ee53a888000000000000004e000000000000004d000000180000000121222324252627283132333400000000"
      + "010203040506070811121314151617180000000000000005000001a0c4506c7b")
  #expect(bytes.withBuffer { CommitHeader($0) } == header)
  #expect(chain == bytes.withBuffer { CommitHeader.chainValue($0) })
}

private let snapshot = Snapshot(
  identity: identity, sequence: 90, drainedSequence: 80, nextFileNumber: 6, nextSegmentNumber: 3,
  lastSeen: Timestamp(milliseconds: 4660), segments: [SnapshotSegment(number: 2, fileSize: 8192, sharedBytes: 600)],
  partitions: [
    SnapshotPartition(
      id: PartitionLogID(4), startOffset: 10, nextOffset: 30, size: 2000, compactedTo: 12,
      epochs: [LeaderEpochStart(epoch: 1, startOffset: 10)],
      producers: [
        (
          id: 9,
          state: ProducerState(
            epoch: 2,
            batches: [
              ProducedBatch(
                firstSequence: 5, lastSequence: 7, baseOffset: 27, timestamp: Timestamp(milliseconds: 1000))
            ], lastAppend: Timestamp(milliseconds: 2000))
        )
      ],
      transactions: PartitionTransactions(
        open: [9: 27],
        aborted: [AbortedTransaction(producerID: 8, firstOffset: 11, lastOffset: 15, lastStableOffset: 16)]),
      extents: [
        SegmentExtent(
          segment: 2, baseOffset: 10, nextOffset: 27, maxTimestamp: 900, bytes: 1500, sharedBytes: 500,
          indexPosition: 5596, blockCount: 1, indexCRC: 0x4142_4344)
      ])
  ], application: Bytes("application"))

@Test("golden: a snapshot, and what is read from it is what was written")
func goldenSnapshot() throws {
  let bytes = snapshot.encoded()
  #expect(
    hex(bytes)
      == "4d52534e0000000501020304050607081112131415161718000000000000005a00000000000000500000000000000006"
      + "000000000000000300000000000012340000000100000000000000020000000000002000000000000000025800000001"
      + "0000000000000004000000000000000a"
      + "000000000000001e00000000000007d0000000000000000c0000000100000001000000000000000a0000000100000000"
      + "00000009000200000000000007d0010000000500000007000000000000001b00000000000003e8000000010000000000"
      + "000009000000000000001b000000010000000000000008000000000000000b000000000000000f000000000000001000"
      + "0000010000000000000002000000000000000a000000000000001b000000000000038400000000000005dc0000000000"
      + "0001f400000000000015dc00000001414243440000000b6170706c69636174696f6e")
  let read = try Snapshot(bytes, path: "snapshot")
  #expect(read.partitions == snapshot.partitions && read.segments == snapshot.segments)
  #expect(read.application == snapshot.application && read.identity == identity && read.sequence == 90)
  #expect(read.lastSeen == Timestamp(milliseconds: 4660))
  #expect(read.drainedSequence == 80 && read.nextFileNumber == 6 && read.nextSegmentNumber == 3)
}

@Test("snapshots of version 4, without shared blocks, and of version 3, without a time either, are still read")
func goldenOlderSnapshots() throws {
  var older = snapshot.encoded().array
  older[7] = 4
  // The bytes in shared blocks of the extent, which stand before 31 others, and of the segment.
  older.removeSubrange((older.count - 39)..<(older.count - 31))
  older.removeSubrange(84..<92)
  var partitions = snapshot.partitions
  partitions[0].extents[0].sharedBytes = 0
  var read = try Snapshot(Bytes(older), path: "snapshot")
  #expect(read.lastSeen == snapshot.lastSeen && read.partitions == partitions)
  #expect(read.segments == [SnapshotSegment(number: 2, fileSize: 8192)])
  older[7] = 3
  older.removeSubrange(56..<64)
  read = try Snapshot(Bytes(older), path: "snapshot")
  #expect(read.lastSeen == nil && read.partitions == partitions && read.application == snapshot.application)
  older[7] = 2
  #expect(throws: LogError.self) { try Snapshot(Bytes(older), path: "snapshot") }
}

@Test("a snapshot cut off anywhere is refused, whatever its counts announce")
func everySnapshotPrefix() throws {
  let bytes = snapshot.encoded()
  for count in 0..<bytes.count {
    #expect(throws: LogError.self) { try Snapshot(bytes[0..<count], path: "snapshot") }
  }
}

@Test("golden: the header of a snapshot slot")
func goldenSlotHeader() throws {
  let header = SnapshotSlotHeader(
    state: .complete, identity: identity, number: 7, length: 4660, crc: 0x4142_4344)
  let bytes = header.encoded()
  #expect(
    hex(bytes)
      == "4d5253539851d6c300000001000000020102030405060708111213141516171800000000000000070000000000001234"
      + "41424344000000000000000000000000")
  #expect(try bytes.withBuffer { buffer in try SnapshotSlotHeader(buffer, path: "snapshot.0") } == header)
}

@Test("golden: a segment of two partitions, blocks and index")
func goldenSegment() throws {
  let log = LogWorld()
  try log.disk.createDirectory("/s")
  let batches = [TestBatch(size: 20), TestBatch(records: 2, size: 30), TestBatch(size: 10)]
  let lengths = batches.map { UInt32($0.bytes.count) }
  func reference(_ index: Int, at offset: Offset, delta: Int32) -> BatchReference {
    BatchReference(
      baseOffset: offset, maxTimestamp: 1_000_000, file: 1, position: UInt32(8 * index), length: lengths[index],
      lastOffsetDelta: delta, leaderEpoch: 3)
  }
  let runs = [
    DrainRun(
      partition: PartitionLogID(1), batches: [reference(0, at: 0, delta: 0), reference(1, at: 1, delta: 1)]),
    DrainRun(partition: PartitionLogID(2), batches: [reference(2, at: 7, delta: 0)]),
  ]
  let written = try SegmentWriter.write(
    path: "/s/a.segment", number: 12, identity: identity, sequences: 3...9, runs: runs,
    blockSize: 64, fileSystem: log.disk
  ) { batches[Int($0.position) / 8].stored(at: $0.baseOffset, epoch: 3) }
  let bytes = Bytes(try log.contents("/s/a.segment"))
  #expect(bytes.count == 8192 && written.fileSize == 8192)
  #expect(
    hex(bytes[0..<64])
      == "4d525347970a47bd000000010000000001020304050607081112131415161718000000000000000c0000000000000003"
      + "00000000000000090000000000000000")
  #expect(bytes[64..<4096].array.allSatisfy { $0 == 0 })
  let blocks =
    batches[0].stored(at: 0, epoch: 3).array + batches[1].stored(at: 1, epoch: 3).array
    + batches[2].stored(at: 7, epoch: 3).array
  #expect(bytes[4096..<(4096 + blocks.count)].array == blocks)
  let extents = written.extents.map(\.extent)
  #expect(extents.map(\.blockCount) == [2, 1] && extents.map(\.baseOffset) == [0, 7])
  #expect(extents.map(\.nextOffset) == [3, 8])
  let index = Int(extents[0].indexPosition)
  #expect(index == 4096 + blocks.count)
  #expect(extents[0].indexCRC == bytes[index..<(index + 80)].crc32c)
  #expect(
    hex(bytes[index..<(index + 80)])
      == "00000000000000000000000000000000000000000000100000000058127aaada00000000000f42400000000000000001"
      + "00000000000000020000000000001058000000690b0cb93800000000000f4240")
}

@Test("golden: a journal file with one commit of an event, a batch and a start offset")
func goldenJournalFile() throws {
  let log = LogWorld(seed: 5)
  try log.open()
  let created = log.append(AppendUnit(event: Bytes("create 1")))
  log.run { created.result != nil }
  var unit = AppendUnit(try log.partition(1), TestBatch(size: 8).bytes, try TestBatch(size: 8).header())
  unit.events = [Bytes("hello")]
  unit.startOffsets = [(try log.partition(1), 1)]
  let pending = log.append(unit)
  log.run { pending.result != nil }
  let bytes = Bytes(try log.contents(try #require(log.files(".journal").first)))
  let payload = 2 * 4096 + 80
  #expect(
    hex(bytes[payload..<(payload + 16 + 8 + 16 + 80 + 16 + 8)])
      == "0200000000000005000000000000000068656c6c6f000000010000000000004c00000000000000010000000000000000"
      + "000000400000000002b759a5a600000000000000000000000f424000000000000f4240ffffffffffffffffffffffffff"
      + "ff000000011c000000011008080808080808080000000000030000000000000800000000000000010000000000000001")
}

@Test("golden: the entries of a batch that two partitions have, and its blocks in a segment")
func goldenSharedBatch() throws {
  let log = LogWorld(seed: 5)
  try log.open()
  _ = try log.create(1)
  try log.append(TestBatch(), to: try log.create(2))
  let pending = try log.share(TestBatch(size: 8), among: [1, 2])
  log.run { pending.result != nil }
  let bytes = Bytes(try log.contents(try #require(log.files(".journal").first)))
  let reference = try #require(try log.partition(2).recent.last)
  let at = Int(reference.position) - 16
  #expect(hex(bytes[at..<(at + 24)]) == "010100000000004c00000000000000010000000000000000")
  #expect(hex(bytes[(at + 96)..<(at + 128)]) == "04000000000000100000000000000002000000600000004c0000000000000001")
  let block = SegmentBlock(
    baseOffset: 1, lastOffset: 1, position: 4096, length: 76, crc: 0x0102_0304, maxTimestamp: 1000, isShared: true)
  var index = ByteWriter(capacity: 64)
  block.write(to: &index)
  let written = index.finishJoined()
  #expect(
    hex(written) == "00000000000000010000000000000001000000000000100080" + "00004c" + "01020304" + "00000000000003e8")
  #expect(written.withBuffer { SegmentBlock($0) } == block)
}
