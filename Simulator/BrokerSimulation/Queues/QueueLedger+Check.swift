// QueueLedger+Check: what is left in the queues at the end, held against everything that is known.

import MillraceBase

/// A message that is in a queue at the end.
struct LeftMessage {
  var name: MessageName
  /// The body is as it was sent.
  var hops: Int
  /// Its history as a dead letter: the queue, the reason and how often; the newest first.
  var deaths: [(queue: String, reason: String, count: Int)] = []
}

extension QueueLedger {
  /// What is broken.
  /// - Parameter left: the contents of each queue, in order.
  /// - Parameter mayLose: publications that nobody was to hear of may have been refused, because the disk was full.
  func check(_ left: [String: [LeftMessage]], mayLose: Bool) -> [QueueProblem] {
    var problems: [QueueProblem] = []
    var places: [CopyName: [String]] = [:]
    for (index, family) in families.enumerated() {
      for place in family.places {
        for message in left[place] ?? [] {
          let copy = CopyName(family: index, name: message.name)
          places[copy, default: []].append(place)
          if copies[copy] == nil {
            problems.append((.queueMessages, "\(place): \(message.name) is left, nobody sent it"))
          }
          if place == family.dead { problems += checkDeath(message, family, copies[copy]) }
        }
      }
      problems += checkOrder(left[family.name] ?? [], family)
    }
    for (name, publication) in publications.sorted(by: { $0.key < $1.key }) {
      for family in publication.families {
        let copy = CopyName(family: family, name: name)
        problems += checkPlaces(copies[copy] ?? Copy(), name, families[family], places[copy] ?? [])
      }
    }
    let isThere = { (copy: CopyName) in self.copies[copy]?.isSeen ?? false || places[copy] != nil }
    return problems + checkTogether(isThere) + (mayLose ? [] : checkPrefixes(isThere))
  }

  private func checkPlaces(
    _ copy: Copy, _ name: MessageName, _ family: QueueFamily, _ places: [String]
  ) -> [QueueProblem] {
    var problems: [QueueProblem] = []
    func say(_ rule: Rule, _ text: String) {
      problems.append((rule, "\(family.name): \(name) \(text); \(copy.events)"))
    }
    if places.count > 1 { say(.queueDuplicates, "is in \(places.joined(separator: " and in "))") }
    if copy.settled == .acknowledged, let place = places.first {
      say(.queueSettlements, "is in \(place), its acknowledgement was promised")
    }
    if copy.settled == .rejected, copy.action == .rejected, !family.isRedriven {
      if places.contains(family.name) { say(.queueSettlements, "is left, its rejection was promised") }
      if let dead = family.dead, !places.contains(dead) {
        say(.queueDeadLetters, "is not in \(dead), its rejection was promised")
      }
    }
    let mayBeGone = copy.action == .acknowledged || copy.action == .rejected && family.dead == nil
    if places.isEmpty, copy.isPromised || copy.isSeen, !mayBeGone {
      say(
        .queueMessages,
        "is lost: it was \(copy.isPromised ? "promised" : "delivered"), "
          + (copy.action.map { "its last delivery was \($0)" } ?? "and not settled"))
    }
    return problems
  }

  private func checkDeath(_ message: LeftMessage, _ family: QueueFamily, _ copy: Copy?) -> [QueueProblem] {
    guard let death = message.deaths.first, message.deaths.count == 1 else {
      return [(.queueDeadLetters, "\(message.name) is a dead letter that has left \(message.deaths.count) queues")]
    }
    let wasRejected = death.reason != "rejected" || copy?.wasRejected == true
    if death.queue == family.name, family.reasons.contains(death.reason), death.count == 1, wasRejected { return [] }
    return [
      (
        .queueDeadLetters,
        "\(message.name) is a dead letter of \(death.queue) for the reason \(death.reason), \(death.count) times"
      )
    ]
  }

  private func checkOrder(_ left: [LeftMessage], _ family: QueueFamily) -> [QueueProblem] {
    guard family.isOrdered else { return [] }
    var problems: [QueueProblem] = []
    var newest: [Int: [Int: MessageName]] = [:]
    var lowest = Int.max
    for message in left {
      guard let lane = publications[message.name]?.lane else { continue }
      if let other = newest[message.name.publisher]?[lane], other >= message.name {
        problems.append((.queueOrder, "\(family.name): \(message.name) is left behind \(other)"))
      }
      newest[message.name.publisher, default: [:]][lane] = message.name
      guard family.kind == .priorities else { continue }
      if lane > lowest {
        problems.append((.queueOrder, "\(family.name): \(message.name) of priority \(lane) is left behind a lower one"))
      }
      lowest = min(lowest, lane)
    }
    return problems
  }

  /// What one transaction, or one publication, puts into several queues is in all of them or in none.
  private func checkTogether(_ isThere: (CopyName) -> Bool) -> [QueueProblem] {
    var transactions: [Int: [CopyName]] = [:]
    var problems: [QueueProblem] = []
    for (name, publication) in publications.sorted(by: { $0.key < $1.key }) {
      let copies = publication.families.map { CopyName(family: $0, name: name) }
      if let transaction = publication.transaction { transactions[transaction, default: []] += copies }
      if Set(copies.map(isThere)).count > 1 {
        problems.append((.queueTransactions, "\(name) is in some of the queues it went to, and not in the others"))
      }
    }
    for (_, copies) in transactions.sorted(by: { $0.key < $1.key }) where Set(copies.map(isThere)).count > 1 {
      let words = copies.map { "\($0.name) is \(isThere($0) ? "" : "not ")there" }
      problems.append((.queueTransactions, "of one transaction " + words.joined(separator: ", ")))
    }
    for copies in transactions.values {
      if copies.contains(where: { self.copies[$0]?.isRefused == true && isThere($0) }) {
        problems.append((.queueTransactions, "\(copies[0].name) is there, its transaction was rolled back"))
      }
    }
    return problems
  }

  /// What a session publishes into one lane is in one log, without gaps: only its end can be lost.
  private func checkPrefixes(_ isThere: (CopyName) -> Bool) -> [QueueProblem] {
    var problems: [QueueProblem] = []
    for (_, names) in published.sorted(by: { $0.key < $1.key }) {
      var missing: [Int: [Int: MessageName]] = [:]
      for name in names {
        guard let publication = publications[name] else { continue }
        for family in publication.families where families[family].kind != .limited {
          let copy = CopyName(family: family, name: name)
          if copies[copy]?.isRefused == true { continue }
          if !isThere(copy) {
            missing[family, default: [:]][publication.lane] = name
          } else if let other = missing[family]?[publication.lane] {
            problems.append(
              (
                .queueMessages,
                "\(families[family].name): \(name) is there, \(other) was published before it and is not"
              ))
          }
        }
      }
    }
    return problems
  }
}
