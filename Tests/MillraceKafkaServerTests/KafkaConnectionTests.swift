// KafkaConnectionTests: order of answers, frames, back-pressure and ends of a connection.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel
import Testing

@testable import MillraceKafkaServer

private func fetch(_ wait: Int32 = 0, offset: Int64 = 0, session: (Int32, Int32) = (0, -1)) -> FetchRequest {
  var request = FetchRequest()
  request.maxWaitMilliseconds = wait
  request.minBytes = 1
  request.sessionID = session.0
  request.sessionEpoch = session.1
  request.topics = [
    .init(topic: "t", partitions: [.init(partition: 0, fetchOffset: offset, partitionMaxBytes: 1 << 20)])
  ]
  return request
}

@Test("answers leave in the order of the requests, however their handlers finish")
func orderOfAnswers() throws {
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  connection.receive(
    frame(produce(), 9, 1) + frame(ApiVersionsRequest(), 0, 2) + frame(fetch(500, offset: 1), 11, 3)
      + frame(HeartbeatRequest(), 0, 4))
  #expect(connection.answers.ids == [], "ApiVersions and Heartbeat are ready, but the produce request came first")
  try world.wait(connection, answers: 4)
  #expect(connection.answers.ids == [1, 2, 3, 4])
}

@Test("a request that comes byte by byte is answered like any other")
func byteByByte() throws {
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  connection.receive(frame(produce(300), 9, 1) + frame(ApiVersionsRequest(), 3, 2), piecewise: true)
  try world.wait(connection, answers: 2)
  #expect(connection.answers.ids == [1, 2] && connection.unreadBytes == 0)
}

@Test(
  "a frame of a size that cannot be, or a request that cannot be read, closes the connection",
  arguments: [
    [0, 0, 0, 0], [0, 0, 0, 7], [0xff, 0xff, 0xff, 0xff], [0x80, 0, 0, 0], [0x06, 0x40, 0, 1],
    [0, 0, 0, 8, 0, 18, 0, 0, 0, 0, 0, 1],
    // API 777; Metadata version 99; a client id that ends behind the frame.
    [0, 0, 0, 10, 3, 9, 0, 0, 0, 0, 0, 1, 0xff, 0xff], [0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff],
    [0, 0, 0, 10, 0, 3, 0, 0, 0, 0, 0, 1, 0x7f, 0xff],
  ] as [[UInt8]])
func badFrames(_ bytes: [UInt8]) throws {
  let world = try ServerWorld()
  let (connection, handler) = world.connect()
  connection.receive(frame(produce(), 9, 1) + bytes + frame(ApiVersionsRequest(), 0, 2))
  #expect(connection.isClosing)
  world.world.run(for: .seconds(1))
  #expect(connection.answers.ids == [] && connection.lateWrites == 0, "what is answered later goes nowhere")
  handler.connectionClosed(nil)
  #expect(world.server.budget.held == 0)
}

@Test(
  "an API that is advertised is answered, and one without a handler closes the connection", arguments: APIKey.allCases)
func servedAPIs(_ api: APIKey) throws {
  func request<Request: KafkaRequest>(_ type: Request.Type) throws -> [UInt8] {
    // All strings and arrays are empty: their length is 0, or 1 where lengths are compact.
    let version = api.supportedVersions.lowerBound
    var reader = ByteReader(Bytes([UInt8](repeating: api.isFlexible(version) ? 1 : 0, count: 64)))
    let request = try Request(from: &reader, version: version)
    if var produce = request as? ProduceRequest {
      produce.acks = -1
      return frame(produce, version, 7)
    }
    return frame(request, version, 7)
  }
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  connection.receive(try request(api.requestType))
  // Where nobody has to say who they are, a handshake is answered, and the end.
  let isOutOfPlace = api == .saslHandshake || api == .saslAuthenticate
  #expect(connection.isClosing == (APIKey.unserved.contains(api) || isOutOfPlace))
  #expect(connection.answers.ids == (APIKey.unserved.contains(api) ? [] : [7]) || !isOutOfPlace)
}

