// KeyedOperatorTests: what becomes of all values of a key, over random histories and crashes, against models that recompute.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

/// An event that state may keep.
struct Item: StateCodable, Hashable, Sendable {
  var key: String
  var number: Int64
  var time: Int64

  init(_ event: TimedEvent) { (key, number, time) = (event.key, event.number, event.time) }

  static var stateEncoding: String { "item/1" }
  func encode(into writer: inout ByteWriter) {
    key.encode(into: &writer)
    writer.int64(number)
    writer.int64(time)
  }
  init(from reader: inout ByteReader) throws(DecodingError) {
    key = try String(from: &reader)
    number = try reader.int64()
    time = try reader.int64()
  }

  /// Number and time.
  var text: String { "\(number)@\(time)" }
}

/// The items of the topic `in`, with their own times.
func items(_ times: String = "times") -> DataStream<AssignTime<Map<RecordInput, Item>>> {
  DataStream.topic("in").map { Item(TimedEvent($0)) }
    .eventTime(.monotonic, name: times) { Timestamp(milliseconds: $0.time) }
}

/// Batches of events. Times rise unless `disorder` says by how much they may not.
func randomBatches(_ count: Int, keys: Int, disorder: Int64 = 0, using random: inout SeededRandom) -> [[TimedEvent]] {
  var time: Int64 = 0
  return (0..<count).map { _ in
    (0..<Int.random(in: 1...5, using: &random)).map { _ in
      time += .random(in: 0...4, using: &random)
      return TimedEvent(
        key: "k\(Int.random(in: 0..<keys, using: &random))", number: .random(in: -6...6, using: &random),
        time: time - .random(in: 0...disorder, using: &random))
    }
  }
}

enum KeyedOperator: CaseIterable {
  case minimum, maximum, fold, reduce, last, top, topDistinct, distinct

  var job: JobDefinition {
    let keyed = items().keyBy { $0.key }
    let output =
      switch self {
      case .minimum:
        keyed.minimum(name: "n") { $0.number }.map { "\($0.key)=\($0.value)" }.to(topic: "out")
      case .maximum:
        keyed.maximum(name: "n") { $0.number }.map { "\($0.key)=\($0.value)" }.to(topic: "out")
      case .fold:
        keyed.fold([Int64](), name: "n") { list, item in list = list.suffix(2) + [item.number] }
          .map { "\($0.key)=\($0.value)" }.to(topic: "out")
      case .reduce:
        keyed.reduce(name: "n") { left, right in
          var sum = right
          sum.number = left.number &* 3 &+ right.number
          return sum
        }.map { "\($0.key)=\($0.value.text)" }.to(topic: "out")
      case .last:
        keyed.deduplicateLast(name: "n").map { "\($0.key)=\($0.value.text)" }.to(topic: "out")
      case .top:
        keyed.top(3, name: "n") { $0.number }.map { "\($0.key)=\($0.value.map(\.text))" }.to(topic: "out")
      case .topDistinct:
        keyed.top(3, name: "n", distinct: { $0.time % 5 }, by: { $0.number })
          .map { "\($0.key)=\($0.value.map(\.text))" }.to(topic: "out")
      case .distinct:
        keyed.distinctCount(name: "n") { $0.number }.map { "\($0.key)=\($0.value)" }.to(topic: "out")
      }
    return output.job(named: "keyed")
  }

  /// The result of a key with these values, in the order in which they came.
  func result(_ items: [Item]) -> String {
    switch self {
    case .minimum: return "\(items.map(\.number).min() ?? 0)"
    case .maximum: return "\(items.map(\.number).max() ?? 0)"
    case .fold: return "\(Array(items.map(\.number).suffix(3)))"
    case .reduce:
      return "\(items.dropFirst().reduce(items[0].number) { $0 &* 3 &+ $1.number })@\(items[items.count - 1].time)"
    case .last:
      let last = items.map(\.time).max()
      return items.last { $0.time == last }?.text ?? ""
    case .top: return "\(ranked(items).prefix(3).map(\.text))"
    case .topDistinct:
      // The highest of each identity, found one by one.
      var kept: [Item] = []
      for item in ranked(items) where !kept.contains(where: { $0.time % 5 == item.time % 5 }) { kept.append(item) }
      return "\(kept.prefix(3).map(\.text))"
    case .distinct: return "\(Set(items.map(\.number)).count)"
    }
  }

