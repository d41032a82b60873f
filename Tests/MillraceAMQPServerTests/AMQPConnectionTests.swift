// AMQPConnectionTests: a connection's life, byte by byte: handshake, heartbeats, errors, ends.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceSecurity
import Testing

@testable import MillraceAMQPServer

private func close(_ client: AMQPClient) throws -> ConnectionClose {
  let method = try #require(client.commands.first?.method)
  guard case .connectionClose(let fields) = method else { throw Unexpected(method) }
  client.commands.removeFirst()
  return fields
}

struct Unexpected: Error, CustomStringConvertible {
  let description: String
  init(_ method: AMQPMethod) { description = "\(method)" }
}

@Suite struct AMQPConnectionTests {
  let world: AMQPServerWorld

  init() throws { world = try AMQPServerWorld() }

  @Test("another protocol is answered with the right header and closed", arguments: ["HTTP/1.1", "AMQP\0\u{1}\0\0"])
  func wrongHeader(header: String) {
    let client = world.connect()
    client.send(Array(header.utf8))
    #expect(client.rest == ProtocolHeader.bytes && client.connection.isClosing)
  }

  @Test("the handshake works with every byte alone")
  func slowHandshake() throws {
    let client = world.connect()
    client.send(ProtocolHeader.bytes.array, piecewise: true)
    #expect(client.names == ["connection.start"])
    client.send(frames(channel: 0, [.connectionStartOk(AMQPClient.login("guest"))]), piecewise: true)
    client.send(
      frames(
        channel: 0,
        [
          .connectionTuneOk(ConnectionTuneOk(channelMax: 10, frameMax: 8192, heartbeat: 0)),
          .connectionOpen(ConnectionOpen()),
        ]), piecewise: true)
    client.send(frames([.channelOpen(ChannelOpen())]), piecewise: true)
    #expect(client.names == ["connection.start", "connection.tune", "connection.open-ok", "channel.open-ok"])
  }

  @Test("a method that only servers send ends the connection, which is told which one it was")
  func serversMethod() throws {
    let client = try world.open()
    client.send([.queueDeclareOk(QueueDeclareOk(queue: "q", messageCount: 0, consumerCount: 0))])
    let fields = try close(client)
    #expect(fields.replyCode == 503)
    #expect(fields.replyText == "COMMAND_INVALID - clients do not send this method on a channel")
    #expect(fields.classID == 50 && fields.methodID == 11)
  }

  @Test("who is not open in time is closed without a word")
  func lateHandshake() {
    let client = world.connect()
    client.send(ProtocolHeader.bytes.array)
    client.pass(.seconds(9))
    #expect(!client.connection.isClosing)
    client.pass(.seconds(2))
    #expect(client.connection.isClosing && client.names == ["connection.start"])
  }

  @Test("a wrong password is told to those who want to hear it, and closes the connection of the others")
  func wrongPassword() throws {
    let told = world.connect()
    told.send(ProtocolHeader.bytes.array)
    told.send(channel: 0, [.connectionStartOk(AMQPClient.login("wrong"))])
    told.pass(.seconds(1))
    told.commands.removeFirst()
    #expect(try close(told).replyCode == 403 && !told.connection.isClosing)
    told.send(channel: 0, [.connectionCloseOk(ConnectionCloseOk())])
    #expect(told.connection.isClosing)
    let silent = world.connect()
    silent.send(ProtocolHeader.bytes.array)
    silent.send(channel: 0, [.connectionStartOk(AMQPClient.login("wrong", capabilities: [:]))])
    #expect(!silent.connection.isClosing)
    silent.pass(.seconds(1))
    #expect(silent.connection.isClosing && silent.names == ["connection.start"])
  }

  private func setUser(_ name: String, _ password: String) throws {
    let credential = try ScramCredential(password: Secret(password), mechanism: .sha512, iterations: 4096)
    var isDone = false
    try world.server.broker.setUser(name, tags: [], credentials: [credential]) { error in
      #expect(error == nil)
      isDone = true
    }
    try #require(world.world.run { isDone })
  }

  private func connect(_ mechanisms: [SaslMechanism]) -> AMQPClient {
    let client = AMQPClient(world, ListenerSecurity(mechanisms: mechanisms))
    client.send(ProtocolHeader.bytes.array)
    return client
  }

  private func startOk(_ mechanism: String, _ response: Bytes) -> AMQPMethod {
    .connectionStartOk(
      ConnectionStartOk(
        clientProperties: ["capabilities": .table(["authentication_failure_close": true])], mechanism: mechanism,
        response: response))
  }