@Test("ApiVersions in a version of the future is answered in version 0 with error 35")
func futureApiVersions() throws {
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  connection.receive([0, 0, 0, 10, 0, 18, 0, 99, 0, 0, 0, 5, 0xff, 0xff])
  let answer = try connection.last(ApiVersionsRequest.self, 0)
  #expect(answer.errorCode == .unsupportedVersion && !connection.isClosing && connection.answers.ids == [5])
}

@Test("acks=0 gets no answer, and a failure closes the connection")
func withoutAcknowledgement() throws {
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  connection.receive(frame(produce(acks: 0), 9, 1) + frame(produce(), 9, 2))
  try world.wait(connection, answers: 1)
  #expect(connection.answers.ids == [2])
  #expect(try connection.last(ProduceRequest.self, 9).responses[0].partitionResponses[0].baseOffset == 1)
  connection.receive(frame(produce(acks: 0, topic: "none"), 9, 3))
  #expect(connection.isClosing)
}

@Test("a second fetch waits for the first, and nothing is read meanwhile")
func postponedFetch() throws {
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  connection.receive(frame(fetch(300), 11, 1) + frame(fetch(300), 11, 2) + frame(ApiVersionsRequest(), 0, 3))
  #expect(!connection.isReading && connection.unreadBytes > 0)
  try world.wait(connection, answers: 2)
  #expect(connection.isReading)
  connection.offer()
  try world.wait(connection, answers: 3)
  #expect(connection.answers.ids == [1, 2, 3])
}

@Test("a connection that is gone is forgotten although its fetch would have waited for weeks")
func closedWhileFetching() throws {
  let world = try ServerWorld()
  weak var gone: KafkaConnection?
  do {
    let (connection, handler) = world.connect()
    gone = handler
    connection.receive(frame(produce(), 9, 1))
    try world.wait(connection, answers: 1)
    connection.receive(frame(fetch(.max, offset: 1), 11, 2))
    handler.connectionClosed(nil)
    connection.handler = nil
    world.world.run(for: .seconds(1))
    #expect(connection.answers.ids == [1])
  }
  #expect(gone == nil, "somebody holds on to the connection")
  #expect(world.server.budget.held == 0)
}

@Test("what a client asked for before it went is done, and answered to nobody")
func closedWhileProducing() throws {
  let world = try ServerWorld()
  weak var gone: KafkaConnection?
  do {
    let (connection, handler) = world.connect()
    gone = handler
    connection.receive(frame(produce(), 9, 1) + frame(produce(acks: 0), 9, 2) + frame(ApiVersionsRequest(), 0, 3))
    handler.connectionClosed(nil)
    connection.handler = nil
    world.world.run(for: .seconds(1))
    #expect(connection.answers.ids == [])
  }
  #expect(gone == nil, "somebody holds on to the connection")
  #expect(world.server.budget.held == 0)
  let (connection, _) = world.connect()
  connection.receive(frame(produce(), 9, 1))
  try world.wait(connection, answers: 1)
  #expect(try connection.last(ProduceRequest.self, 9).responses[0].partitionResponses[0].baseOffset == 2)
}

@Test("output that leaves without a wait is not counted for good, and reading goes on")
func unsentIsCountedAgain() throws {
  let world = try ServerWorld()
  let (connection, handler) = world.connect()
  connection.receive(frame(produce(100_000), 9, 1))
  try world.wait(connection, answers: 1)
  connection.flush()
  // Others hold all there is, so this one may leave 64 KiB unsent.
  let others = world.server.budget.size
  world.server.budget.change(by: others)
  connection.receive(frame(fetch(), 11, 2))
  #expect(connection.answers.ids == [1, 2] && connection.pendingWriteBytes > 100_000)
  #expect(!connection.isReading)
  connection.flush()
  world.world.run(for: .milliseconds(10))
  #expect(connection.isReading, "nothing else would ever wake it")
  #expect(world.server.budget.held == others)
  handler.connectionClosed(nil)
}

@Test("a client that does not read is not read from, until it has read")
func slowReader() throws {
  let world = try ServerWorld()
  let (connection, handler) = world.connect()
  connection.receive(frame(produce(900_000), 9, 1))
  try world.wait(connection, answers: 1)
  var number: Int32 = 2
  while connection.isReading, number < 100 {
    connection.receive(frame(fetch(), 11, number))
    number += 1
    world.world.run(for: .milliseconds(1))
  }
  #expect(!connection.isReading && (16...20).contains(connection.pendingWriteBytes >> 20))
  #expect(world.server.budget.held == connection.pendingWriteBytes)
  connection.flush()
  handler.connectionDrained()
  #expect(connection.isReading && world.server.budget.held == 0)
}

