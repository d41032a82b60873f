// GroupLedger: what members of one group were told, and the rules that this is held against.
//
// 1. A partition belongs to at most one member of a generation, or member epoch.
// 2. Who asks for the committed offset is told the one that was acknowledged last, or one that was sent after it.
// 3. No member begins behind what its predecessors have processed: nothing is skipped.
// 4. After a clean hand-over (everything processed was committed and acknowledged, then the partition was given up) the
//    next member begins exactly there: nothing comes twice.
//
// Commits are numbered in the order of sending. That of a member which lost its partition must be refused, so no commit
// takes effect after one with a higher number.

import MillraceModel

/// The history of one group. Calls return the rule that they show to be broken, in words, or nil.
public struct GroupLedger {
  private struct Partition {
    /// Who owns it, by generation.
    var owners: [String: String] = [:]
    var acknowledged: (number: Int, offset: Offset) = (0, -1)
    /// Commits that were sent and not refused, in order.
    var sent: [(number: Int, offset: Offset)] = []
    /// Offset after the last record that anybody has processed.
    var processed: Offset = 0
    /// Where the last owner gave it up in order.
    var handedOver: Offset?
  }

  private let group: String
  private var partitions: [TopicPartition: Partition] = [:]
  private var nextCommit = 1
  /// Hand-overs in order that were followed by a beginning.
  public private(set) var cleanHandOvers = 0
  /// Commits that were acknowledged.
  public private(set) var acknowledgedCommits = 0

  /// Nothing known of the group yet.
  public init(group: String) { self.group = group }

  /// A member was told what is its own.
  /// - Parameter generation: a name that stands for one generation for good, also over restarts of the broker.
  public mutating func assigned(_ generation: String, to member: String, _ given: [TopicPartition]) -> String? {
    for partition in given {
      let other = partitions[partition, default: Partition()].owners.updateValue(member, forKey: generation)
      if let other, other != member {
        return "group \(group), generation \(generation): \(partition) was given to \(other) and to \(member)"
      }
    }
    return nil
  }

  /// The last acknowledged commit of a partition; to be kept by whoever asks for the committed offset.
  public func lastAcknowledged(_ partition: TopicPartition) -> Int { partitions[partition]?.acknowledged.number ?? 0 }

  /// Somebody was told the committed offset, −1 for none.
  /// - Parameter since: ``lastAcknowledged(_:)`` as it was when the question was sent.
  public func told(_ partition: TopicPartition, committed: Offset, since: Int) -> String? {
    let entry = partitions[partition] ?? Partition()
    let possible = entry.sent.filter { $0.number >= since }.map(\.offset)
    if possible.contains(committed) || since == 0 && committed == -1 { return nil }
    return "group \(group) is told offset \(committed) for \(partition); possible were \(possible) only"
  }

  /// A member begins to read a partition that it was given, at the committed offset that it was told, −1 for none.
  public mutating func begins(
    _ member: String, _ partition: TopicPartition, committed: Offset, since: Int
  ) -> String? {
    if let problem = told(partition, committed: committed, since: since) { return problem }
    let start = max(0, committed)
    let entry = partitions[partition] ?? Partition()
    partitions[partition]?.handedOver = nil
    if start > entry.processed {
      return "group \(group): \(member) begins \(partition) at \(start), but only \(entry.processed) was processed"
    }
    guard let handedOver = entry.handedOver else { return nil }
    if start != handedOver {
      return "group \(group): \(partition) was handed over at \(handedOver), but \(member) begins at \(start)"
    }
    cleanHandOvers += 1
    return nil
  }

  /// Somebody has processed the records before `offset`.
  public mutating func processed(_ partition: TopicPartition, before offset: Offset) {
    var entry = partitions[partition] ?? Partition()
    entry.handedOver = nil
    entry.processed = max(entry.processed, offset)
    partitions[partition] = entry
  }

  /// Offset after the last record of a partition that anybody has processed.
  public func processedEnd(_ partition: TopicPartition) -> Offset { partitions[partition]?.processed ?? 0 }

  /// A member sends a commit.
  /// - Returns: its number.
  public mutating func committing(_ partition: TopicPartition, _ offset: Offset) -> Int {
    defer { nextCommit += 1 }
    partitions[partition, default: Partition()].sent.append((nextCommit, offset))
    return nextCommit
  }

  /// A commit was acknowledged.
  public mutating func acknowledged(_ number: Int, _ partition: TopicPartition) {
    guard var entry = partitions[partition], let commit = entry.sent.first(where: { $0.number == number }) else {
      return
    }
    acknowledgedCommits += 1
    // An answer may come late.
    guard number > entry.acknowledged.number else { return }
    entry.acknowledged = commit
    if entry.handedOver != commit.offset { entry.handedOver = nil }
    partitions[partition] = entry
  }

  /// A commit was refused: it has no effect.
  public mutating func refused(_ number: Int, _ partition: TopicPartition) {
    partitions[partition]?.sent.removeAll { $0.number == number }
  }

  /// A member gives a partition up in order, at an offset whose commit was acknowledged.
  public mutating func handsOver(_ partition: TopicPartition, at offset: Offset) {
    guard let entry = partitions[partition] else { return }
    // Not clean when somebody went further meanwhile, or a commit is under way.
    let isClean =
      entry.acknowledged.offset == offset && entry.processed == offset
      && entry.sent.last?.number == entry.acknowledged.number
    partitions[partition]?.handedOver = isClean ? offset : nil
  }

  /// Partitions for which something was committed for certain, in order.
  public var committedPartitions: [TopicPartition] {
    partitions.filter { $0.value.acknowledged.number > 0 }.keys
      .sorted { ($0.topic, $0.partition) < ($1.topic, $1.partition) }
  }
}