  @Test("where clients have to say who they are, users come in by PLAIN and AMQPLAIN, and guest does not")
  func users() throws {
    try setUser("alice", "wonderland")
    let table: AMQPFieldTable = ["LOGIN": "alice", "PASSWORD": "wonderland"]
    for (method, isRight) in [
      (startOk("PLAIN", Bytes("\0alice\0wonderland")), true), (startOk("AMQPLAIN", table.encoded), true),
      (startOk("PLAIN", Bytes("\0alice\0wrong")), false), (startOk("PLAIN", Bytes("\0guest\0guest")), false),
      (startOk("PLAIN", Bytes("alice")), false), (startOk("PLAIN", Bytes("\0\0")), false),
    ] {
      let client = connect([.plain, .scramSHA256])
      client.send(channel: 0, [method])
      client.pass(.seconds(1))
      #expect(client.names == ["connection.start", isRight ? "connection.tune" : "connection.close"], "\(method)")
    }
    #expect(world.server.broker.authentication.counts.accepted == 2)
    #expect(world.server.broker.authentication.counts.refused == 4)
  }

  @Test("who has logged in is a stranger no more, and makes room for nobody")
  func known() throws {
    let world = try AMQPServerWorld(["max.connections": "2"])
    let credential = try ScramCredential(password: Secret("wonderland"), mechanism: .sha512, iterations: 4096)
    var isDone = false
    try world.broker.setUser("alice", tags: [], credentials: [credential]) { _ in isDone = true }
    try #require(world.world.run { isDone })
    let security = ListenerSecurity(mechanisms: [.plain])
    let alice = AMQPClient(world, security)
    alice.send(ProtocolHeader.bytes.array)
    alice.send(channel: 0, [startOk("PLAIN", Bytes("\0alice\0wonderland"))])
    alice.pass(.seconds(1))
    #expect(alice.names == ["connection.start", "connection.tune"])
    let (second, third) = (AMQPClient(world, security), AMQPClient(world, security))
    #expect(!alice.connection.isClosing && second.connection.isClosing && !third.connection.isClosing)
  }

  @Test("what a listener offers are its mechanisms, and no other is taken")
  func offeredMechanisms() throws {
    for (mechanisms, expected) in [
      ([SaslMechanism.plain], "PLAIN AMQPLAIN"), ([.external], "EXTERNAL"),
      ([.plain, .external], "PLAIN AMQPLAIN EXTERNAL"),
      ([], "PLAIN AMQPLAIN"),
    ] {
      let client = connect(mechanisms)
      guard case .connectionStart(let start) = client.commands.first?.method else {
        Issue.record("no start")
        continue
      }
      #expect(start.mechanisms == expected)
    }
    let client = connect([.external])
    client.send(channel: 0, [startOk("PLAIN", Bytes("\0guest\0guest"))])
    #expect(client.names == ["connection.start", "connection.close"])
    let bare = connect([.external])
    bare.send(channel: 0, [startOk("EXTERNAL", Bytes())])
    bare.pass(.seconds(1))
    #expect(bare.names == ["connection.start", "connection.close"])
  }

  @Test(
    "limits beyond those offered are refused with 530",
    arguments: [
      (0, 131_072), (2048, 131_072), (10, 0), (10, 131_073), (10, 8191),
    ])
  func wrongLimits(channelMax: UInt16, frameMax: UInt32) throws {
    let client = world.connect()
    client.send(ProtocolHeader.bytes.array)
    client.send(channel: 0, [.connectionStartOk(AMQPClient.login("guest"))])
    client.send(
      channel: 0, [.connectionTuneOk(ConnectionTuneOk(channelMax: channelMax, frameMax: frameMax, heartbeat: 0))])
    client.commands.removeFirst(2)
    #expect(try close(client).replyCode == 530)
  }

  @Test("heartbeats leave every half interval in which nothing else did; two silent intervals end the connection")
  func heartbeats() throws {
    let client = try world.open(heartbeat: 10)
    client.pass(.seconds(19))
    #expect(client.heartbeats == 2 && !client.connection.isClosing)
    client.send([8, 0, 0, 0, 0, 0, 0, 0xCE])
    client.pass(.seconds(18))
    #expect(!client.connection.isClosing)
    client.pass(.seconds(8))
    #expect(client.connection.isClosing)
  }

