// Broker+Cleanup: when old records are removed: retention and compaction by topics' settings, checked now and then.

import MillraceBase
import MillraceLog
import MillraceMetadata
import MillraceModel

extension Broker {
  /// Partitions that are looked at in one turn of the reactor, so that 100,000 of them hold nobody up.
  private static let partitionsPerTurn = 2000

  /// Checks retention and compaction from now on, each at its interval.
  func startCleanup() {
    scheduleRetention()
    scheduleCompaction()
    log.onLowSpace = { [unowned self] in
      guard isOpen else { return }
      checkRetention(topics.values.map(\.id)[...]) {}
    }
  }

  private func scheduleRetention() {
    reactor.schedule(after: .milliseconds(settings.retentionCheckInterval)) { [self] in
      guard isOpen else { return }
      checkRetention(topics.values.map(\.id)[...]) { [self] in scheduleRetention() }
    }
  }

  /// Removes what retention allows to remove, some partitions a turn.
  private func checkRetention(_ ids: ArraySlice<TopicID>, _ done: @escaping () -> Void) {
    guard isOpen else { return }
    var rest = ids
    var found: [(log: PartitionLog, policy: CleanupPolicy)] = []
    while let id = rest.first, found.count < Broker.partitionsPerTurn {
      rest.removeFirst()
      // State topics of jobs move their starts themselves.
      guard let topic = metadata.topic(id), !topic.isInternal else { continue }
      let policy = cleanupPolicy(of: topic)
      guard policy.deletes, policy.retentionTime != nil || policy.retentionBytes != nil else { continue }
      for partition in topic.partitions {
        if let partition = log.partition(partition) { found.append((partition, policy)) }
      }
    }
    if log.expire(found) > 0 {
      // Whoever waits for records that are gone learns it.
      for (partition, _) in found { advanced(partition) }
    }
    if rest.isEmpty { return done() }
    reactor.schedule(after: .milliseconds(1)) { [self] in checkRetention(rest, done) }
  }

  private func scheduleCompaction() {
    reactor.schedule(after: .milliseconds(settings.cleanerBackoff)) { [self] in
      guard isOpen else { return }
      checkCompaction()
      scheduleCompaction()
    }
  }

  private func checkCompaction() {
    guard settings.isCleanerEnabled else { return }
    var found: [(log: PartitionLog, policy: CleanupPolicy)] = []
    for topic in topics.values where topic.isCompacted && !topic.isInternal {
      let policy = cleanupPolicy(of: topic)
      for partition in topic.partitions {
        if let partition = log.partition(partition) { found.append((partition, policy)) }
      }
    }
    log.compact(found)
  }

  /// The size of the file system that holds everything, and the bytes that may still be written to it; nil when it does not say.
  public func measureSpace(_ completion: @escaping ((total: Int64, usable: Int64)?) -> Void) {
    log.measureSpace { result in
      if case .success(let space) = result { completion(space) } else { completion(nil) }
    }
  }

  /// What a topic's settings, and the broker's where it has none, say about removing old records.
  public func cleanupPolicy(of topic: TopicMetadata) -> CleanupPolicy {
    var policy = CleanupPolicy()
    let words = (setting("cleanup.policy", of: topic) ?? "delete").split(separator: ",").map(String.init)
    policy.deletes = words.contains("delete")
    policy.compacts = words.contains("compact")
    func number(_ name: String) -> Int64? { setting(name, of: topic).flatMap { Int64($0) } }
    policy.retentionTime = number("retention.ms").flatMap { $0 < 0 ? nil : $0 }
    policy.retentionBytes = number("retention.bytes").flatMap { $0 < 0 ? nil : $0 }
    policy.deleteRetention = number("delete.retention.ms") ?? policy.deleteRetention
    policy.minCompactionLag = number("min.compaction.lag.ms") ?? policy.minCompactionLag
    policy.maxCompactionLag = number("max.compaction.lag.ms") ?? policy.maxCompactionLag
    policy.minDirtyRatio = setting("min.cleanable.dirty.ratio", of: topic).flatMap { Double($0) } ?? 0.5
    return policy
  }
}
