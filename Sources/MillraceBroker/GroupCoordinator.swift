// GroupCoordinator: all consumer groups of both protocols: who holds what, committed offsets, and how groups stand.

import MillraceBase
import MillraceIO
import MillraceMetadata
import MillraceModel

/// All consumer groups. Belongs to the broker's reactor.
///
/// Membership lives in memory: after a restart members join again. Committed offsets are durable.
public final class GroupCoordinator {
  unowned let broker: Broker
  /// Classic groups. A name is in this or in `consumers`, never in both.
  var groups: [String: ClassicGroup] = [:]
  /// Groups of the consumer protocol with members, and those without whose epochs are still known.
  var consumers: [String: HeldConsumerGroup] = [:]
  var timers: [String: Timer] = [:]
  var joins: [GroupCall: (Result<GroupJoined, BrokerError>) -> Void] = [:]
  var syncs: [GroupCall: (Result<GroupSynced, BrokerError>) -> Void] = [:]
  let topics: CoordinatorTopics
  private var nextCall: GroupCall = 1
  var nextLife: UInt64 = 1
  /// Bytes that classic members have brought and are given, by group and in all.
  var metadataSizes: [String: Int] = [:]
  var metadataSize = 0
  /// How many there may be before nobody else can join.
  var mostMetadata = 256 << 20
  /// How classic consumers write what they say to each other; set once, by a protocol server, before the first member.
  public var classicCodec: (any ClassicConsumerCodec)?

  init(broker: Broker) {
    self.broker = broker
    topics = CoordinatorTopics(metadata: broker.metadata, logger: broker.logger) { [unowned broker] in broker.access }
  }

  func call() -> GroupCall {
    defer { nextCall += 1 }
    return nextCall
  }

  func newMemberID(_ clientID: String) -> String {
    "\(clientID.isEmpty ? "member" : clientID)-\(TopicID.random(using: &broker.random))"
  }

  func checkName(_ group: String) throws(BrokerError) {
    guard !group.isEmpty, broker.isOpen else {
      throw group.isEmpty
        ? BrokerError(.invalidGroupID, "the group id is empty") : BrokerError(.stopped, "the broker is closing")
    }
  }

  // MARK: Offsets

  /// Checks that a member may commit for its group.
  /// - Parameter partitions: what it commits, for a member of a consumer group that comes under an earlier epoch.
  public func checkCommit(
    group: String, memberID: String, instanceID: String?, generation: Int32, partitions: [TopicIDPartition]? = nil
  ) throws(BrokerError) {
    try checkName(group)
    try checkNoShareGroup(group)
    if let held = consumers[group] {
      if generation >= 0, instanceID != nil { _ = try held.group.identify(memberID, instanceID) }
      return try held.group.checkCommit(memberID: memberID, epoch: generation, partitions: partitions)
    }
    guard let state = groups[group] else {
      if generation < 0 { return }
      // The group has no members: either they went, or the broker was restarted and they have to join again.
      throw unknown(group, memberID)
    }
    try state.checkCommit(memberID: memberID, instanceID: instanceID, generation: generation)
  }

  /// Checks that a member may add offsets of its group to a transaction. A producer that knows of no members is believed,
  /// and a rebalance is no obstacle: the transaction belongs to the generation that began it. Source: KIP-447.
  func checkTransactionalCommit(
    group: String, memberID: String, instanceID: String?, generation: Int32
  ) throws(BrokerError) {
    try checkName(group)
    try checkNoShareGroup(group)
    if generation < 0, memberID.isEmpty, instanceID == nil { return }
    if let held = consumers[group] {
      do throws(BrokerError) {
        return try held.group.checkCommit(memberID: memberID, epoch: generation, partitions: nil)
      } catch {
        // Producers know of generations only. Source: Kafka, TxnOffsetCommit.
        throw error.code == .staleMemberEpoch ? BrokerError(.illegalGeneration, error.reason) : error
      }
    }
    guard let state = groups[group] else {
      throw BrokerError(.illegalGeneration, "group \(group) has no members, so generation \(generation) is not current")
    }
    do throws(BrokerError) {
      try state.checkCommit(memberID: memberID, instanceID: instanceID, generation: generation)
    } catch {
      guard error.code == .rebalanceInProgress else { throw error }
    }
  }

  /// Partitions of a group for which a transaction in progress is about to commit offsets.
  public func pendingPartitions(_ group: String) -> Set<TopicPartition> {
    broker.metadata.transactions.pendingPartitions(ofGroup: group)
  }

  /// Commits offsets of a group, all or none; `completion` follows when they are durable.
  public func commit(
    group: String, offsets: [PartitionOffset], completion: @escaping (BrokerError?) -> Void
  ) {
    guard !offsets.isEmpty else { return completion(nil) }
    broker.record(.offsetsCommitted(group: group, offsets: offsets), completion: completion)
  }

  /// Checks that a member may read its group's offsets. Whoever comes without an epoch may.
  public func checkFetch(group: String, memberID: String?, epoch: Int32) throws(BrokerError) {
    guard epoch >= 0 else { return }
    guard let held = consumers[group] else { throw unknown(group, memberID ?? "") }
    try held.group.checkFetch(memberID: memberID ?? "", epoch: epoch)
  }

  /// Offsets that a group has committed.
  public func offsets(_ group: String) -> [TopicPartition: CommittedOffset] {
    broker.metadata.groupOffsets[group] ?? [:]
  }

  // MARK: Looking

  /// Names of all groups with members or offsets, sorted.
  public var names: [String] {
    Set(groups.keys).union(consumers.keys).union(broker.metadata.groupOffsets.keys)
      .union(broker.metadata.groupEpochs.keys).union(broker.shares.names).sorted()
  }

  /// The protocol of a group; of one without members the last that it had, nil when there is no such group.
  public func kind(_ name: String) -> GroupKind? {
    if groups[name] != nil { return .classic }
    if consumers[name] != nil || broker.metadata.groupEpochs[name] != nil { return .consumer }
    if broker.metadata.groupOffsets[name] != nil { return .classic }
    return broker.shares.exists(name) ? .share : nil
  }

  /// A share group commits no offsets, and keeps its name to itself.
  func checkNoShareGroup(_ name: String) throws(BrokerError) {
    if kind(name) == .share { throw BrokerError(.unknownGroup, "group \(name) is a share group") }
  }

  /// How a group stands.
  public func describe(_ name: String) -> GroupDescription {
    switch kind(name) {
    case .consumer: return describeShortly(name)
    case .share: return broker.shares.describeShortly(name)
    case .classic, nil: break
    }
    guard let group = groups[name] else {
      let hasOffsets = broker.metadata.groupOffsets[name] != nil
      return GroupDescription(
        name: name, kind: .classic, state: hasOffsets ? "Empty" : "Dead",
        protocolType: hasOffsets ? "consumer" : "", protocolName: "", members: [])
    }
    let isSettled = group.state == .stable || group.state == .completing
    return GroupDescription(
      name: name, kind: .classic, state: group.state.rawValue, protocolType: group.protocolType,
      protocolName: isSettled ? group.protocolName : "",
      members: group.members.map { member in
        GroupMemberDescription(
          id: member.id, instanceID: member.instanceID, clientID: member.clientID, clientHost: member.clientHost,
          metadata: member.protocols.first { $0.name == group.protocolName }?.metadata ?? Bytes(),
          assignment: member.assignment)
      })
  }

  func close() {
    for timer in timers.values { timer.cancel() }
    timers = [:]
    for name in groups.keys.sorted() {
      change(name) { $0.close() }
      timers.removeValue(forKey: name)?.cancel()
    }
  }
}
