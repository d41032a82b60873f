// UniformAssignor+Leveling: evens a distribution out along chains of hand-overs, searched over classes of members.
//
// Within a class everybody subscribes to the same, so a member can hand what it has to any other one, and what one member
// of a class can pass on, each can by way of it. So a class reaches another one when any of its members has a partition of
// a topic that the other subscribes to, and a search walks classes and topics, never members. When it finds nothing, all
// classes that it has seen have nothing to pass on from this load or a lower one either, until something moves.

/// How the members of each class stand by load, and who has something of each topic.
private struct ClassIndex {
  /// By class and load: its members, in no order that counts.
  private var buckets: [[Int: [Int]]]
  /// Where each member is in its bucket.
  private var places: [Int]
  private(set) var least: [Int]
  /// By class and topic: members that have something of it; those that have nothing any more may still be listed.
  private var holders: [[Int: [Int]]]
  /// Classes that came to have a member with this load, maybe more than once, maybe no longer.
  private var classesAt: [Int: [Int]] = [:]

  init(_ distribution: UniformDistribution) {
    let classes = distribution.classMembers.count
    buckets = Array(repeating: [:], count: classes)
    holders = Array(repeating: [:], count: classes)
    least = Array(repeating: .max, count: classes)
    places = Array(repeating: 0, count: distribution.members.count)
    for (member, load) in distribution.loads.enumerated() {
      let number = distribution.classOf[member]
      insert(member, number, load)
      least[number] = min(least[number], load)
      for topic in distribution.held[member].keys { holders[number][topic, default: []].append(member) }
    }
  }

  private mutating func insert(_ member: Int, _ number: Int, _ load: Int) {
    if buckets[number][load] == nil { classesAt[load, default: []].append(number) }
    places[member] = buckets[number][load]?.count ?? 0
    buckets[number][load, default: []].append(member)
  }

  /// Follows a member's load, which changed by one.
  mutating func moved(_ member: Int, _ number: Int, from old: Int, to new: Int) {
    guard let last = buckets[number][old]?.popLast() else {
      preconditionFailure("no member of class \(number) at \(old)")
    }
    if last != member {
      buckets[number][old]?[places[member]] = last
      places[last] = places[member]
    }
    if buckets[number][old]?.isEmpty == true { buckets[number][old] = nil }
    insert(member, number, new)
    if new < least[number] || (least[number] == old && buckets[number][old] == nil) { least[number] = new }
  }

  mutating func gained(_ member: Int, _ number: Int, _ topic: Int) {
    holders[number][topic, default: []].append(member)
  }

  /// A member of a class that has a load.
  func member(_ number: Int, at load: Int) -> Int? { buckets[number][load]?.last }

  /// Some members of a class that have a load.
  func some(_ number: Int, at load: Int) -> ArraySlice<Int> { buckets[number][load]?.suffix(8) ?? [] }

  /// Classes that may have members with this load, each once.
  mutating func takeClasses(at load: Int) -> [Int] {
    guard let found = classesAt.removeValue(forKey: load) else { return [] }
    return Set(found).sorted()
  }

  mutating func put(back number: Int, at load: Int) { classesAt[load, default: []].append(number) }

  /// A member of a class that has something of a topic.
  mutating func holder(_ number: Int, of topic: Int, _ held: [[Int: [Int32]]]) -> Int? {
    while let last = holders[number][topic]?.last {
      if held[last][topic] != nil { return last }
      holders[number][topic]?.removeLast()
    }
    return nil
  }
}

/// One hand-over between classes: what its giver has of the topic goes to a member of the next class.
private struct Link {
  let from: Int
  let topic: Int
}

