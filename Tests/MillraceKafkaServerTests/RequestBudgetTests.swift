// RequestBudgetTests: what requests of all connections may hold together, and who has to wait, or to go.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceLog
import Testing

@testable import MillraceKafkaServer

private func at(_ seconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: seconds * 1_000_000_000) }

@Test("a budget is spent when it is full, and free again once a quarter of it is")
func budgetHysteresis() {
  var budget = RequestBudget(size: 100 << 20)
  #expect(!budget.change(by: 99 << 20) && !budget.isSpent)
  #expect(budget.openings == 1)
  #expect(budget.change(by: 1 << 20) && budget.isSpent)
  #expect(budget.openings == 0)
  #expect(!budget.change(by: -(24 << 20)) && budget.isSpent)
  #expect(budget.change(by: -(2 << 20)) && !budget.isSpent)
  #expect(budget.openings == 26)
}

@Test("unfinished requests are given up oldest first, after their time, and no more of them than needed")
func budgetExpiry() {
  var budget = RequestBudget(size: 100)
  let unfinished: [(connection: UInt64, since: MonotonicTime, bytes: Int)] = [
    (1, at(30), 40), (2, at(20), 40), (3, at(25), 30),
  ]
  _ = budget.change(by: 90)
  #expect(budget.expired(unfinished, now: at(1000)) == [], "nobody has to go while there is room")
  _ = budget.change(by: 20)
  #expect(budget.expired(unfinished, now: at(29)) == [])
  #expect(budget.expired(unfinished, now: at(30)) == [2])
  // Without 2 and 3, 40 of 100 are held: enough is free.
  #expect(budget.expired(unfinished, now: at(1000)) == [2, 3])
}

@Test(
  "connections with large requests wait while others hold the budget, small requests pass, and all go on when it is free"
)
func connectionsShareTheBudget() throws {
  var settings = BrokerSettings()
  try settings.set("queued.max.request.bytes", "1048576")
  let world = try ServerWorld(settings: settings)
  let large = frame(produce(650_000), 9, 1)
  let first = world.connect()
  let second = world.connect()
  first.0.receive(Array(large.dropLast(100_000)))
  #expect(first.0.isReading, "there is room")
  second.0.receive(Array(large.dropLast(100_000)))
  #expect(world.server.requestBudget.isSpent)
  #expect(!second.0.isReading)
  let third = world.connect()
  third.0.receive(frame(ApiVersionsRequest(), 3, 7))
  try world.wait(third.0, answers: 1)
  #expect(third.0.isReading)
  third.0.receive(Array(large.prefix(70_000)))
  #expect(!third.0.isReading)
  // The first one goes; the others read on and are answered.
  first.1.connectionClosed(nil)
  try #require(world.world.run { second.0.isReading && third.0.isReading })
  second.0.receive(Array(large.suffix(100_000)))
  try world.wait(second.0, answers: 1)
  third.0.receive(Array(large.dropFirst(70_000)))
  try world.wait(third.0, answers: 2)
  #expect(world.server.requestBudget.held == 0)
}

@Test("what a client has sent counts until the broker has let it go, although the client went before")
func budgetIsGivenBackByTheBroker() throws {
  let world = try ServerWorld()
  let (connection, handler) = world.connect()
  connection.receive(frame(produce(200_000), 9, 1) + frame(produce(200_000), 9, 2).dropLast(50_000))
  #expect(world.server.requestBudget.held > 300_000)
  handler.connectionClosed(nil)
  #expect((200_000..<201_000).contains(world.server.requestBudget.held), "the broker holds the whole one")
  world.world.run(for: .seconds(1))
  #expect(world.server.requestBudget.held == 0)
}

/// A fetch that waits, with a name that makes it large.
private func largeFetch(_ wait: Int32) -> FetchRequest {
  var request = FetchRequest()
  request.maxWaitMilliseconds = wait
  request.minBytes = 1
  request.sessionEpoch = -1
  request.topics = [
    .init(
      topic: "t",
      partitions: (0..<3000).map { _ in .init(partition: 1, fetchOffset: 0, partitionMaxBytes: 1 << 20) })
  ]
  return request
}

@Test("what is answered counts no more, although its answer waits for that of an earlier request")
func answeredRequestsDoNotCount() throws {
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  var poll = FetchRequest()
  poll.maxWaitMilliseconds = 60_000
  poll.minBytes = 1
  poll.sessionEpoch = -1
  poll.topics = [.init(topic: "t", partitions: [.init(partition: 1, fetchOffset: 0, partitionMaxBytes: 1 << 20)])]
  connection.receive(frame(poll, 11, 1) + frame(produce(200_000, topic: "none"), 9, 2))
  world.world.run(for: .seconds(1))
  #expect(connection.answers.ids == [] && connection.isReading)
  #expect(world.server.requestBudget.held < 1000)
}

