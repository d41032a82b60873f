// QuotaTests: clients that publish or get more than their quota wait, are told so, and lose nothing; connections make room.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceMetadata
import MillraceSecurity
import MillraceSimulation
import Testing

@testable import MillraceAMQPServer

@Suite struct QuotaTests {
  let world: AMQPServerWorld

  init() throws { world = try AMQPServerWorld(["max.connections": "3"]) }

  private func limit(_ limit: ClientQuotas.Limit, _ value: Double) {
    world.broker.quotas.set([QuotaEntity(user: .named("ANONYMOUS")): [limit.rawValue: value]])
  }

  private func queue(_ client: AMQPClient) throws {
    client.send([.queueDeclare(QueueDeclare(queue: "q", durable: true))])
    try client.wait()
  }

  @Test("who publishes more than its quota is not read from for as long, and is told when that is long")
  func publisher() throws {
    let client = try world.open()
    try queue(client)
    limit(.producerBytes, 10_000)
    client.send(publication(key: "q", body: Array(repeating: 7, count: 9_000)))
    #expect(client.connection.isReading, "one second's worth is free")
    client.send(publication(key: "q", body: Array(repeating: 7, count: 6_000)))
    #expect(!client.connection.isReading && client.commands.isEmpty, "half a second is not worth telling")
    client.pass(.milliseconds(600))
    #expect(client.connection.isReading)
    client.send(publication(key: "q", body: Array(repeating: 7, count: 40_000)))
    #expect(!client.connection.isReading && client.names == ["connection.blocked"])
    guard case .connectionBlocked(let blocked) = client.commands[0].method else {
      throw Unexpected(client.commands[0].method)
    }
    #expect(blocked.reason == "quota producer_byte_rate")
    client.pass(.seconds(3))
    #expect(!client.connection.isReading)
    client.pass(.seconds(2))
    #expect(client.connection.isReading && client.names == ["connection.blocked", "connection.unblocked"])
    client.commands.removeAll()
    client.send([.queueDeclare(QueueDeclare(queue: "q", passive: true))])
    guard case .queueDeclareOk(let fields) = try client.wait()[0] else { return }
    #expect(fields.messageCount == 3, "nothing is lost")
  }

  @Test("a shortage that ends does not let a publisher go on that still owes")
  func quotaAndShortage() throws {
    let client = try world.open()
    try queue(client)
    limit(.producerBytes, 10_000)
    client.send(publication(key: "q", body: Array(repeating: 7, count: 60_000)))
    #expect(client.names == ["connection.blocked"])
    var held: Int64 = 900
    world.broker.memory.watch(limit: 1000, resident: { held }, relieve: {})
    client.pass(.seconds(1))
    #expect(world.broker.memory.isLow)
    held = 100
    client.pass(.seconds(2))
    #expect(!world.broker.memory.isLow)
    #expect(client.names == ["connection.blocked"] && !client.connection.isReading, "told once, and not yet over")
    client.pass(.seconds(3))
    #expect(client.names == ["connection.blocked", "connection.unblocked"] && client.connection.isReading)
  }

  @Test("who gets more than its quota is delivered no faster, and acknowledges meanwhile")
  func consumer() throws {
    let client = try world.open()
    try queue(client)
    for _ in 0..<20 { client.send(publication(key: "q", body: Array(repeating: 7, count: 5_000))) }
    limit(.consumerBytes, 10_000)
    client.send([.basicQos(BasicQos(prefetchCount: 2)), .basicConsume(BasicConsume(queue: "q", consumerTag: "c"))])
    let began = world.world.now
    var taken = 0
    var last: UInt64 = 0
    let isDone = world.world.run {
      client.read()
      for command in client.commands {
        guard case .basicDeliver(let fields) = command.method else { continue }
        taken += 1
        last = fields.deliveryTag
      }
      client.commands.removeAll()
      if last > 0 {
        client.send([.basicAck(BasicAck(deliveryTag: last, multiple: true))])
        last = 0
      }
      return taken == 20
    }
    #expect(isDone)
    let seconds = Double((world.world.now - began).inNanoseconds) / 1e9
    #expect((8...10.5).contains(seconds), "100 kB at 10 kB/s took \(seconds) s, one second's worth is free")
    #expect(client.connection.isReading)
  }

