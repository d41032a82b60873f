// Metadata: the broker's deterministic state machine: topics, committed offsets, producer ids, job epochs.
//
// State changes only by applying events, which the log keeps; the same events always lead to the same state. What is
// asked of it in between (names free? which offset?) reads that state.
//
// Snapshot bytes: version uint32 2; leader epoch, cluster, next partition, next producer id, topics, offsets, job epochs
// and transactions in the order of `snapshot()`; then sections, each: tag uint8, length uint32, contents; all in the
// encoding of events. A section that is empty is left out. Tags: 1 settings of resources other than topics, 2 quotas,
// 3 epochs of groups, 4 virtual hosts, exchanges, bindings and durable queues, 5 share groups, 6 workers of jobs and jobs
// that are stopped, 7 users and rules of access.

import MillraceBase
import MillraceLog
import MillraceModel
import MillraceRouting

/// A topic.
public struct TopicMetadata: Equatable, Sendable {
  /// Name.
  public let name: String
  /// Identity; new when a topic of the same name is created again.
  public let id: TopicID
  /// The log of each partition.
  public internal(set) var partitions: [PartitionLogID]
  /// Settings that differ from the defaults, by Kafka's names.
  public internal(set) var configs: [String: String]
  /// When it was created.
  public let created: Timestamp

  /// Kept by Millrace for itself; names that begin with two underscores.
  public var isInternal: Bool { name.hasPrefix("__") }

  /// Keeps the newest record of each key.
  public var isCompacted: Bool { configs["cleanup.policy"]?.contains("compact") ?? false }
}

/// The state that events have led to. Belongs to the log's reactor.
public final class Metadata: LogStateMachine {
  private static let version: UInt32 = 2

  /// Leader epoch of this start; the number of starts so far.
  public private(set) var leaderEpoch: Int32 = -1
  /// The cluster's name, given at the first start.
  public private(set) var clusterID = ""
  /// Topics by name.
  public private(set) var topics: [String: TopicMetadata] = [:] { didSet { topicsVersion += 1 } }
  /// Changes whenever topics do; not durable.
  public private(set) var topicsVersion = 0
  private var topicNames: [TopicID: String] = [:]
  private var nextPartition: Int64 = 1
  /// Committed offsets of each group.
  public private(set) var groupOffsets: [String: [TopicPartition: CommittedOffset]] = [:]
  /// Groups of the consumer protocol: epochs below this one may have been given out, so that they never go back.
  public private(set) var groupEpochs: [String: Int32] = [:]
  /// Producer ids below this one may have been given out.
  public private(set) var reservedProducerIDs: Int64 = 0
  private var jobEpochs: [String: Int64] = [:]
  /// Numbers of the workers that started the newest runs of jobs, where it was a worker.
  private var jobOwners: [String: UInt64] = [:]
  /// Jobs that may not run until they are resumed.
  public private(set) var stoppedJobs: Set<String> = []
  /// Settings of what is no topic that differ from the standard, by Kafka's names.
  public private(set) var resourceConfigs: [ConfigResource: [String: String]] = [:]
  /// Limits of each entity, by Kafka's names.
  public private(set) var quotas: [QuotaEntity: [String: Double]] = [:]
  /// Counts how often partitions were added to topics that were there, since this value was made.
  public private(set) var partitionAdditions: UInt64 = 0

  /// What an event changed that somebody may hold a copy of.
  public enum Change: Equatable, Sendable {
    /// A topic's settings or partitions.
    case topic(TopicMetadata)
    /// Settings of something else.
    case resource(ConfigResource)
    /// Limits of any entity.
    case quotas
    /// Users or rules.
    case security
  }
  /// Called after an event that changed settings, partitions or quotas was applied; set it once the log is open.
  public var onChange: (Change) -> Void = { _ in }
  /// Transactional ids and their transactions.
  public private(set) var transactions = Transactions()
  /// Virtual hosts, exchanges, bindings and durable queues.
  public private(set) var queues = Queues()
  /// What share groups have done.
  public private(set) var shares = ShareStates()
  /// Users, and what they may do.
  public private(set) var users = Users()

