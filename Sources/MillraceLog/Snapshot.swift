// Snapshot: the state as of a commit, so that journal files before it can be used again. Also the segments' manifest.
//
// The body of a slot (see SnapshotSlots.swift, which has the checksum). Big endian:
//   magic uint32 "MRSN", version uint32 5,
//   journal identity 16 bytes,
//   sequence uint64          the commit whose effects, and those of all before it, are in here
//   drained sequence uint64  all records up to this commit are in segments
//   next file number uint64, next segment number uint64,
//   time seen last int64     that records expire by (RetentionClock.swift), ms; −1 for unknown; version 3 does not have it
//   segment count uint32, each: number uint64, file size int64, bytes of shared blocks int64
//   partition count uint32, each: number int64, start, next offset int64, size int64, compacted up to offset int64,
//     epoch count uint32 (epoch int32, start int64),
//     producer count uint32 (id int64, epoch int16, last append int64, batch count uint8
//       (first and last sequence int32, base offset int64, timestamp int64)),
//     open transaction count uint32 (producer id, first offset int64),
//     aborted transaction count uint32 (producer id, first, last offset, last stable offset int64),
//     extent count uint32 (segment uint64, base, next offset, max timestamp, bytes, of these in shared blocks,
//       index position int64, block count uint32, index crc uint32)
//   application state: length uint32, bytes
// Versions below 5 know no shared blocks.

import MillraceBase
import MillraceModel

struct SnapshotSegment: Equatable, Sendable {
  var number: UInt64
  var fileSize: Int64
  /// Of the blocks that several partitions may have, each counted once.
  var sharedBytes: Int64 = 0
}

struct SnapshotPartition: Equatable, Sendable {
  var id: PartitionLogID
  var startOffset: Offset
  var nextOffset: Offset
  var size: Int64
  var compactedTo: Offset
  var epochs: [LeaderEpochStart]
  var producers: [(id: Int64, state: ProducerState)]
  var transactions = PartitionTransactions()
  var extents: [SegmentExtent]

  static func == (left: SnapshotPartition, right: SnapshotPartition) -> Bool {
    left.id == right.id && left.startOffset == right.startOffset && left.nextOffset == right.nextOffset
      && left.size == right.size && left.compactedTo == right.compactedTo && left.epochs == right.epochs
      && left.extents == right.extents && left.transactions == right.transactions
      && left.producers.count == right.producers.count
      && zip(left.producers, right.producers).allSatisfy { $0.id == $1.id && $0.state == $1.state }
  }
}

struct Snapshot: Sendable {
  static let magic: UInt32 = 0x4d52_534e
  static let version: UInt32 = 5
  /// The oldest version that can be read.
  static let oldestVersion: UInt32 = 3

  var identity: JournalIdentity
  var sequence: UInt64
  var drainedSequence: UInt64
  var nextFileNumber: UInt64
  var nextSegmentNumber: UInt64
  /// The time that records expire by.
  var lastSeen: Timestamp?
  var segments: [SnapshotSegment]
  var partitions: [SnapshotPartition]
  var application: Bytes

  func encoded() -> Bytes {
    var partitions = ByteWriter(capacity: 4096)
    for partition in self.partitions { Snapshot.write(partition, to: &partitions) }
    var writer = ByteWriter(capacity: 4096)
    for piece in pieces(partitionCount: self.partitions.count, [partitions.finishJoined()]) { writer.append(piece) }
    return writer.finishJoined()
  }

  /// The snapshot's bytes with partitions that were encoded before, in rising order of their numbers.
  func pieces(partitionCount: Int, _ partitions: [Bytes]) -> [Bytes] {
    var body = ByteWriter(capacity: 4096)
    body.uint32(Snapshot.magic)
    body.uint32(Snapshot.version)
    body.uint64(identity.high)
    body.uint64(identity.low)
    body.uint64(sequence)
    body.uint64(drainedSequence)
    body.uint64(nextFileNumber)
    body.uint64(nextSegmentNumber)
    body.int64(lastSeen?.milliseconds ?? -1)
    body.uint32(UInt32(segments.count))
    for segment in segments {
      body.uint64(segment.number)
      body.int64(segment.fileSize)
      body.int64(segment.sharedBytes)
    }
    body.uint32(UInt32(partitionCount))
    var end = ByteWriter(capacity: 64)
    end.uint32(UInt32(application.count))
    return [body.finishJoined()] + partitions + [end.finishJoined(), application]
  }

  static func write(_ partition: SnapshotPartition, to body: inout ByteWriter) {
    body.int64(partition.id.number)
    body.int64(partition.startOffset)
    body.int64(partition.nextOffset)
    body.int64(partition.size)
    body.int64(partition.compactedTo)
    body.uint32(UInt32(partition.epochs.count))
    for epoch in partition.epochs {
      body.int32(epoch.epoch)
      body.int64(epoch.startOffset)
    }
    body.uint32(UInt32(partition.producers.count))
    for (id, state) in partition.producers {
      body.int64(id)
      body.int16(state.epoch)
      body.int64(state.lastAppend.milliseconds)
      body.uint8(UInt8(state.batches.count))
      for batch in state.batches {
        body.int32(batch.firstSequence)
        body.int32(batch.lastSequence)
        body.int64(batch.baseOffset)
        body.int64(batch.timestamp.milliseconds)
      }
    }
    body.uint32(UInt32(partition.transactions.open.count))
    for (producer, offset) in partition.transactions.open.sorted(by: { $0.key < $1.key }) {
      body.int64(producer)
      body.int64(offset)
    }
    body.uint32(UInt32(partition.transactions.aborted.count))
    for aborted in partition.transactions.aborted {
      body.int64(aborted.producerID)
      body.int64(aborted.firstOffset)
      body.int64(aborted.lastOffset)
      body.int64(aborted.lastStableOffset)
    }
    body.uint32(UInt32(partition.extents.count))
    for extent in partition.extents {
      body.uint64(extent.segment)
      body.int64(extent.baseOffset)
      body.int64(extent.nextOffset)
      body.int64(extent.maxTimestamp)
      body.int64(extent.bytes)
      body.int64(extent.sharedBytes)
      body.int64(extent.indexPosition)
      body.uint32(UInt32(extent.blockCount))
      body.uint32(extent.indexCRC)
    }
  }

