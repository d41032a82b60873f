// Ledger: what clients were told by the broker, and the rules that everything seen later is held against.

import MillraceBase
import MillraceModel

/// A record's name, carried in its value: which producer sent it, and as which in its partition.
public struct RecordName: Hashable, Sendable, CustomStringConvertible {
  /// The producer.
  public var producer: Int
  /// Counts up from 0 for each producer and partition.
  public var number: Int

  /// A name.
  public init(producer: Int, number: Int) {
    self.producer = producer
    self.number = number
  }

  /// `producer/number`.
  public var description: String { "\(producer)/\(number)" }
}

/// What a producer promises about its records in a partition.
public enum ProducerOrder: Sendable {
  /// Each record once, in order.
  case exactlyOnce
  /// First copies in order; copies may repeat.
  case ordered
  /// Only that acknowledged records are there.
  case anyOrder
  /// Fenced: none of its records may be there.
  case never
}

/// What has to be true of a group's committed offset.
private struct CommitHistory {
  var acknowledged: Offset?
  /// Sent after the acknowledged one; each may have been applied.
  var open: [Offset] = []
}

/// Promises made by the broker. Violations are collected, not thrown, so that a run reports the first of them.
public struct Ledger {
  private struct Partition {
    var acknowledged: [Offset: RecordName] = [:]
    var seen: [Offset: RecordName] = [:]
    var highWatermark: Offset = 0
  }

  private var partitions: [TopicPartition: Partition] = [:]
  private var producers: [Int: ProducerOrder] = [:]
  private var groups: [String: [TopicPartition: CommitHistory]] = [:]
  /// Rules that were broken, in words, in the order of their discovery.
  public private(set) var violations: [String] = []
  /// Records acknowledged so far.
  public private(set) var acknowledgedRecords = 0
  /// Records that consumers have read so far, repeats included.
  public private(set) var readRecords = 0
  /// Offsets committed and acknowledged so far.
  public private(set) var acknowledgedCommits = 0

  /// Nothing promised yet.
  public init() {}

  /// The rules of ``violations``.
  public private(set) var brokenRules: [Rule] = []

  /// Notes a broken rule.
  public mutating func violate(_ text: String, _ rule: Rule = .answers) {
    violations.append(text)
    brokenRules.append(rule)
  }

  // MARK: Producers

  /// Declares what a producer promises.
  public mutating func producer(_ producer: Int, _ order: ProducerOrder) { producers[producer] = order }

  /// The broker acknowledged `count` records of a producer from `number` on, at `offset` and the offsets after it.
  public mutating func acknowledged(
    _ partition: TopicPartition, producer: Int, number: Int, count: Int, at offset: Offset
  ) {
    acknowledgedRecords += count
    for index in 0..<count {
      let name = RecordName(producer: producer, number: number + index)
      let at = offset + Int64(index)
      let entry = partitions[partition, default: Partition()]
      if let other = entry.acknowledged[at], other != name {
        violate(
          "\(partition) offset \(at) was acknowledged for record \(other), and then for \(name)", .acknowledgedRecords)
      }
      if let other = entry.seen[at], other != name {
        violate(
          "\(partition) offset \(at) was acknowledged for record \(name), but held \(other) when it was read",
          .stableReads)
      }
      partitions[partition, default: Partition()].acknowledged[at] = name
    }
  }

  // MARK: Consumers

  /// The highest end of a partition that any client was told.
  public func highWatermark(_ partition: TopicPartition) -> Offset { partitions[partition]?.highWatermark ?? 0 }

  /// Offset after everything that was acknowledged or that any client was told of.
  public func promisedEnd(_ partition: TopicPartition) -> Offset {
    max(highWatermark(partition), (partitions[partition]?.acknowledged.keys.max() ?? -1) + 1)
  }

  /// A client was told the end of a partition; `before` is what the ledger held when it asked.
  public mutating func told(_ partition: TopicPartition, highWatermark: Offset, before: Offset) {
    if highWatermark < before {
      violate(
        "\(partition) ends at \(highWatermark), but a client had been told \(before) before it asked", .stableReads)
    }
    partitions[partition, default: Partition()].highWatermark = max(self.highWatermark(partition), highWatermark)
  }

