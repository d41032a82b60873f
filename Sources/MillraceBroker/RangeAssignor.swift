// RangeAssignor: of each topic a contiguous run to each subscriber, in one order of members for all topics.
//
// Members get their runs in the same order in every topic, so topics with equally many partitions and the same
// subscribers are co-located: partition n of all of them goes to one member. The order is where stickiness lies: members
// stay in the order of the runs that they hold, newcomers follow. So nothing moves while members and partitions stay,
// and when they change, each run only shifts.

import MillraceModel

enum RangeAssignor {
  static func assign(_ input: AssignorInput) -> [String: Set<TopicIDPartition>] {
    var result: [String: Set<TopicIDPartition>] = [:]
    for member in input.members { result[member.id] = [] }
    let members = ordered(input)
    for topic in input.sortedTopics {
      let subscribers = members.filter { $0.topics.contains(topic) }
      let count = Int(input.topics[topic] ?? 0)
      let (share, larger) = count.quotientAndRemainder(dividingBy: subscribers.count)
      var next = 0
      for (at, member) in subscribers.enumerated() {
        let size = share + (at < larger ? 1 : 0)
        for partition in next..<(next + size) {
          result[member.id, default: []].insert(TopicIDPartition(topic, Int32(partition)))
        }
        next += size
      }
    }
    return result
  }

  /// An order in which the runs of every topic lie as they did: of a topic's subscribers, those who hold a run come in
  /// the order of the runs, the others behind them. If runs contradict each other, as after another assignor, some do not.
  private static func ordered(_ input: AssignorInput) -> [AssignorMember] {
    let members = input.sortedMembers
    var followers: [[Int]] = Array(repeating: [], count: members.count)
    var waitsFor = Array(repeating: 0, count: members.count)
    func put(_ one: Int, before other: Int) {
      followers[one].append(other)
      waitsFor[other] += 1
    }
    let starts: [[TopicID: Int32]] = members.map { member in
      var starts: [TopicID: Int32] = [:]
      for one in member.current where one.partition < input.topics[one.topic] ?? 0 {
        starts[one.topic] = min(starts[one.topic] ?? .max, one.partition)
      }
      return starts
    }
    for topic in input.sortedTopics {
      let subscribers = members.indices.filter { members[$0].topics.contains(topic) }
      let holders = subscribers.filter { starts[$0][topic] != nil }.sorted {
        (starts[$0][topic] ?? 0, $0) < (starts[$1][topic] ?? 0, $1)
      }
      for (one, next) in zip(holders, holders.dropFirst()) { put(one, before: next) }
      guard let last = holders.last else { continue }
      for other in subscribers where starts[other][topic] == nil { put(last, before: other) }
    }
    var order: [AssignorMember] = []
    var isPlaced = Array(repeating: false, count: members.count)
    while order.count < members.count {
      let open = members.indices.lazy.filter { !isPlaced[$0] }
      guard let next = open.first(where: { waitsFor[$0] == 0 }) ?? open.first else { break }
      isPlaced[next] = true
      order.append(members[next])
      for follower in followers[next] { waitsFor[follower] -= 1 }
    }
    return order
  }
}
