// GroupConsumerTests: members of a group inside this process: sharing, handing over, committing, leaving.

import Foundation
import Millrace
import Synchronization
import Testing

/// A topic whose records are numbered, and what consumers got of them.
private final class Numbers: Sendable {
  struct Got: Sendable {
    let member: String
    let partition: Int32
    let offset: Offset
    let number: Int
  }

  static let partitions = 4
  let broker: EmbeddedBroker
  private let arrivals = InProcessQueue<Got>(capacity: 100_000)
  private let state = Mutex((sent: 0, got: [Got]()))

  init(_ broker: EmbeddedBroker) async throws {
    self.broker = broker
    try await broker.createTopic("t", partitions: Numbers.partitions)
  }

  /// A member that reports what it gets, until its task is cancelled.
  func member(_ name: String) -> Task<Void, any Error> {
    Task {
      for try await record in broker.consume("t", group: "g") {
        guard let number = Int(record.text) else { throw MillraceError(.corrupt, record.text) }
        try await arrivals.send(
          Got(member: name, partition: record.partition, offset: record.offset, number: number))
      }
    }
  }

  /// Sends one record into each partition and waits until as many have arrived, at whatever member.
  @discardableResult
  func round() async throws -> [Got] {
    for partition in 0..<Int32(Numbers.partitions) {
      let number = state.withLock { state in
        defer { state.sent += 1 }
        return state.sent
      }
      try await broker.produce([record("\(number)")], to: "t", partition: partition)
    }
    var part: [Got] = []
    while part.count < Numbers.partitions { part.append(try await arrivals.receive()!) }
    let arrived = part
    state.withLock { $0.got += arrived }
    return part
  }

  /// Rounds until one satisfies `condition`.
  func rounds(until condition: ([Got]) -> Bool) async throws {
    for _ in 0..<100_000 where condition(try await round()) { return }
    Issue.record("it never came to pass")
  }

  /// Every number arrived exactly once, and each partition in order.
  func expectExact(sourceLocation: SourceLocation = #_sourceLocation) {
    let (sent, got) = state.withLock { ($0.sent, $0.got) }
    #expect(got.map(\.number).sorted() == Array(0..<sent), sourceLocation: sourceLocation)
    for partition in 0..<Int32(Numbers.partitions) {
      let offsets = got.filter { $0.partition == partition }.map(\.offset)
      #expect(offsets == offsets.sorted(), "partition \(partition)", sourceLocation: sourceLocation)
    }
  }
}

private func members(_ got: [Numbers.Got]) -> Set<String> { Set(got.map(\.member)) }

@Suite("a group inside a program")
struct GroupConsumerTests {
  @Test("a lone member gets everything, commits it at its end, and the next one goes on behind it")
  func loneMember() async throws {
    try await withBroker { broker in
      try await broker.createTopic("t", partitions: 3)
      try await broker.produce((0..<30).map { record("\($0)", key: "\($0)") }, to: "t")
      #expect(try await values(broker, "t", group: "g").count == 30)
      let ends = try await broker.offsets(of: "t").map(\.upperBound)
      let committed = try await broker.committedOffsets(of: "g", topic: "t")
      #expect(committed == Dictionary(uniqueKeysWithValues: ends.enumerated().map { (Int32($0.offset), $0.element) }))
      #expect(try await values(broker, "t", group: "g") == [])
      try await broker.produce([record("more")], to: "t")
      #expect(try await values(broker, "t", group: "g") == ["more"])
    }
  }

  @Test("members share the partitions as they come and go, and every record reaches exactly one, in order")
  func handsOver() async throws {
    try await withBroker { broker in
      let numbers = try await Numbers(broker)
      let first = numbers.member("first")
      try await numbers.rounds { members($0) == ["first"] }
      let second = numbers.member("second")
      try await numbers.rounds { members($0) == ["first", "second"] }
      let third = numbers.member("third")
      try await numbers.rounds { members($0) == ["first", "second", "third"] }
      first.cancel()
      try await first.value
      try await numbers.rounds { members($0) == ["second", "third"] }
      second.cancel()
      try await second.value
      try await numbers.rounds { members($0) == ["third"] }
      third.cancel()
      try await third.value
      numbers.expectExact()
      let ends = try await broker.offsets(of: "t").map(\.upperBound)
      for (partition, offset) in try await broker.committedOffsets(of: "g", topic: "t") {
        #expect(offset == ends[Int(partition)])
      }
    }
  }

