// LifetimeTests: what belongs to a connection goes with it, and what belongs to a server with that.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import Testing

@testable import MillraceAMQPServer

/// Lets a client use all that a channel can hold.
private func use(_ client: AMQPClient) throws {
  client.send(
    frames([
      .queueDeclare(QueueDeclare(queue: "d", durable: true)), .queueDeclare(QueueDeclare(queue: "x", exclusive: true)),
      .confirmSelect(ConfirmSelect()), .basicConsume(BasicConsume(queue: "d", consumerTag: "t")),
      .basicConsume(BasicConsume(queue: ReplyConsumer.queue, consumerTag: "r", noAck: true)),
    ]))
  try client.wait(5)
  client.send(publication(key: "d") + publication(key: "x"))
  client.send([.basicGet(BasicGet(queue: "x")), .basicCancel(BasicCancel(consumerTag: "t"))])
  client.pass(.seconds(1))
  client.send(publication(key: "d") + publication(key: "x"))
}

@Test("a connection, its channels and its consumers go when the client has gone, however that was", arguments: 0..<4)
func connectionsGo(way: Int) throws {
  let world = try AMQPServerWorld()
  weak var connection: AMQPConnection?
  weak var channel: AMQPChannel?
  weak var owner: QueueOwner?
  do {
    let client = try world.open(heartbeat: 60)
    connection = client.connection.handler as? AMQPConnection
    try use(client)
    channel = connection?.channels[1]
    owner = connection?.owner
    #expect(channel != nil && owner != nil)
    switch way {
    case 0: client.send(channel: 0, [.connectionClose(ConnectionClose(replyCode: 200, classID: 0, methodID: 0))])
    case 1: client.connection.end()
    case 2: client.send([.basicAck(BasicAck(deliveryTag: 99)), .channelCloseOk(ChannelCloseOk())])
    default: break
    }
    client.pass(.seconds(1))
    client.connection.lose()
    client.pass(.seconds(100))
  }
  #expect(connection == nil && channel == nil && owner == nil)
}

@Test("a broker and its server go with the program, also in the middle of work")
func serversGo() throws {
  weak var broker: Broker?
  weak var server: AMQPServer?
  weak var connection: AMQPConnection?
  do {
    let world = try AMQPServerWorld()
    let client = try world.open()
    try use(client)
    broker = world.broker
    server = world.server
    connection = client.connection.handler as? AMQPConnection
    client.connection.lose()
    client.pass(.seconds(1))
  }
  #expect(connection == nil && server == nil && broker == nil)
}
