// QuotaTests: quotas set over the wire slow their clients down, and nobody else, in virtual time.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel
import Testing

@testable import MillraceKafkaServer

extension AdminClient {
  fileprivate func quota(
    _ entity: [(String, String?)], _ ops: [(String, Double?)], validateOnly: Bool = false
  ) throws -> AlterClientQuotasResponse.EntryData {
    try ask(
      AlterClientQuotasRequest(
        entries: [
          .init(
            entity: entity.map { .init(entityType: $0.0, entityName: $0.1) },
            ops: ops.map { .init(key: $0.0, value: $0.1 ?? 0, remove: $0.1 == nil) })
        ], validateOnly: validateOnly)
    ).entries[0]
  }

  fileprivate func set(_ name: String, _ value: Double, _ entity: [(String, String?)] = [("client-id", "test")]) throws
  {
    let answer = try quota(entity, [(name, value)])
    try #require(answer.errorCode == .none, "\(answer.errorMessage ?? "")")
  }
}

/// Seconds of virtual time that `body` takes, together with what its connection has to wait afterwards.
private func seconds(_ client: AdminClient, _ body: () throws -> Void) throws -> Double {
  let began = client.world.world.now
  try body()
  try #require(client.world.world.run { client.connection.isReading })
  return Double((client.world.world.now - began).inNanoseconds) / 1e9
}

@Test("a producer that is limited is slowed to its limit, told how long to wait, and not read from meanwhile")
func limitedProducer() throws {
  let world = try ServerWorld()
  try AdminClient(world).set("producer_byte_rate", 10_000)
  let client = AdminClient(world)
  let time = try seconds(client) {
    for number in 0..<20 {
      let answer = try client.ask(produce(9_900), 9)
      #expect(answer.responses[0].partitionResponses[0].errorCode == .none, "never an error")
      if number > 0 {
        #expect((900...1000).contains(answer.throttleTimeMilliseconds), "\(answer.throttleTimeMilliseconds)")
        #expect(!client.connection.isReading)
      }
      try #require(world.world.run { client.connection.isReading })
    }
  }
  #expect((18...20.5).contains(time), "20 times about 10 kB at 10 kB/s took \(time) s, one second's worth is free")
  let other = AdminClient(world)
  #expect(try other.ask(ApiVersionsRequest(), 3).throttleTimeMilliseconds == 0 && other.connection.isReading)
}

@Test("requests that were sent in spite of the wait are served after it, in order")
func impatientProducer() throws {
  let world = try ServerWorld()
  try AdminClient(world).set("producer_byte_rate", 1000)
  let client = AdminClient(world)
  let time = try seconds(client) {
    for _ in 0..<3 { client.send(produce(2000), 9) }
    #expect(client.connection.unreadBytes > 2000, "the first one used two seconds' worth")
    while client.connection.answers.ids.count < 3 {
      try #require(world.world.run { client.connection.isReading })
      client.connection.offer()
      world.world.run(for: .milliseconds(10))
    }
  }
  #expect(client.connection.answers.ids == [1, 2, 3])
  #expect((5...5.5).contains(time), "3 times about 2 kB at 1 kB/s took \(time) s")
}

@Test("a consumer that is limited gets a second's worth at a time, and over time its limit")
func limitedConsumer() throws {
  let world = try ServerWorld()
  let writer = AdminClient(world)
  for _ in 0..<20 { try writer.append(5000) }
  try writer.set("consumer_byte_rate", 10_000)
  let client = AdminClient(world)
  var offset: Int64 = 0
  let time = try seconds(client) {
    while offset < 20 {
      var request = FetchRequest()
      request.minBytes = 1
      request.maxBytes = 50 << 20
      request.sessionEpoch = -1
      request.topics = [
        .init(topic: "t", partitions: [.init(partition: 0, fetchOffset: offset, partitionMaxBytes: 1 << 20)])
      ]
      let answer = try client.ask(request, 11)
      let size = answer.responses[0].partitions[0].records.reduce(0) { $0 + $1.count }
      #expect(size > 0 && size <= 10_000, "\(size)")
      offset += Int64(size / 5000)
      try #require(world.world.run { client.connection.isReading })
    }
  }
  #expect((9...10.5).contains(time), "100 kB at 10 kB/s took \(time) s")
}

