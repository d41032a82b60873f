// ShareCoordinator: all share groups (KIP-932): their members, and the partitions that they read.
//
// Members live in memory, as those of other groups do. What is done with records is durable: Sources/MillraceMetadata
// has it, and what is kept here is made of that whenever somebody asks for a partition (HostedShare.swift).

import MillraceBase
import MillraceDelivery
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel

/// All share groups. Belongs to the broker's reactor.
public final class ShareCoordinator {
  unowned let broker: Broker
  let topics: CoordinatorTopics
  private(set) var groups: [String: HostedShareGroup] = [:]
  private var nextNumber: ShareMember = 1
  /// Requests that wait for records, by the log that these will lie in, in the order of their coming.
  var waits: [PartitionLogID: [ShareFetch]] = [:]
  /// Logs whose waiting requests are to look again at the end of the turn.
  var woken: [PartitionLog] = []
  /// To be made durable at the end of the turn.
  var touched: [HostedShare] = []
  var isCommitting = false
  /// Called when a member has been silent for too long, with its group and id.
  public var onMemberGone: (String, String) -> Void = { _, _ in }
  /// Bytes that members of all groups have brought.
  private var membershipSize = 0
  /// How many there may be before nobody else can join.
  static let mostMembershipBytes = 64 << 20
  /// Groups that may be held at once.
  static let mostGroups = 10_000

  init(broker: Broker) {
    self.broker = broker
    topics = CoordinatorTopics(metadata: broker.metadata, logger: broker.logger) { [unowned broker] in broker.access }
  }

  // MARK: Groups

  /// Whether there is a share group of this name, with members or with something that it has done.
  public func exists(_ name: String) -> Bool {
    groups[name].map { !$0.membership.members.isEmpty } ?? false || broker.metadata.shares.contains(name)
  }

  /// Names of all share groups, in no order.
  var names: Set<String> {
    Set(groups.values.lazy.filter { !$0.membership.members.isEmpty }.map(\.name))
      .union(broker.metadata.shares.names)
  }

  /// The group of this name, a new one when there is none.
  /// - Throws: `.invalidGroupID`, `.stopped`; `.unknownGroup` when a group of another kind has the name; `.groupTooLarge`.
  func group(_ name: String) throws(BrokerError) -> HostedShareGroup {
    guard !name.isEmpty else { throw BrokerError(.invalidGroupID, "the group id is empty") }
    guard broker.isOpen else { throw BrokerError(.stopped, "the broker is closing") }
    if let kind = broker.groups.kind(name), kind != .share {
      throw BrokerError(.unknownGroup, "group \(name) is a \(kind.rawValue) group")
    }
    if let found = groups[name] { return found }
    guard groups.count < ShareCoordinator.mostGroups else {
      throw BrokerError(.groupTooLarge, "\(groups.count) share groups are in use; no more can be")
    }
    let made = HostedShareGroup(name: name, rules: rules(of: name), topicsVersion: topics.currentVersion)
    groups[name] = made
    return made
  }

  private func rules(of name: String) -> ShareRules {
    ShareSettings.rules(broker.configs(of: ConfigResource(.group, name)), broker.settings)
  }

  /// A group's settings were changed.
  func settingsChanged(_ name: String) {
    guard let group = groups[name] else { return }
    group.rules = rules(of: name)
    for share in group.sortedShares {
      share.partition?.limits = group.rules.limits
      wake(share)
    }
  }

  /// Forgets what can be made again.
  func forgetIfIdle(_ group: HostedShareGroup) {
    guard group.membership.members.isEmpty, group.numbers.isEmpty, group.fetchCount == 0,
      group.shares.values.allSatisfy(\.isIdle)
    else { return }
    for share in group.shares.values { drop(share) }
    group.timer?.cancel()
    if groups[group.name] === group { groups[group.name] = nil }
  }

  /// A group is gone, or all that it has done is to be forgotten.
  func drop(_ name: String) {
    guard let group = groups.removeValue(forKey: name) else { return }
    group.timer?.cancel()
    membershipSize -= group.membership.size
    for share in group.sortedShares { drop(share) }
  }

  /// A share is made anew when it is asked for again.
  func drop(_ share: HostedShare) {
    share.isDropped = true
    share.timer?.cancel()
    share.group.shares[share.key] = nil
    let waiters = share.waiters
    share.waiters = []
    for waiter in waiters {
      waiter(BrokerError(.invalidRecordState, "partition \(share.key) was taken from group \(share.group.name)"))
    }
  }

