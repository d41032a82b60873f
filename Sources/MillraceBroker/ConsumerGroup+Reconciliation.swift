// ConsumerGroup+Reconciliation: the target for an epoch, and each member's way from what it has to what it shall have.

import MillraceBase
import MillraceModel

extension ConsumerGroup {
  /// Makes the target for the group's epoch.
  mutating func assign() {
    assignor = preferredAssignor
    target = assignor.assign(
      AssignorInput(
        members: members.values.map { member in
          // What a member has counts where there is no target for it yet.
          AssignorMember(
            id: member.id, instanceID: member.instanceID, topics: member.topics,
            current: target[member.id] ?? Set(member.assigned.keys), subscription: member.subscription)
        }, topics: topics))
    assignmentEpoch = epoch
  }

  /// Brings a member as near to its target as others allow.
  /// - Parameters:
  ///   - owned: what the member has, nil when that is not known.
  ///   - isFinal: it has no more than that, and was told nothing that it would still follow.
  mutating func reconcile(_ id: String, owned: Set<TopicIDPartition>?, isFinal: Bool, _ now: MonotonicTime) {
    guard var member = members[id], !isReconciled(member) else { return }
    if member.state == .unrevoked {
      guard hasGivenUp(member.revoking.keys, owned) else { return }
      release(member.revoking.keys)
      member.revoking = [:]
      member.rebalanceDeadline = nil
    }
    let wanted = target[id] ?? []
    let surplus = member.assigned.filter { !wanted.contains($0.key) }
    if !surplus.isEmpty {
      for partition in surplus.keys { member.assigned[partition] = nil }
      if !isFinal || !hasGivenUp(surplus.keys, owned) {
        // Its epoch stays, so that it can still commit what it has worked on.
        member.revoking = surplus
        member.state = .unrevoked
        member.rebalanceDeadline = now + member.rebalanceTimeout
        members[id] = member
        return
      }
      release(surplus.keys)
    }
    member.state = .stable
    for partition in wanted where member.assigned[partition] == nil {
      if holders[partition] != nil {
        member.state = .unreleased
        continue
      }
      holders[partition] = id
      member.assigned[partition] = assignmentEpoch
    }
    if member.epoch != assignmentEpoch {
      member.earlierEpoch = member.epoch
      member.epoch = assignmentEpoch
    }
    members[id] = member
  }

  private func hasGivenUp(_ partitions: some Sequence<TopicIDPartition>, _ owned: Set<TopicIDPartition>?) -> Bool {
    guard let owned else { return false }
    return !partitions.contains { owned.contains($0) }
  }
}
