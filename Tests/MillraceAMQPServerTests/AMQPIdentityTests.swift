// AMQPIdentityTests: tokens in the place of passwords, the next token on an open connection, consumers whose right goes, and what the
// audit hears of those who are denied nothing.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceModel
import MillraceRouting
import MillraceSecurity
import TestTokens
import Testing

@testable import MillraceAMQPServer

@Suite struct AMQPIdentityTests {
  let world: AMQPServerWorld

  init() throws {
    world = try AMQPServerWorld(["sasl.oauthbearer.clock.skew.seconds": "0"])
    world.broker.authentication.use(try JSONWebKeys(Bytes(TestTokens.keys)))
  }

  private func connect(_ mechanisms: [SaslMechanism], _ user: String, _ password: String) -> AMQPClient {
    let client = AMQPClient(world, ListenerSecurity(mechanisms: mechanisms))
    client.send(ProtocolHeader.bytes.array)
    client.send(
      channel: 0,
      [
        .connectionStartOk(
          ConnectionStartOk(
            clientProperties: [
              "capabilities": .table(["authentication_failure_close": true, "consumer_cancel_notify": true])
            ], mechanism: "PLAIN", response: Bytes("\0\(user)\0\(password)")))
      ])
    client.pass(.seconds(1))
    return client
  }

  /// A client whose connection is open, with channel 1.
  private func open(_ client: AMQPClient) throws -> AMQPClient {
    client.send(
      channel: 0,
      [.connectionTuneOk(ConnectionTuneOk(channelMax: 10, frameMax: 131_072)), .connectionOpen(ConnectionOpen())])
    client.send([.channelOpen(ChannelOpen())])
    try #require(world.world.run { client.commands.count >= 4 }, "\(client.names)")
    client.commands.removeAll()
    return client
  }

  private func set(_ user: String, tags: [String]) throws {
    let credential = try ScramCredential(password: Secret("secret"), mechanism: .sha256, iterations: 4096)
    var isDone = false
    try world.broker.setUser(user, tags: tags, credentials: [credential]) { _ in isDone = true }
    try #require(world.world.run { isDone })
  }

  private func rules(adding: [AccessRule] = [], removing: [AccessRule] = []) throws {
    var isDone = false
    world.broker.changeRules(adding: adding, removing: removing) { _ in isDone = true }
    try #require(world.world.run { isDone })
  }

