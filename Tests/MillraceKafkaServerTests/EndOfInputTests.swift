// EndOfInputTests: a client that sends no more gets what it asked for, and is kept no longer than that takes; nor is one that
// does nothing.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import Testing

@testable import MillraceKafkaServer

/// A fetch of records that are not there, which waits for them.
private func longPoll(_ wait: Int32 = .max) -> FetchRequest {
  var request = FetchRequest()
  request.maxWaitMilliseconds = wait
  request.minBytes = 1
  request.sessionEpoch = -1
  request.topics = [.init(topic: "t", partitions: [.init(partition: 1, fetchOffset: 0, partitionMaxBytes: 1 << 20)])]
  return request
}

@Test("what was asked for before the client's end is answered, then the connection closes")
func answersAfterTheEnd() throws {
  let world = try ServerWorld()
  let (connection, handler) = world.connect()
  connection.receive(frame(produce(), 9, 1) + frame(ApiVersionsRequest(), 0, 2))
  connection.end()
  #expect(!connection.isClosing && connection.answers.ids == [], "the record is not durable yet")
  try #require(world.world.run { connection.isClosing })
  #expect(connection.answers.ids == [1, 2] && connection.lateWrites == 0)
  handler.connectionClosed(nil)
  #expect(world.server.requestBudget.held == 0 && world.server.budget.held == 0)
}

@Test("a client that ends with nothing to come, or in the middle of a request, is let go at once")
func nothingAfterTheEnd() throws {
  let world = try ServerWorld()
  for bytes in [[], Array(frame(produce(), 9, 1).dropLast(3)), [0, 0]] as [[UInt8]] {
    let (connection, _) = world.connect()
    connection.receive(bytes)
    connection.end()
    #expect(connection.isClosing)
  }
}

@Test("a long poll ends when its client sends no more, and so does one that waited behind it")
func longPollsEnd() throws {
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  connection.receive(frame(longPoll(), 11, 1) + frame(longPoll(), 11, 2) + frame(ApiVersionsRequest(), 0, 3))
  let began = world.world.now
  try #require(!connection.isReading && connection.answers.ids == [])
  connection.end()
  world.world.run(for: .milliseconds(10))
  connection.end()
  try #require(world.world.run { connection.isClosing })
  #expect(connection.answers.ids == [1, 2, 3] && world.world.now - began < .seconds(1))
}

@Test("a long poll lasts five minutes at most")
func longestLongPoll() throws {
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  connection.receive(frame(longPoll(), 11, 1))
  world.world.run(for: .seconds(299))
  #expect(connection.answers.ids == [])
  world.world.run(for: .seconds(2))
  #expect(connection.answers.ids == [1] && !connection.isClosing)
}

@Test("a client that sends no more is not kept for what only others can end")
func farewell() throws {
  var settings = BrokerSettings()
  try settings.set("group.initial.rebalance.delay.ms", "300000")
  let world = try ServerWorld(settings: settings)
  let (staying, gone) = (world.accept(), world.accept())
  for (index, connection) in [staying, gone].enumerated() {
    connection.receive(
      frame(
        JoinGroupRequest(
          groupID: "g\(index)", sessionTimeoutMilliseconds: 600_000, rebalanceTimeoutMilliseconds: 600_000,
          protocolType: "consumer", protocols: [.init(name: "range", metadata: Bytes([0, 0, 0, 0, 0, 0]))]), 3, 1))
  }
  world.world.run(for: .seconds(1))
  #expect(gone.answers.ids == [])
  gone.end()
  world.world.run(for: .seconds(30))
  #expect(!gone.isClosing)
  world.world.run(for: .seconds(100))
  #expect(gone.isClosing && !staying.isClosing)
}

@Test("a connection that is not used is closed after its time, one that asks or waits for an answer is not")
func idleConnections() throws {
  var settings = BrokerSettings()
  try settings.set("connections.max.idle.ms", "5000")
  let world = try ServerWorld(settings: settings)
  let (silent, busy, waiting, torn) = (world.accept(), world.accept(), world.accept(), world.accept())
  waiting.receive(frame(longPoll(20_000), 11, 1))
  torn.receive([0, 0])
  for second in 1...14 {
    if second % 3 == 0 { busy.receive(frame(HeartbeatRequest(), 0, Int32(second))) }
    world.world.run(for: .seconds(1))
    if second == 4 { #expect(!silent.isClosing && !torn.isClosing) }
    if second == 8 { #expect(silent.isClosing && torn.isClosing) }
  }
  #expect(!busy.isClosing && !waiting.isClosing)
  busy.flush()
  try world.wait(waiting, answers: 1)
  waiting.flush()
  world.world.run(for: .seconds(4))
  #expect(busy.isClosing && !waiting.isClosing)
  world.world.run(for: .seconds(5))
  #expect(waiting.isClosing)
}

@Test("a client that does not read its answers is let go after the same time, one that reads them slowly is not")
func idleReaders() throws {
  var settings = BrokerSettings()
  try settings.set("connections.max.idle.ms", "5000")
  let world = try ServerWorld(settings: settings)
  let (stuck, slow) = (world.accept(), world.accept())
  for connection in [stuck, slow] { connection.receive(frame(ApiVersionsRequest(), 0, 1)) }
  for _ in 1...8 {
    slow.flushOne()
    world.world.run(for: .seconds(1))
  }
  #expect(stuck.isClosing && !slow.isClosing && slow.pendingWriteBytes > 0)
}
