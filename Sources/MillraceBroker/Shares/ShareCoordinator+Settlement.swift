// ShareCoordinator+Settlement: what members say of records, made durable at the end of each turn.

import MillraceBase
import MillraceDelivery
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel

extension ShareCoordinator {
  /// How long records stay with members of a group, and whether they may have that begin anew.
  public func lock(of name: String) -> (duration: Duration, canRenew: Bool) {
    let rules =
      groups[name]?.rules
      ?? ShareSettings.rules(broker.configs(of: ConfigResource(.group, name)), broker.settings)
    return (rules.limits.lockDuration, rules.allowsRenewal)
  }

  /// Takes over what a member says of records of a partition, all of it or nothing; `completion` follows when it is durable.
  ///
  /// - Errors: `.unknownTopicOrPartition`; `.invalidRecordState` when the member does not have a record; `.invalidRequest`;
  ///   `.storage`: it counts, and will be durable when there is room.
  public func settle(
    _ settlements: [ShareSettlement], of key: TopicIDPartition, by memberID: String, in name: String,
    completion: @escaping (BrokerError?) -> Void
  ) {
    guard broker.isOpen else { return completion(BrokerError(.stopped, "the broker is closing")) }
    guard let topic = broker.topic(key.topic), broker.partition(topic, key.partition) != nil else {
      return completion(BrokerError(.unknownTopicOrPartition, "the topic or partition does not exist"))
    }
    guard let group = groups[name], let number = group.numbers[memberID], let share = group.shares[key],
      share.partition != nil
    else {
      return completion(
        BrokerError(.invalidRecordState, "member \(memberID) of group \(name) has no records of this partition"))
    }
    adjust(share)
    var refusal: ShareRefusal?
    do throws(ShareRefusal) {
      try share.partition?.settle(settlements, by: number, now: broker.reactor.now)
    } catch {
      refusal = error
    }
    if let refusal {
      return completion(
        BrokerError(refusal.code == .invalidRequest ? .invalidRequest : .invalidRecordState, refusal.reason))
    }
    share.waiters.append(completion)
    changed(share)
    // There is something again, or room for more.
    wake(share)
  }

  func touch(_ share: HostedShare) {
    guard !share.isTouched, !share.isDropped else { return }
    share.isTouched = true
    touched.append(share)
    guard !isCommitting else { return }
    isCommitting = true
    broker.reactor.atEndOfTurn { [weak self] in
      self?.isCommitting = false
      self?.commit()
    }
  }

  /// Bytes of events that go into one unit, more only for a single one.
  private static let unitSize = 128 << 10

  func commit() {
    let shares = touched
    touched = []
    var unit = AppendUnit()
    var size = 0
    var parts: [(share: HostedShare, changes: [ShareChange], waiters: [(BrokerError?) -> Void])] = []
    for share in shares where !share.isDropped {
      share.isTouched = false
      let changes = share.partition?.takeChanges() ?? []
      let waiters = share.waiters
      share.waiters = []
      guard !changes.isEmpty else {
        for waiter in waiters { waiter(nil) }
        continue
      }
      let event = MetadataEvent.share(.changed(group: share.group.name, share.key, changes)).encoded()
      if size > 0, size + event.count > ShareCoordinator.unitSize {
        append(unit, parts)
        unit = AppendUnit()
        parts = []
        size = 0
      }
      unit.events.append(event)
      size += event.count
      parts.append((share, changes, waiters))
    }
    if !parts.isEmpty { append(unit, parts) }
    for share in shares where !share.isDropped { forgetIfIdle(share.group) }
  }

  private func append(
    _ unit: AppendUnit, _ parts: [(share: HostedShare, changes: [ShareChange], waiters: [(BrokerError?) -> Void])]
  ) {
    for (share, _, _) in parts { share.commits += 1 }
    broker.log.append(unit) { [weak self] result in
      var refusal: BrokerError?
      if case .failure(let error) = result { refusal = BrokerError(error) }
      for (share, changes, waiters) in parts {
        share.commits -= 1
        if refusal != nil, !share.isDropped {
          share.partition?.takeBack(changes)
          self?.tryAgain(share)
        }
        for waiter in waiters { waiter(refusal) }
        if !share.isDropped { self?.forgetIfIdle(share.group) }
      }
    }
  }

  /// What could not be made durable is kept, and tried again.
  private func tryAgain(_ share: HostedShare) {
    guard broker.isOpen else { return }
    broker.logger.logRarely(
      .error, "groups", "what a share group has done cannot be kept", "it is tried again",
      ["group": share.group.name], key: share.group.name, now: broker.reactor.now)
    broker.reactor.schedule(after: .seconds(1)) { [weak self] in self?.touch(share) }
  }
}