  @Test("a token comes in place of a password, whatever name stands before it")
  func tokenAsPassword() throws {
    try set("carol", tags: [])
    for (mechanisms, user, password, isRight) in [
      ([SaslMechanism.bearer], "", TestTokens.alice, true), ([.bearer], "anything", TestTokens.alice, true),
      ([.plain, .bearer], "", TestTokens.alice, true), ([.plain, .bearer], "carol", "secret", true),
      ([.bearer], "carol", "secret", false), ([.plain], "alice", TestTokens.alice, false),
      ([.bearer], "", TestTokens.expired, false), ([.plain, .bearer], "", TestTokens.aliceBySecond, false),
    ] {
      let client = connect(mechanisms, user, password)
      #expect(
        client.names == ["connection.start", isRight ? "connection.tune" : "connection.close"],
        "\(mechanisms) \(user)")
    }
    #expect(
      world.broker.authentication.attempts[.init(protocolName: "amqp", mechanism: .bearer, isAccepted: true)] == 3)
    #expect(
      world.broker.authentication.attempts[.init(protocolName: "amqp", mechanism: .bearer, isAccepted: false)] == 3)
    let client = try open(connect([.bearer], "", TestTokens.alice))
    #expect(world.server.clients.map(\.user).contains("alice"))
    _ = client
  }

  @Test("a connection ends with its token, unless update-secret has brought the next one of the same user")
  func nextToken() throws {
    let idle = try open(connect([.bearer], "", TestTokens.alice))
    let patient = try open(connect([.bearer], "", TestTokens.alice))
    let other = try open(connect([.bearer], "", TestTokens.alice))
    func update(_ client: AMQPClient, _ token: String) {
      client.send(
        channel: 0, [.connectionUpdateSecret(ConnectionUpdateSecret(newSecret: Bytes(token), reason: "next"))])
    }
    update(patient, TestTokens.aliceLater)
    update(other, TestTokens.bob)
    #expect(patient.names == ["connection.update-secret-ok"] && other.names == ["connection.close"])
    world.world.run(for: .seconds(310))
    idle.read()
    guard case .connectionClose(let close)? = idle.commands.last?.method else {
      Issue.record("\(idle.names)")
      return
    }
    #expect(close.replyCode == 320 && close.replyText.contains("expired"))
    patient.read()
    #expect(patient.names == ["connection.update-secret-ok"] && !patient.connection.isClosing)
    world.world.run(for: .seconds(310))
    patient.read()
    #expect(patient.names.last == "connection.close")
  }

  @Test("who came in by a password has no secret that ends")
  func passwordsDoNotEnd() throws {
    try set("carol", tags: ["administrator"])
    let client = try open(connect([.plain, .bearer], "carol", "secret"))
    client.send(
      channel: 0, [.connectionUpdateSecret(ConnectionUpdateSecret(newSecret: Bytes("x"), reason: ""))])
    #expect(client.names == ["connection.update-secret-ok"])
  }

  @Test("a consumer whose right goes is cancelled, and gets nothing of what comes then")
  func cancelledConsumer() throws {
    try set("carol", tags: [])
    let carol = Principal("carol")
    world.broker.access.isExposed = true
    let reading = ["read", "create", "write"].map { word in
      AccessRule(.init(.queue, "%2F/", isPrefix: true), carol, AccessOperation(word: word)!)
    }
    try rules(
      adding: reading + [
        AccessRule(.init(.virtualHost, "/"), carol, .describe),
        AccessRule(.init(.exchange, "%2F/amq.default"), carol, .write),
      ])
    let client = try open(connect([.plain], "carol", "secret"))
    client.send([
      .queueDeclare(QueueDeclare(queue: "q")),
      .basicConsume(BasicConsume(queue: "q", consumerTag: "c")),
    ])
    try client.wait(2)
    client.send(publication(key: "q", body: [1]))
    try client.wait(1)
    var denials: [AccessControl.Decision] = []
    world.broker.access.onDecision = { denials.append($0) }
    // A change that takes nothing away from her changes nothing for her.
    try rules(removing: [AccessRule(.init(.topic, "x"), carol, .read)])
    try rules(adding: [AccessRule(.init(.topic, "x"), carol, .read)])
    client.pass(.seconds(1))
    #expect(client.commands.isEmpty && denials.isEmpty)
    try rules(removing: [reading[0]])
    client.send(publication(key: "q", body: [2]))
    client.pass(.seconds(1))
    #expect(client.names == ["basic.cancel"])
    #expect(denials.contains { !$0.isAllowed && $0.operation == .read && $0.name == "%2F/q" })
    #expect(try world.broker.queues.inspect("q", in: "/", owner: nil).messageCount == 1)
  }

  @Test("what is changed by those who are denied nothing is told, and what nobody in particular does is not")
  func changesAreTold() throws {
    try set("root", tags: ["administrator"])
    let client = try open(connect([.plain], "root", "secret"))
    var told: [String] = []
    world.broker.access.onDecision = {
      told.append("\($0.principal.name) \($0.operation.word) \($0.kind.word) \($0.name) \($0.isAllowed)")
    }
    client.send([
      .queueDeclare(QueueDeclare(queue: "q")), .exchangeDeclare(ExchangeDeclare(exchange: "e")),
      .queueDelete(QueueDelete(queue: "q")), .exchangeDelete(ExchangeDelete(exchange: "e")),
    ])
    try client.wait(4)
    #expect(
      told == [
        "root create queue %2F/q true", "root create exchange %2F/e true", "root delete queue %2F/q true",
        "root delete exchange %2F/e true",
      ])
    // Reading, writing and looking at what is there are nobody's business.
    told = []
    let nobody = try world.open()
    nobody.send([.queueDeclare(QueueDeclare(queue: "r"))])
    try nobody.wait(1)
    client.send([.queueDeclare(QueueDeclare(queue: "r", passive: true))])
    try client.wait(1)
    client.send(publication(key: "r", body: [3]))
    client.pass(.seconds(1))
    #expect(told.isEmpty, "\(told)")
  }

  /// What the audit has of bindings.
  private func bindingsTold() throws -> [String] {
    world.world.run(for: .seconds(3))
    guard let topic = world.broker.topic(AuditLog.topic) else { return [] }
    let log = try #require(world.broker.partition(topic, 0))
    let target = FetchTarget(partition: log, offset: 0, limit: 1 << 20, isCommittedOnly: true)
    var fetched: [FetchedPartition]?
    _ = world.broker.fetch([target], minimum: 0, limit: { 1 << 20 }, wait: .zero) { fetched = $0 }
    try #require(world.world.run { fetched != nil })
    var told: [String] = []
    for bytes in fetched?.first?.batches ?? [] {
      var run = RecordBatchRun(bytes)
      while let (batch, _) = try run.next() {
        told += try Broker.records(of: batch).map { $0.value?.text ?? "" }
      }
    }
    return told.filter { $0.contains("bind\"") }
  }

  @Test("a binding that is made or taken away is told to the audit, once, and one that changes nothing is not")
  func bindingsAreTold() throws {
    try set("root", tags: ["administrator"])
    let client = try open(connect([.plain], "root", "secret"))
    client.send([
      .queueDeclare(QueueDeclare(queue: "q")), .exchangeDeclare(ExchangeDeclare(exchange: "e")),
      .queueBind(QueueBind(queue: "q", exchange: "amq.direct", routingKey: "k\"1")),
      .queueBind(QueueBind(queue: "q", exchange: "amq.direct", routingKey: "k\"1")),
      .exchangeBind(ExchangeBind(destination: "e", source: "amq.topic", routingKey: "a.#")),
      .queueUnbind(QueueUnbind(queue: "q", exchange: "amq.direct", routingKey: "other")),
      .queueUnbind(QueueUnbind(queue: "q", exchange: "amq.direct", routingKey: "k\"1")),
      .exchangeUnbind(ExchangeUnbind(destination: "e", source: "amq.topic", routingKey: "a.#")),
    ])
    try client.wait(8)
    let nobody = try world.open()
    nobody.send([.queueDeclare(QueueDeclare(queue: "r")), .queueBind(QueueBind(queue: "r", exchange: "amq.fanout"))])
    try nobody.wait(2)
    let root = #""principal":"User:root","host":"127.0.0.1","operation":"#
    let told = try bindingsTold().map { String($0.drop { $0 != "," }.dropFirst().dropLast()) }
    #expect(
      told == [
        #"\#(root)"bind","resource":"exchange","name":"%2F/amq.direct","destination":"q","kind":"queue","key":"k\"1","allowed":true,"count":1"#,
        #"\#(root)"bind","resource":"exchange","name":"%2F/amq.topic","destination":"e","kind":"exchange","key":"a.#","allowed":true,"count":1"#,
        #"\#(root)"unbind","resource":"exchange","name":"%2F/amq.direct","destination":"q","kind":"queue","key":"k\"1","allowed":true,"count":1"#,
        #"\#(root)"unbind","resource":"exchange","name":"%2F/amq.topic","destination":"e","kind":"exchange","key":"a.#","allowed":true,"count":1"#,
      ])
    // Queues that are a connection's own come by the thousand: what leads to them is told, but not to which.
    client.send(
      ["x1", "x2"].flatMap { name -> [AMQPMethod] in
        [
          .queueDeclare(QueueDeclare(queue: name, exclusive: true)),
          .queueBind(QueueBind(queue: name, exchange: "amq.fanout", routingKey: "k")),
        ]
      })
    try client.wait(4)
    let own = try bindingsTold().dropFirst(4).map { String($0.drop { $0 != "," }.dropFirst().dropLast()) }
    #expect(
      own == [
        #"\#(root)"bind","resource":"exchange","name":"%2F/amq.fanout","exclusive":true,"kind":"queue","key":"k","allowed":true,"count":2"#
      ])
    // A binding that is refused is a denial, of what it lacked, and none that was made.
    try set("carol", tags: [])
    world.broker.access.isExposed = true
    try rules(adding: [
      AccessRule(.init(.virtualHost, "/"), Principal("carol"), .describe),
      AccessRule(.init(.queue, "%2F/q"), Principal("carol"), .write),
    ])
    let carol = try open(connect([.plain], "carol", "secret"))
    carol.send([.queueBind(QueueBind(queue: "q", exchange: "amq.fanout"))])
    carol.pass(.seconds(1))
    #expect(carol.names == ["channel.close"])
    #expect(try bindingsTold().count == 5)
  }
}