  @Test("a loop left by break gives its partitions up at once, and only the record it had comes again")
  func breaksOff() async throws {
    try await withBroker { broker in
      try await broker.createTopic("t", partitions: 1)
      try await broker.produce((0..<10).map { record("\($0)") }, to: "t")
      var seen: [String] = []
      for try await record in broker.consume("t", group: "g") {
        seen.append(record.text)
        if seen.count == 4 { break }
      }
      #expect(seen == ["0", "1", "2", "3"])
      #expect(try await values(broker, "t", group: "g") == (3..<10).map { "\($0)" })
    }
  }

  @Test("committing by hand commits what the loop says and nothing else")
  func commitsByHand() async throws {
    try await withBroker { broker in
      try await broker.createTopic("t", partitions: 1)
      try await broker.produce((0..<10).map { record("\($0)") }, to: "t")
      let records = broker.consume("t", group: "g", until: .currentEnd, commits: .byHand)
      for try await record in records where record.text == "5" { try await records.commit(record) }
      #expect(try await broker.committedOffsets(of: "g", topic: "t") == [0: 6])
      var again = broker.consume("t", group: "g", until: .currentEnd, commits: .byHand).makeAsyncIterator()
      #expect(try await again.nextBatch()?.map(\.text) == (6..<10).map { "\($0)" })
      #expect(try await again.next() == nil)
      #expect(try await broker.committedOffsets(of: "g", topic: "t") == [0: 6])
    }
  }

  @Test("a record cannot be committed once its partition was given to another member")
  func refusesLateCommits() async throws {
    try await withBroker { broker in
      try await broker.createTopic("t", partitions: 2)
      for partition in Int32(0)..<2 { try await broker.produce([record("early")], to: "t", partition: partition) }
      let records = broker.consume("t", group: "g", commits: .byHand)
      var iterator = records.makeAsyncIterator()
      var held: [ConsumedRecord] = []
      for _ in 0..<2 { held.append(try #require(try await iterator.next())) }
      // Both partitions are held; another member takes one of them, which the first finds out when it asks again.
      let others = InProcessQueue<Int32>(capacity: 100)
      let other = Task {
        for try await record in broker.consume("t", group: "g", from: .latest) {
          try await others.send(record.partition)
        }
      }
      var taken: Int32?
      while taken == nil {
        for partition in Int32(0)..<2 { try await broker.produce([record("late")], to: "t", partition: partition) }
        _ = try await iterator.next()
        taken = others.tryReceive()
      }
      for record in held where record.partition == taken {
        await expectError(.rebalanced) { try await records.commit(record) }
      }
      for record in held where record.partition != taken { try await records.commit(record) }
      // Only the members may commit.
      await expectError(.groupInUse) { try await broker.commit(held, group: "g") }
      other.cancel()
      try await other.value
    }
  }

  @Test("with partitions of its own a consumer begins at the group's commits and joins nothing")
  func assignedByHand() async throws {
    try await withBroker { broker in
      try await broker.createTopic("t", partitions: 2)
      for number in 0..<4 { try await broker.produce([record("\(number)")], to: "t", partition: 1) }
      let records = broker.consume("t", partitions: [1], group: "g", until: .currentEnd)
      for try await record in records where record.text == "1" { try await records.commit(record) }
      #expect(try await broker.committedOffsets(of: "g", topic: "t") == [1: 2])
      var rest: [String] = []
      for try await record in broker.consume("t", partitions: [1], group: "g", until: .currentEnd) {
        rest.append(record.text)
      }
      #expect(rest == ["2", "3"])
    }
  }

  @Test("more members than partitions: who has none waits, and takes over when its turn comes")
  func spareMember() async throws {
    try await withBroker { broker in
      try await broker.createTopic("t", partitions: 1)
      let seen = InProcessQueue<String>(capacity: 1000)
      let consume = { (name: String) in
        Task {
          for try await record in broker.consume("t", group: "g") { try await seen.send("\(name) \(record.text)") }
        }
      }
      let tasks = ["a": consume("a"), "b": consume("b")]
      try await broker.produce([record("0")], to: "t")
      let first = try #require(try await seen.receive())
      let holder = String(first.prefix(1))
      tasks[holder]?.cancel()
      try await tasks[holder]?.value
      try await broker.produce([record("1")], to: "t")
      #expect(try await seen.receive() == (holder == "a" ? "b 1" : "a 1"))
      for task in tasks.values { task.cancel() }
      for task in tasks.values { try await task.value }
    }
  }

  @Test("a member that waits learns that the broker is closed")
  func endsWithBroker() async throws {
    try await inTemporaryDirectory { directory in
      let broker = try await EmbeddedBroker.open(directory: directory)
      try await broker.produce([record("only")], to: "t")
      let started = InProcessQueue<Int>(capacity: 1)
      let consumer = Task { for try await _ in broker.consume("t", group: "g") { try await started.send(1) } }
      _ = try await started.receive()
      try await broker.close()
      await expectError(.closed) { try await consumer.value }
    }
  }
}
