// ShareEvent: the events that change what share groups have done with topics' records, and their bytes in the journal.
//
// As MetadataEvent: kind uint8, version uint8 (1), then the fields, big endian, first the group. A partition is its
// topic's identity, two uint64, and its index as unsigned LEB128.
//
//   50 began            group, partition, start int64
//   51 changed          group, partition, count as unsigned LEB128, changes as MillraceDelivery's ShareChange writes them
//   52 forgotten        group, topics: count as unsigned LEB128, each two uint64

import MillraceBase
import MillraceDelivery
import MillraceModel

/// One change of what is durable of share groups.
public enum ShareEvent: Equatable, Sendable {
  /// The group reads the partition from this offset on, whatever it had done there before.
  case began(group: String, TopicIDPartition, start: Offset)
  /// Records of a partition are done with, or were counted.
  case changed(group: String, TopicIDPartition, [ShareChange])
  /// What the group had done with these topics is forgotten.
  case forgotten(group: String, [TopicID])

  static let kinds: ClosedRange<UInt8> = 50...52

  func write(to writer: inout ByteWriter) {
    func begin(_ kind: UInt8, _ group: String) {
      writer.uint8(kind)
      writer.uint8(1)
      writer.text(group)
    }
    switch self {
    case .began(let group, let partition, let start):
      begin(50, group)
      writer.sharePartition(partition)
      writer.int64(start)
    case .changed(let group, let partition, let changes):
      begin(51, group)
      writer.sharePartition(partition)
      writer.unsignedVarint(UInt32(changes.count))
      for change in changes { change.encode(to: &writer) }
    case .forgotten(let group, let topics):
      begin(52, group)
      writer.unsignedVarint(UInt32(topics.count))
      for topic in topics {
        writer.uint64(topic.high)
        writer.uint64(topic.low)
      }
    }
  }

  /// Reads what follows kind and version.
  init(_ kind: UInt8, _ reader: inout ByteReader) throws(DecodingError) {
    let group = try reader.text()
    switch kind {
    case 50:
      let partition = try reader.sharePartition()
      let at = reader.position
      let start = try reader.int64()
      guard start >= 0 else { throw DecodingError("a share-partition starts at \(start)", at: at) }
      self = .began(group: group, partition, start: start)
    case 51:
      let partition = try reader.sharePartition()
      var changes: [ShareChange] = []
      for _ in 0..<(try reader.unsignedVarint()) { changes.append(try ShareChange(from: &reader)) }
      self = .changed(group: group, partition, changes)
    case 52:
      var topics: [TopicID] = []
      for _ in 0..<(try reader.unsignedVarint()) {
        topics.append(TopicID(high: try reader.uint64(), low: try reader.uint64()))
      }
      self = .forgotten(group: group, topics)
    default: throw DecodingError("kind \(kind) is no event of share groups", at: 0)
    }
  }
}

extension ByteWriter {
  mutating func sharePartition(_ partition: TopicIDPartition) {
    uint64(partition.topic.high)
    uint64(partition.topic.low)
    unsignedVarint(UInt32(max(0, partition.partition)))
  }
}

extension ByteReader {
  mutating func sharePartition() throws(DecodingError) -> TopicIDPartition {
    let topic = TopicID(high: try uint64(), low: try uint64())
    let at = position
    guard let index = Int32(exactly: try unsignedVarint()) else { throw DecodingError("a partition's index", at: at) }
    return TopicIDPartition(topic, index)
  }
}
