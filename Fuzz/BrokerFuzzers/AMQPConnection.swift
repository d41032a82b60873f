// AMQPConnection: what a client sends to the real AMQP server of a running broker: bytes, or commands that make some sense.

import FuzzHarness
import MillraceAMQPProtocol
import MillraceAMQPServer
import MillraceBase
import MillraceBroker
import MillraceSimulation

let amqpConnection = FuzzTarget(
  name: "amqp-connection", allowance: 12 << 20, limit: .milliseconds(400),
  seeds: {
    [[0] + ProtocolHeader.bytes.array, [1, 4, 0, 3, 0, 12, 0, 1, 9, 1]]
      + (0..<24).map { [3] + [UInt8](repeating: $0, count: 40) }
  }
) { input in
  let machine: Machine
  do throws(BrokerError) {
    machine = try Machine()
  } catch {
    preconditionFailure("the broker does not start: \(error)")
  }
  defer { machine.end() }
  let client = machine.connectByAMQP()
  var choices = Choices(input)
  let mode = choices.byte()
  if mode % 2 == 0 {
    if mode % 4 == 0 { client.write(handshake()) }
    while !choices.isEmpty, !client.isClosed {
      client.write(choices.bytes(1 + choices.number(below: 600)))
      if mode % 8 < 4 { machine.world.run(for: .milliseconds(3)) }
    }
  } else {
    client.write(handshake())
    var commands = 0
    while !choices.isEmpty, commands < 100, !client.isClosed {
      client.write(command(&choices))
      commands += 1
      if mode % 4 == 1 { machine.world.run(for: .milliseconds(3)) }
    }
  }
  machine.world.run(for: .milliseconds(60))
  checkOutput(Bytes(client.received))
  client.close()
  machine.world.run(for: .milliseconds(60))
  precondition(machine.amqp.connectionCount == 0, "a connection whose client has gone stays")
  precondition(machine.amqp.heldBytes == 0, "\(machine.amqp.heldBytes) bytes of nobody are held")
}

private func handshake() -> Bytes {
  var writer = FrameWriter(frameMax: 8192)
  writer.write(
    ConnectionStartOk(
      clientProperties: ["capabilities": ["consumer_cancel_notify": true]], response: Bytes("\0guest\0guest")),
    channel: 0)
  writer.write(ConnectionTuneOk(channelMax: 10, frameMax: 8192, heartbeat: 0), channel: 0)
  writer.write(ConnectionOpen(), channel: 0)
  writer.write(ChannelOpen(), channel: 1)
  return Bytes(ProtocolHeader.bytes.array + writer.take().flatMap(\.array))
}

