// ShareCoordinator+Admin: how share groups stand, and where they begin, looked at and changed.

import MillraceBase
import MillraceDelivery
import MillraceLog
import MillraceMetadata
import MillraceModel

/// How a share group stands.
public struct ShareGroupDescription: Sendable {
  /// Name.
  public var name: String
  /// `Empty` or `Stable`.
  public var state: String
  /// Raised by every change of members, subscriptions and topics; begins anew with each start.
  public var epoch: Int32
  /// The group epoch that the assignment was made for.
  public var assignmentEpoch: Int32
  /// The assignor.
  public var assignor: String
  /// Members in order of their ids.
  public var members: [ShareMemberDescription]
}

/// One member of a share group.
public struct ShareMemberDescription: Sendable {
  /// Id, which the client made.
  public var id: String
  /// Where the client is.
  public var rackID: String?
  /// The member's epoch.
  public var epoch: Int32
  /// The client's name for itself.
  public var clientID: String
  /// Address.
  public var clientHost: String
  /// Topics that it subscribes to.
  public var topics: [String]
  /// What it was told to read, in order.
  public var assigned: [TopicIDPartition]
}

/// How far a share group is in a partition.
public struct ShareOffset: Equatable, Sendable {
  /// Everything below is done.
  public var start: Offset
  /// Records that are not done.
  public var lag: Int64
}

extension ShareCoordinator {
  /// How a share group stands.
  /// - Throws: `.unknownGroup`, also for a group of another kind.
  public func describe(_ name: String) throws(BrokerError) -> ShareGroupDescription {
    guard exists(name) else { throw BrokerError(.unknownGroup, "group \(name) is not a share group") }
    let group = groups[name]?.membership ?? ShareGroup(name: name)
    return ShareGroupDescription(
      name: name, state: group.state.rawValue, epoch: group.epoch, assignmentEpoch: group.assignmentEpoch,
      assignor: ShareGroup.assignor,
      members: group.members.values.sorted { $0.id < $1.id }.map { member in
        ShareMemberDescription(
          id: member.id, rackID: member.rackID, epoch: member.epoch, clientID: member.clientID,
          clientHost: member.clientHost, topics: member.topics, assigned: member.assigned.sorted())
      })
  }

  /// The same in the terms of classic groups, for lists and figures.
  func describeShortly(_ name: String) -> GroupDescription {
    let group = groups[name]?.membership
    return GroupDescription(
      name: name, kind: .share, state: (group?.state ?? .empty).rawValue, protocolType: "share",
      protocolName: ShareGroup.assignor,
      members: (group?.members.values.sorted { $0.id < $1.id } ?? []).map { member in
        GroupMemberDescription(
          id: member.id, instanceID: nil, clientID: member.clientID, clientHost: member.clientHost,
          metadata: Bytes(), assignment: Bytes())
      })
  }

  /// The partitions in which a group has begun, in order.
  public func partitions(of name: String) -> [TopicIDPartition] {
    broker.metadata.shares.partitions(of: name).keys.sorted()
  }

  /// How far a group is in a partition; nil when it has not begun there.
  public func offset(of key: TopicIDPartition, in name: String) -> ShareOffset? {
    guard var state = broker.metadata.shares[name, key], let topic = broker.topic(key.topic),
      let log = broker.partition(topic, key.partition)
    else { return nil }
    // What the log has lost at its beginning counts as done.
    if log.startOffset > state.start { state.apply(.done([state.start..<log.startOffset])) }
    return ShareOffset(start: state.start, lag: state.lag(below: log.highWatermark))
  }

  /// Has a group without members begin at other offsets; `completion` follows when that is durable. A group that does not
  /// exist comes to be.
  ///
  /// - Errors: `.groupNotEmpty`, `.unknownGroup` (a group of another kind has the name), `.invalidGroupID`, `.storage`, `.stopped`.
  public func alterOffsets(
    _ offsets: [(key: TopicIDPartition, start: Offset)], of name: String, completion: @escaping (BrokerError?) -> Void
  ) {
    change(name, completion) { [self] in
      for (key, _) in offsets { if let share = groups[name]?.shares[key] { drop(share) } }
      return offsets.map { .began(group: name, $0.key, start: max(0, $0.start)) }
    }
  }

  /// Has a group without members forget what it has done with some topics; `completion` follows when that is durable.
  /// - Errors: as ``alterOffsets(_:of:completion:)``; `.unknownGroup` also when there is no such group.
  public func deleteOffsets(
    of topics: [TopicID], in name: String, completion: @escaping (BrokerError?) -> Void
  ) {
    guard exists(name) else { return completion(BrokerError(.unknownGroup, "group \(name) is not a share group")) }
    change(name, completion) { [self] in
      for share in groups[name]?.shares.values.filter({ topics.contains($0.key.topic) }) ?? [] { drop(share) }
      return [.forgotten(group: name, topics)]
    }
  }

  private func change(
    _ name: String, _ completion: @escaping (BrokerError?) -> Void, _ events: @escaping () -> [ShareEvent]
  ) {
    var refusal: BrokerError?
    broker.log.append(deciding: { [self] in
      do throws(BrokerError) {
        guard !name.isEmpty else { throw BrokerError(.invalidGroupID, "the group id is empty") }
        if let kind = broker.groups.kind(name), kind != .share {
          throw BrokerError(.unknownGroup, "group \(name) is a \(kind.rawValue) group")
        }
        let members = groups[name]?.membership.members.count ?? 0
        guard members == 0 else {
          throw BrokerError(.groupNotEmpty, "share group \(name) has \(members) members")
        }
        var unit = AppendUnit()
        unit.events = events().map { MetadataEvent.share($0).encoded() }
        refusal = nil
        return unit
      } catch {
        refusal = error
        return nil
      }
    }) { result in
      switch result {
      case .success: completion(refusal)
      case .failure(let error): completion(BrokerError(error))
      }
    }
  }
}
