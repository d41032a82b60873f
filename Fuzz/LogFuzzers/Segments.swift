// Segments: snapshots and segment files as bytes in memory, many thousands a second; log-images has them in a whole broker.

import FuzzHarness
import FuzzStorage
import MillraceBase
import MillraceModel
import MillraceSimulation

@testable import MillraceIO
@testable import MillraceLog

private let identity = JournalIdentity(high: 1, low: 2)

/// A snapshot with something in every list.
private let richSnapshot: Bytes = {
  let extent = SegmentExtent(
    segment: 4, baseOffset: 0, nextOffset: 10, maxTimestamp: 5, bytes: 200, indexPosition: 8192, blockCount: 2,
    indexCRC: 7)
  var producer = ProducerState(epoch: 1, lastAppend: Timestamp(milliseconds: 5))
  producer.batches = [
    ProducedBatch(firstSequence: 0, lastSequence: 4, baseOffset: 5, timestamp: Timestamp(milliseconds: 5))
  ]
  let partition = SnapshotPartition(
    id: PartitionLogID(1), startOffset: 0, nextOffset: 10, size: 200, compactedTo: 0,
    epochs: [LeaderEpochStart(epoch: 0, startOffset: 0)], producers: [(9, producer)],
    transactions: PartitionTransactions(
      open: [9: 5], aborted: [AbortedTransaction(producerID: 9, firstOffset: 1, lastOffset: 3, lastStableOffset: 4)]),
    extents: [extent])
  return Snapshot(
    identity: identity, sequence: 7, drainedSequence: 5, nextFileNumber: 3, nextSegmentNumber: 5,
    segments: [SnapshotSegment(number: 4, fileSize: 12_288)], partitions: [partition], application: Bytes([1, 2, 3])
  ).encoded()
}()

/// The body of a snapshot: what is accepted must survive writing and reading again. And the header of a slot, with its
/// checksum put right.
let snapshots = FuzzTarget(
  name: "snapshots",
  seeds: {
    let header = SnapshotSlotHeader(state: .complete, identity: identity, number: 3, length: 100, crc: 5)
    return [[0] + richSnapshot.array, [1] + header.encoded().array]
  }
) { input in
  var choices = Choices(input)
  let isBody = choices.byte() % 2 == 0
  do throws(LogError) {
    if isBody {
      let snapshot = try Snapshot(choices.rest(), path: "snapshot")
      let again = try Snapshot(snapshot.encoded(), path: "snapshot")
      precondition(
        again.partitions == snapshot.partitions && again.segments == snapshot.segments
          && again.application == snapshot.application && again.sequence == snapshot.sequence,
        "a snapshot changes when written and read again")
    } else {
      var bytes = choices.rest().array
      bytes += [UInt8](repeating: 0, count: max(0, 64 - bytes.count))
      bytes.withUnsafeMutableBytes { memory in
        memory.storeBytes(of: SnapshotSlotHeader.magic.bigEndian, as: UInt32.self)
        let crc = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: memory[8..<64]))
        memory.storeBytes(of: crc.bigEndian, toByteOffset: 4, as: UInt32.self)
      }
      let header = try Bytes(bytes).withBuffer { buffer throws(LogError) in
        try SnapshotSlotHeader(buffer, path: "snapshot")
      }
      guard let header else { preconditionFailure("a header that is not zeros was taken for none") }
      _ = bytes.withUnsafeBytes { SegmentFormat.headerProblem($0, number: header.number, identity: header.identity) }
    }
  } catch {
    return
  }
}

/// An index and blocks out of the input, with the checksums put right, read as a fetch reads them; then once more with one
/// bit flipped, of which nothing may be served.
let segments = FuzzTarget(
  name: "segments", allowance: 6 << 20,
  seeds: {
    [
      [1, 1, 0, 0, 0, 0, 40, 0, 0, 0], [2, 3, 1, 0, 9, 1, 0, 0, 1, 16],
      [1, 3, 0, 16, 40, 0, 0, 61, 3, 2, 1] + [UInt8](repeating: 0, count: 80),
    ]
  }
) { input in
  var choices = Choices(input)
  let blockCount = 1 + choices.byte() % 3
  let mended = choices.byte()
  let wanted = Offset(choices.byte())
  let flipped = choices.number(below: 1 << 17)
  var contents = [UInt8](repeating: 0, count: 4096)
  var index = ByteWriter(capacity: 256)
  for block in 0..<blockCount {
    let batch = choices.bytes(choices.number(below: 1 << 12))
    let position = contents.count
    contents += mended & 1 << block == 0 ? batch.array : whole(batch, baseOffset: Offset(block * 10))
    let length = contents.count - position
    SegmentBlock(
      baseOffset: Offset(block * 10) + Offset(choices.byte() % 3), lastOffset: Offset(block * 10 + choices.byte() % 12),
      position: Int64(position + choices.byte() % 2), length: length + choices.byte() % 2,
      crc: contents[position...].withUnsafeBytes { CRC32C.checksum($0) }, maxTimestamp: Int64(choices.byte()),
      isShared: mended & 16 << block != 0
    ).write(to: &index)
  }
  let indexBytes = index.finishJoined()
  let extent = SegmentExtent(
    segment: 1, baseOffset: 0, nextOffset: 40, maxTimestamp: 0, bytes: Int64(contents.count),
    indexPosition: Int64(contents.count), blockCount: blockCount, indexCRC: indexBytes.crc32c)
  contents += indexBytes.array
  let undamaged = read(extent, from: wanted, in: contents)
  contents[flipped / 8 % contents.count] ^= 1 << UInt8(flipped % 8)
  if let damaged = read(extent, from: wanted, in: contents) {
    guard let undamaged else { preconditionFailure("what cannot be read undamaged is served damaged") }
    precondition(undamaged.starts(with: damaged), "a flipped bit was served")
  }
}

/// The bytes that a fetch from `wanted` is served out of a segment file; nil for an error.
private func read(_ extent: SegmentExtent, from wanted: Offset, in contents: [UInt8]) -> [UInt8]? {
  let world = SimulatedWorld(seed: 1)
  defer { world.tearDown() }
  let disk = SimulatedFileSystem(world: world)
  write([("/data/segments/\(SegmentFormat.name(1))", contents)], to: disk)
  let reader = SegmentReader(directory: "/data/segments", fileSystem: disk)
  do throws(LogError) {
    return try reader.batches(in: extent, from: wanted, limit: 1 << 16).flatMap(\.array)
  } catch {
    return nil
  }
}

/// A batch header with right sizes and checksum in front of what the records part shall be.
private func whole(_ records: Bytes, baseOffset: Offset) -> [UInt8] {
  var writer = ByteWriter(capacity: 128)
  writer.int64(baseOffset)
  writer.int32(Int32(RecordBatchHeader.size + records.count - RecordBatchHeader.lengthOverhead))
  writer.int32(0)
  writer.int8(2)
  writer.uint32(0)
  writer.uint16(0)
  writer.int32(0)
  writer.int64(1)
  writer.int64(1)
  writer.int64(-1)
  writer.int16(-1)
  writer.int32(-1)
  writer.int32(1)
  records.withBuffer { writer.copy($0) }
  let crc = writer.checksum(from: 21)
  writer.patchInt32(Int32(bitPattern: crc), at: 17)
  return writer.finishJoined().array
}