/// One command, with names and numbers of few kinds, so that commands meet.
private func command(_ choices: inout Choices) -> Bytes {
  var writer = FrameWriter(frameMax: 8192)
  let channel = UInt16([1, 1, 1, 2, 3, 0][choices.number(below: 6)])
  let queue = ["a", "b", "c", "", "amq.rabbitmq.reply-to"][choices.number(below: 5)]
  let exchange = ["", "amq.direct", "amq.topic", "amq.headers", "x", "y"][choices.number(below: 6)]
  let bits = choices.byte()
  func bit(_ number: Int) -> Bool { bits >> number & 1 != 0 }
  let tag = UInt64(choices.byte() % 8)
  let arguments = arguments(&choices)
  switch choices.number(below: 28) {
  case 0...4:
    let properties = BasicProperties.build {
      $0.deliveryMode = bit(1) ? 2 : 1
      $0.priority = bit(2) ? UInt8(tag) : nil
      $0.expiration = bit(3) ? ShortString("\(tag)") : nil
      $0.replyTo = bit(4) ? "amq.rabbitmq.reply-to" : nil
      $0.encodedHeaders = bit(5) ? arguments.encoded : nil
    }
    let body = choices.bytes(choices.number(below: 300))
    writer.publish(
      channel: channel, exchange: ShortString(exchange) ?? "", routingKey: ShortString(queue) ?? "", mandatory: bit(0),
      immediate: bits == 255, properties: properties, body: ContentBody(body))
  case 5: writer.write(ChannelOpen(), channel: channel)
  case 6:
    writer.write(
      QueueDeclare(
        queue: queue, passive: bit(0), durable: bit(1), exclusive: bit(2), autoDelete: bit(3), noWait: bit(4),
        arguments: arguments), channel: channel)
  case 7: writer.write(QueueDelete(queue: queue, ifUnused: bit(0), ifEmpty: bit(1), noWait: bit(2)), channel: channel)
  case 8: writer.write(QueuePurge(queue: queue, noWait: bit(0)), channel: channel)
  case 9:
    writer.write(QueueBind(queue: queue, exchange: exchange, routingKey: "a", arguments: arguments), channel: channel)
  case 10:
    writer.write(QueueUnbind(queue: queue, exchange: exchange, routingKey: "a", arguments: arguments), channel: channel)
  case 11:
    writer.write(
      ExchangeDeclare(
        exchange: exchange, type: ["direct", "fanout", "topic", "headers", "x-delayed-message", "?"][Int(tag) % 6],
        passive: bit(0), durable: bit(1), autoDelete: bit(2), internal: bit(3), noWait: bit(4), arguments: arguments),
      channel: channel)
  case 12: writer.write(ExchangeDelete(exchange: exchange, ifUnused: bit(0)), channel: channel)
  case 13: writer.write(ExchangeBind(destination: exchange, source: "x", routingKey: "a"), channel: channel)
  case 14: writer.write(ExchangeUnbind(destination: exchange, source: "x", routingKey: "a"), channel: channel)
  case 15, 16:
    writer.write(
      BasicConsume(
        queue: queue, consumerTag: bit(0) ? "t\(tag)" : "", noAck: bit(1), exclusive: bit(2), noWait: bit(3),
        arguments: arguments), channel: channel)
  case 17: writer.write(BasicCancel(consumerTag: "t\(tag)", noWait: bit(0)), channel: channel)
  case 18, 19: writer.write(BasicAck(deliveryTag: tag, multiple: bit(0)), channel: channel)
  case 20: writer.write(BasicNack(deliveryTag: tag, multiple: bit(0), requeue: bit(1)), channel: channel)
  case 21: writer.write(BasicReject(deliveryTag: tag, requeue: bit(0)), channel: channel)
  case 22: writer.write(BasicGet(queue: queue, noAck: bit(0)), channel: channel)
  case 23: writer.write(BasicQos(prefetchCount: UInt16(tag), global: bit(0)), channel: channel)
  case 24: writer.write(BasicRecover(requeue: bit(0)), channel: channel)
  case 25: bit(0) ? writer.write(ConfirmSelect(), channel: channel) : writer.write(TxSelect(), channel: channel)
  case 26: bit(0) ? writer.write(TxCommit(), channel: channel) : writer.write(TxRollback(), channel: channel)
  default: writer.write(ChannelClose(replyCode: 200, classID: 0, methodID: 0), channel: channel)
  }
  return Bytes(writer.take().flatMap(\.array))
}

private func arguments(_ choices: inout Choices) -> AMQPFieldTable {
  let names = [
    "x-message-ttl", "x-max-length", "x-max-priority", "x-dead-letter-exchange", "x-dead-letter-routing-key",
    "x-overflow",
    "x-queue-type", "x-priority", "CC", "BCC", "x-delay", "x-death", "x-delayed-type", "x-match", "x-expires",
  ]
  let values: [AMQPValue] = [
    0, 1, 3, -1, 100, "", "a", "x", "quorum", "stream", "reject-publish", "direct", "any", ["a", "b", 1], ["k": "v"],
    true, .void,
  ]
  return AMQPFieldTable(
    (0..<choices.number(below: 4)).map { _ in
      (names[choices.number(below: names.count)], values[choices.number(below: values.count)])
    })
}

/// What the server writes can be read, frame by frame and content by content.
private func checkOutput(_ received: Bytes) {
  if received.count >= 8, received[0..<8] == ProtocolHeader.bytes { return }
  var channels: [UInt16: CommandAssembler] = [:]
  var position = 0
  do throws(AMQPError) {
    while case .frame(let frame, let end) = try AMQPFrame.read(received, at: position, frameMax: 0) {
      position = end
      if frame.kind == .heartbeat { continue }
      var assembler = channels[frame.channel] ?? CommandAssembler(largestBody: .max)
      channels[frame.channel] = nil
      _ = try assembler.receive(frame)
      if assembler.isInsideContent { channels[frame.channel] = assembler }
    }
  } catch {
    preconditionFailure("what the server wrote cannot be read at \(position): \(error)")
  }
}