  /// A topic is gone: nothing of it is read any more.
  func forgetDeletedTopics() {
    for group in groups.values.sorted(by: { $0.name < $1.name }) {
      for share in group.sortedShares where share.log.isDeleted { drop(share) }
      forgetIfIdle(group)
    }
  }

  // MARK: Members

  /// Takes a member's heartbeat.
  /// - Throws: `.invalidRequest`, `.unknownGroup` (a group of another kind has the name), `.unknownMember`,
  ///   `.fencedMemberEpoch`, `.groupTooLarge`, `.stopped`.
  public func heartbeat(_ beat: ShareHeartbeat) throws(BrokerError) -> ShareHeartbeatAnswer {
    try beat.check()
    guard beat.epoch == ShareGroup.joining || groups[beat.group] != nil else {
      throw BrokerError(.unknownMember, "share group \(beat.group) has no member \(beat.memberID)")
    }
    let group = try group(beat.group)
    defer { settle(group) }
    follow(group)
    let before = group.membership.size
    let isNew = group.membership.members[beat.memberID] == nil
    if beat.epoch >= 0, isNew || beat.topics != nil, membershipSize > ShareCoordinator.mostMembershipBytes {
      throw BrokerError(
        .groupTooLarge, "the members of all share groups have brought \(membershipSize) bytes; no more are taken")
    }
    let epoch = group.membership.epoch
    let answer = try group.membership.heartbeat(beat, topics: topics, rules: group.rules, now: broker.reactor.now)
    membershipSize += group.membership.size - before
    if epoch != group.membership.epoch { tell(group) }
    // So that the group does not miss what comes between now and its first request for records.
    for key in answer.assignment ?? [] where group.shares[key] == nil { _ = share(key, of: group) }
    return answer
  }

  /// Makes a consumer that lives in this program a member, until it leaves.
  /// - Throws: as ``heartbeat(_:)``.
  func join(_ name: String, memberID: String, topic: String) throws(BrokerError) {
    _ = try heartbeat(ShareHeartbeat(group: name, memberID: memberID, epoch: ShareGroup.joining, topics: [topic]))
    guard let group = groups[name] else { return }
    group.membership.keep(memberID)
    settle(group)
  }

  /// A consumer that lives in this program leaves: what it has is for others, and was not delivered.
  func leave(_ name: String, memberID: String) {
    guard let group = groups[name] else { return }
    follow(group)
    let before = group.membership.size
    group.membership.leave(memberID, topics: topics)
    membershipSize += group.membership.size - before
    tell(group)
    release(memberID, of: group, isDelivered: false)
    settle(group)
  }

  private func follow(_ group: HostedShareGroup) {
    guard group.topicsVersion != topics.currentVersion else { return }
    group.topicsVersion = topics.currentVersion
    group.membership.topicsChanged(topics)
  }

  private func tell(_ group: HostedShareGroup) {
    broker.logger.log(
      .info, "groups", "share group changed",
      [
        "group": group.name, "state": group.membership.state.rawValue, "epoch": "\(group.membership.epoch)",
        "members": "\(group.membership.members.count)",
      ])
  }

  private func settle(_ group: HostedShareGroup) {
    group.timer?.cancel()
    group.timer = nil
    if let deadline = group.membership.nextDeadline {
      let left = max(.zero, deadline - broker.reactor.now)
      group.timer = broker.reactor.schedule(after: left) { [weak self, weak group] in
        guard let self, let group else { return }
        tick(group)
      }
    } else {
      forgetIfIdle(group)
    }
  }

  private func tick(_ group: HostedShareGroup) {
    follow(group)
    let before = group.membership.size
    let late = group.membership.tick(broker.reactor.now, topics: topics)
    membershipSize += group.membership.size - before
    if !late.isEmpty { tell(group) }
    // Who leaves in good order closes its session itself, perhaps later, and with the last that it has to say.
    for id in late {
      release(id, of: group, isDelivered: true)
      onMemberGone(group.name, id)
    }
    settle(group)
  }

  /// The number of a member, whether it has joined or not: records belong to numbers.
  func number(of memberID: String, in group: HostedShareGroup) -> ShareMember {
    if let number = group.numbers[memberID] { return number }
    defer { nextNumber += 1 }
    group.numbers[memberID] = nextNumber
    return nextNumber
  }