@Test("while the journal is full a producer is read no further, and goes on when there is room")
func congestion() throws {
  let world = try ServerWorld {
    $0.journalFileSize = 1 << 20
    $0.journalFileLimit = 3
  }
  let (connection, _) = world.connect()
  var sent: Int32 = 0
  while connection.isReading, sent < 200 {
    sent += 1
    connection.receive(frame(produce(100_000), 9, sent))
  }
  #expect(world.broker.isCongested && !connection.isReading)
  #expect(sent < 60, "\(sent) requests of 100 kB were read beside a journal of 3 MiB")
  try world.wait(connection, answers: Int(sent))
  #expect(connection.answers.ids == Array(1...sent) && connection.isReading)
}

@Test("tens of thousands of requests that come at once are served a thousand at a time, in order")
func manyAtOnce() throws {
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  var burst: [UInt8] = []
  for number in 1...2500 { burst += frame(HeartbeatRequest(), 0, Int32(number)) }
  connection.receive(burst)
  #expect(connection.answers.ids.count == 1000 && !connection.isReading)
  for served in [2000, 2500] {
    try #require(world.world.run { connection.isReading })
    connection.offer()
    #expect(connection.answers.ids.count == served)
  }
  #expect(connection.answers.ids == Array(1...2500) && connection.isReading)
}

@Test("large answers to small requests that come at once are made a few at a time")
func largeAnswersAtOnce() throws {
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  connection.receive(frame(produce(300_000), 9, 1))
  try world.wait(connection, answers: 1)
  var burst: [UInt8] = []
  for number in 2...11 { burst += frame(fetch(), 11, Int32(number)) }
  connection.receive(burst)
  #expect(connection.answers.ids.count == 5 && !connection.isReading, "four are more than 1 MiB")
  for served in [9, 11] {
    try #require(world.world.run { connection.isReading })
    connection.offer()
    #expect(connection.answers.ids.count == served)
  }
}

@Test("an incremental fetch tells only what has changed, and begins anew for a topic that was created again")
func sessionAnswers() throws {
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  func next(_ request: FetchRequest, _ number: Int) throws -> FetchResponse {
    connection.receive(frame(request, 11, Int32(number)))
    try world.wait(connection, answers: number)
    return try connection.last(FetchRequest.self, 11)
  }
  connection.receive(frame(produce(), 9, 1))
  try world.wait(connection, answers: 1)
  let first = try next(fetch(session: (0, 0)), 2)
  #expect(first.sessionID > 0 && first.responses.first?.partitions.first?.highWatermark == 1)
  #expect(try next(fetch(10, offset: 1, session: (first.sessionID, 1)), 3).responses.isEmpty)
  #expect(try next(fetch(session: (first.sessionID, 1)), 4).errorCode == .invalidFetchSessionEpoch)
  try world.deleteTopic()
  let gone = try next(fetch(10, offset: 1, session: (first.sessionID, 2)), 5)
  #expect(gone.responses.first?.partitions.first?.errorCode == .unknownTopicOrPartition)
  try world.createTopic()
  let beyond = try next(fetch(10, offset: 1, session: (first.sessionID, 3)), 6)
  #expect(beyond.responses.first?.partitions.first?.errorCode == .offsetOutOfRange)
  let anew = try next(fetch(10, offset: 0, session: (first.sessionID, 4)), 7)
  #expect(anew.responses.first?.partitions.first?.highWatermark == 0, "news again, now that the error is over")
  #expect(try next(fetch(10, offset: 0, session: (first.sessionID, 5)), 8).responses.isEmpty)
}

@Test("of a request that has begun the rest is awaited, and behind it each byte counts")
func awaitedRequest() throws {
  let world = try ServerWorld()
  let (connection, _) = world.connect()
  connection.receive([0, 4, 0, 0] + [UInt8](repeating: 0, count: 100))
  #expect(connection.lacking == (4 << 16) - 100 && !connection.isClosing)
  let (other, _) = world.connect()
  other.receive([0, 0])
  #expect(other.lacking == 0)
}
