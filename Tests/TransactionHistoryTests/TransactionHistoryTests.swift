// TransactionHistoryTests: each anomaly is found when it is planted into a good history, and a good one has none.

import Testing
import TransactionHistory

/// Transactions of two processes over two lists: 1–4 committed, 5 aborted, 6 unknown and there.
private func good() -> TransactionHistory {
  var history = TransactionHistory()
  func add(
    _ process: String, _ number: Int, _ outcome: TransactionOutcome, _ asked: Int?, _ appends: [Append],
    reads: [Append] = []
  ) {
    var entry = TransactionEntry(process: process, number: number)
    entry.appends = appends
    entry.outcome = outcome
    entry.commitAsked = asked
    entry.reads = reads
    history.transactions.append(entry)
  }
  add("a", 1, .committed, 10, [Append("x", 1), Append("x", 2), Append("y", 3)])
  add("a", 2, .committed, 20, [Append("x", 4), Append("y", 5)])
  add("b", 1, .committed, 15, [Append("x", 6), Append("y", 7)], reads: [Append("x", 2)])
  add("b", 2, .aborted, nil, [Append("x", 8), Append("y", 9)])
  add("b", 3, .unknown, 30, [Append("x", 10), Append("y", 11)])
  add("a", 3, .unknown, 40, [Append("x", 12)])
  // The processes' transactions interleave: in x a#2 is before b#1, in y after it.
  history.final = ["x": [1, 2, 4, 6, 10], "y": [3, 7, 5, 11]]
  history.observations = [
    Observation("x", [], time: 5), Observation("x", [1, 2], time: 12), Observation("y", [3, 7, 5], time: 25),
  ]
  return history
}

private func kinds(_ change: (inout TransactionHistory) -> Void) -> Set<Anomaly.Kind> {
  var history = good()
  change(&history)
  return Set(history.anomalies().map(\.kind))
}

/// Expects exactly these anomalies after a change of the good history.
private func expect(
  _ expected: Set<Anomaly.Kind>, at location: SourceLocation = #_sourceLocation,
  _ change: (inout TransactionHistory) -> Void
) {
  let found = kinds(change)
  #expect(found == expected, sourceLocation: location)
}

/// Expects this anomaly, and perhaps others that follow from it.
private func expect(
  some expected: Anomaly.Kind, at location: SourceLocation = #_sourceLocation,
  _ change: (inout TransactionHistory) -> Void
) {
  let found = kinds(change)
  #expect(found.contains(expected), sourceLocation: location)
}

@Test("a good history has no anomaly")
func goodHistory() { #expect(good().anomalies().isEmpty, "\(good().anomalies())") }

@Test("G1a: a value of an aborted transaction is noticed, at the end and on the way")
func abortedRead() {
  expect([.abortedRead]) { $0.final["x"]?.insert(8, at: 4) }
  expect(some: .abortedRead) { $0.observations.append(Observation("y", [9], time: 50)) }
}

@Test("G1b: a value that is read before its transaction asked to be committed is noticed")
func earlyRead() {
  expect([.intermediateRead]) { $0.observations.append(Observation("x", [1], time: 9)) }
  expect([]) { $0.observations.append(Observation("x", [1], time: 10)) }
}

@Test("G1b: a list that shows a part of what a transaction appended to it is noticed")
func partOfAList() {
  let found = kinds { history in
    history.transactions[5].appends.append(Append("x", 13))
    history.final["x"]?.append(12)
  }
  #expect(found == [.intermediateRead])
}

@Test("a transaction that shows in one list and not in the other is noticed")
func nonAtomic() {
  expect([.nonAtomic]) { $0.final["y"]?.removeLast() }
}

@Test("a committed append that is not there is noticed, one whose end is unknown may be missing")
func lostAppend() {
  expect(some: .lost) { $0.final["y"] = [3, 7, 11] }
  let found = kinds { history in
    history.final["x"] = [1, 2, 4, 6]
    history.final["y"] = [3, 7, 5]
  }
  #expect(found.isEmpty)
}

@Test("a value twice, a value that nobody appended, and a value in another list are noticed")
func duplicatesAndPhantoms() {
  expect(some: .duplicate) { $0.final["x"]?.append(1) }
  expect([.phantom]) { $0.final["x"]?.append(99) }
  expect(some: .phantom) { $0.final["y"]?.append(12) }
}

@Test("two readings of a list that differ in order are noticed, as is an order within a transaction")
func orders() {
  expect([.order]) { $0.observations.append(Observation("x", [2, 1], time: 50)) }
  expect(some: .order) { $0.observations.append(Observation("y", [3, 7, 5, 11, 9], time: 50)) }
  let found = kinds { history in
    history.observations = []
    history.final["x"] = [2, 1, 4, 6, 10]
  }
  #expect(found == [.order])
}

@Test("G0: transactions of one process in different orders are noticed; of two processes only when that is asked for")
func writeCycles() {
  let found = kinds { history in
    history.observations = []
    history.final["y"] = [5, 3, 7, 11]
  }
  #expect(found == [.writeCycle])
  expect([.writeCycle]) { $0.ordersAllProcesses = true }
}

@Test("G1c: transactions that read each other's appends are noticed")
func dependencyCycles() {
  expect([.dependencyCycle]) { $0.transactions[0].reads = [Append("x", 6)] }
  expect([]) { $0.transactions[1].reads = [Append("x", 6)] }
}

/// Numbers that follow from a seed.
private struct Numbers: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state ^ state >> 29
  }
}

@Test("oracle: histories of a serial store have no anomaly, and any value taken out, moved or put in is noticed")
func serialStore() {
  for seed: UInt64 in 1...200 {
    var numbers = Numbers(state: seed)
    var history = TransactionHistory()
    var lists: [String: [Int]] = ["x": [], "y": [], "z": []]
    var value = 0
    for number in 1...20 {
      var entry = TransactionEntry(process: "p\(number % 3)", number: number)
      for _ in 0..<Int.random(in: 1...4, using: &numbers) {
        value += 1
        entry.appends.append(Append(["x", "y", "z"].randomElement(using: &numbers) ?? "x", value))
      }
      entry.commitAsked = number * 10
      switch Int.random(in: 0..<4, using: &numbers) {
      case 0: entry.outcome = .aborted
      case 1 where Bool.random(using: &numbers): entry.outcome = .unknown
      default:
        entry.outcome = Bool.random(using: &numbers) ? .committed : .unknown
        for append in entry.appends { lists[append.list]?.append(append.value) }
      }
      history.transactions.append(entry)
      let read = ["x", "y", "z"].randomElement(using: &numbers) ?? "x"
      history.observations.append(Observation(read, lists[read] ?? [], time: number * 10 + 5))
    }
    history.final = lists
    for (list, values) in lists { history.observations.append(Observation(list, values, time: 1000)) }
    #expect(history.anomalies().isEmpty, "seed \(seed): \(history.anomalies())")
    guard let list = ["x", "y", "z"].first(where: { (lists[$0]?.count ?? 0) > 2 }) else { continue }
    let place = Int.random(in: 0..<((lists[list]?.count ?? 1) - 1), using: &numbers)
    for change in 0..<3 {
      var broken = history
      switch change {
      case 0: broken.final[list]?.remove(at: place)
      case 1: broken.final[list]?.swapAt(place, place + 1)
      default: broken.final[list]?.insert(value + 1, at: place)
      }
      #expect(!broken.anomalies().isEmpty, "seed \(seed), change \(change) of \(list) at \(place)")
    }
  }
}