@Test("partitions created and deleted are limited, and the answer comes at once")
func limitedMutations() throws {
  let world = try ServerWorld()
  try AdminClient(world).set("controller_mutation_rate", 2, [("user", nil)])
  let client = AdminClient(world)
  let topics = (0..<3).map {
    CreateTopicsRequest.CreatableTopic(name: "m\($0)", numPartitions: 2, replicationFactor: 1)
  }
  let time = try seconds(client) {
    let answer = try client.ask(CreateTopicsRequest(topics: topics))
    #expect(
      answer.topics.allSatisfy { $0.errorCode == .none } && (1900...2000).contains(answer.throttleTimeMilliseconds))
  }
  #expect((1.9...2.1).contains(time))
}

@Test("topics that are made on first use count, too")
func limitedFirstUse() throws {
  let world = try ServerWorld()
  try AdminClient(world).set("controller_mutation_rate", 1)
  let client = AdminClient(world)
  #expect(try client.ask(MetadataRequest(topics: [.init(name: "t")])).throttleTimeMilliseconds == 0)
  let made = try client.ask(MetadataRequest(topics: [.init(name: "a"), .init(name: "b")]))
  #expect(made.topics.allSatisfy { $0.errorCode == .none } && made.throttleTimeMilliseconds >= 900)
}

@Test("time on the broker's thread is limited, and every answer can say so")
func limitedRequestTime() throws {
  let world = try ServerWorld()
  try AdminClient(world).set("request_percentage", 10)
  var used = Duration.zero
  // Each look at the clock finds 0.1 s more: a request looks when it begins and when it is answered.
  world.server.processorTime = {
    used += .milliseconds(100)
    return used
  }
  let client = AdminClient(world)
  #expect(try client.ask(HeartbeatRequest(groupID: "g"), 4).throttleTimeMilliseconds == 0, "0.1 s are free")
  try #require(world.world.run { client.connection.isReading })
  #expect(try client.ask(HeartbeatRequest(groupID: "g"), 4).throttleTimeMilliseconds >= 900)
  #expect(!client.connection.isReading)
}

@Test("connections from one address are limited: those that come too early wait unserved, then they are closed")
func limitedConnections() throws {
  let world = try ServerWorld()
  try AdminClient(world).set("connection_creation_rate", 1, [("ip", "127.0.0.1")])
  let clients = (0..<20).map { _ in world.accept() }
  #expect(clients.map(\.isReading) == [true] + Array(repeating: false, count: 19))
  clients[1].end()
  #expect(clients.filter(\.isClosing).count == 1, "one that gives up is let go at once")
  world.world.run(for: .milliseconds(1050))
  #expect(clients.map(\.isClosing) == [false] + Array(repeating: true, count: 19))
  let next = world.accept()
  #expect(next.isReading, "those that were turned away do not count")
  next.receive(frame(ApiVersionsRequest(), 3, 1))
  try world.wait(next, answers: 1)
  for client in clients { client.handler?.connectionClosed(nil) }
  #expect(world.server.connectionCount == 1)
}

@Test("connections that are turned away take nobody's place, and are not held without end")
func turnedAwayWithoutEnd() throws {
  var settings = BrokerSettings()
  try settings.set("max.connections", "2")
  let world = try ServerWorld(settings: settings)
  let admin = AdminClient(world)
  try admin.set("connection_creation_rate", 1, [("ip", nil)])
  let clients = (0..<1500).map { _ in world.accept() }
  #expect(clients.filter(\.isClosing).count == 499 && world.server.connectionCount == 1)
  for client in clients where client.isClosing { client.handler?.connectionClosed(nil) }
  try admin.set("connection_creation_rate", 1000, [("ip", nil)])
  #expect(world.accept().isReading)
}

