// RequestBudgetTests: what requests of all connections may hold together, and who has to wait, or to go.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
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

@Test("everything that was counted for a connection is given back when it closes, whatever it was doing")
func budgetIsGivenBack() throws {
  let world = try ServerWorld()
  let (connection, handler) = world.connect()
  connection.receive(frame(produce(200_000), 9, 1) + frame(produce(200_000), 9, 2).dropLast(50_000))
  #expect(world.server.requestBudget.held > 300_000)
  handler.connectionClosed(nil)
  #expect(world.server.requestBudget.held == 0)
  world.world.run(for: .seconds(1))
  #expect(world.server.requestBudget.held == 0)
}
