// GroupAssignment: what an assignor is given and gives: members with their topics, and who gets which partition.

import MillraceModel

/// A member as an assignor sees it.
struct AssignorMember {
  var id: String
  var instanceID: String?
  /// Topics that it subscribes to and that exist.
  var topics: Set<TopicID>
  /// What the last target gave it; may name what no longer exists.
  var current: Set<TopicIDPartition>
  /// Members with the same number have equal `topics`, so that these need not be compared; nil when that is not known.
  var subscription: Int?
}

/// What an assignor is given. An assignor gives each partition of each subscribed topic to exactly one subscriber.
struct AssignorInput {
  var members: [AssignorMember]
  /// Partitions of each topic; topics that nobody subscribes to are left out of the result.
  var topics: [TopicID: Int32]

  /// Members in an order that does not depend on when they came. Source: Kafka, `RangeAssignor`: static ones first.
  var sortedMembers: [AssignorMember] {
    members.sorted { left, right in
      switch (left.instanceID, right.instanceID) {
      case (let one?, let other?): one < other
      case (.some, nil): true
      case (nil, .some): false
      case (nil, nil): left.id < right.id
      }
    }
  }

  /// Subscribed topics that exist, in order.
  var sortedTopics: [TopicID] {
    var seen: Set<Int> = []
    let distinct = members.filter { member in member.subscription.map { seen.insert($0).inserted } ?? true }
    return AssignorInput.sorted(distinct.map(\.topics), topics)
  }

  /// The topics of all subscriptions that exist, in order.
  static func sorted(_ subscriptions: [Set<TopicID>], _ topics: [TopicID: Int32]) -> [TopicID] {
    var subscribed: Set<TopicID> = []
    for subscription in subscriptions { subscribed.formUnion(subscription) }
    return subscribed.filter { topics[$0] != nil }.sorted { ($0.high, $0.low) < ($1.high, $1.low) }
  }
}

/// The assignors that members may ask for by name.
enum ServerAssignor: String, CaseIterable, Sendable {
  case uniform
  case range

  /// The partitions of each member.
  func assign(_ input: AssignorInput) -> [String: Set<TopicIDPartition>] {
    switch self {
    case .uniform: UniformAssignor.assign(input)
    case .range: RangeAssignor.assign(input)
    }
  }
}