  /// By number, and then by the encoding: of a key's items the time, which is not below 0, decides.
  private func ranked(_ items: [Item]) -> [Item] {
    items.sorted { ($1.number, $0.time) < ($0.number, $1.time) }
  }

  /// Whether a value that changes nothing has nothing handed on.
  var isSelective: Bool { self != .fold && self != .reduce && self != .last }
}

@Test("keyed operators hand on what all values of a key come to, over crashes", arguments: KeyedOperator.allCases)
func oracleKeyedOperators(_ kind: KeyedOperator) throws {
  var failures = 0
  for seed in UInt64(0)..<histories(40) {
    var random = SeededRandom(seed: seed)
    let batches = randomBatches(40, keys: 4, disorder: 8, using: &random).map { batch in
      batch.map { TimedEvent(key: $0.key, number: $0.number, time: max(0, $0.time)) }
    }
    let history = try History(
      of: kind.job, over: batches.map { $0.map(\.record) }, using: &random, crashes: seed % 2 == 1)
    failures += history.failures
    // What each key had behind each batch.
    var values: [String: [Item]] = [:]
    var states: [String: [String]] = [:]
    for batch in batches {
      for event in batch { values[event.key, default: []].append(Item(event)) }
      for key in Set(batch.map(\.key)) { states[key, default: []].append(kind.result(values[key] ?? [])) }
    }
    var last: [String: String] = [:]
    var ahead = states.mapValues { $0[...] }
    for text in history.out {
      let (key, result) = (String(text.prefix(2)), String(text.dropFirst(3)))
      let found = ahead[key]?.firstIndex(of: result)
      #expect(found != nil, "\(kind) seed \(seed): \(text) is what no prefix leads to, or is out of order")
      if let found { ahead[key] = ahead[key]?[(found + 1)...] }
      if kind.isSelective { #expect(last[key] != result, "\(kind) seed \(seed): \(text) twice") }
      last[key] = result
    }
    #expect(last == states.mapValues { $0.last ?? "" }, "\(kind) seed \(seed)")
  }
  #expect(failures > histories(40) / 2)
}

enum WindowedOperator: CaseIterable {
  case top, topDistinct, reduce, fold, distinct, sessionTop, sessionReduce, sessionFold, sessionDistinct

  var job: JobDefinition {
    let keyed = items().keyBy { $0.key }
    let windows = keyed.window(.hopping(.milliseconds(30), every: .milliseconds(20)))
    let sessions = keyed.sessions(gap: .milliseconds(5))
    @Sendable func text(_ result: Windowed<String, String>) -> String {
      "\(result.key)@\(result.window.end.milliseconds)=\(result.value)"
    }
    @Sendable func list(_ result: Windowed<String, [Item]>) -> String {
      text(Windowed(key: result.key, window: result.window, value: "\(result.value.map(\.text))"))
    }
    @Sendable func sum(_ left: Item, _ right: Item) -> Item {
      var sum = right
      sum.number += left.number
      return sum
    }
    let output =
      switch self {
      case .top: windows.top(3, name: "n") { $0.number }.map(list).to(topic: "out")
      case .topDistinct:
        windows.top(3, name: "n", distinct: { $0.time % 5 }, by: { $0.number }).map(list).to(topic: "out")
      case .reduce:
        windows.reduce(name: "n", sum)
          .map { text(Windowed(key: $0.key, window: $0.window, value: $0.value.text)) }.to(topic: "out")
      case .fold:
        windows.fold([Int64](), name: "n", { $0.append($1.number) }, merging: { $0 += $1 })
          .map { text(Windowed(key: $0.key, window: $0.window, value: "\($0.value)")) }.to(topic: "out")
      case .distinct:
        windows.distinctCount(name: "n") { $0.number }
          .map { text(Windowed(key: $0.key, window: $0.window, value: "\($0.value)")) }.to(topic: "out")
      case .sessionDistinct:
        sessions.distinctCount(name: "n") { $0.number }
          .map { text(Windowed(key: $0.key, window: $0.window, value: "\($0.value)")) }.to(topic: "out")
      case .sessionTop: sessions.top(3, name: "n") { $0.number }.map(list).to(topic: "out")
      case .sessionReduce:
        sessions.reduce(name: "n", sum)
          .map { text(Windowed(key: $0.key, window: $0.window, value: $0.value.text)) }.to(topic: "out")
      case .sessionFold:
        sessions.fold([Int64](), name: "n", { $0.append($1.number) }, merging: { $0 += $1 })
          .map { text(Windowed(key: $0.key, window: $0.window, value: "\($0.value)")) }.to(topic: "out")
      }
    return output.job(named: "windowed")
  }

  var isOfSessions: Bool {
    switch self {
    case .top, .topDistinct, .reduce, .fold, .distinct: false
    case .sessionTop, .sessionReduce, .sessionFold, .sessionDistinct: true
    }
  }

  func result(_ items: [Item]) -> String {
    switch self {
    case .top, .sessionTop: KeyedOperator.top.result(items)
    case .topDistinct: KeyedOperator.topDistinct.result(items)
    case .reduce, .sessionReduce: "\(items.reduce(0) { $0 + $1.number })@\(items[items.count - 1].time)"
    case .fold, .sessionFold: "\(items.map(\.number))"
    case .distinct, .sessionDistinct: KeyedOperator.distinct.result(items)
    }
  }
}

/// The windows or sessions that are closed once all items were seen, whose times never fall: of each the key, the end and the items.
func closed(_ items: [Item], sessions: Bool) -> [(name: String, items: [Item])] {
  let end = items.map(\.time).max() ?? 0
  var groups: [(String, [Item])] = []
  for (key, items) in Dictionary(grouping: items, by: \.key) {
    if sessions {
      var session: [Item] = []
      for item in items + [Item(TimedEvent(key: key, number: 0, time: .max / 8))] {
        if let last = session.last, item.time - last.time > 5 {
          if last.time + 5 < end { groups.append(("\(key)@\(last.time + 5)", session)) }
          session = []
        }
        session.append(item)
      }
    } else {
      for close in stride(from: Int64(10), through: end, by: 20) {
        let inside = items.filter { close - 30 <= $0.time && $0.time < close }
        if !inside.isEmpty { groups.append(("\(key)@\(close)", inside)) }
      }
    }
  }
  return groups
}

@Test("the same operators in windows and sessions, over crashes", arguments: WindowedOperator.allCases)
func oracleWindowedOperators(_ kind: WindowedOperator) throws {
  var failures = 0
  for seed in UInt64(0)..<histories(30) {
    var random = SeededRandom(seed: seed)
    let batches = randomBatches(40, keys: 4, using: &random)
    let history = try History(
      of: kind.job, over: batches.map { $0.map(\.record) }, using: &random, crashes: seed % 2 == 1)
    failures += history.failures
    let expected = closed(batches.flatMap { $0.map(Item.init) }, sessions: kind.isOfSessions)
      .map { "\($0.name)=\(kind.result($0.items))" }
    #expect(history.out.sorted() == expected.sorted(), "\(kind) seed \(seed)")
    #expect(expected.count > 10)
  }
  #expect(failures > histories(30) / 2)
}
