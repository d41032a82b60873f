// ShareStates: what share groups have done with the records of topics, as the events have led to it.
//
// Snapshot: uint32 count of groups, by name, each: name, uint32 count of partitions, in order, each: partition as in its
// events, the state as MillraceDelivery's `ShareState` writes it.

import MillraceBase
import MillraceDelivery
import MillraceModel

/// The durable part of all share groups. A group without anything in it is not there.
public struct ShareStates: Equatable, Sendable {
  private var groups: [String: [TopicIDPartition: ShareState]] = [:]

  init() {}

  /// Names of the groups, in no order.
  public var names: some Collection<String> { groups.keys }

  /// Whether anything of a group is durable.
  public func contains(_ group: String) -> Bool { groups[group] != nil }

  /// The partitions of a group, with what is done in each.
  public func partitions(of group: String) -> [TopicIDPartition: ShareState] { groups[group] ?? [:] }

  /// One partition of a group.
  public subscript(group: String, partition: TopicIDPartition) -> ShareState? { groups[group]?[partition] }

  /// Applies an event; what makes no sense changes nothing.
  /// - Parameter exists: whether there is such a partition.
  mutating func apply(_ event: ShareEvent, exists: (TopicIDPartition) -> Bool) {
    switch event {
    case .began(let group, let partition, let start):
      guard exists(partition) else { break }
      groups[group, default: [:]][partition] = ShareState(start: start)
    case .changed(let group, let partition, let changes):
      for change in changes { groups[group]?[partition]?.apply(change) }
    case .forgotten(let group, let topics):
      forget(group) { topics.contains($0.topic) }
    }
  }

  mutating func deletedTopic(_ id: TopicID) {
    for group in Array(groups.keys) { forget(group) { $0.topic == id } }
  }

  mutating func deletedGroup(_ group: String) { groups[group] = nil }

  private mutating func forget(_ group: String, _ isGone: (TopicIDPartition) -> Bool) {
    guard let partitions = groups[group], partitions.keys.contains(where: isGone) else { return }
    let rest = partitions.filter { !isGone($0.key) }
    groups[group] = rest.isEmpty ? nil : rest
  }

  // MARK: Snapshot

  /// The snapshot's bytes; nil when there is nothing.
  func snapshot() -> Bytes? {
    if groups.isEmpty { return nil }
    var writer = ByteWriter(capacity: 1024)
    writer.uint32(UInt32(groups.count))
    for (group, partitions) in groups.sorted(by: { $0.key < $1.key }) {
      writer.text(group)
      writer.uint32(UInt32(partitions.count))
      for (partition, state) in partitions.sorted(by: { $0.key < $1.key }) {
        writer.sharePartition(partition)
        state.encode(to: &writer)
      }
    }
    return writer.finishJoined()
  }

  init(_ reader: inout ByteReader) throws(DecodingError) {
    for _ in 0..<(try reader.uint32()) {
      let at = reader.position
      let group = try reader.text()
      guard groups[group] == nil else { throw DecodingError("share group '\(group)' is there twice", at: at) }
      var partitions: [TopicIDPartition: ShareState] = [:]
      for _ in 0..<(try reader.uint32()) {
        let partition = try reader.sharePartition()
        partitions[partition] = try ShareState(from: &reader)
      }
      guard !partitions.isEmpty else { throw DecodingError("share group '\(group)' has nothing", at: at) }
      groups[group] = partitions
    }
  }
}
