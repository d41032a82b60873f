// EndOfInputTests: a client that sends no more gets what it asked for, and is kept no longer than that takes.

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
