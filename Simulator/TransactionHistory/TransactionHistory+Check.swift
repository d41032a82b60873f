// TransactionHistory+Check: finds the anomalies of a history. O(appends and reads), cycles included.

extension TransactionHistory {
  /// Every rule that the history breaks, at most a few of each kind.
  public func anomalies() -> [Anomaly] {
    var check = HistoryCheck(self)
    check.run()
    return check.found
  }
}

private struct HistoryCheck {
  private let history: TransactionHistory
  private var writer: [Int: Int] = [:]
  private var counts: [Anomaly.Kind: Int] = [:]
  private(set) var found: [Anomaly] = []
  private static let mostOfAKind = 5

  init(_ history: TransactionHistory) {
    self.history = history
    for (index, transaction) in history.transactions.enumerated() {
      for append in transaction.appends { writer[append.value] = index }
    }
  }

  private mutating func report(_ kind: Anomaly.Kind, _ text: String) {
    counts[kind, default: 0] += 1
    if counts[kind, default: 0] <= HistoryCheck.mostOfAKind { found.append(Anomaly(kind: kind, text: text)) }
  }

  private func name(_ index: Int) -> String { history.transactions[index].name }

  mutating func run() {
    for observation in history.observations { check(observation.list, observation.values, at: observation.time) }
    for (list, values) in history.final.sorted(by: { $0.key < $1.key }) { check(list, values, at: nil) }
    checkOrders()
    checkEnds()
    checkCycles()
  }

  /// The rules for one reading of a list; `time` is nil for the last.
  private mutating func check(_ list: String, _ values: [Int], at time: Int?) {
    var seen: Set<Int> = []
    for value in values {
      if !seen.insert(value).inserted { report(.duplicate, "\(value) stands in \(list) twice") }
      guard let index = writer[value] else {
        report(.phantom, "\(value) in \(list) was never appended")
        continue
      }
      let transaction = history.transactions[index]
      if !transaction.appends.contains(Append(list, value)) {
        report(.phantom, "\(value) was appended by \(transaction.name), but not to \(list)")
      }
      if transaction.outcome == .aborted {
        report(.abortedRead, "\(value) in \(list) is of \(transaction.name), which was aborted")
      } else if let time, transaction.commitAsked.map({ $0 > time }) ?? true {
        report(.intermediateRead, "\(value) in \(list) was read before \(transaction.name) asked to be committed")
      }
    }
  }

  /// All readings of a list agree with the last one.
  private mutating func checkOrders() {
    for observation in history.observations {
      guard let final = history.final[observation.list] else { continue }
      if observation.values.count > final.count || Array(final.prefix(observation.values.count)) != observation.values {
        report(
          .order,
          "\(observation.list) was read as \(observation.values) at \(observation.time), at the end it is \(final)")
      }
    }
  }

  /// At the end each transaction is there as a whole or not at all, as it was promised.
  private mutating func checkEnds() {
    var positions: [Append: Int] = [:]
    for (list, values) in history.final {
      for (position, value) in values.enumerated() { positions[Append(list, value)] = position }
    }
    for transaction in history.transactions {
      let appends = transaction.appends.filter { history.final[$0.list] != nil }
      let there = appends.filter { positions[$0] != nil }
      switch transaction.outcome {
      case .committed:
        for append in appends where positions[append] == nil {
          report(.lost, "\(append.value) of \(transaction.name) is not in \(append.list), although it was committed")
        }
      case .unknown where !there.isEmpty && there.count < appends.count:
        let lists = Set(there.map(\.list))
        for append in appends where positions[append] == nil {
          let kind: Anomaly.Kind = lists.contains(append.list) ? .intermediateRead : .nonAtomic
          report(kind, "\(transaction.name) shows \(there[0].value), but not \(append.value) in \(append.list)")
        }
      case .unknown, .aborted: break
      }
      for (before, after) in zip(appends, appends.dropFirst()) where before.list == after.list {
        guard let first = positions[before], let second = positions[after], first > second else { continue }
        report(
          .order, "\(transaction.name) appended \(before.value) before \(after.value), in \(before.list) it is after")
      }
    }
  }

  // MARK: Cycles

  /// Edges between transactions: from one to those that must come after it.
  private func edges(withReads: Bool) -> [[Int]] {
    var edges = [Set<Int>](repeating: [], count: history.transactions.count)
    for values in history.final.values {
      var last: [String: Int] = [:]
      for value in values {
        guard let index = writer[value] else { continue }
        let process = history.ordersAllProcesses ? "" : history.transactions[index].process
        if let before = last.updateValue(index, forKey: process), before != index { edges[before].insert(index) }
      }
    }
    if !history.ordersAllProcesses {
      // One process's transactions follow each other.
      var last: [String: Int] = [:]
      let order = history.transactions.indices.sorted {
        history.transactions[$0].number < history.transactions[$1].number
      }
      for index in order {
        if let before = last.updateValue(index, forKey: history.transactions[index].process) {
          edges[before].insert(index)
        }
      }
    }
    if withReads {
      for (index, transaction) in history.transactions.enumerated() {
        for read in transaction.reads {
          if let before = writer[read.value], before != index { edges[before].insert(index) }
        }
      }
    }
    return edges.map { $0.sorted() }
  }

  private mutating func checkCycles() {
    if let cycle = HistoryCheck.cycle(edges(withReads: false)) {
      report(.writeCycle, cycle.map { name($0) }.joined(separator: " before ") + " before the first")
    } else if let cycle = HistoryCheck.cycle(edges(withReads: true)) {
      report(.dependencyCycle, cycle.map { name($0) }.joined(separator: " before ") + " before the first")
    }
  }

  /// Some cycle of a graph, nil when there is none.
  private static func cycle(_ edges: [[Int]]) -> [Int]? {
    enum Mark { case new, open, done }
    var marks = [Mark](repeating: .new, count: edges.count)
    for start in edges.indices where marks[start] == .new {
      var path = [start]
      var next = [0]
      marks[start] = .open
      while let node = path.last, let at = next.last {
        guard at < edges[node].count else {
          marks[node] = .done
          path.removeLast()
          next.removeLast()
          continue
        }
        next[next.count - 1] += 1
        let target = edges[node][at]
        switch marks[target] {
        case .new:
          marks[target] = .open
          path.append(target)
          next.append(0)
        case .open: return Array(path[(path.firstIndex(of: target) ?? 0)...])
        case .done: break
        }
      }
    }
    return nil
  }
}
