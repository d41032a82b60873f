// ShareGroupTests: members of share groups: who reads what, epochs, silence; and the settings of such groups.

import MillraceBase
import MillraceModel
import Testing

@testable import MillraceBroker

private struct Topics: GroupTopics {
  var counts: [String: Int32]

  func id(_ name: String) -> TopicID { TopicID(high: 1, low: UInt64(name.utf8.reduce(0) { $0 * 31 + Int($1) })) }
  func topic(_ name: String) -> (id: TopicID, partitions: Int32)? { counts[name].map { (id(name), $0) } }
  func partitions(of id: TopicID) -> Int32? { counts.first { self.id($0.key) == id }?.value }
  func names(matching pattern: String, for client: ClientIdentity?) -> [String] { [] }
}

private func at(_ seconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: seconds * 1_000_000_000) }
private let rules = ShareSettings.rules([:], BrokerSettings())

extension ShareGroup {
  fileprivate mutating func beat(
    _ id: String, _ epoch: Int32, _ names: [String]? = nil, _ topics: Topics, second: Int64 = 0
  ) throws -> ShareHeartbeatAnswer {
    try heartbeat(
      ShareHeartbeat(group: name, memberID: id, epoch: epoch, topics: names), topics: topics, rules: rules,
      now: at(second))
  }
}

@Test(
  "every partition of a subscribed topic is read by somebody, and every subscriber reads something", arguments: 0..<300)
func shareAssignmentCovers(seed: Int) throws {
  var random = SeededRandom(seed: UInt64(seed))
  let topics = Topics(
    counts: Dictionary(
      uniqueKeysWithValues: (0..<Int.random(in: 1...4, using: &random)).map {
        ("t\($0)", Int32.random(in: 1...6, using: &random))
      }))
  var group = ShareGroup(name: "g")
  var names: [String: [String]] = [:]
  for index in 0..<Int.random(in: 1...7, using: &random) {
    let chosen = topics.counts.keys.sorted().filter { _ in Bool.random(using: &random) } + ["missing"]
    names["m\(index)"] = chosen
    _ = try group.beat("m\(index)", 0, chosen, topics)
  }
  var told: [String: Set<TopicIDPartition>] = [:]
  for id in names.keys { told[id] = try group.beat(id, 0, names[id], topics).assignment }
  for (topic, count) in topics.counts {
    let subscribers = names.filter { $0.value.contains(topic) }.map(\.key)
    let of = { (id: String) in (told[id] ?? []).filter { $0.topic == topics.id(topic) }.map(\.partition) }
    let read = subscribers.flatMap { of($0) }
    if !subscribers.isEmpty { #expect(Set(read) == Set(0..<count)) }
    if subscribers.count >= Int(count) { #expect(subscribers.allSatisfy { of($0).count == 1 }) }
    // No more holders than are needed for both.
    #expect(read.count == (subscribers.isEmpty ? 0 : max(subscribers.count, Int(count))))
  }
}

@Test("a member is told its partitions when they change, and goes by the group's epoch")
func shareEpochs() throws {
  var topics = Topics(counts: ["t": 2])
  var group = ShareGroup(name: "g")
  let first = try group.beat("a", 0, ["t"], topics)
  #expect(first.epoch == 1 && first.assignment?.count == 2)
  #expect(try group.beat("a", 1, nil, topics).assignment == nil)
  #expect(try group.beat("b", 0, ["t"], topics).assignment?.count == 1)
  let moved = try group.beat("a", 1, nil, topics)
  #expect(moved.epoch == 2 && moved.assignment?.count == 1)
  // The answer may have been lost.
  #expect(try group.beat("a", 1, nil, topics).epoch == 2)
  topics.counts["t"] = 5
  group.topicsChanged(topics)
  #expect(try group.beat("a", 2, nil, topics).assignment?.count == 3)
  for epoch in [1, 4, 77] as [Int32] {
    #expect(throws: BrokerError.self) { try group.beat("a", epoch, nil, topics) }
  }
  _ = try group.beat("a", -1, nil, topics)
  #expect(try group.beat("b", 2, nil, topics).assignment?.count == 5)
  #expect(group.tick(at(44), topics: topics) == [])
  #expect(group.tick(at(45), topics: topics) == ["b"])
  #expect(group.state == .empty)
}

@Test("no more members than the settings allow")
func shareGroupSize() throws {
  let topics = Topics(counts: ["t": 1])
  var group = ShareGroup(name: "g")
  for index in 0..<200 { _ = try group.beat("m\(index)", 0, ["t"], topics) }
  #expect(throws: BrokerError.self) { try group.beat("one too many", 0, ["t"], topics) }
}

@Test("where a share group begins is read as ISO 8601 has durations, and nothing else is taken")
func shareStartTexts() {
  let good: [(String, ShareStart)] = [
    ("latest", .latest), ("earliest", .earliest), ("by_duration:PT1H30M", .by(.seconds(5400))),
    ("by_duration:P7D", .by(.seconds(604_800))), ("by_duration:P1DT0.25S", .by(.milliseconds(86_400_250))),
    ("by_duration:PT0S", .by(.zero)),
  ]
  for (text, start) in good { #expect(ShareStart(text) == start, "\(text)") }
  for text in [
    "", "none", "by_duration:", "by_duration:P", "by_duration:PT", "by_duration:1H", "by_duration:PT1D",
    "by_duration:PT1M1H", "by_duration:P1H", "by_duration:PT-1H", "by_duration:PT1.5H", "by_duration:PT1",
    "by_duration:P1DT",
    "by_duration:P999999999999D", "by_duration:PT99999999999999999999S", "by_duration:PT1.S", "by_duration:P1D1D",
  ] {
    #expect(ShareStart(text) == nil, "\(text)")
  }
}

@Test("a share group's own settings count within the broker's limits")
func shareSettings() throws {
  var broker = BrokerSettings()
  try broker.set("group.share.record.lock.duration.ms", "20000")
  #expect(broker.contradictions.isEmpty)
  #expect(ShareSettings.rules([:], broker).limits.lockDuration == .seconds(20))
  let own = ["share.record.lock.duration.ms": "16000", "share.delivery.count.limit": "2"]
  try GroupSettings.check(own, broker)
  #expect(ShareSettings.rules(own, broker).limits.lockDuration == .seconds(16))
  #expect(ShareSettings.rules(own, broker).limits.deliveries == 2)
  #expect(ShareSettings.rules(["share.record.lock.duration.ms": "1"], broker).limits.lockDuration == .seconds(15))
  for bad in [
    ["share.record.lock.duration.ms": "14999"], ["share.auto.offset.reset": "sometimes"],
    ["share.session.timeout.ms": "60001"], ["share.heartbeat.interval.ms": "4999"],
  ] {
    #expect(throws: BrokerError.self, "\(bad)") { try GroupSettings.check(bad, broker) }
  }
  try broker.set("group.share.record.lock.duration.ms", "1000")
  #expect(throws: BrokerError.self) { try broker.checkTogether() }
}
