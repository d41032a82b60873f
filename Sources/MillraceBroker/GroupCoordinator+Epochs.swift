// GroupCoordinator+Epochs: epochs of the consumer protocol, durable before a client hears of them.
//
// Epochs never go back over a restart, so that a request from before it is never taken for one of after it: they are
// reserved durably, a block at a time, and no answer with an epoch leaves before its reservation is durable. What is
// reserved is decided in the moment in which the event enters the log, which may be later than the call when the journal
// has no room; a group that has ended by then, even if another one has its name, reserves nothing and is not answered for.
// A member whose answer waits is not late; one that went meanwhile, or went on to another epoch, is told that it is unknown.
// The reservation also is what makes a group without members one of this protocol.

import MillraceLog
import MillraceMetadata
import MillraceModel

extension GroupCoordinator {
  /// Epochs that are reserved at a time: a restart leaps by at most this many.
  static let epochBlock: Int32 = 100

  /// Calls back when the epochs of a group up to the one that a member is told are reserved durably.
  /// - Errors: `.unknownMember` when the member, or its group, has gone or gone on meanwhile; `.rebalanceInProgress` when the
  ///   group is classic by then and has the member; `.groupUnavailable`, `.stopped`.
  func whenReserved(
    _ name: String, _ life: UInt64, _ told: (memberID: String, epoch: Int32),
    _ completion: @escaping (BrokerError?) -> Void
  ) {
    // The group has just gone back to the classic protocol, whose generations are not durable.
    guard consumers[name]?.life == life else { return completion(nil) }
    let epoch = told.epoch
    var reached: Int32 = 0
    broker.log.append(deciding: { [self] in
      guard consumers[name]?.life == life else { return nil }
      let reserved = broker.metadata.groupEpochs[name] ?? 1
      reached = reserved
      if epoch < reserved || reserved == .max { return nil }
      let (next, isOver) = epoch.addingReportingOverflow(GroupCoordinator.epochBlock)
      reached = isOver ? .max : next
      return AppendUnit(event: MetadataEvent.groupEpochsReserved(group: name, next: reached).encoded())
    }) { [self] result in
      let isStill = answered(name, life, told)
      switch result {
      case .failure(let error):
        let refusal = BrokerError(error)
        completion(
          refusal.code == .stopped
            ? refusal : BrokerError(.groupUnavailable, "no epochs of group \(name) could be reserved: \(error.reason)"))
      case .success:
        if let held = consumers[name], held.life == life { consumers[name]?.durable = max(held.durable, reached) }
        completion(isStill ? nil : refusal(name, told))
      }
    }
  }

  /// An answer that waited can leave.
  /// - Returns: whether the member is still what it says.
  private func answered(_ name: String, _ life: UInt64, _ told: (memberID: String, epoch: Int32)) -> Bool {
    guard consumers[name]?.life == life else { return false }
    defer { if broker.isOpen { setTimer(name) } }
    return consumers[name]?.group.answered(told.memberID, told.epoch, broker.reactor.now) ?? false
  }

  /// Why a member is not told its epoch.
  private func refusal(_ name: String, _ told: (memberID: String, epoch: Int32)) -> BrokerError {
    // It would give up the id under which the classic group waits for it.
    if let classic = groups[name], classic.members.contains(where: { $0.id == told.memberID }) {
      return BrokerError(
        .rebalanceInProgress, "group \(name) is classic now: member \(told.memberID) has to join again")
    }
    return BrokerError(
      .unknownMember, "member \(told.memberID) of group \(name) is gone, or has another epoch than \(told.epoch)")
  }

  /// A group no longer speaks the consumer protocol, or is gone; nothing happens when another one has its name by the time
  /// that the event would enter. Should the log refuse it, the group is found without members after a restart.
  /// - Parameter isEmpty: it ends because nothing is left of it. A commit that waited for room in the journal leaves
  ///   something: then its epochs go on.
  func end(_ name: String, isEmpty: Bool) {
    broker.log.append(deciding: { [self] in
      guard consumers[name] == nil, broker.metadata.groupEpochs[name] != nil else { return nil }
      if isEmpty, broker.metadata.groupOffsets[name] != nil { return nil }
      return AppendUnit(event: MetadataEvent.consumerGroupEnded(group: name).encoded())
    }) { _ in }
  }
}
