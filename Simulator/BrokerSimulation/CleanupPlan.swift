// CleanupPlan: which topics of a run are cleaned up, and by which rules.

import MillraceBase
import MillraceModel

/// A topic that is compacted or expires, with the settings that its seed has drawn.
struct CleanupPlan {
  static let topic = "cleaned"
  static let partitions = 2

  var rules: CleanupRules
  /// Keys that are written.
  var keys: Int
  /// Most memory for keys in one pass of compaction, in bytes.
  var mapSize: Int
  var dirtyRatio: String

  init(_ random: inout SeededRandom) {
    let kind = Int.random(in: 0..<4, using: &random)
    rules = CleanupRules(compacts: kind != 3, deletes: kind >= 2)
    if rules.deletes {
      switch Int.random(in: 0..<3, using: &random) {
      case 0: rules.retentionTime = Int64.random(in: 50...1500, using: &random)
      case 1: rules.retentionBytes = Int64.random(in: 500...20_000, using: &random)
      default: break
      }
    }
    rules.deleteRetention = random.oneIn(2) ? 0 : Int64.random(in: 1...600, using: &random)
    rules.minCompactionLag = random.oneIn(2) ? 0 : Int64.random(in: 1...400, using: &random)
    keys = random.oneIn(3) ? 60 : 8
    mapSize = random.oneIn(2) ? 1024 : 1 << 20
    dirtyRatio = random.oneIn(3) ? "0.5" : "0.01"
  }

  var configs: [String: String] {
    var words: [String] = []
    if rules.compacts { words.append("compact") }
    if rules.deletes { words.append("delete") }
    return [
      "cleanup.policy": words.joined(separator: ","),
      "retention.ms": "\(rules.retentionTime ?? -1)",
      "retention.bytes": "\(rules.retentionBytes ?? -1)",
      "delete.retention.ms": "\(rules.deleteRetention)",
      "min.compaction.lag.ms": "\(rules.minCompactionLag)",
      "min.cleanable.dirty.ratio": dirtyRatio,
    ]
  }
}

/// What all clients of the cleaned topic share.
final class CleanupState {
  let plan: CleanupPlan
  var ledgers: [CleanupLedger] = []
  private var nextTransaction = 0

  init(_ plan: CleanupPlan) {
    self.plan = plan
    for index in 0..<CleanupPlan.partitions { ledgers.append(CleanupLedger(CleanupState.partition(index), plan.rules)) }
  }

  static func partition(_ index: Int) -> TopicPartition { TopicPartition(CleanupPlan.topic, Int32(index)) }

  func newTransaction() -> Int {
    nextTransaction += 1
    return nextTransaction
  }

  func ended(_ transaction: Int, _ fate: RecordFate) {
    for index in ledgers.indices { ledgers[index].ended(transaction, fate) }
  }
}
