// AMQPChannelTests: the order of a channel's commands and answers, errors of channels, and who has to wait when.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceIO
import Testing

@testable import MillraceAMQPServer

private func names(_ methods: [AMQPMethod]) -> [String] { methods.map { $0.id.description } }

@Suite struct AMQPChannelTests {
  let world: AMQPServerWorld
  let client: AMQPClient

  init() throws {
    world = try AMQPServerWorld()
    client = try world.open(channels: 1...2)
  }

  private func declare(_ name: String, durable: Bool = false) throws {
    client.send([.queueDeclare(QueueDeclare(queue: name, durable: durable))])
    #expect(names(try client.wait()) == ["queue.declare-ok"])
  }

  @Test("commands behind one that waits for the journal keep their order, also when each comes in pieces")
  func orderOfCommands() throws {
    let commands =
      frames([.confirmSelect(ConfirmSelect()), .queueDeclare(QueueDeclare(queue: "d", durable: true))])
      + publication(key: "d")
      + frames([
        .queueDeclare(QueueDeclare(queue: "d", passive: true)), .basicGet(BasicGet(queue: "d")),
        .channelFlow(ChannelFlow(active: true)),
      ])
    client.send(commands, piecewise: true)
    #expect(client.names == ["confirm.select-ok"])
    client.commands.removeAll()
    let answers = names(try client.wait(5)).filter { $0 != "basic.ack" }
    #expect(answers == ["queue.declare-ok", "queue.declare-ok", "basic.get-ok", "channel.flow-ok"])
  }

  @Test("one channel's waiting holds up no other")
  func independentChannels() throws {
    client.send([.queueDeclare(QueueDeclare(queue: "d", durable: true)), .channelFlow(ChannelFlow(active: true))])
    client.send(channel: 2, [.channelFlow(ChannelFlow(active: true))])
    #expect(client.commands.map(\.channel) == [2])
    client.commands.removeAll()
    #expect(names(try client.wait(2)) == ["queue.declare-ok", "channel.flow-ok"])
  }

  @Test("the connection is not read from while many commands wait")
  func fullBacklog() throws {
    client.send([.queueDeclare(QueueDeclare(queue: "d", durable: true))])
    let flow = frames([.channelFlow(ChannelFlow(active: true))])
    for _ in 0..<400 { client.send(flow) }
    #expect(!client.connection.isReading && client.connection.unreadBytes > 0)
    #expect(try client.wait(401).count == 401)
    #expect(client.connection.isReading && client.connection.unreadBytes == 0)
  }

  @Test("an error closes its channel; what follows on it is dropped until the client confirms, and the number is free")
  func channelError() throws {
    client.send([
      .queueDeclare(QueueDeclare(queue: "missing", passive: true)), .queueDeclare(QueueDeclare(queue: "never")),
    ])
    client.send(publication(key: "never"))
    client.send(channel: 2, [.queueDeclare(QueueDeclare(queue: "never", passive: true))])
    let closes = try client.wait(2).compactMap { method -> ChannelClose? in
      if case .channelClose(let fields) = method { fields } else { nil }
    }
    #expect(closes.map(\.replyCode) == [404, 404])
    #expect(closes.first?.replyText == "NOT_FOUND - no queue 'missing' in vhost '/'")
    client.send([.channelOpen(ChannelOpen())])
    #expect(client.commands.isEmpty)
    client.send([.channelCloseOk(ChannelCloseOk()), .channelOpen(ChannelOpen())])
    #expect(client.names == ["channel.open-ok"])
  }

  @Test("an error while commands wait drops them")
  func errorInBacklog() throws {
    client.send([
      .queueDeclare(QueueDeclare(queue: "d", durable: true)), .basicAck(BasicAck(deliveryTag: 4)),
      .channelFlow(ChannelFlow(active: true)),
    ])
    #expect(names(try client.wait(2)) == ["queue.declare-ok", "channel.close"])
    client.pass(.seconds(1))
    #expect(client.commands.isEmpty && client.connection.isReading)
  }

  @Test("a message is confirmed when it is durable, and not before; numbers that settle together have one confirm")
  func confirms() throws {
    try declare("d", durable: true)
    client.send([.confirmSelect(ConfirmSelect())])
    client.commands.removeAll()
    for _ in 0..<10 { client.send(publication(key: "d")) }
    #expect(client.commands.isEmpty)
    #expect(try client.wait() == [.basicAck(BasicAck(deliveryTag: 10, multiple: true))])
  }

