// FrameWriter+Content: the methods that a content follows, with their content.

import MillraceBase

extension FrameWriter {
  /// `basic.deliver` with its content: a message for a consumer.
  /// - Parameter consumerTag: made once for the consumer, as the other names for theirs.
  /// - Complexity: O(bytes); allocates nothing while there is room, and copies no body from 8 KiB on.
  public mutating func deliver(
    channel: UInt16, consumerTag: ShortString, deliveryTag: UInt64, redelivered: Bool, exchange: ShortString,
    routingKey: ShortString, properties: BasicProperties, body: ContentBody
  ) {
    let size = 4 + 1 + consumerTag.count + 8 + 1 + 1 + exchange.count + 1 + routingKey.count
    content(channel: channel, size: size, properties: properties, body: body) { raw in
      raw.uint32(60 << 16 | 60)
      raw.shortString(consumerTag)
      raw.uint64(deliveryTag)
      raw.uint8(redelivered ? 1 : 0)
      raw.shortString(exchange)
      raw.shortString(routingKey)
    }
  }

  /// `basic.deliver` with its content; of names as text, what exceeds 255 bytes is cut off.
  /// - Complexity: O(bytes); allocates nothing while there is room, and copies no body from 8 KiB on.
  public mutating func deliver(
    channel: UInt16, consumerTag: ShortString, deliveryTag: UInt64, redelivered: Bool, exchange: String,
    routingKey: String, properties: BasicProperties, body: ContentBody
  ) {
    let names = min(exchange.utf8.count, ShortString.limit) + min(routingKey.utf8.count, ShortString.limit)
    let size = 4 + 1 + consumerTag.count + 8 + 1 + 2 + names
    content(channel: channel, size: size, properties: properties, body: body) { raw in
      raw.uint32(60 << 16 | 60)
      raw.shortString(consumerTag)
      raw.uint64(deliveryTag)
      raw.uint8(redelivered ? 1 : 0)
      raw.shortText(exchange)
      raw.shortText(routingKey)
    }
  }

  /// `basic.get-ok` with its content, the message that was asked for; of names as text, what exceeds 255 bytes is cut off.
  /// - Parameter messageCount: messages left in the queue.
  public mutating func getOk(
    channel: UInt16, deliveryTag: UInt64, redelivered: Bool, exchange: String, routingKey: String,
    messageCount: UInt32, properties: BasicProperties, body: ContentBody
  ) {
    let names = min(exchange.utf8.count, ShortString.limit) + min(routingKey.utf8.count, ShortString.limit)
    content(channel: channel, size: 4 + 8 + 1 + 2 + names + 4, properties: properties, body: body) { raw in
      raw.uint32(60 << 16 | 71)
      raw.uint64(deliveryTag)
      raw.uint8(redelivered ? 1 : 0)
      raw.shortText(exchange)
      raw.shortText(routingKey)
      raw.uint32(messageCount)
    }
  }

  /// `basic.return` with its content: a mandatory message that no queue takes. RabbitMQ's text is the code's name.
  public mutating func `return`(
    channel: UInt16, code: ReplyCode = .noRoute, exchange: ShortString, routingKey: ShortString,
    properties: BasicProperties, body: ContentBody
  ) {
    let text = ShortString(checked: Bytes(code.name))
    let size = 4 + 2 + 1 + text.count + 1 + exchange.count + 1 + routingKey.count
    content(channel: channel, size: size, properties: properties, body: body) { raw in
      raw.uint32(60 << 16 | 50)
      raw.uint16(code.rawValue)
      raw.shortString(text)
      raw.shortString(exchange)
      raw.shortString(routingKey)
    }
  }

  /// `basic.publish` with its content, as clients send it.
  public mutating func publish(
    channel: UInt16, exchange: ShortString, routingKey: ShortString, mandatory: Bool = false, immediate: Bool = false,
    properties: BasicProperties = BasicProperties(), body: ContentBody
  ) {
    let size = 4 + 2 + 1 + exchange.count + 1 + routingKey.count + 1
    content(channel: channel, size: size, properties: properties, body: body) { raw in
      raw.uint32(60 << 16 | 40)
      raw.uint16(0)
      raw.shortString(exchange)
      raw.shortString(routingKey)
      raw.uint8((mandatory ? 1 : 0) | (immediate ? 2 : 0))
    }
  }
}
