// TransformLedger: consume, transform, produce: what was committed of the input, and which outputs must be there for it.
//
// 1. Each record of the input below the group's committed offset has exactly one output that readers of committed records
//    see; no record at or above it has any.
// 2. Outputs of one input partition stand in an output partition in the order of the input.
// 3. Whoever begins is told the offset of the last commit that was acknowledged, or of one that was asked for later; what was
//    told is as good as acknowledged from then on.

import MillraceModel

/// The history of a group of producers that read, write and commit in transactions. Calls return broken rules, in words.
public struct TransformLedger: Sendable {
  private struct Input: Sendable {
    var acknowledged: Offset = 0
    var asked: Offset = 0
  }

  private var inputs: [TopicPartition: Input] = [:]
  /// Transactions whose commit was acknowledged.
  public private(set) var acknowledgedCommits = 0

  /// Nothing happened yet.
  public init() {}

  /// A transaction asks to be committed with the group's offset.
  public mutating func asking(_ partition: TopicPartition, _ offset: Offset) {
    inputs[partition, default: Input()].asked = max(inputs[partition]?.asked ?? 0, offset)
  }

  /// That was acknowledged.
  public mutating func committed(_ partition: TopicPartition, _ offset: Offset) {
    acknowledgedCommits += 1
    inputs[partition, default: Input()].acknowledged = max(inputs[partition]?.acknowledged ?? 0, offset)
  }

  /// The highest offset whose commit was acknowledged, or that was told.
  public func acknowledgedEnd(_ partition: TopicPartition) -> Offset { inputs[partition]?.acknowledged ?? 0 }

  /// A producer that begins, or the final reader, is told the group's offset, −1 for none.
  /// - Parameter since: ``acknowledgedEnd(_:)`` when it asked.
  public mutating func told(_ partition: TopicPartition, _ offset: Offset, since: Offset) -> String? {
    let asked = inputs[partition]?.asked ?? 0
    if (since...max(since, asked)).contains(max(0, offset)) {
      // The answer to its commit may be lost, and nothing more to come that could be committed.
      inputs[partition, default: Input()].acknowledged = max(inputs[partition]?.acknowledged ?? 0, offset)
      return nil
    }
    return "transform: offset \(offset) of \(partition) is told; \(since) was committed, and \(asked) asked for at most"
  }

  /// Holds all committed outputs against the group's offsets.
  /// - Parameter outputs: the input record that each output stands for, by output partition and in order.
  public func check(
    offsets: [TopicPartition: Offset], outputs: [[(input: TopicPartition, offset: Offset)]]
  ) -> [String] {
    var counts: [TopicPartition: [Offset: Int]] = [:]
    for (index, list) in outputs.enumerated() {
      var last: [TopicPartition: Offset] = [:]
      for (input, offset) in list {
        counts[input, default: [:]][offset, default: 0] += 1
        if let before = last.updateValue(offset, forKey: input), before > offset {
          return ["transform: the output of \(input) offset \(offset) stands in \(index) behind that of \(before)"]
        }
      }
    }
    var problems: [String] = []
    for (input, end) in offsets.sorted(by: { ($0.key.topic, $0.key.partition) < ($1.key.topic, $1.key.partition) }) {
      let mine = counts[input] ?? [:]
      if let wrong = (0..<max(0, end)).first(where: { mine[$0] != 1 }) {
        problems.append("transform: \(input) is committed to \(end), but \(wrong) has \(mine[wrong] ?? 0) outputs")
      }
      if let beyond = mine.keys.filter({ $0 >= max(0, end) }).min() {
        problems.append("transform: \(input) is committed to \(end), but \(beyond) has an output")
      }
    }
    return problems
  }
}