  /// Whoever has this id will fetch no more for now: what it has is for others.
  /// - Parameter isDelivered: whether that counts as a delivery that failed, as when its connection broke.
  public func release(_ memberID: String, of name: String, isDelivered: Bool) {
    guard let group = groups[name] else { return }
    release(memberID, of: group, isDelivered: isDelivered)
    forgetIfIdle(group)
  }

  private func release(_ memberID: String, of group: HostedShareGroup, isDelivered: Bool) {
    guard let number = group.numbers.removeValue(forKey: memberID) else { return }
    for share in group.sortedShares {
      guard share.partition?.release(number, isDelivered: isDelivered) ?? false else {
        changed(share)
        continue
      }
      changed(share)
      wake(share)
    }
  }

  // MARK: Partitions

  /// A partition as the group reads it; nil when there is none. It may not be known yet where the group begins.
  func share(_ key: TopicIDPartition, of group: HostedShareGroup) -> HostedShare? {
    if let found = group.shares[key] {
      if !found.log.isDeleted { return found }
      drop(found)
    }
    guard let topic = broker.topic(key.topic), let log = broker.partition(topic, key.partition), !log.isDeleted else {
      return nil
    }
    let share = HostedShare(key, of: group, log: log)
    group.shares[key] = share
    if let state = broker.metadata.shares[group.name, key] {
      share.partition = SharePartition(state, limits: group.rules.limits)
    } else {
      begin(share)
    }
    return share
  }

  /// Finds where the group begins, and makes that durable.
  private func begin(_ share: HostedShare) {
    switch share.group.rules.start {
    case .latest: begin(share, at: share.logEnd)
    case .earliest: begin(share, at: share.log.startOffset)
    case .by(let duration):
      let time = Timestamp(milliseconds: max(0, broker.reactor.wallClock.milliseconds - duration.inMilliseconds))
      broker.offset(for: .time(time), in: share.log, isCommittedOnly: share.group.rules.isCommittedOnly) {
        [weak self, share] result in
        guard let self, !share.isDropped else { return }
        switch result {
        case .success(let found): begin(share, at: found.offset >= 0 ? found.offset : share.logEnd)
        case .failure(let error): failed(share, error)
        }
      }
    }
  }

  private func begin(_ share: HostedShare, at offset: Offset) {
    let name = share.group.name
    broker.log.append(deciding: { [broker] in
      // The group may have been deleted, and its name taken by one of another kind.
      guard !share.isDropped, broker.groups.kind(name).map({ $0 == .share }) ?? true else { return nil }
      return AppendUnit(event: MetadataEvent.share(.began(group: name, share.key, start: offset)).encoded())
    }) { [weak self] result in
      guard let self, !share.isDropped else { return }
      if case .failure(let error) = result { return failed(share, BrokerError(error)) }
      guard let state = broker.metadata.shares[name, share.key] else {
        return failed(share, BrokerError(.unknownTopicOrPartition, "partition \(share.key) is gone"))
      }
      share.partition = SharePartition(state, limits: share.group.rules.limits)
      wake(share)
    }
  }

  private func failed(_ share: HostedShare, _ error: BrokerError) {
    broker.logger.logRarely(
      .error, "groups", "a share group cannot begin in a partition", "",
      ["group": share.group.name, "partition": "\(share.key)", "error": error.description], key: share.group.name,
      now: broker.reactor.now)
    // Whoever asks next tries again.
    drop(share)
  }

  /// Something of a partition changed: it becomes durable at the end of the turn, and locks are watched.
  func changed(_ share: HostedShare) {
    touch(share)
    watch(share)
  }

  private func watch(_ share: HostedShare) {
    guard !share.isDropped, let deadline = share.partition?.nextDeadline else {
      share.timer?.cancel()
      share.timer = nil
      return
    }
    // One that comes too early looks again: most locks never get so old.
    if let timer = share.timer, timer.job != nil, timer.deadline <= deadline { return }
    share.timer?.cancel()
    share.timer = broker.reactor.schedule(after: max(.zero, deadline - broker.reactor.now)) { [weak self, weak share] in
      guard let self, let share, !share.isDropped else { return }
      share.timer = nil
      let isMore = share.partition?.expire(broker.reactor.now) ?? false
      changed(share)
      if isMore { wake(share) }
      forgetIfIdle(share.group)
    }
  }

  func close() {
    for group in groups.values {
      group.timer?.cancel()
      for share in group.shares.values { share.timer?.cancel() }
    }
    endAllWaits()
    commit()
  }
}
