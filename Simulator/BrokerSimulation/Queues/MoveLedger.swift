// MoveLedger: messages that are carried back and forth between two queues, publication and acknowledgement in one commit.
//
// A message carries how often it has moved: with an even number of hops it is in the first queue. Each move that was committed
// has happened and each that was not asked for has not; of one transaction all moves have happened or none.

import MillraceBase

struct MoveLedger {
  static let queues = ["move-0", "move-1"]

  /// A message as it lay in a queue.
  struct Place: Hashable {
    let name: MessageName
    let hops: Int
  }

  private struct Transaction {
    let places: [Place]
    let line: Int
    var isCommitted = false
  }

  private(set) var sent: Set<MessageName> = []
  private var promised: Set<MessageName> = []
  private var transactions: [Transaction] = []
  /// When a message was delivered from a place last; lines count everything that happened.
  private var delivered: [Place: Int] = [:]
  private var newest: [MessageName: Int] = [:]
  private var committed: [MessageName: Int] = [:]
  private var asked: [MessageName: Int] = [:]
  private var line = 0
  /// What happened to each, for the report of a failure.
  private var events: [MessageName: [String]] = [:]

  /// Moves that were promised.
  private(set) var commits = 0

  private mutating func note(_ name: MessageName, _ what: String, _ now: MonotonicTime) {
    events[name, default: []].append("\(what) at \(now.nanoseconds / 1000)")
  }

  mutating func sent(_ name: MessageName, now: MonotonicTime) {
    sent.insert(name)
    note(name, "sent", now)
  }

  mutating func promised(_ name: MessageName, now: MonotonicTime) {
    promised.insert(name)
    note(name, "confirmed", now)
  }

  mutating func delivered(_ place: Place, from queue: Int, now: MonotonicTime) -> [QueueProblem] {
    line += 1
    note(place.name, "delivered after \(place.hops)", now)
    delivered[place] = line
    var problems: [QueueProblem] = []
    func say(_ text: String) {
      let past = events[place.name] ?? []
      problems.append((.queueTransactions, "\(place.name) after \(place.hops) moves \(text); \(past)"))
    }
    if place.hops % 2 != queue { say("was delivered from queue \(queue)") }
    if let last = committed[place.name], place.hops <= last { say("was delivered after the next move was committed") }
    if let last = newest[place.name], place.hops < last { say("was delivered after move \(last)") }
    newest[place.name] = max(place.hops, newest[place.name] ?? 0)
    return problems
  }

  /// Moves that are about to be committed.
  /// - Returns: a number for ``committed(_:)``.
  mutating func tries(_ places: [Place], now: MonotonicTime) -> Int {
    line += 1
    for place in places {
      asked[place.name] = max(place.hops + 1, asked[place.name] ?? 0)
      note(place.name, "move \(place.hops + 1) in transaction \(transactions.count)", now)
    }
    transactions.append(Transaction(places: places, line: line))
    return transactions.count - 1
  }

  mutating func committed(_ number: Int, now: MonotonicTime) {
    commits += 1
    transactions[number].isCommitted = true
    for place in transactions[number].places {
      committed[place.name] = max(place.hops, committed[place.name] ?? -1)
      note(place.name, "committed", now)
    }
  }

  /// - Parameter left: the contents of both queues.
  func check(_ left: [[LeftMessage]]) -> [QueueProblem] {
    var problems: [QueueProblem] = []
    var final: [MessageName: Int] = [:]
    var number: [MessageName: Int] = [:]
    for (queue, messages) in left.enumerated() {
      for message in messages {
        number[message.name, default: 0] += 1
        final[message.name] = max(message.hops, final[message.name] ?? 0)
        guard message.hops % 2 != queue else { continue }
        problems.append((.queueTransactions, "\(message.name) is in queue \(queue) after \(message.hops) moves"))
      }
    }
    for name in Set(number.keys).union(promised).union(newest.keys).sorted() {
      let (count, hops) = (number[name] ?? 0, final[name] ?? 0)
      if !sent.contains(name) {
        problems.append((.queueTransactions, "\(name) is there, nobody sent it"))
      } else if count != 1 {
        problems.append((.queueTransactions, "\(name) moves, and is there \(count) times; \(events[name] ?? [])"))
      } else if hops > asked[name] ?? 0 {
        problems.append(
          (
            .queueTransactions,
            "\(name) has moved \(hops) times, \(asked[name] ?? 0) were asked for; \(events[name] ?? [])"
          ))
      } else if let last = committed[name], hops <= last {
        problems.append(
          (.queueTransactions, "\(name) has moved \(hops) times, move \(last + 1) was committed; \(events[name] ?? [])")
        )
      }
    }
    return problems + transactions.compactMap { check($0, final) }
  }

  private func check(_ transaction: Transaction, _ final: [MessageName: Int]) -> QueueProblem? {
    let happened = transaction.places.map { place in
      delivered[place, default: 0] < transaction.line && (final[place.name] ?? 0) > place.hops
    }
    guard Set(happened).count > 1 else { return nil }
    let words = zip(transaction.places, happened).map { "\($0.name) is \($1 ? "" : "not ")moved" }
    return (.queueTransactions, "of one transaction " + words.joined(separator: ", "))
  }
}