extension UniformDistribution {
  /// Follows chains until there are none, from the highest load down, so that nobody falls below the final level and has
  /// to be filled again.
  mutating func level() {
    var index = ClassIndex(self)
    var steps = 0
    var moves = 0
    // By class: how many moves there had been when nothing was found from it.
    var stuck: [Int: Int] = [:]
    var before = -1
    while before != moves {
      before = moves
      for load in stride(from: loads.max() ?? 0, to: 1, by: -1) {
        for number in index.takeClasses(at: load) {
          while stuck[number] != moves, let start = index.member(number, at: load) {
            guard steps < UniformAssignor.mostSteps else { return }
            if index.least[number] <= load - 2 {
              passOn(from: start, to: index.member(number, at: index.least[number]) ?? start, &index)
            } else if let chain = chain(from: start, number, load - 2, &index, &stuck, moves, &steps) {
              follow(chain.links, to: chain.end, start, number, load, &index)
            } else {
              break
            }
            moves += 1
            steps += 1
          }
          if index.member(number, at: load) != nil { index.put(back: number, at: load) }
        }
      }
    }
  }

  private mutating func move(_ topic: Int, from: Int, to: Int, _ index: inout ClassIndex) {
    let isNew = held[to][topic] == nil
    hand(topic, from: from, to: to)
    index.moved(from, classOf[from], from: loads[from] + 1, to: loads[from])
    index.moved(to, classOf[to], from: loads[to] - 1, to: loads[to])
    if isNew { index.gained(to, classOf[to], topic) }
  }

  /// A member hands something to another one of its class: of the topic of which it has the most.
  private mutating func passOn(from: Int, to: Int, _ index: inout ClassIndex) {
    let topic = held[from].max { ($0.value.count, $1.key) < ($1.value.count, $0.key) }?.key
    guard let topic else { preconditionFailure("member \(from) has nothing to give") }
    move(topic, from: from, to: to, &index)
  }

  /// The shortest chain of classes from a member's to one whose least load is at most `limit`; nil when there is none.
  /// What the member has itself goes first, so that as few partitions as possible move.
  private func chain(
    from start: Int, _ number: Int, _ limit: Int, _ index: inout ClassIndex, _ stuck: inout [Int: Int], _ moves: Int,
    _ steps: inout Int
  ) -> (links: [Link], end: Int)? {
    guard limit >= 0 else { return nil }
    var cameFrom: [Int: Link] = [:]
    var seen: Set<Int> = []
    var best: Int?
    var queue: [Int] = []
    func visit(_ topic: Int, from giver: Int) {
      seen.insert(topic)
      steps += 1 + topicClasses[topic].count
      for other in topicClasses[topic] where other != number && cameFrom[other] == nil {
        cameFrom[other] = Link(from: giver, topic: topic)
        queue.append(other)
        if index.least[other] <= limit, best.map({ index.least[other] < index.least[$0] }) ?? true { best = other }
      }
    }
    for topic in held[start].keys.sorted() { visit(topic, from: number) }
    queue.insert(number, at: 0)
    var next = 0
    while best == nil, next < queue.count {
      let giver = queue[next]
      next += 1
      for topic in classTopics[giver] where !seen.contains(topic) {
        steps += 1
        if index.holder(giver, of: topic, held) != nil { visit(topic, from: giver) }
      }
    }
    guard let best else {
      for other in queue { stuck[other] = moves }
      return nil
    }
    var links: [Link] = []
    var at = best
    while at != number, let link = cameFrom[at] {
      links.append(link)
      at = link.from
    }
    return (links.reversed(), best)
  }

  /// Hands one partition on along each link; where a giver is another member of the first class than the one that is to
  /// have less, that one gives it something instead.
  private mutating func follow(
    _ links: [Link], to end: Int, _ start: Int, _ number: Int, _ load: Int, _ index: inout ClassIndex
  ) {
    let first = links[0].topic
    let own = held[start][first] != nil ? start : index.some(number, at: load).first { held[$0][first] != nil }
    guard let giver = own ?? index.holder(number, of: first, held) else {
      preconditionFailure("class \(number) has nothing of topic \(first) to give")
    }
    var from = giver
    for (at, link) in links.enumerated() {
      var to: Int?
      if at + 1 < links.count {
        to = index.holder(links[at + 1].from, of: links[at + 1].topic, held)
      } else {
        to = index.member(end, at: index.least[end])
      }
      guard let to else { preconditionFailure("nobody of the next class can take topic \(link.topic)") }
      move(link.topic, from: from, to: to, &index)
      from = to
    }
    if own == nil { passOn(from: start, to: giver, &index) }
  }
}