  /// The state before the first event.
  public init() {}

  /// The topic with this identity.
  public func topic(_ id: TopicID) -> TopicMetadata? { topicNames[id].flatMap { topics[$0] } }

  /// Numbers for the logs of `count` new partitions; they are taken once the event that names them is applied.
  public func newPartitions(_ count: Int) -> [PartitionLogID] {
    (0..<Int64(count)).map { PartitionLogID(nextPartition + $0) }
  }

  /// The epoch of the newest start of a job, 0 when it never ran.
  public func jobEpoch(_ name: String) -> Int64 { jobEpochs[name] ?? 0 }

  /// The number of the worker that made the newest start of a job; 0 when it was no worker.
  public func jobOwner(_ name: String) -> UInt64 { jobOwners[name] ?? 0 }

  /// The jobs that have ever been started, in order.
  public var jobNames: [String] { jobEpochs.keys.sorted() }

  /// Changes exchanges and bindings that are not durable, without an event: they are in no snapshot, and gone after a
  /// restart. What is durable changes by events only.
  public func applyTransient<Result, Failure: Error>(
    _ body: (inout Routing) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(&queues.routing)
  }

  /// Finds where a message goes: `Routing.route`, which uses memory that it keeps.
  public func route(
    to exchange: Bytes, in virtualHost: String, key: Bytes, extraKeys: [Bytes] = [], allowsInternal: Bool = false,
    headers: () -> RoutingTable = { .empty }, property: (MessageProperty) -> Bytes? = { _ in nil },
    random: inout SeededRandom, into result: inout RouteResult
  ) throws(RoutingError) {
    try queues.routing.route(
      to: exchange, in: virtualHost, key: key, extraKeys: extraKeys, allowsInternal: allowsInternal, headers: headers,
      property: property, random: &random, into: &result)
  }

  /// Applies one event.
  public func apply(_ event: Bytes, log: LogStore) throws(LogError) {
    let decoded: MetadataEvent
    do throws(DecodingError) {
      decoded = try MetadataEvent(event)
    } catch {
      throw LogError(.corruption, "metadata event: \(error)")
    }
    switch decoded {
    case .topicCreated(let name, _, let partitions, _, _): try checkNew(partitions, of: "topic '\(name)'", log)
    case .partitionsAdded(let id, let partitions): try checkNew(partitions, of: "topic '\(topicNames[id] ?? "?")'", log)
    case .queue(.queueCreated(let definition)):
      try checkNew(definition.lanes, of: "queue '\(definition.name)' in vhost '\(definition.virtualHost)'", log)
    default: break
    }
    apply(decoded, log: log)
  }

  private func checkNew(_ partitions: [PartitionLogID], of owner: String, _ log: LogStore) throws(LogError) {
    var seen: Set<PartitionLogID> = []
    guard let taken = partitions.first(where: { log.partition($0) != nil || !seen.insert($0).inserted }) else { return }
    throw LogError(.corruption, "\(owner) is to have partition number \(taken.number), which is there already")
  }

  /// Producer ids are reserved so many at a time.
  public static let producerIDBlock: Int64 = 1000

  /// Goes past leader epochs and producer ids that records carry, and past as many more as lost commits may have given out.
  public func skipNumbers(usedLeaderEpoch: Int32, usedProducerID: Int64, lostCommits: Int) {
    // A commit holds one start at most, and one reservation. So many were not lost unless all is.
    let margin = min(lostCommits, 1 << 16)
    // Clients may write under ids that nobody gave them; the ids must not run out for one of those.
    let ids = transactions.producers.values.map(\.producer.id) + [usedProducerID]
    let highest = ids.filter { $0 < 1 << 60 }.max() ?? -1
    leaderEpoch = min(max(leaderEpoch, usedLeaderEpoch), .max - 1 << 20) + Int32(margin)
    reservedProducerIDs = max(reservedProducerIDs, highest + 1) + Int64(margin) * Metadata.producerIDBlock
  }

