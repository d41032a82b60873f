// GroupCoordinator+Admin: groups and committed offsets deleted.

import MillraceLog
import MillraceMetadata
import MillraceModel

extension GroupCoordinator {
  /// Checks that a group is there and has no members.
  /// - Throws: `.invalidGroupID`, `.unknownGroup`, `.groupNotEmpty`, `.stopped`.
  public func checkDeletion(of group: String) throws(BrokerError) {
    guard !group.isEmpty else { throw BrokerError(.invalidGroupID, "the group id is empty") }
    let found = describe(group)
    guard found.state != "Dead" else { throw BrokerError(.unknownGroup, "group \(group) does not exist") }
    guard found.members.isEmpty else {
      throw BrokerError(.groupNotEmpty, "group \(group) has \(found.members.count) members and is \(found.state)")
    }
  }

  /// Deletes a group without members, with its committed offsets; `completion` follows when that is durable.
  /// - Errors: those of ``checkDeletion(of:)``, and `.storage`.
  public func delete(_ group: String, completion: @escaping (BrokerError?) -> Void) {
    var refusal: BrokerError?
    broker.log.append(deciding: { [self] in
      do throws(BrokerError) {
        try checkDeletion(of: group)
        // In the moment in which the event is applied: who joins later begins a new group.
        consumers[group] = nil
        if kind(group) == .share { broker.shares.drop(group) }
        return AppendUnit(event: MetadataEvent.groupDeleted(group: group).encoded())
      } catch {
        refusal = error
        return nil
      }
    }) { [broker] result in
      switch result {
      case .success:
        if refusal == nil { broker.logger.log(.info, "groups", "group deleted", ["group": group]) }
        completion(refusal)
      case .failure(let error): completion(BrokerError(error))
      }
    }
  }

  /// Deletes some of a group's committed offsets; `completion` follows when that is durable. The caller knows that no
  /// member reads these partitions.
  public func deleteOffsets(
    _ group: String, _ partitions: [TopicPartition], completion: @escaping (BrokerError?) -> Void
  ) {
    if partitions.isEmpty { return completion(nil) }
    broker.record(.offsetsDeleted(group: group, partitions: partitions)) { [self] error in
      if error == nil { forgetEmptyGroups() }
      completion(error)
    }
  }
}