  @Test("without heartbeats a silent connection stays")
  func noHeartbeats() throws {
    let client = try world.open(heartbeat: 0)
    client.pass(.seconds(100_000))
    #expect(client.heartbeats == 0 && !client.connection.isClosing)
  }

  @Test("after a hard error all is dropped until the client confirms it, for ten seconds at most")
  func hardError() throws {
    let client = try world.open()
    client.send(channel: 3, [.queueDeclare(QueueDeclare(queue: "q"))])
    let error = try close(client)
    #expect(
      error.replyCode == 504 && error.replyText == "CHANNEL_ERROR - expected 'channel.open'" && error.classID == 50)
    client.send(channel: 1, [.queueDeclare(QueueDeclare(queue: "q"))])
    client.send(channel: 9, [.queueDeclare(QueueDeclare(queue: "q"))])
    #expect(client.commands.isEmpty && !client.connection.isClosing)
    client.pass(.seconds(9))
    #expect(!client.connection.isClosing)
    client.pass(.seconds(2))
    #expect(client.connection.isClosing)
  }

  @Test("bytes behind which nothing can be read end the connection at once")
  func unreadable() throws {
    let client = try world.open()
    client.send([4, 0, 0, 0, 0, 0, 0, 0xCE])
    #expect(try close(client).replyCode == 501 && client.connection.isClosing)
  }

  @Test(
    "the methods of channel 0 in their states",
    arguments: [
      AMQPMethod.connectionOpen(ConnectionOpen()), .connectionTuneOk(ConnectionTuneOk()), .channelOpen(ChannelOpen()),
      .basicAck(BasicAck()),
    ])
  func wrongMethods(method: AMQPMethod) throws {
    let client = try world.open()
    client.send(channel: 0, [method])
    #expect(try close(client).replyText == "CHANNEL_ERROR - unexpected method in connection state running")
  }

  @Test("a client's close is confirmed when its channels have done what they were asked")
  func clientCloses() throws {
    let client = try world.open()
    client.send(
      frames([.queueDeclare(QueueDeclare(queue: "kept", durable: true))]) + publication(key: "kept")
        + frames(channel: 0, [.connectionClose(ConnectionClose(replyCode: 200, classID: 0, methodID: 0))]))
    #expect(!client.connection.isClosing && client.commands.isEmpty)
    #expect(try client.wait(2).last == .connectionCloseOk(ConnectionCloseOk()))
    #expect(client.connection.isClosing)
    client.connection.lose()
    let other = try world.open()
    other.send([.queueDeclare(QueueDeclare(queue: "kept", passive: true))])
    #expect(try other.wait() == [.queueDeclareOk(QueueDeclareOk(queue: "kept", messageCount: 1, consumerCount: 0))])
  }

  @Test("what a client asked before it went is done, and then the connection ends")
  func clientGoes() throws {
    let client = try world.open()
    client.send(frames([.queueDeclare(QueueDeclare(queue: "kept", durable: true))]) + publication(key: "kept"))
    client.connection.end()
    #expect(!client.connection.isClosing)
    try client.wait()
    #expect(client.connection.isClosing)
    client.connection.lose()
    client.pass(.seconds(1))
    let other = try world.open()
    other.send([.basicGet(BasicGet(queue: "kept", noAck: true))])
    #expect(try other.wait().map { $0.id.description } == ["basic.get-ok"])
  }

  @Test("all clients are told that the server goes")
  func shutDown() throws {
    let clients = [try world.open(), try world.open()]
    let half = world.connect()
    clients[0].send(
      frames([.queueDeclare(QueueDeclare(queue: "d", durable: true))]))
    try clients[0].wait()
    clients[0].send(publication(key: "d", properties: .build { $0.deliveryMode = 2 }))
    var isDone = false
    world.server.close { isDone = true }
    for client in clients {
      client.read()
      let told = try close(client)
      #expect(told.replyCode == 320 && told.replyText.hasPrefix("CONNECTION_FORCED - ") && client.connection.isClosing)
    }
    #expect(half.connection.isClosing && half.commands.isEmpty)
    try #require(world.world.run { isDone })
    #expect(try world.broker.queues.inspect("d", in: "/", owner: nil).messageCount == 1)
  }

  @Test("more connections than max.connections are closed at once")
  func tooMany() throws {
    let world = try AMQPServerWorld(["max.connections": "1"])
    let first = try world.open()
    #expect(world.connect().connection.isClosing && world.server.connectionCount == 1)
    first.connection.lose()
    #expect(world.server.connectionCount == 0 && !world.connect().connection.isClosing)
  }
}