  private func apply(_ event: MetadataEvent, log: LogStore) {
    switch event {
    case .started(let epoch, let clusterID):
      leaderEpoch = epoch
      self.clusterID = clusterID
      log.leaderEpoch = epoch
    case .topicCreated(let name, let id, let partitions, let configs, let time):
      for partition in partitions { log.createPartition(partition) }
      add(TopicMetadata(name: name, id: id, partitions: partitions, configs: configs, created: time))
    case .topicDeleted(let id):
      guard let name = topicNames.removeValue(forKey: id), let topic = topics.removeValue(forKey: name) else { return }
      for partition in topic.partitions { log.removePartition(partition) }
      transactions.deletedTopic(name)
      shares.deletedTopic(id)
      for group in groupOffsets.keys {
        groupOffsets[group] = groupOffsets[group]?.filter { $0.key.topic != name }
        if groupOffsets[group]?.isEmpty == true { groupOffsets[group] = nil }
      }
    case .offsetsCommitted(let group, let offsets):
      for offset in offsets where exists(offset.partition) {
        groupOffsets[group, default: [:]][offset.partition] = offset.committed
      }
    case .producerIDsReserved(let next):
      reservedProducerIDs = max(reservedProducerIDs, next)
    case .jobStarted(let name, let epoch):
      jobEpochs[name] = epoch
      jobOwners[name] = nil
    case .jobOwned(let name, let epoch, let owner):
      jobEpochs[name] = epoch
      jobOwners[name] = owner == 0 ? nil : owner
    case .jobStopped(let name, let isStopped):
      if isStopped { stoppedJobs.insert(name) } else { stoppedJobs.remove(name) }
    case .partitionsAdded(let id, let partitions):
      guard let name = topicNames[id], var topic = topics[name] else { return }
      for partition in partitions { log.createPartition(partition) }
      topic.partitions += partitions
      add(topic)
      partitionAdditions += 1
      onChange(.topic(topic))
    case .topicConfigured(let id, let changes):
      guard let name = topicNames[id], var topic = topics[name] else { return }
      topic.configs.take(changes)
      topics[name] = topic
      onChange(.topic(topic))
    case .resourceConfigured(let resource, let changes):
      var configs = resourceConfigs[resource] ?? [:]
      configs.take(changes)
      resourceConfigs[resource] = configs.isEmpty ? nil : configs
      onChange(.resource(resource))
    case .groupDeleted(let group):
      groupOffsets[group] = nil
      groupEpochs[group] = nil
      shares.deletedGroup(group)
      transactions.deletedOffsets(ofGroup: group)
    case .offsetsDeleted(let group, let partitions):
      for partition in partitions { groupOffsets[group]?[partition] = nil }
      transactions.deletedOffsets(ofGroup: group, partitions)
      if groupOffsets[group]?.isEmpty == true { groupOffsets[group] = nil }
    case .quotasChanged(let entity, let changes):
      var limits = quotas[entity] ?? [:]
      limits.take(changes)
      quotas[entity] = limits.isEmpty ? nil : limits
      onChange(.quotas)
    case .transaction(let event):
      for (group, offsets) in transactions.apply(event.naming { exists($0) }) {
        groupOffsets[group, default: [:]].merge(offsets) { _, new in new }
      }
    case .groupEpochsReserved(let group, let next):
      groupEpochs[group] = next
    case .consumerGroupEnded(let group):
      groupEpochs[group] = nil
    case .queue(let event): apply(event, log: log)
    case .security(let event):
      users.apply(event)
      onChange(.security)
    case .share(let event):
      shares.apply(event) { topic($0.topic)?.partitions.indices.contains(Int($0.partition)) ?? false }
    }
  }