@Test("a fetch that waits for the one before it counts, and is given back with its connection")
func postponedFetchCounts() throws {
  let world = try ServerWorld()
  let (connection, handler) = world.connect()
  let bytes = frame(largeFetch(60_000), 11, 1)
  connection.receive(bytes)
  let one = world.server.requestBudget.held
  #expect(one == bytes.count - 4)
  connection.receive(frame(largeFetch(60_000), 11, 2))
  #expect(!connection.isReading && world.server.requestBudget.held == 2 * one)
  handler.connectionClosed(nil)
  #expect(world.server.requestBudget.held == 0)
}

/// A server whose requests may hold so many MiB.
private func smallWorld(
  _ size: Int = 1, _ configure: (inout LogConfiguration) -> Void = { _ in }
) throws -> ServerWorld {
  var settings = BrokerSettings()
  try settings.set("queued.max.request.bytes", "\(size << 20)")
  return try ServerWorld(settings: settings, configure)
}

/// A client that sends a part of a request that alone would fill the budget, and no more.
private func spendBudget(_ world: ServerWorld) -> PlayedConnection {
  let connection = world.accept()
  connection.receive(Array(frame(produce(1_200_000), 9, 1).dropLast(50_000)))
  #expect(world.server.requestBudget.isSpent)
  return connection
}

@Test("whole requests are served although the budget is spent, since only that gives it back")
func wholeRequestsAreServed() throws {
  let world = try smallWorld()
  let other = spendBudget(world)
  let connection = world.accept()
  connection.receive(frame(produce(100_000), 9, 1) + frame(produce(100_000), 9, 2))
  #expect(connection.unreadBytes == 0)
  try world.wait(connection, answers: 2)
  #expect(!other.isClosing)
}

@Test("whole requests that have to wait for a quota are not given up as unfinished; a torn one is")
func mutedRequestsAreKept() throws {
  let world = try smallWorld()
  let admin = AdminClient(world)
  let answer = try admin.ask(
    AlterClientQuotasRequest(
      entries: [
        .init(
          entity: [.init(entityType: "client-id", entityName: "test")],
          ops: [.init(key: "producer_byte_rate", value: 5000)])
      ]))
  try #require(answer.entries[0].errorCode == .none)
  let connection = world.accept()
  connection.receive(frame(produce(100_000), 9, 1) + frame(produce(90_000), 9, 2))
  #expect(!connection.isReading && connection.unreadBytes > 90_000)
  let other = spendBudget(world)
  world.world.run(for: .seconds(12))
  #expect(other.isClosing && !connection.isClosing)
  try #require(world.world.run { connection.isReading })
  connection.offer()
  try world.wait(connection, answers: 2)
}

@Test("a long poll ends when others wait for the memory of requests behind it, and these are answered")
func longPollGivesWay() throws {
  let world = try smallWorld()
  let connection = world.accept()
  connection.receive(
    frame(largeFetch(.max), 11, 1) + frame(largeFetch(0), 11, 2) + frame(produce(90_000), 9, 3))
  #expect(!connection.isReading && connection.unreadBytes > 90_000)
  let other = spendBudget(world)
  world.world.run(for: .seconds(12))
  #expect(connection.isReading && connection.answers.ids == [1, 2])
  connection.offer()
  try world.wait(connection, answers: 3)
  #expect(!connection.isClosing && other.isClosing)
}

@Test("requests behind answers that nobody reads are given up when others wait for their memory")
func unreadAnswersGiveWay() throws {
  let world = try smallWorld()
  let connection = world.accept()
  connection.receive(frame(produce(900_000), 9, 1))
  try world.wait(connection, answers: 1)
  var request = largeFetch(0)
  request.topics = [.init(topic: "t", partitions: [.init(partition: 0, fetchOffset: 0, partitionMaxBytes: 1 << 20)])]
  var burst: [UInt8] = []
  for number in 2..<30 { burst += frame(request, 11, Int32(number)) }
  connection.receive(burst + frame(produce(90_000), 9, 30))
  for _ in 0..<20 {
    world.world.run(for: .milliseconds(1))
    connection.offer()
  }
  #expect(!connection.isReading && connection.unreadBytes > 90_000 && connection.pendingWriteBytes >= 16 << 20)
  _ = spendBudget(world)
  world.world.run(for: .seconds(12))
  #expect(connection.isClosing)
}

@Test("clients that send a little and go, again and again, while the journal is full, do not fill the memory")
func goneClientsAreBounded() throws {
  let world = try smallWorld(4) {
    $0.journalFileSize = 1 << 20
    $0.journalFileLimit = 3
  }
  var sent = 0
  var last: PlayedConnection?
  while sent < 400 {
    let connection = world.accept()
    guard connection.isReading else {
      last = connection
      break
    }
    connection.receive(frame(produce(60_000), 9, 1))
    sent += 1
    connection.handler?.connectionClosed(nil)
    connection.handler = nil
  }
  #expect(world.broker.isCongested && (8 << 20..<8 << 20 + 100_000).contains(world.server.requestBudget.held))
  let waiting = try #require(last, "everybody was read from")
  try #require(world.world.run { waiting.isReading })
  waiting.receive(frame(produce(60_000), 9, 1))
  try world.wait(waiting, answers: 1)
  #expect(world.server.requestBudget.held == 0)
}
