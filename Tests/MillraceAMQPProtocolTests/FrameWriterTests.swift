// FrameWriterTests: what is written, read back by the reader: contents at every frame size, acknowledgements, splices.

import MillraceAMQPProtocol
import MillraceBase
import Testing

/// All that is in the pieces, frame by frame, each within the limit.
private func frames(_ pieces: [Bytes], frameMax: Int = 0) throws -> [AMQPFrame] {
  let all = Bytes(pieces.flatMap(\.array))
  var frames: [AMQPFrame] = []
  var position = 0
  while position < all.count {
    guard case .frame(let frame, let end) = try AMQPFrame.read(all, at: position, frameMax: 0) else {
      Issue.record("a frame is cut off at \(position) of \(all.count)")
      return frames
    }
    if frameMax > 0 { #expect(end - position <= frameMax) }
    frames.append(frame)
    position = end
  }
  return frames
}

private let properties = BasicProperties.build {
  $0.deliveryMode = 2
  $0.messageID = "m-1"
}

private func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) } }

@Test("a delivery is a method, a header and body frames that fit, for every body size, frame size and cut into pieces")
func everyDelivery() throws {
  for frameMax in [0, 9, 10, 64, 4096] {
    let sizes = [0, 1, 2, 3, 55, 56, 57, 112, 4087, 4088, 4089, 9000]
    for size in sizes where frameMax == 0 || size / (frameMax - 8) < 600 {
      for cut in Set([0, size / 3, size]) {
        let whole = pattern(size)
        let body = ContentBody([Bytes(Array(whole[..<cut])), Bytes(), Bytes(Array(whole[cut...]))])
        var out = FrameWriter(frameMax: frameMax)
        out.deliver(
          channel: 5, consumerTag: "ctag1.x", deliveryTag: 1 << 40, redelivered: true, exchange: "e", routingKey: "a.b",
          properties: properties, body: body)
        #expect(out.count > size)
        let found = try frames(out.take())
        #expect(out.count == 0)
        try #require(found.count >= 2 && found.allSatisfy { $0.channel == 5 })
        let fields = BasicDeliver(
          consumerTag: "ctag1.x", deliveryTag: 1 << 40, redelivered: true, exchange: "e", routingKey: "a.b")
        #expect(try AMQPMethod.decode(found[0].payload) == .basicDeliver(fields))
        let header = try ContentHeader(decoding: found[1].payload)
        #expect(found[1].kind == .header && header == ContentHeader(bodySize: UInt64(size), properties: properties))
        let bodies = found.dropFirst(2)
        #expect(bodies.allSatisfy { $0.kind == .body && !$0.payload.isEmpty })
        #expect(bodies.flatMap(\.payload.array) == whole)
        let largest = frameMax == 0 ? Int.max : frameMax - 8
        #expect(bodies.dropLast().allSatisfy { $0.payload.count == largest })
        #expect(bodies.allSatisfy { $0.payload.count <= largest })
      }
    }
  }
}

@Test("get-ok, return and publish have the same content frames behind their own fields")
func otherContents() throws {
  var out = FrameWriter(frameMax: 4096)
  let body = ContentBody(Bytes("body"))
  out.getOk(
    channel: 1, deliveryTag: 9, redelivered: false, exchange: "", routingKey: "q", messageCount: 77,
    properties: properties, body: body)
  out.return(channel: 2, exchange: "e", routingKey: "k", properties: properties, body: body)
  out.return(
    channel: 2, code: .noConsumers, exchange: "", routingKey: "", properties: BasicProperties(), body: ContentBody())
  out.publish(channel: 3, exchange: "e", routingKey: "k", mandatory: true, properties: properties, body: body)
  let found = try frames(out.take())
  try #require(found.count == 11)
  #expect(
    try AMQPMethod.decode(found[0].payload)
      == .basicGetOk(BasicGetOk(deliveryTag: 9, redelivered: false, exchange: "", routingKey: "q", messageCount: 77)))
  #expect(
    try AMQPMethod.decode(found[3].payload)
      == .basicReturn(BasicReturn(replyCode: 312, replyText: "NO_ROUTE", exchange: "e", routingKey: "k")))
  #expect(
    try AMQPMethod.decode(found[6].payload)
      == .basicReturn(BasicReturn(replyCode: 313, replyText: "NO_CONSUMERS", exchange: "", routingKey: "")))
  #expect(found[7].kind == .header && found[8].kind == .method, "an empty body has no frame")
  #expect(
    try AMQPMethod.decode(found[8].payload)
      == .basicPublish(BasicPublish(exchange: "e", routingKey: "k", mandatory: true)))
  #expect(found[10].payload.text == "body")
}