  private func apply(_ event: QueueEvent, log: LogStore) {
    if case .bound(_, let binding) = event, case .topic(let name) = binding.destination, topics[name] == nil { return }
    switch queues.apply(event) {
    case .none: break
    case .made(let partitions):
      for partition in partitions { log.createPartition(partition) }
      takeNumbers(partitions)
    case .removed(let partitions):
      for partition in partitions { log.removePartition(partition) }
    }
  }

  /// A call is checked when it comes, and takes effect when its unit enters the log: its topic may be gone by then.
  private func exists(_ partition: TopicPartition) -> Bool {
    topics[partition.topic].map { $0.partitions.indices.contains(Int(partition.partition)) } ?? false
  }

  private func add(_ topic: TopicMetadata) {
    topics[topic.name] = topic
    topicNames[topic.id] = topic.name
    takeNumbers(topic.partitions)
  }

  private func takeNumbers(_ partitions: [PartitionLogID]) {
    nextPartition = max(nextPartition, (partitions.map(\.number).max() ?? 0) &+ 1)
  }

  /// The whole state.
  public func snapshot() -> Bytes {
    var writer = ByteWriter(capacity: 4096)
    writer.uint32(Metadata.version)
    writer.int32(leaderEpoch)
    writer.text(clusterID)
    writer.int64(nextPartition)
    writer.int64(reservedProducerIDs)
    writer.uint32(UInt32(topics.count))
    for (_, topic) in topics.sorted(by: { $0.key < $1.key }) {
      let event = MetadataEvent.topicCreated(
        name: topic.name, id: topic.id, partitions: topic.partitions, configs: topic.configs, time: topic.created)
      let bytes = event.encoded()
      writer.uint32(UInt32(bytes.count))
      writer.append(bytes)
    }
    writer.uint32(UInt32(groupOffsets.count))
    for (group, offsets) in groupOffsets.sorted(by: { $0.key < $1.key }) {
      writer.text(group)
      writer.uint32(UInt32(offsets.count))
      let sorted = offsets.sorted {
        ($0.key.topic, $0.key.partition) < ($1.key.topic, $1.key.partition)
      }
      for (partition, committed) in sorted {
        writer.offset(PartitionOffset(partition: partition, committed: committed))
      }
    }
    writer.uint32(UInt32(jobEpochs.count))
    for (name, epoch) in jobEpochs.sorted(by: { $0.key < $1.key }) {
      writer.text(name)
      writer.int64(epoch)
    }
    transactions.write(to: &writer)
    for section in Section.allCases {
      guard let bytes = contents(of: section) else { continue }
      writer.uint8(section.rawValue)
      writer.uint32(UInt32(bytes.count))
      writer.append(bytes)
    }
    return writer.finishJoined()
  }

  private enum Section: UInt8, CaseIterable {
    case resourceConfigs = 1
    case quotas = 2
    case groupEpochs = 3
    case queues = 4
    case shares = 5
    case jobs = 6
    case users = 7
  }

  /// A section's bytes, nil when it has nothing to say.
  private func contents(of section: Section) -> Bytes? {
    var writer = ByteWriter(capacity: 256)
    switch section {
    case .resourceConfigs:
      if resourceConfigs.isEmpty { return nil }
      writer.uint32(UInt32(resourceConfigs.count))
      for (resource, configs) in resourceConfigs.sorted(by: { $0.key < $1.key }) {
        writer.resource(resource)
        writer.changes(configs.mapValues { $0 })
      }
    case .quotas:
      if quotas.isEmpty { return nil }
      writer.uint32(UInt32(quotas.count))
      for (entity, limits) in quotas.sorted(by: { $0.key < $1.key }) {
        writer.entity(entity)
        writer.uint32(UInt32(limits.count))
        for (name, limit) in limits.sorted(by: { $0.key < $1.key }) {
          writer.text(name)
          writer.float64(limit)
        }
      }
    case .groupEpochs:
      if groupEpochs.isEmpty { return nil }
      writer.uint32(UInt32(groupEpochs.count))
      for (group, next) in groupEpochs.sorted(by: { $0.key < $1.key }) {
        writer.text(group)
        writer.int32(next)
      }
    case .queues: return queues.snapshot()
    case .shares: return shares.snapshot()
    case .users: return users.snapshot()
    case .jobs:
      if jobOwners.isEmpty && stoppedJobs.isEmpty { return nil }
      writer.uint32(UInt32(jobOwners.count))
      for (name, owner) in jobOwners.sorted(by: { $0.key < $1.key }) {
        writer.text(name)
        writer.uint64(owner)
      }
      writer.uint32(UInt32(stoppedJobs.count))
      for name in stoppedJobs.sorted() { writer.text(name) }
    }
    return writer.finishJoined()
  }