  /// A consumer read the record at an offset.
  public mutating func read(_ partition: TopicPartition, _ name: RecordName, at offset: Offset) {
    readRecords += 1
    let entry = partitions[partition] ?? Partition()
    if let other = entry.seen[offset], other != name {
      violate(
        "\(partition) offset \(offset) held record \(other) when it was read before, now it holds \(name)", .stableReads
      )
    }
    if let other = entry.acknowledged[offset], other != name {
      violate(
        "\(partition) offset \(offset) was acknowledged for record \(other), but holds \(name)", .acknowledgedRecords)
    }
    partitions[partition, default: Partition()].seen[offset] = name
  }

  // MARK: Groups

  /// A group sends a commit of an offset.
  public mutating func committing(_ group: String, _ partition: TopicPartition, _ offset: Offset) {
    groups[group, default: [:]][partition, default: CommitHistory()].open.append(offset)
  }

  /// The last commit that was sent is acknowledged.
  public mutating func committed(_ group: String, _ partition: TopicPartition) {
    guard let offset = groups[group]?[partition]?.open.last else {
      return violate("group \(group): a commit for \(partition) was acknowledged, but none was sent", .loneOffsets)
    }
    acknowledgedCommits += 1
    groups[group]?[partition] = CommitHistory(acknowledged: offset)
  }

  /// A group was told its committed offset, −1 for none.
  public mutating func told(_ group: String, _ partition: TopicPartition, committed: Offset) {
    let history = groups[group]?[partition] ?? CommitHistory()
    if committed == history.acknowledged ?? -1 || history.open.contains(committed) { return }
    violate(
      "group \(group) is told offset \(committed) for \(partition); \(history.acknowledged ?? -1) was acknowledged, "
        + "and since then \(history.open) were sent", .loneOffsets)
  }

  /// Groups and partitions for which a commit was acknowledged.
  public var committedPartitions: [(group: String, partition: TopicPartition)] {
    groups.keys.sorted().flatMap { group in
      (groups[group] ?? [:]).filter { $0.value.acknowledged != nil }.keys
        .sorted { ($0.topic, $0.partition) < ($1.topic, $1.partition) }.map { (group, $0) }
    }
  }

  // MARK: The end

  /// Holds a partition's whole log, from offset 0 to its end, against everything that was promised.
  public mutating func check(_ partition: TopicPartition, log: [RecordName]) {
    let entry = partitions[partition] ?? Partition()
    if Int64(log.count) < entry.highWatermark {
      violate("\(partition) ends at \(log.count), but a client was told \(entry.highWatermark)", .stableReads)
    }
    for (what, promised, rule) in [
      ("acknowledged", entry.acknowledged, Rule.acknowledgedRecords), ("read", entry.seen, .stableReads),
    ] {
      for (offset, name) in promised.sorted(by: { $0.key < $1.key }) {
        guard offset < Int64(log.count) else {
          violate(
            "\(partition): record \(name) was \(what) at offset \(offset), but the log ends at \(log.count)", rule)
          break
        }
        if log[Int(offset)] != name {
          violate("\(partition): record \(name) was \(what) at offset \(offset), which holds \(log[Int(offset)])", rule)
          break
        }
      }
    }
    checkOrder(partition, log)
  }

  private mutating func checkOrder(_ partition: TopicPartition, _ log: [RecordName]) {
    var next: [Int: Int] = [:]
    for (offset, name) in log.enumerated() {
      let expected = next[name.producer, default: 0]
      switch producers[name.producer] {
      case .exactlyOnce:
        if name.number != expected {
          let kind = name.number < expected ? "a second time" : "before \(expected)"
          return violate(
            "\(partition) offset \(offset): idempotent producer's record \(name) stands there \(kind)", .producerOrder)
        }
      case .ordered:
        if name.number > expected {
          return violate(
            "\(partition) offset \(offset): record \(name) stands there before \(expected)", .producerOrder)
        }
      case .anyOrder: break
      case .never:
        return violate("\(partition) offset \(offset): record \(name) of a fenced producer stands there", .fencedEpochs)
      case nil:
        return violate(
          "\(partition) offset \(offset): record \(name) of a producer that does not exist", .acknowledgedRecords)
      }
      next[name.producer] = max(expected, name.number + 1)
    }
  }
}
