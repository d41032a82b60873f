// GroupCoordinator+Epochs: epochs of the consumer protocol, durable before a client hears of them.
//
// Epochs never go back over a restart, so that a request from before it is never taken for one of after it: they are
// reserved durably, a block at a time, and no answer with an epoch leaves before its reservation is durable. What is
// reserved is decided in the moment in which the event enters the log, which may be later than the call when the journal
// has no room; a group that has ended by then, even if another one has its name, reserves nothing and is not answered for.
// The reservation also is what makes a group without members one of this protocol.

import MillraceLog
import MillraceMetadata
import MillraceModel

extension GroupCoordinator {
  /// Epochs that are reserved at a time: a restart leaps by at most this many.
  static let epochBlock: Int32 = 100

  /// Calls back when the epochs of a group up to `epoch` are reserved durably, at once when they are.
  /// - Errors: `.unknownMember` when the group has ended meanwhile, `.groupUnavailable`, `.stopped`.
  func whenReserved(_ name: String, _ life: UInt64, _ epoch: Int32, _ completion: @escaping (BrokerError?) -> Void) {
    guard epoch > 0, let held = consumers[name], held.life == life, epoch >= held.durable, held.durable < .max else {
      return completion(nil)
    }
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
      switch result {
      case .failure(let error):
        let refusal = BrokerError(error)
        completion(
          refusal.code == .stopped
            ? refusal : BrokerError(.groupUnavailable, "no epochs of group \(name) could be reserved: \(error.reason)"))
      case .success:
        guard let held = consumers[name], held.life == life else {
          return completion(BrokerError(.unknownMember, "group \(name) has ended meanwhile"))
        }
        consumers[name]?.durable = max(held.durable, reached)
        completion(nil)
      }
    }
  }

  /// A group no longer speaks the consumer protocol, or is gone; nothing happens when another one has its name by the time
  /// that the event would enter. Should the log refuse it, the group is found without members after a restart.
  func end(_ name: String) {
    broker.log.append(deciding: { [self] in
      guard consumers[name] == nil, broker.metadata.groupEpochs[name] != nil else { return nil }
      return AppendUnit(event: MetadataEvent.consumerGroupEnded(group: name).encoded())
    }) { _ in }
  }
}