  private func restore(_ section: Section, from reader: inout ByteReader) throws(DecodingError) {
    switch section {
    case .resourceConfigs:
      for _ in 0..<(try reader.uint32()) {
        let resource = try reader.resource()
        var configs: [String: String] = [:]
        configs.take(try reader.changes())
        resourceConfigs[resource] = configs
      }
    case .quotas:
      for _ in 0..<(try reader.uint32()) {
        let entity = try reader.entity()
        for _ in 0..<(try reader.uint32()) {
          let name = try reader.text()
          quotas[entity, default: [:]][name] = try reader.float64()
        }
      }
    case .groupEpochs:
      for _ in 0..<(try reader.uint32()) { groupEpochs[try reader.text()] = try reader.int32() }
    case .queues:
      queues = try Queues(&reader)
      for number in queues.allNumbers { takeNumbers(queues[number]?.definition.lanes ?? []) }
    case .shares: shares = try ShareStates(&reader)
    case .users: users = try Users(&reader)
    case .jobs:
      for _ in 0..<(try reader.uint32()) { jobOwners[try reader.text()] = try reader.uint64() }
      for _ in 0..<(try reader.uint32()) { stoppedJobs.insert(try reader.text()) }
    }
  }

  /// Starts from a snapshot.
  public func restore(_ snapshot: Bytes, log: LogStore) throws(LogError) {
    do throws(DecodingError) {
      var reader = ByteReader(snapshot)
      let version = try reader.uint32()
      guard version == Metadata.version else {
        throw DecodingError("metadata of version \(version), this program reads \(Metadata.version)", at: 0)
      }
      leaderEpoch = try reader.int32()
      clusterID = try reader.text()
      let next = try reader.int64()
      reservedProducerIDs = try reader.int64()
      for _ in 0..<(try reader.uint32()) {
        let bytes = try reader.slice(Int(try reader.uint32()))
        guard case .topicCreated(let name, let id, let partitions, let configs, let time) = try MetadataEvent(bytes)
        else { throw DecodingError("a topic is expected", at: reader.position) }
        add(TopicMetadata(name: name, id: id, partitions: partitions, configs: configs, created: time))
      }
      nextPartition = max(next, nextPartition)
      for _ in 0..<(try reader.uint32()) {
        let group = try reader.text()
        for _ in 0..<(try reader.uint32()) {
          let offset = try reader.offset()
          groupOffsets[group, default: [:]][offset.partition] = offset.committed
        }
      }
      for _ in 0..<(try reader.uint32()) { jobEpochs[try reader.text()] = try reader.int64() }
      transactions = try Transactions(&reader)
      while reader.remaining > 0 {
        let tag = try reader.uint8()
        guard let section = Section(rawValue: tag) else {
          throw DecodingError("section \(tag), which this program does not know", at: reader.position)
        }
        var contents = ByteReader(try reader.slice(Int(try reader.uint32())))
        try restore(section, from: &contents)
        guard contents.remaining == 0 else {
          throw DecodingError("\(contents.remaining) bytes too many in section \(tag)", at: reader.position)
        }
      }
    } catch {
      throw LogError(.corruption, "metadata snapshot: \(error)")
    }
  }
}

extension Dictionary where Key == String {
  /// Takes over changes; nil takes a name out.
  fileprivate mutating func take(_ changes: [String: Value?]) {
    for (name, value) in changes { self[name] = value }
  }
}