@Test("acknowledgements written in one go are those that the methods write")
func acknowledgements() {
  for multiple in [false, true] {
    var fast = FrameWriter()
    var plain = FrameWriter()
    fast.ack(channel: 700, deliveryTag: .max, multiple: multiple)
    plain.write(BasicAck(deliveryTag: .max, multiple: multiple), channel: 700)
    fast.nack(channel: 1, deliveryTag: 3, multiple: multiple)
    plain.write(BasicNack(deliveryTag: 3, multiple: multiple, requeue: false), channel: 1)
    fast.nack(channel: 1, deliveryTag: 3, multiple: multiple, requeue: true)
    plain.write(.basicNack(BasicNack(deliveryTag: 3, multiple: multiple, requeue: true)), channel: 1)
    #expect(fast.take().map(\.array) == plain.take().map(\.array))
  }
  var out = FrameWriter()
  out.heartbeat()
  #expect(out.take().map(\.array) == [[8, 0, 0, 0, 0, 0, 0, 0xCE]])
}

@Test("a body of 8 KiB or more is spliced in, and methods behind it get their size")
func splices() throws {
  let large = Bytes(pattern(20_000))
  var out = FrameWriter(frameMax: 0)
  out.write(ChannelOpenOk(), channel: 1)
  out.deliver(
    channel: 1, consumerTag: "c", deliveryTag: 1, redelivered: false, exchange: "e", routingKey: "k",
    properties: BasicProperties(), body: ContentBody(large))
  out.write(QueueDeclareOk(queue: "q", messageCount: 1, consumerCount: 2), channel: 1)
  out.ack(channel: 1, deliveryTag: 1, multiple: false)
  let pieces = out.take()
  #expect(pieces.contains { $0.start == large.start && $0.count == 20_000 })
  let found = try frames(pieces)
  try #require(found.count == 6)
  #expect(found[3].payload == large)
  #expect(
    try AMQPMethod.decode(found[4].payload)
      == .queueDeclareOk(QueueDeclareOk(queue: "q", messageCount: 1, consumerCount: 2)))
  // Cut to frames, large parts are still not copied.
  var cut = FrameWriter(frameMax: 10_008)
  cut.publish(channel: 1, exchange: "", routingKey: "", body: ContentBody(large))
  let parts = cut.take()
  #expect(parts.contains { $0.start == large.start + 10_000 && $0.count == 10_000 })
  #expect(try frames(parts, frameMax: 10_008).count == 4)
}

@Test("what was taken stays as it was while writing goes on in the same memory")
func takingTurns() throws {
  var out = FrameWriter(frameMax: 4096, capacity: 256)
  var taken: [Bytes] = []
  for tag in 1...100 {
    out.ack(channel: 1, deliveryTag: UInt64(tag), multiple: false)
    if tag % 3 == 0 { out.write(BasicConsumeOk(consumerTag: "c\(tag)"), channel: 2) }
    if tag % 2 == 0 { taken += out.take() }
  }
  let found = try frames(taken + out.take())
  let tags = try found.filter { $0.channel == 1 }.map { try AMQPMethod.decode($0.payload) }
  #expect(tags == (1...100).map { .basicAck(BasicAck(deliveryTag: $0, multiple: false)) })
  #expect(found.count == 133)
}

@Test("names as text are written as short strings are; beyond 255 bytes they are cut off")
func textNames() throws {
  let body = ContentBody(Bytes("body"))
  for length in [0, 1, 15, 16, 255, 300] {
    let name = String(repeating: "n", count: length)
    let short = try #require(ShortString(String(name.prefix(255))))
    var text = FrameWriter(frameMax: 4096)
    var bytes = FrameWriter(frameMax: 4096)
    text.deliver(
      channel: 1, consumerTag: "t", deliveryTag: 1, redelivered: false, exchange: name, routingKey: name,
      properties: properties, body: body)
    bytes.deliver(
      channel: 1, consumerTag: "t", deliveryTag: 1, redelivered: false, exchange: short, routingKey: short,
      properties: properties, body: body)
    #expect(text.take().flatMap(\.array) == bytes.take().flatMap(\.array), "\(length)")
    text.getOk(
      channel: 1, deliveryTag: 1, redelivered: true, exchange: name, routingKey: name, messageCount: 5,
      properties: properties, body: body)
    #expect(
      try AMQPMethod.decode(try frames(text.take())[0].payload)
        == .basicGetOk(
          BasicGetOk(deliveryTag: 1, redelivered: true, exchange: short, routingKey: short, messageCount: 5)),
      "\(length)")
  }
}