@Test("a client that ends while it would have to wait for an hour is let go after a second")
func endedWhileMuted() throws {
  let world = try ServerWorld()
  try AdminClient(world).set("producer_byte_rate", 1)
  let client = AdminClient(world)
  #expect(try client.ask(produce(4000), 9).throttleTimeMilliseconds > 3_600_000)
  client.send(produce(4000), 9)
  client.connection.end()
  #expect(!client.connection.isReading && client.connection.unreadBytes > 4000)
  world.world.run(for: .milliseconds(1050))
  client.connection.end()
  world.world.run(for: .milliseconds(100))
  #expect(client.connection.answers.ids == [1, 2] && !client.connection.isReading, "it waits for what this one used")
  world.world.run(for: .milliseconds(1000))
  client.connection.end()
  #expect(client.connection.isClosing)
}

@Test("a connection that goes while it has to wait is forgotten")
func goneWhileMuted() throws {
  let world = try ServerWorld()
  try AdminClient(world).set("producer_byte_rate", 1)
  weak var gone: KafkaConnection?
  do {
    let (connection, handler) = world.connect()
    gone = handler
    connection.receive(frame(produce(1000), 9, 1))
    try world.wait(connection, answers: 1)
    #expect(!connection.isReading)
    handler.connectionClosed(nil)
    connection.handler = nil
    world.world.run(for: .seconds(3))
  }
  #expect(gone == nil, "somebody holds on to the connection")
}

@Test("quotas are described by who they bind, exactly, by default, or all")
func describedQuotas() throws {
  let client = AdminClient(try ServerWorld())
  try client.set("producer_byte_rate", 1, [("client-id", "a")])
  try client.set("producer_byte_rate", 2, [("client-id", nil)])
  try client.set("producer_byte_rate", 3, [("user", "u"), ("client-id", "a")])
  try client.set("connection_creation_rate", 4, [("ip", "10.0.0.1")])
  func describe(_ filters: [(String, Int8, String?)], strict: Bool = false) throws -> [Double] {
    let answer = try client.ask(
      DescribeClientQuotasRequest(
        components: filters.map { .init(entityType: $0.0, matchType: $0.1, match: $0.2) }, strict: strict))
    return try #require(answer.entries).flatMap { $0.values.map(\.value) }.sorted()
  }
  #expect(try describe([]) == [1, 2, 3, 4])
  #expect(try describe([("client-id", 0, "a")]) == [1, 3] && describe([("client-id", 0, "a")], strict: true) == [1])
  #expect(try describe([("client-id", 1, nil)]) == [2] && describe([("client-id", 2, nil)]) == [1, 2, 3])
  #expect(try describe([("ip", 2, nil)]) == [4] && describe([("user", 0, "nobody")]) == [])
  let refused = try client.ask(DescribeClientQuotasRequest(components: [.init(entityType: "planet")]))
  #expect(refused.errorCode == .unsupportedVersion && refused.errorMessage?.contains("planet") == true)
  _ = try client.quota([("client-id", "a")], [("producer_byte_rate", nil)])
  #expect(try describe([("client-id", 0, "a")]) == [3])
}

@Test("a quota that cannot be is refused, and validate-only sets none")
func refusedQuotas() throws {
  let client = AdminClient(try ServerWorld())
  #expect(try client.quota([("client-id", "a")], [("producer_byte_rate", 9)], validateOnly: true).errorCode == .none)
  #expect(client.world.broker.quotaLimits.isEmpty)
  for (entity, op, text) in [
    ([], ("producer_byte_rate", 1), "no parts"), ([("planet", "x")], ("producer_byte_rate", 1), "planet"),
    ([("client-id", "a"), ("client-id", "b")], ("producer_byte_rate", 1), "more than once"),
    ([("client-id", "a")], ("producer_byte_rate", -1), "-1"), ([("client-id", "a")], ("bytes", 1), "bytes"),
    ([("ip", "somewhere")], ("connection_creation_rate", 1), "somewhere"),
  ] as [([(String, String?)], (String, Double), String)] {
    let answer = try client.quota(entity, [(op.0, op.1)])
    #expect(answer.errorCode == .invalidRequest && answer.errorMessage?.contains(text) == true, "\(answer)")
  }
}
