// GroupDescription: how groups and their members stand, and what a classic member asks for, as protocol servers see it.

import MillraceBase
import MillraceModel

/// The protocol that a group's members speak; a group has one at a time.
public enum GroupKind: String, Sendable {
  /// JoinGroup and SyncGroup: a member assigns.
  case classic
  /// KIP-848: the broker assigns.
  case consumer
  /// KIP-932: members share partitions, and settle record by record.
  case share
}

/// How a group stands.
public struct GroupDescription: Sendable {
  /// Name.
  public var name: String
  /// The protocol that its members speak.
  public var kind: GroupKind
  /// `Empty`, `Stable`, or `Dead` for a group that does not exist; of a classic group also `PreparingRebalance` and
  /// `CompletingRebalance`, of a consumer group `Assigning` and `Reconciling`.
  public var state: String
  /// For example `consumer`; empty without members.
  public var protocolType: String
  /// The assignor; empty unless stable or completing.
  public var protocolName: String
  /// Members in order of joining.
  public var members: [GroupMemberDescription]

  /// A group as it stands.
  public init(
    name: String, kind: GroupKind, state: String, protocolType: String, protocolName: String,
    members: [GroupMemberDescription]
  ) {
    self.name = name
    self.kind = kind
    self.state = state
    self.protocolType = protocolType
    self.protocolName = protocolName
    self.members = members
  }
}

/// One member of a group.
public struct GroupMemberDescription: Sendable {
  /// Id that the broker gave.
  public var id: String
  /// Id that the client gave, for static members.
  public var instanceID: String?
  /// The client's name for itself.
  public var clientID: String
  /// Address.
  public var clientHost: String
  /// What the member said with the chosen protocol.
  public var metadata: Bytes
  /// What the leader gave it.
  public var assignment: Bytes
}

/// A wish to join a group, as a protocol server hands it over.
public struct GroupJoinRequest {
  /// The group.
  public var group: String
  /// Id given by the broker, empty at first.
  public var memberID: String
  /// Id given by the client, for static members.
  public var instanceID: String?
  /// The client's name for itself.
  public var clientID: String
  /// Address.
  public var clientHost: String
  /// Silence after which the member is gone.
  public var sessionTimeout: Duration
  /// How long a rebalance waits for the member: not negative; 0 stands for the session time-out, more than a day for a day.
  public var rebalanceTimeout: Duration
  /// For example `consumer`.
  public var protocolType: String
  /// Assignors with metadata, best first.
  public var protocols: [(name: String, metadata: Bytes)]
  /// The client can be told its id first and come again.
  public var requiresKnownID: Bool

  /// A wish with all its parts.
  public init(
    group: String, memberID: String, instanceID: String?, clientID: String, clientHost: String,
    sessionTimeout: Duration, rebalanceTimeout: Duration, protocolType: String,
    protocols: [(name: String, metadata: Bytes)], requiresKnownID: Bool
  ) {
    self.group = group
    self.memberID = memberID
    self.instanceID = instanceID
    self.clientID = clientID
    self.clientHost = clientHost
    self.sessionTimeout = sessionTimeout
    self.rebalanceTimeout = rebalanceTimeout
    self.protocolType = protocolType
    self.protocols = protocols
    self.requiresKnownID = requiresKnownID
  }
}

/// How a group of the consumer protocol stands.
public struct ConsumerGroupDescription: Sendable {
  /// Name.
  public var name: String
  /// `Empty`, `Assigning`, `Reconciling` or `Stable`.
  public var state: String
  /// Raised by every change of members, subscriptions and topics.
  public var epoch: Int32
  /// The group epoch that the target was made for.
  public var assignmentEpoch: Int32
  /// The assignor that made the target.
  public var assignor: String
  /// Members in order of their ids.
  public var members: [ConsumerMemberDescription]
}

/// One member of a group of the consumer protocol.
public struct ConsumerMemberDescription: Sendable {
  /// Id, which the client made.
  public var id: String
  /// Id that the client gave, for static members.
  public var instanceID: String?
  /// Where the client is.
  public var rackID: String?
  /// The member's epoch; −2 for a static member that left and will return.
  public var epoch: Int32
  /// The client's name for itself.
  public var clientID: String
  /// Address.
  public var clientHost: String
  /// Topics that it subscribes to by name.
  public var topics: [String]
  /// Topics that it subscribes to by regular expression.
  public var pattern: String?
  /// What it has, in order.
  public var assigned: [TopicIDPartition]
  /// What it shall have, in order.
  public var target: [TopicIDPartition]
  /// It speaks the classic protocol.
  public var isClassic: Bool
}
