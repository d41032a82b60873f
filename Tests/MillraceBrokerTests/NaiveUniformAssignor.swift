// NaiveUniformAssignor: the rules of UniformAssignor as plainly as they can be written, a search over members for each chain.

import MillraceModel

@testable import MillraceBroker

enum NaiveUniformAssignor {
  static func assign(_ input: AssignorInput) -> [String: Set<TopicIDPartition>] {
    var distribution = Distribution(input)
    distribution.keepCurrent()
    distribution.dealFree()
    distribution.level()
    return distribution.result
  }
}

/// A distribution under way. Members, topics and classes go by index.
private struct Distribution {
  private let members: [AssignorMember]
  private let topics: [TopicID]
  private let counts: [Int]
  private let topicIndexes: [TopicID: Int]
  /// Topics of each class of members with equal subscriptions.
  private var classTopics: [[Int]] = []
  private var classMembers: [[Int]] = []
  private var classOf: [Int] = []
  /// Classes of each topic's subscribers.
  private var topicClasses: [[Int]] = []
  /// By topic: the member that has each partition, −1 for none.
  private var owners: [[Int]]
  /// By member: partitions of each topic, in the order in which they came; the last one goes first.
  private var held: [[Int: [Int32]]]
  private var loads: [Int]

  init(_ input: AssignorInput) {
    members = input.sortedMembers
    let topics = input.sortedTopics
    self.topics = topics
    counts = topics.map { Int(input.topics[$0] ?? 0) }
    topicIndexes = Dictionary(uniqueKeysWithValues: topics.enumerated().map { ($1, $0) })
    owners = counts.map { Array(repeating: -1, count: $0) }
    held = Array(repeating: [:], count: members.count)
    loads = Array(repeating: 0, count: members.count)
    topicClasses = Array(repeating: [], count: topics.count)
    var classes: [Set<TopicID>: Int] = [:]
    for (at, member) in members.enumerated() {
      if let known = classes[member.topics] {
        classMembers[known].append(at)
        classOf.append(known)
        continue
      }
      let number = classTopics.count
      classes[member.topics] = number
      classOf.append(number)
      classMembers.append([at])
      classTopics.append(member.topics.compactMap { topicIndexes[$0] }.sorted())
      for topic in classTopics[number] { topicClasses[topic].append(number) }
    }
  }

  var result: [String: Set<TopicIDPartition>] {
    var result: [String: Set<TopicIDPartition>] = [:]
    for (at, member) in members.enumerated() {
      var set: Set<TopicIDPartition> = []
      for (topic, partitions) in held[at] {
        for partition in partitions { set.insert(TopicIDPartition(topics[topic], partition)) }
      }
      result[member.id] = set
    }
    return result
  }

  private mutating func give(_ topic: Int, _ partition: Int32, to member: Int) {
    owners[topic][Int(partition)] = member
    held[member][topic, default: []].append(partition)
    loads[member] += 1
  }

  mutating func keepCurrent() {
    for (at, member) in members.enumerated() {
      for one in member.current.sorted() where member.topics.contains(one.topic) {
        guard let topic = topicIndexes[one.topic], one.partition >= 0, Int(one.partition) < counts[topic],
          owners[topic][Int(one.partition)] < 0
        else { continue }
        give(topic, one.partition, to: at)
      }
    }
  }

  mutating func dealFree() {
    let order = topics.indices.sorted { left, right in
      let fewer = subscribers(left) - subscribers(right)
      return fewer == 0 ? left < right : fewer < 0
    }
    // One heap a class, so that a partition costs no walk over all members.
    var heaps = classMembers.map { LoadHeap($0, loads) }
    for topic in order {
      for partition in owners[topic].indices where owners[topic][partition] < 0 {
        var best: Int?
        for number in topicClasses[topic] {
          if best.map({ heaps[number].least < heaps[$0].least }) ?? true { best = number }
        }
        guard let best else { continue }
        give(topic, Int32(partition), to: heaps[best].addToLeast())
      }
    }
  }

  private func subscribers(_ topic: Int) -> Int { topicClasses[topic].reduce(0) { $0 + classMembers[$1].count } }

  mutating func level() {
    var isEven = false
    while !isEven {
      isEven = true
      // From the top, one level at a time, so that nobody falls below the final level and has to be filled again.
      for load in stride(from: loads.max() ?? 0, to: 1, by: -1) {
        for start in members.indices where loads[start] == load {
          guard let chain = shortestChain(from: start) else { continue }
          isEven = false
          for (from, topic, to) in chain { move(topic, from, to) }
        }
      }
    }
  }

  private mutating func move(_ topic: Int, _ from: Int, _ to: Int) {
    guard let partition = held[from][topic]?.popLast() else {
      preconditionFailure("member \(from) has nothing of topic \(topic) to give")
    }
    if held[from][topic]?.isEmpty == true { held[from][topic] = nil }
    loads[from] -= 1
    give(topic, partition, to: to)
  }

  /// The shortest chain of hand-overs from a member to one that has at least two fewer; nil when there is none.
  private func shortestChain(from start: Int) -> [(from: Int, topic: Int, to: Int)]? {
    let limit = loads[start] - 2
    guard limit >= 0 else { return nil }
    var cameFrom: [Int: (from: Int, topic: Int)] = [:]
    var seenTopics = Set<Int>()
    var queue = [start]
    var next = 0
    while next < queue.count {
      let member = queue[next]
      next += 1
      var best: (member: Int, topic: Int)?
      for topic in held[member].keys.sorted() where !seenTopics.contains(topic) {
        seenTopics.insert(topic)
        for number in topicClasses[topic] {
          for candidate in classMembers[number] where candidate != start && cameFrom[candidate] == nil {
            cameFrom[candidate] = (member, topic)
            queue.append(candidate)
            if loads[candidate] <= limit, best.map({ loads[candidate] < loads[$0.member] }) ?? true {
              best = (candidate, topic)
            }
          }
        }
      }
      if let best { return path(to: best.member, cameFrom) }
    }
    return nil
  }

  private func path(to end: Int, _ cameFrom: [Int: (from: Int, topic: Int)]) -> [(from: Int, topic: Int, to: Int)] {
    var chain: [(from: Int, topic: Int, to: Int)] = []
    var at = end
    while let step = cameFrom[at] {
      chain.append((step.from, step.topic, at))
      at = step.from
    }
    return chain
  }
}

/// Members of one class, the one with the least load on top.
private struct LoadHeap {
  private var heap: [(load: Int, member: Int)]

  init(_ members: [Int], _ loads: [Int]) {
    // Sorted, which is a heap.
    heap = members.map { (loads[$0], $0) }.sorted { $0 < $1 }
  }

  var least: (load: Int, member: Int) { heap[0] }

  /// Gives one more to the member on top, and tells which it is.
  mutating func addToLeast() -> Int {
    let member = heap[0].member
    heap[0].load += 1
    var at = 0
    while true {
      var smallest = at
      for child in [2 * at + 1, 2 * at + 2] where child < heap.count && heap[child] < heap[smallest] {
        smallest = child
      }
      if smallest == at { return member }
      heap.swapAt(at, smallest)
      at = smallest
    }
  }
}