  @Test("who takes more of the thread's time than its quota is not read from until that is paid, ten windows' at most")
  func requestTime() throws {
    let spent = PlayedTime()
    world.server.processorTime = spent.look
    let client = try world.open()
    try queue(client)
    client.send(publication(key: "q", body: [1]))
    #expect(spent.looks == 0, "without such a quota no clock is read")
    limit(.requestTime, 10)
    spent.step = .milliseconds(60)
    client.send(publication(key: "q", body: [2]))
    #expect(spent.looks == 2 && client.connection.isReading, "a tenth of a second is free")
    client.send(publication(key: "q", body: [3]))
    #expect(!client.connection.isReading && client.commands.isEmpty, "0.02 s at 10 % is not worth telling")
    client.pass(.milliseconds(190))
    #expect(!client.connection.isReading)
    client.pass(.milliseconds(20))
    #expect(client.connection.isReading)
    spent.step = .seconds(60)
    client.send(publication(key: "q", body: [4]))
    client.pass(.milliseconds(1))
    #expect(!client.connection.isReading && client.names == ["connection.blocked"])
    guard case .connectionBlocked(let blocked) = client.commands[0].method else {
      throw Unexpected(client.commands[0].method)
    }
    #expect(blocked.reason == "quota request_percentage")
    client.pass(.milliseconds(9_900))
    #expect(!client.connection.isReading)
    client.pass(.milliseconds(200))
    #expect(client.connection.isReading && client.names == ["connection.blocked", "connection.unblocked"])
    #expect(world.broker.quotas.waits[.requestTime]?.count == 2)
    client.commands.removeAll()
    spent.step = .zero
    client.send([.queueDeclare(QueueDeclare(queue: "q", passive: true))])
    guard case .queueDeclareOk(let fields) = try client.wait()[0] else { return }
    #expect(fields.messageCount == 4, "nothing is lost")
  }

  @Test("commands that wait for an earlier one, and are taken when that is durable, take their client's time as well")
  func laterTime() throws {
    let spent = PlayedTime()
    world.server.processorTime = spent.look
    let client = try world.open()
    limit(.requestTime, 10)
    spent.step = .milliseconds(60)
    let publications = (0..<50).flatMap { _ in publication(key: "q", body: [1]) }
    client.send(frames([.queueDeclare(QueueDeclare(queue: "q", durable: true))]) + publications)
    #expect(spent.looks == 2 && client.connection.isReading && client.commands.isEmpty, "a tenth of a second is free")
    try client.wait()
    #expect(spent.looks == 4 && !client.connection.isReading, "0.02 s at 10 %, of commands that waited")
    client.pass(.milliseconds(210))
    #expect(client.connection.isReading)
    spent.step = .zero
    client.send([.queueDeclare(QueueDeclare(queue: "q", passive: true))])
    guard case .queueDeclareOk(let fields) = try client.wait()[0] else { return }
    #expect(fields.messageCount == 50, "nothing is lost")
  }

  @Test("who waits for days goes on within a second when its limit is raised or taken away")
  func raisedLimit() throws {
    let client = try world.open()
    try queue(client)
    limit(.producerBytes, 1)
    client.send(publication(key: "q", body: Array(repeating: 7, count: 400_000)))
    #expect(client.names == ["connection.blocked"])
    client.pass(.seconds(20))
    #expect(!client.connection.isReading)
    limit(.producerBytes, 1_000_000)
    client.pass(.milliseconds(1_100))
    #expect(client.connection.isReading && client.names == ["connection.blocked", "connection.unblocked"])
    for _ in 0..<3 { client.send(publication(key: "q", body: Array(repeating: 7, count: 100_000))) }
    client.commands.removeAll()
    limit(.consumerBytes, 1)
    client.send([.basicQos(BasicQos(prefetchCount: 1)), .basicConsume(BasicConsume(queue: "q", consumerTag: "c"))])
    client.pass(.seconds(20))
    client.send([.basicAck(BasicAck(deliveryTag: 1))])
    client.pass(.seconds(20))
    #expect(client.names.count { $0 == "basic.deliver" } == 1, "the second waits for days")
    world.broker.quotas.set([:])
    client.pass(.milliseconds(1_100))
    #expect(client.names.count { $0 == "basic.deliver" } == 2)
  }

