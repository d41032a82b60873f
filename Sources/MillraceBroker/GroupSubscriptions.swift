// GroupSubscriptions: the distinct subscriptions of a group's members, so that what is equal is kept and looked at once.

import MillraceModel

/// Sets of topics, each with a number of its own and how many members have it.
struct GroupSubscriptions {
  private struct Entry {
    var topics: Set<TopicID>
    var members: Int
  }

  private var entries: [Int: Entry] = [:]
  private var numbers: [Set<TopicID>: Int] = [:]
  private var next = 0

  /// All topics that somebody subscribes to. O(distinct subscriptions · topics).
  var topics: Set<TopicID> { entries.values.reduce(into: []) { $0.formUnion($1.topics) } }

  /// One more member has this subscription.
  /// - Returns: its number, and the one copy of the set that all of them share.
  mutating func enter(_ topics: Set<TopicID>) -> (number: Int, topics: Set<TopicID>) {
    if let number = numbers[topics], let entry = entries[number] {
      entries[number]?.members += 1
      return (number, entry.topics)
    }
    defer { next += 1 }
    numbers[topics] = next
    entries[next] = Entry(topics: topics, members: 1)
    return (next, topics)
  }

  /// One member less has it.
  /// - Returns: whether that was the last one.
  mutating func leave(_ number: Int) -> Bool {
    guard let entry = entries[number] else { preconditionFailure("there is no subscription \(number)") }
    guard entry.members == 1 else {
      entries[number]?.members -= 1
      return false
    }
    entries[number] = nil
    numbers[entry.topics] = nil
    return true
  }
}
