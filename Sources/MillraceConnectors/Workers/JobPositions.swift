// JobPositions: how far a job has come, read from the commits that its worker makes.

import MillraceBase
import MillraceDataflow
import MillraceModel

/// A partition that a job reads.
struct TopicPlace: Hashable {
  var topic: String
  var partition: Int32
}

/// A job's positions as of its newest durable commit.
struct JobPositions {
  private var offsets: [TopicPlace: Offset] = [:]
  /// Partitions whose positions are kept: a worker may name as many as it likes.
  private static let most = 100_000

  /// In the order of topics and partitions.
  var all: [(place: TopicPlace, offset: Offset)] {
    offsets.sorted { ($0.key.topic, $0.key.partition) < ($1.key.topic, $1.key.partition) }.map { ($0.key, $0.value) }
  }

  /// What a run reads first: where the commits before it have left off.
  mutating func begin(_ positions: [InputPosition]) {
    for position in positions {
      set(TopicPlace(topic: position.topic, partition: position.partition), position.offset, isNew: true)
    }
  }

  private mutating func set(_ place: TopicPlace, _ offset: Offset, isNew: Bool) {
    guard offsets[place] != nil || offsets.count < JobPositions.most else { return }
    guard !isNew || offsets[place] == nil else { return }
    offsets[place] = offset
  }

  /// Takes the positions out of a batch of the job's state. What is no position is passed over.
  mutating func take(_ batch: Bytes) {
    do throws(RecordBatchError) {
      let header = try RecordBatchHeader.checked(batch)
      guard header.codec == CompressionCodec.none else { return }
      let records = batch[RecordBatchHeader.size..<header.totalSize]
      var found: [(TopicPlace, Offset)] = []
      try RecordReader.forEach(in: records.buffer, count: Int(header.recordCount)) { record in
        if let position = JobPositions.position(record) { found.append(position) }
      }
      extendLifetime(records)
      for (place, offset) in found { set(place, offset, isNew: false) }
    } catch {
      // The broker refuses such a batch; it leads to no position.
      return
    }
  }

  /// The position that a state record tells of a topic's partition; nil for anything else.
  static func position(_ record: RawRecord) -> (TopicPlace, Offset)? {
    let prefix = StateRecordKind.prefixSize
    guard record.key.count > prefix + 4, record.key[2] == StateRecordKind.position, record.value.count == 8,
      let key = record.key.baseAddress, let value = record.value.baseAddress
    else { return nil }
    let name = UnsafeRawBufferPointer(rebasing: record.key[(prefix + 4)...])
    let start = Array("topic:".utf8)
    guard name.starts(with: start),
      let topic = String(validating: name.dropFirst(start.count), as: UTF8.self)
    else { return nil }
    let partition = Int32(bigEndian: key.loadUnaligned(fromByteOffset: prefix, as: Int32.self))
    return (
      TopicPlace(topic: topic, partition: partition), Int64(bigEndian: value.loadUnaligned(as: Int64.self))
    )
  }
}
