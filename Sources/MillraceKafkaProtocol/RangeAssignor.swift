// RangeAssignor: which member of a group reads which partitions, by Kafka's "range" rule.

/// Kafka's range assignor: of each topic, every member gets a run of neighbouring partitions.
///
/// With p partitions and m members the first p mod m members, in order of their ids, get one partition more.
/// Source: Kafka, `RangeAssignor`.
public enum RangeAssignor {
  /// The name that members agree on.
  public static let name = "range"

  /// A member and what it wants to read.
  public struct Member: Equatable, Sendable {
    /// Id that the broker gave.
    public let id: String
    /// Id that the client gave, for static members.
    public let instanceID: String?
    /// Topics to read.
    public let topics: [String]

    /// A member that reads `topics`.
    public init(id: String, instanceID: String?, topics: [String]) {
      self.id = id
      self.instanceID = instanceID
      self.topics = topics
    }
  }

  /// Every member's partitions, in order; a member with none has an empty list.
  /// - Parameter partitions: of each topic; topics that are not there are left out.
  public static func assign(
    _ members: [Member], partitions: [String: [Int32]]
  ) -> [String: [ConsumerTopicPartitions]] {
    var result = Dictionary(
      members.map { ($0.id, [ConsumerTopicPartitions]()) }, uniquingKeysWith: { first, _ in first })
    for topic in Set(members.flatMap(\.topics)).sorted() {
      guard let all = partitions[topic]?.sorted() else { continue }
      // Static members come in the order of the ids that they were given for good.
      let readers = members.filter { $0.topics.contains(topic) }.sorted {
        ($0.instanceID == nil ? 1 : 0, $0.instanceID ?? $0.id) < ($1.instanceID == nil ? 1 : 0, $1.instanceID ?? $1.id)
      }
      var next = 0
      for (index, reader) in readers.enumerated() {
        let count = all.count / readers.count + (index < all.count % readers.count ? 1 : 0)
        if count > 0 {
          result[reader.id, default: []].append(
            ConsumerTopicPartitions(topic: topic, partitions: Array(all[next..<(next + count)])))
        }
        next += count
      }
    }
    return result
  }
}