  @Test("the time of writing deliveries is the consumer's: it gets them no faster, and others are not held up")
  func deliveryTime() throws {
    let client = try world.open(name: "slow")
    let other = try world.open()
    other.send([
      .queueDeclare(QueueDeclare(queue: "others")),
      .basicConsume(BasicConsume(queue: "others", consumerTag: "c", noAck: true)),
    ])
    try other.wait(2)
    try queue(client)
    for _ in 0..<200 { client.send(publication(key: "q", body: [7])) }
    let spent = PlayedTime()
    client.send([
      .basicConsume(BasicConsume(queue: "q", consumerTag: "c", noAck: true))
    ])
    // Before it is delivered to: its deliveries come at the end of the turn.
    world.broker.quotas.set([QuotaEntity(clientID: .named("slow")): [ClientQuotas.Limit.requestTime.rawValue: 50]])
    world.server.processorTime = spent.look
    spent.step = .seconds(2)
    client.pass(.milliseconds(100))
    let first = client.names.count { $0 == "basic.deliver" }
    #expect(first > 0 && first < 200, "\(first)")
    #expect(client.connection.isReading)
    for _ in 0..<3 { other.send(publication(key: "others", body: [8])) }
    other.pass(.seconds(1))
    #expect(other.names.count { $0 == "basic.deliver" } == 3 && other.connection.isReading)
    client.pass(.seconds(1))
    #expect(client.names.count { $0 == "basic.deliver" } == first, "1.5 s at 50 % take 3 s")
    spent.step = .zero
    client.pass(.seconds(2))
    #expect(client.names.count { $0 == "basic.deliver" } == 200)
  }

  @Test("a connection that is gone waits for nothing any more")
  func gone() throws {
    let client = try world.open()
    try queue(client)
    limit(.producerBytes, 1)
    client.send(publication(key: "q", body: Array(repeating: 7, count: 40_000)))
    #expect(!client.connection.isReading)
    client.connection.lose()
    #expect(world.server.connectionCount == 0 && world.broker.admission.census.count == 0)
    #expect(world.broker.quotas.waits[.producerBytes]?.count == 1)
  }

  @Test("a connection that does not say who it is makes room for one that comes later")
  func displacement() throws {
    let known = try world.open()
    let security = ListenerSecurity(mechanisms: [.plain])
    let strangers = (0..<2).map { _ in AMQPClient(world, security) }
    let other = AMQPClient(world, security)
    #expect(strangers[0].connection.isClosing && !strangers[1].connection.isClosing)
    #expect(!other.connection.isClosing && !known.connection.isClosing)
    strangers[0].connection.lose()
    #expect(world.broker.admission.census.count == 3 && world.server.connectionCount == 3)
  }

  @Test("an address that makes connections too often is turned away")
  func tooOften() throws {
    world.broker.quotas.set([QuotaEntity(address: .named("127.0.0.1")): ["connection_creation_rate": 1]])
    let first = world.connect()
    let second = world.connect()
    #expect(!first.connection.isClosing && second.connection.isClosing)
    let kind = ConnectionAdmission.Refused(protocolName: "amqp", reason: .tooFastOfAddress)
    #expect(world.broker.admission.refusals == [kind: 1])
    second.connection.lose()
    #expect(world.broker.admission.census.count == 1)
  }
}
