// AMQPAccessTests: rights that change while they are used, and ways around a method that asks for them.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceSecurity
import Testing

@testable import MillraceAMQPServer

@Suite struct AMQPAccessTests {
  let world: AMQPServerWorld
  let client: AMQPClient

  init() throws {
    world = try AMQPServerWorld()
    try world.makeTopic("t")
    client = try world.open()
  }

  private func length(_ queue: String) throws -> Int {
    let found = try world.broker.queues.list(in: "/", after: nil, limit: 10).first { $0.declaration.name == queue }
    return try #require(found).length
  }

  private var topicEnd: Int64 {
    world.broker.topic("t").flatMap { world.broker.partition($0, 0) }?.highWatermark ?? -1
  }

  @Test("who publishes to the same queue again and again is refused as soon as the right is gone")
  func revokedWhilePublishing() throws {
    #expect(try client.ask(frames([.queueDeclare(QueueDeclare(queue: "q"))])) == ["queue.declare-ok"])
    world.expose()
    try world.changeRules(adding: [AMQPNeed.defaultExchange.rule])
    // The second and third go the short way.
    for _ in 0..<3 { #expect(try client.ask(publication(key: "q")) == []) }
    #expect(try length("q") == 3)
    try world.changeRules(adding: [], removing: [AMQPNeed.defaultExchange.rule])
    let refused = try client.ask(publication(key: "q") + publication(key: "q"))
    #expect(refused == ["403 ACCESS_REFUSED - \(AMQPNeed.defaultExchange.refusal)"])
    #expect(try length("q") == 3)
  }

  @Test("another exchange's right renews nothing for the queue that was published to before")
  func shortWayAsksAgain() throws {
    let made = frames([
      .queueDeclare(QueueDeclare(queue: "q")), .exchangeDeclare(ExchangeDeclare(exchange: "e", type: "fanout")),
    ])
    #expect(try client.ask(made) == ["queue.declare-ok", "exchange.declare-ok"])
    #expect(try client.ask(publication(key: "q") + publication(key: "q")) == [])
    world.expose()
    try world.changeRules(adding: [AMQPNeed.exchange(.write).rule])
    #expect(try client.ask(publication(exchange: "e", key: "k")) == [])
    #expect(try client.ask(publication(key: "q")).first?.hasPrefix("403") == true)
    #expect(try length("q") == 2)
  }

  @Test("a right to read that is gone ends basic.get, also where the channel has got from the queue before")
  func revokedWhileGetting() throws {
    let made = frames([.queueDeclare(QueueDeclare(queue: "q"))]) + publication(key: "q") + publication(key: "q")
    #expect(try client.ask(made) == ["queue.declare-ok"])
    #expect(try client.ask(frames([.basicGet(BasicGet(queue: "q"))])) == ["basic.get-ok"])
    world.expose()
    #expect(try client.ask(frames([.basicGet(BasicGet(queue: "q"))])).first?.hasPrefix("403") == true)
  }

  @Test("a publication of a transaction is refused before the transaction commits")
  func transactions() throws {
    let made = frames([.queueDeclare(QueueDeclare(queue: "q")), .txSelect(TxSelect())])
    #expect(try client.ask(made) == ["queue.declare-ok", "tx.select-ok"])
    world.expose()
    #expect(try client.ask(publication(key: "q")).first?.hasPrefix("403") == true)
    #expect(try length("q") == 0)
  }

  @Test(
    "dead letters with the key of a topic do not become its records where anything is denied", arguments: [false, true])
  func deadLettersAndTopics(isExposed: Bool) throws {
    // The key is the message's own: it was published to another exchange under the name of a topic.
    let made =
      frames([
        .queueDeclare(QueueDeclare(queue: "q", arguments: ["x-dead-letter-exchange": ""])),
        .exchangeDeclare(ExchangeDeclare(exchange: "e", type: "fanout")),
        .queueBind(QueueBind(queue: "q", exchange: "e")),
      ]) + publication(exchange: "e", key: "t") + frames([.basicGet(BasicGet(queue: "q"))])
    #expect(
      try client.ask(made) == ["queue.declare-ok", "exchange.declare-ok", "queue.bind-ok", "basic.get-ok"])
    if isExposed { world.expose() }
    _ = try client.ask(frames([.basicReject(BasicReject(deliveryTag: 1, requeue: false))]))
    client.pass(.milliseconds(100))
    #expect(topicEnd == (isExposed ? 0 : 1))
  }

  @Test("an alternate exchange does not lead past the right to write to a topic", arguments: [false, true])
  func alternateExchangeAndTopics(isExposed: Bool) throws {
    let made = frames([
      .exchangeDeclare(ExchangeDeclare(exchange: "e", type: "direct", arguments: ["alternate-exchange": ""]))
    ])
    #expect(try client.ask(made) == ["exchange.declare-ok"])
    if isExposed { world.expose() }
    try world.changeRules(adding: [AMQPNeed.exchange(.write).rule])
    // With a rule about something nothing is open any more, so the one without rules is looked at first.
    if !isExposed { try world.changeRules(adding: [], removing: [AMQPNeed.exchange(.write).rule]) }
    _ = try client.ask(publication(exchange: "e", key: "t"))
    client.pass(.milliseconds(100))
    #expect(topicEnd == (isExposed ? 0 : 1))
  }

  @Test("rights to the names that the server chooses are enough to ask and be answered")
  func serverNamedQueues() throws {
    world.expose()
    let pattern = ResourcePattern(.queue, ResourceName.inVirtualHost("/", "amq.gen-"), isPrefix: true)
    try world.changeRules(
      adding: [.create, .read, .write, .delete].map { AccessRule(pattern, .anonymous, $0) })
    let declared = frames([.queueDeclare(QueueDeclare(exclusive: true))])
    #expect(
      try client.ask(declared + frames([.basicConsume(BasicConsume()), .queuePurge(QueuePurge())]))
        == ["queue.declare-ok", "basic.consume-ok", "queue.purge-ok"])
    #expect(try client.ask(frames([.queueDelete(QueueDelete())])).contains("queue.delete-ok"))
  }

  @Test("rules about one virtual host say nothing about another")
  func virtualHosts() throws {
    var isMade = false
    world.broker.queues.createVirtualHost("v") { _ in isMade = true }
    try #require(world.world.run { isMade })
    world.expose()
    try world.changeRules(
      adding: [
        AccessRule(ResourcePattern(.queue, ResourceName.inVirtualHost("v", "q")), .anonymous, .all),
        AccessRule(ResourcePattern(.virtualHost, "v"), .anonymous, .all),
      ])
    #expect(try client.ask(frames([.queueDeclare(QueueDeclare(queue: "q"))])).first?.hasPrefix("403") == true)
  }
}
