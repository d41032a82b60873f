// HostedShare: what the coordinator keeps of a share group, and of each partition that it reads.

import MillraceBase
import MillraceDelivery
import MillraceIO
import MillraceLog
import MillraceModel

/// A partition that a share group reads, with the log it lies in.
final class HostedShare {
  unowned let group: HostedShareGroup
  let key: TopicIDPartition
  let log: PartitionLog
  /// Nil until it is known, durably, where the group begins.
  var partition: SharePartition?
  /// The log is being read for somebody, who acquires what comes; others wait.
  var isReading = false
  /// Something changed that is to be made durable at the end of the turn.
  var isTouched = false
  /// Units on their way to the disk with something of it.
  var commits = 0
  /// Nothing of it counts any more.
  var isDropped = false
  /// Wait until what they said is durable.
  var waiters: [(BrokerError?) -> Void] = []
  var timer: Timer?

  init(_ key: TopicIDPartition, of group: HostedShareGroup, log: PartitionLog) {
    self.key = key
    self.group = group
    self.log = log
  }

  /// The offset behind the last record that the group may see.
  var logEnd: Offset { group.rules.isCommittedOnly ? log.lastStableOffset : log.highWatermark }

  /// Whether it is as if it were not there: it can be made again from what is durable.
  var isIdle: Bool {
    guard let partition else { return false }
    return partition.acquiredCount == 0 && !isReading && !isTouched && commits == 0
  }
}

/// A share group with its members and partitions.
final class HostedShareGroup {
  let name: String
  var membership: ShareGroup
  var rules: ShareRules
  var shares: [TopicIDPartition: HostedShare] = [:]
  /// Numbers of those who may have records, by the ids that they came with.
  var numbers: [String: ShareMember] = [:]
  /// How many requests for records are under way.
  var fetchCount = 0
  /// Version of the topics that the members' assignments are made of.
  var topicsVersion: Int
  var timer: Timer?

  init(name: String, rules: ShareRules, topicsVersion: Int) {
    self.name = name
    self.rules = rules
    self.topicsVersion = topicsVersion
    membership = ShareGroup(name: name)
  }

  /// In an order that does not differ from run to run.
  var sortedShares: [HostedShare] { shares.values.sorted { $0.key < $1.key } }
}
