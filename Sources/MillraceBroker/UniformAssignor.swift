// UniformAssignor: as even as subscriptions allow, with few partitions moved.
//
// 1. Everybody keeps what it has and may have.
// 2. What is free goes to the subscriber with the least, topics with few subscribers first.
// 3. While some member can pass on load, along a chain of members each of whom hands one partition to the next, to one
//    that has at least two fewer, it does, by a shortest chain (UniformAssignor+Leveling.swift).
// When no such chain is left, no other distribution is more even. Source: Harvey et al., "Semi-matchings for bipartite
// graphs and load balancing", 2003. With equal subscriptions chains have length one, and the fewest possible partitions
// move: each one that moves leaves a member above the final level.
//
// Members with equal subscriptions form a class: among them anything can be handed over directly, so that chains need be
// searched over classes only. With C classes of T topics, P partitions and M members an assignment costs
// O((M + P) log P + C·T) and, for each chain that more than one class takes part in, at most O(C·T) more.

import MillraceModel

enum UniformAssignor {
  /// Most steps of searching for chains in one assignment, which bounds the time that it takes. Groups of ordinary size
  /// need far fewer; past this the result is still valid, only less even.
  static let mostSteps = 5_000_000

  static func assign(_ input: AssignorInput) -> [String: Set<TopicIDPartition>] {
    var distribution = UniformDistribution(input)
    distribution.keepCurrent()
    distribution.dealFree()
    distribution.level()
    return distribution.result
  }
}

/// A distribution under way. Members, topics and classes go by index.
struct UniformDistribution {
  let members: [AssignorMember]
  private let topics: [TopicID]
  private let counts: [Int]
  private let topicIndexes: [TopicID: Int]
  /// Topics of each class of members with equal subscriptions.
  private(set) var classTopics: [[Int]] = []
  private(set) var classMembers: [[Int]] = []
  private(set) var classOf: [Int] = []
  /// Classes of each topic's subscribers.
  private(set) var topicClasses: [[Int]]
  /// By topic: the member that has each partition, −1 for none.
  private var owners: [[Int]]
  /// By member: partitions of each topic, in the order in which they came; the last one goes first.
  private(set) var held: [[Int: [Int32]]]
  private(set) var loads: [Int]

  init(_ input: AssignorInput) {
    members = input.sortedMembers
    var classes: [SubscriptionKey: Int] = [:]
    var subscriptions: [Set<TopicID>] = []
    for (at, member) in members.enumerated() {
      let key = member.subscription.map { SubscriptionKey.number($0) } ?? .topics(member.topics)
      let number = classes[key] ?? subscriptions.count
      if number == subscriptions.count {
        classes[key] = number
        subscriptions.append(member.topics)
        classMembers.append([])
      }
      classMembers[number].append(at)
      classOf.append(number)
    }
    let topics = AssignorInput.sorted(subscriptions, input.topics)
    self.topics = topics
    counts = topics.map { Int(input.topics[$0] ?? 0) }
    let indexes = Dictionary(uniqueKeysWithValues: topics.enumerated().map { ($1, $0) })
    topicIndexes = indexes
    owners = counts.map { Array(repeating: -1, count: $0) }
    held = Array(repeating: [:], count: members.count)
    loads = Array(repeating: 0, count: members.count)
    topicClasses = Array(repeating: [], count: topics.count)
    for (number, subscription) in subscriptions.enumerated() {
      classTopics.append(subscription.compactMap { indexes[$0] }.sorted())
      for topic in classTopics[number] { topicClasses[topic].append(number) }
    }
  }

  private enum SubscriptionKey: Hashable {
    case number(Int)
    case topics(Set<TopicID>)
  }

  var result: [String: Set<TopicIDPartition>] {
    var result: [String: Set<TopicIDPartition>] = [:]
    result.reserveCapacity(members.count)
    for (at, member) in members.enumerated() {
      var set: Set<TopicIDPartition> = []
      set.reserveCapacity(loads[at])
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

  /// Hands one partition of a topic from a member that has one to another.
  mutating func hand(_ topic: Int, from: Int, to: Int) {
    guard let partition = held[from][topic]?.popLast() else {
      preconditionFailure("member \(from) has nothing of topic \(topic) to give")
    }
    if held[from][topic]?.isEmpty == true { held[from][topic] = nil }
    loads[from] -= 1
    give(topic, partition, to: to)
  }

  mutating func keepCurrent() {
    for (at, member) in members.enumerated() {
      for one in member.current.sorted() {
        guard let topic = topicIndexes[one.topic], one.partition >= 0, Int(one.partition) < counts[topic],
          owners[topic][Int(one.partition)] < 0, member.topics.contains(one.topic)
        else { continue }
        give(topic, one.partition, to: at)
      }
    }
  }

  mutating func dealFree() {
    let subscribers = topicClasses.map { $0.reduce(0) { $0 + classMembers[$1].count } }
    let order = topics.indices.sorted { (subscribers[$0], $0) < (subscribers[$1], $1) }
    // One heap a class, and one of each topic's classes, so that a partition costs no walk over all members.
    var heaps = classMembers.map { members in LoadHeap(members.map { (loads[$0], $0) }) }
    for topic in order where owners[topic].contains(-1) {
      var classes = LoadHeap(topicClasses[topic].map { (heaps[$0].least, $0) })
      for partition in owners[topic].indices where owners[topic][partition] < 0 {
        let best = classes.top
        let taker = heaps[best].top
        heaps[best].raiseTop(to: loads[taker] + 1)
        classes.raiseTop(to: heaps[best].least)
        give(topic, Int32(partition), to: taker)
      }
    }
  }
}

/// Numbers by their load, the one with the least on top; of equal ones the lowest number.
private struct LoadHeap {
  private var heap: [(load: Int, number: Int)]

  init(_ entries: [(Int, Int)]) {
    // Sorted, which is a heap.
    heap = entries.sorted { $0 < $1 }.map { (load: $0.0, number: $0.1) }
  }

  var least: Int { heap[0].load }
  var top: Int { heap[0].number }

  /// Gives the number on top a larger load, so that it sinks.
  mutating func raiseTop(to load: Int) {
    heap[0].load = load
    var at = 0
    while true {
      var smallest = at
      for child in [2 * at + 1, 2 * at + 2] where child < heap.count && heap[child] < heap[smallest] {
        smallest = child
      }
      if smallest == at { return }
      heap.swapAt(at, smallest)
      at = smallest
    }
  }
}