  @Test(
    "publications are the same messages in the same order, whether their frames come together or byte by byte",
    arguments: [false, true], [false, true])
  func wholeOrPiecewise(durable: Bool, confirming: Bool) throws {
    try declare("q", durable: durable)
    try declare("other", durable: durable)
    if confirming {
      client.send([.confirmSelect(ConfirmSelect())])
      client.commands.removeAll()
    }
    var sent: [(body: String, properties: BasicProperties)] = []
    for number in 0..<40 {
      var builder = BasicPropertiesBuilder()
      if number % 2 == 1 { builder.deliveryMode = number % 3 == 0 ? 2 : 1 }
      if number % 5 == 1 { builder.contentType = "text/plain" }
      if number % 7 == 1 { builder.messageID = "id" }
      if number % 11 == 1 { builder.priority = 3 }
      let body = number % 13 == 1 ? "" : String(repeating: "\(number).", count: 1 + number % 17)
      sent.append((body, builder.build()))
    }
    func bytes(_ numbers: Range<Int>) -> [UInt8] {
      numbers.flatMap { number in
        publication(key: "q", body: Array(sent[number].body.utf8), properties: sent[number].properties)
          + (number % 10 == 9 ? publication(key: "other") : [])
      }
    }
    client.send(bytes(0..<10), piecewise: true)
    client.send(bytes(10..<30))
    client.send(bytes(30..<40), piecewise: true)
    if confirming {
      // All 44, in one or more.
      var confirmed: UInt64 = 0
      while confirmed < 44 {
        for case .basicAck(let fields) in try client.wait() { confirmed = fields.deliveryTag }
      }
    }
    client.send(channel: 2, [.basicConsume(BasicConsume(queue: "q", consumerTag: "t", noAck: true))])
    #expect(
      world.world.run {
        self.client.read(); return self.client.properties.count == 40
      })
    let bodies = client.commands.filter { $0.method.id.description == "basic.deliver" }.map(\.body)
    #expect(bodies == sent.map(\.body))
    #expect(client.properties == sent.map(\.properties))
  }

  @Test("a queue that is deleted and declared again gets what is published to it afterwards")
  func deletedAndDeclaredAgain() throws {
    for durable in [false, true] {
      try declare("again", durable: durable)
      client.send(publication(key: "again") + publication(key: "again"))
      client.send([.queueDelete(QueueDelete(queue: "again"))])
      #expect(names(try client.wait()) == ["queue.delete-ok"])
      client.send(publication(key: "again"))
      try declare("again", durable: durable)
      for body in ["new", "er"] { client.send(publication(key: "again", body: Array(body.utf8))) }
      client.send([.basicGet(BasicGet(queue: "again")), .basicGet(BasicGet(queue: "again"))])
      _ = world.world.run {
        self.client.read(); return self.client.commands.count >= 2
      }
      #expect(client.commands.map(\.body) == ["new", "er"])
      client.commands.removeAll()
      client.send([.queueDelete(QueueDelete(queue: "again"))])
      try client.wait()
    }
  }

  @Test("a message that no queue takes is returned, then confirmed")
  func returned() throws {
    client.send([.confirmSelect(ConfirmSelect())])
    client.commands.removeAll()
    client.send(publication(key: "nowhere", mandatory: true, body: Array("back".utf8)))
    #expect(client.names == ["basic.return", "basic.ack"] && client.commands[0].body == "back")
  }

  @Test("a channel that closes gives its unsettled messages back, in their order")
  func givesBack() throws {
    try declare("q")
    for body in ["a", "b", "c"] { client.send(publication(key: "q", body: Array(body.utf8))) }
    client.send([.basicConsume(BasicConsume(queue: "q", consumerTag: "t"))])
    try client.wait(4)
    client.send([
      .basicAck(BasicAck(deliveryTag: 2)), .channelClose(ChannelClose(replyCode: 200, classID: 0, methodID: 0)),
    ])
    try client.wait()
    client.send(
      channel: 2, [.basicGet(BasicGet(queue: "q")), .basicGet(BasicGet(queue: "q")), .basicGet(BasicGet(queue: "q"))])
    #expect(client.commands.map(\.body) == ["a", "c", ""])
    #expect(client.commands.last?.method == .basicGetEmpty(BasicGetEmpty()))
  }

  @Test("deliveries stop while the client does not read, and go on when it does; acknowledgements are taken meanwhile")
  func slowReader() throws {
    try declare("q")
    client.connection.sendsAtOnce = false
    client.send([.basicConsume(BasicConsume(queue: "q", consumerTag: "t"))])
    let body = [UInt8](repeating: 65, count: 100_000)
    for _ in 0..<100 { client.send(publication(channel: 2, key: "q", body: body)) }
    client.pass(.seconds(1))
    let first = client.names.count { $0 == "basic.deliver" }
    #expect(first >= 10 && first < 40, "\(first)")
    #expect(client.connection.isReading)
    client.send([.basicAck(BasicAck(deliveryTag: 1))])
    client.pass(.seconds(1))
    #expect(client.names.count { $0 == "basic.deliver" } == first)
    for _ in 0..<20 {
      client.connection.drain()
      client.pass(.seconds(1))
    }
    #expect(client.names.count { $0 == "basic.deliver" } == 100)
  }

  @Test("a client that does not read its answers is not read from")
  func unreadAnswers() throws {
    try declare("q")
    let body = [UInt8](repeating: 65, count: 1_000_000)
    for _ in 0..<30 { client.send(publication(key: "q", body: body)) }
    client.pass(.seconds(1))
    client.connection.sendsAtOnce = false
    for _ in 0..<30 { client.send([.basicGet(BasicGet(queue: "q", noAck: true))]) }
    client.pass(.seconds(1))
    #expect(!client.connection.isReading && client.connection.pendingWriteBytes < 20_000_000)
    for _ in 0..<5 {
      client.connection.drain()
      client.pass(.seconds(1))
    }
    #expect(client.names.count { $0 == "basic.get-ok" } == 30 && client.connection.isReading)
  }

  @Test("commands that waited for others do not pile up their answers either")
  func unreadAnswersOfWaitingCommands() throws {
    try declare("q")
    let body = [UInt8](repeating: 65, count: 1_000_000)
    for _ in 0..<30 {
      client.send(publication(key: "q", body: body))
      client.pass(.seconds(1))
    }
    client.connection.sendsAtOnce = false
    // They wait until what was published before is in the queue.
    client.send(publication(key: "q"))
    for _ in 0..<30 { client.send([.basicGet(BasicGet(queue: "q", noAck: true))]) }
    client.pass(.seconds(1))
    #expect(!client.connection.isReading && client.connection.pendingWriteBytes < 20_000_000)
    for _ in 0..<5 {
      client.connection.drain()
      client.pass(.seconds(1))
    }
    #expect(client.names.count { $0 == "basic.get-ok" } == 30 && client.connection.isReading)
  }

  @Test("a body above the limit is refused when it is announced, and its frames are dropped")
  func largeBody() throws {
    let body = [UInt8](repeating: 1, count: (16 << 20) + 1)
    client.send(publication(key: "q", body: body))
    guard case .channelClose(let error)? = client.commands.first?.method else {
      Issue.record("\(client.names)")
      return
    }
    #expect(
      error.replyText == "PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216")
    #expect(client.commands.count == 1 && client.connection.unreadBytes == 0)
  }

  @Test("unfinished messages that keep the memory others wait for end their connection")
  func unfinishedMessages() throws {
    let world = try AMQPServerWorld(["queued.max.request.bytes": "1048576"])
    let hog = try world.open()
    let other = try world.open()
    let whole = publication(key: "q", body: [UInt8](repeating: 1, count: 2_000_000))
    hog.send(Array(whole.dropLast(10)))
    #expect(world.server.requests.isSpent && !hog.connection.isReading)
    other.send(publication(key: "q", body: [1]) + frames([.channelFlow(ChannelFlow(active: true))]))
    #expect(other.names == ["channel.flow-ok"])
    hog.pass(.seconds(15))
    guard case .connectionClose(let error)? = hog.commands.first?.method else {
      Issue.record("\(hog.names)")
      return
    }
    #expect(error.replyCode == 506 && !world.server.requests.isSpent)
    hog.connection.lose()
    #expect(world.server.requests.held == 0)
  }

  @Test("all memory is given back however a connection ends")
  func memoryIsGivenBack() throws {
    let large = publication(channel: 2, key: "q", body: [UInt8](repeating: 1, count: 200_000))
    client.send(
      frames([.txSelect(TxSelect())]) + publication(key: "q", body: [UInt8](repeating: 1, count: 1000))
        + frames([.queueDeclare(QueueDeclare(queue: "d", durable: true))]) + publication(key: "d")
        + large.dropLast(10))
    #expect(world.server.requests.held > 200_000)
    client.connection.lose()
    #expect(world.world.run { self.world.server.requests.held == 0 } && world.server.answers.held == 0)
  }

  @Test("a prefetch that changes counts for the consumers that are there, per consumer and for the channel")
  func livePrefetch() throws {
    try declare("q")
    for _ in 0..<10 { client.send(publication(channel: 2, key: "q")) }
    client.send([.basicQos(BasicQos(prefetchCount: 2)), .basicConsume(BasicConsume(queue: "q", consumerTag: "t"))])
    client.pass(.seconds(1))
    func delivered() -> Int { client.names.count { $0 == "basic.deliver" } }
    #expect(delivered() == 2)
    client.send([.basicQos(BasicQos(prefetchCount: 3))])
    client.pass(.seconds(1))
    #expect(delivered() == 3)
    client.send([.basicQos(BasicQos(prefetchCount: 4, global: true)), .basicQos(BasicQos(prefetchCount: 0))])
    client.pass(.seconds(1))
    #expect(delivered() == 4)
    client.send([.basicQos(BasicQos(prefetchCount: 6, global: true))])
    client.pass(.seconds(1))
    #expect(delivered() == 6)
    client.send([.basicAck(BasicAck(deliveryTag: 0, multiple: true))])
    client.pass(.seconds(1))
    #expect(delivered() == 10)
  }

  @Test("a transaction that would not fit into one commit is refused, and its memory given back")
  func largeTransaction() throws {
    client.send([.txSelect(TxSelect())])
    client.commands.removeAll()
    let body = [UInt8](repeating: 1, count: 4 << 20)
    for _ in 0..<(world.broker.largestUnit >> 22) + 1 { client.send(publication(key: "q", body: body)) }
    guard case .channelClose(let error)? = client.commands.first?.method else {
      Issue.record("\(client.names)")
      return
    }
    #expect(error.replyCode == 406 && world.server.requests.held == 0)
  }

  @Test("where a stream is read from: words, numbers, times and ages")
  func ages() {
    #expect(AMQPChannel.seconds("7D") == 604_800 && AMQPChannel.seconds("1Y") == 31_536_000)
    #expect(AMQPChannel.seconds("2M") == 5_184_000 && AMQPChannel.seconds("3h") == 10_800)
    #expect(AMQPChannel.seconds("4m") == 240 && AMQPChannel.seconds("0s") == 0)
    for wrong in ["", "D", "7", "7d", "-7D", "7DD", "99999999999D"] {
      #expect(AMQPChannel.seconds(wrong) == nil, "\(wrong)")
    }
  }

  @Test("a reply reaches the channel that waits for it, with the address it was asked to use")
  func directReplies() throws {
    try declare("work")
    client.send([.basicConsume(BasicConsume(queue: ReplyConsumer.queue, consumerTag: "r", noAck: true))])
    client.commands.removeAll()
    client.send(publication(key: "work", properties: .build { $0.replyTo = "amq.rabbitmq.reply-to" }))
    client.send(channel: 2, [.basicGet(BasicGet(queue: "work", noAck: true))])
    try client.wait()
    let address = try #require(world.server.replies.keys.first)
    #expect(ReplyConsumer.isAddress(address) && !ReplyConsumer.isAddress("amq.rabbitmq.reply-to"))
    client.send(publication(channel: 2, key: address, body: Array("answer".utf8)))
    #expect(client.commands.map(\.channel) == [1] && client.commands.first?.body == "answer")
    client.send([.basicCancel(BasicCancel(consumerTag: "r"))])
    client.commands.removeAll()
    client.send(publication(channel: 2, key: address, mandatory: true))
    #expect(client.names == ["basic.return"] && world.server.replies.isEmpty)
  }
}