  /// Reads a snapshot's bytes.
  /// - Throws: `.corruption` when they are not what was written, or of a later version.
  init(_ bytes: Bytes, path: String) throws(LogError) {
    do throws(DecodingError) {
      try self.init(decoding: bytes)
    } catch {
      throw LogError(.corruption, "\(path): \(error)")
    }
  }

  private init(decoding bytes: Bytes) throws(DecodingError) {
    var reader = ByteReader(bytes)
    guard try reader.uint32() == Snapshot.magic else { throw DecodingError("this is no snapshot", at: 0) }
    let version = try reader.uint32()
    guard (Snapshot.oldestVersion...Snapshot.version).contains(version) else {
      throw DecodingError("snapshot version \(version), this program reads \(Snapshot.version)", at: 4)
    }
    identity = JournalIdentity(high: try reader.uint64(), low: try reader.uint64())
    sequence = try reader.uint64()
    drainedSequence = try reader.uint64()
    nextFileNumber = try reader.uint64()
    nextSegmentNumber = try reader.uint64()
    if version >= 4 {
      let milliseconds = try reader.int64()
      lastSeen = milliseconds < 0 ? nil : Timestamp(milliseconds: milliseconds)
    }
    segments = []
    for _ in 0..<(try reader.uint32()) {
      segments.append(
        SnapshotSegment(
          number: try reader.uint64(), fileSize: try reader.int64(), sharedBytes: version >= 5 ? try reader.int64() : 0)
      )
    }
    partitions = []
    for _ in 0..<(try reader.uint32()) { partitions.append(try Snapshot.partition(&reader, version: version)) }
    application = try reader.slice(Int(try reader.uint32()))
    guard reader.remaining == 0 else {
      throw DecodingError("\(reader.remaining) bytes too many in a snapshot", at: reader.position)
    }
  }

  private static func partition(
    _ reader: inout ByteReader, version: UInt32
  ) throws(DecodingError) -> SnapshotPartition {
    var partition = SnapshotPartition(
      id: PartitionLogID(try reader.int64()), startOffset: try reader.int64(), nextOffset: try reader.int64(),
      size: try reader.int64(), compactedTo: try reader.int64(), epochs: [], producers: [], extents: [])
    for _ in 0..<(try reader.uint32()) {
      partition.epochs.append(LeaderEpochStart(epoch: try reader.int32(), startOffset: try reader.int64()))
    }
    for _ in 0..<(try reader.uint32()) {
      let id = try reader.int64()
      var state = ProducerState(
        epoch: try reader.int16(), lastAppend: Timestamp(milliseconds: try reader.int64()))
      for _ in 0..<(try reader.uint8()) {
        state.batches.append(
          ProducedBatch(
            firstSequence: try reader.int32(), lastSequence: try reader.int32(), baseOffset: try reader.int64(),
            timestamp: Timestamp(milliseconds: try reader.int64())))
      }
      partition.producers.append((id, state))
    }
    partition.transactions = try transactions(&reader)
    for _ in 0..<(try reader.uint32()) {
      partition.extents.append(
        SegmentExtent(
          segment: try reader.uint64(), baseOffset: try reader.int64(), nextOffset: try reader.int64(),
          maxTimestamp: try reader.int64(), bytes: try reader.int64(),
          sharedBytes: version >= 5 ? try reader.int64() : 0, indexPosition: try reader.int64(),
          blockCount: Int(try reader.uint32()), indexCRC: try reader.uint32()))
    }
    return partition
  }

  private static func transactions(_ reader: inout ByteReader) throws(DecodingError) -> PartitionTransactions {
    var open: [Int64: Offset] = [:]
    for _ in 0..<(try reader.uint32()) { open[try reader.int64()] = try reader.int64() }
    var aborted: [AbortedTransaction] = []
    for _ in 0..<(try reader.uint32()) {
      aborted.append(
        AbortedTransaction(
          producerID: try reader.int64(), firstOffset: try reader.int64(), lastOffset: try reader.int64(),
          lastStableOffset: try reader.int64()))
    }
    return PartitionTransactions(open: open, aborted: aborted)
  }

  init(
    identity: JournalIdentity, sequence: UInt64, drainedSequence: UInt64, nextFileNumber: UInt64,
    nextSegmentNumber: UInt64, lastSeen: Timestamp? = nil, segments: [SnapshotSegment], partitions: [SnapshotPartition],
    application: Bytes
  ) {
    self.identity = identity
    self.sequence = sequence
    self.drainedSequence = drainedSequence
    self.nextFileNumber = nextFileNumber
    self.nextSegmentNumber = nextSegmentNumber
    self.lastSeen = lastSeen
    self.segments = segments
    self.partitions = partitions
    self.application = application
  }
}
